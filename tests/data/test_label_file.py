"""Label files: duplicates, values, groups, and all problems of a file at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from label_files import config, problems, read, states

from aimonk_bench.config.fields import Values
from aimonk_bench.data import label_file
from aimonk_bench.errors import UserError

TEXT = "a.jpg 1 NA\nb.jpg 0 1\n"


def test_every_problem_of_a_file_is_reported_at_once(tmp_path: Path) -> None:
    text = "a.jpg 1 0\nb.jpg 1\n\n../x.jpg 1 0\n/abs.jpg 1 yes\na.jpg NA 0\nd\\e.jpg 1 1\nf.jpg maybe 1"
    messages = problems(tmp_path, text)
    assert [line.split(": ")[0] for line in messages] == [f"labels.txt:{n}" for n in (2, 4, 5, 5, 6)]
    assert "found a name and 1 token, expected 2" in messages[0]
    assert "leaves the image folder" in messages[1]
    assert "absolute" in messages[2]
    assert "2 attributes (attr1, attr2): found 'maybe' (1 row), 'yes' (1 row)" in messages[3]
    assert "'maybe' missing (attr1, line 8)" in messages[3]
    assert "positive '1', negative '0', missing 'NA' ''" in messages[3]
    assert "a.jpg contradicts line 1: attr1 is missing, there positive" in messages[4]


def test_missing_images_are_reported_with_the_other_problems(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    text = "a.jpg 1 0\nb.jpg 1 0\n../x.jpg 1 0\nc.jpg maybe 1\na.jpg 0 0\nsub/../b.jpg 1 0\nd.jpg 1\n"
    messages = problems(tmp_path, text, on_bad_image="error")
    assert [line.split(": ")[0] for line in messages] == [f"labels.txt:{n}" for n in (2, 3, 4, 4, 5, 7)]
    assert messages[0].startswith(f"labels.txt:2: image b.jpg is missing (looked in {tmp_path})")
    assert messages[0].endswith("write under data: `on_bad_image: skip`")
    assert "image c.jpg is missing" in messages[3]
    assert [line[:12] for line in problems(tmp_path, text)] == [f"labels.txt:{n}" for n in (3, 4, 5, 7)]


def test_of_many_problems_twenty_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"{n}.jpg{' 1' * (n + 2)}\n" for n in range(100))
    (tmp_path / "labels.txt").write_text(f"a.jpg 1\n{rows}")
    with pytest.raises(UserError) as caught:
        label_file.load(config(tmp_path / "labels.txt"))
    assert len(str(caught.value).splitlines()) == 21
    assert "80 more (100 problems" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "labels.txt:1: the file is empty"),
        (b"\xef\xbb\xbf\r\n \n", "labels.txt:1: the file is empty"),
        (TEXT.encode("utf-16-le"), "labels.txt:1:2: found a NUL byte"),
        (b"a.jpg 1 0\r\n\x89PNG\r\n\x1a\n\x00\x00", "labels.txt:2:1: found the byte 0x89"),
        ("a.jpg 1\nb.jpg 0\ncafé.jpg 1\n".encode("latin-1"), "labels.txt:3:4: found the byte 0xe9"),
        (b"a.jpg\nb.jpg\n", "labels.txt:1: found no attribute beside the columns image"),
        (b"a\x07.jpg 1\n", "labels.txt:1: image 'a\\x07.jpg': the name contains a control"),
        (b"C:/a.jpg 1\n", "labels.txt:1: image C:/a.jpg: the path is absolute"),
        (b"a/.. 1\n", "labels.txt:1: image a/..: the path leaves the image folder or is the folder itself"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    assert problems(tmp_path, content)[0].startswith(message)


def test_a_label_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        label_file.load(config(tmp_path / "none.txt"))
    with pytest.raises(UserError, match="Is a directory"):
        label_file.load(config(tmp_path))


def test_identical_duplicates_are_used_once_and_reported(tmp_path: Path) -> None:
    loaded = read(tmp_path, "x/../a.jpg 1 NA\nb.jpg 0 1\n./a.jpg 1 NA\n")
    assert loaded.ids == ("x/../a.jpg", "b.jpg")
    assert loaded.lines.tolist() == [1, 2]
    assert loaded.notes[0].startswith("importer: labels_txt (auto: the first line is separated by white space); ")
    assert loaded.notes[1] == "identical duplicate lines, each image used once: line 3 (./a.jpg, as line 1)"
    assert loaded.subset([1]).ids == ("b.jpg",)
    assert loaded.subset(np.array([1, 0])).labels.targets.tolist() == [[0, 1], [1, 0]]


def test_duplicates_of_another_group_are_an_error(tmp_path: Path) -> None:
    messages = problems(tmp_path, "image,g,x\na,1,0\na,2,0\n", "l.csv", group="g")
    [message] = messages
    assert message.startswith("l.csv:3: image a contradicts line 2: group is '2', there '1'")


def test_values_may_differ_between_attributes(tmp_path: Path) -> None:
    yes = Values(positive=["yes"], negative=["no"], missing=["?"])
    score = Values(positive=["1", "2"], negative=["0"], missing=[""])
    text = "image;a;b\np;yes;2\nq;?; \n"
    loaded = read(tmp_path, text, "l.csv", values={"a": yes, "b": score})
    assert states(loaded.labels) == [[1, 1], [None, None]]
    assert problems(tmp_path, text, "l.csv", values={"a": yes, "c": score}) == [
        "data.values: no map for the attribute 'b'",
        "data.values: found 'c', which is no attribute of a, b",
    ]
    assert problems(tmp_path, text + "r;no;no\n", "l.csv", values={"a": yes, "b": yes})[0].startswith(
        "l.csv:2: attribute b: found '2'"
    )


def test_a_column_that_holds_no_labels_is_reported_once(tmp_path: Path) -> None:
    text = "image,patient,x\n" + "".join(f"{n}.jpg,p{n // 2},1\n" for n in range(60)) + "60.jpg,p30,?\n"
    [message] = problems(tmp_path, text, "l.csv")
    assert message.startswith("l.csv:62: attribute x: found '?' (1 row)")
    assert "if patient ('p0', 'p1', 'p2') are no labels, write under data: `ignore: [\"patient\"]`" in message
    assert "data.group" in message
    assert "data.attributes" in message
    assert "values: {" in message
    fixed = text.replace("?", "0")
    assert read(tmp_path, fixed, "l.csv", group="patient").labels.attributes == ("x",)
    assert read(tmp_path, fixed, "l.csv", attributes=["x"]).labels.attributes == ("x",)


def test_a_column_of_groups_and_images_without_one(tmp_path: Path) -> None:
    text = "image,x,g\na,1,u\nb,1,\n"
    loaded = read(tmp_path, text, "l.csv", group="g")
    assert loaded.labels.attributes == ("x",)
    assert loaded.groups == ("u", None)
    assert "1 of 2 images have no group value; each is a group of its own" in loaded.notes
    assert read(tmp_path, text, "l.csv", attributes=["x"]).groups is None


def test_a_file_without_any_label_is_an_error(tmp_path: Path) -> None:
    for name, text in (
        ("l.txt", "a NA NA\nb NA NA\n"),
        ("l.csv", "image,x\na,\n"),
        ("l.jsonl", '{"image":"a","labels":{}}'),
    ):
        assert problems(tmp_path, text, name) == [
            f"{name}:1: found no label (every value is missing), expected at least one"
        ]


@pytest.mark.parametrize(
    ("name", "content", "options", "part"),
    [
        ("a.csv", "image;x;y\n0.png;1;0\n1.png;0;1\n", {"separator": ","}, "a.csv:1: "),
        ("a.csv", "image,x,y\n0.png,1,0\n1.png,0,1\n", {"separator": ";"}, "a.csv:1: "),
        ("a.csv", "image,x,y\n0.png,1,0\n1.png,0,1\n", {"id": "name"}, "a.csv:1: "),
        ("a.csv", "image,x,y\n0.png,1,0\n1.png,0,1\n", {"attributes": ["x", "z"]}, "a.csv:1: "),
        ("a.csv", "image,x,y\n0.png,1,0\n1.png,0,1\n", {"group": "y", "ignore": ["y"]}, "y"),
        ("a.csv", "image,x,y\n0.png,1,0\n1.png,0,1\n", {"importer": "labels_txt"}, "a.csv:1: "),
        ("a.txt", "0.png 1 0\n1.png 0 1\n", {"attributes": ["x", "y", "z"]}, "a.txt:1: "),
        ("a.txt", "0.png 1 0\n1.png 0 1\n", {"separator": ","}, "a.txt:1: "),
        (
            "a.csv",
            "image,tags\n0.png,red colour round shape\n1.png,red colour\n",
            {"absent": "negative"},
            "tag_separator",
        ),
    ],
)
def test_a_file_of_which_no_image_can_be_read_is_a_message(
    tmp_path: Path, name: str, content: str, options: dict[str, object], part: str
) -> None:
    for images in ((), ("0.png", "1.png")):
        for image in images:
            (tmp_path / image).write_bytes(b"")
        for on_bad_image in ("error", "skip"):
            assert part in "\n".join(problems(tmp_path, content, name, on_bad_image=on_bad_image, **options))
