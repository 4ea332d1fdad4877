"""From a YAML file to a checked config: `extends`, then ``--set``, then (in a suite) the axes."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from aimonk_bench import registry
from aimonk_bench.config import grid, reader
from aimonk_bench.config.fields import BackboneConfig, Config, KFold, Tables
from aimonk_bench.config.nodes import Broken, Fault, Node, Place, fault, merge, parse, read_text, scalar, wrap
from aimonk_bench.errors import UserError
from aimonk_bench.registry import Problem


def load(path: Path, tables: Tables, overrides: Sequence[str] = (), *, check_paths: bool = True) -> Config:
    """The config of one experiment.

    Args:
        path: a YAML file.
        tables: what it may name.
        overrides: ``key.sub=value`` each, laid over one another in this order and together over the file.
        check_paths: labels, pictures and a weight file without a fallback must exist.

    Raises:
        UserError: every problem, one line each: ``file:line:column: key: found X, expected Y``.
    """
    tree, faults, layers = _assemble(path, overrides)
    tree = _lay(tree, layers)
    suite = tree.child("suite")
    if suite is not None:
        problem = Problem((), "a suite", "one experiment; `aimonk-bench suite` runs suites")
        faults.append(fault(suite.key or suite.at, ("suite",), problem))
        tree = replace(tree, value={key: node for key, node in tree.children.items() if key != "suite"})
    faults += reader.absent(tree) if check_paths else []
    config, more = reader.read(tree, tables)
    if config is None or faults:
        raise _error(faults + more)
    return config


def load_suite(path: Path, tables: Tables, overrides: Sequence[str] = (), *, check_paths: bool = True) -> grid.Suite:
    """The suite of a file, every run of its grid checked; a run whose weight file is absent fails when it is run.

    Raises:
        UserError: as `load`; also for a missing ``suite`` and for an override of a key that is an axis.
    """
    file, faults, layers = _assemble(path, overrides)
    tree = _lay(file, layers)
    faults += reader.absent(tree) if check_paths else []
    if "suite" not in tree.children:
        faults.append(
            fault(tree.at, (), Problem((), "no suite", "the key 'suite'; `aimonk-bench run` runs one experiment"))
        )
        raise _error(faults + reader.read(tree, tables)[1])
    axes = tree.children["suite"].child("axes")
    undone = [grid.axis_fault(layer, list(axes.children) if axes else []) for layer in layers]
    faults += filter(None, undone)
    # an override that an axis undoes is told as such alone: an axis value may lack the option it sets
    tree = _lay(file, [layer for layer, conflict in zip(layers, undone, strict=True) if conflict is None])
    suite, more = grid.expand(tree, tables)
    if suite is None or faults:
        raise _error(faults + more)
    return suite


def is_suite(path: Path) -> bool:
    """Whether the file, with all it extends, has the key ``suite``.

    Raises:
        UserError: it cannot be read as YAML.
    """
    return "suite" in _assemble(path, ())[0].children


def dump(config: Config) -> str:
    """The complete YAML of a config; loading it gives an equal one."""
    data = config.model_dump(mode="json")
    # leaves on one line: short, and still one key per line where it matters
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would not read as the same text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds these line breaks when they are not escaped
    plain = isinstance(scalar(text), str) and not {"\x85", "\u2028", "\u2029"} & {*text}
    style = None if plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_text)


def _error(faults: Iterable[Fault]) -> UserError:
    """All faults in the order of files and lines; the runs of a grid repeat one another's."""
    return UserError([str(item) for item in sorted(set(faults))])


def _assemble(path: Path, overrides: Sequence[str]) -> tuple[Node, list[Fault], list[Node]]:
    """The tree of a file with its bases, the overrides to lay over it, and the faults of both that do not stop it.

    Raises:
        UserError: a file cannot be read.
    """
    files = _Files()
    tree = files.tree(str(path), (), None)
    layers = [layer for text in overrides if (layer := _override(text, files.faults))]
    if tree is None or files.broken:
        raise _error(files.broken + files.faults)
    return _named(merge(Node({"name": Node(path.stem, tree.at)}, tree.at), tree)), files.faults, layers


def _lay(tree: Node, layers: Sequence[Node]) -> Node:
    """The overrides over the file, as one: a new name among them replaces what the file has, not one of them."""
    return merge(tree, functools.reduce(merge, layers)) if layers else tree


def _named(tree: Node) -> Node:
    """The tree with unwritten identities filled in, so that a map of another name laid over it replaces."""
    filled = dict(tree.children)
    for section, identity, name in (("split", "scheme", KFold().scheme), ("backbone", "name", BackboneConfig().name)):
        node = tree.child(section)
        if node and isinstance(node.value, dict) and identity not in node.value:
            filled[section] = replace(node, value={identity: Node(name, node.at), **node.value})
    return replace(tree, value=filled)


class _Files:
    """Reads files and merges each over those it extends; ``broken`` are the faults that make the tree useless."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.broken: list[Fault] = []
        self.read: dict[str, Node | None] = {}

    def tree(self, shown: str, above: tuple[str, ...], named_at: Place | None) -> Node | None:
        """The merged tree of one file, or None if it is broken.

        Args:
            shown: the file as messages name it.
            above: the files being read, each extended by the one before.
            named_at: where ``extends`` names it.
        """
        path = os.path.abspath(shown)
        if path in (os.path.abspath(other) for other in above) and named_at is not None:
            cycle = " -> ".join([*above, shown])
            self.broken.append(fault(named_at, ("extends",), Problem((), f"a cycle: {cycle}", "a file that ends it")))
            return None
        if path not in self.read:
            try:
                self.read[path] = self._merged(shown, above)
            except Broken as error:
                problem = error.fault
                if named_at is not None and not problem.at.line:  # the file itself, not a place in it
                    problem = Fault(named_at, f"extends: {problem}")
                self.broken.append(problem)
                self.read[path] = None
        return self.read[path]

    def _merged(self, shown: str, above: tuple[str, ...]) -> Node | None:
        path = Path(os.path.abspath(shown))
        origin = Place(shown, 1, 1, path.parent)
        own = parse(read_text(path, shown), origin, self.faults)
        if not isinstance(own.value, dict):
            found = {type(None): "an empty file", list: "a list"}.get(type(own.value), "a single value")
            raise Broken(fault(own.at, (), Problem((), found, "a map of config keys")))
        merged: Node | None = Node({}, origin)
        for base in self._bases(own):
            file = os.path.normpath(os.path.join(os.path.dirname(shown), str(base.value)))
            tree = self.tree(file, (*above, shown), base.at)
            merged = merge(_named(merged), tree) if merged and tree else None
        own = replace(own, value={key: node for key, node in own.value.items() if key != "extends"}, at=origin)
        return merge(_named(merged), own) if merged else None

    def _bases(self, own: Node) -> list[Node]:
        extends = own.child("extends")
        if extends is None:
            return []
        bases = extends.items if isinstance(extends.value, list) else [extends]
        for base in bases:
            if not isinstance(base.value, str):
                raise Broken(
                    fault(base.at, ("extends",), Problem((), repr(base.plain()), "a path, or a list of paths"))
                )
        return bases


def _override(text: str, faults: list[Fault]) -> Node | None:
    """``key.sub=value`` as a tree; the value is YAML, its relative paths start from the working directory."""
    key, equals, value = text.partition("=")
    at = Place(f"--set {key.strip()}".rstrip(), 0, 0, Path.cwd())
    keys = key.strip().split(".")
    if not equals or not all(keys):
        faults.append(fault(at, (), Problem((), registry.show(text), "key=value, such as train.lr=1e-4")))
        return None
    if keys[0] == "extends":
        faults.append(fault(at, ("extends",), Problem((), "a key that only a file can hold", "a config key")))
        return None
    try:
        return wrap(keys, parse(value, at, faults), at)
    except Broken as error:
        faults.append(error.fault)
        return None
