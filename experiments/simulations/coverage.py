"""Coverage of the 95 % confidence intervals of `evaluation.intervals` and `evaluation.comparison`.

Fixed heads: the estimand is the figure of these heads on the population of images, in expectation over seeds. Retrained
heads: the estimand is the recipe, that is the population figure of a head trained on that many images, in expectation
over training sets and seeds, and the difference of two recipes; coverage of the figure of these trained heads is shown
beside it. Precision, recall, accuracy and average precision of fixed heads are compared with their mean over the sets.
Average precision depends on the size of a test set; its interval is about its expectation at that size.

In a hold-out the interval is about its heads alone. Groups of duplicates have equal labels and the same features.

Aims: for fixed heads 93 to 97 % in every cell with min(TP, FP + FN) of at least 5 on average, and at least 93 % below;
for retrained heads, as for these heads, at least 93 % in every cell, and at most 99.5 % on average; also in a hold-out
of 300 images (45 test rows), at prevalence .03 and for groups of four.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from aimonk_bench.evaluation import intervals as estimates
from aimonk_bench.evaluation import metrics
from aimonk_bench.evaluation.comparison import paired
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.intervals import intervals
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.proportions import FEW, Intervals
from aimonk_bench.evaluation.thresholds import Thresholds, tune
from aimonk_bench.records.files import write_text
from aimonk_bench.registry import Spec

from .worlds import ATTRIBUTES, FEATURES, SEEDS, Heads, Sample, World, fixed, workers

Array = np.ndarray[Any, Any]
Row = dict[str, Any]

CELLS_AT_ONCE = 300_000
RECIPES = ((10.0, FEATURES), (10.0, FEATURES // 2))  # ridge penalty, number of features used


def fixed_heads(world: Heads, sets: int, all_figures: int, rng: np.random.Generator) -> Iterator[Row]:
    """Coverage of F1 in `sets` test sets, and of every other figure in the first `all_figures` of them."""
    coverages: dict[str, Coverage] = {}
    step = min(100, max(1, CELLS_AT_ONCE // (world.n * SEEDS * ATTRIBUTES)))
    for start in range(0, sets, step):
        predictions, thresholds = fixed(world, min(step, sets - start), rng)
        estimate = intervals if start < all_figures else _f1_alone
        for name, interval in estimate(predictions, thresholds).items():
            coverages.setdefault(name, Coverage()).add(*_values(name, predictions, thresholds), interval)
    head = {"world": "fixed"} | vars(world)
    truths = world.truths()
    for name, coverage in coverages.items():
        yield head | {"figure": name} | coverage.row(np.full(ATTRIBUTES, truths.get(name, coverage.mean)))


def _f1_alone(predictions: Predictions, thresholds: Thresholds) -> dict[str, Intervals]:
    """The intervals of F1 alone, in a fifth of the time of `intervals`."""
    limits: dict[str, Thresholds | float] = {"f1_default": 0.5, "f1_tuned": thresholds}
    counts = {name: Decisions.of(predictions, limit).by_group() for name, limit in limits.items()}
    return {name: estimates.f1(one).intervals(1.0) for name, one in counts.items()}


def _values(name: str, predictions: Predictions, thresholds: Thresholds) -> tuple[Array, Array]:
    """The figure [A], and the rows of its rarer outcome, min(TP, FP + FN) or the rarer class in a fold; both means."""
    rows, kind = predictions.part("test"), name.removesuffix("_default").removesuffix("_tuned")
    scores, labels = rows.probabilities, rows.labels
    if kind in ("average_precision", "roc_auc"):
        parts = [rows.fold == number for number in range(predictions.folds)]
        values = [metrics.ranking(scores[:, part], labels[part])[kind] for part in parts]
        return np.mean(values, axis=(0, 1)), np.minimum(*labels.counts()) / predictions.folds
    limit = 0.5 if name.endswith("_default") else thresholds.values[:, rows.fold]
    accepted = scores > limit
    wrong = (labels.observed & (accepted != labels.positive)).sum(axis=1).mean(axis=0)
    right = (accepted & labels.positive).sum(axis=1).mean(axis=0)
    value: Array = getattr(metrics.Confusion.of(scores, labels, limit), kind)
    return value.mean(axis=0), np.minimum(right, wrong)


def retrained(world: World, sets: int, rng: np.random.Generator) -> Iterator[Row]:
    """Coverage for the first recipe, for its trained heads, and for its difference from the second recipe."""
    names = ("f1_default", "f1_tuned", "roc_auc")
    abouts = ("recipe", "heads") if world.folds > 1 else ("heads",)  # a hold-out is about its heads alone
    coverages = {(about, name): Coverage() for about in abouts for name in names}
    truths: dict[str, list[Array]] = {name: [] for name in (*names, "other")}
    deltas = []
    for number in range(sets):
        sample, decisions = Sample.draw(world, rng), {}
        for recipe in RECIPES:
            heads = sample.heads(*recipe, rng)
            predictions = sample.predictions(heads)
            thresholds = tune(predictions, Spec("per_attribute_f1"))
            decisions[str(recipe)] = Decisions.of(predictions, thresholds)
            population = sample.population(heads, thresholds.values)
            if recipe != RECIPES[0]:
                truths["other"].append(population["f1_tuned"].mean(axis=(0, 1)))
                continue
            for name, interval in intervals(predictions, thresholds).items():
                if name in names:
                    truths[name].append(population[name].mean(axis=(0, 1)))
                    values = _values(name, predictions, thresholds)
                    of_heads = replace(interval, low=interval.fixed_low, high=interval.fixed_high)
                    for about in abouts:
                        coverages[about, name].add(*values, interval if about == "recipe" else of_heads)
        first, second = decisions
        if world.folds > 1:
            delta = paired(decisions, first, np.ones(ATTRIBUTES, dtype=bool), draws=500, seed=number)[second]
            deltas.append((delta.low, delta.high))
    head = {name: getattr(world, name) for name in ("auc", "n", "folds", "copies")} | {"missing": 0.0}
    for (about, name), coverage in coverages.items():
        of_sets = np.array(truths[name])
        truth = of_sets.mean(axis=0) if about == "recipe" else of_sets
        for a, prevalence in enumerate(world.prevalences):
            of_attribute = {"world": about, "figure": name, "prevalence": prevalence}
            yield head | of_attribute | coverage.row(truth, slice(a, a + 1))
    if not deltas:
        return
    difference = float((np.mean(truths["other"], axis=0) - np.mean(truths["f1_tuned"], axis=0)).mean())
    yield head | _difference(difference, np.array(deltas))


def _difference(truth: float, limits: Array) -> Row:
    """The row of the paired differences; limits [sets, 2]."""
    covered = (limits[:, 0] <= truth) & (truth <= limits[:, 1])
    return {
        "world": "difference",
        "figure": "macro f1_tuned",
        "sets": len(limits),
        "truth": truth,
        "none": float(np.isnan(limits[:, 0]).mean()),
        "macro": float(covered.mean()),
        "macro_error": float(covered.std() / np.sqrt(len(limits))),
        "width": float(np.diff(limits).mean()),
    }


class Coverage:
    """The intervals of one figure in many sets; the estimand is given at the end."""

    def __init__(self) -> None:
        self.values: list[Array] = []  # each [sets, ATTRIBUTES], as are the next four
        self.low: list[Array] = []
        self.high: list[Array] = []
        self.rarer: list[Array] = []
        self.few: list[Array] = []
        self.macro: list[tuple[Array, float, float]] = []

    def add(self, values: Array, rarer: Array, interval: Intervals) -> None:
        """Add sets side by side, ATTRIBUTES columns each."""
        columns = (values, interval.low, interval.high, rarer, interval.few)
        for stored, column in zip((self.values, self.low, self.high, self.rarer, self.few), columns, strict=True):
            stored.append(column.reshape(-1, ATTRIBUTES))
        for start in range(0, len(values), ATTRIBUTES):
            mask = np.zeros(len(values), dtype=bool)
            mask[start : start + ATTRIBUTES] = np.isfinite(values[start : start + ATTRIBUTES])
            low, high, _, _ = interval.macro(values, mask)
            self.macro.append((mask[start : start + ATTRIBUTES], low, high))

    @property
    def mean(self) -> float:
        return float(np.nanmean(np.concatenate(self.values)))

    def row(self, truth: Array, columns: slice = slice(None)) -> Row:
        """Coverage and its Monte-Carlo error.

        Args:
            truth: the estimand, [ATTRIBUTES] or [sets, ATTRIBUTES].
            columns: the attributes that are counted; the macro has all of them.
        """
        arrays = [np.concatenate(part) for part in (self.low, self.high, self.rarer, self.few)]
        truths = np.broadcast_to(truth, arrays[0].shape)
        pairs = zip(truths, self.macro, strict=True)
        macro = [low <= truth[mask].mean() <= high for truth, (mask, low, high) in pairs if mask.any()]
        low, high, rarer, few, truth = (part[:, columns] for part in (*arrays, truths))
        covered = np.where(np.isfinite(low), (low <= truth) & (truth <= high), np.nan)
        per_set = np.nanmean(covered[np.isfinite(covered).any(axis=1)], axis=1)
        return {
            "sets": len(low),
            "truth": float(truth.mean()),
            "rarer": float(rarer.mean()),
            "few": float(few.mean()),
            "none": float(np.isnan(low).mean()),
            "coverage": float(np.nanmean(covered)),
            "error": float(per_set.std() / np.sqrt(len(per_set))),
            "macro": float(np.mean(macro)),
            "macro_error": float(np.std(macro) / np.sqrt(len(macro))),
            "width": float(np.nanmean(high - low)),
        }


@dataclass(frozen=True)
class Sizes:
    """Numbers of simulated sets.

    Attributes:
        fixed: test sets of each world of fixed heads, in which F1 is estimated.
        all_figures: the first of them, in which every other figure is estimated too.
        retrained: data sets of each world of retrained heads.
    """

    fixed: int
    all_figures: int
    retrained: int


def simulate(number: int, world: Heads | World, sizes: Sizes, kept: Path) -> list[Row]:
    """The rows of a world, drawn by a generator of its own; an interrupted simulation reads the worlds it has kept."""
    file = kept / f"{number}.json"
    key = f"{world} {sizes}"
    if file.exists() and (stored := json.loads(file.read_text(encoding="utf-8")))["key"] == key:
        return list(stored["rows"])
    start, rng = time.process_time(), np.random.default_rng([3, number])
    if isinstance(world, Heads):
        rows = list(fixed_heads(world, sizes.fixed, sizes.all_figures, rng))
    else:
        rows = list(retrained(world, sizes.retrained, rng))
    kept.mkdir(exist_ok=True)
    write_text(file, json.dumps({"key": key, "rows": rows}))
    print(f"{world}: {time.process_time() - start:.0f} s", flush=True)
    return rows


AUCS = (0.6, 0.75, 0.9)
RARE = (0.03, 0.45, 0.88)  # prevalences
RETRAINED = [
    *(World(auc, n) for auc, n in product(AUCS, (300, 900))),
    *(World(auc, 300, folds, RARE) for auc, folds in product(AUCS, (1, 5))),
    *(World(auc, 300, folds, copies=4) for auc, folds in product(AUCS, (1, 5))),
    *(World(auc, 300, folds=1) for auc in AUCS),
]
FIXED = [
    *(Heads(*cell) for cell in product((0.08, 0.5, 0.9), AUCS, (100, 250, 1000, 2000), (0.0, 0.5))),
    # the test rows of a hold-out of 300 images
    *(Heads(*cell, 45, 0.0, shared=1.0) for cell in product((0.03, 0.08, 0.5, 0.9), AUCS)),
    *(Heads(*cell, 45, 0.0, copies=4, shared=1.0) for cell in product((0.08, 0.5), AUCS)),
]


def main(out: Path, full: bool) -> None:
    """Write every cell to ``coverage.csv``, and a summary to ``coverage.md``; worlds are kept."""
    worlds, sizes = [*RETRAINED, *FIXED], Sizes(4000, 400, 1000)
    if not full:
        worlds, sizes = [*RETRAINED, *FIXED[::5]], Sizes(200, 50, 20)
    with workers() as pool:
        tasks = [pool.submit(simulate, *item, sizes, out / "worlds") for item in enumerate(worlds)]
        rows = [row for task in tasks for row in task.result()]
    with (out / "coverage.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: round(v, 4) if isinstance(v, float) else v for name, v in row.items()})
    text = "\n".join(report(rows))
    (out / "coverage.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def report(rows: list[Row]) -> Iterator[str]:
    """Markdown: the fixed heads by figure, then every retrained cell."""
    yield "# Coverage of 95 % confidence intervals"
    yield from (
        "",
        "`python -m experiments.simulations coverage --full`; every cell is in coverage.csv. Coverage in %, ±",
    )
    yield "Monte-Carlo standard error. The estimands are explained in experiments/simulations/coverage.py."
    yield from ("", "## Fixed heads: by figure and expected rows of the rarer outcome, min(TP, FP + FN) of F1", "")
    yield "| figure | rows | cells | sets | one attribute: mean | lowest | highest | macro: mean | lowest | highest |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    fixed_rows = [row for row in rows if row["world"] == "fixed"]
    for figure in dict.fromkeys(row["figure"] for row in fixed_rows):
        for label, inside in (("at least 5", _many), ("under 5", lambda row: not _many(row))):
            cells = [row for row in fixed_rows if row["figure"] == figure and inside(row)]
            if cells:
                parts = " | ".join(_extremes(cells, name, error) for name, error in COVERAGES)
                yield f"| {figure} | {label} | {len(cells)} | {cells[0]['sets']} | {parts} |"
    yield from ("", "## Retrained in every set: five folds, or a hold-out (1 fold)", "")
    yield "| about | figure | prevalence | AUC | n | folds | copies | sets | truth | rows | coverage | macro | width |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        if row["world"] != "fixed":
            parts = [_percent(row, *names) if names[0] in row else "" for names in COVERAGES]
            rarer = f"{row['rarer']:.1f}" if "rarer" in row else ""
            columns = ("world", "figure", "prevalence", "auc", "n", "folds", "copies", "sets")
            names = [str(row.get(name, "")) for name in columns]
            yield "| " + " | ".join([*names, f"{row['truth']:.3f}", rarer, *parts, f"{row['width']:.3f}"]) + " |"
    for about in ("recipe", "heads"):
        mean = np.mean([row["coverage"] for row in rows if row["world"] == about])
        yield from ("", f"Mean coverage, {about}: {100 * mean:.1f} %.")


COVERAGES = (("coverage", "error"), ("macro", "macro_error"))
COLUMNS = (
    "world",
    "figure",
    "prevalence",
    "auc",
    "n",
    "missing",
    "folds",
    "copies",
    "shared",
    "sets",
    "truth",
    "rarer",
    "few",
    "none",
    *COVERAGES[0],
    *COVERAGES[1],
    "width",
)


def _many(row: Row) -> bool:
    return bool(row["rarer"] >= FEW)


def _percent(row: Row, name: str, error: str) -> str:
    return f"{100 * row[name]:.1f} ± {100 * row[error]:.1f}"


def _extremes(cells: list[Row], name: str, error: str) -> str:
    """Mean, lowest and highest over the cells."""
    ranked = sorted(cells, key=lambda row: row[name])
    mean = f"{100 * np.mean([row[name] for row in cells]):.1f}"
    return " | ".join((mean, _percent(ranked[0], name, error), _percent(ranked[-1], name, error)))
