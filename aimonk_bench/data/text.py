"""Bytes of a label file to text: byte order marks, UTF-8, or the encoding that the config declares."""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Iterator
from pathlib import Path

from aimonk_bench.data.foreign import placeholder
from aimonk_bench.errors import UserError

BYTE_ORDER_MARKS = {  # the mark of UTF-32 begins with that of UTF-16: it comes first
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
FOREIGN = {  # beginning of a file -> what it is, and what to do
    b"PK\x03\x04": "an Excel file or a ZIP archive: give it the extension .xlsx, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save it as .xlsx or .csv",
    b"PAR1": "a Parquet file: give it the extension .parquet",
    b"\x1f\x8b": "a gzip file: unpack it",
    b"SQLite format 3": "an SQLite database: export the table as .csv",
    b"<?xml": "an XML file: write a table of images and labels, such as .csv",
}


@contextlib.contextmanager
def readable(path: Path, kind: str, otherwise: str = "") -> Iterator[None]:
    """A block that reads a file of this kind with a library.

    Raises:
        UserError: the file cannot be read, with the reason, and with what to do if it is of another kind.
    """
    try:
        yield
    except (UserError, ImportError):
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # libraries raise what the parts of a damaged file make them raise
        raise UserError(f"{path}: cannot be read as {kind}: {error}{otherwise}") from error


def read_text(path: Path, encoding: str | None = None) -> tuple[str, str]:
    """The text of a file and its encoding; every line ends with a line feed.

    Args:
        encoding: ``data.encoding``; null is UTF-8, or what the byte order mark says.

    Raises:
        UserError: the file cannot be read, is empty, or is no text in this encoding. The message names the encoding
            that is likely.
    """
    with readable(path, "text"):
        data = path.read_bytes()
    if kind := placeholder(data) or next((kind for start, kind in FOREIGN.items() if data.startswith(start)), None):
        raise UserError(f"{path}:1: found {kind}")
    mark = next((mark for mark in BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    marked = BYTE_ORDER_MARKS.get(mark)
    if marked and encoding and not marked.startswith(codecs.lookup(encoding).name.removesuffix("-sig")):
        raise UserError(
            f"{path}:1:1: found a byte order mark of {marked}, but data.encoding is {encoding}; "
            f"write under data: `encoding: {marked}`, or leave the key out"
        )
    data, name = data.removeprefix(mark), marked or encoding or "utf-8"
    try:
        text = data.decode(name)
    except UnicodeError as error:
        raise UserError(_undecodable(path, data, name, getattr(error, "start", 0))) from None
    if "\0" in text:
        raise UserError(_undecodable(path, data, name, data.find(b"\0")))
    if not text.strip():
        raise UserError(f"{path}:1: the file is empty")
    return text.replace("\r\n", "\n").replace("\r", "\n"), name


def _undecodable(path: Path, data: bytes, encoding: str, byte: int) -> str:
    """The message about the first byte that is no text, with the encoding that is likely."""
    start = data.rfind(b"\n", 0, byte) + 1
    place = f"{path}:{data.count(bytes([10]), 0, byte) + 1}:{byte - start + 1}"
    byte_text = f"the byte 0x{data[byte]:02x}" if data[byte : byte + 1] != b"\0" else "a NUL byte"
    message = f"{place}: found {byte_text}, expected text in {encoding.upper()}"
    if encoding == "utf-8" and not data[:byte].isascii() and b"\0" not in data:
        return f"{message}, as the text before it is; correct the line, or write the file again in UTF-8"
    likely = likely_encoding(data)
    if likely is None:
        return f"{message}; this is no text file"
    if likely.startswith("utf-16"):
        return f"{message}; the file is probably {likely}: write under data: `encoding: {likely}`"
    line = data[start:].split(b"\n", 1)[0][:60].decode(likely, "replace").strip()
    return (
        f"{message}; the file is probably {likely}: write under data: `encoding: {likely}`. "
        f"The line then reads {line!r}; if its letters are wrong, try gb18030, shift_jis, cp1251 or another"
    )


def likely_encoding(data: bytes) -> str | None:
    """The encoding in which bytes that are not UTF-8 are probably written; None if they are no text."""
    for encoding, first in (("utf-16-le", 1), ("utf-16-be", 0)):  # Latin letters have their NUL there
        if data[first::2].count(0) > len(data) / 8 and _decodes(data, encoding):
            return encoding
    if any(byte in data for byte in (*range(9), *range(14, 26))):
        return None
    return "cp1252" if _decodes(data, "cp1252") else "latin-1"


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        return "\0" not in data.decode(encoding)
    except UnicodeError:
        return False
