"""Schedules: (step, total, **options) -> the factor of the learning rate at a step, from 0, of ``total`` steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Lt


def constant(step: int, total: int) -> float:
    """The learning rate of the config at every step."""
    return 1.0


def cosine(step: int, total: int) -> float:
    """Half a cosine from the learning rate down to 0 over all steps (arXiv 1608.03983 without restarts)."""
    return (1 + math.cos(math.pi * step / total)) / 2


def warmup_cosine(step: int, total: int, *, warmup: Annotated[float, Ge(0), Lt(1)] = 0.1) -> float:
    """A linear rise over the fraction ``warmup`` of all steps, then half a cosine (arXiv 1706.02677, 1608.03983)."""
    rising = math.ceil(warmup * total)
    return (step + 1) / (rising + 1) if step < rising else cosine(step - rising, total - rising)


SCHEDULES: dict[str, Callable[..., float]] = {"constant": constant, "cosine": cosine, "warmup_cosine": warmup_cosine}
