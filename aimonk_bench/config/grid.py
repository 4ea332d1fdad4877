"""A suite: every combination of its axes as a complete config."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from aimonk_bench import registry
from aimonk_bench.config import reader
from aimonk_bench.config.fields import ENTRIES, Config, SuiteSection, Tables, is_weight_file
from aimonk_bench.config.nodes import Fault, Node, fault, locate, merge, wrap
from aimonk_bench.registry import Problem, Spec

MAX_RUNS = 10_000
FIXED = ("data", "name", "plot", "run", "suite", "extends")  # sections that no axis may vary


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite.

    Attributes:
        parts: its value at each axis, as a reader sees it: ``("focal(gamma=1.0)", "repeat_factor")``.
    """

    parts: tuple[str, ...]
    config: Config


@dataclass(frozen=True)
class Suite:
    """The runs in the order of the axes, the last one fastest.

    Attributes:
        name: the suite's name.
        base: the config without the axes.
        axes: axis key -> labels of its values, excluded ones too.
        baseline: index of the baseline in ``runs``.
    """

    name: str
    base: Config
    axes: dict[str, list[str]]
    runs: tuple[SuiteRun, ...]
    baseline: int


@dataclass(frozen=True, eq=False)
class _Cell:
    """One cell of the grid: the value of each axis and the config they give."""

    values: dict[str, Node]
    config: Config


def public(config: Config) -> dict[str, Any]:
    """Plain data of a config for a run's id: without paths and without what changes no result."""
    paths = {"labels", "images", "truth"}
    data = config.model_dump(mode="json", exclude={"name": True, "plot": True, "run": True, "data": paths})
    if is_weight_file(config.backbone.weights):
        data["backbone"]["weights"] = "path"
    return data


def label(config: Config, key: str, tables: Tables) -> str:
    """The value at an axis as a run's name shows it: ``focal(gamma=1.0)``, ``lr=0.01``, ``resnet50``."""
    path = tuple(key.split("."))
    value: Any = config
    for part in path:
        value = value.options[part] if isinstance(value, Spec) and part != "name" else getattr(value, part)
    if isinstance(value, Spec):
        return registry.label(getattr(tables, ENTRIES[path][1]), value)
    if key == "hide":
        return f"hide {value}" if value else "nothing hidden"
    if key == "tune":
        return f"tune({', '.join(f'{tuned}={values}' for tuned, values in value.items())})" if value else "not tuned"
    if not isinstance(value, BaseModel):
        return _shown(value) if path[-1] in ("name", "scheme", "mechanism") else f"{path[-1]}={_shown(value)}"
    identity = {"backbone": "name", "split": "scheme"}.get(key)
    differing = []
    for name, field in type(value).model_fields.items():
        part, shown = getattr(value, name), label(config, f"{key}.{name}", tables)
        changed = shown != field.default.name if isinstance(part, Spec) else part != field.default
        if changed and name != identity:
            differing.append(shown)
    name = getattr(value, identity) if identity else key
    return f"{name}({', '.join(differing)})" if differing else name


def _shown(value: object) -> str:
    if isinstance(value, str):
        return os.path.basename(value) if os.path.isabs(value) else value
    return registry.show(value)


def axis_fault(override: Node, axes: Sequence[str]) -> Fault | None:
    """A ``--set`` that an axis would undo; axes that no suite may have are not looked at."""
    for axis in axes:
        if axis.split(".")[0] in FIXED:
            continue
        node: Node | None = override
        for part in axis.split("."):
            node = node.child(part) if node else None
        if node:
            return fault(node.at, axis.split("."), Problem((), "a key that is an axis of the suite", "any other key"))
    return None


def expand(tree: Node, tables: Tables) -> tuple[Suite | None, list[Fault]]:
    """The suite that a merged tree describes, or every problem of its base, axes, baseline and exclusions."""
    section = tree.children["suite"]
    base_tree = replace(tree, value={key: node for key, node in tree.children.items() if key != "suite"})
    base, faults = reader.read(base_tree, tables)
    structure, sound = _structure(tree)
    faults += structure
    if not sound:
        return None, faults
    axes = section.children["axes"].children
    excluded = section.children["exclude"].items if "exclude" in section.children else []
    cells, more = _cells(base_tree, axes, tables)
    faults += more
    if base is None or faults:
        for pattern in (section.children["baseline"], *excluded):
            known = {key: node for key, node in pattern.children.items() if key in axes}
            faults += reader.read(_lay(base_tree, known), tables)[1]
        return None, faults
    kept, faults = _exclude(base_tree, cells, excluded, tables)
    baseline, more = _baseline(base_tree, cells, kept, section.children["baseline"], tables)
    if faults or more:
        return None, faults + more
    labels = {key: list(dict.fromkeys(label(cell.config, key, tables) for cell in cells)) for key in axes}
    runs = tuple(SuiteRun(tuple(label(cell.config, key, tables) for key in axes), cell.config) for cell in kept)
    return Suite(base.name, base, labels, runs, baseline), []


def _structure(tree: Node) -> tuple[list[Fault], bool]:
    """Problems of the ``suite`` map itself, and whether the grid can be formed all the same."""
    try:
        suite = SuiteSection.model_validate(tree.children["suite"].plain())
    except ValidationError as error:
        problems = registry.problems_of(error, lambda _: SuiteSection.model_fields)
        return [locate(tree, replace(problem, path=("suite", *problem.path))) for problem in problems], False
    problems = []
    for key in suite.axes:
        path: registry.Path = ("suite", "axes", key)
        if key.split(".")[0] in FIXED:
            problems.append(Problem(path, f"the axis {key!r}", "a key outside " + ", ".join(FIXED), on_key=True))
        for outer in suite.axes:
            if key.startswith(f"{outer}."):
                problems.append(Problem(path, f"an axis inside the axis {outer!r}", "separate axes", on_key=True))
    expected = "an axis: one of " + ", ".join(suite.axes)
    patterns: list[tuple[registry.Path, dict[str, Any]]] = [(("suite", "baseline"), suite.baseline)]
    patterns += [(("suite", "exclude", number), pattern) for number, pattern in enumerate(suite.exclude)]
    for path, pattern in patterns:
        for key in pattern:
            if key not in suite.axes:
                near = registry.nearest(key, suite.axes)
                problems.append(Problem((*path, key), f"unknown axis {key!r}", expected, near, on_key=True))
    size = math.prod(len(values) for values in suite.axes.values())
    if size > MAX_RUNS:
        problems.append(Problem(("suite", "axes"), f"{size} runs", f"at most {MAX_RUNS}", on_key=True))
    return [locate(tree, problem) for problem in problems], size <= MAX_RUNS


def _lay(base: Node, values: Mapping[str, Node]) -> Node:
    """The base tree with values laid over it, each at its dotted key."""
    for key, value in values.items():
        base = merge(base, wrap(key.split("."), value, value.key or value.at))
    return base


def _cells(base: Node, axes: dict[str, Node], tables: Tables) -> tuple[list[_Cell], list[Fault]]:
    """Every combination, each checked as a whole: what is wrong in two axes together is seen too."""
    cells: list[_Cell] = []
    faults: list[Fault] = []
    seen: dict[str, _Cell] = {}
    told: set[str] = set()
    alternatives = [[replace(value, key=axis.key) for value in axis.items] for axis in axes.values()]
    for combination in itertools.product(*alternatives):
        values = dict(zip(axes, combination, strict=True))
        config, problems = reader.read(_lay(base, values), tables)
        faults += problems
        if config is None:
            continue
        for key in set(axes) & set(config.tune) - told:
            told.add(key)
            problem = Problem((), f"the axis {key!r} and `tune` of the same key", "one of the two", on_key=True)
            faults.append(fault(axes[key].key or axes[key].at, ("suite", "axes", key), problem))
        cell = _Cell(values, config)
        cells.append(cell)
        twin = seen.setdefault(json.dumps(config.model_dump(mode="json")), cell)
        if twin is not cell:
            key = next(key for key in axes if values[key] is not twin.values[key])
            found = f"{registry.show(values[key].plain())}, which gives the same run a second time"
            faults.append(fault(values[key].at, ("suite", "axes", key), Problem((), found, "values that differ")))
    return cells, faults


def _matching(base: Node, cells: list[_Cell], pattern: Node, tables: Tables) -> tuple[list[_Cell], list[Fault]]:
    """The cells that keep their config under the pattern's values; if those are valid in no cell, what is wrong."""
    hits, found = [], []
    for cell in cells:
        config, faults = reader.read(_lay(base, {**cell.values, **pattern.children}), tables)
        found.append(faults)
        if config == cell.config:
            hits.append(cell)
    return hits, (found[0] if all(found) else [])


def _exclude(base: Node, cells: list[_Cell], patterns: list[Node], tables: Tables) -> tuple[list[_Cell], list[Fault]]:
    """The cells that no pattern matches."""
    kept, faults = cells, []
    for number, pattern in enumerate(patterns):
        path = ("suite", "exclude", number)
        hits, invalid = _matching(base, cells, pattern, tables)
        faults += invalid
        if not hits and not invalid:
            faults.append(fault(pattern.at, path, Problem((), "a pattern that matches no run", "values of the axes")))
        kept = [cell for cell in kept if cell not in hits]
        if not kept:
            faults.append(fault(pattern.at, path, Problem((), "a pattern that removes the last run", "some run left")))
            break
    return kept, faults


def _baseline(
    base: Node, cells: list[_Cell], kept: list[_Cell], pattern: Node, tables: Tables
) -> tuple[int, list[Fault]]:
    """The index of the baseline among the kept cells."""
    hits, faults = _matching(base, cells, pattern, tables)
    left = [index for index, cell in enumerate(kept) if cell in hits]
    if kept and len(left) != 1 and not faults:
        found = "a run that `exclude` removes" if hits and not left else f"{len(left)} runs that match"
        faults = [fault(pattern.at, ("suite", "baseline"), Problem((), found, "exactly one"))]
    return (left or [0])[0], faults
