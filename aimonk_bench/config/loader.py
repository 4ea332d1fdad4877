"""From a YAML file to a checked config: `extends`, then ``--set``, then (in a suite) the axes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from aimonk_bench.config import grid, reader
from aimonk_bench.config.faults import Fault, fault, user_error
from aimonk_bench.config.fields import Config, Tables
from aimonk_bench.config.nodes import scalar
from aimonk_bench.config.sources import Sources

logger = logging.getLogger(__name__)

Loaded = TypeVar("Loaded", Config, grid.Suite)


def load(path: Path, tables: Tables, overrides: Sequence[str] = (), *, check_paths: bool = True) -> Config:
    """The config of one experiment.

    Args:
        path: a YAML file; where there is none, the shipped config of that name.
        tables: the names that it may use.
        overrides: ``key.sub=value`` each, laid over one another in this order and together over the file.
        check_paths: labels, images, a truth and a weight file without a fallback must exist.

    Raises:
        UserError: every problem, one line each: ``file:line:column: key: found X, expected Y``.
    """
    sources = Sources(path, overrides)
    tree = sources.tree(sources.overrides)
    suite = tree.child("suite")
    if suite is not None:
        expected = "one experiment; `aimonk-bench suite` runs suites"
        sources.faults.append(fault(suite.key or suite.at, ("suite",), "a suite", expected))
    sources.faults += reader.absent(tree) if check_paths else []
    config, faults = reader.read(tree.without("suite"), tables)
    return _checked(config, faults, sources)


def load_suite(path: Path, tables: Tables, overrides: Sequence[str] = (), *, check_paths: bool = True) -> grid.Suite:
    """The suite of a file, every run of its grid checked; a run whose weight file is absent fails when it is run.

    Raises:
        UserError: as `load`; also for a missing ``suite`` and for an override of a key that is an axis.
    """
    sources = Sources(path, overrides)
    tree = sources.tree(sources.overrides)
    sources.faults += reader.absent(tree) if check_paths else []
    if "suite" not in tree.children:
        missing = fault(tree.at, (), "no suite", "the key 'suite'; `aimonk-bench run` runs one experiment")
        raise user_error([*sources.faults, missing, *reader.read(tree, tables)[1]])
    axes = tree.children["suite"].child("axes")
    undone = [grid.axis_fault(layer, list(axes.children) if axes else []) for layer in sources.overrides]
    sources.faults += filter(None, undone)
    # an override that an axis undoes is reported as such alone: an axis value may lack the option it sets
    tree = sources.tree([layer for layer, conflict in zip(sources.overrides, undone, strict=True) if conflict is None])
    suite, faults = grid.expand(tree, tables)
    return _checked(suite, faults, sources)


def _checked(loaded: Loaded | None, faults: list[Fault], sources: Sources) -> Loaded:
    """What was loaded, and the notes about it said; the faults of reading and of the sources are an error."""
    for note in dict.fromkeys(sources.notes):
        logger.warning("%s", note)
    if loaded is None or faults or sources.faults:
        raise user_error([*sources.faults, *faults])
    return loaded


def is_suite(path: Path) -> bool:
    """Whether the file, with all it extends, has the key ``suite``.

    Raises:
        UserError: it cannot be read as YAML.
    """
    return any("suite" in tree.children for tree in Sources(path).files)


def dump(config: Config) -> str:
    """The complete YAML of a config; loading it gives an equal one."""
    data = config.model_dump(mode="json")
    # leaves on one line: short, and still one key per line where it matters
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would not read as the same text."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds these line breaks when they are not escaped
    plain = isinstance(scalar(text), str) and not {"\x85", "\u2028", "\u2029"} & {*text}
    style = None if plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_text)
