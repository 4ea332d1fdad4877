"""Bytes to text: byte order marks, declared encodings, and the likely one where a file is no UTF-8."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from label_files import problems, read

from aimonk_bench.config.fields import DataConfig
from aimonk_bench.data.tables import read_table
from aimonk_bench.data.text import likely_encodings, read_text
from aimonk_bench.errors import UserError

TEXT = "image,größe\ncafé.png,1\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marked_text_and_utf8_are_read(tmp_path: Path, encoding: str) -> None:
    loaded = read(tmp_path, TEXT.encode(encoding), "l.csv")
    assert (loaded.ids, loaded.labels.attributes) == (("café.png",), ("größe",))


@pytest.mark.parametrize(
    ("content", "kind", "fix"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00\xe9", "Excel", ".xlsx"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel", ".csv"),
        (
            b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet",
            "OpenDocument",
            ".xlsx",
        ),
        (b"PAR1\x15\x04", "Parquet", ".parquet"),
        (b"\x1f\x8b\x08\x00", "gzip", "unpack"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "HTML", "download"),
    ],
)
def test_files_of_other_formats_are_named(tmp_path: Path, content: bytes, kind: str, fix: str) -> None:
    [message] = problems(tmp_path, content, "l.csv")
    assert message.startswith("l.csv:1: found ")
    assert kind in message
    assert fix in message


def test_a_damaged_line_is_no_reason_for_another_encoding(tmp_path: Path) -> None:
    [message] = problems(tmp_path, TEXT.encode() + b"\xff.png,0\n", "l.csv")
    assert message.startswith("l.csv:3:1: found the byte 0xff, expected text in UTF-8, as the text before it is")
    assert "encoding:" not in message


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_both_byte_orders_are_read(tmp_path: Path, mark: bytes) -> None:
    content = TEXT.encode("utf-16-le" if mark == b"\xff\xfe" else "utf-16-be")
    assert read(tmp_path, mark + content, "l.csv").ids == ("café.png",)


@pytest.mark.parametrize(
    ("encoding", "proposed", "place"),
    [("cp1252", "cp1252", "1:9"), ("utf-16-le", "utf-16-le", "1:17"), ("utf-16-be", "utf-16-be", "1:18")],
)
def test_the_likely_encoding_is_named_and_works(tmp_path: Path, encoding: str, proposed: str, place: str) -> None:
    [message] = problems(tmp_path, TEXT.encode(encoding), "l.csv")
    assert message.startswith(f"l.csv:{place}: found ")
    [line] = re.findall(r"`(encoding: .*?)`", message)
    assert yaml.safe_load(line) == {"encoding": proposed}
    assert read(tmp_path, TEXT.encode(encoding), "l.csv", encoding=proposed).labels.attributes == ("größe",)


CHINESE = "图片,裂纹,划痕\n样品1.png,1,0\n样品2.png,0,1\n"
SAMPLES = {
    "cp1252": "image,Größe,à côté\ncafé_1.png,1,0\n",
    "cp1251": "Фото,рост,ЦВЕТ\nкадр1.png,1,0\n",
    "cp1253": "εικόνα,ρωγμή\na.png,1\n",
    "gb18030": CHINESE,
    "big5": "圖片,裂紋,刮傷\n樣品1.png,1,0\n",
    "shift_jis": "画像,ひび割れ,サビ\n写真1.png,1,0\n",
    "euc_kr": "사진,균열,긁힘\n시료1.png,1,0\n",
    "euc_jp": "画像,ひび割れ,サビ\n写真1.png,1,0\n",
}


@pytest.mark.parametrize("encoding", SAMPLES)
def test_the_encoding_of_a_script_is_named_and_shows_its_letters(tmp_path: Path, encoding: str) -> None:
    content = SAMPLES[encoding].encode(encoding)
    assert likely_encodings(content)[0] == encoding
    [message] = problems(tmp_path, content, "l.csv")
    assert message.startswith("l.csv:1:")
    assert f"`encoding: {encoding}`" in message
    assert f"in {encoding} as {SAMPLES[encoding].splitlines()[0]!r}" in message
    assert "as the text before it is" not in message
    header = SAMPLES[encoding].splitlines()[0].split(",")
    assert read_table(tmp_path / "l.csv", encoding=encoding).names == tuple(header)


@pytest.mark.parametrize("text", ["图片,裂纹\na.png,1\nb.png,0\n", "image,标签\na.png,1\n"])
def test_a_few_chinese_letters_are_no_utf8_and_gb18030_is_named(tmp_path: Path, text: str) -> None:
    [message] = problems(tmp_path, text.encode("gbk"), "l.csv")
    line = text.splitlines()[0]
    assert f"in gb18030 as {line!r}" in message


@pytest.mark.parametrize(("text", "encoding"), [("image,heat in °C\na.png,1\n", "cp1252"), ("image,größe\n\xff", None)])
def test_what_has_no_letters_or_is_damaged(text: str, encoding: str | None) -> None:
    content = text.encode("cp1252") if encoding else text.replace("\xff", "").encode() + b"\xff" * text.count("\xff")
    assert likely_encodings(content)[:1] == [encoding] * bool(encoding)


def test_an_unknown_script_is_not_called_latin(tmp_path: Path) -> None:
    [message] = problems(tmp_path, "ภาพ,รอยแตก\na.png,1\n".encode("cp874"), "l.csv")
    assert "cp1252" in message
    assert "probably" not in message
    assert "`encoding: NAME`" in message


def test_any_declared_encoding_is_read(tmp_path: Path) -> None:
    for encoding in ("gb18030", "shift_jis", "cp1251", "latin-1", "UTF_16"):
        text = {"cp1251": "image,рост\na.png,1\n", "latin-1": TEXT}.get(encoding, "image,犬\na.png,1\n")
        assert read(tmp_path, text.encode(encoding), "l.csv", encoding=encoding).ids[0].endswith(".png")


def test_a_mark_that_contradicts_the_config_is_an_error(tmp_path: Path) -> None:
    [message] = problems(tmp_path, TEXT.encode("utf-8-sig"), "l.csv", encoding="cp1252")
    assert message.startswith("l.csv:1:1: found a byte order mark of utf-8, but data.encoding is cp1252")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\x00", b"\x03\x04\x14\x00\x06\x00\xe9", b"a\x00b\xff\x01"])
def test_files_that_are_no_text_are_named_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "l.csv"
    file.write_bytes(content)
    with pytest.raises(UserError, match="no text file"):
        read_text(file)


@pytest.mark.parametrize("name", ["nonsense", "hex", "undefined", ""])
def test_an_encoding_that_python_lacks_is_a_problem_of_the_config(name: str) -> None:
    with pytest.raises(ValueError, match="an encoding such as utf-8"):
        DataConfig(labels=Path("l"), images=Path("i"), encoding=name)
