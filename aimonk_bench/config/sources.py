"""Where a config is written: a file, the files that it extends, and the overrides of the command line."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from aimonk_bench import registry
from aimonk_bench.config.fields import BackboneConfig, KFold
from aimonk_bench.config.nodes import Broken, Fault, Node, Place, fault, merge, parse, read_text, wrap
from aimonk_bench.errors import UserError

PACKAGE = Path(__file__).parents[1]


class Sources:
    """One config as it is written.

    Attributes:
        file: the tree of the file, merged over the files that it extends.
        overrides: the trees of the overrides, in their order.
        faults: problems that do not keep the trees from being used.
        notes: what the user should know: a shipped config was taken, a truth was dropped.
    """

    def __init__(self, path: Path, overrides: Sequence[str] = ()) -> None:
        """Read a file, all that it extends, and overrides ``key.sub=value``.

        Raises:
            UserError: a file cannot be read.
        """
        self.faults: list[Fault] = []
        self.notes: list[str] = []
        self._broken: list[Fault] = []  # faults of files that cannot be used
        self._trees: dict[str, Node | None] = {}  # by absolute path, None where the file is broken
        shown = _resolved("", str(path))
        if shown != os.path.normpath(path):
            self.notes.append(f"{path}: no such file here; the config that comes with the program is taken: {shown}")
        tree = self._read(shown, (), None)
        self.overrides = [layer for text in overrides if (layer := _override(text, self.faults))]
        if tree is None or self._broken:
            raise user_error(self._broken + self.faults)
        self.file = _named(merge(Node({"name": Node(path.stem, tree.at)}, tree.at), tree))

    def tree(self, overrides: Sequence[Node]) -> Node:
        """The file with these overrides laid over it as one: a new name among them does not undo the others."""
        return _over(self.file, functools.reduce(merge, overrides), self.notes) if overrides else self.file

    def _read(self, shown: str, above: tuple[str, ...], named_at: Place | None) -> Node | None:
        """The merged tree of one file, or None if it is broken.

        Args:
            shown: the file as messages name it.
            above: the files being read; every one extends the next.
            named_at: where ``extends`` names it.
        """
        path = os.path.abspath(shown)
        if path in (os.path.abspath(other) for other in above) and named_at is not None:
            cycle = " -> ".join([*above, shown])
            self._broken.append(fault(named_at, ("extends",), f"a cycle: {cycle}", "a file that ends it"))
            return None
        if path not in self._trees:
            try:
                self._trees[path] = self._merged(shown, above)
            except Broken as error:
                problem = error.fault
                if not problem.at.line:  # the file itself, not a place in it
                    shipped = "" if os.path.exists(path) else f", here or in {shipped_configs()}"
                    problem = replace(problem, text=problem.text + shipped)
                    problem = Fault(named_at, f"extends: {problem}") if named_at else problem
                self._broken.append(problem)
                self._trees[path] = None
        return self._trees[path]

    def _merged(self, shown: str, above: tuple[str, ...]) -> Node | None:
        path = Path(os.path.abspath(shown))
        origin = Place(shown, 1, 1, _start_of_paths(path))
        written = parse(read_text(path, shown), origin, self.faults)
        if not isinstance(written.value, dict):
            content = {type(None): "an empty file", list: "a list"}.get(type(written.value), "a single value")
            raise Broken(fault(written.at, (), content, "a map of config keys"))
        merged: Node | None = Node({}, origin)
        for base in _bases(written):
            tree = self._read(_resolved(os.path.dirname(shown), str(base.value)), (*above, shown), base.at)
            merged = _over(_named(merged), tree, self.notes) if merged and tree else None
        keys = {key: node for key, node in written.children.items() if key != "extends"}
        return _over(_named(merged), replace(written, value=keys, at=origin), self.notes) if merged else None


def user_error(faults: Sequence[Fault]) -> UserError:
    """All faults in the order of files and lines; the runs of a grid repeat one another's."""
    return UserError([str(item) for item in sorted(set(faults))])


def shipped_configs() -> Path | None:
    """The folder of the configs that come with the program: in the installed package, or in the repository."""
    folders = (PACKAGE / "configs", PACKAGE.parent / "configs")
    return next((folder for folder in folders if (folder / "base.yaml").is_file()), None)


def _resolved(folder: str, name: str) -> str:
    """The file that ``name`` means: relative to ``folder``, else one that comes with the program, if there is one.

    ``base.yaml``, ``../base.yaml`` and ``configs/base.yaml`` all mean the shipped base.yaml, so that a copy of a
    shipped config works in any folder.
    """
    beside, shipped = os.path.normpath(os.path.join(folder, name)), shipped_configs()
    parts = list(PurePath(name).parts)
    while parts and parts[0] in ("..", "configs"):
        parts.pop(0)
    if shipped is None or "\0" in name or os.path.isabs(name) or os.path.exists(beside) or not parts:
        return beside
    return str(shipped.joinpath(*parts)) if shipped.joinpath(*parts).is_file() else beside


def _start_of_paths(file: Path) -> Path:
    """The folder that relative paths in a file start from: its own.

    Configs in an installed package are read as if they stood in ``configs`` of the working directory, as in the
    repository: the data sets that they name lie in ``.data`` beside it.
    """
    installed = PACKAGE / "configs"
    return Path.cwd() / "configs" / file.parent.relative_to(installed) if installed in file.parents else file.parent


def _over(old: Node, new: Node, notes: list[str]) -> Node:
    """Lay ``new`` over ``old``; other labels drop an inherited truth, which is about other images."""
    inherited, changed = (data.children if (data := tree.child("data")) else {} for tree in (old, new))
    if "labels" in changed and "truth" not in changed and "labels" in inherited and "truth" in inherited:
        if inherited["truth"].value is not None:
            notes.append(
                f"{changed['labels'].at}: data.labels: the inherited data.truth ({inherited['truth'].at}) is dropped, "
                "because it is about other labels; set data.truth if there is one for these"
            )
        without = {key: node for key, node in inherited.items() if key != "truth"}
        old = replace(old, value={**old.children, "data": replace(old.children["data"], value=without)})
    return merge(old, new)


def _named(tree: Node) -> Node:
    """The tree with unwritten identities filled in, so that a map of another name laid over it replaces."""
    filled = dict(tree.children)
    for section, identity, name in (("split", "scheme", KFold().scheme), ("backbone", "name", BackboneConfig().name)):
        node = tree.child(section)
        if node and isinstance(node.value, dict) and identity not in node.value:
            filled[section] = replace(node, value={identity: Node(name, node.at), **node.value})
    return replace(tree, value=filled)


def _bases(written: Node) -> list[Node]:
    """The nodes of the files that a file extends."""
    extends = written.child("extends")
    if extends is None:
        return []
    bases = extends.items if isinstance(extends.value, list) else [extends]
    for base in bases:
        if not isinstance(base.value, str):
            raise Broken(fault(base.at, ("extends",), repr(base.plain()), "a path, or a list of paths"))
    return bases


def _override(text: str, faults: list[Fault]) -> Node | None:
    """``key.sub=value`` as a tree; the value is YAML, its relative paths start from the working directory."""
    key, equals, value = text.partition("=")
    at = Place(f"--set {key.strip()}".rstrip(), 0, 0, Path.cwd())
    keys = key.strip().split(".")
    if not equals or not all(keys):
        faults.append(fault(at, (), registry.show(text), "key=value, such as train.lr=1e-4"))
        return None
    if keys[0] == "extends":
        faults.append(fault(at, ("extends",), "a key that only a file can hold", "a config key"))
        return None
    try:
        return wrap(keys, parse(value, at, faults), at)
    except Broken as error:
        faults.append(error.fault)
        return None
