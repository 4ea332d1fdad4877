"""One training step of S stacked heads against what it cannot do without: gather, two products, one fused update.

D 512, B 16, A 4, Adam. The floor reads rows of the same bank and lays them out as the step does, weights and biases in
one tensor; its update is torch's fused Adam kernel. Its products are torch's or NumPy's, as the step's are by the
machine, and with two threads it has one or two: the quickest of these counts, `torch us` is that of torch's products.
A `step` is an epoch's steps, divided: labels, loss, its derivative and the recorded losses included, of rows drawn
before, as the floor's are. `with sampling` is an epoch of `trainer.train`, which begins with what is drawn once for all
of its steps: 25 permutations for 25 heads, and a view for each place in them; the validation at its end is not counted.
All but the data stands in memory LAYOUTS times, which take turns; of each case the least time counts. `traffic` is the
time in which a copy moves the bytes of the floor: features read and written once and read twice, and weight, gradient
and both moments, of which all but the gradient are written too, the gradient twice.

The derivative of masked_bce, the default, and of pos_weight takes two operations per step on [S, A, B], those of focal,
asymmetric and hill about twenty, each of which costs its call at these sizes. All are held against the target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from aimonk_bench.config.fields import TrainConfig
from aimonk_bench.data.splits import Fold
from aimonk_bench.registry import Spec
from aimonk_bench.training import trainer
from aimonk_bench.training.batches import Features, Plan
from aimonk_bench.training.steps import by_numpy, by_torch
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, write

PICTURES, FEATURES, BATCH, ATTRIBUTES = 2048, 512, 16, 4
REPEATS = 15  # the floor has more cases, and so more chances of a short time
TARGET = 1.4  # for 25 and 125 heads
LAYOUTS = 4  # as it is worth some percent how pages fall into the caches
HEADS = (1, 5, 25, 125)
LOSSES = ("masked_bce", "pos_weight", "focal", "asymmetric", "hill")
TIMED = ("step", "with sampling")
PRODUCTS = {"torch": by_torch, "numpy": by_numpy}


def problem(folds: int, features: int = FEATURES):
    """A bank of two views, labels of which a fifth is missing, and folds."""
    rng = np.random.default_rng(0)
    bank = rng.normal(size=(2 * PICTURES, features)).astype(np.float32)
    index = rng.permutation(2 * PICTURES).reshape(2, PICTURES)
    targets = (rng.random((PICTURES, ATTRIBUTES)) > 0.7).astype(np.int8)
    observed = rng.random((PICTURES, ATTRIBUTES)) > 0.2
    parts = [
        np.array_split(rng.permutation(PICTURES), (int(0.7 * PICTURES), int(0.8 * PICTURES))) for _ in range(folds)
    ]
    return bank, index, np.array([0.5, 0.5]), targets, observed, [Fold(*own) for own in parts]


def started(heads: int, loss: str, data) -> trainer._Run:
    """A run of so many heads before its first step."""
    bank, index, probabilities, targets, observed, folds = data
    train = TrainConfig(seeds=list(range(heads // len(folds))), batch_size=BATCH)
    store = Features(bank, torch.device("cpu"), torch.float32)
    known = (targets * observed, observed)
    recipe = trainer._Recipe(train, Spec(loss), Spec("ignore"), Spec("uniform"), {}, None)
    return trainer._Run(
        trainer._Data(store, index, probabilities, *known, *known, folds), recipe, trainer.Threads(), None
    )


def drawn(run: trainer._Run) -> tuple[Tensor, Tensor]:
    """Pictures [T, J, B] and rows of the store [T, J x B] of an epoch of ``run``."""
    data = run.data
    parts = [run.parts[fold] for _, fold in run.jobs]
    plan = Plan(run.sampler, data.index, data.probabilities, parts, run.streams, (run.steps, BATCH))
    pictures, stored = map(torch.from_numpy, plan.block(slice(0, run.steps)))
    return pictures, stored.flatten(1)


def steps_of(run: trainer._Run, threads: int) -> Callable[[], None]:
    """The steps of an epoch of ``run``, drawn before."""
    pictures, rows = drawn(run)
    losses = torch.empty(run.steps, len(run.heads.weight))

    def epoch() -> None:
        torch.set_num_threads(threads)
        run._block(pictures, rows, 1, 0, losses)

    return epoch


def floor(run: trainer._Run, products: str, threads: int) -> Callable[[], None]:
    """The floor of an epoch of ``run``, with products of PRODUCTS."""
    data, heads, size = run.data, len(run.heads.weight), run.data.store.size
    _, rows = drawn(run)
    weight = run.heads.both.clone()
    gradient, first, second = (torch.zeros_like(weight) for _ in range(3))
    batch, count = torch.zeros(heads * BATCH, weight.shape[-1]), torch.ones(())
    given, features, slopes = batch[:, :size], batch.view(heads, BATCH, -1), torch.empty(heads, ATTRIBUTES, BATCH)
    fill = PRODUCTS[products]
    forward, backward = fill(weight, features.transpose(1, 2), slopes), fill(slopes, features, gradient)
    lists = ([weight], [gradient], [first], [second], [], [count])
    constants = {"lr": 1e-9, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-8, "amsgrad": False}

    def epoch() -> None:
        torch.set_num_threads(threads)
        for own in rows.unbind(0):
            torch.index_select(data.store._rows, 0, own, out=given)
            forward()
            backward()
            torch._fused_adam_(*lists, **constants, maximize=False)

    return epoch


def floors(run: trainer._Run, threads: int) -> dict[tuple[str, int], Callable[[], None]]:
    """The floor of an epoch with each kind of products and number of threads."""
    return {(kind, own): floor(run, kind, own) for kind in PRODUCTS for own in sorted({1, threads})}


def measured(heads: int, threads: int) -> list[Row]:
    """Microseconds of the floor of a step with at most so many threads, and each loss / floor: a row for each TIMED."""
    torch.set_num_threads(threads)
    data = problem(1 if heads < 25 else 5 if heads < 125 else 25)
    with threadpool_limits(1, user_api="blas"), torch.inference_mode():  # as in training
        cases: dict[tuple[str, str, int, int], Callable[[], object]] = {}
        for layout in range(LAYOUTS):
            runs = {loss: started(heads, loss, data) for loss in LOSSES}
            for loss, run in runs.items():
                for own in sorted({1, threads}):
                    cases["step", loss, own, layout] = steps_of(run, own)
                cases["with sampling", loss, threads, layout] = partial(run._train, 1)
            found = floors(runs["masked_bce"], threads)
            cases |= {("floor", kind, own, layout): case for (kind, own), case in found.items()}
        seconds = interleaved(cases, REPEATS)
    torch.set_num_threads(threads)
    steps = runs["masked_bce"].steps

    def micro(*names: str) -> float:
        return min(taken for name, taken in seconds.items() if name[: len(names)] == names) / steps * 1e6

    item = 4 * heads * (4 * BATCH * FEATURES + 8 * ATTRIBUTES * FEATURES)
    return [
        {
            "heads": heads,
            "threads": threads,
            "timed": timed,
            "floor us": micro("floor"),
            "torch us": micro("floor", "torch"),
            "MB": item / 1e6,
            **{f"{loss} / floor": micro(timed, loss) / micro("floor") for loss in LOSSES},
        }
        for timed in TIMED
    ]


def floor_seconds(folds: int, seeds: int, features: int) -> float:
    """Seconds of the floor of one step of folds x seeds heads."""
    given = torch.get_num_threads()
    with threadpool_limits(1, user_api="blas"), torch.inference_mode():
        run = started(folds * seeds, "masked_bce", problem(folds, features))
        found = interleaved(floors(run, given))
    torch.set_num_threads(given)
    return min(found.values()) / run.steps


def targets(rows: Sequence[Row]) -> list[Row]:
    """What is asked of 25 and 125 heads."""
    return [
        {
            "figure": f"{row['timed']}, {row['heads']} heads, at most {row['threads']} thread(s), {loss} / floor",
            "found": row[f"{loss} / floor"],
            "target": f"at most {TARGET}",
            "met": row[f"{loss} / floor"] <= TARGET,
        }
        for row in rows
        for loss in LOSSES
        if row["heads"] >= 25
    ]


def main(out: Path, quick: bool = False) -> None:
    """Write step.json, step.md and step.png."""
    conditions, given = Conditions.now(), torch.get_num_threads()
    bandwidth = conditions.bandwidth
    sizes = [(heads, threads) for threads in sorted(bandwidth) for heads in ((1, 25) if quick else HEADS)]
    rows = [row for size in sizes for row in measured(*size)]
    torch.set_num_threads(given)
    for row in rows:
        row["traffic us"] = 1e-3 * row["MB"] / bandwidth[row["threads"]] * 1e6
    write(out, "step", __doc__ or "", {"Steps": rows, "Targets": targets(rows)}, conditions)
    panels = [
        Panel(
            f"at most {threads} thread(s)",
            "time of a step / its floor",
            {
                f"{row['timed']}, {row['heads']} heads, {loss}": row[f"{loss} / floor"]
                for timed in TIMED
                for row in rows
                for loss in LOSSES
                if (row["timed"], row["threads"]) == (timed, threads) and row["heads"] >= 25
            },
            target=TARGET,
        )
        for threads in sorted(bandwidth)
    ]
    bars(out / "step.png", "A training step against gather + two products + fused update (D 512, B 16, A 4)", panels)
