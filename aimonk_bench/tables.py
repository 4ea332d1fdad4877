"""Every table in one place: for `list`, the JSON Schema and the check of options."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

from rich.console import Group
from rich.table import Table as Grid

from aimonk_bench.backbones import catalog, weights
from aimonk_bench.backbones.catalog import CATALOG, Entry
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.backbones.speed import speeds
from aimonk_bench.config.fields import Tables
from aimonk_bench.config.jsonschema import json_schema
from aimonk_bench.data import transforms
from aimonk_bench.data.importers import IMPORTERS
from aimonk_bench.evaluation.thresholds import THRESHOLDS
from aimonk_bench.records.files import dumps
from aimonk_bench.registry import options_model, show
from aimonk_bench.reporting.words import three_digits
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.missing import MISSING
from aimonk_bench.training.optimizers import OPTIMIZERS
from aimonk_bench.training.samplers import SAMPLERS
from aimonk_bench.training.schedules import SCHEDULES
from aimonk_bench.training.set_losses import SET_LOSSES


def _stages(backbone: str) -> tuple[str, ...]:
    """The stages before which `backbone.freeze` may cut; a network outside the catalog is built to find them."""
    entry = catalog.entry(backbone)
    if entry.stages is not None:
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


def schema() -> str:
    """The JSON Schema of the YAML files."""
    return dumps(json_schema(TABLES))


def describe(kind: str) -> Group:
    """One of the tables for reading, and a blank line: names, options with their defaults, and what each entry is.

    Args:
        kind: a field of TABLES: backbones, losses, missing, samplers, thresholds, optimizers, schedules or importers.
    """
    grid = Grid(
        title=kind, title_justify="left", caption_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    if kind == "backbones":
        _add_backbones(grid)
    else:
        _add_columns(grid, "name", "options", "what it does")
        for name, function in getattr(TABLES, kind).items():
            grid.add_row(name, _options(function), (inspect.getdoc(function) or "").partition("\n")[0])
    return Group(grid, "")


def _add_backbones(grid: Grid) -> None:
    heads = ("size", "fea-\ntures", "para-\nmeters", "macs", "images\nper\nsecond")
    for head in ("name, below it timm's, stages and licence", *heads):  # which all fit into 80 columns
        grid.add_column(head, no_wrap=True)
    measured = speeds(FeatureStore().root)
    for name, entry in CATALOG.items():
        assert entry.cost is not None  # this and the size are stated for every entry of the catalog
        assert entry.size is not None
        here = " *" if weights.local(entry) else ""
        licence = (entry.licence or "licence not stated") + _warning(entry)
        grid.add_row(
            f"{name}{here}\n {entry.timm}\n {_span(entry.stages or ())}; {licence}",
            str(entry.size),
            str(entry.features),
            three_digits(entry.cost.parameters / 1e6),
            three_digits(entry.cost.macs / 1e9),
            three_digits(measured.get((entry.timm, entry.size), math.nan)),
        )
    grid.caption = "\n".join(
        (
            "*: weights on this machine",
            "Any other timm name works too.",
            "Stages: where backbone.freeze may cut",
            "size: native, in pixels",
            "parameters: millions, without classifier",
            "macs: billions of multiply-accumulates for an image, without classifier",
            "images per second: encoding, where this machine has encoded at that size",
        )
    )


def _warning(entry: Entry) -> str:
    """What a user must know of a licence before the weights are used."""
    return ", non-commercial" if entry.non_commercial else ", own terms" if entry.own_terms else ""


def _add_columns(grid: Grid, *headings: str) -> None:
    for heading in headings:
        grid.add_column(heading, overflow="fold")


def _span(stages: tuple[str, ...]) -> str:
    """``blocks.0-6, conv_head``: of what is numbered the first and the last."""
    if not stages:
        return "cannot be cut"
    numbered = [stage for stage in stages if stage[-1].isdigit()]
    last = re.sub(r".*\D", "", numbered[-1])
    return ", ".join([f"{numbered[0]}-{last}", *(stage for stage in stages if stage not in numbered)])


def _options(function: Callable[..., Any]) -> str:
    fields = options_model(function).model_fields
    return ", ".join(name if field.is_required() else f"{name}={show(field.default)}" for name, field in fields.items())
