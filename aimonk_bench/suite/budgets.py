"""How much training the heads of a run get, as far as its config says it."""

from __future__ import annotations

from aimonk_bench import registry
from aimonk_bench.config.fields import Config
from aimonk_bench.evaluation.fairness import Budget, Training
from aimonk_bench.suite.plan import entry_labels
from aimonk_bench.training.missing import wants_teacher
from aimonk_bench.training.optimizers import OPTIMIZERS
from aimonk_bench.training.schedules import SCHEDULES


def training_of(config: Config) -> Training:
    """How the heads of a run are trained, as far as the config says it."""
    train, labels = config.train, entry_labels(config)
    grid = {key: values for key, values in config.tune.items() if len(values) > 1}
    budget = Budget(
        epochs=train.epochs,
        batch_size=train.batch_size,
        optimizer=registry.label(OPTIMIZERS, train.optimizer),
        schedule=registry.label(SCHEDULES, train.schedule),
        lr=None if "train.lr" in grid else config.tune.get("train.lr", [train.lr])[0],
        grid=tuple(sorted((key, tuple(values)) for key, values in grid.items())),
        accumulate=train.accumulate,
        select=train.select,
        patience=train.patience,
        teacher=labels["missing"] if wants_teacher(config.missing) else None,
    )
    return Training(budget, (labels["loss"], labels["sampler"]))
