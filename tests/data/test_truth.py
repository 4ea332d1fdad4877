"""The truth that ``data.truth`` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from label_files import states

from aimonk_bench.config.fields import DataConfig, Values
from aimonk_bench.data import image_files, label_file
from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError

LABELS = "a.jpg 1 NA\nb/c.jpg 0 1\nd.jpg NA 0\n"


def load(folder: Path, text: str, labels: str = LABELS, name: str = "truth.csv", **options: Any) -> Labels:
    (folder / "labels.txt").write_text(labels)
    (folder / name).write_text(text)
    data = DataConfig(labels=folder / "labels.txt", truth=folder / name, images=folder, **options)
    loaded = label_file.load_truth(data, label_file.load(data.model_copy(update={"on_bad_image": "skip"})))
    assert loaded is not None
    return loaded


def test_columns_and_rows_are_matched_by_name(tmp_path: Path) -> None:
    loaded = load(tmp_path, "image,attr2,note,attr1\nb/./c.jpg,1,x,NA\na.jpg,,y,0\n")
    assert states(loaded) == [[0, None], [None, 1], [None, None]]
    assert loaded.attributes == ("attr1", "attr2")


def test_the_truth_is_read_with_the_options_of_the_labels(tmp_path: Path) -> None:
    words = Values(positive=["yes"], negative=["no"], missing=["?"])
    labels = "note,image,smile\n1,a.jpg,yes\n2,b.jpg,?\n"
    text = "image,smile\nb.jpg,no\na.jpg,yes\n"
    loaded = load(tmp_path, text, labels, id="image", attributes=["smile"], values=words, importer="wide_csv")
    assert states(loaded) == [[1], [0]]
    assert states(load(tmp_path, "d.jpg 1 0\n", name="truth.txt")) == [[None, None], [None, None], [1, 0]]


def test_the_truth_needs_no_ignored_column(tmp_path: Path) -> None:
    labels = "image,fold,smile\na.jpg,3,1\nb.jpg,4,NA\n"
    assert states(load(tmp_path, "image,smile\nb.jpg,0\n", labels, ignore=["fold"])) == [[None], [0]]


def test_the_truth_needs_no_group_column(tmp_path: Path) -> None:
    labels = "image,patient,smile\na.jpg,p1,1\nb.jpg,p1,NA\n"
    assert states(load(tmp_path, "image,smile\nb.jpg,0\n", labels, group="patient")) == [[None], [0]]


def test_no_file_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text(LABELS)
    (tmp_path / "truth.csv").write_text("not,a,truth\n")
    data = DataConfig(labels=tmp_path / "labels.txt", images=tmp_path)
    assert label_file.load_truth(data, label_file.load(data)) is None


def test_the_truth_enters_the_fingerprint(tmp_path: Path) -> None:
    truths = [load(tmp_path, f"image,attr1,attr2\na.jpg,{cell},1\n") for cell in ("1", "0", "NA")]
    listed = label_file.load(DataConfig(labels=tmp_path / "labels.txt", images=tmp_path, on_bad_image="skip"))
    assert len({image_files.fingerprint(listed, [None] * 3, truth) for truth in (None, *truths)}) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,attr1,attr2\na.jpg,1,1\nd.jpg,yes,1\n", r"truth\.csv:3: attribute attr1: found 'yes'"),
        ("image,attr1\na.jpg,1\n", r"truth\.csv:1: no column 'attr2'"),
        ("image,attr1,attr2\na.jpg,1,1\n\nx.jpg,1,1\n", r"truth\.csv:4: image x\.jpg is not listed in .*labels\.txt"),
        ("image,attr1,attr2\na.jpg,1,1\na.jpg,0,1\n", r"truth\.csv:3: image a\.jpg contradicts line 2"),
        ("image,attr1,attr2\na.jpg,1\n", r"truth\.csv:2: found 2 columns"),
        ("", r"truth\.csv:1: the file is empty"),
    ],
)
def test_a_wrong_truth_is_an_error_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, text)
