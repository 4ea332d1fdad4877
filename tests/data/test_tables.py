"""Tables: the dialect of a file is found, and what is written in any dialect is read back."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimonk_bench.data import frames, tables
from aimonk_bench.data.tables import Table, read_table
from aimonk_bench.errors import UserError

EXAMPLES = 5000 if os.environ.get("AIMONK_BENCH_FULL") else 200
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "white space": " "}


def read(folder: Path, content: str | bytes, name: str = "labels.txt", **options: str | bool | None) -> Table:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(file, **options)  # type: ignore[arg-type]


def rows(table: Table) -> list[list[str]]:
    return [list(row) for row in zip(*(np.asarray(column, object) for column in table.columns), strict=True)]


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.mark.parametrize(
    ("content", "names", "cells"),
    [
        # the separator
        ("image;Kratzer, tief;Riss, fein, lang\na.png;1;0\n", ["image", "Kratzer, tief", "Riss, fein, lang"], 1),
        ("image, x\na.png ,1\n", ["image", "x"], [["a.png", "1"]]),
        ('image, "x, y"\na.png, 1\n', ["image", "x, y"], [["a.png", "1"]]),
        ("my cat.jpg\t1\na.jpg\t0\n", ["image", "attr1"], [["my cat.jpg", "1"], ["a.jpg", "0"]]),
        ("my cat.jpg\t1\t0\nmy dog.jpg\t0\t1\n", ["image", "attr1", "attr2"], 2),
        ("a.jpg\t1 0\nb.jpg\t0 1\n", ["image", "attr1", "attr2"], [["a.jpg", "1", "0"], ["b.jpg", "0", "1"]]),
        ("a.jpg\t1,0\nb.jpg\t0,1\n", ["image", "attr1", "attr2"], [["a.jpg", "1", "0"], ["b.jpg", "0", "1"]]),
        ("a b.jpg 1,0\nb.jpg 0,1\n", ["image", "attr1", "attr2"], [["a b.jpg", "1", "0"], ["b.jpg", "0", "1"]]),
        ("a,b.jpg 1 0\nc,d.jpg 0 1\n", ["image", "attr1", "attr2"], [["a,b.jpg", "1", "0"], ["c,d.jpg", "0", "1"]]),
        ("a.png;0,5\nb.png;1,0\n", ["image", "attr1"], [["a.png", "0,5"], ["b.png", "1,0"]]),
        ("a.png,cat;dog\nb.png,dog;cat\n", ["image", "attr1"], [["a.png", "cat;dog"], ["b.png", "dog;cat"]]),
        ("sep=;\nimage;x,y\na.png;1\n", ["image", "x,y"], [["a.png", "1"]]),
        ('"sep=\t"\nimage\tx\na.png\t1\n', ["image", "x"], [["a.png", "1"]]),
        # the header
        ("0.png,0\n1.png,1\n", ["image", "attr1"], [["0.png", "0"], ["1.png", "1"]]),
        ("17,0\n18,1\n", ["image", "attr1"], [["17", "0"], ["18", "1"]]),
        ("id,x\n17,0\n18,1\n", ["id", "x"], [["17", "0"], ["18", "1"]]),
        ("image,1,2\na.png,0,1\n", ["image", "1", "2"], [["a.png", "0", "1"]]),
        ("image,y,t,unknown\na,0,1,1\nb,1,1,0\n", ["image", "y", "t", "unknown"], 2),
        ("image x y\na.png 1 0\n", ["image", "x", "y"], [["a.png", "1", "0"]]),
        ("a.png 1 NA\n", ["image", "attr1", "attr2"], [["a.png", "1", "NA"]]),
        ("a.png,NA,NA\nb.png,1,0\n", ["image", "attr1", "attr2"], 2),
        ("image,tags\na.png,cat\n", ["image", "tags"], [["a.png", "cat"]]),
        ("a.png,cat\nb.png,dog\n", ["image", "attr1"], 2),
        ("2\nsmile\n1.jpg 1\n2.jpg -1\n", ["", "smile"], [["1.jpg", "1"], ["2.jpg", "-1"]]),
        ("2\nx\ty\n1.jpg\t1\t0\n2.jpg\t0\t1\n", ["", "x", "y"], 2),
        ('"image" "x y"\n"1" "a b.png" 1\n"2" "c.png" NA\n', ["image", "x y"], [["a b.png", "1"], ["c.png", "NA"]]),
        ('"image","x"\n"1","a.png",1\n"2","b.png",0\n', ["image", "x"], [["a.png", "1"], ["b.png", "0"]]),
        ("My labels, of 2024\nimage;x;y\na.png;1;0\n", ["image", "x", "y"], [["a.png", "1", "0"]]),
        ("My labels;;\n\n% more\nimage;x;y\na.png;1;0\n", ["image", "x", "y"], [["a.png", "1", "0"]]),
        ("my cat;;\nmy dog;1;0\nmy cow;0;1\n", ["image", "attr1", "attr2"], 3),
        ("2\nsmile old\n1.jpg -1  1\n2.jpg  1 -1\n", ["", "smile", "old"], 2),
        # comments, which a name may look like
        ("# made by me, 2024\nimage,x\na.png,1\n", ["image", "x"], [["a.png", "1"]]),
        ("# made by me, in spring\na.png,1\nb.png,0\n", ["image", "attr1"], 2),
        ("image,x\n# the second half\na.png,1\n", ["image", "x"], [["a.png", "1"]]),
        ("#filename,x\na.png,1\n", ["filename", "x"], [["a.png", "1"]]),
        ("#1.jpg 1 0\n#2.jpg 0 1\n", ["image", "attr1", "attr2"], 2),
        ("#image,N,D,G\na.png,1,0,1\nb.png,0,1,1\n", ["image", "N", "D", "G"], 2),
        ("#image,N,D\na,1,0\nb,0,1\n", ["image", "N", "D"], 2),
        ("# made by me, 2024\n#Image,2019\na,1\nb,0\n", ["Image", "2019"], 2),
        ("# image 2019 2020\na.png 1 0\nb.png 0 1\n", ["image", "2019", "2020"], 2),
        ("#\timage\tx\n1\ta.png\t1\n2\tb.png\t0\n", ["image", "x"], [["a.png", "1"], ["b.png", "0"]]),
        ("# a.png 1 0\nb.png 0 1\nc.png 1 1\n", ["image", "attr1", "attr2"], 2),
        ("#v2,2019\na.png,1\nb.png,0\n", ["image", "attr1"], 2),
        ("Labels\n# 2024\n\nimage,x\na.png,1\nb.png,0\n", ["image", "x"], 2),
        ("Plant,7\nDate,2024\n\nimage,x,y\na.png,1,0\nb.png,0,1\nc.png,1,1\n", ["image", "x", "y"], 3),
        ("标签;;\nimage;x;y\na.png;1;0\n", ["image", "x", "y"], [["a.png", "1", "0"]]),
        (";Labels;\nimage;x;y\na.png;1;0\n", ["image", "x", "y"], [["a.png", "1", "0"]]),
        # numbers as names
        ("sample,0,1\nab0,1,0\nab1,0,1\n", ["sample", "0", "1"], 2),
        (",0,1\nab0,1,0\nab1,0,1\n", ["", "0", "1"], 2),
        ("sample_id 1 2 3\n17 1 0 0\n18 0 1 1\n", ["sample_id", "1", "2", "3"], 2),
        ("ab,0,1\nab0,1,0\nab1,0,1\n", ["image", "attr1", "attr2"], 3),
        ("dog,0,1\ncat5,1,0\nbird9,1,1\n", ["image", "attr1", "attr2"], 3),
        ("sample,1,1\nab0,1,0\nab1,0,1\n", ["image", "attr1", "attr2"], 3),
        # a name and its tags
        ("a.png cat dog\nb.png cat\nc.png\nd.png owl cat dog\n", ["image", "attr1"],
         [["a.png", "cat dog"], ["b.png", "cat"], ["c.png", ""], ["d.png", "owl cat dog"]]),
        ("image,tags\na.png,cat,dog\nb.png,cat\n", ["image", "tags"], [["a.png", "cat,dog"], ["b.png", "cat"]]),
        ("17 cat dog\n18 cat\n19 dog cat owl owl\n", ["image", "attr1"],
         [["17", "cat dog"], ["18", "cat"], ["19", "dog cat owl owl"]]),
        ("a.png,cat\nb.png,dog,\nc.png,owl\n", ["image", "attr1"],
         [["a.png", "cat"], ["b.png", "dog"], ["c.png", "owl"]]),
        # what is left out
        ("image;x;y;;\na.png;1;0;;\n;;;;\n", ["image", "x", "y"], [["a.png", "1", "0"]]),
        ("image,x\na.png,1,\n", ["image", "x"], [["a.png", "1"]]),
        ("image,x,y\na.png,1,0\n,\nb.png,0,1\n,,,,\n", ["image", "x", "y"], 2),
        ("image,,x\na.png,,1\n", ["image", "x"], [["a.png", "1"]]),
        ("a.png;1;;\nb.png;0;;\n", ["image", "attr1"], [["a.png", "1"], ["b.png", "0"]]),
        (",image,x\n0,a.png,1\n1,b.png,0\n", ["image", "x"], [["a.png", "1"], ["b.png", "0"]]),
        (",image,x\n7,a.png,1\n3,b.png,0\n", ["image", "x"], 2),
        ("Unnamed: 0,image,x\n0,a,1\n1,b,0\n", ["image", "x"], [["a", "1"], ["b", "0"]]),
        (",Unnamed: 0,image,x\n0,5,a.png,1\n1,7,b.png,0\n", ["image", "x"], 2),
        ("Unnamed: 0.1,Unnamed: 0,id,x\n0,0,7,1\n1,1,8,0\n", ["id", "x"], [["7", "1"], ["8", "0"]]),
        (",x,y\na.png,0,1\nb.png,1,1\n", ["", "x", "y"], [["a.png", "0", "1"], ["b.png", "1", "1"]]),
        (",x,y\n0,0,1\n1,1,1\n", ["", "x", "y"], [["0", "0", "1"], ["1", "1", "1"]]),
        # cells
        ("image,note,x\na.png," + "z" * 200_000 + ",1\n", ["image", "note", "x"], 1),
        ('image,note,x\na.png,"two\n\nlines",1\n', ["image", "note", "x"], [["a.png", "two\n\nlines", "1"]]),
    ],
)  # fmt: skip
def test_the_dialect_of_a_table_is_found(
    tmp_path: Path, content: str, names: list[str], cells: int | list[list[str]]
) -> None:
    table = read(tmp_path, content)
    assert table.problems == ()
    assert list(table.names) == names
    assert len(rows(table)) == cells if isinstance(cells, int) else rows(table) == cells


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("image;x;;\na.png;1;;\n", "2 nameless columns"),
        ("image,,x\na.png,,1\n", "1 nameless empty column left out (2)"),
        ("image;x\na.png;1\n;\n;\n", "2 empty rows left out (lines 3, 4)"),
        ("image;x;y\na.png;1;0\n;\n;;\n", "2 empty rows left out (lines 3, 4)"),
        ("a.png cat dog\nb.png cat\n", "rows of different widths and no labels in them"),
        (",image,x\n0,a.png,1\n", "column 1 (nameless) numbers the rows"),
        ("# mine\nimage,x\na.png,1\n", "1 comment line above the table"),
        ("image,x\n# mine\na.png,1\n", "1 comment line left out (line 2)"),
        ("1\nsmile old\n1.jpg -1 1\n", "line 1 is a number of rows: 1"),
        ("smile old\n1.jpg -1 1\n", "the header has 2 names for 3 columns"),
        ("Labels of 2024\nimage;x\na.png;1\n", "line 1 is a title, left out: 'Labels of 2024'"),
        ("sep=;\nimage;x\na.png;1\n", "line 1 declares the separator semicolon"),
    ],
)
def test_what_is_left_out_is_said(tmp_path: Path, content: str, note: str) -> None:
    assert any(text.startswith(note) for text in read(tmp_path, content).notes), read(tmp_path, content).notes


def test_the_config_decides_before_the_cells(tmp_path: Path) -> None:
    assert read(tmp_path, "a|1\nb|0\n", separator="|", header=False).names == ("image", "attr1")
    assert read(tmp_path, "sep=;\na,b;1\n", separator=",", header=True).names == ("a", "b;1")
    assert read(tmp_path, "0.png,0\n1.png,1\n", header=True).names == ("0.png", "0")
    assert rows(read(tmp_path, "image,x\na.png,1\n", header=False))[0] == ["image", "x"]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    table = read(tmp_path, 'sep=,\n\nimage,x\r\n"a\r\n.png",1\r\n\r\n,\r\nb.png,1\r\n')
    assert (table.header_line, table.lines.tolist()) == (3, [4, 8])


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ("image,x\na.png,1,0\nb.png,1\n", {2: "found 3 columns (separator comma), expected 2"}),
        ("a.png 1 0\nb.png 1\nc.png 1\nd.png 0 0\ne.png 0 1\n", {2: "found a name and 1 token, expected 2 (and 1 "}),
        (
            "image,x,\na.png,1,0\nb.png,1,\n",
            {2: "found 3 columns (separator comma), expected 2; column 3 has no name in the header"},
        ),
        ("image x\na.png 1 0\nb.png 0 1\n", {2: "found a name and 2 tokens, expected 1"}),
        ("case,x\na.png,1,0\nb.png,0,1\n", {2: "found 3 columns (separator comma), expected 2"}),
        ("image,x\na.png,1,0\nb.png,0,1\n", {2: "found 3 columns (separator comma), expected 2"}),
        ('image,x\n"a"b,1\nc,2\n', {2: "malformed record"}),
        ('image,x\na,1\n"b,1\nc,1\n', {3: "malformed record"}),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_read_are_one_problem_for_each_width(
    tmp_path: Path, content: str, problems: dict[int, str]
) -> None:
    reported = read(tmp_path, content).problems
    assert [line for line, _ in reported] == [*problems]
    assert all(text.startswith(problems[line]) for line, text in reported), reported


Written = tuple[list[str], list[list[str]], bytes]  # names, cells, the file


@st.composite
def written(draw: st.DrawFn) -> Written:
    """A table, and a file that holds it in some dialect."""
    separator = draw(st.sampled_from([*SEPARATORS.values()]))
    blank = "" if separator == " " else " "
    safe = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]) | st.sampled_from(f",;#'{blank}" + '"')
    name = st.text(safe, min_size=1, max_size=6).map(lambda text: f"p{text.strip()}.jpg")
    if separator == " ":
        name = name.filter(lambda text: text.split() == [text])
    names = draw(st.lists(name, min_size=1, max_size=6, unique=True))
    word = st.text(st.characters(categories=["L", "N"], codec="utf-8"), min_size=1, max_size=6)
    attributes = draw(st.lists(word, min_size=1, max_size=4, unique=True))
    tokens = ["1", "0", "NA", "yes"] + ([] if separator == " " else [""])
    column = st.lists(st.sampled_from(tokens), min_size=len(names), max_size=len(names)).filter(any)
    cells = [list(row) for row in zip(names, *(draw(column) for _ in attributes), strict=True)]
    header = draw(st.booleans())
    index = header and separator != " " and draw(st.booleans())
    empty = draw(st.integers(0, 2)) if separator != " " else 0
    out = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(out, delimiter=separator, lineterminator="\n", quoting=quoting)
    table = [["image", *attributes], *cells] if header else cells
    if index:
        table = [["", *table[0]], *([str(number), *row] for number, row in enumerate(cells))]
    for row in table:
        if separator == " ":
            out.write(" ".join(row) + "\n")
        else:
            writer.writerow([*row, *[""] * empty])
    text = draw(st.sampled_from(["", "# made by me, in spring\n", "\n"])) + out.getvalue()
    if separator != " " and draw(st.booleans()):
        text = f"sep={separator}\n{text}"
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n", "\n\n"])))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    return (
        [*(table[0][index:] if header else ["image", *(f"attr{n + 1}" for n in range(len(attributes)))])],
        cells,
        (text.encode(encoding)),
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(case=written())
def test_a_table_in_any_dialect_is_read_back(case: Written, scratch: Path) -> None:
    names, cells, content = case
    table = read(scratch, content, "round.csv")
    assert table.problems == ()
    assert list(table.names) == names
    assert rows(table) == cells


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.text(st.sampled_from('ab.jpg#/\\ 01NA\n\r\t,;|"=sep-\u2028\x0b\xa0é'), max_size=120).map(str.encode),
    ),
    separator=st.sampled_from([None, ",", " ", "|"]),
    header=st.sampled_from([None, True, False]),
)
def test_any_bytes_give_a_table_or_a_user_error(
    content: bytes, separator: str | None, header: bool | None, scratch: Path
) -> None:
    try:
        table = read(scratch, content, "hostile.csv", separator=separator, header=header)
    except UserError as error:
        message = error.problems
        assert [line for line in message if not line.startswith(f"{scratch / 'hostile.csv'}:")] == []
    else:
        assert len(table.names) == len(table.columns) >= 1
        assert {len(column) for column in table.columns} == {len(table.lines)}


def test_frames_are_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = pd.DataFrame([["image", "x", "seen"], ["a.png", 1.0, True], ["b.png", None, False]])
    with pd.ExcelWriter(tmp_path / "l.xlsx") as workbook:
        sheet.to_excel(workbook, sheet_name="labels", header=False, index=False)
        sheet.to_excel(workbook, sheet_name="old", header=False, index=False)
    excel = read_table(tmp_path / "l.xlsx")
    assert (excel.names, rows(excel), excel.lines.tolist(), excel.notes) == (
        ("image", "x", "seen"),
        [["a.png", "1", "1"], ["b.png", "", "0"]],
        [2, 3],
        (),
    )
    assert str(excel.dialect) == "sheet 'labels' is read, not 'old' (to read another, move it to the front), header"
    sheet.iloc[1:].to_excel(tmp_path / "l.xlsx", header=["image", "x", "seen"])
    assert read_table(tmp_path / "l.xlsx").names == ("image", "x", "seen")  # without the index
    frame = pd.DataFrame({"image": ["a", "b"], "x": [True, False], "tags": [["cat", "dog"], []]})
    monkeypatch.setattr(pd, "read_parquet", lambda path: frame)
    assert rows(read_table(tmp_path / "l.parquet")) == [["a", "1", '["cat", "dog"]'], ["b", "0", "[]"]]
    for index in (pd.Index(["a", "b"], name="image"), pd.Index(["a", "b"])):
        monkeypatch.setattr(pd, "read_parquet", lambda path, index=index: pd.DataFrame({"x": [1, 0]}, index))
        assert rows(read_table(tmp_path / "l.parquet")) == [["a", "1"], ["b", "0"]]
    monkeypatch.setattr(pd, "read_parquet", lambda path: frame.loc[[1]])  # a part of a table keeps its row numbers
    assert rows(read_table(tmp_path / "l.parquet")) == [["b", "0", "[]"]]
    with pytest.raises(UserError, match=r"data\.separator: found ',', expected null for a \.parquet file"):
        read_table(tmp_path / "l.parquet", separator=",")


def test_parquet_files_are_tables(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    frame = pd.DataFrame({"x": [1.0, None], "seen": [True, False]}, pd.Index(["a", "b"], name="image"))
    frame.to_parquet(tmp_path / "l.parquet")
    assert rows(read_table(tmp_path / "l.parquet")) == [["a", "1.0", "1"], ["b", "", "0"]]


def test_chunks_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK", 2)
    table = read(tmp_path, "".join(f"{n}.png {n % 2}\n" for n in range(5)))
    assert rows(table) == [[f"{n}.png", str(n % 2)] for n in range(5)]
    assert frames.SUFFIXES == (".xlsx", ".parquet")


@pytest.mark.parametrize("pair", ["''", '""', "\u2018\u2019", "\u201c\u201d", '=""'])
def test_quotes_around_a_cell_are_no_part_of_it(tmp_path: Path, pair: str) -> None:
    begin, end = pair[:-1], pair[-1]
    lines = [[f"{begin}{cell}{end}" for cell in row] for row in (["image", "x"], ["a.png", "1"], ["b.png", ""])]
    table = read(tmp_path, "".join("\t".join(row) + "\n" for row in lines), "l.tsv")
    assert (table.names, rows(table)) == (("image", "x"), [["a.png", "1"], ["b.png", ""]])
    headless = read(tmp_path, "".join("\t".join(row) + "\n" for row in lines[1:]), "l.tsv")
    assert (headless.dialect.header, rows(headless)) == (False, [["a.png", "1"], ["b.png", ""]])


def test_a_quote_inside_a_cell_stays(tmp_path: Path) -> None:
    assert rows(read(tmp_path, "image,x\na.png,it's\nb.png,'a' 'b'\n", "l.csv"))[1] == ["b.png", "'a' 'b'"]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a.png rust dent\nb.png rust\nc.png\n", ["rust dent", "rust", ""]),
        ("a.png,rust, dent\nb.png,rust\n", ["rust,dent", "rust"]),
        ("image,tags\na.png,rust,dent,hole\nb.png,rust\nc.png,hole\n", ["rust,dent,hole", "rust", "hole"]),
        ("a rust dent\nb rust\nc dent rust hole\nd hole\n", ["rust dent", "rust", "dent rust hole", "hole"]),
        ("a.png 3 17\nb.png 5\nc.png 17 1 4\n", ["3 17", "5", "17 1 4"]),
    ],
)
def test_rows_of_different_lengths_are_names_with_tags(tmp_path: Path, text: str, cells: list[str]) -> None:
    assert [row[1].replace(", ", ",") for row in rows(read(tmp_path, text))] == cells


@pytest.mark.parametrize(
    "text", ["a.png 1 0\nb.png 1\n", "a.png yes no\nb.png no\n", "image,x,y\na.png,p,q\nb.png,p\n"]
)
def test_a_row_that_lacks_a_label_is_a_problem(tmp_path: Path, text: str) -> None:
    assert len(read(tmp_path, text).problems) == 1


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("2\n1 0\n2 1\n", ["1", "2"]),
        ("2\nx y\na.png 1 0\nb.png 0 1\n", ["a.png", "b.png"]),
        ("200\nx y\na.png 1 0\nb.png 0 1\n", ["a.png", "b.png"]),  # a part of the published file
        ("17\t\n18\tcat\n19\tdog\n", ["17", "18", "19"]),
    ],
)
def test_a_number_above_rows_is_their_count_or_an_image(tmp_path: Path, text: str, names: list[str]) -> None:
    assert [row[0] for row in rows(read(tmp_path, text))] == names


def test_an_image_without_a_cell_is_no_count_but_a_problem(tmp_path: Path) -> None:
    assert len(read(tmp_path, "17\n18 cat\n19 dog\n").problems) == 1
