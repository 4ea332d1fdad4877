"""The grid of `tune`, and the keys that leave it because they are set explicitly.

A layer is what is written in one place: a file that `extends` names, the file itself, all `--set` together, or the axes
of a suite. `tune` in a layer replaces an inherited grid as a whole. A tunable key that a later layer sets leaves the
inherited grid. One layer cannot both set a key and list values for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from aimonk_bench.config.faults import Fault, Place, fault
from aimonk_bench.config.fields import DEFAULT_GRID, TUNED_TRAIN_OPTIONS, TrainConfig
from aimonk_bench.config.nodes import Node

DEFAULT = "default"  # a value of tune
Settled = Mapping[str, Place]  # tunable keys that are set, and where
NOTHING: Settled = MappingProxyType({})


def settle(before: Settled, layer: Node) -> dict[str, Place]:
    """The keys that the grid in force cannot tune, once a layer is laid over others.

    Args:
        before: what the layers below settle.
        layer: a tree of config keys.
    """
    inherited = {} if "tune" in layer.children else before
    return {**inherited, **{key: _place(node) for key, node in _tunable(layer)}}


def remarks(tree: Node, settled: Settled, before_axes: Settled = NOTHING) -> dict[str, Place]:
    """What a run says of keys that are not tuned although they could be -> the place to look at.

    Args:
        tree: all layers of the run.
        settled: the keys that leave an inherited grid.
        before_axes: those that would leave it if the axes set nothing.
    """
    data = tree.plain()
    grid, section, tune = grid_in_force(data), data.get("train"), tree.child("tune")
    if not isinstance(grid, dict):
        return {}  # reported elsewhere
    not_tuned = {key: at for key, at in settled.items() if key in grid}
    others = ", ".join(key for key in grid if key not in not_tuned) or "nothing"
    texts = {f"{key} is set, so it is not tuned (tune: {others})": at for key, at in not_tuned.items()}
    replaced = [key for key in before_axes if key in grid and key not in settled and not _is_auto(tree, key)]
    texts |= {f"{key} is set, but the axis tune lists values for it": before_axes[key] for key in replaced}
    is_set = isinstance(section, dict) and "lr" in section
    if tune and isinstance(tune.value, dict) and "train.lr" not in grid and not is_set and freeze_of(data) == "all":
        text = f"train.lr is not set, so it has its default, {TrainConfig().lr:g}, and is not tuned"
        texts[text] = _place(tune)
    return texts


def conflicts(layer: Node, below: Node | None = None) -> list[Fault]:
    """The keys that one layer, or one file, both sets and tunes.

    Args:
        below: the `tune` of the layers below.
    """
    tune_of_layer = layer.child("tune")
    tune = tune_of_layer or below
    return [
        fault(_place(node), key.split("."), "a value, and a list of values in `tune`", "one of the two")
        for key, node in _tunable(layer)
        if tune and key in tune.children and (tune_of_layer or _place(node).source == _place(tune).source)
    ]


def _is_auto(tree: Node, key: str) -> bool:
    """Whether a key is set to `auto`, as the shipped defaults do."""
    node = tree.find(key.split("."))
    return node is not None and node.value == "auto"


def _place(node: Node) -> Place:
    return node.key or node.at


def _tunable(layer: Node) -> Iterator[tuple[str, Node]]:
    """The options of training and of the loss that a layer sets, by the names that they have in `tune`."""
    loss = layer.child("loss")
    keys = [*TUNED_TRAIN_OPTIONS, *(f"loss.{option}" for option in (loss.children if loss else {}) if option != "name")]
    for key in keys:
        node = layer.find(key.split("."))
        if node is not None:
            yield key, node


def grid_in_force(data: Mapping[str, Any]) -> Any:
    """The grid that plain data of a config asks for, before settled keys leave it; as written if it is no grid."""
    tune = data.get("tune", DEFAULT)
    if tune != DEFAULT:
        return tune
    return dict(DEFAULT_GRID) if freeze_of(data) == "all" else {}


def freeze_of(data: Mapping[str, Any]) -> Any:
    """``backbone.freeze`` in plain data of a config, as written."""
    backbone = data.get("backbone")
    return backbone.get("freeze", "all") if isinstance(backbone, dict) else "all"


def fill(data: dict[str, Any], settled: Settled) -> None:
    """Put the grid into plain data of a config; a tuned key has no value of its own, so that what is inherited goes."""
    grid = grid_in_force(data)
    if isinstance(grid, dict):
        grid = {key: values for key, values in grid.items() if key not in settled}
        for key in grid:
            section, _, option = str(key).partition(".")
            if isinstance(values := data.get(section), dict) and option != "name":
                data[section] = {name: value for name, value in values.items() if name != option}
    data["tune"] = grid
