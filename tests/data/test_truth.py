"""``truth.csv`` beside a label file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aimonk_bench.config.fields import DataConfig
from aimonk_bench.data import label_file, truth
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.errors import UserError


@pytest.fixture
def listed(tmp_path: Path) -> LabelFile:
    (tmp_path / "labels.txt").write_text("a.jpg 1 NA\nb/c.jpg 0 1\nd.jpg NA 0\n")
    return label_file.load(DataConfig(labels=tmp_path / "labels.txt", images=tmp_path))


def write(listed: LabelFile, text: str) -> None:
    (listed.path.parent / "truth.csv").write_text(text)


def test_columns_and_rows_are_matched_by_name(listed: LabelFile) -> None:
    write(listed, "attr2,note,image,attr1\n1,x,b/./c.jpg,NA\n,y,a.jpg,0\n")
    found = truth.load(listed)
    assert found is not None
    assert found.tolist() == [[0, -1], [-1, 1], [-1, -1]]
    assert found.dtype == np.int8


def test_without_the_file_there_is_no_truth_and_nothing_changes(listed: LabelFile, tmp_path: Path) -> None:
    assert truth.load(listed) is None
    assert truth.fingerprint("f" * 64, None) == "f" * 64
    (tmp_path / "truth.csv").write_text("image,attr1\na.jpg,1\n")
    own = label_file.load(DataConfig(labels=tmp_path / "truth.csv", images=tmp_path))
    assert truth.load(own) is None


def test_the_truth_enters_the_fingerprint(listed: LabelFile) -> None:
    prints = set()
    for cell in ("1", "0", "NA"):
        write(listed, f"image,attr1,attr2\na.jpg,{cell},1\n")
        prints.add(truth.fingerprint("f" * 64, truth.load(listed)))
    assert len(prints | {"f" * 64}) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,attr1,attr2\na.jpg,1,1\nd.jpg,yes,1\n", r"truth\.csv:3: attribute attr1: found 'yes'"),
        ("image,attr1\na.jpg,1\n", r"truth\.csv:1: no column 'attr2'"),
        ("picture,attr1,attr2\na.jpg,1,1\n", r"truth\.csv:1: no column 'image'"),
        ("image,attr1,attr2\na.jpg,1,1\n\nx.jpg,1,1\n", r"truth\.csv:4: image x\.jpg is not listed in .*labels\.txt"),
        ("image,attr1,attr2\na.jpg,1,1\na.jpg,0,1\n", r"truth\.csv:3: image a\.jpg contradicts line 2"),
        ("image,attr1,attr2\na.jpg,1\n", r"truth\.csv:2: found 2 columns"),
        ("", r"truth\.csv:1: the file is empty"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(listed: LabelFile, text: str, message: str) -> None:
    write(listed, text)
    with pytest.raises(UserError, match=message):
        truth.load(listed)
