"""YAML text as nodes: scalars, places, limits, and what hostile files get."""

from __future__ import annotations

import math
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import DATA, load, problems

from aimonk_bench.config import nodes
from aimonk_bench.config.faults import Fault, Place
from aimonk_bench.errors import UserError


def test_scalars_follow_yaml_1_2(write):
    text = DATA + "train: {lr: 1e-3, weight_decay: 0x10, batch_size: 0o20, clip: +.5}\nplot: {title: no}\nname: 1:30\n"
    config = load(write("x.yaml", text))
    assert (config.train.lr, config.train.weight_decay, config.train.batch_size) == (1e-3, 16.0, 16)
    assert (config.train.clip, config.plot.title, config.name) == (0.5, "no", "1:30")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("", None), ("~", None), ("Null", None), ("TRUE", True), ("false", False), ("yes", "yes"), ("off", "off")),
        *(("-012", -12), ("1_000", "1_000"), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf)),
        *(("0o8", "0o8"), ("2024-01-01", "2024-01-01"), ("12:30:45", "12:30:45"), ("0b1", "0b1"), (".", ".")),
    ],
)
def test_scalar(text, value):
    assert nodes.scalar(text) == value
    assert type(nodes.scalar(text)) is type(value)


def test_not_a_number_is_read_as_such():
    assert math.isnan(nodes.scalar(".NaN"))  # type: ignore[arg-type]  # a float, for this text


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + DATA.encode(),
        DATA.encode() + b"train:\r\n  clip: null\r\n",
        DATA.encode().rstrip(),
        b"%YAML 1.2\n---\n" + DATA.encode() + b"...\n",
        b"data: &d {labels: l.txt, images: i}\n",
    ],
)
def test_byte_order_mark_crlf_and_the_like_change_nothing(write, content):
    assert load(write("x.yaml", content)) == load(write("x.yaml", DATA))


def test_an_alias_stands_for_its_anchor(write):
    config = load(write("x.yaml", DATA + "train: {lr: &x 0.5, weight_decay: *x}\n"))
    assert config.train.weight_decay == 0.5


def test_an_alias_bomb_is_refused_quickly(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    [line] = problems(load, write("x.yaml", "\n".join(lines)))
    assert re.match(r"x\.yaml:6:\d+: a5\[\d\]: found too many values once aliases are expanded", line)


def test_aliases_cannot_nest_deeper_than_text(write):
    text = "a0: &a0 " + "[" * 30 + "]" * 30 + "\n" + "a1: &a1 " + "[" * 30 + "*a0" + "]" * 30 + "\n"
    assert "nested too deeply" in problems(load, write("x.yaml", text))[0]


@given(content=st.binary(max_size=60) | st.text("ab:{}[]&*!<-,'\"#|>%@ \n\t?.1e", max_size=60).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_no_file_whatever_gives_anything_but_a_user_error(content):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.yaml"
        file.write_bytes(content)
        with pytest.raises(UserError):
            load(file)


HOSTILE = {
    "duplicate key": (
        "train:\n  lr: 1\n  lr: 2\n",
        ["x.yaml:3:3: train.lr: found the key a second time", "x.yaml:2:3"],
    ),
    "duplicate section": ("plot: {}\nplot: {}\n", ["x.yaml:2:1: plot: found the key a second time", "x.yaml:1:1"]),
    "python tag": ("plot: !!python/object/apply:os.system {}\n", ["x.yaml:1:7: plot: found the tag", "os.system"]),
    "core tag": (
        "name: !!str a\n",
        ["x.yaml:1:7: name: found the tag tag:yaml.org,2002:str, expected a value without"],
    ),
    "undeclared tag": ("name: !e!x 5\n", ["x.yaml:1:7: not valid YAML", "undefined tag handle"]),
    "merge key": ("train: &t {lr: 1}\nplot:\n  <<: *t\n", ["x.yaml:3:3: plot: found the merge key <<"]),
    "unknown alias": ("train: *t\n", ["x.yaml:1:8: train: found the alias *t"]),
    "endless alias": ("train: &t {lr: *t}\n", ["x.yaml:1:16: train.lr: found the alias *t"]),
    "list as key": ("? [a]\n: b\n", ["x.yaml:1:3: found a key that is not text"]),
    "unclosed list": (
        "train:\n  seeds: [1, 2\nname: x\n",
        ["x.yaml:3:5: not valid YAML while parsing a flow sequence"],
    ),
    "tab": ("train:\n\tlr: 1\n", ["x.yaml:2:1: found a tab, expected blanks"]),
    "two documents": ("---\nname: a\n---\nname: b\n", ["x.yaml:3:1: found a second document"]),
    "control character": ("name: a\nplot: \x07\n", ["x.yaml:2:7: found the character #x0007"]),
    "surrogate": ('name: "\\ud800"\n', ["x.yaml:1:7: name: found", "expected text without NUL and surrogates"]),
    "NUL": ('name: "a\\0b"\n', ["x.yaml:1:7: name: found", "expected text without NUL"]),
    "top-level list": ("- a\n", ["x.yaml:1:1: found a list, expected a map"]),
    "top-level text": ("hello\n", ["x.yaml:1:1: found a single value, expected a map"]),
    "empty": ("", ["x.yaml:1:1: found an empty file, expected a map"]),
    "only comments": ("# nothing\n\n", ["x.yaml:1:1: found an empty file"]),
    "binary": (bytes(range(256)), ["x.yaml:2:118: found the byte 0x80, expected UTF-8 text"]),
    "zeros": (b"\0" * 100, ["x.yaml:1:1: found a NUL byte"]),
    "UTF-16": ("name: a".encode("utf-16"), ["x.yaml:1:1: found UTF-16 text, expected UTF-8"]),
    "Latin-1": ("name: a\nplot: {title: caf\xe9}\n".encode("latin-1"), ["x.yaml:2:18: found the byte 0xe9"]),
    "too large": (b"#" * 1_000_001, ["x.yaml: found more than 1000000 bytes"]),
    "too deep": ("name: " + "[" * 5000, ["x.yaml:1:57: name[0][0]: found a value nested too deeply"]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_explained(write, case):
    content, parts = HOSTILE[case]
    if isinstance(content, str) and ("---" not in content) and re.match(r"\w+:|\n", content):
        content += DATA
    [line] = problems(load, write("x.yaml", content))
    for part in parts:
        assert part in line
    assert line.startswith(parts[0])


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": {"b": [1, 2.5, "x", None, True]}}, {"a": {"b": [1, 2.5, "x", None, True]}}),
        (Path("images") / "a", "images/a"),
        ((1, (2,)), [1, [2]]),
        (range(3), [0, 1, 2]),
        (np.array([[0.5], [1.0]]), [[0.5], [1.0]]),
        ([np.int64(3), np.float32(0.5), np.bool_(True), np.str_("x")], [3, 0.5, True, "x"]),
    ],
)
def test_plain_data_are_built_as_they_would_be_written(value: object, plain: object) -> None:
    built = nodes.build(value, Place("x", 0, 0, Path())).plain()
    assert built == plain
    assert repr(built) == repr(plain), "of Python's own types"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {1: 2}}, "x: a: found the key 1, expected a key that is text"),
        ({"a": [b"1"]}, "x: a[0]: found a value of type bytes, expected text, a number"),
        ({"a": {"\ud800": 1}}, "x: a: found the key '\\ud800', expected a key that is text"),
    ],
)
def test_what_yaml_cannot_hold_cannot_be_built(value: object, message: str) -> None:
    with pytest.raises(Fault) as caught:
        nodes.build(value, Place("x", 0, 0, Path()))
    assert str(caught.value).startswith(message)
