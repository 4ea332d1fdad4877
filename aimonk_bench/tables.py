"""Every table in one place: for `list`, the JSON Schema and the check of options."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table as Grid
from rich.text import Text

from aimonk_bench.backbones import catalog, weights
from aimonk_bench.backbones.catalog import CATALOG, Entry
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.backbones.speed import speeds
from aimonk_bench.config.jsonschema import json_schema
from aimonk_bench.config.plugins import named
from aimonk_bench.config.tables import Tables
from aimonk_bench.data import transforms
from aimonk_bench.data.importers import IMPORTERS
from aimonk_bench.evaluation.thresholds import THRESHOLDS
from aimonk_bench.records.files import dumps
from aimonk_bench.registry import options_model, show
from aimonk_bench.reporting.words import fill, three_digits
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.missing import MISSING
from aimonk_bench.training.optimizers import OPTIMIZERS
from aimonk_bench.training.samplers import SAMPLERS
from aimonk_bench.training.schedules import SCHEDULES
from aimonk_bench.training.set_losses import SET_LOSSES

INDENT = "    "  # of what stands below a name


def _stages(backbone: str) -> tuple[str, ...] | None:
    """The stages before which `backbone.freeze` may cut; a network outside the catalog is built to find them.

    None of a network that cannot be built: when the networks of a suite are tried, its runs fail with the reason.
    """
    entry = catalog.entry(backbone)
    if entry.stages is not None:
        return entry.stages
    from aimonk_bench.backbones import network  # imports torch and timm

    try:
        return network.stages(entry.timm)
    except Exception:  # timm raises anything
        return None


def _multiple(backbone: str) -> int:
    """What `transform.size` must be a multiple of; a network outside the catalog is built to find it.

    1 of a network that cannot be built: when it is tried, its runs fail, or the user is told.
    """
    entry = catalog.entry(backbone)
    if entry.multiple is not None:
        return entry.multiple
    from aimonk_bench.backbones import network  # imports torch and timm

    return network.multiple(entry.timm) or 1


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
    native_size=lambda backbone: catalog.entry(backbone).size,
    check_transforms=transforms.check,
    check_backbone=catalog.problem,
)


# For the config of a finished run, which is read without executing its plug-ins.
RECORDED = replace(TABLES, name_plugins=True)


def tables(plugins: Sequence[str] = (), *, allow_plugins: bool = False) -> Tables:
    """The tables for a command.

    Args:
        plugins: files and modules whose entries are added, as the user names them on the command line; they are
            executed.
        allow_plugins: whether a config may name plug-ins, whose code is then executed.

    Raises:
        UserError: all that is wrong with plug-ins.
    """
    return replace(named(plugins, TABLES) if plugins else TABLES, allow_plugins=allow_plugins)


def schema(tables: Tables = TABLES) -> str:
    """The JSON Schema of the YAML files."""
    return dumps(json_schema(tables))


def describe(kind: str, tables: Tables = TABLES, width: int = 80) -> Group:
    """One of the tables for reading, and a blank line: names, what each entry is, and its options with defaults.

    Args:
        kind: a field of the tables: backbones, losses, missing, samplers, thresholds, optimizers, schedules, importers.
        tables: of the program, or with the entries of plug-ins, which are marked.
        width: of the lines.
    """
    if kind == "backbones":
        return Group(_backbones(tables), "")
    entries = [_described(kind, name, function, tables, width) for name, function in getattr(tables, kind).items()]
    return Group(Text(kind, style="italic"), *entries, "")


def _described(kind: str, name: str, function: Callable[..., Any], tables: Tables, width: int) -> Text:
    """An entry: its name and what it does, its options below."""
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    words = re.findall(r"\S+\s*", " ".join(filter(None, (summary, _plugin(tables, kind, name)))))
    lines = fill([f"{name}  ", *words], width, INDENT)
    if options := _options(function):
        lines += fill([INDENT, *re.findall(r"[^,]+(?:, |$)", f"options: {options}")], width, INDENT)
    text = Text("\n".join(lines))
    text.stylize("bold", 0, len(name))
    return text


def _plugin(tables: Tables, kind: str, name: str) -> str:
    """``(plug-in my_losses.py)``, or nothing for an entry of the program."""
    origin = tables.origins.get(kind, {}).get(name)
    return f"(plug-in {Path(origin.plugin.source).name})" if origin else ""


def _backbones(tables: Tables) -> Grid:
    grid = Grid(
        title="backbones", title_justify="left", caption_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    heads = ("size", "fea-\ntures", "para-\nmeters", "macs", "images\nper\nsecond")
    for head in ("name, below it timm's, stages and licence", *heads):  # which all fit into 80 columns
        grid.add_column(head, no_wrap=True)
    measured = speeds(FeatureStore().root)
    for name in tables.backbones:
        entry = catalog.entry(name, tables.plugins)
        here = " *" if weights.local(entry) else ""
        measurable = (entry.timm, entry.size) if entry.size else None
        licence = (entry.licence or "licence not stated") + _warning(entry)
        stages = "stages as timm says" if entry.stages is None else _span(entry.stages)
        grid.add_row(
            "\n ".join(
                filter(None, (f"{name}{here}", entry.timm, f"{stages}; {licence}", _plugin(tables, "backbones", name)))
            ),
            str(entry.size or ""),
            str(entry.features or ""),
            three_digits(entry.cost.parameters / 1e6 if entry.cost else math.nan),
            three_digits(entry.cost.macs / 1e9 if entry.cost else math.nan),
            three_digits(measured.get(measurable, math.nan) if measurable else math.nan),
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
    return grid


def _warning(entry: Entry) -> str:
    """What a user must know of a licence before the weights are used."""
    return ", non-commercial" if entry.non_commercial else ", own terms" if entry.own_terms else ""


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
