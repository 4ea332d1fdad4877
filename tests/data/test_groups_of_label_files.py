"""Groups by the names of images, and the column of an official split, from every kind of label file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from label_files import config, problems, read, states

from aimonk_bench.config.split_fields import GroupRegex
from aimonk_bench.data import label_file
from aimonk_bench.errors import UserError

BY_NAME = GroupRegex(regex="^(.*?)_")


@pytest.mark.parametrize(
    ("file", "content", "options"),
    [
        ("labels.txt", "s1_a.png 1\ns1_b.png 0\nplain.png 1\n", {}),
        ("l.csv", "image,x\ns1_a.png,1\ns1_b.png,0\nplain.png,1\n", {}),
        ("l.csv", "image,tags\ns1_a.png,x\ns1_b.png,\nplain.png,x\n", {"absent": "negative"}),
        ("l.jsonl", "".join(f'{{"image": "{n}.png", "labels": {{"x": 1}}}}\n' for n in ("s1_a", "s1_b", "plain")), {}),
    ],
    ids=["labels_txt", "wide_csv", "label_list", "jsonl"],
)
def test_groups_by_the_names_of_images(tmp_path: Path, file: str, content: str, options: dict[str, Any]) -> None:
    listed = read(tmp_path, content, file, group=BY_NAME, **options)
    assert listed.groups == ("s1", "s1", None)
    assert any("1 of 3 images have a name that data.group.regex does not match" in note for note in listed.notes)
    assert any("groups by the names of images: 1, such as s1" in note for note in listed.notes)


@pytest.mark.parametrize("token", ["NA", "N/A", "nan", "None", "null", " ", "<NA>"])
def test_a_missing_token_is_no_group(tmp_path: Path, token: str) -> None:
    listed = read(tmp_path, f"image,g,x\na.png,{token},1\nb.png,{token},0\nc.png,p1,1\n", "l.csv", group="g")
    assert listed.groups == (None, None, "p1")
    assert any("2 of 3 images have no group value" in note for note in listed.notes)


def test_a_pattern_that_matches_no_name_is_an_error(tmp_path: Path) -> None:
    (message,) = problems(tmp_path, "a.png 1\nb.png 0\n", group=BY_NAME)
    assert message == "data.group.regex: '^(.*?)_' matches none of 2 names, such as a.png"


def test_groups_of_the_file_beside_a_pattern_are_told(tmp_path: Path) -> None:
    listed = read(tmp_path, '{"image": "s1_a.png", "labels": {"x": 1}, "group": "g"}\n', "l.jsonl", group=BY_NAME)
    assert listed.groups == ("s1",)
    assert any("groups in the file are not used" in note for note in listed.notes)


@pytest.mark.parametrize(
    ("file", "content", "options"),
    [
        ("l.csv", "image,x,part\na.png,1,train\nb.png,0,\nc.png,1,2\na.png,1,train\n", {}),
        ("l.csv", "part,image,x\ntrain,a.png,1\n,b.png,0\n2,c.png,1\n", {"id": "image"}),
        ("l.csv", "image,tags,part\na.png,x,train\nb.png,,\nc.png,x,2\n", {"absent": "negative"}),
        (
            "l.jsonl",
            '{"image": "a.png", "labels": {"x": 1}, "part": "train"}\n{"image": "b.png", "labels": {"x": 0}}\n'
            '{"image": "c.png", "labels": {"x": 1}, "part": 2}\n',
            {},
        ),
    ],
    ids=["wide_csv", "id", "label_list", "jsonl"],
)
def test_the_column_of_an_official_split(tmp_path: Path, file: str, content: str, options: dict[str, Any]) -> None:
    (tmp_path / file).write_text(content)
    data = config(tmp_path / file, values={"positive": ["1"], "negative": ["0"], "missing": ["2"]}, **options)
    listed = label_file.load(data, ["part"])
    assert listed.columns == {"part": ("train", None, "2")}  # what means a missing label means nothing here
    assert listed.labels.attributes == ("x",)
    assert states(listed.labels) == [[1], [0], [1]]
    assert listed.subset([2, 0]).columns == {"part": ("2", "train")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,x,parts\na.png,1,train\n", "no column 'part' (split.column) (did you mean parts?)"),
        ("image,x,part\na.png,1,train\na.png,1,test\n", "part is 'test', there 'train'"),
    ],
)
def test_a_column_that_is_not_there_or_contradicts_itself(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "l.csv").write_text(content)
    with pytest.raises(UserError) as caught:
        label_file.load(config(tmp_path / "l.csv"), ["part"])
    assert message in str(caught.value)
    assert "l.csv:" in str(caught.value)
