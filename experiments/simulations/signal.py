"""Association tests, the test of a gain and the verdict: error rates and power, on features of real images.

Labels are permuted, or planted along a direction of the features, on the images of the embedded synthetic set, of the
Aimonk set ($AIMONK_DATA, default .data/aimonk) and of ELPV, as far as they exist here. Missing features are encoded
first. Without any of these sets the features are Gaussian with a decaying spectrum.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, get_args

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.evaluation import association, gain, thresholds, verdict
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.metrics import AVERAGED, ranking
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.evaluation.scores import score
from aimonk_bench.evaluation.statistics import Entry, statistics
from aimonk_bench.registry import Spec
from aimonk_bench.reporting.verdict import sentence

ROOT = Path(__file__).parents[2]
PREVALENCES = (0.06, 0.5, 0.88)
FOLDS = 5
SPLITS = ("val", "test")
ATTRIBUTES = 4  # of the Aimonk set: the level of a single test is 0.025 / 4 at first
RECIPE = ("train.lr=1e-3", "train.epochs=10")  # over reference.yaml, the defaults of base.yaml
NORMAL = NormalDist()


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features [N, D] of images; `dataset` is what a run would train on."""

    name: str
    features: np.ndarray
    dataset: Any = None


@dataclass(frozen=True)
class Row:
    """One figure of the simulation; ``within`` says whether it keeps its bound, None where it has none."""

    part: str
    features: str
    cell: str
    sets: int
    figure: str
    value: float
    bound: str = ""
    within: bool | None = None


def most(part: str, features: str, cell: str, sets: int, figure: str, share: float, level: float) -> Row:
    """A row whose share may exceed the level by at most two standard errors."""
    limit = level + 2 * math.sqrt(level * (1 - level) / sets)
    return Row(part, features, cell, sets, figure, share, f"<= {limit:.4f}", bool(share <= limit))


def least(part: str, features: str, cell: str, sets: int, figure: str, share: float, level: float) -> Row:
    return Row(part, features, cell, sets, figure, share, f">= {level}", bool(share >= level))


# --- features -----------------------------------------------------------------------------------------------------


def gaussian(rows: int = 300, width: int = 400, seed: int = 0) -> ImageFeatures:
    """Correlated columns; the variance along the k-th direction is k^-1.5."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((width, width)))[0]
    scores = rng.standard_normal((rows, width)) * np.arange(1, width + 1) ** -0.75
    return ImageFeatures("gaussian", (scores @ turn).astype(np.float32))


@functools.cache
def stored(name: str) -> ImageFeatures | None:
    """The unaugmented images of a data set, from the feature store; None if the data set is not here."""
    from aimonk_bench.config import loader
    from aimonk_bench.suite import plan, tasks
    from aimonk_bench.tables import TABLES

    folder = Path(os.environ["AIMONK_DATA"]) if name == "aimonk" and "AIMONK_DATA" in os.environ else None
    folder = folder or ROOT / ".data" / name
    labels = next((folder / file for file in ("labels.txt", "labels.csv") if (folder / file).exists()), None)
    if labels is None:
        return None
    overrides = [
        "backbone.name=tf_efficientnet_lite0",
        f"data.labels={labels.resolve()}",
        f"data.images={(folder / 'images').resolve()}",
        "data.on_bad_image=skip",
    ]
    planned = plan.plan_run(loader.load(ROOT / "configs" / "reference.yaml", TABLES, overrides))
    run = planned.baseline
    dataset = tasks.encode(planned.dataset, run.config, run.encoder)
    return ImageFeatures(name, dataset.features(), dataset)


# --- labels -------------------------------------------------------------------------------------------------------


def permuted(rows: int, prevalence: float, sets: int, rng: np.random.Generator) -> np.ndarray:
    """bool [rows, sets], with the same number of positives in each set."""
    positive = np.arange(rows) < round(prevalence * rows)
    return rng.permuted(np.broadcast_to(positive, (sets, rows)), axis=1).T


def directions(features: np.ndarray, sets: int, leading: int | None, rng: np.random.Generator) -> np.ndarray:
    """[N, sets] oracle scores: random directions among equally long leading components, or in feature space."""
    x = (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
    if leading is not None:
        x = np.linalg.svd(x, full_matrices=False)[0][:, :leading]
    scores = x @ rng.standard_normal((x.shape[1], sets))
    return (scores - scores.mean(0)) / scores.std(0)


def planted(scores: np.ndarray, positives: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """bool [N, sets]: ``positives`` rows of each set, drawn with odds exp(slope x oracle score)."""
    keys = slope * scores + rng.gumbel(size=scores.shape)
    return keys >= -np.partition(-keys, positives - 1, axis=0)[positives - 1]


def slope_for(scores: np.ndarray, positives: int, auc: float, rng: np.random.Generator) -> float:
    """The slope at which the mean AUC of the oracle is ``auc``, by bisection."""
    low, high = 0.0, 20.0
    for _ in range(12):
        middle = (low + high) / 2
        mean = auc_of(scores, planted(scores, positives, middle, rng)).mean()
        low, high = (middle, high) if mean < auc else (low, middle)
    return (low + high) / 2


def auc_of(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return ranking(scores, every(labels))["roc_auc"]


def everywhere(labels: np.ndarray) -> np.ndarray:
    return np.ones(labels.shape, bool)


def every(labels: np.ndarray) -> Labels:
    """Labels that are all observed."""
    return Labels.of(labels, everywhere(labels))


def duplicated(groups: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """[N] the image of each row; a share of the images appears a second time."""
    return np.concatenate([np.arange(groups), np.sort(rng.choice(groups, round(share * groups), replace=False))])


def relabelled(labels: np.ndarray, shown: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels and mask of the rows; with duplicates a tenth is missing, and a tenth of the copies contradicts."""
    rows = labels[shown]
    if len(shown) == len(labels):
        return rows.astype(np.int8), everywhere(rows)
    second = np.arange(len(shown)) >= len(labels)
    rows = rows ^ (second[:, None] & (rng.random(rows.shape) < 0.1))
    return rows.astype(np.int8), rng.random(rows.shape) >= 0.1


# --- before training ----------------------------------------------------------------------------------------------


def level_before(images: ImageFeatures, sets: int, permutations: int, rng: np.random.Generator) -> Iterator[Row]:
    """Level of the association test before training: how often it rejects for permuted labels."""
    for prevalence in PREVALENCES:
        for share in (0.0, 0.15):
            shown = duplicated(len(images.features), share, rng)
            labels = permuted(len(images.features), prevalence, sets, rng)
            labels, observed = relabelled(labels, shown, rng)
            rows = association.one_row_per_group(images.features[shown], Labels.of(labels, observed), shown)
            p = association.score_test(*rows, permutations=permutations, seed=1)
            cell = f"prevalence {prevalence}, {share:.0%} duplicates"
            for level in (0.05, 0.0125):
                figure = f"claimed at {level}"
                yield most("level before training", images.name, cell, sets, figure, (p <= level).mean(), level)
            if share:
                some = slice(sets // 5)
                rows = images.features[shown], Labels.of(labels[:, some], observed[:, some])
                wrong = (association.score_test(*rows, permutations=permutations, seed=1) <= 0.05).mean()
                figure = "claimed at 0.05, duplicates permuted apart (not the method)"
                yield Row("level before training", images.name, cell, sets // 5, figure, wrong)


def power_before(images: ImageFeatures, sets: int, permutations: int, rng: np.random.Generator) -> Iterator[Row]:
    """Power of the association test before training at level .0125: labels planted at oracle AUC .75 in 880 images."""
    features = images.features[: min(880, len(images.features))]
    for leading, positives, least_share in ((20, 50, 0.85), (None, 150, 0.9), (None, 50, None)):
        scores = directions(features, sets, leading, rng)
        labels = planted(scores, positives, slope_for(scores, positives, 0.75, rng), rng)
        p = association.score_test(features, every(labels), permutations=permutations, seed=1)
        where = f"leading {leading} components" if leading else "isotropic"
        cell = f"{where}, {positives} of {len(features)}, oracle AUC {auc_of(scores, labels).mean():.3f}"
        head = "power before training", images.name, cell, sets, "found at 0.0125", (p <= 0.0125).mean()
        yield Row(*head) if least_share is None else least(*head, least_share)


# --- after training -----------------------------------------------------------------------------------------------


def partition(groups: np.ndarray, folds: int, rng: np.random.Generator) -> list[Fold]:
    """Random folds of whole groups, or a hold-out of 15 % of them; 15 % of the other groups are for validation."""
    total = groups.max() + 1
    home = rng.permutation(total) % folds if folds > 1 else (rng.random(total) >= 0.15).astype(int)
    parts = []
    for k in range(folds):
        test = home == k
        val = ~test & (rng.random(total) < 0.15)
        parts.append(Fold(*(np.flatnonzero(mask[groups]) for mask in (~test & ~val, val, test))))
    return parts


def stratified(home: np.ndarray, prevalence: float, sets: int, rng: np.random.Generator) -> np.ndarray:
    """bool [G, sets]: labels without association, spread evenly over the folds as by a stratified split."""
    labels = np.zeros((len(home), sets), bool)
    for k in range(home.max() + 1):
        rows = np.flatnonzero(home == k)
        count = (prevalence * len(rows) + rng.random(sets)).astype(int)  # rounded up or down, unbiased on average
        labels[rows] = np.argsort(np.argsort(rng.random((len(rows), sets)), axis=0), axis=0) < count
    return labels


def ridge_logits(
    features: np.ndarray, labels: np.ndarray, folds: Sequence[Fold], penalty: float
) -> list[dict[str, np.ndarray]]:
    """Logits of ridge heads trained on the training rows of each fold, as in `Trained.logits`; no label is missing."""
    gram = features @ features.T / features.shape[1]
    logits = []
    for fold in folds:
        inner = gram[np.ix_(fold.train, fold.train)] + penalty * np.eye(len(fold.train))
        head = np.linalg.solve(inner, labels[fold.train] - labels[fold.train].mean(0))
        logits.append({split: (gram[np.ix_(getattr(fold, split), fold.train)] @ head)[None] for split in SPLITS})
    return logits


def predictions_of(
    logits: Sequence[dict[str, np.ndarray]],
    labels: np.ndarray,
    observed: np.ndarray,
    groups: np.ndarray,
    folds: Sequence[Fold],
) -> Predictions:
    """The predictions of a run whose attributes are these labels."""
    parts = [(k, split, getattr(fold, split)) for k, fold in enumerate(folds) for split in SPLITS]
    rows, sizes = np.concatenate([part for *_, part in parts]), [len(part) for *_, part in parts]
    labels = labels & observed
    return Predictions(
        logits=np.concatenate([logits[k][split] for k, split, _ in parts], axis=1).astype(np.float32),
        labels=Labels.of(labels[rows], observed[rows], tuple(f"set {number}" for number in range(labels.shape[1]))),
        split=np.repeat([split for _, split, _ in parts], sizes),
        fold=np.repeat(np.array([k for k, *_ in parts], np.int16), sizes),
        group=groups[rows].astype(np.int32),
        image_id=np.array([f"image {row}" for row in rows]),
        seed=np.arange(len(logits[0]["test"])),
        train_positive=np.stack([labels[fold.train].sum(0) for fold in folds]).astype(np.int32),
        train_observed=np.stack([observed[fold.train].sum(0) for fold in folds]).astype(np.int32),
    )


def centred(features: np.ndarray) -> np.ndarray:
    x = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    return x / np.maximum(x.std(0), 1e-6)


def level_after(
    images: ImageFeatures, rows: int, partitions: int, per_partition: int, penalty: float, rng: np.random.Generator
) -> Iterator[Row]:
    """Level of the association test after training: ridge heads retrained on labels without association."""
    x = centred(images.features[:rows])
    sets = partitions * per_partition
    for folds in (FOLDS, 1):
        for prevalence in PREVALENCES:
            for share in (0.0, 0.15):
                saved = []
                for _ in range(partitions):
                    shown = duplicated(len(x), share, rng)
                    parts = partition(shown, folds, rng)
                    labels = stratified(home_of(shown, parts), prevalence, per_partition, rng)[shown]
                    logits = ridge_logits(x[shown], labels, parts, penalty)
                    saved.append(predictions_of(logits, labels, everywhere(labels), shown, parts))
                kind = f"{folds} folds" if folds > 1 else "hold-out"
                cell = f"{kind}, n {len(x)}, prevalence {prevalence}, {share:.0%} duplicates, ridge {penalty:g}"
                yield from judged_after(images.name, cell, sets, saved)


def judged_after(features: str, cell: str, sets: int, saved: Sequence[Predictions]) -> Iterator[Row]:
    """The shares of permuted label sets in which `after` claims signal."""
    results = [association.after_training(run, permutations=999, seed=n) for n, run in enumerate(saved)]
    p = np.concatenate([result.p for result in results])
    head = "level after training", features, cell, sets
    for level in (0.05, 0.0125):
        yield most(*head, f"claimed at {level}", float(np.mean(p <= level)), level)
    factor = Decisions.of(saved[0]).variance_factor
    if factor > 1:
        threshold = NORMAL.cdf(NORMAL.inv_cdf(0.05) / math.sqrt(factor))  # where p lies when p with c = 1 is at 0.05
        yield Row(*head, "claimed at 0.05 with c = 1 (not the method)", float(np.mean(p <= threshold)))


def home_of(shown: np.ndarray, parts: Sequence[Fold]) -> np.ndarray:
    """[G] the fold in which each image is a test row; in a hold-out 1 for test images and 0 for the others."""
    home = np.zeros(shown.max() + 1, int)
    for k, fold in enumerate(parts):
        home[shown[fold.test]] = k if len(parts) > 1 else 1
    return home


def level_after_real_heads(
    images: ImageFeatures, partitions: int, per_partition: int, rng: np.random.Generator
) -> Iterator[Row]:
    """The same with the default recipe in 5 folds; each label set is an attribute, and their heads are independent."""
    groups = images.dataset.groups
    saved: dict[float, list[Predictions]] = {prevalence: [] for prevalence in PREVALENCES}
    for _ in range(partitions):
        parts = partition(groups, FOLDS, rng)
        home = home_of(groups, parts)
        labels = [stratified(home, prevalence, per_partition, rng)[groups] for prevalence in PREVALENCES]
        labels = np.concatenate(labels, axis=1)
        run = trained(images, labels, everywhere(labels), parts, seeds=1)
        for number, prevalence in enumerate(PREVALENCES):
            some = slice(number * per_partition, (number + 1) * per_partition)
            saved[prevalence].append(attributes_of(run, some))
    for prevalence, runs in saved.items():
        cell = f"{FOLDS} folds, n {len(groups)}, prevalence {prevalence}, default recipe"
        yield from judged_after(images.name, cell, partitions * per_partition, runs)


def attributes_of(run: Predictions, some: slice) -> Predictions:
    labels = Labels(run.labels.targets[:, some], run.labels.observed[:, some], run.labels.attributes[some])
    last = {name: getattr(run, name)[..., some] for name in ("logits", "train_positive", "train_observed")}
    return dataclasses.replace(run, labels=labels, **last)


def trained(
    images: ImageFeatures, labels: np.ndarray, observed: np.ndarray, folds: list[Fold], seeds: int
) -> Predictions:
    """The default recipe on other labels [N, A] of the same images."""
    from aimonk_bench.config import loader
    from aimonk_bench.tables import TABLES
    from aimonk_bench.training import heads_trainer
    from aimonk_bench.training.recipe import Recipe, TrainingData

    recipe = (*RECIPE, f"train.seeds={seeds}")
    config = loader.load(ROOT / "configs" / "reference.yaml", TABLES, recipe, check_paths=False)
    names = [f"attribute {number}" for number in range(labels.shape[1])]
    shown = Labels.of(labels.astype(np.int8), observed, names)
    data = TrainingData(shown, shown, folds, np.ones(1))
    index = np.arange(len(images.features))[None]
    run = heads_trainer.train_heads(images.features, index, data, Recipe.of(config))
    return predictions_of(run.logits, labels.astype(bool), observed, images.dataset.groups, folds)


def detectable(images: ImageFeatures, sets: int, permutations: int, rng: np.random.Generator) -> Iterator[Row]:
    """Power of both association tests where the out-of-fold AUC is the one that the verdict calls detectable.

    Ridge heads; labels planted in the leading 20 components, at the strength with that mean out-of-fold AUC.
    """
    x = centred(images.features[: min(880, len(images.features))])
    level = verdict.ALPHA / 2 / ATTRIBUTES
    for positives in (50, 150, len(x) // 2):
        target = float(verdict.detectable_auc(np.array([positives]), np.array([len(x) - positives]), ATTRIBUTES)[0])
        scores = directions(x, sets, 20, rng)
        low, high = 0.0, 6.0
        for _ in range(8):
            slope = (low + high) / 2
            labels = planted(scores, positives, slope, rng)
            after = association.after_training(five_folds(x, labels, rng), seed=0)
            low, high = (slope, high) if np.nanmean(after.auc) < target else (low, slope)
        p = association.score_test(x, every(labels), permutations=permutations, seed=1)
        cell = f"{positives} of {len(x)}, out-of-fold AUC {np.nanmean(after.auc):.3f} (detectable: {target:.3f})"
        for figure, rejected in (
            ("before", p <= level),
            ("after", after.p <= level),
            ("either", (p <= level) | (after.p <= level)),
        ):
            yield Row("detectable AUC", images.name, cell, sets, f"{figure} at {level:g}", float(rejected.mean()))


def five_folds(x: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Predictions:
    groups = np.arange(len(x))
    parts = partition(groups, FOLDS, rng)
    return predictions_of(ridge_logits(x, labels, parts, 10.0), labels, everywhere(labels), groups, parts)


# --- gain ---------------------------------------------------------------------------------------------------------


def distance(auc: float) -> float:
    """Between the means of two normal distributions of variance 1."""
    return math.sqrt(2) * NORMAL.inv_cdf(auc)


def level_gain(sets: int, rng: np.random.Generator) -> Iterator[Row]:
    """Level of the test of a gain (one-sided 0.05): fixed heads and thresholds on new test rows, without a true gain.

    Gaussian scores; thresholds tuned on 100 validation rows; the true gain follows from the threshold. Without
    association (AUC 0.5) the verdict does not use the test, so it need not keep its level there.
    """
    for rows, prevalence, auc in itertools.product((150, 900), PREVALENCES, (0.5, 0.6, 0.75)):
        labels = rng.random((2, 1000, sets)) < prevalence  # validation, test
        scores = rng.standard_normal(labels.shape) + distance(auc) * labels
        limits = thresholds.per_attribute_f1(sigmoid(scores[0, :100]), every(labels[0, :100]))[0]
        cut = np.log(limits / (1 - limits))
        recall, false = (np.array([NORMAL.cdf(m - t) for t in cut]) for m in (distance(auc), 0.0))
        true = 2 * prevalence * recall / (prevalence + prevalence * recall + (1 - prevalence) * false)
        true -= 2 * prevalence / (1 + prevalence)
        decisions = Decisions(
            accepted=(scores[1, :rows] > cut)[None],
            labels=every(labels[1, :rows]),
            group=np.arange(rows),
            fold=np.zeros(rows, int),
            image_id=np.arange(rows),
        )
        result = gain.gain(decisions, draws=500)
        cell = f"hold-out, {rows} test rows, prevalence {prevalence}, AUC {auc}"
        head = "level of gain", "scores", cell
        none, some = ((sign & np.isfinite(result.p)) for sign in (true <= 0, true > 0))
        if none.sum() >= 100:
            row = *head, int(none.sum()), "claimed at 0.05 where the true gain is not above 0"
            claimed = float(np.mean(result.p[none] <= 0.05))
            yield most(*row, claimed, 0.05) if auc > 0.5 else Row(*row, claimed, "not used: no association")
        if some.sum() >= 100:
            above = float(np.mean(result.low[some] > true[some]))
            yield most(
                *head, int(some.sum()), "lower 95 % bound above the true gain, where that is above 0", above, 0.05
            )
            yield Row(*head, int(some.sum()), "claimed where it is above 0", float(np.mean(result.p[some] <= 0.05)))


def level_gain_retrained(sets: int, rng: np.random.Generator) -> Iterator[Row]:
    """The same in five folds with retraining, for the mean gain of the recipe at this size.

    Features in 20 dimensions, ridge heads, thresholds tuned on the validation rows of each fold.
    """
    for rows, prevalence, auc in itertools.product((300, 900), PREVALENCES, (0.6, 0.75)):
        values, lows, p = [], [], []
        for _ in range(sets):
            labels = (np.argsort(rng.random(rows)) < round(prevalence * rows))[:, None]
            x = rng.standard_normal((rows, 20))
            x[:, 0] += distance(auc) * labels[:, 0]
            run = five_folds(x, labels, rng)
            result = gain.gain(Decisions.of(run, thresholds.tune(run, Spec("per_attribute_f1"))), draws=300)
            values.append(result.value[0])
            lows.append(result.low[0])
            p.append(result.p[0])
        cell = f"5 folds, n {rows}, prevalence {prevalence}, oracle AUC {auc}, mean gain {np.mean(values):.3f}"
        head = "level of gain", "20 dimensions", cell, sets
        claimed = float(np.mean(np.array(p) <= 0.05))
        if np.mean(values) <= 0:
            yield most(*head, "claimed at 0.05 where the mean gain is not above 0", claimed, 0.05)
        else:
            above = float(np.mean(lows > np.mean(values)))
            yield most(*head, "lower 95 % bound above the mean gain, where that is above 0", above, 0.05)
            yield Row(*head, "claimed where it is above 0", claimed)


# --- the verdict --------------------------------------------------------------------------------------------------


def small_outcomes(rng: np.random.Generator) -> Iterator[tuple[str, verdict.Outcome]]:
    """Outcomes for permuted and planted labels on Gaussian features, from ridge heads in five folds."""
    x = centred(gaussian(600).features)
    for name, prevalence, auc in PLANTED:
        scores = directions(x, 4, 20, rng)
        positives = round(prevalence * len(x))
        slope = 0.0 if auc == 0.5 else slope_for(scores, positives, auc, rng)
        labels = planted(scores, positives, slope, rng)
        run = five_folds(x, labels, rng)
        first = association.before_training(x, every(labels), np.arange(len(x)), permutations=399, seed=0)
        yield name, signal_of(run, first).outcome


PLANTED = (("permuted", 0.3, 0.5), ("planted, prevalence 0.88", 0.88, 0.78), ("planted, prevalence 0.3", 0.3, 0.92))


def signal_of(run: Predictions, first: association.BeforeTraining) -> verdict.Signal:
    tuned = thresholds.tune(run, Spec("per_attribute_f1"))
    return verdict.signal(first, association.after_training(run, seed=0), gain.gain(Decisions.of(run, tuned)))


def sentence_of(run: Predictions, first: association.BeforeTraining) -> str:
    """The verdict of this run alone, in words."""
    policy, name = Spec("per_attribute_f1"), "the default recipe"
    tuned = thresholds.tune(run, policy)
    entry = Entry(lambda: run, tuned, score(run, tuned, policy), validation=0.0, complexity=(), before=first)
    covered = {figure: entry.scores.figures.defined(figure) for figure in AVERAGED}
    stated = statistics({name: entry}, {name: ""}, None, covered)
    return sentence(stated.verdict, {name: (name,)}, stated.against_winner)


def verdicts(images: ImageFeatures, splits_seeds: Sequence[int], rng: np.random.Generator) -> Iterator[Row]:
    """The verdict for the labels of the data set, and for labels planted on its images, over split seeds; 5 seeds."""
    from aimonk_bench.config.split_fields import KFold
    from aimonk_bench.data import splits

    dataset = images.dataset
    cases: list[tuple[str, Labels, verdict.Outcome]] = [("labels of the data set", dataset.labels, "no_signal")]
    for (name, prevalence, auc), outcome in zip(PLANTED, get_args(verdict.Outcome), strict=True):
        scores = directions(images.features, 4, 20, rng)
        positives = round(prevalence * len(scores))
        slope = 0.0 if auc == 0.5 else slope_for(scores, positives, auc, rng)
        targets = planted(scores, positives, slope, rng)[first_of(dataset.groups)]
        cases.append((name, Labels.of(targets, dataset.labels.observed), outcome))
    for name, labels, outcome in cases:
        before = association.before_training(images.features, labels, dataset.groups, seed=0)
        runs, results = [], []
        for seed in splits_seeds:
            folds = splits.split(KFold(folds=FOLDS, seed=seed), labels, dataset.groups)
            run = trained(images, labels.targets, labels.observed, folds, seeds=5)
            runs.append(run)
            results.append(signal_of(run, before))
        sets, share = len(results), float(np.mean([result.outcome == outcome for result in results]))
        smallest = min(float(np.fmin.reduce(result.adjusted)) for result in results)
        cell = f"{name}, {sets} split seeds, p before {np.round(before.p, 3).tolist()}"
        yield least("verdict", images.name, cell, sets, f"share with verdict {outcome}", share, 1.0)
        words = f"{name}: {sentence_of(runs[0], before)}"
        yield Row("verdict", images.name, words, sets, "smallest adjusted p", smallest)


def first_of(groups: np.ndarray) -> np.ndarray:
    """[N] the first row of each row's group."""
    return np.unique(groups, return_index=True)[1][np.unique(groups, return_inverse=True)[1]]


def strong(images: ImageFeatures) -> Iterator[Row]:
    """The association test before training on a data set whose labels can be learned."""
    labels = images.dataset.labels
    before = association.before_training(images.features, labels, images.dataset.groups, seed=0)
    for name, p, auc in zip(labels.attributes, before.p, before.auc, strict=True):
        head = "association test before training", images.name, name, 1
        yield Row(*head, "p", float(p), "<= 0.002", bool(p <= 0.002))
        yield Row(*head, "AUC of the probe", float(auc))


# --- the command --------------------------------------------------------------------------------------------------


def together(rows: Sequence[Row]) -> Iterator[Row]:
    """All cells of a part and figure together: a single cell at its level misses the bound by chance one time in 44."""
    judged = [row for row in rows if row.bound.startswith("<=") and row.part.startswith("level")]
    for part, figure in dict.fromkeys((row.part, row.figure) for row in judged):
        cells = [row for row in judged if (row.part, row.figure) == (part, figure)]
        sets = sum(row.sets for row in cells)
        share = sum(row.value * row.sets for row in cells) / sets
        level = float(figure.split("at ")[1].split()[0]) if "at 0" in figure else 0.05
        yield most(part, "all", f"{len(cells)} cells together", sets, figure, share, level)


def simulate(full: bool) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    elpv, aimonk, synthetic = map(stored, ("elpv", "aimonk", "synthetic"))
    if elpv is not None:
        yield from strong(elpv)
    if aimonk is not None:
        yield from verdicts(aimonk, range(10 if full else 1), rng)
    sets = [images for images in (aimonk, synthetic) if images is not None]
    for images in sets or [gaussian(880)]:
        yield from power_before(images, 500 if full else 100, 399, rng)
        yield from detectable(images, 300 if full else 100, 399, rng)
        for rows, penalty in ((len(images.features), 10.0), (300, 0.1)) if full else ((300, 10.0),):
            yield from level_after(images, rows, 25 if full else 5, 40, penalty, rng)
        if images.dataset is not None:
            yield from level_after_real_heads(images, 10 if full else 1, 100, rng)
        yield from level_before(images, 2000 if full else 200, 199, rng)
    yield from level_gain(2000 if full else 200, rng)
    yield from level_gain_retrained(200 if full else 20, rng)


def main(out: Path, full: bool) -> None:
    """Print the figures as a Markdown table, and write `signal.md` and `signal.csv`."""
    rows = []
    for row in simulate(full):
        rows.append(row)
        print(line(row), flush=True)
    judged = list(together(rows))
    print("\n".join(map(line, judged)))
    rows += judged
    out.mkdir(parents=True, exist_ok=True)
    fields = [field.name for field in dataclasses.fields(Row)]
    with (out / "signal.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows([getattr(row, name) for name in fields] for row in rows)
    head = ["| " + " | ".join(fields[:-1]) + " |", "|" + "---|" * (len(fields) - 1)]
    text = "\n".join([*head, *map(line, rows)]) + "\n"
    (out / "signal.md").write_text(INTRODUCTION + text, encoding="utf-8", newline="\n")


def line(row: Row) -> str:
    judged = row.bound if row.within is None else f"{row.bound} {'' if row.within else '**missed**'}".strip()
    return f"| {row.part} | {row.features} | {row.cell} | {row.sets} | {row.figure} | {row.value:.4f} | {judged} |"


INTRODUCTION = """\
# Association tests, gain and verdict: error rates and power

Command: `python -m experiments.simulations signal --full`. A share may exceed its level by two standard errors. Of
cells that are exactly at their level one in 44 misses by chance: the cells of a part are judged together, at the end.

"""
