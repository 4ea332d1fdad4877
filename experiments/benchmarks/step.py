"""One training step of H stacked heads, and a bare one: gather, two products, one fused update.

D 512, B 16, A 4, Adam, one thread as in training. A `step` is an epoch of `StackedHeads`, divided by its steps: labels,
loss, its derivative and the recorded losses included, of batches drawn before. `with sampling` is the same with the
draw of the epoch: 25 permutations for 25 heads, and a view for each place in them; validation is not counted. The bare
step reads the same rows, and its update is torch's fused Adam kernel with one learning rate for all heads. Of each case
the least time counts. `traffic` is the time in which a copy moves the bytes of the bare step: features read and written
once and read twice, and weight, gradient and both moments, of which all but the gradient are written too, the gradient
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from aimonk_bench.config.fields import TrainConfig
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.registry import Spec
from aimonk_bench.training.batches import Features
from aimonk_bench.training.fit import Stage, torch_threads
from aimonk_bench.training.heads import Heads
from aimonk_bench.training.heads_trainer import StackedHeads
from aimonk_bench.training.recipe import Recipe, TrainingData
from aimonk_bench.training.stack import Stack
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, write

IMAGES, FEATURES, BATCH, ATTRIBUTES = 2048, 512, 16, 4
REPEATS = 15
HEADS = (1, 5, 25, 125)
LOSSES = ("masked_bce", "pos_weight", "focal", "asymmetric", "hill")
TIMED = ("step", "with sampling")


def problem(folds: int, features: int = FEATURES) -> tuple[np.ndarray, np.ndarray, TrainingData]:
    """A feature matrix of two views, its index, and labels of which a fifth is missing."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(2 * IMAGES, features)).astype(np.float32)
    index = rng.permutation(2 * IMAGES).reshape(2, IMAGES)
    targets, observed = rng.random((IMAGES, ATTRIBUTES)) > 0.7, rng.random((IMAGES, ATTRIBUTES)) > 0.2
    labels = Labels.of(targets, observed, [f"attr{number}" for number in range(1, ATTRIBUTES + 1)])
    cuts = (int(0.7 * IMAGES), int(0.8 * IMAGES))
    parts = [Fold(*np.array_split(rng.permutation(IMAGES), cuts)) for _ in range(folds)]
    return matrix, index, TrainingData(labels, labels, parts, np.array([0.5, 0.5]))


def recipe_of(train: TrainConfig, loss: str) -> Recipe:
    """The default recipe but for the loss."""
    return Recipe(train, Spec(loss), Spec("ignore"), Spec("uniform"))


class Case:
    """So many stacked heads before their first step, and the batches of an epoch."""

    def __init__(self, heads: int, loss: str, problem: tuple[np.ndarray, np.ndarray, TrainingData]) -> None:
        matrix, self.index, data = problem
        folds = range(len(data.folds))
        train = TrainConfig(seeds=list(range(heads // len(folds))), batch_size=BATCH)
        recipe = recipe_of(train, loss)
        self.features = Features(matrix, torch.device("cpu"), torch.float32)
        self.stack = Stack(data, recipe, recipe.jobs(len(folds)), torch.device("cpu"), torch.float32)
        self.heads = StackedHeads(self.stack, Stage("", Spec("ignore")), self.features, self.index)
        self.rngs = self.stack.rngs()
        self.batches = self.stack.draw(self.rngs)

    def steps(self) -> None:
        """The steps of an epoch, drawn before."""
        self.heads.train_epoch(1, self.batches)

    def with_sampling(self) -> None:
        """The steps of an epoch, and the draw."""
        self.heads.train_epoch(1, self.stack.draw(self.rngs))

    def bare(self) -> Callable[[], None]:
        """Gather, two products, one fused update, for the rows of an epoch."""
        rows = torch.from_numpy(self.index[self.batches.views, self.batches.images])
        heads = Heads.initial(ATTRIBUTES, self.features.size, [rngs.init for rngs in self.stack.rngs()])
        parameters = [heads.weight, heads.bias]
        means, squares = ([torch.zeros_like(each) for each in parameters] for _ in range(2))
        counts = [torch.ones(()) for _ in parameters]
        constants = {"lr": 1e-9, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-8, "amsgrad": False}

        def epoch() -> None:
            for step in rows:
                features = self.features.take(step)
                gradients = heads.gradients(heads.logits(features), features)
                torch._fused_adam_(parameters, gradients, means, squares, [], counts, **constants, maximize=False)

        return epoch


def measured(heads: int) -> list[Row]:
    """Microseconds of a bare step, and each loss over it: a row for each of TIMED."""
    data = problem(1 if heads < 25 else 5 if heads < 125 else 25)
    cases = {loss: Case(heads, loss, data) for loss in LOSSES}
    timed: dict[tuple[str, str], Callable[[], object]] = {("bare", ""): cases["masked_bce"].bare()}
    for loss, case in cases.items():
        timed |= {("step", loss): case.steps, ("with sampling", loss): case.with_sampling}
    with torch_threads(1), torch.no_grad():
        seconds = interleaved(timed, REPEATS)
    bare = seconds["bare", ""]
    size = 4 * heads * (4 * BATCH * FEATURES + 8 * ATTRIBUTES * FEATURES)
    return [
        {
            "heads": heads,
            "timed": kind,
            "bare us": bare / cases["masked_bce"].stack.steps * 1e6,
            "MB": size / 1e6,
            **{f"{loss} / bare": seconds[kind, loss] / bare for loss in LOSSES},
        }
        for kind in TIMED
    ]


def bare_seconds(folds: int, seeds: int, features: int) -> float:
    """Seconds of a bare step of folds x seeds heads."""
    case = Case(folds * seeds, "masked_bce", problem(folds, features))
    with torch_threads(1), torch.no_grad():
        (seconds,) = interleaved({"bare": case.bare()}, REPEATS).values()
    return seconds / case.stack.steps


def main(out: Path, quick: bool = False) -> None:
    """Write step.json, step.md and step.png."""
    conditions = Conditions.now()
    rows = [row for heads in ((1, 25) if quick else HEADS) for row in measured(heads)]
    for row in rows:
        row["traffic us"] = 1e-3 * row["MB"] / conditions.bandwidth[1] * 1e6
    write(out, "step", __doc__ or "", {"Steps": rows}, conditions)
    bars(
        out / "step.png", "A training step over gather + two products + fused update (D 512, B 16, A 4)", _panels(rows)
    )


def _panels(rows: Sequence[Row]) -> list[Panel]:
    return [
        Panel(
            kind,
            "time of a step / a bare one",
            {
                f"{row['heads']} heads, {loss}": row[f"{loss} / bare"]
                for row in rows
                for loss in LOSSES
                if row["timed"] == kind and row["heads"] >= 25
            },
        )
        for kind in TIMED
    ]
