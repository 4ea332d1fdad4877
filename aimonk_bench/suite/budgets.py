"""How much training the heads of a run get, as far as its config says it."""

from __future__ import annotations

from aimonk_bench import registry
from aimonk_bench.config.fields import DEFAULT_GRID, Config
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


def untuned(config: Config) -> list[str]:
    """A note on the options of heads that could be tuned and are not; none where the grid is the default."""
    if config.backbone.freeze != "all" or config.tune == DEFAULT_GRID:
        return []
    train, loss = config.train, config.loss.options
    values = {"train.lr": train.lr, "train.weight_decay": train.weight_decay}
    values |= {f"loss.{name}": value for name, value in loss.items() if type(value) in (int, float)}
    values |= {key: of_key[0] for key, of_key in config.tune.items() if len(of_key) == 1}
    shown = [f"{key} {value:g}" for key, value in values.items() if len(config.tune.get(key, [value])) == 1]
    return [f"not tuned: {', '.join(shown)}"] if shown else []
