"""JSON lines: one object for each image, checked key by key; or the rows of a table, where no object holds another."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from aimonk_bench.data.cells import text_of
from aimonk_bench.data.dialects import Dialect
from aimonk_bench.registry import hint

SUFFIXES = (".jsonl", ".ndjson")
ARRAY = "a JSON array"
EXAMPLE = '{"image": "a.jpg", "labels": {"smile": 1}}'


def records(text: str, text_keys: Sequence[str]) -> Iterator[tuple[int, dict[str, Any], list[str]]]:
    """(line, object, problems) of every line that is not blank.

    A text that is one JSON document, such as an array, is one problem.

    Args:
        text_keys: keys beside ``image`` and ``labels`` whose values are text or numbers.
    """
    if (whole := _document(text)) is not None:
        fix = "; `jq -c '.[]'` writes an array so" if whole == ARRAY else ""
        yield 1, {}, [f"found {whole}, expected one object per line, such as `{EXAMPLE}`{fix}"]
        return
    for line, record in _objects(text):
        yield (line, {}, [record]) if isinstance(record, str) else (line, record, _record_problems(record, text_keys))


def _objects(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(line, its object, or why it has none) of every line that is not blank."""
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            try:
                yield line, _json_object(content)
            except ValueError as error:
                yield line, f"not a JSON object: {error}"


def begins(text: str) -> bool:
    """Whether a text begins as JSON does, whatever its file is called: with an object, or with an array of them."""
    return re.match(r"\s*(\{|\[\s*\{)", text) is not None


def is_table(text: str) -> bool:
    """Whether the first line is a row of a table: an object without the key ``labels`` for an object of labels."""
    _, record = next(_objects(text), (1, ""))
    return isinstance(record, dict) and not isinstance(record.get("labels"), dict) and record.keys() != {"image"}


def read_records(text: str, encoding: str) -> tuple[Iterator[tuple[int, list[str] | str]], Dialect]:
    """(line, cells or what is wrong) of the header and of every line that is not blank; and the dialect.

    The header has every key, in the order of the file; a key that a line lacks, and null, is an empty cell. true and
    false are 1 and 0, lists and objects are cells of JSON.
    """
    objects = [*_objects(text)]
    header = [*dict.fromkeys(key for _, record in objects if isinstance(record, dict) for key in record)] or ["image"]
    first = next((line for line, record in objects if isinstance(record, dict)), 1)
    rows = (
        (line, record if isinstance(record, str) else [text_of(record.get(key)) for key in header])
        for line, record in objects
    )
    return itertools.chain([(first, header)], rows), Dialect(encoding, "", header=True, width=len(header))


def _document(text: str) -> str | None:
    """What the text is, if it is one JSON document instead of one for each line."""
    first = text.lstrip().split("\n", 1)[0].rstrip()
    if first.startswith("["):
        return ARRAY
    return "a JSON object over several lines" if first.startswith("{") and first[-1] in "{[,:" else None


class _Number(str):
    """A JSON number as the file writes it: a token of any length."""


def _json_object(text: str) -> dict[str, Any]:
    """The object of one line.

    Raises:
        ValueError: not JSON, not an object, a key twice in one object, or nested too deeply.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if twice:
            raise ValueError(f"key {twice[0]!r} stands twice in one object")
        return dict(pairs)

    try:
        record = json.loads(
            text, object_pairs_hook=unique, parse_int=_Number, parse_float=_Number, parse_constant=_Number
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("expected { and }")
    return record


def _record_problems(record: dict[str, Any], text_keys: Sequence[str]) -> list[str]:
    keys = ("image", "labels", *text_keys)
    problems = [
        f"unknown key {key!r}, expected {', '.join(keys)}{hint(key, keys)}" for key in record if key not in keys
    ]
    if type(record.get("image")) is not str:
        problems.append("'image' must be the name of an image")
    problems += [
        f"{key!r} must be a string, a number or null"
        for key in text_keys
        if not isinstance(record.get(key), str | None)
    ]
    labels = record.get("labels")
    if not isinstance(labels, dict):
        return [*problems, "'labels' must be an object with a value per attribute"]
    nested = [name for name, value in labels.items() if isinstance(value, list | dict)]
    return problems + [f"attribute {name!r}: found a list or an object, expected one value" for name in nested]
