"""The tables that a config may name entries of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aimonk_bench.plugins import Origin, Plugin
from aimonk_bench.registry import Problem, Table


@dataclass(frozen=True)
class Tables:
    """What a config may name. The caller hands the tables in, so that this room imports none of them.

    Attributes:
        known_backbone: whether a backbone outside ``backbones`` exists all the same.
        stages: the stages at which an existing backbone can be cut; None where that is found when it is tried.
        multiple: ``transform.size`` must be a multiple of it for an existing backbone; 1 where that is found then.
        native_size: the edge of the images that an existing backbone was trained on; None if they were not square.
        check_transforms: the problems of ``train``, ``views`` and ``size``, with paths relative to ``transform``.
        check_backbone: what is wrong with a value of a plug-in's `CATALOG`; None if nothing is.
        allow_plugins: whether a config may name plug-ins, whose code is then executed.
        name_plugins: a config is that of a finished run, which was checked before. Its plug-ins are named, and no code
            of theirs is executed: what they add to the tables is taken as it is written.
        plugins: those whose entries are in the tables, or that are only named.
        origins: field of this record -> name -> the plug-in that has this entry.
    """

    backbones: Mapping[str, object]
    losses: Table
    missing: Table
    samplers: Table
    thresholds: Table
    optimizers: Table
    schedules: Table
    importers: Table
    known_backbone: Callable[[str], bool]
    stages: Callable[[str], Sequence[str] | None]
    multiple: Callable[[str], int]
    native_size: Callable[[str], int | None]
    check_transforms: Callable[[list[dict[str, dict[str, Any]]], Literal["exact", "fresh"] | int, int], list[Problem]]
    check_backbone: Callable[[object], str | None]
    allow_plugins: bool = False
    name_plugins: bool = False
    plugins: tuple[Plugin, ...] = ()
    origins: Mapping[str, Mapping[str, Origin]] = field(default_factory=dict)

    @property
    def named(self) -> Plugin | None:
        """The plug-ins that are only named, as one; None where there are none."""
        names = ", ".join(plugin.source for plugin in self.plugins)
        return Plugin(names, names, None) if self.name_plugins and names else None
