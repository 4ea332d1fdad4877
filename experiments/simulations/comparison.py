"""Paired comparison of runs: how often equal runs are called better, and the power to find a true difference.

Every suite draws its own data and trains its own heads: weighted ridge regression on Gaussian features, four attributes
with skewed prevalences, a tenth of the labels missing, thresholds tuned on validation rows. The features of a run are
class means plus noise, a part of which all runs share. Runs with the same class means are therefore equally good by
symmetry, whatever the training size. A seed draws the weights of the training rows. All that follows the decisions is
`comparison.paired`.
"""

from __future__ import annotations

import csv
import itertools
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
from aimonk_bench.evaluation.differences import Spread
from aimonk_bench.evaluation.thresholds import best_f1
from aimonk_bench.records.environment import cores

from .worlds import workers

Array = npt.NDArray[Any]

RUNS = 8
PREVALENCE, RARE = (0.88, 0.8, 0.53, 0.08), (0.03, 0.03, 0.1, 0.5)
SEPARATION = np.array([1.0, 0.8, 1.0, 1.2])  # of the class means, in noise deviations
EQUAL, NOISE = (1.0,) * RUNS, (0.0,) * RUNS
MIXED = (1.0,) * 4 + (1.25,) * 2 + (1.5,) * 2  # about 0, 0.03 and 0.056 in macro F1
NAMES = [f"run {r}" for r in range(RUNS)]


@dataclass(frozen=True)
class Setting:
    """The data and the runs of a suite.

    Attributes:
        recipes: name of the runs.
        data: name of the data.
        folds: 1 is a hold-out.
        strength: of the class means of each run; the first run is the baseline.
        shared: share of the noise variance that is common to all runs; 1 means one recipe.
        jitter: SD of the weights that a seed gives to the training rows; 1 is the Bayesian bootstrap.
        penalty: of the ridge regression, of the runs in turn.
        images: number of images; ``group`` images form a group with equal labels and half of their noise in common,
            and where it is 1, one image in thirteen is a copy of another.
        prevalence: of the attributes.
        features: number of features.
        seeds: number of seeds.
    """

    recipes: str
    data: str = "400 images"
    folds: int = 5
    strength: tuple[float, ...] = EQUAL
    shared: float = 0.3
    jitter: float = 0.3
    penalty: tuple[float, ...] = (1.0,)
    images: int = 400
    group: int = 1
    prevalence: tuple[float, ...] = PREVALENCE
    features: int = 12
    seeds: int = 3


ONE = Setting("one recipe", shared=1.0)
NEAR = Setting("nearly one recipe", shared=1.0, penalty=(1.0, 30.0))
ALIKE = Setting("equally good, alike", shared=0.9)
UNLIKE = Setting("equally good, unlike")
BETTER = Setting("better and equal", shared=0.7, strength=MIXED)
SETTINGS = [
    *(ONE, replace(ONE, recipes="one recipe, seeds matter much", jitter=1.0), NEAR, ALIKE, UNLIKE, BETTER),
    *(replace(one, folds=2) for one in (ONE, ALIKE, UNLIKE)),
    *(replace(one, folds=10) for one in (ONE, UNLIKE)),
    *(replace(one, data="200 images", images=200) for one in (ONE, UNLIKE)),
    *(replace(one, data="groups of four", group=4) for one in (ALIKE, UNLIKE)),
    *(replace(one, data="prevalence .03", prevalence=RARE) for one in (ONE, UNLIKE)),
    *(replace(one, data="noise", strength=NOISE) for one in (ONE, UNLIKE)),
    *(replace(one, data="64 features", features=64) for one in (NEAR, UNLIKE)),
    *(replace(one, data="300 images", images=300, folds=1) for one in (ONE, ALIKE, UNLIKE)),
    *(replace(one, data="972 images", images=972, folds=1, seeds=5) for one in (ONE, UNLIKE, BETTER)),
]


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


def draw(setting: Setting, rng: np.random.Generator, fresh: int = 0) -> Data:
    """Draw labels and a split that keeps groups together: 15 % test rows (or a fold), 15 % of the rest validation."""
    images, folds, attributes = setting.images, setting.folds, len(setting.prevalence)
    if setting.group == 1:
        single = images * 12 // 13
        group = np.append(np.arange(single), rng.choice(single, images - single, replace=False))
    else:
        single = images // setting.group
        group = np.repeat(np.arange(single), setting.group)
    labels = (rng.random((single, attributes)) < setting.prevalence)[group]
    observed = rng.random(labels.shape) < 0.9
    order = rng.permutation(single)
    test = order % folds == np.arange(folds)[:, None] if folds > 1 else order[None] < 0.15 * single
    val = (rng.random((folds, single)) < (0.15 if folds > 1 else 0.15 / 0.85)) & ~test
    parts = [np.pad(part[:, group], ((0, 0), (0, fresh))) for part in (~test & ~val, val, test)]
    fresh_labels = rng.random((fresh, attributes)) < setting.prevalence
    return Data(
        np.concatenate([labels, fresh_labels]),
        np.concatenate([observed, np.ones_like(fresh_labels)]),
        np.append(group, single + np.arange(fresh)),
        *parts,
        fresh=~np.logical_or.reduce(parts),
    )


def scores(data: Data, setting: Setting, rng: np.random.Generator, seeds: int) -> Array:
    """Train heads for every run, seed, fold and attribute; their probabilities, float32 [runs, S, F, A, N]."""
    within = 0.0 if setting.group == 1 else 0.5

    def noise() -> Array:
        of_group = rng.normal(size=(data.group.max() + 1, setting.features))[data.group]
        return np.sqrt(1 - within) * of_group + np.sqrt(within) * rng.normal(size=of_group.shape)

    common, probabilities = np.sqrt(setting.shared) * noise(), []
    for strength, penalty in zip(setting.strength, itertools.cycle(setting.penalty)):
        x = common + np.sqrt(1 - setting.shared) * noise()
        x[:, : len(SEPARATION)] += strength * SEPARATION * data.labels
        probabilities.append(_ridge(x, data, setting.jitter, penalty, rng, seeds))
    return np.stack(probabilities)


def _ridge(x: Array, data: Data, jitter: float, penalty: float, rng: np.random.Generator, seeds: int) -> Array:
    """Ridge regressions of the labels, mapped to (0, 1): [S, F, A, N]. Every head weighs the rows differently."""
    design = np.column_stack([x, np.ones(len(x))]).astype(np.float32)
    width = design.shape[1]
    weights = 1 + jitter * (rng.exponential(size=(seeds, len(data.train), 1, len(x))).astype(np.float32) - 1)
    weights = weights * (data.train[:, None] & data.observed.T)
    used = data.train.any(axis=0)
    flat, rows = weights[..., used].reshape(-1, used.sum()), design[used]
    gram = (flat @ (rows[:, :, None] * rows[:, None]).reshape(len(rows), -1)).reshape(-1, width, width)
    target = ((weights * data.labels.T)[..., used].reshape(-1, len(rows)) @ rows)[..., None]
    heads = np.linalg.solve(gram + penalty * np.eye(width, dtype=np.float32), target)[..., 0]
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
    data, seeds = draw(setting, rng, fresh), setting.seeds
    values = scores(data, setting, rng, seeds + fresh_seeds)
    rows, accepted, validation, on_fresh = [], [], [], []
    for fold in range(setting.folds):
        val, test, more = (np.flatnonzero(part[fold]) for part in (data.val, data.test, data.fresh))
        limits = best_f1(values[:, :, fold][..., val].swapaxes(-1, -2), Labels(data.labels[val], data.observed[val]))
        decided = values[:, :, fold] > limits[..., None]
        accepted.append(decided[:, :seeds, ..., test])
        validation.append(f1(decided[:, :seeds, ..., val], data, val).mean(axis=(1, 2)))
        on_fresh.append(
            f1(decided[:, seeds:, ..., more], data, more).mean(axis=(1, 2)) if fresh else np.full(RUNS, np.nan)
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


@dataclass(frozen=True)
class Outcome:
    """The results of many suites; value, low, high, simultaneous, detectable and mark are [suites, runs - 1].

    Attributes:
        simultaneous: lower and upper bound, [suites, runs - 1, 2].
        fresh: [suites, runs - 1] difference on fresh rows, NaN where none were drawn.
        figure: [suites, runs] macro F1 of every run.
        selected: [suites] macro F1 of the nested selection; ``parts`` [suites, F] are the runs that the folds selected.
        disagree: share of the observed test labels for which the decision differs from that of the baseline.
        seed_sd: SD of the macro F1 of the baseline over its seeds.
    """

    value: Array
    low: Array
    high: Array
    simultaneous: Array
    detectable: Array
    mark: Array
    fresh: Array
    figure: Array
    selected: Array
    parts: Array
    disagree: float
    seed_sd: float


def simulate(setting: Setting, suites: int, seed: int, draws: int = 500) -> Outcome:
    """Compare every run of every suite with its first; in a hold-out of unequal runs also on fresh rows and seeds."""
    fresh = (4000, 15) if setting.folds == 1 and setting.strength == MIXED else (0, 0)
    results, disagree, variance = [], [], []
    for number in range(suites):
        drawn = suite(setting, np.random.default_rng([seed, number]), *fresh)
        base, *others = drawn.decisions.values()
        covered = base.labels.positive.any(axis=0)
        deltas = list(paired(drawn.decisions, NAMES[0], covered, draws=draws, seed=number).values())[1:]
        parts = drawn.validation.argmax(axis=0)
        accepted = np.stack([run.accepted for run in drawn.decisions.values()])
        selected = np.moveaxis(accepted[parts[base.fold], :, np.arange(len(base.fold))], 0, 1)
        figures = [Spread.of(run, covered).figures[:, -1] for run in drawn.decisions.values()]
        results.append(
            [
                *([getattr(delta, name) for delta in deltas] for name in ("value", "low", "high")),
                [(delta.simultaneous_low, delta.simultaneous_high) for delta in deltas],
                *([getattr(delta, name) for delta in deltas] for name in ("detectable", "mark")),
                drawn.fresh[1:] - drawn.fresh[0],
                [figure.mean() for figure in figures],
                Spread.of(replace(base, accepted=selected), covered).figures[:, -1].mean(),
                parts,
            ]
        )
        disagree.append(np.mean([(run.accepted != base.accepted)[:, base.labels.observed].mean() for run in others]))
        variance.append(figures[0].var(ddof=1))
    columns = (np.array(column) for column in zip(*results, strict=True))
    return Outcome(*columns, disagree=float(np.mean(disagree)), seed_sd=math.sqrt(np.mean(variance)))


def rows(setting: Setting, outcome: Outcome) -> Iterator[dict[str, str | float]]:
    """The rows of a setting: one for each strength of its runs, the equal ones first.

    The true difference of equal runs is 0; that of others is estimated by the mean over all suites, and so is that of
    recipes with different penalties.
    """
    every = np.array(setting.strength)
    figure = np.array([outcome.figure[:, every == value].mean() for value in every])
    strength, same = every[1:], len(set(setting.penalty)) == 1
    means = np.where(same & (strength == every[0]), 0.0, outcome.value.mean(axis=0))
    inside = (outcome.simultaneous[..., 0] <= means) & (means <= outcome.simultaneous[..., 1])
    for value in np.unique(strength):
        columns = strength == value
        equal = value == setting.strength[0]
        mark, low, high = outcome.mark[:, columns], outcome.low[:, columns], outcome.high[:, columns]
        true = float(outcome.value[:, columns].mean()) if not equal else 0.0
        covered = ((low <= means[columns]) & (means[columns] <= high)).mean(axis=1)
        heads = outcome.fresh[:, columns]
        yield {
            "runs": setting.recipes,
            "data": setting.data,
            "split": "hold-out" if setting.folds == 1 else f"{setting.folds} folds",
            "suites": len(mark),
            "decisions that differ": outcome.disagree,
            "SD over seeds": outcome.seed_sd,
            "true delta": true,
            "SD of delta": float((outcome.value[:, columns] - means[columns]).std()),
            "any mark": float(((mark == "better") | (mark == "worse")).any(axis=1).mean()),
            "better": float((mark == "better").mean()),
            "worse": float((mark == "worse").mean()),
            "equivalent": float((mark == "equivalent").mean()),
            "coverage": float(covered.mean()),
            "SE of coverage": float(covered.std() / math.sqrt(len(covered))),
            "simultaneous coverage": float(inside.all(axis=1).mean()),
            "these heads": float(((low <= heads) & (heads <= high)).mean()) if np.isfinite(heads).all() else math.nan,
            "width": float((high - low).mean()),
            "detectable": float(outcome.detectable[:, columns].mean()),
            "bias of selected per fold": float((outcome.selected - figure[outcome.parts].mean(axis=1)).mean()),
            "bias of best": float((outcome.figure.max(axis=1) - figure[outcome.figure.argmax(axis=1)]).mean()),
        }


def main(out: Path, full: bool) -> None:
    """Print the table, row by row, and write it to ``comparison.md`` and ``comparison.csv``."""
    suites = 500 if full else 40
    start = time.perf_counter()
    table: list[dict[str, str | float]] = []
    lines: list[str] = []

    def add(cells: Iterable[str]) -> None:
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)

    with workers() as pool:
        outcomes = pool.map(simulate, SETTINGS, itertools.repeat(suites), range(len(SETTINGS)))
        for setting, outcome in zip(SETTINGS, outcomes, strict=True):
            for row in rows(setting, outcome):
                if not table:
                    add(row)
                    add("---" for _ in row)
                table.append(row)
                add(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values())
    minutes = (time.perf_counter() - start) / 60
    text = f"""# Paired comparison: how often equal runs are called better, and the power to find a true difference

`python -m experiments.simulations comparison{" --full" if full else ""}`: {minutes:.0f} minutes on {cores()} cores.
{suites} suites in each cell, {RUNS} runs x 3 seeds (972 images: 5), {len(PREVALENCE)} attributes of prevalences
{", ".join(map(str, PREVALENCE))} (or {", ".join(map(str, RARE))}),
10 % of the labels missing, heads retrained in every suite. Macro tuned F1 of each run against the first.

{chr(10).join(lines)}

Mean coverage: {100 * np.mean([float(row["coverage"]) for row in table]):.1f} %.

`any mark`: share of suites with at least one `better` or `worse` among these runs. Where the true delta is 0 the mark
is false, and the share should be at most 5 % + 2 SE ({0.05 + 2 * math.sqrt(0.05 * 0.95 / suites):.3f}). `better`,
`worse`, `equivalent`: share of runs; where the true delta is above 0, `better` is the power. `coverage`: how often the
95 % confidence interval covers the true delta of the recipes; `simultaneous coverage`: how often the simultaneous
intervals of all runs do; `these heads`: how often it covers the delta of these trained heads, measured on 4,000 other
images with 15 other seeds; `width`: its mean width; `detectable`: mean of the true difference that is said to be found
with 80 % probability. `bias of selected per fold`: macro F1 of the row `selected per fold` minus that of the recipes it
consists of, mean over all suites; `bias of best`: the same for the run with the best test score.
"""
    (out / "comparison.md").write_text(text, encoding="utf-8")
    with (out / "comparison.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
