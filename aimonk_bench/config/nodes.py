"""YAML text as a tree in which every value remembers where it is written.

Scalars follow the YAML 1.2 core rules (``1e-3`` is a number; ``no`` and ``1:30`` are text) and keys are always text.
The tree is built from PyYAML's event stream: nothing is ever constructed, an alias shares its node, and the size and
depth a tree has once its aliases are expanded are known without expanding them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from aimonk_bench.registry import Problem

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 100_000  # after the expansion of aliases

_NULL = re.compile(r"|~|null|Null|NULL")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]{1,300}")  # longer than any float: left as text
_OCTAL = re.compile(r"0o[0-7]{1,300}")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,200}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")


@dataclass(frozen=True, order=True)
class Place:
    """Where something is written.

    Attributes:
        source: the file as the user named it, or ``--set key``.
        line: from 1; 0 on the command line, where neither line nor column is shown.
        column: from 1.
        folder: relative paths written here start from it.
    """

    source: str
    line: int
    column: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, order=True)
class Fault:
    """One line for the user: a place, the config key, what was found and what was expected."""

    at: Place
    text: str

    def __str__(self) -> str:
        return f"{self.at}: {self.text}"


class Broken(Exception):
    """The text cannot be read any further."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(str(fault))


@dataclass(frozen=True)
class Node:
    """A value, where it is written and, in a map, where its key is.

    ``size`` and ``depth`` count the nodes and the levels below, aliases expanded; merged trees do not keep them up.
    """

    value: bool | int | float | str | dict[str, Node] | list[Node] | None
    at: Place
    key: Place | None = None
    size: int = 1
    depth: int = 1

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

    def plain(self) -> Any:
        """The data alone, built afresh."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def dotted(path: Sequence[str | int]) -> str:
    """``train.seeds[0]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def fault(at: Place, path: Sequence[str | int], problem: Problem) -> Fault:
    """A problem at a place; its own path goes on from ``path``."""
    where = dotted([*path, *problem.path])
    return Fault(at, f"{where}: {problem}" if where else str(problem))


def locate(tree: Node, problem: Problem) -> Fault:
    """The problem at the place its path leads to, or at the last part of it that is written."""
    node = tree
    for part in problem.path:
        child = node.child(part)
        if child is None:
            inside = isinstance(node.value, dict | list)
            return fault((inside and node.key) or node.at, (), problem)
        node = child
    return fault((node.key or node.at) if problem.on_key else node.at, (), problem)


def scalar(text: str) -> bool | int | float | str | None:
    """An unquoted scalar by the YAML 1.2 core schema."""
    for pattern, value in ((_NULL, None), (_TRUE, True), (_FALSE, False)):
        if pattern.fullmatch(text):
            return value
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return int(text, base=0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text) or _NAN.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def merge(old: Node, new: Node, *, top: bool = True) -> Node:
    """Lay ``new`` over ``old``: maps merge, anything else replaces.

    Below the top level a map with ``name`` (or ``scheme``) replaces one of another name, and a map without one goes on
    from a bare name.
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
            return new
    merged = dict(old.value)
    for key, node in new.value.items():
        merged[key] = merge(merged[key], node, top=False) if key in merged else node
    written = new if new.at.line or not old.children else old  # a map that --set adds to still stands in its file
    return replace(written, value=merged)


def wrap(keys: Sequence[str], node: Node, key_at: Place) -> Node:
    """``node`` under nested maps, all of whose keys are written at ``key_at``."""
    for key in reversed(keys):
        node = Node({key: replace(node, key=key_at)}, key_at)
    return node


def read_text(path: Path, shown: str) -> str:
    """The text of a config file.

    Raises:
        Broken: missing, a folder, too large, or not UTF-8; with the place of the first bad byte.
    """
    folder = path.parent

    def broken(found: str, expected: str, line: int = 0, column: int = 0) -> Broken:
        return Broken(fault(Place(shown, line, column, folder), (), Problem((), found, expected)))

    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise broken("a folder", "a YAML file") from None
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise broken(reason, "a YAML file") from None
    if len(data) > MAX_BYTES:
        raise broken(f"more than {MAX_BYTES} bytes", "a config file")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise broken("UTF-16 text", "UTF-8", 1, 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line_start = data.rfind(b"\n", 0, error.start) + 1
        line = data.count(b"\n", 0, error.start) + 1
        raise broken(f"the byte 0x{data[error.start]:02x}", "UTF-8 text", line, error.start - line_start + 1) from None
    return text


def parse(text: str, origin: Place, faults: list[Fault]) -> Node:
    """The one document in ``text``.

    Args:
        origin: place of the first character; if its line is 0, every place is this one.
        faults: repeated keys, tags and merge keys are added to it, the first of two values being kept.

    Raises:
        Broken: not YAML, more than one document, or too large.
    """
    try:
        return _Parser(text, origin, faults).document()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        at = replace(origin, line=line, column=column) if origin.line else origin
        raise Broken(Fault(at, f"found the character #x{ord(text[error.position]):04x}, expected text")) from None
    except yaml.MarkedYAMLError as error:
        at = origin
        if error.problem_mark is not None and origin.line:
            at = replace(origin, line=error.problem_mark.line + 1, column=error.problem_mark.column + 1)
        context = f" {error.context}" if error.context else ""
        raise Broken(Fault(at, f"not valid YAML{context}: {error.problem}")) from None


class _Parser:
    """Builds nodes from the events of one text; the recursion is as deep as MAX_DEPTH at most."""

    def __init__(self, text: str, origin: Place, faults: list[Fault]) -> None:
        self.events = yaml.parse(text, Loader=yaml.SafeLoader)
        self.origin = origin
        self.faults = faults
        self.anchors: dict[str, Node] = {}
        self.size = 0  # of what is read so far, aliases expanded

    def document(self) -> Node:
        next(self.events)  # the start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return Node(None, self.origin)
        root = self.node(next(self.events), ())
        next(self.events)  # the end of the document
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self.broken(after, (), "a second document", "one document")
        return root

    def place(self, event: Any) -> Place:
        if not self.origin.line:
            return self.origin
        return replace(self.origin, line=event.start_mark.line + 1, column=event.start_mark.column + 1)

    def report(self, event: Any, path: Sequence[str | int], found: str, expected: str) -> Fault:
        return fault(self.place(event), path, Problem((), found, expected))

    def broken(self, event: Any, path: Sequence[str | int], found: str, expected: str) -> Broken:
        return Broken(self.report(event, path, found, expected))

    def node(self, event: Any, path: tuple[str | int, ...]) -> Node:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self.broken(event, path, f"the alias *{event.anchor}", "one whose anchor stands before it")
            node = self.anchors[event.anchor]
            self.count(event, path, node.size)
        else:
            self.count(event, path, 1)
            if event.tag is not None:
                self.faults.append(self.report(event, path, f"the tag {event.tag}", "a value without a tag"))
            if len(path) > MAX_DEPTH:
                raise self.broken(event, path[:3], "a value nested too deeply", f"at most {MAX_DEPTH} levels")
            node = self.content(event, path)
            if event.anchor is not None:
                self.anchors[event.anchor] = node
        if len(path) + node.depth > MAX_DEPTH:
            raise self.broken(event, path[:3], "a value nested too deeply", f"at most {MAX_DEPTH} levels")
        return node

    def count(self, event: Any, path: tuple[str | int, ...], size: int) -> None:
        self.size += size
        if self.size > MAX_NODES:
            raise self.broken(event, path, "too many values once aliases are expanded", f"at most {MAX_NODES}")

    def content(self, event: Any, path: tuple[str | int, ...]) -> Node:
        at = self.place(event)
        if isinstance(event, yaml.ScalarEvent):
            text = self.text(event, path)
            return Node(scalar(text) if event.style is None else text, at)
        value = self.sequence(path) if isinstance(event, yaml.SequenceStartEvent) else self.mapping(path)
        items = list(value.values()) if isinstance(value, dict) else value
        return Node(value, at, None, 1 + sum(i.size for i in items), 1 + max((i.depth for i in items), default=0))

    def sequence(self, path: tuple[str | int, ...]) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, (*path, len(items))))
        return items

    def mapping(self, path: tuple[str | int, ...]) -> dict[str, Node]:
        value: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self.broken(event, path, "a key that is not text", "plain text before the colon")
            key = self.text(event, path)
            node = replace(self.node(next(self.events), (*path, key)), key=self.place(event))
            if key == "<<" and event.style is None:
                self.faults.append(self.report(event, path, "the merge key <<", "keys written out, or `extends`"))
            elif key in value:
                again = f"the key once; it is already at {value[key].key}"
                self.faults.append(self.report(event, (*path, key), "the key a second time", again))
            else:
                value[key] = node
        return value

    def text(self, event: Any, path: Sequence[str | int]) -> str:
        text: str = event.value
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise self.broken(event, path, ascii(text[:40]), "text without NUL and surrogates")
        return text
