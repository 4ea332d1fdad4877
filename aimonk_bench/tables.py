"""Every table in one place: for `list`, the JSON Schema and the check of options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from rich.console import Group
from rich.table import Table as Grid

from aimonk_bench.backbones import catalog, weights
from aimonk_bench.backbones.catalog import CATALOG
from aimonk_bench.config.fields import Tables
from aimonk_bench.data import transforms
from aimonk_bench.data.importers import IMPORTERS
from aimonk_bench.evaluation.thresholds import THRESHOLDS
from aimonk_bench.registry import options_model, show
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.missing import MISSING
from aimonk_bench.training.optimizers import OPTIMIZERS
from aimonk_bench.training.samplers import SAMPLERS
from aimonk_bench.training.schedules import SCHEDULES
from aimonk_bench.training.set_losses import SET_LOSSES


def _stages(backbone: str) -> tuple[str, ...]:
    """The stages before which `backbone.freeze` may cut; a network outside the catalog is built to find them."""
    entry = catalog.entry(backbone)
    if entry.stages:
        return entry.stages
    from aimonk_bench.backbones import network  # imports torch and timm

    return network.stages(entry.timm)


def _multiple(backbone: str) -> int:
    """What `transform.size` must be a multiple of; a network outside the catalog is built to find it."""
    entry = catalog.entry(backbone)
    if entry.multiple is not None:
        return entry.multiple
    from aimonk_bench.backbones import network  # imports torch and timm

    return network.multiple(entry.timm)


TABLES = Tables(
    backbones=CATALOG,
    losses=LOSSES | SET_LOSSES,
    missing=MISSING,
    samplers=SAMPLERS,
    thresholds=THRESHOLDS,
    optimizers=OPTIMIZERS,
    schedules=SCHEDULES,
    importers=IMPORTERS,
    known_backbone=catalog.exists,
    stages=_stages,
    multiple=_multiple,
    native_size=lambda name: catalog.entry(name).size,
    check_transforms=transforms.check,
)


def describe(kind: str) -> Group:
    """One of the tables for reading, and a blank line: names, options with their defaults, and what each entry is.

    Args:
        kind: a field of TABLES: backbones, losses, missing, samplers, thresholds, optimizers, schedules or importers.
    """
    grid = Grid(
        title=kind, title_justify="left", caption_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    if kind == "backbones":
        _add_columns(grid, "name, below it timm's and the stages", "features", "licence of the weights")
        for name, entry in CATALOG.items():
            warning = " (non-commercial)" if entry.non_commercial else ""
            licence = (entry.licence or "not stated") + warning
            here = " *" if weights.local(entry) else ""
            grid.add_row(f"{name}{here}\n  {entry.timm}\n  {_span(entry.stages)}", str(entry.features), licence)
        grid.caption = (
            "*: weights on this machine\nAny other timm name works too.\nStages: where backbone.freeze may cut"
        )
    else:
        _add_columns(grid, "name", "options", "what it does")
        for name, function in getattr(TABLES, kind).items():
            grid.add_row(name, _options(function), (inspect.getdoc(function) or "").partition("\n")[0])
    return Group(grid, "")


def _add_columns(grid: Grid, *headings: str) -> None:
    for heading in headings:
        grid.add_column(heading, overflow="fold")


def _span(stages: tuple[str, ...]) -> str:
    """``blocks.0-6, conv_head``: of what is numbered the first and the last."""
    numbered = [stage for stage in stages if stage[-1].isdigit()]
    last = re.sub(r".*\D", "", numbered[-1])
    return ", ".join([f"{numbered[0]}-{last}", *(stage for stage in stages if stage not in numbered)])


def _options(function: Callable[..., Any]) -> str:
    fields = options_model(function).model_fields
    return ", ".join(name if field.is_required() else f"{name}={show(field.default)}" for name, field in fields.items())
