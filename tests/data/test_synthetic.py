"""The data sets that the program writes itself: the synthetic one and ELPV."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest

from aimonk_bench import cli
from aimonk_bench.config.fields import Mechanism
from aimonk_bench.data import elpv, prepared, synthetic
from aimonk_bench.errors import UserError

SMALL: dict[str, Any] = {"images": 30, "size": 32}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tokens(folder: Path) -> np.ndarray:
    return np.array([line.split()[1:] for line in (folder / "labels.txt").read_text("utf-8").splitlines()])


def truth(folder: Path) -> np.ndarray:
    with open(folder / "truth.csv", encoding="utf-8", newline="") as file:
        return np.array(list(csv.reader(file)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "deeper" / "synthetic"
    synthetic.write(out, **SMALL)
    return out


def test_the_label_file_is_in_the_reference_format(made: Path) -> None:
    lines = (made / "labels.txt").read_text("utf-8").splitlines()
    assert [line.split()[0] for line in lines] == [f"image_{number}.jpg" for number in range(30)]
    assert {len(line.split()) for line in lines} == {5}
    assert set(tokens(made).ravel()) == {"0", "1", "NA"}
    assert {path.name for path in made.iterdir()} == {"labels.txt", "truth.csv", "images", prepared.CLAIM}
    assert {cv2.imread(str(path)).shape for path in (made / "images").iterdir()} == {(32, 32, 3)}


def test_the_truth_lies_behind_every_cell(made: Path) -> None:
    table = truth(made)
    assert table[0].tolist() == ["image", "attr1", "attr2", "attr3", "attr4"]
    assert table[1:, 0].tolist() == [f"image_{number}.jpg" for number in range(30)]
    assert set(table[1:, 1:].ravel()) == {"0", "1"}
    observed = tokens(made) != "NA"
    assert (table[1:, 1:] == tokens(made))[observed].all()


def test_the_same_arguments_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    synthetic.write(tmp_path, **SMALL)
    assert content(tmp_path) == content(made)
    other = tmp_path / "other"
    synthetic.write(other, **SMALL, seed=1)
    assert content(other)["images/image_0.jpg"] != content(made)["images/image_0.jpg"]
    assert (truth(other) != truth(made)).any()


@pytest.mark.parametrize("mechanism", ["random", "score"])
def test_missing_and_noise_change_neither_images_nor_truth(made: Path, tmp_path: Path, mechanism: Any) -> None:
    synthetic.write(tmp_path, **SMALL, missing=0.5, mechanism=mechanism, label_noise=0.5)
    ours, theirs = content(tmp_path), content(made)
    assert {name for name in ours if ours[name] != theirs[name]} == {"labels.txt", prepared.CLAIM}


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty images: only the labels are tested."""
    monkeypatch.setattr(synthetic, "draw_scene", lambda *_: np.zeros((1, 1, 3), np.uint8))


@pytest.mark.usefixtures("unpainted")
def test_rates_are_those_asked_for(tmp_path: Path) -> None:
    synthetic.write(tmp_path, images=1000, missing=0.2, label_noise=0.1)
    assert (truth(tmp_path)[1:, 1:] == "1").mean(0).tolist() == [0.88, 0.81, 0.53, 0.08]
    observed = tokens(tmp_path) != "NA"
    wrong = (tokens(tmp_path) != truth(tmp_path)[1:, 1:])[observed]
    cells = observed.size
    assert observed.mean() == pytest.approx(0.8, abs=4 * np.sqrt(0.2 * 0.8 / cells))
    assert wrong.mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / observed.sum()))


@pytest.mark.usefixtures("unpainted")
def test_labels_go_missing_by_the_mechanism_asked_for(tmp_path: Path) -> None:
    rates = {}
    for mechanism in get_args(Mechanism):
        synthetic.write(tmp_path / mechanism, missing=0.5, mechanism=mechanism, label_noise=0.1)
        absent, true = tokens(tmp_path / mechanism) == "NA", truth(tmp_path / mechanism)[1:, 1:] == "1"
        rates[mechanism] = {value: [absent[true[:, a] == value, a].mean() for a in range(4)] for value in (True, False)}
        counts = [[(tokens(tmp_path / mechanism)[:, a] == token).sum() for token in "01"] for a in range(4)]
        if mechanism == "per_class":
            assert {count for pair in counts for count in pair if count < max(map(max, counts))} <= {*map(min, counts)}
            assert sum(map(sum, counts)) == pytest.approx(2000, abs=8)
    assert rates["random"][True] == pytest.approx(rates["random"][False], abs=0.2)
    assert np.greater(rates["positives"][True], rates["positives"][False]).all()
    assert np.less(rates["score"][True], rates["score"][False]).all()


def test_a_folder_made_before_there_were_mechanisms_is_still_recognised(made: Path) -> None:
    assert "mechanism" not in json.loads((made / prepared.CLAIM).read_text())


def test_every_attribute_has_both_classes_however_rare() -> None:
    labels = synthetic.draw_truth(10, (0.001, 0.999, 0.5, 0.08), np.random.default_rng(0))
    assert labels.sum(0).tolist() == [1, 9, 5, 1]


def test_a_patch_is_there_exactly_if_its_attribute_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stamped: list[synthetic.Pattern] = []
    monkeypatch.setattr(synthetic, "_stamp", lambda scene, pattern, rng: stamped.append(pattern))
    for present in ([True, False, True, False], [False, False, False, True]):
        stamped.clear()
        synthetic.draw_scene(np.array(present), 32, np.random.default_rng(0))
        assert {synthetic.PATTERNS.index(pattern) for pattern in stamped} == set(np.flatnonzero(present))


@pytest.mark.parametrize("pattern", synthetic.PATTERNS)
def test_patterns_are_the_same_in_a_mirror(pattern: synthetic.Pattern) -> None:
    v, u = np.mgrid[-1:1:65j, -1:1:65j]
    tone, mirrored = pattern.tone(u, v), pattern.tone(-u, v)
    agreement = (tone == mirrored).mean()
    assert agreement > 0.95 or agreement < 0.05  # the same patch, or the same with its two colours exchanged


def test_every_option_out_of_range_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        synthetic.write(
            tmp_path / "out",
            images=9,
            seed=-1,
            size=31,
            prevalences=(0, 0.5, 1),
            missing=1.0,
            mechanism="scores",  # type: ignore[arg-type]
            label_noise=float("nan"),
        )
    names = [problem.split(":")[0] for problem in caught.value.problems]
    prevalences = ["prevalences[0]", "prevalences[2]", "prevalences[3]"]
    assert names == ["images", "seed", "size", *prevalences, "missing", "mechanism", "label_noise"]
    assert not (tmp_path / "out").exists()


def test_a_finished_folder_is_left_as_it_is(tmp_path: Path) -> None:
    synthetic.write(tmp_path, **SMALL)
    (tmp_path / "images" / "image_0.jpg").write_bytes(b"mine")
    synthetic.write(tmp_path, **SMALL)
    assert (tmp_path / "images" / "image_0.jpg").read_bytes() == b"mine"


def test_a_killed_call_is_finished_by_the_next(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_scene = synthetic.draw_scene
    scenes = []

    def killed(*arguments: Any) -> np.ndarray:
        scenes.append(draw_scene(*arguments))
        if len(scenes) == 7:
            raise KeyboardInterrupt
        return scenes[-1]

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "draw_scene", killed)
        with pytest.raises(KeyboardInterrupt):
            synthetic.write(tmp_path, **SMALL)
    assert not (tmp_path / "labels.txt").exists()
    synthetic.write(tmp_path, **SMALL)
    assert content(tmp_path) == content(made)


@pytest.mark.parametrize("other", [{"seed": 5}, {"images": 31}, {"missing": 0.2}, {"mechanism": "score"}])
def test_a_folder_with_another_set_is_refused(made: Path, other: dict[str, Any]) -> None:
    before = content(made)
    with pytest.raises(UserError, match="other content"):
        synthetic.write(made, **(SMALL | other))
    assert content(made) == before


def test_a_folder_with_other_files_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="other content"):
        synthetic.write(tmp_path, **SMALL)
    with pytest.raises(UserError, match="found a file"):
        synthetic.write(tmp_path / "mine.txt", **SMALL)


def test_the_command_line_hides_as_it_is_asked(tmp_path: Path) -> None:
    asked = ["--images", "30", "--size", "32", "--missing", "0.5", "--hide", "positives"]
    assert cli.main(["data", "synthetic", str(tmp_path / "called-by-command"), *asked]) == 0
    synthetic.write(tmp_path / "called", **SMALL, missing=0.5, mechanism="positives")
    assert content(tmp_path / "called-by-command") == content(tmp_path / "called")
    assert cli.main(["data", "synthetic", str(tmp_path / "none"), "--hide", "negatives"]) == 2


# --- ELPV


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of the same layout with four cells: the real one is an optional extra."""
    data = tmp_path / "site" / "elpv_dataset" / "data"
    (data / "images").mkdir(parents=True)
    (data.parent / "__init__.py").touch()
    rows = [("1.0", "mono"), ("0.6666666666666666", "poly"), ("0.3333333333333333", "mono"), ("0.0", "poly")]
    for number, _ in enumerate(rows, 1):
        (data / "images" / f"cell{number:04}.png").write_bytes(bytes([number]))
    lines = [f"images/cell{number:04}.png  {p}  {kind}\n" for number, (p, kind) in enumerate(rows, 1)]
    (data / "labels.csv").write_text("".join(lines))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0")


@pytest.mark.usefixtures("cells")
def test_elpv_is_written_with_sure_and_unsure_labels(tmp_path: Path) -> None:
    out = tmp_path / "out"
    elpv.write(out)
    names = [f"cell000{number}.png" for number in (1, 2, 3, 4)]
    assert sorted(path.name for path in (out / "images").iterdir()) == names
    assert (out / "labels.csv").read_text().splitlines() == [
        "image,defective,poly",
        *(f"{name},{labels}" for name, labels in zip(names, ["1,0", "1,1", "0,0", "0,1"], strict=True)),
    ]
    unsure = [line.split(",")[1] for line in (out / "labels_uncertain.csv").read_text().splitlines()]
    assert unsure == ["defective", "1", "NA", "NA", "0"]
    assert "NonCommercial" in (out / "LICENCE.txt").read_text()
    before = content(out)
    elpv.write(out)
    assert content(out) == before


def test_elpv_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    with pytest.raises(UserError, match="pip install elpv-dataset"):
        elpv.write(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="elpv-dataset is not installed")
def test_the_real_elpv_has_the_published_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elpv.shutil, "copytree", lambda *_, **__: None)  # the test needs no images
    elpv.write(tmp_path)
    with open(tmp_path / "labels.csv", newline="") as file:
        sure = np.array(list(csv.reader(file)))[1:]
    with open(tmp_path / "labels_uncertain.csv", newline="") as file:
        unsure = np.array(list(csv.reader(file)))[1:]
    assert len(sure) == 2624
    assert (sure[:, 1] == "1").sum() == 821  # probability 2/3 or 1
    assert (unsure[:, 1] == "NA").sum() == 401
    assert (sure[:, 2] == "1").sum() == 1550
