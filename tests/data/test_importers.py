"""Importers: round trips of every format, hostile files, and the message about every kind of bad line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import problems, read, states

from aimonk_bench.data.importers import IMPORTERS
from aimonk_bench.data.tokens import is_missing
from aimonk_bench.errors import UserError

STATES = {1: "1", 0: "0", None: "NA"}
TEXT = "a.jpg 1 NA\nb.jpg 0 1\n"


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


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
    groups = draw(st.lists(word.filter(lambda text: not is_missing(text)), min_size=len(names), max_size=len(names)))
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
    return out.getvalue(), {
        "importer": "label_list",
        "attributes": attributes,
        "absent": "negative",
        "tag_separator": separator,
    }


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
def test_every_format_round_trips(form: str, table: Table, bom: bool, end: str, last: bool, scratch: Path) -> None:
    names, attributes, cells, groups = table
    content, options = FORMATS[form](table)
    content = content.rstrip("\n").replace("\n", end) + (end if last else "")
    loaded = read(scratch, b"\xef\xbb\xbf" * bom + content.encode(), "round", **options)
    assert loaded.ids == tuple(names)
    assert loaded.labels.attributes == tuple(attributes)
    wanted = [[int(cell or 0) for cell in row] for row in cells] if "list" in form else cells
    assert states(loaded.labels) == wanted
    assert not loaded.labels.targets[~loaded.labels.observed].any()
    assert loaded.groups == (tuple(groups) if "jsonl" in form or "csv" in form else None)
    step, header = end.count("\n"), "csv" in form or "list" in form
    assert loaded.lines.tolist() == [1 + step * (header + row) for row in range(len(names))]


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
        loaded = read(
            scratch,
            content,
            "hostile",
            importer=importer,
            absent="missing" if importer in ("label_list", "long_csv", "coco") else None,
        )
    except UserError as error:
        message = error.problems
        assert [p for p in message if not p.startswith((f"{scratch / 'hostile'}:", "data.absent:"))] == []
    else:
        shape = (len(loaded.ids), len(loaded.labels.attributes))
        assert loaded.labels.targets.shape == loaded.labels.observed.shape == shape
        assert loaded.ids


def test_labels_txt_has_no_groups(tmp_path: Path) -> None:
    assert problems(tmp_path, TEXT, group="g")[0].startswith("data.group: found 'g', expected null")


def test_a_short_first_line_is_blamed_alone(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "a.jpg 1\nb.jpg 1 0\nc.jpg 1 0\n")) == 1


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("image,x,x\na,1,0\n", {}, "l.csv:1: column 'x' stands 2 times in the header"),
        ("image,macro\na,1\n", {}, "l.csv:1: found an attribute named 'macro'"),
        ("image,,x\na,1,1\n", {}, "l.csv:1: found an attribute without a name"),
        ("image\na\n", {}, "l.csv:1: found no attribute beside the columns image"),
        (
            "\nimage,smile\na,1\n",
            {"attributes": ["smle"]},
            "l.csv:2: no column 'smle' (data.attributes) (did you mean smile?)",
        ),
        ("image,x\na,1\n", {"group": "g"}, "l.csv:1: no column 'g' (data.group)"),
        ("image,x\na,1\n", {"id": "img"}, "l.csv:1: no column 'img' (data.id)"),
        (
            "image,x\na,1\n",
            {"attributes": ["image"]},
            "l.csv:1: column 'image' is named by data.id and by data.attributes",
        ),
        ("image,x\na,1,0\n", {}, "l.csv:2: found 3 columns (separator comma), expected 2"),
        ('image,x\n"a"b,1\nc,2\n', {}, "l.csv:2: malformed record"),
        ('"image"s,x\na,1\n', {}, "l.csv:1: malformed record"),
        ('image,x\na,1\n"b,1\nc,1\n', {}, "l.csv:3: malformed record: unexpected end of data"),
        ("image,x\n,1\n", {}, "l.csv:2: the name of the image is empty"),
        ('"image, its name, or so";x\na;9\n', {}, "l.csv:2: attribute x: found '9'"),
        ('image,x\n"two\nlines",1\nb,2\n', {}, "l.csv:2: image 'two\\nlines'"),
        ("image,x\na,1\n", {"absent": "missing"}, "data.absent: found 'missing', expected null"),
        ("image,tags\na,x\n", {}, "data.absent: found null, expected negative or missing"),
        (
            "image,tags\na,cat|dgo\n",
            {"absent": "missing", "attributes": ["cat", "dog"]},
            "l.csv:2: found tags that data.attributes does not name: 'dgo'",
        ),
        ("image,tags\na,macro\n", {"absent": "missing"}, "l.csv:2: found an attribute named 'macro'"),
        ("image,x\n", {}, "l.csv:1: found no image"),
    ],
)
def test_problems_of_tables(tmp_path: Path, content: str, options: dict[str, Any], message: str) -> None:
    messages = problems(tmp_path, content, "l.csv", **options)
    assert messages[0].startswith(message), messages


def test_line_numbers_after_a_quoted_line_break(tmp_path: Path) -> None:
    messages = problems(tmp_path, 'image,note,x\na,"two\r\n\r\nlines",1\nb,,9\n', "l.csv", attributes=["x"])
    assert [line.split(": ")[0] for line in messages] == ["l.csv:5"]


@pytest.mark.parametrize(
    ("line", "message"),
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
        ('{"image": "a", "labels": {"x": 1.5}}', "attribute x: found '1.5'"),
        ('{"image": "a", "labels": {"x": ' + "1" * 9000 + "}}", "attribute x: found '1111"),
        ('{"image": "a\\u0000", "labels": {"x": 1}}', "image 'a\\x00': the name contains a control"),
        ('{"image": "\\ud800", "labels": {"x": 1}}', "image '\\ud800': the name contains a control"),
        ('{"image": "a", "labels": {"\\ud800": 1}}', "found an attribute named '\\ud800'"),
        ('{"image": "a", "labels": {"x": 1}, "group": {}}', "'group' must be a string"),
    ],
)
def test_problems_of_jsonl(tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str, message: str) -> None:
    messages = problems(tmp_path, '{"image": "ok", "labels": {"x": 0}}\n' + line, "l.jsonl")
    assert messages[0].startswith(f"l.jsonl:2: {message}"), messages
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_jsonl_reads_true_and_false_null_numbers_and_absent_keys(tmp_path: Path) -> None:
    rows = [{"x": True, "y": None}, {"y": 0, "z": "1"}, {"x": False}]
    text = "\n".join(json.dumps({"image": str(n), "labels": row}) for n, row in enumerate(rows))
    loaded = read(tmp_path, text, "l.jsonl")
    assert loaded.labels.attributes == ("x", "y", "z")
    assert states(loaded.labels) == [[1, None, None], [None, 0, 1], [0, None, None]]
    assert problems(tmp_path, text, "l.jsonl", attributes=["x", "y"])[0].startswith(
        "l.jsonl:2: undeclared attribute 'z'"
    )


def test_a_tag_that_is_absent_means_what_the_config_says(tmp_path: Path) -> None:
    for absent, value in (("negative", 0), ("missing", None)):
        loaded = read(tmp_path, "image,tags\na,y|x\nb,\n", absent=absent)
        assert loaded.labels.attributes == ("x", "y")
        assert states(loaded.labels) == [[1, 1], [value, value]]


@pytest.mark.parametrize(
    ("name", "content", "importer"),
    [
        ("a.txt", TEXT, "labels_txt"),
        ("a.txt", "a.jpg\t1\t0\n", "labels_txt"),
        ("a.txt", "image;x\na;1\n", "wide_csv"),
        ("a.tsv", "image\tx\na\t1\n", "wide_csv"),
        ("a.txt", '\n{"image": "a", "labels": {"x": 1}}', "jsonl"),
        ("a.jsonl", '{"image": "a", "x": 1}', "wide_csv"),
        ("a.jsonl", '{"image": "a", "labels": ["x"]}', "label_list"),
        ("a.csv", "Id,Labels,fold\na,No Finding,0\nb,Mass|No Finding,1\n", "label_list"),
        ("a.ndjson", '{"image": "a", "labels": {"x": 1}}', "jsonl"),
        ("a.csv", '"image";"tags"\na;x y\nb;x\n', "label_list"),
    ],
)
def test_auto_names_its_decision(tmp_path: Path, name: str, content: str, importer: str) -> None:
    absent = "missing" if importer == "label_list" else None
    assert read(tmp_path, content, name, absent=absent).notes[0].startswith(f"importer: {importer} (auto: ")
    assert (
        read(tmp_path, content, name, absent=absent, importer=importer).notes[0].startswith(f"importer: {importer}; ")
    )


def test_a_wrong_guess_can_be_recognised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    problems(tmp_path, "image\tx\na\t7\n")
    assert "importer: wide_csv (auto: " in caplog.text


@pytest.mark.parametrize(
    ("text", "options", "attributes", "wanted"),
    [
        ("image_name,tags\na,x y\nb,x\n", {}, ("x", "y"), [[1, 1], [1, 0]]),
        ("Id,Target\na,cat|dog\nb,dog\n", {}, ("cat", "dog"), [[1, 1], [0, 1]]),
        ("image,labels\na.png,No Mass\nb.png,Mass|Edema\n", {}, ("Edema", "Mass", "No Mass"), [[0, 0, 1], [1, 1, 0]]),
        ("image;age;tags\na;30;x,y\nb;40;\n", {}, ("x", "y"), [[1, 1], [0, 0]]),
        ("image,words,tags\na,no,x\nb,no,y\n", {"tags": "tags", "id": "image"}, ("x", "y"), [[1, 0], [0, 1]]),
        ("image,tags\na,x\nb,NA\n", {}, ("x",), [[1], [None]]),
        ("image,tags\na,x/y\nb,y\n", {"tag_separator": "/"}, ("x", "y"), [[1, 1], [0, 1]]),
        ("image,tags\na,x|z\nb,y\n", {"attributes": ["y", "x"], "other_tags": "ignore"}, ("y", "x"), [[0, 1], [1, 0]]),
        ("a.png,x|y\nb.png,y\n", {}, ("x", "y"), [[1, 1], [0, 1]]),
    ],
)  # fmt: skip
def test_columns_of_tags_have_any_names(
    tmp_path: Path, text: str, options: dict[str, Any], attributes: tuple[str, ...], wanted: list[list[int | None]]
) -> None:
    loaded = read(tmp_path, text, "l.csv", absent="negative", **options)
    assert (loaded.labels.attributes, states(loaded.labels)) == (attributes, wanted)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("l.json", '[{"image": "a", "labels": {"x": 1}}]', "a JSON array"),
        ("l.txt", '[\n  {"image": "a", "labels": {"x": 1}}\n]', "a JSON array"),
        ("l.json", '{\n  "a.jpg": 1\n}', "a JSON object over several lines"),
        ("l.jsonl", "[\n]", "a JSON array"),
    ],
)
def test_a_json_document_is_one_problem(tmp_path: Path, name: str, text: str, found: str) -> None:
    [message] = problems(tmp_path, text, name)
    assert message.startswith(f"{name}:1: found {found}, expected one object per line")


def test_the_same_problem_in_every_line_is_told_once(tmp_path: Path) -> None:
    text = "".join(f'{{"image": "{n}.jpg", "labels": {{"x": 1}}, "fold": 3}}\n' for n in range(50))
    [message] = problems(tmp_path, text, "l.jsonl")
    assert message.startswith("l.jsonl:1: unknown key 'fold'")
    assert message.endswith("(and in 49 more lines: 2, 3, 4, ...)")


def test_classes_that_are_numbers_are_tags_where_absent_is_set(tmp_path: Path) -> None:
    text = "image,class\n" + "".join(f"{n}.png,{n % 4}\n" for n in range(8))
    loaded = read(tmp_path, text, "l.csv", absent="negative")
    assert loaded.labels.attributes == ("0", "1", "2", "3")
    assert states(loaded.labels)[2] == [0, 0, 1, 0]
    [message] = problems(tmp_path, "image,class\n0.png,0\n1.png,1\n", "l.csv", absent="negative")
    assert "importers that do: label_list" in message
    assert "set data.importer if that is wrong" in message


@pytest.mark.parametrize(
    ("header", "others"),
    [("image,tag1,tag2", ["tag2"]), ("image,label,label.1", ["label.1"]), ("image,main,second", ["second"])],
)
def test_tags_in_other_columns_are_warned_about(
    header: str, others: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = header.split(",")[1]
    text = f"{header}\na.png,rust,dent\nb.png,dent,\nc.png,hole,rust\n"
    read(tmp_path, text, "l.csv", tags=first, absent="negative")
    assert f"only {first!r} is read, but tags stand in {', '.join(map(repr, others))} too" in caplog.text
    table = pd.read_csv(tmp_path / "l.csv")
    [line] = re.findall(r"`(table.*?)`", caplog.text)
    exec(line, {"table": table})
    caplog.clear()
    labels = read(
        tmp_path, table[["image", "tags"]].to_csv(index=False), "l.csv", tags="tags", absent="negative"
    ).labels
    assert (labels.attributes, states(labels)) == (("dent", "hole", "rust"), [[1, 0, 1], [1, 0, 0], [0, 1, 1]])
    assert not caplog.records


def test_a_json_document_is_no_table(tmp_path: Path) -> None:
    text = '{"images": [{"id": 1, "file_name": "a.png"}], "categories": []}'
    assert "l.json:1: 'labels' must be an object with a value per attribute" in problems(tmp_path, text, "l.json")


def test_other_columns_hold_no_tags(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "image,tags,site,x,caption\na.png,rust,north,1,a rusty door\nb.png,dent,south,0,a wall\n"
    read(tmp_path, text, "l.csv", tags="tags", absent="negative")
    assert not caplog.records
