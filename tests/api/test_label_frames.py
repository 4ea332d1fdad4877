"""Labels from a DataFrame: the same run as from a file, and what is wrong with a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import aimonk_bench as ab
from aimonk_bench import cli
from aimonk_bench.api import work
from aimonk_bench.config import loader
from aimonk_bench.data import label_file
from aimonk_bench.suite import runner
from aimonk_bench.tables import TABLES

NAMES = ["image", "NA", "null", "attr3", "attr4"]


@pytest.fixture
def config(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(workplace)
    content: dict[str, Any] = yaml.safe_load((workplace / "small.yaml").read_text())
    return {**content, "name": "framed"}


@pytest.fixture
def frame(workplace: Path) -> pd.DataFrame:
    """The labels of the synthetic images, of another type in each column; NA and null are attributes."""
    path = workplace / "synthetic" / "labels.txt"
    tokens = pd.read_csv(path, sep=r"\s+", header=None, names=NAMES, dtype=str, keep_default_na=False)
    states = tokens[NAMES[1:]].replace({"NA": None}).astype(float)
    return pd.DataFrame(
        {
            "image": tokens["image"],
            "NA": states["NA"],
            "null": states["null"].astype("Int8"),
            "attr3": states["attr3"].astype("boolean"),
            "attr4": states["attr4"].map({1.0: True, 0.0: False}).astype(object).where(states["attr4"].notna(), None),
        }
    )


def read(frame: pd.DataFrame, folder: Path, **data: Any) -> label_file.LabelFile:
    """What a run would see of a frame."""
    labels = ab.labels(frame, images="synthetic/images", **data)
    (folder / "labels.csv").write_text(labels.text)
    loaded = loader.load({"data": labels.section(folder / "labels.csv")}, TABLES)
    return label_file.load(loaded.data)


def test_a_run_has_the_id_and_the_results_of_the_same_labels_in_a_file(config, frame, tmp_path: Path) -> None:
    data = {"data": ab.labels(frame, images="synthetic/images")}
    made = ab.run(config | data, out=tmp_path / "frame")
    options = "data={labels: synthetic/labels.txt, images: synthetic/images, attributes: ['NA', 'null', attr3, attr4]}"
    words = ["run", "small.yaml", "--set", options, "--set", "data.truth=null", "--out", str(tmp_path / "file")]
    assert cli.main([*words, "--quiet"]) == 0
    assert made.id == ab.Run(tmp_path / "file").id
    assert (made.folder / "predictions.npz").read_bytes() == (tmp_path / "file" / "predictions.npz").read_bytes()
    written = tmp_path / "frame" / "labels.csv"
    assert made.config.data.labels == written
    assert made.summary["attribute"].tolist() == [*NAMES[1:], "macro"]
    again = ab.run(config, data, out=tmp_path / "frame")
    assert again.id == made.id
    assert cli.main(["run", str(made.folder / "config.yaml"), "--out", str(made.folder), "--quiet"]) == 0
    assert cli.main(["run", str(made.folder / "config.yaml"), "--out", str(tmp_path / "copy"), "--quiet"]) == 0
    frame.loc[0, "NA"] = 1 - np.nan_to_num(frame.loc[0, "NA"])
    with pytest.raises(ab.UserError, match=r"labels\.csv: found other labels than those of the DataFrame.*out="):
        ab.run(config | {"data": ab.labels(frame, images="synthetic/images")}, out=tmp_path / "frame")


def test_a_suite_an_audit_and_a_validation_take_a_frame(config, frame, tmp_path: Path, monkeypatch) -> None:
    data = {"data": ab.labels(frame, images="synthetic/images")}
    suite = {"suite": {"baseline": {"loss": "hill"}, "axes": {"loss": ["hill", "focal"]}}}
    assert "80 listed images, attributes NA, null, attr3, attr4" in work.validate(config | suite | data)
    assert ab.audit(config, data).record.attributes == tuple(NAMES[1:])
    monkeypatch.setattr(runner, "encode", lambda *arguments: (_ for _ in ()).throw(ab.UserError("stop here")))
    out = tmp_path / "suite"
    with pytest.raises(ab.UserError, match="stop here"):
        ab.suite(config | suite | data, out=out)
    assert not out.exists()
    monkeypatch.setattr(runner, "execute_suite", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ab.suite(config | suite | data, out=out / "deeper" / "still")
    assert not out.exists()


def test_every_type_of_a_column_means_the_same_labels(config, frame, workplace: Path, tmp_path: Path) -> None:
    listed = read(frame, tmp_path)
    plain = loader.load("small.yaml", TABLES)
    expected = label_file.load(plain.data)
    assert listed.ids == expected.ids
    assert listed.labels.attributes == tuple(NAMES[1:])
    np.testing.assert_array_equal(listed.labels.observed, expected.labels.observed)
    np.testing.assert_array_equal(listed.labels.targets, expected.labels.targets)
    shuffled = frame.sample(frac=1, random_state=0)
    assert read(shuffled, tmp_path).ids == tuple(shuffled["image"])
    paths = frame.assign(image=frame["image"].map(Path), attr3=frame["attr3"].astype("category"))
    assert read(paths, tmp_path).ids == expected.ids


def test_further_keys_say_how_the_frame_is_to_be_read(config, frame, tmp_path: Path) -> None:
    words = frame.assign(NA=frame["NA"].map({1.0: "yes", 0.0: "no"}), patient=[f"p{n // 2}" for n in range(80)])
    words = words[["patient", "NA", "image"]]
    values = {"positive": ["yes"], "negative": ["no"], "missing": ["?"]}
    listed = read(words, tmp_path, id="image", group="patient", values=values)
    assert listed.labels.attributes == ("NA",)
    assert listed.groups is not None
    assert listed.groups[:4] == ("p0", "p0", "p1", "p1")
    assert listed.labels.observed[:, 0].tolist() == words["NA"].notna().tolist()
    assert set(pd.read_csv(tmp_path / "labels.csv", keep_default_na=False)["NA"]) == {"yes", "no", "?"}


@pytest.mark.parametrize(
    ("change", "data", "message"),
    [
        (lambda frame: frame.set_index("image"), {}, "labels: found an index that is more than numbers"),
        (lambda frame: frame.set_axis([0, 1, 2, 3, 3], axis=1), {}, "labels: found the column '3' more than once"),
        (lambda frame: frame[["image"]], {}, "labels: found 80 rows and 1 columns, expected rows of a name and"),
        (lambda frame: frame.iloc[:0], {}, "labels: found 0 rows and 5 columns"),
        (lambda frame: frame, {"id": "file"}, "labels: id: found 'file', expected a column: image, NA, null"),
        (lambda frame: frame, {"separator": ";"}, "labels: found the key separator, which the DataFrame decides"),
        (
            lambda frame: frame.assign(image=frame["image"].where(frame.index != 3)),
            {},
            "labels: found no name of an image in 'image' of frame.iloc[i], i = 3",
        ),
    ],
)
def test_a_frame_that_cannot_be_labels_is_refused(frame, change, data, message) -> None:
    with pytest.raises(ab.UserError) as caught:
        ab.labels(change(frame), images="synthetic/images", **data)
    assert caught.value.problems[0].startswith(message)


def test_a_wrong_value_is_named_by_its_row_and_nothing_stays(config, frame, tmp_path: Path) -> None:
    frame["attr3"] = frame["attr3"].astype(object)
    frame.loc[5, "attr3"] = "maybe"
    for name, made in (("new", False), ("empty", True)):
        out = tmp_path / name
        if made:
            out.mkdir()
        with pytest.raises(ab.UserError) as caught:
            ab.run(config | {"data": ab.labels(frame, images="synthetic/images")}, out=out)
        note, problem, *_ = caught.value.problems
        assert note == f"{out / 'labels.csv'}: what the DataFrame was written as; its line n is frame.iloc[n - 2]"
        assert problem.startswith(f"{out / 'labels.csv'}:7: ")
        assert "maybe" in problem
        assert out.exists() == made
        assert not made or list(out.iterdir()) == []


def test_a_folder_of_something_else_is_left_as_it_is(config, frame, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ab.UserError, match=r"holds notes\.txt but no run"):
        ab.run(config | {"data": ab.labels(frame, images="synthetic/images")}, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_labels_of_the_user_are_never_replaced(config, frame, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,mine\n")
    with pytest.raises(ab.UserError, match=r"labels\.csv: found other labels"):
        ab.run(config | {"data": ab.labels(frame, images="synthetic/images")}, out=tmp_path)
    assert (tmp_path / "labels.csv").read_text() == "image,mine\n"
