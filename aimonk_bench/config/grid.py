"""A suite: every combination of its axes as a complete config."""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from aimonk_bench import registry
from aimonk_bench.config import reader, tuned
from aimonk_bench.config.faults import Fault, Place, dotted, fault
from aimonk_bench.config.fields import (
    ENTRIES,
    Config,
    DataConfig,
    SuiteSection,
    Unavailable,
    is_weight_file,
    train_default,
)
from aimonk_bench.config.nodes import Node, locate, merge, wrap
from aimonk_bench.config.tables import Tables
from aimonk_bench.errors import count
from aimonk_bench.registry import Problem, Spec

MAX_RUNS = 10_000
Cell = tuple[dict[str, Node], Config]  # one combination: the value of every axis, and the config that they make
BASELINE: registry.Path = ("suite", "baseline")
PIXEL_KEYS = {"white"}  # of data
FIXED = ("data", "name", "plugins", "plot", "run", "suite", "extends", "train.keep_weights")  # what no axis may vary


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
        baseline: index of the baseline in ``runs``.
        unavailable: what becomes of a run whose weights cannot be had.
        remarks: what to say of keys that are not tuned.
    """

    name: str
    base: Config
    runs: tuple[SuiteRun, ...]
    baseline: int
    unavailable: Unavailable = "fail"
    remarks: tuple[str, ...] = ()


def public(config: Config) -> dict[str, Any]:
    """Plain data of a config for a run's id: without paths, plug-ins (by hash) and what changes no result.

    The keys of ``data`` say where to look and how to read; what was read is in the fingerprint of the data. Those in
    `PIXEL_KEYS` decide what is read from an image.
    """
    exclude: dict[str, Any] = {"name": True, "plugins": True, "plot": True, "run": True, "train": {"keep_weights"}}
    exclude["data"] = set(DataConfig.model_fields) - PIXEL_KEYS
    content = config.model_dump(mode="json", exclude=exclude)
    if is_weight_file(config.backbone.weights):
        content["backbone"]["weights"] = "path"
    return content


def label(config: Config, key: str, tables: Tables) -> str:
    """The value at an axis as a run's name shows it: ``focal(gamma=1.0)``, ``lr=0.01``, ``resnet50``."""
    path = tuple(key.split("."))
    value: Any = functools.reduce(_part, path, config)
    if isinstance(value, Spec) and path not in ENTRIES:
        return f"{path[-1]}: {registry.label(getattr(tables, ENTRIES[path[:-2]][1]), value)}"
    if isinstance(value, Spec):
        return registry.label(getattr(tables, ENTRIES[path][1]), value)
    if path[-1] == registry.FOR:
        return f"for({', '.join(label(config, f'{key}.{name}', tables) for name in value)})"
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
        default = train_default(name, config.backbone.freeze) if key == "train" else field.default
        changed = shown != default.name if isinstance(part, Spec) else part != default
        if changed and name != identity:
            differing.append(shown)
    name = getattr(value, identity) if identity else key
    return f"{name}({', '.join(differing)})" if differing else name


def _part(value: Any, key: str) -> Any:
    """What stands in a config, an entry or a map under a key."""
    if isinstance(value, Spec):
        return {"name": value.name, registry.FOR: value.attributes, **value.options}[key]
    return value[key] if isinstance(value, Mapping) else getattr(value, key)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return os.path.basename(value) if os.path.isabs(value) else value
    return registry.show(value)


def axis_fault(override: Node, axes: Sequence[str]) -> Fault | None:
    """A ``--set`` that an axis would undo; `FIXED` axes are reported elsewhere."""
    for axis in axes:
        path = axis.split(".")
        node = override.find(path)
        if node and path[0] not in FIXED:
            return fault(node.at, path, "a key that is an axis of the suite", "any other key")
    return None


@dataclass
class _Grid:
    """The tree without ``suite``, the axes (key -> list of values), and the problems that were met in them.

    ``settled`` are the keys that leave an inherited grid of ``tune`` whatever the axes set.
    """

    base: Node
    axes: dict[str, Node]
    tables: Tables
    settled: tuned.Settled
    faults: list[Fault]

    def read(
        self, values: Mapping[str, Node], place: registry.Path = (), pattern: Collection[str] = ()
    ) -> tuple[Config | None, list[Fault]]:
        """The base with values laid over it as one, every one at its dotted key; the axes have no order.

        Args:
            place: of the map that has the values of the keys ``pattern``.
        """

        def written_at(path: registry.Path) -> registry.Path:
            inside = any(f"{dotted(path)}.".startswith((f"{key}.", f"{key}[")) for key in pattern)
            return (*place, *path) if inside else path

        layer = self.layer(values)
        settled = tuned.settle(self.settled, layer)
        config, faults = reader.read(merge(self.base, layer), self.tables, settled, written_at)
        conflicts = tuned.conflicts(layer, None if pattern else self.base.child("tune"))
        return (None if conflicts else config), [*faults, *conflicts]

    def layer(self, values: Mapping[str, Node]) -> Node:
        """Values of the axes as one tree."""
        layers = [wrap(key.split("."), value, value.key or value.at) for key, value in values.items()]
        return functools.reduce(merge, layers, Node({}, self.base.at))

    def remarks(self, cells: Sequence[Cell]) -> Iterator[str]:
        """What to say of keys that are not tuned, each remark once, with the number of runs that it is about."""
        places: dict[str, list[Place]] = {}
        for values, _ in cells:
            layer = self.layer(values)
            settled = tuned.settle(self.settled, layer)
            for text, at in tuned.remarks(merge(self.base, layer), settled, self.settled).items():
                places.setdefault(text, []).append(at)
        for text, where in places.items():
            share = f", in {len(where)} of {count(len(cells), 'run')}" if len(where) < len(cells) else ""
            yield f"{where[0]}: {text}{share}"

    def cells(self) -> list[Cell]:
        """Every combination, checked as a whole, so that faults of two axes together are reported too."""
        cells: list[Cell] = []
        first: dict[str, dict[str, Node]] = {}
        alternatives = [[replace(value, key=axis.key) for value in axis.items] for axis in self.axes.values()]
        for combination in itertools.product(*alternatives):
            values = dict(zip(self.axes, combination, strict=True))
            config, problems = self.read(values)
            self.faults += problems
            if config is None:
                continue
            cells.append((values, config))
            twin = first.setdefault(json.dumps(config.model_dump(mode="json")), values)
            if twin is not values:
                key = next(key for key in self.axes if values[key] is not twin[key])
                actual = f"{registry.show(values[key].plain())}, which gives the same run a second time"
                self.faults.append(fault(values[key].at, ("suite", "axes", key), actual, "values that differ"))
        return cells

    def matching(self, cells: list[Cell], pattern: Node, place: registry.Path) -> set[int] | None:
        """The numbers of the cells whose config the pattern's values leave as it is; None if they are valid in none."""
        results = [self.read({**values, **pattern.children}, place, pattern.children) for values, _ in cells]
        if all(faults for _, faults in results):
            self.faults += results[0][1]
            return None
        return {number for number, (config, _) in enumerate(results) if config == cells[number][1]}

    def without(self, cells: list[Cell], patterns: list[Node]) -> list[int]:
        """The numbers of the cells that no pattern matches."""
        remaining = list(range(len(cells)))
        for number, pattern in enumerate(patterns):
            path: registry.Path = ("suite", "exclude", number)
            matches = self.matching(cells, pattern, path)
            if matches == set():
                self.faults.append(fault(pattern.at, path, "a pattern that matches no run", "values of the axes"))
            remaining = [cell for cell in remaining if cell not in (matches or ())]
            if not remaining:
                self.faults.append(fault(pattern.at, path, "a pattern that removes the last run", "some run left"))
                break
        return remaining

    def baseline(self, cells: list[Cell], remaining: list[int], pattern: Node) -> int:
        """The number of the one remaining cell that matches; 0 if there is no such cell."""
        matches = self.matching(cells, pattern, BASELINE)
        matching = [cell for cell in remaining if cell in (matches or ())]
        if remaining and len(matching) != 1 and matches is not None:
            actual = "a run that `exclude` removes" if matches and not matching else f"{len(matching)} runs that match"
            expected = "exactly one" + (f": {self._unnamed(cells, matching)}" if matching else "")
            absent = [] if matches else self._absent(cells, pattern)
            self.faults += absent or [fault(pattern.at, BASELINE, actual, expected)]
        return (matching or [0])[0]

    def _unnamed(self, cells: list[Cell], matching: list[int]) -> str:
        """What the pattern of several cells has to name too: each axis in which they differ, with its values."""
        alternatives = {
            key: dict.fromkeys(_flow({key: cells[number][0][key].plain()}) for number in matching) for key in self.axes
        }
        return "name also " + ", and ".join(" or ".join(lines) for lines in alternatives.values() if len(lines) > 1)

    def _absent(self, cells: list[Cell], pattern: Node) -> list[Fault]:
        """The values of a pattern that are none of their axis."""
        return [
            fault(
                value.at,
                (*BASELINE, key),
                registry.show(value.plain()),
                "a value of this axis: " + ", ".join(registry.show(item.plain()) for item in self.axes[key].items),
            )
            for key, value in pattern.children.items()
            if not self.matching(cells, replace(pattern, value={key: value}), BASELINE)
        ]


def _flow(value: Mapping[str, Any]) -> str:
    """A map of one key on one line of YAML, without its braces."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).strip()[1:-1]


def expand(tree: Node, tables: Tables, settled: tuned.Settled) -> tuple[Suite | None, list[Fault]]:
    """The suite that a merged tree describes, or every problem of its base, axes, baseline and exclusions.

    Args:
        settled: the keys that leave an inherited grid of ``tune`` whatever the axes set.
    """
    section = tree.children["suite"]
    base_tree = tree.without("suite")
    base, faults = reader.read(base_tree, tables, settled)
    structure, sound = _structure(tree)
    faults += structure
    if not sound:
        return None, faults
    grid = _Grid(base_tree, section.children["axes"].children, tables, settled, faults)
    baseline, exclude = section.children["baseline"], section.child("exclude")
    excluded = exclude.items if exclude else []
    cells = grid.cells()
    if base is None or faults:
        patterns: list[tuple[registry.Path, Node]] = [(BASELINE, baseline)]
        patterns += [(("suite", "exclude", number), pattern) for number, pattern in enumerate(excluded)]
        for place, pattern in patterns:
            values = {key: node for key, node in pattern.children.items() if key in grid.axes}
            faults += grid.read(values, place, values)[1]
        return None, faults
    remaining = grid.without(cells, excluded)
    reference = grid.baseline(cells, remaining, baseline)
    if faults:
        return None, faults
    configs = [cells[cell][1] for cell in remaining]
    runs = tuple(SuiteRun(tuple(label(config, key, tables) for key in grid.axes), config) for config in configs)
    unavailable = SuiteSection.model_validate(section.plain()).unavailable
    remarks = tuple(grid.remarks([cells[cell] for cell in remaining]))
    return Suite(base.name, base, runs, remaining.index(reference), unavailable, remarks), []


def _structure(tree: Node) -> tuple[list[Fault], bool]:
    """Problems of the ``suite`` map itself, and whether the grid can be formed all the same."""
    try:
        suite = SuiteSection.model_validate(tree.children["suite"].plain())
    except ValidationError as error:
        problems = registry.problems_of(error, lambda _: SuiteSection.model_fields)
        return [locate(tree, replace(problem, path=("suite", *problem.path))) for problem in problems], False
    faults = [locate(tree, replace(problem, on_key=True)) for problem in _misused_keys(suite)]
    size = math.prod(len(values) for values in suite.axes.values())
    if size > MAX_RUNS:
        faults.append(locate(tree, Problem(("suite", "axes"), f"{size} runs", f"at most {MAX_RUNS}", on_key=True)))
    return faults, size <= MAX_RUNS


def _misused_keys(suite: SuiteSection) -> Iterator[Problem]:
    """Keys that can be no axis, and keys of ``baseline`` and ``exclude`` that are none."""
    for key in suite.axes:
        path: registry.Path = ("suite", "axes", key)
        if any(f"{key}.".startswith(f"{fixed}.") for fixed in FIXED):
            yield Problem(path, f"the axis {key!r}", "a key outside " + ", ".join(FIXED))
        for outer in suite.axes:
            if key.startswith(f"{outer}."):
                yield Problem(path, f"an axis inside the axis {outer!r}", "separate axes")
    expected = "an axis: one of " + ", ".join(suite.axes)
    excluded = ((("exclude", number), pattern) for number, pattern in enumerate(suite.exclude))
    for place, pattern in ((("baseline",), suite.baseline), *excluded):
        for key in pattern:
            if key not in suite.axes:
                near = registry.nearest(key, suite.axes)
                yield Problem(("suite", *place, key), f"unknown axis {key!r}", expected, near)
