"""YAML text as a tree of nodes, each with the place where it is written.

Scalars follow the YAML 1.2 core schema (``1e-3`` is a number; ``no`` and ``1:30`` are text); keys are always text. The
tree is built from PyYAML's events: no Python object is constructed, and an alias shares the node of its anchor.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import yaml

from aimonk_bench.config.faults import Fault, Place, fault, placed
from aimonk_bench.registry import FOR, Problem, show

ATTRIBUTE_MAPS = ("values", FOR)  # keys of maps whose keys may be attributes
SECTIONS = ("backbone", "split")  # with a name or scheme, but whose other keys are no options of it
DRAWN, OF_DRAWN = {"holdout", "kfold"}, ("val", "seed", "near_duplicates")  # schemes, and what means the same in them
MAX_DEPTH = 50
MAX_NODES = 100_000  # after the expansion of aliases

# What an unquoted scalar is by the YAML 1.2 core schema; longer integers than any float are left as text.
SCALARS: tuple[tuple[str, Callable[[str], bool | int | float | None]], ...] = (
    (r"|~|null|Null|NULL", lambda text: None),
    (r"true|True|TRUE", lambda text: True),
    (r"false|False|FALSE", lambda text: False),
    (r"[-+]?[0-9]{1,300}", int),
    (r"0o[0-7]{1,300}|0x[0-9a-fA-F]{1,200}", lambda text: int(text, base=0)),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    (r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", lambda text: float(text.replace(".", ""))),
)


@dataclass(frozen=True)
class Node:
    """A value, the place where it is written and, in a map, the place of its key.

    Attributes:
        adds: it is a map of `backbone` or `split` of which a dotted key names a part: what it lacks is inherited, also
            by another network or scheme that draws parts.
    """

    value: bool | int | float | str | dict[str, Node] | list[Node] | None
    at: Place
    key: Place | None = None
    adds: bool = False

    @property
    def children(self) -> dict[str, Node]:
        """The values of a map; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The values of a list; empty for anything else."""
        return self.value if isinstance(self.value, list) else []

    def child(self, part: str | int) -> Node | None:
        """The value under a key or index, or None."""
        if isinstance(part, int):
            return self.items[part] if part < len(self.items) else None
        return self.children.get(part)

    def find(self, path: Sequence[str]) -> Node | None:
        """The value under keys inside one another, or None."""
        node: Node | None = self
        for key in path:
            node = node.child(key) if node else None
        return node

    def without(self, key: str) -> Node:
        """The same map without this key."""
        return replace(self, value={name: node for name, node in self.children.items() if name != key})

    def depths(self, depth: int) -> Iterator[int]:
        """The depth of this node, which is at ``depth``, and of every node below it."""
        yield depth
        for node in (*self.children.values(), *self.items):
            yield from node.depths(depth + 1)

    def plain(self) -> Any:
        """The data alone, as new dicts and lists."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def locate(tree: Node, problem: Problem) -> Fault:
    """The problem at the place that its path leads to, or at the last part of the path that is written."""
    node = tree
    for part in problem.path:
        child = node.child(part)
        if child is None:
            inside = isinstance(node.value, dict | list)
            return placed((inside and node.key) or node.at, problem)
        node = child
    return placed((node.key or node.at) if problem.on_key else node.at, problem)


def scalar(text: str) -> bool | int | float | str | None:
    """The value of an unquoted scalar."""
    return next((value(text) for pattern, value in SCALARS if re.fullmatch(pattern, text)), text)


def merge(old: Node, new: Node, *, top: bool = True) -> Node:
    """Lay ``new`` over ``old``: maps merge, anything else replaces, and so does ``tune``.

    Below the top level a map with ``name`` (or ``scheme``) replaces one of another name, and a map without one goes on
    from a bare name. Not so the maps whose keys are attributes, of which one may be called ``name``. A map that `adds`
    keeps what it does not name; of another scheme that draws parts, what both have.
    """
    if not isinstance(new.value, dict):
        return new
    if isinstance(old.value, str) and not top and "name" not in new.value:
        old = replace(old, value={"name": old})
    if not isinstance(old.value, dict):
        return new
    for identity in () if top else ("name", "scheme"):
        names = [side.children[identity].value for side in (old, new) if identity in side.children]
        if len(names) == 2 and names[0] != names[1]:
            if not new.adds or (identity == "scheme" and {*map(str, names)} != DRAWN):
                return new
            if identity == "scheme":
                old = replace(old, value={key: old.children[key] for key in OF_DRAWN if key in old.children})
    merged = dict(old.children)
    for key, node in new.value.items():
        if (top and key == "tune") or (
            key == "values" and key in merged and _is_nested(merged[key]) != _is_nested(node)
        ):
            merged[key] = node
            continue
        merged[key] = merge(merged[key], node, top=key in ATTRIBUTE_MAPS) if key in merged else node
    written = new if new.at.line or not old.children else old  # a map that --set adds to still stands in its file
    return replace(written, value=merged, adds=old.adds and new.adds)


def _is_nested(node: Node) -> bool:
    return any(isinstance(child.value, dict) for child in node.children.values())


def wrap(keys: Sequence[str], node: Node, key_at: Place) -> Node:
    """``node`` under nested maps, all of whose keys are written at ``key_at``."""
    for depth, key in reversed([*enumerate(keys)]):
        node = Node({key: replace(node, key=key_at)}, key_at, adds=depth == 1 and keys[0] in SECTIONS)
    return node


def parse(text: str, origin: Place, faults: list[Fault]) -> Node:
    """The one document in ``text``.

    Args:
        origin: place of the first character; if its line is 0, every place is this one.
        faults: receives repeated keys, of which the first counts, tags and merge keys.

    Raises:
        Fault: not YAML, more than one document, or too large.
    """
    parser = _Parser(yaml.parse(text, Loader=yaml.SafeLoader), origin, faults)
    try:
        return parser.document()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        at = parser.place(before.count("\n") + 1, error.position - before.rfind("\n"))
        raise fault(at, (), f"the character #x{ord(text[error.position]):04x}", "text") from None
    except yaml.MarkedYAMLError as error:
        mark, context = error.problem_mark, f" {error.context}" if error.context else ""
        at = parser.place(mark.line + 1, mark.column + 1) if mark else origin
        if mark and text[mark.index : mark.index + 1] == "\t":
            raise fault(at, (), "a tab", "blanks, with which YAML indents") from None
        raise Fault(at, f"not valid YAML{context}: {error.problem}") from None


Keys = tuple[str | int, ...]


def build(value: object, at: Place, path: Keys = ()) -> Node:
    """Plain Python data as a tree, all of it written at one place.

    Paths become text, tuples, ranges and arrays lists, NumPy numbers Python numbers.

    Args:
        path: keys that lead to the value.

    Raises:
        Fault: a value that YAML could not hold, a key that is no text, or too many levels.
    """
    if len(path) > MAX_DEPTH:
        raise fault(at, path[:3], "a value nested too deeply", f"at most {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not _is_text(key):
                raise fault(at, path, f"the key {show(key)}", "a key that is text")
        return Node({key: replace(build(item, at, (*path, key)), key=at) for key, item in value.items()}, at)
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(value, list | tuple | range):
        return Node([build(item, at, (*path, number)) for number, item in enumerate(value)], at)
    if isinstance(value, str) and not _is_text(value):
        raise fault(at, path, ascii(value[:40]), "text without NUL and surrogates")
    if value is None or isinstance(value, bool | int | float | str):
        return Node(value, at)
    expected = "text, a number, true, false or null, or a dict or a list of these"
    raise fault(at, path, f"a value of type {type(value).__name__}", expected)


def _is_text(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


@dataclass
class _Parser:
    """Builds nodes from the events of one text; the recursion is at most MAX_DEPTH deep."""

    events: Iterator[Any]
    origin: Place
    faults: list[Fault]
    anchors: dict[str, Node] = field(default_factory=dict)
    size: int = 0  # nodes read so far, aliases expanded

    def document(self) -> Node:
        next(self.events)  # the start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return Node(None, self.origin)
        root = self.node(next(self.events), ())
        next(self.events)  # the end of the document
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self.fault(after, (), "a second document", "one document")
        return root

    def place(self, line: int, column: int) -> Place:
        return replace(self.origin, line=line, column=column) if self.origin.line else self.origin

    def at(self, event: Any) -> Place:
        return self.place(event.start_mark.line + 1, event.start_mark.column + 1)

    def fault(self, event: Any, path: Keys, found: str, expected: str) -> Fault:
        return fault(self.at(event), path, found, expected)

    def node(self, event: Any, path: Keys) -> Node:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self.fault(event, path, f"the alias *{event.anchor}", "one whose anchor stands before it")
            node = self.anchors[event.anchor]
            for depth in node.depths(len(path)):
                self.count(event, path, depth)
            return node
        self.count(event, path, len(path))
        if event.tag is not None:
            self.faults.append(self.fault(event, path, f"the tag {event.tag}", "a value without a tag"))
        node = Node(self.content(event, path), self.at(event))
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def count(self, event: Any, path: Keys, depth: int) -> None:
        """Count one node; refuse it where it is one too many, or too deep."""
        self.size += 1
        if self.size > MAX_NODES:
            actual = "too many values once aliases are expanded"
            raise self.fault(event, path, actual, f"at most {MAX_NODES}")
        if depth > MAX_DEPTH:
            raise self.fault(event, path[:3], "a value nested too deeply", f"at most {MAX_DEPTH} levels")

    def content(self, event: Any, path: Keys) -> Any:
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(path)
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(path)
        text = self.text(event, path)
        return scalar(text) if event.style is None else text

    def sequence(self, path: Keys) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, (*path, len(items))))
        return items

    def mapping(self, path: Keys) -> dict[str, Node]:
        value: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self.fault(event, path, "a key that is not text", "plain text before the colon")
            key = self.text(event, path)
            node = replace(self.node(next(self.events), (*path, key)), key=self.at(event))
            if key == "<<" and event.style is None:
                self.faults.append(self.fault(event, path, "the merge key <<", "keys written out, or `extends`"))
            elif key in value:
                again = f"the key once; it is already at {value[key].key}"
                self.faults.append(self.fault(event, (*path, key), "the key a second time", again))
            else:
                value[key] = node
        return value

    def text(self, event: Any, path: Keys) -> str:
        text: str = event.value
        if not _is_text(text):
            raise self.fault(event, path, ascii(text[:40]), "text without NUL and surrogates")
        return text
