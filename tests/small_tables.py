"""Small tables that configs may name, and short ways to load a config with them."""

from __future__ import annotations

import re
from typing import Annotated

import pytest
from annotated_types import Ge

from aimonk_bench.backbones import catalog
from aimonk_bench.config import grid, loader
from aimonk_bench.config.fields import Config
from aimonk_bench.config.tables import Tables
from aimonk_bench.data.importers import IMPORTERS
from aimonk_bench.errors import UserError
from aimonk_bench.registry import Problem


def plain(values):
    """Takes no option."""


def focal(values, *, gamma: Annotated[float, Ge(0)] = 2.0, alpha: Annotated[float, Ge(0)] | None = 0.25):
    """Has two options."""


def sgd(values, *, momentum: Annotated[float, Ge(0)] = 0.0, nesterov: bool = False):
    """Has a switch."""


def check_transforms(train, views, size):
    return [
        Problem(("train", index, name), f"unknown transform {name!r}", "a flip", on_key=True)
        for index, item in enumerate(train)
        for name in item
        if name not in ("HorizontalFlip", "VerticalFlip") and views == "exact"
    ]


def entry_of(backbone):
    return backbone if isinstance(backbone, catalog.Entry) else catalog.CATALOG.get(backbone)


TABLES = Tables(
    backbones=dict.fromkeys(["resnet18", "resnet50", "tf_efficientnet_lite0"]),
    losses={"masked_bce": plain, "pos_weight": plain, "focal": focal},
    missing={"ignore": plain, "negative": plain},
    samplers={"uniform": plain, "repeat_factor": plain},
    thresholds={"fixed": plain, "per_attribute_f1": plain},
    optimizers={"adam": plain, "sgd": sgd},
    schedules={"constant": plain, "cosine": plain},
    importers=IMPORTERS,
    known_backbone=lambda name: name == "some_timm_model",
    stages=lambda name: entry.stages if (entry := entry_of(name)) else (),
    multiple=lambda name: 14 if name == "some_timm_model" else getattr(name, "multiple", 1),
    native_size=lambda name: getattr(name, "size", {"some_timm_model": 518, "resnet50": None}.get(name, 224)),
    check_transforms=check_transforms,
    check_backbone=lambda value: None if isinstance(value, catalog.Entry) else f"a {type(value).__name__}",
)


DATA = "data: {labels: l.txt, images: i}\n"


SUITE = (
    DATA
    + """\
suite:
  baseline: {loss: masked_bce, sampler: uniform}
  axes:
    loss: [masked_bce, pos_weight, {name: focal, gamma: 1.0}]
    sampler: [uniform, repeat_factor]
  exclude: [{loss: pos_weight, sampler: repeat_factor}]
"""
)


def load(*args) -> Config:
    return loader.load(args[0], TABLES, *args[1:], check_paths=False)


def load_suite(*args) -> grid.Suite:
    return loader.load_suite(args[0], TABLES, *args[1:], check_paths=False)


def problems(function, *args) -> list[str]:
    with pytest.raises(UserError) as caught:
        function(*args)
    for line in caught.value.problems:
        assert re.search(r"Input|Value error|Spec\(", line) is None
        assert "\n" not in line
    return caught.value.problems
