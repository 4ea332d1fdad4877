"""Bytes of a label file to text: byte order marks, UTF-8, or the encoding that the config declares."""

from __future__ import annotations

import codecs
import contextlib
import re
import unicodedata
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
    b"PK\x03\x04": "an Excel file or a ZIP archive: give an Excel file the extension .xlsx, unpack an archive",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save it as .xlsx or .csv",
    b"PAR1": "a Parquet file: give it the extension .parquet",
    b"\x1f\x8b": "a gzip file: unpack it",
    b"SQLite format 3": "an SQLite database: export the table as .csv",
    b"<?xml": "an XML file: write a table of images and labels, such as .csv",
}
OPEN_DOCUMENT = b"mimetypeapplication/vnd.oasis.opendocument"  # of a ZIP archive
ENCODINGS = {  # beside UTF-8 -> the script of an alphabet, or the first bytes of the characters in common use
    "cp1252": "LATIN",
    "cp1251": "CYRILLIC",
    "koi8_r": "CYRILLIC",
    "cp866": "CYRILLIC",
    "cp1253": "GREEK",
    "shift_jis": (*range(0x82, 0x84), *range(0x88, 0x98)),
    "euc_kr": (*range(0xB0, 0xC9),),
    "gb2312": (*range(0xB0, 0xD8),),
    "euc_jp": (*range(0xA4, 0xA6), *range(0xB0, 0xD0)),
    "big5": (*range(0xA4, 0xC7),),
}
WIDER = {"gb2312": "gb18030"}  # encodings that have further characters
SAMPLE = 1 << 16  # bytes by which an encoding is recognised
LIKELY, MARGIN = 0.85, 0.1  # share of letters that an encoding makes sense of, and how much less another one may have


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
    if OPEN_DOCUMENT in data[:100]:
        raise UserError(f"{path}:1: found an OpenDocument file, expected a table: save it as .xlsx or .csv")
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
    if encoding == "utf-8" and _is_damaged_utf8(data):
        return f"{message}, as the text before it is; correct the line, or write the file again in UTF-8"
    if not is_text(data):
        return f"{message}; this is no text file"
    likely = likely_encodings(data)
    if not likely:
        tried = ", ".join(WIDER.get(name, name) for name in ENCODINGS)
        fix = "save it again in UTF-8, or write under data: `encoding: NAME` with the encoding in which it was saved"
        return f"{message}; it is no text of one script in {tried} either: {fix}"
    fix = f"the file is probably {likely[0]}: write under data: `encoding: {likely[0]}`"
    if likely[0].startswith("utf-16"):
        return f"{message}; {fix}"
    lines = [f"{name} as {line_in(data, name)!r}" for name in likely]
    return f"{message}; {fix}. The first line with such letters reads in {', in '.join(lines)}"


def is_text(data: bytes) -> bool:
    """Whether the bytes may be text in some encoding."""
    return bool(_wide(data)) or not any(byte in data for byte in (*range(9), *range(14, 26)))


def line_in(data: bytes, encoding: str) -> str:
    """The beginning of the first line in this encoding that is not ASCII; of the first one, if all are."""
    lines = data.decode(encoding, "ignore").split("\n")
    return next((line for line in lines if not line.isascii()), lines[0])[:60].strip()


def likely_encodings(data: bytes) -> list[str]:
    """The encodings in which bytes that are not UTF-8 make sense, the likeliest first; none if there is no such one.

    An encoding makes sense where its letters are words of one script, or characters in common use.
    """
    if _is_damaged_utf8(data) or not is_text(data):
        return []
    if wide := _wide(data):
        return [wide]
    lines = b"\n".join(line for line in data.split(b"\n") if not line.isascii())[:SAMPLE]
    shares = {name: _share(lines, name) for name in ENCODINGS if _decodes(data, WIDER.get(name, name))}
    least = max(LIKELY, *shares.values()) - MARGIN
    likely = sorted((name for name in shares if shares[name] >= least), key=lambda name: -shares[name])
    return [WIDER.get(name, name) for name in likely]


def _wide(data: bytes) -> str | None:
    """UTF-16 without a byte order mark: Latin letters have their NUL at the same place."""
    for encoding, first in (("utf-16-le", 1), ("utf-16-be", 0)):
        if data[first::2].count(0) > len(data) / 8 and _decodes(data, encoding):
            return encoding
    return None


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether most of what is not ASCII is UTF-8."""
    signs = [sign for sign in data.decode("utf-8", "replace") if not sign.isascii()]
    return len(signs) > 2 * signs.count("\ufffd")


def _share(data: bytes, encoding: str) -> float:
    """The share of the letters beyond ASCII that an encoding makes sense of."""
    text, common = data.decode(WIDER.get(encoding, encoding), "ignore"), ENCODINGS[encoding]
    signs = [sign for sign in text if not sign.isascii() and unicodedata.category(sign)[0] not in "PZ"]
    if common == "LATIN":
        signs = [sign for sign in signs if unicodedata.category(sign)[0] != "S"]  # such as degrees
    if not signs:
        return LIKELY - MARGIN if common == "LATIN" else 0.0
    if isinstance(common, str):
        words = [word for word in re.findall(r"[^\W\d_]+", text) if _is_word(word, common)]
        return sum(not sign.isascii() for word in words for sign in word) / len(signs)
    if re.search(rb"[\x80-\xff]{2}", data) is None:  # single letters between others
        return 0.0
    return sum((sign.encode(encoding, "ignore") or b"\0")[0] in common for sign in signs) / len(signs)


def _is_word(word: str, script: str) -> bool:
    """Whether a word is of one script and case; of Latin letters, at least half are ASCII."""
    if not all(unicodedata.name(sign, "").startswith(script) for sign in word):
        return False
    if script == "LATIN":
        return 2 * sum(map(str.isascii, word)) >= len(word)
    return word in (word.lower(), word.upper(), word.title())


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        return "\0" not in data.decode(encoding)
    except UnicodeError:
        return False
