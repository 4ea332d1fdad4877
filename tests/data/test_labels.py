"""Labels, importers and image files: round trips of every format, hostile files, the real Aimonk set."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimonk_bench.config.fields import DataConfig, Values
from aimonk_bench.data import image_files, label_file
from aimonk_bench.data.importers import IMPORTERS
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.errors import UserError

AIMONK = Path(os.environ.get("AIMONK_DATA", Path(__file__).parents[2] / ".data" / "aimonk"))
STATES = {1: "1", 0: "0", None: "NA"}
TEXT = "a.jpg 1 NA\nb.jpg 0 1\n"


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


def config(file: Path, **options: Any) -> DataConfig:
    return DataConfig(labels=file, **{"images": file.parent, "on_bad_image": "skip", **options})


def read(folder: Path, content: str | bytes, name: str = "labels.txt", **options: Any) -> LabelFile:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return label_file.load(config(file, **options))


def problems(folder: Path, content: str | bytes, name: str = "labels.txt", **options: Any) -> list[str]:
    """The problems of a file without the folder: ``labels.txt:1: ...``."""
    with pytest.raises(UserError) as caught:
        read(folder, content, name, **options)
    assert caught.value.limit in (None, 20)
    return [problem.removeprefix(f"{folder}{os.sep}") for problem in caught.value.problems]


def states(found: LabelFile) -> list[list[int | None]]:
    rows = zip(found.labels.targets.tolist(), found.labels.observed.tolist(), strict=True)
    return [[target if seen else None for target, seen in zip(*row, strict=True)] for row in rows]


# ---------------------------------------------------------------------------------------------------- round trips

Table = tuple[list[str], list[str], list[list[int | None]], list[str]]  # names, attributes, states, groups


@st.composite
def tables(draw: st.DrawFn) -> Table:
    safe = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"], exclude_characters="\\/|")
    names = draw(st.lists(st.text(safe, min_size=1, max_size=8).map("p/{}.jpg".format), min_size=1, unique=True))
    word = st.text(st.characters(categories=["L", "N"], codec="utf-8"), min_size=1, max_size=6)
    attributes = draw(
        st.lists(word.filter(lambda text: text not in ("macro", "image", "g")), min_size=1, max_size=4, unique=True)
    )
    row = st.lists(st.sampled_from([1, 0, None]), min_size=len(attributes), max_size=len(attributes))
    rows = st.lists(row, min_size=len(names), max_size=len(names))
    cells = draw(rows.filter(lambda rows: any(cell is not None for row in rows for cell in row)))
    groups = draw(st.lists(word, min_size=len(names), max_size=len(names)))
    return names, attributes, cells, groups


def as_labels_txt(table: Table) -> tuple[str, dict[str, Any]]:
    names, attributes, cells, _ = table
    lines = [" ".join([name, *(STATES[cell] for cell in row)]) for name, row in zip(names, cells, strict=True)]
    return "\n".join(lines), {"importer": "labels_txt", "attributes": attributes}


def as_wide_csv(table: Table, delimiter: str) -> tuple[str, dict[str, Any]]:
    names, attributes, cells, groups = table
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["image", "g", *attributes])
    for name, group, row in zip(names, groups, cells, strict=True):
        writer.writerow([name, group, *(STATES[cell] for cell in row)])
    return out.getvalue(), {"importer": "wide_csv", "group": "g"}


def as_label_list(table: Table, separator: str) -> tuple[str, dict[str, Any]]:
    names, attributes, cells, _ = table
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "tags"])
    for name, row in zip(names, cells, strict=True):
        writer.writerow([name, separator.join(a for a, cell in zip(attributes, row, strict=True) if cell)])
    return out.getvalue(), {"importer": "label_list", "attributes": attributes, "absent": "negative"}


def as_jsonl(table: Table) -> tuple[str, dict[str, Any]]:
    names, attributes, cells, groups = table
    lines = []
    for name, group, row in zip(names, groups, cells, strict=True):
        spelt = {
            a: bool(cell) if len(a) % 2 and cell is not None else cell for a, cell in zip(attributes, row, strict=True)
        }
        lines.append(json.dumps({"image": name, "labels": spelt, "group": group}, ensure_ascii=False))
    return "\n".join(lines), {"importer": "jsonl"}


FORMATS: dict[str, Callable[[Table], tuple[str, dict[str, Any]]]] = {
    "labels_txt": as_labels_txt,
    "wide_csv comma": lambda table: as_wide_csv(table, ","),
    "wide_csv semicolon": lambda table: as_wide_csv(table, ";"),
    "wide_csv tab": lambda table: as_wide_csv(table, "\t"),
    "label_list |": lambda table: as_label_list(table, "|"),
    "label_list space": lambda table: as_label_list(table, " "),
    "jsonl": as_jsonl,
}


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=40, deadline=None)
@given(table=tables(), bom=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\n\n", "\r\n \r\n"]), last=st.booleans())
def test_what_is_written_is_read(form: str, table: Table, bom: bool, end: str, last: bool, scratch: Path) -> None:
    names, attributes, cells, groups = table
    content, options = FORMATS[form](table)
    content = content.rstrip("\n").replace("\n", end) + (end if last else "")
    found = read(scratch, b"\xef\xbb\xbf" * bom + content.encode(), "round", **options)
    assert found.ids == tuple(names)
    assert found.labels.attributes == tuple(attributes)
    wanted = [[int(cell or 0) for cell in row] for row in cells] if "list" in form else cells
    assert states(found) == wanted
    assert not found.labels.targets[~found.labels.observed].any()
    assert found.groups == (tuple(groups) if "jsonl" in form or "csv" in form else None)
    step, header = end.count("\n"), "csv" in form or "list" in form
    assert found.lines.tolist() == [1 + step * (header + row) for row in range(len(names))]


@settings(max_examples=150, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.text(st.sampled_from('ab.jpg/\\ 01NA\n\r\t,;|"{}:[]\u2028\x0b\xa0é'), max_size=120).map(str.encode),
        st.text(max_size=60).map(lambda text: text.encode("utf-16", "surrogatepass")),
    ),
    importer=st.sampled_from(["auto", *IMPORTERS]),
)
def test_any_bytes_give_labels_or_a_user_error(content: bytes, importer: str, scratch: Path) -> None:
    try:
        found = read(
            scratch, content, "hostile", importer=importer, absent="missing" if importer == "label_list" else None
        )
    except UserError as error:
        told = error.problems
        assert [p for p in told if not p.startswith((f"{scratch / 'hostile'}:", "data.absent:"))] == []
    else:
        assert (
            found.labels.targets.shape == found.labels.observed.shape == (len(found.ids), len(found.labels.attributes))
        )
        assert found.ids


# ------------------------------------------------------------------------------------------------------ problems


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = "a.jpg 1 0\nb.jpg 1\n\n../x.jpg 1 0\n/abs.jpg 1 yes\na.jpg NA 0\nd\\e.jpg 1 1\nf.jpg maybe 1"
    found = problems(tmp_path, text)
    assert [line.split(": ")[0] for line in found] == [f"labels.txt:{n}" for n in (2, 4, 5, 5, 6, 7, 8)]
    assert "found a name and 1 token, expected 2" in found[0]
    assert "leaves the image folder" in found[1]
    assert "absolute" in found[2]
    assert "attribute attr2: found 'yes'" in found[3]
    assert "positive '1', negative '0', missing 'NA' ''" in found[3]
    assert "a.jpg contradicts line 1: attr1 is missing, there positive" in found[4]
    assert "backslash" in found[5]


def test_pictures_that_do_not_exist_are_told_with_the_other_problems(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    text = "a.jpg 1 0\nb.jpg 1 0\n../x.jpg 1 0\nc.jpg maybe 1\na.jpg 0 0\nsub/../b.jpg 1 0\nd.jpg 1\n"
    found = problems(tmp_path, text, on_bad_image="error")
    assert [line.split(": ")[0] for line in found] == [f"labels.txt:{n}" for n in (2, 3, 4, 4, 5, 7)]
    assert found[0] == f"labels.txt:2: image b.jpg is missing (looked in {tmp_path})"
    assert "image c.jpg is missing" in found[3]
    for on_bad_image in ("error", "skip"):
        first, *rest = problems(tmp_path, text, images=tmp_path / "no", on_bad_image=on_bad_image)
        assert first == f"data.images: found {tmp_path / 'no'}, expected a folder that exists"
        assert [line[:12] for line in rest] == [f"labels.txt:{n}" for n in (3, 4, 5, 7)]


def test_of_many_problems_twenty_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("".join(f"{n}.jpg x\n" for n in range(100)))
    with pytest.raises(UserError) as caught:
        label_file.load(config(tmp_path / "labels.txt"))
    assert len(str(caught.value).splitlines()) == 21
    assert "80 more (100 problems" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "labels.txt:1: the file is empty"),
        (b"\xef\xbb\xbf\r\n \n", "labels.txt:1: the file is empty"),
        (TEXT.encode("utf-16"), "labels.txt:1:1: found UTF-16 text"),
        (TEXT.encode("utf-16-le"), "labels.txt:1:2: found a NUL byte"),
        (b"a.jpg 1 0\r\n\x89PNG\r\n\x1a\n\x00\x00", "labels.txt:2:1: found the byte 0x89"),
        ("a.jpg 1\nb.jpg 0\ncafé.jpg 1\n".encode("latin-1"), "labels.txt:3:4: found the byte 0xe9"),
        (b"a.jpg\nb.jpg\n", "labels.txt:1: found a name and 0 tokens"),
        (b"a\x07.jpg 1\n", "labels.txt:1: image 'a\\x07.jpg': the name contains a control"),
        (b"C:/a.jpg 1\n", "labels.txt:1: image C:/a.jpg: the path is absolute"),
        (b"a/.. 1\n", "labels.txt:1: image a/..: the path leaves the image folder or is the folder itself"),
    ],
)
def test_files_that_are_no_label_files(tmp_path: Path, content: bytes, told: str) -> None:
    assert problems(tmp_path, content)[0].startswith(told)


def test_labels_txt_has_no_groups(tmp_path: Path) -> None:
    assert problems(tmp_path, TEXT, group="g")[0].startswith("data.group: found 'g', expected null")


def test_a_label_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        label_file.load(config(tmp_path / "none.txt"))
    with pytest.raises(UserError, match="Is a directory"):
        label_file.load(config(tmp_path))


def test_a_short_first_line_is_blamed_alone(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "a.jpg 1\nb.jpg 1 0\nc.jpg 1 0\n")) == 1


def test_identical_duplicates_are_used_once_and_reported(tmp_path: Path) -> None:
    found = read(tmp_path, "x/../a.jpg 1 NA\nb.jpg 0 1\n./a.jpg 1 NA\n")
    assert found.ids == ("x/../a.jpg", "b.jpg")
    assert found.lines.tolist() == [1, 2]
    assert found.notes == (
        "importer: labels_txt (auto: the first line is separated by white space)",
        "identical duplicate lines, each image used once: line 3 (./a.jpg, as line 1)",
    )
    assert found.subset([1]).ids == ("b.jpg",)
    assert found.subset(np.array([1, 0])).labels.targets.tolist() == [[0, 1], [1, 0]]


def test_duplicates_of_another_group_are_an_error(tmp_path: Path) -> None:
    found = problems(tmp_path, "image,g,x\na,1,0\na,2,0\n", "l.csv", group="g")
    assert found == ["l.csv:3: image a contradicts line 2: group is '2', there '1'"]


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        ("image,x,x\na,1,0\n", {}, "l.csv:1: column 'x' stands 2 times in the header"),
        ("image,macro\na,1\n", {}, "l.csv:1: found an attribute named 'macro'"),
        ("image,,x\na,1,1\n", {}, "l.csv:1: found an attribute named ''"),
        ("image\na\n", {}, "l.csv:1: found no attribute beside the columns image"),
        (
            "\nimage,smile\na,1\n",
            {"attributes": ["smle"]},
            "l.csv:2: no column 'smle' (data.attributes) (did you mean smile?)",
        ),
        ("image,x\na,1\n", {"group": "g"}, "l.csv:1: no column 'g' (data.group)"),
        ("image,x\na,1\n", {"id": "img"}, "l.csv:1: no column 'img' (data.id)"),
        ("image,x\na,1\n", {"attributes": ["image"]}, "l.csv:1: column 'image' is the id or the group"),
        ("image,x\na,1,0\n", {}, "l.csv:2: found 3 columns (separator ,), expected 2"),
        ('image,x\n"a"b,1\nc,2\n', {}, "l.csv:2: malformed record"),
        ('"image"s,x\na,1\n', {}, "l.csv:1: malformed record"),
        ('image,x\na,1\n"b,1\nc,1\n', {}, "l.csv:3: malformed record: unexpected end of data"),
        ("image,x\n,1\n", {}, "l.csv:2: the name of the image is empty"),
        ('"image, its name, or so";x\na;9\n', {}, "l.csv:2: attribute x: found '9'"),
        ('image,x\n"two\nlines",1\nb,2\n', {}, "l.csv:2: image 'two\\nlines'"),
        ("image,tags\na,x\n", {"absent": "missing", "id": "image"}, "data.id: found 'image', expected null"),
        ("image,x\na,1\n", {"absent": "missing"}, "data.absent: found 'missing', expected null"),
        ("image,tags\na,x\n", {}, "data.absent: found null, expected negative or missing"),
        ("image,tags,z\na,x,1\n", {"absent": "missing"}, "l.csv:1: found the header image,tags,z, expected image,tags"),
        (
            "image,tags\na,cat|dgo\n",
            {"absent": "missing", "attributes": ["cat", "dog"]},
            "l.csv:2: undeclared tag 'dgo'",
        ),
        ("image,tags\na,macro\n", {"absent": "missing"}, "l.csv:2: found an attribute named 'macro'"),
        ("image,x\n", {}, "l.csv:1: found no image"),
    ],
)
def test_problems_of_tables(tmp_path: Path, content: str, options: dict[str, Any], told: str) -> None:
    found = problems(tmp_path, content, "l.csv", **options)
    assert found[0].startswith(told), found


def test_line_numbers_after_a_quoted_line_break(tmp_path: Path) -> None:
    found = problems(tmp_path, 'image,note,x\na,"two\r\n\r\nlines",1\nb,,9\n', "l.csv", attributes=["x"])
    assert [line.split(": ")[0] for line in found] == ["l.csv:5"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not a JSON object: Expecting property name"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not a JSON object: nested too deeply"),
        ('{"image": "a", "labels": {"x": 1, "x": 1}}', "not a JSON object: key 'x' stands twice"),
        (
            '{"image": "a", "labels": {}, "gruop": 1}',
            "unknown key 'gruop', expected image, labels, group (did you mean group?)",
        ),
        ('{"image": 5, "labels": {"x": 1}}', "'image' must be the name"),
        ('{"labels": {"x": 1}}', "'image' must be the name"),
        ('{"image": "a"}', "'labels' must be an object"),
        ('{"image": "a", "labels": {"x": [1]}}', "attribute 'x': found a list"),
        ('{"image": "a", "labels": {"x": 1.0}}', "attribute x: found '1.0'"),
        ('{"image": "a", "labels": {"x": ' + "1" * 9000 + "}}", "attribute x: found '1111"),
        ('{"image": "a\\u0000", "labels": {"x": 1}}', "image 'a\\x00': the name contains a control"),
        ('{"image": "\\ud800", "labels": {"x": 1}}', "image '\\ud800': the name contains a control"),
        ('{"image": "a", "labels": {"\\ud800": 1}}', "found an attribute named '\\ud800'"),
        ('{"image": "a", "labels": {"x": 1}, "group": {}}', "'group' must be a string"),
    ],
)
def test_problems_of_jsonl(tmp_path: Path, line: str, told: str) -> None:
    found = problems(tmp_path, '{"image": "ok", "labels": {"x": 0}}\n' + line, "l.jsonl")
    assert found[0].startswith(f"l.jsonl:2: {told}"), found


def test_jsonl_reads_true_and_false_null_numbers_and_absent_keys(tmp_path: Path) -> None:
    rows = [{"x": True, "y": None}, {"y": 0, "z": "1"}, {"x": False}]
    text = "\n".join(json.dumps({"image": str(n), "labels": row}) for n, row in enumerate(rows))
    found = read(tmp_path, text, "l.jsonl")
    assert found.labels.attributes == ("x", "y", "z")
    assert states(found) == [[1, None, None], [None, 0, 1], [0, None, None]]
    assert problems(tmp_path, text, "l.jsonl", attributes=["x", "y"])[0].startswith(
        "l.jsonl:2: undeclared attribute 'z'"
    )


def test_a_tag_that_is_absent_means_what_the_config_says(tmp_path: Path) -> None:
    for absent, value in (("negative", 0), ("missing", None)):
        found = read(tmp_path, "image,tags\na,y|x\nb,\n", absent=absent)
        assert found.labels.attributes == ("x", "y")
        assert states(found) == [[1, 1], [value, value]]


def test_values_may_differ_between_attributes(tmp_path: Path) -> None:
    yes = Values(positive=["yes"], negative=["no"], missing=["?"])
    score = Values(positive=["1", "2"], negative=["0"], missing=[""])
    text = "image;a;b\np;yes;2\nq;?; \n"
    assert states(read(tmp_path, text, "l.csv", values={"a": yes, "b": score})) == [[1, 1], [None, None]]
    assert problems(tmp_path, text, "l.csv", values={"a": yes, "c": score}) == [
        "data.values: no map for the attribute 'b'",
        "data.values: found 'c', which is no attribute of a, b",
    ]
    assert problems(tmp_path, text + "r;no;no\n", "l.csv", values={"a": yes, "b": yes})[0].startswith(
        "l.csv:2: attribute b: found '2'"
    )


def test_a_column_that_holds_no_labels_is_told_once(tmp_path: Path) -> None:
    text = "image,patient,x\n" + "".join(f"{n}.jpg,p{n // 2},1\n" for n in range(60)) + "60.jpg,p30,?\n"
    found = problems(tmp_path, text, "l.csv")
    assert found[0].startswith("l.csv:1: attribute patient: found none of the declared values (positive '1', ")
    assert "in 61 rows, but 'p0', 'p1', 'p2'; " in found[0]
    assert "data.group" in found[0]
    assert "data.attributes" in found[0]
    assert found[1].startswith("l.csv:62: attribute x: found '?'")
    assert len(found) == 2
    fixed = text.replace("?", "0")
    assert read(tmp_path, fixed, "l.csv", group="patient").labels.attributes == ("x",)
    assert read(tmp_path, fixed, "l.csv", attributes=["x"]).labels.attributes == ("x",)


def test_a_column_of_groups_and_pictures_without_one(tmp_path: Path) -> None:
    text = "image,x,g\na,1,u\nb,1,\n"
    found = read(tmp_path, text, "l.csv", group="g")
    assert found.labels.attributes == ("x",)
    assert found.groups == ("u", None)
    assert "1 of 2 images have no group value; each is a group of its own" in found.notes
    assert read(tmp_path, text, "l.csv", attributes=["x"]).groups is None


def test_an_attribute_nobody_labelled_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(read(tmp_path, "a.jpg 1 NA\nb.jpg NA NA\n").notes) == 1
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"{tmp_path / 'labels.txt'}: attribute attr2 is missing for every image"


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
    ("name", "content", "importer"),
    [
        ("a.txt", TEXT, "labels_txt"),
        ("a.txt", "a.jpg\t1\t0\n", "labels_txt"),
        ("a.txt", "image;x\na;1\n", "wide_csv"),
        ("a.tsv", "image\tx\na\t1\n", "wide_csv"),
        ("a.txt", '\n{"image": "a", "labels": {"x": 1}}', "jsonl"),
        ("a.ndjson", '{"image": "a", "labels": {"x": 1}}', "jsonl"),
        ("a.csv", '"image";"tags"\na;x y\n', "label_list"),
    ],
)
def test_auto_names_its_decision(tmp_path: Path, name: str, content: str, importer: str) -> None:
    absent = "missing" if importer == "label_list" else None
    assert read(tmp_path, content, name, absent=absent).notes[0].startswith(f"importer: {importer} (auto: ")
    assert read(tmp_path, content, name, absent=absent, importer=importer).notes[0] == f"importer: {importer}"


def test_a_wrong_guess_can_be_recognised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    problems(tmp_path, "image\tx\na\t1\n")
    assert "importer: labels_txt (auto: " in caplog.text


# ------------------------------------------------------------------------------------------------------ pictures


@pytest.fixture
def listed(tmp_path: Path) -> LabelFile:
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(name[-5:].encode())
    (tmp_path / "images" / "folder").mkdir()
    return read(
        tmp_path, f"a.jpg 1\nsub/../b.jpg 0\nsub/c.jpg NA\nfolder 1\nnone.jpg 1\n{'n' * 300}.jpg 1\na.jpg/x 0\n"
    )


def test_pictures_are_hashed_and_bad_ones_skipped_with_a_reason(listed: LabelFile, tmp_path: Path) -> None:
    found, skipped = image_files.locate(listed, tmp_path / "images", "skip")
    assert [image and image.sha256 for image in found] == [
        *(hashlib.sha256(name).hexdigest() for name in (b"a.jpg", b"b.jpg", b"c.jpg")),
        *(None,) * 4,
    ]
    assert found[1] is not None
    assert (found[1].image_id, found[1].path, found[1].line) == ("sub/../b.jpg", tmp_path / "images" / "b.jpg", 2)
    reasons = ["not a regular file", "missing", "unreadable: File name too long", "unreadable: Not a directory"]
    assert [item.reason for item in skipped] == reasons
    assert [item.line for item in skipped] == [4, 5, 6, 7]


def test_bad_pictures_are_an_error_with_their_lines(listed: LabelFile, tmp_path: Path) -> None:
    images = tmp_path / "images"
    with pytest.raises(UserError) as caught:
        image_files.locate(listed, images, "error")
    assert caught.value.limit == 20
    assert caught.value.problems[1] == f"{listed.path}:5: image none.jpg is missing (looked in {images})"
    rows = [*zip(listed.ids, listed.lines.tolist(), strict=True)]
    unreadable = image_files.unreadable(rows, images)
    assert [f"{listed.path}:{item.line}: {image_files.message(item, images)}" for item in unreadable] == (
        caught.value.problems
    )
    assert image_files.unreadable(rows[:3], images) == []


def test_no_folder_and_no_picture(listed: LabelFile, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a folder that exists"):
        image_files.locate(listed, tmp_path / "nowhere", "skip")
    with pytest.raises(UserError, match="none of the 7 images"):
        image_files.locate(listed, tmp_path / "images" / "folder", "skip")


def test_the_fingerprint_is_of_what_is_known(listed: LabelFile, tmp_path: Path) -> None:
    found, _ = image_files.locate(listed, tmp_path / "images", "skip")

    def changed(**fields: Any) -> str:
        inner = {name: fields.pop(name) for name in ("targets", "observed", "attributes") if name in fields}
        labels = Labels(**{**vars(listed.labels), **inner})
        return image_files.fingerprint(replace(listed, labels=labels, **fields), found)

    original = image_files.fingerprint(listed, found)
    assert changed(targets=np.where(listed.labels.observed, listed.labels.targets, 1)) == original
    assert changed(path=tmp_path, lines=listed.lines + 1, notes=()) == original
    others = [
        changed(targets=1 - listed.labels.targets),
        changed(observed=np.ones_like(listed.labels.observed)),
        changed(attributes=("other",)),
        changed(ids=("other.jpg", *listed.ids[1:])),
        changed(groups=("g",) * 7),
        image_files.fingerprint(listed, [None, *found[1:]]),
        image_files.fingerprint(listed.subset([1, 0]), [found[1], found[0]]),
    ]
    assert len({original, *others}) == 1 + len(others)


# ------------------------------------------------------------------------------------------------- the real data


@pytest.mark.skipif(not (AIMONK / "labels.txt").exists(), reason="the Aimonk set is not here")
def test_the_aimonk_set() -> None:
    found = label_file.load(config(AIMONK / "labels.txt", images=AIMONK / "images"))
    assert len(found.ids) == 975
    assert found.labels.attributes == ("attr1", "attr2", "attr3", "attr4")
    assert (~found.labels.observed).sum() == 358
    located, skipped = image_files.locate(found, AIMONK / "images", "skip")
    assert len(skipped) == 3
    assert {item.reason for item in skipped} == {"missing"}
    hashes = [image.sha256 for image in located if image]
    assert len(hashes) - len(set(hashes)) == 7
