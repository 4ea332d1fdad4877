"""From a YAML file, or a dict of its keys, to a checked config or to a suite of them, and back to YAML.

What is written first is overlaid by what is written later: defaults, the files that ``extends`` names, the file, the
overrides (``--set``), and in a suite the axes.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, TypeVar

import yaml

from aimonk_bench.config import grid, plugins, reader, tuned
from aimonk_bench.config.faults import Fault, Place, decode, fault, user_error
from aimonk_bench.config.fields import BackboneConfig, Config
from aimonk_bench.config.nodes import Node, build, merge, parse, scalar
from aimonk_bench.config.overrides import Overrides, layers
from aimonk_bench.config.split_fields import KFold
from aimonk_bench.config.tables import Tables

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[1]
MAX_BYTES = 1_000_000
UNNAMED = "experiment"  # the name of a config that is no file and has none
Loaded = TypeVar("Loaded", Config, grid.Suite)
Source = str | os.PathLike[str] | Mapping[str, Any] | Config


def load(source: Source, tables: Tables, overrides: Overrides = None, *, check_paths: bool = True) -> Config:
    """The config of one experiment.

    Args:
        source: a YAML file; where there is none, the shipped config of that name. Or a dict of what it would hold, or a
            config; relative paths in these are relative to the working directory.
        tables: the names that it may use, and whether it may name plug-ins.
        overrides: ``key.sub=value`` each, or a dict from such keys to values; laid over one another in this order and
            together over the source.
        check_paths: labels, images, a truth and a weight file without a fallback must exist.

    Raises:
        UserError: every problem, one line each: ``file:line:column: key: found X, expected Y``.
    """
    sources = Sources(source, overrides)
    tree = sources.tree(sources.overrides)
    suite = tree.child("suite")
    if suite is None or suite.value is None:
        tree = tree.without("suite")
    else:
        expected = "one experiment; `aimonk-bench suite` runs suites"
        sources.faults.append(fault(suite.key or suite.at, ("suite",), "a suite", expected))
    tree, tables = plugins.plug(tree, tables, sources.faults)
    sources.faults += reader.absent(tree) if check_paths else []
    tree, settled = tree.without("suite"), sources.settle(sources.overrides)
    config, faults = reader.read(tree, tables, settled)
    sources.notes += [(logging.INFO, f"{at}: {text}") for text, at in tuned.remarks(tree, settled).items()]
    return _checked(config, faults, sources)


def load_suite(source: Source, tables: Tables, overrides: Overrides = None, *, check_paths: bool = True) -> grid.Suite:
    """The suite of a file or a dict, every run checked; a run whose weight file is absent fails when it is executed.

    Raises:
        UserError: as `load`; also for a missing ``suite`` and for an override of a key that is an axis.
    """
    sources = Sources(source, overrides)
    tree, tables = plugins.plug(sources.tree(sources.overrides), tables, sources.faults)
    sources.faults += reader.absent(tree) if check_paths else []
    if "suite" not in tree.children:
        missing = fault(tree.at, (), "no suite", "the key 'suite'; `aimonk-bench run` runs one experiment")
        raise user_error([*sources.faults, missing, *reader.read(tree, tables, tuned.NOTHING)[1]])
    axes = tree.children["suite"].child("axes")
    undone = [grid.axis_fault(layer, list(axes.children) if axes else []) for layer in sources.overrides]
    sources.faults += filter(None, undone)
    # an override that an axis undoes is reported as such alone: an axis value may lack the option it sets
    layers = [layer for layer, conflict in zip(sources.overrides, undone, strict=True) if conflict is None]
    tree = sources.tree(layers).without(plugins.KEY)
    suite, faults = grid.expand(tree, tables, sources.settle(layers))
    sources.notes += [(logging.INFO, text) for text in suite.remarks] if suite else []
    return _checked(suite, faults, sources)


def _checked(loaded: Loaded | None, faults: list[Fault], sources: Sources) -> Loaded:
    """Log the notes of the sources, which a fault makes needless, and return what was loaded.

    Raises:
        UserError: every fault of the sources and of the config, if there is one.
    """
    if loaded is None or faults or sources.faults:
        raise user_error([*sources.faults, *faults])
    for level, note in dict.fromkeys(sources.notes):
        logger.log(level, "%s", note)
    return loaded


def is_suite(source: Source, overrides: Overrides = None) -> bool:
    """Whether the file, with all it extends and the overrides, has a ``suite`` that is not null.

    Raises:
        UserError: it cannot be read as YAML.
    """
    sources = Sources(source, overrides)
    suite = sources.tree(sources.overrides).child("suite")
    return suite is not None and suite.value is not None


def plain(config: Config) -> dict[str, Any]:
    """All keys of a config as plain data; loading it gives an equal one."""
    data = config.model_dump(mode="json")
    for key in config.tune:  # a tuned key has no value of its own
        section, _, option = key.partition(".")
        del data[section][option]
    return data


def dump(config: Config) -> str:
    """The complete YAML of a config; loading it gives an equal one."""
    # leaves on one line: short, and still one key per line where it matters
    return yaml.dump(
        plain(config), Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
    )


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would not read as the same text."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds these line breaks when they are not escaped
    plain = isinstance(scalar(text), str) and not {"\x85", "\u2028", "\u2029"} & {*text}
    style = None if plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_text)


class Sources:
    """One config as it is written.

    Attributes:
        files: trees, each laid over those before it: the defaults, the files that are extended, the file itself.
        overrides: the trees of the overrides, in their order.
        faults: problems that do not keep the trees from being used.
        notes: what the user should know, by the level of logging: a shipped config was taken, a truth was dropped.
    """

    def __init__(self, source: Source, overrides: Overrides = None) -> None:
        """Read a file, a dict or a config, all that it extends, and overrides.

        Raises:
            UserError: a file cannot be read, or a dict holds what no YAML file can.
        """
        self.faults: list[Fault] = []
        self.notes: list[tuple[int, str]] = []
        self._broken = False
        if isinstance(source, Mapping | Config):
            name = UNNAMED
            self.files = self._built(plain(source) if isinstance(source, Config) else source)
        else:
            path = Path(source)
            name, shown = path.stem, _resolved("", str(path))
            if shown != os.path.normpath(path):
                text = f"{path}: no such file here; the config that comes with the program is taken: {shown}"
                self.notes.append((logging.INFO, text))
            self.files = self._read(shown, (), None)
        self.overrides = layers(overrides, self.faults)
        if self._broken:
            raise user_error(self.faults)
        self.files.insert(0, _defaults(name, self.files[-1].at))

    def tree(self, overrides: Sequence[Node]) -> Node:
        """The files with these overrides laid over them as one: a new name among them does not undo the others."""
        return functools.reduce(self._over, self._layers(overrides))

    def _layers(self, overrides: Sequence[Node]) -> list[Node]:
        return [*self.files, functools.reduce(merge, overrides)] if overrides else self.files

    def settle(self, overrides: Sequence[Node]) -> tuned.Settled:
        """The keys that leave an inherited grid because a later layer sets them."""
        layers = self._layers(overrides)
        for layer in layers:
            self.faults += tuned.conflicts(layer)
        return functools.reduce(tuned.settle, layers, tuned.NOTHING)

    def _read(self, shown: str, above: tuple[str, ...], named_at: Place | None) -> list[Node]:
        """The trees of a file and of all that it extends; what cannot be read is left out, and a fault says so.

        Args:
            shown: the file as messages name it.
            above: the files being read; every one extends the next.
            named_at: where ``extends`` names it.
        """
        path = Path(os.path.abspath(shown))
        origin = Place(shown, 1, 1, _start_of_paths(path))
        try:
            if named_at and str(path) in map(os.path.abspath, above):
                raise fault(named_at, ("extends",), f"a cycle: {' -> '.join([*above, shown])}", "a file that ends it")
            written = parse(_text(path, replace(origin, line=0)), origin, self.faults)
            if not isinstance(written.value, dict):
                content = {type(None): "an empty file", list: "a list"}.get(type(written.value), "a single value")
                raise fault(written.at, (), content, "a map of config keys")
            bases = _bases(written)
        except Fault as problem:
            if named_at and not problem.at.line:  # the file itself, not a place in it
                problem = Fault(named_at, f"extends: {problem}")
            self.faults.append(problem)
            self._broken = True
            return []
        return [*self._extended(bases, (*above, shown)), replace(written.without("extends"), at=origin)]

    def _built(self, data: Mapping[str, Any]) -> list[Node]:
        """The trees of a dict and of all that it extends."""
        try:
            written = build(data, Place("config", 0, 0, Path.cwd()))
            return [*self._extended(_bases(written), ()), written.without("extends")]
        except Fault as problem:
            self.faults.append(problem)
            self._broken = True
            return []

    def _extended(self, bases: Sequence[Node], above: tuple[str, ...]) -> list[Node]:
        """The trees of files that the last of ``above`` names, or that a dict does."""
        folder = os.path.dirname(above[-1]) if above else ""
        return [tree for base in bases for tree in self._read(_resolved(folder, str(base.value)), above, base.at)]

    def _over(self, old: Node, new: Node) -> Node:
        """Lay ``new`` over ``old``; other labels drop an inherited truth, which is about other images."""
        inherited, changed = (data.children if (data := tree.child("data")) else {} for tree in (old, new))
        if "labels" in changed and "truth" not in changed and "labels" in inherited and "truth" in inherited:
            if inherited["truth"].value is not None:
                text = (
                    f"{changed['labels'].at}: data.labels: the inherited data.truth ({inherited['truth'].at}) is "
                    "dropped, because it is about other labels; set data.truth if there is one for these"
                )
                self.notes.append((logging.WARNING, text))
            old = replace(old, value={**old.children, "data": old.children["data"].without("truth")})
        return merge(old, new)


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
    return str(shipped.joinpath(*parts)) if os.path.isfile(shipped.joinpath(*parts)) else beside


def _start_of_paths(file: Path) -> Path:
    """The folder that relative paths in a file start from: its own.

    Configs in an installed package are read as if they stood in ``configs`` of the working directory, as in the
    repository: the data sets that they name lie in ``.data`` beside it.
    """
    installed = PACKAGE / "configs"
    return Path.cwd() / "configs" / file.parent.relative_to(installed) if installed in file.parents else file.parent


def _text(path: Path, at: Place) -> str:
    """The text of a config file.

    Raises:
        Fault: missing, a folder, too large, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reasons: dict[type, str] = {FileNotFoundError: "no such file", IsADirectoryError: "a folder"}
        elsewhere = "" if os.path.exists(path) else f", here or in {shipped_configs()}"
        raise fault(at, (), reasons.get(type(error), str(error)), f"a YAML file{elsewhere}") from None
    if len(data) > MAX_BYTES:
        raise fault(at, (), f"more than {MAX_BYTES} bytes", "a config file")
    return decode(data, at)


def _defaults(name: str, at: Place) -> Node:
    """What an unwritten name is: a map that names another entry replaces one that names none."""
    split = Node({"scheme": Node(KFold().scheme, at)}, at)
    backbone = Node({"name": Node(BackboneConfig().name, at)}, at)
    return Node({"name": Node(name, at), "split": split, "backbone": backbone}, at)


def _bases(written: Node) -> list[Node]:
    """The nodes of the files that a file extends."""
    extends = written.child("extends")
    if extends is None:
        return []
    bases = extends.items if isinstance(extends.value, list) else [extends]
    for base in bases:
        if not isinstance(base.value, str):
            raise fault(base.at, ("extends",), repr(base.plain()), "a path, or a list of paths")
    return bases
