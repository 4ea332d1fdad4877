"""Keys that are laid over a config: ``key.sub=value`` on the command line, a dict in Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aimonk_bench import registry
from aimonk_bench.config.faults import Fault, Place, fault
from aimonk_bench.config.nodes import Node, build, parse, wrap

Overrides = Sequence[str] | Mapping[str, Any] | None


def layers(overrides: Overrides, faults: list[Fault]) -> list[Node]:
    """The tree of each override; what is wrong with the others is added to the faults."""
    if isinstance(overrides, Mapping):
        trees = [_value_at(str(key), value, faults) for key, value in overrides.items()]
    else:
        texts = [overrides] if isinstance(overrides, str) else overrides or ()
        trees = [_override(text, faults) for text in texts]
    return [tree for tree in trees if tree is not None]


def _value_at(key: str, value: object, faults: list[Fault]) -> Node | None:
    """The tree of an override that is a key and a value."""
    at, keys = Place("overrides", 0, 0, Path.cwd()), key.split(".")
    if problem := _unusable_key(at, keys, repr(key), "a key such as train.lr"):
        faults.append(problem)
        return None
    try:
        return wrap(keys, build(value, at, tuple(keys)), at)
    except Fault as problem:
        faults.append(problem)
        return None


def _unusable_key(at: Place, keys: Sequence[str], written: str, expected: str) -> Fault | None:
    """What is wrong with the key of an override."""
    if not all(keys):
        return fault(at, (), written, expected)
    return fault(at, ("extends",), "a key that only a file can hold", "a config key") if keys[0] == "extends" else None


def _override(text: str, faults: list[Fault]) -> Node | None:
    """``key.sub=value`` as a tree; the value is YAML, its relative paths start from the working directory."""
    key, equals, value = text.partition("=")
    at = Place(f"--set {key.strip()}".rstrip(), 0, 0, Path.cwd())
    keys = key.strip().split(".")
    if problem := _unusable_key(at, keys if equals else [""], registry.show(text), "key=value, such as train.lr=1e-4"):
        faults.append(problem)
        return None
    try:
        return wrap(keys, parse(value, at, faults), at)
    except Fault as problem:
        quoted = shlex.quote(f"{key.strip()}={json.dumps(value, ensure_ascii=False)}")
        is_text = not value.lstrip().startswith(("[", "{"))
        faults.append(replace(problem, text=f"{problem.text}; if it is text: --set {quoted}") if is_text else problem)
        return None
