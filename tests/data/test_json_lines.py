"""JSON lines of flat objects, which are a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import problems, read, states

from aimonk_bench.errors import UserError

FLAT = (
    '{"file_name": "a.png", "cat": 1, "dog": null}\n\n{"file_name": "b.png", "dog": true}\n'
    '{"cat": 0.0, "file_name": "c.png", "dog": "NA"}\n'
)
TAGGED = '{"file_name": "a.png", "tags": ["cat", "No Finding"]}\n{"file_name": "b.png", "tags": []}\n'


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json_lines")


@pytest.mark.parametrize("importer", ["auto", "wide_csv"])
def test_flat_objects_are_rows(tmp_path: Path, importer: str) -> None:
    loaded = read(tmp_path, FLAT, "metadata.jsonl", importer=importer)
    assert loaded.ids == ("a.png", "b.png", "c.png")
    assert loaded.labels.attributes == ("cat", "dog")
    assert states(loaded.labels) == [[1, None], [None, 1], [0, None]]
    assert loaded.lines.tolist() == [1, 3, 4]


@pytest.mark.parametrize("importer", ["auto", "label_list"])
def test_lists_of_texts_are_tags(tmp_path: Path, importer: str) -> None:
    loaded = read(tmp_path, TAGGED, "metadata.jsonl", importer=importer, absent="negative")
    assert loaded.labels.attributes == ("No Finding", "cat")
    assert states(loaded.labels) == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (FLAT + "{\n", {}, "metadata.jsonl:5: not a JSON object"),
        (FLAT + '{"cat": 1, "cat": 0}\n', {}, "metadata.jsonl:5: not a JSON object: key 'cat' stands twice"),
        (FLAT, {"importer": "wide_csv", "id": "image"}, "metadata.jsonl:1: no column 'image' (data.id)"),
        (FLAT.replace("0.0", "0.3"), {}, "metadata.jsonl:4: attribute cat: found '0.3' (1 row)"),
    ],
)
def test_problems(tmp_path: Path, content: str, options: dict[str, Any], message: str) -> None:
    assert problems(tmp_path, content, "metadata.jsonl", **options)[0].startswith(message)


@settings(max_examples=100, deadline=None)
@given(
    lines=st.lists(st.sampled_from(['{"a": "x.png", "b": 1}', '{"a": [1], "b": {"c": null}}', "{}", "[]", "{", ""])),
    importer=st.sampled_from(["auto", "wide_csv", "label_list", "long_csv"]),
)
def test_any_lines_give_labels_or_a_user_error(lines: list[str], importer: str, scratch: Path) -> None:
    absent = "missing" if importer in ("label_list", "long_csv") else None
    try:
        loaded = read(scratch, "\n".join(lines), "any.jsonl", importer=importer, absent=absent)
    except UserError as error:
        message = error.problems
        assert [p for p in message if not p.startswith((f"{scratch / 'any.jsonl'}:", "data.absent:"))] == []
    else:
        assert loaded.labels.observed.any()
