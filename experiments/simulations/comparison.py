"""Paired comparison of runs: how often equal runs are called better, and the power to find a true difference.

Every suite draws its own data and trains its own heads, 24 runs x 5 seeds: weighted ridge regression on Gaussian
features, four attributes with skewed prevalences, a tenth of the labels missing, one image in twelve a copy of another,
thresholds tuned on validation rows. The features of a run are class means plus noise, a part of which all runs share.
Runs with the same class means are therefore equally good by symmetry, whatever the training size. A seed draws the
weights of the training rows. All that follows the decisions is `comparison.paired`.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.comparison import paired
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.thresholds import best_f1

Array = npt.NDArray[Any]

IMAGES, RUNS, SEEDS, FEATURES = 972, 24, 5, 12
PREVALENCE = np.array([0.88, 0.8, 0.53, 0.08])
LISTED = ", ".join(map(str, PREVALENCE))
SEPARATION = np.array([1.0, 0.8, 1.0, 1.2])  # of the class means, in noise deviations
EQUAL = (1.0,) * RUNS
MIXED = (1.0,) * 6 + (1.1,) * 6 + (1.2,) * 6 + (1.45,) * 6  # about 0, 0.01, 0.02 and 0.05 in macro F1
NAMES = [f"run {r}" for r in range(RUNS)]


@dataclass(frozen=True)
class Setting:
    """The runs of a suite.

    Attributes:
        recipes: name of the setting.
        folds: 1 is a hold-out.
        strength: of the class means of each run; the first run is the baseline.
        shared: share of the noise variance that is common to all runs; 1 means one recipe.
        jitter: SD of the weights that a seed gives to the training rows; 1 is the Bayesian bootstrap.
    """

    recipes: str
    folds: int
    strength: tuple[float, ...]
    shared: float
    jitter: float


RECIPES = [
    ("one recipe, seeds matter little", EQUAL, 1.0, 0.3),
    ("one recipe, seeds matter much", EQUAL, 1.0, 1.0),
    ("equally good recipes, alike", EQUAL, 0.9, 0.3),
    ("equally good recipes, unlike", EQUAL, 0.3, 0.3),
    ("better and equal recipes", MIXED, 0.7, 0.3),
]
SETTINGS = [Setting(name, folds, *rest) for folds in (1, 5) for name, *rest in RECIPES]


@dataclass(frozen=True)
class Data:
    """A data set and its split: labels and observed [N, A], group [N], train, val, test and fresh [F, N] bool.

    Fresh rows are not part of the data set; they stand for the population of images.
    """

    labels: Array
    observed: Array
    group: Array
    train: Array
    val: Array
    test: Array
    fresh: Array


def draw(folds: int, rng: np.random.Generator, fresh: int = 0) -> Data:
    """Draw labels and a split that keeps copies together: 15 % test rows (or a fold), 15 % of the rest validation."""
    single = IMAGES * 12 // 13
    group = np.append(np.arange(single), rng.choice(single, IMAGES - single, replace=False))
    labels = (rng.random((single, len(PREVALENCE))) < PREVALENCE)[group]
    observed = rng.random(labels.shape) < 0.9
    order = rng.permutation(single)
    test = order % folds == np.arange(folds)[:, None] if folds > 1 else order[None] < 0.15 * single
    val = (rng.random((folds, single)) < (0.15 if folds > 1 else 0.15 / 0.85)) & ~test
    parts = [np.pad(part[:, group], ((0, 0), (0, fresh))) for part in (~test & ~val, val, test)]
    fresh_labels = rng.random((fresh, len(PREVALENCE))) < PREVALENCE
    return Data(
        np.concatenate([labels, fresh_labels]),
        np.concatenate([observed, np.ones_like(fresh_labels)]),
        np.append(group, single + np.arange(fresh)),
        *parts,
        fresh=~np.logical_or.reduce(parts),
    )


def scores(data: Data, setting: Setting, rng: np.random.Generator, seeds: int) -> Array:
    """Train heads for every run, seed, fold and attribute; their probabilities, float32 [runs, S, F, A, N]."""
    common, individual = np.sqrt(setting.shared), np.sqrt(1 - setting.shared)
    groups = data.group.max() + 1
    noise = common * rng.normal(size=(groups, FEATURES))
    probabilities = []
    for strength in setting.strength:
        x = noise + individual * rng.normal(size=noise.shape) if individual else noise
        x = x[data.group]
        x[:, : len(PREVALENCE)] += strength * SEPARATION * data.labels
        probabilities.append(_ridge(x, data, setting.jitter, rng, seeds))
    return np.stack(probabilities)


def _ridge(x: Array, data: Data, jitter: float, rng: np.random.Generator, seeds: int) -> Array:
    """Ridge regressions of the labels, mapped to (0, 1): [S, F, A, N]. Every head weighs the rows differently."""
    design = np.column_stack([x, np.ones(len(x))]).astype(np.float32)
    width = design.shape[1]
    weights = 1 + jitter * (rng.exponential(size=(seeds, len(data.train), 1, len(x))).astype(np.float32) - 1)
    weights = weights * (data.train[:, None] & data.observed.T)
    used = data.train.any(axis=0)
    flat, rows = weights[..., used].reshape(-1, used.sum()), design[used]
    gram = (flat @ (rows[:, :, None] * rows[:, None]).reshape(len(rows), -1)).reshape(-1, width, width)
    target = ((weights * data.labels.T)[..., used].reshape(-1, len(rows)) @ rows)[..., None]
    heads = np.linalg.solve(gram + np.eye(width, dtype=np.float32), target)[..., 0]
    return 1 / (1 + np.exp(2 - 4 * (heads @ design.T).reshape(weights.shape)))


@dataclass(frozen=True)
class Suite:
    """The runs of a simulated suite.

    Attributes:
        decisions: name -> decisions.
        validation: [runs, F] macro F1 of the validation rows at the thresholds tuned on them; it selects the run.
        fresh: [runs] macro F1 on fresh rows, mean over additional seeds; NaN without them.
    """

    decisions: dict[str, Decisions]
    validation: Array
    fresh: Array


def suite(setting: Setting, rng: np.random.Generator, fresh: int = 0, fresh_seeds: int = 0) -> Suite:
    """Draw the data and train the heads."""
    data = draw(setting.folds, rng, fresh)
    values = scores(data, setting, rng, SEEDS + fresh_seeds)
    rows, accepted, validation, on_fresh = [], [], [], []
    for fold in range(setting.folds):
        val, test, more = (np.flatnonzero(part[fold]) for part in (data.val, data.test, data.fresh))
        limits = best_f1(values[:, :, fold][..., val].swapaxes(-1, -2), Labels(data.labels[val], data.observed[val]))
        decided = values[:, :, fold] > limits[..., None]
        accepted.append(decided[:, :SEEDS, ..., test])
        validation.append(f1(decided[:, :SEEDS, ..., val], data, val).mean(axis=(1, 2)))
        on_fresh.append(
            f1(decided[:, SEEDS:, ..., more], data, more).mean(axis=(1, 2)) if fresh else np.full(RUNS, np.nan)
        )
        rows.append(test)
    at = np.concatenate(rows)
    decisions = np.concatenate(accepted, axis=-1).swapaxes(-1, -2)
    shared = {
        "labels": Labels.of(data.labels[at], data.observed[at]),
        "group": data.group[at],
        "fold": np.repeat(np.arange(setting.folds), [len(test) for test in rows]),
        "image_id": at,
    }
    by_name = {name: Decisions(accepted=one, **shared) for name, one in zip(NAMES, decisions, strict=True)}
    return Suite(by_name, np.stack(validation, axis=1), np.mean(on_fresh, axis=0))


def f1(accepted: Array, data: Data, rows: Array) -> Array:
    """F1 [..., A] of decisions [..., A, rows] on these rows; 0 without a positive label or decision."""
    positive, observed = (data.labels & data.observed)[rows].T, data.observed[rows].T
    return 2 * (accepted & positive).sum(-1) / np.maximum((accepted & observed).sum(-1) + positive.sum(-1), 1)


def macro_f1(run: Decisions) -> Array:
    """Macro F1 [S] on the test rows of all folds."""
    positive, observed = run.labels.positive, run.labels.observed
    right, accepted = ((run.accepted & kind).sum(axis=1) for kind in (positive, observed))
    return np.asarray((2 * right / (accepted + positive.sum(axis=0))).mean(axis=1))


@dataclass(frozen=True)
class Outcome:
    """The results of many suites; value, low, high and mark are [suites, runs - 1].

    Attributes:
        fresh: [suites, runs - 1] difference on fresh rows, NaN where none were drawn.
        figure: [suites, runs] macro F1 of every run.
        selected: [suites] macro F1 of the nested selection; ``parts`` [suites, F] are the runs that the folds selected.
        disagree: share of the observed test labels for which the decision differs from that of the baseline.
        seed_sd: SD of the macro F1 of the baseline over its seeds.
    """

    value: Array
    low: Array
    high: Array
    mark: Array
    fresh: Array
    figure: Array
    selected: Array
    parts: Array
    disagree: float
    seed_sd: float


def simulate(setting: Setting, suites: int, seed: int, draws: int = 1000) -> Outcome:
    """Compare every run of every suite with its first; in a hold-out of unequal runs also on fresh rows and seeds."""
    covered = np.ones(len(PREVALENCE), dtype=bool)
    fresh = (4000, 15) if setting.folds == 1 and setting.strength == MIXED else (0, 0)
    results, disagree, variance = [], [], []
    for number in range(suites):
        drawn = suite(setting, np.random.default_rng([seed, number]), *fresh)
        base, *others = drawn.decisions.values()
        deltas = list(paired(drawn.decisions, NAMES[0], covered, draws=draws, seed=number).values())[1:]
        parts = drawn.validation.argmax(axis=0)
        accepted = np.stack([run.accepted for run in drawn.decisions.values()])
        selected = np.moveaxis(accepted[parts[base.fold], :, np.arange(len(base.fold))], 0, 1)
        results.append(
            [
                *([getattr(delta, name) for delta in deltas] for name in ("value", "low", "high", "mark")),
                drawn.fresh[1:] - drawn.fresh[0],
                [macro_f1(run).mean() for run in drawn.decisions.values()],
                macro_f1(replace(base, accepted=selected)).mean(),
                parts,
            ]
        )
        disagree.append(np.mean([(run.accepted != base.accepted)[:, base.labels.observed].mean() for run in others]))
        variance.append(macro_f1(base).var(ddof=1))
    columns = (np.array(column) for column in zip(*results, strict=True))
    return Outcome(*columns, disagree=float(np.mean(disagree)), seed_sd=math.sqrt(np.mean(variance)))


def rows(setting: Setting, outcome: Outcome) -> Iterator[dict[str, str | float]]:
    """The rows of a setting: one for each strength of its runs, the equal ones first.

    The true difference of equal runs is 0; that of others is estimated by the mean over all suites.
    """
    every = np.array(setting.strength)
    figure = np.array([outcome.figure[:, every == value].mean() for value in every])
    strength = every[1:]
    for value in np.unique(strength):
        columns = strength == value
        equal = value == setting.strength[0]
        mark, low, high = outcome.mark[:, columns], outcome.low[:, columns], outcome.high[:, columns]
        true = 0.0 if equal else float(outcome.value[:, columns].mean())
        covered = ((low <= true) & (true <= high)).mean(axis=1)
        heads = outcome.fresh[:, columns]
        yield {
            "runs": setting.recipes,
            "split": "hold-out" if setting.folds == 1 else f"{setting.folds} folds",
            "suites": len(mark),
            "decisions that differ": outcome.disagree,
            "SD over seeds": outcome.seed_sd,
            "true delta": true,
            "SD of delta": float((outcome.value[:, columns] - true).std()),
            "any better": float((mark == "better").any(axis=1).mean()),
            "any worse": float((mark == "worse").any(axis=1).mean()),
            "better": float((mark == "better").mean()),
            "worse": float((mark == "worse").mean()),
            "equivalent": float((mark == "equivalent").mean()),
            "coverage": float(covered.mean()),
            "SE of coverage": float(covered.std() / math.sqrt(len(covered))),
            "these heads": float(((low <= heads) & (heads <= high)).mean()) if np.isfinite(heads).all() else math.nan,
            "width": float((high - low).mean()),
            "bias of selected per fold": float((outcome.selected - figure[outcome.parts].mean(axis=1)).mean()),
            "bias of best": float((outcome.figure.max(axis=1) - figure[outcome.figure.argmax(axis=1)]).mean()),
        }


def main(out: Path, full: bool) -> None:
    """Print the table, row by row, and write it to ``comparison.md`` and ``comparison.csv``."""
    suites = 500 if full else 12
    start = time.process_time()
    table: list[dict[str, str | float]] = []
    lines: list[str] = []

    def add(cells: Iterable[str]) -> None:
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)

    for number, setting in enumerate(SETTINGS):
        for row in rows(setting, simulate(setting, suites, number)):
            if not table:
                add(row)
                add("---" for _ in row)
            table.append(row)
            add(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values())
    seconds = time.process_time() - start
    text = f"""# Paired comparison: how often equal runs are called better, and the power to find a true difference

`python -m experiments.simulations comparison{" --full" if full else ""}`: {seconds:.0f} s of one core.
{RUNS} runs x {SEEDS} seeds, {IMAGES} images, {len(PREVALENCE)} attributes of prevalences {LISTED},
10 % of the labels missing, heads retrained in every suite. Macro tuned F1 against the first run, Holm over the others.

{chr(10).join(lines)}

`any better`, `any worse`: share of suites with at least one such mark. Where the true delta is 0 the mark is false, and
the share should be at most 5 % + 2 SE ({0.05 + 2 * math.sqrt(0.05 * 0.95 / suites):.3f}). `better`, `worse`,
`equivalent`: share of runs; where the true delta is above 0, `better` is the power. `coverage`: how often the 95 %
confidence interval covers the true delta of the recipes; `these heads`: how often it covers the delta of these trained
heads, measured on 4,000 other images with 15 other seeds; `width`: its mean width. `bias of selected per fold`: macro
F1 of the row `selected per fold` minus that of the recipes it consists of, mean over all suites; `bias of best`: the
same for the run with the best test score.
"""
    (out / "comparison.md").write_text(text, encoding="utf-8")
    with (out / "comparison.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
