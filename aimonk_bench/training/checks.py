"""What can be refused of a recipe before any picture is read."""

from __future__ import annotations

from collections.abc import Callable

from aimonk_bench.backbones.encoder import pick_device
from aimonk_bench.config.fields import TrainConfig
from aimonk_bench.errors import UserError
from aimonk_bench.registry import Spec
from aimonk_bench.training.heads import check_optimizer
from aimonk_bench.training.missing import check_accumulation, check_missing
from aimonk_bench.training.samplers import check_order, check_sampler


def check(train: TrainConfig, loss: Spec, missing: Spec, sampler: Spec, attributes: int) -> None:
    """Refuse what the number of attributes, or this machine, makes impossible, before any picture is read.

    Raises:
        UserError: all the problems.
    """
    problems: list[str] = []
    checks: list[Callable[[], object]] = [
        lambda: pick_device(train.device),
        lambda: check_optimizer(train.optimizer),
        lambda: check_missing(missing, loss, attributes),
        lambda: check_accumulation(missing, loss, train.accumulate),
        lambda: check_sampler(sampler, attributes, train.batch_size),
        lambda: check_order(train.order, sampler),
    ]
    for refuse in checks:
        try:
            refuse()
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
