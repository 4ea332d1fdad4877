"""Independent answers for all tests: scikit-learn, brute force and plain loops; and the made-up runs they are about."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.metrics import Confusion, ranking
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.evaluation.thresholds import Thresholds

Array = np.ndarray[Any, Any]
Pairs = list[tuple[float, int]]  # (score, target) of the observed rows of one attribute

NAN = float("nan")
NAMES = ("smile", "hat", "größe", "rare")


# Made-up runs ---------------------------------------------------------------------------------------------------------


def arrays(
    seed: int = 0,
    *,
    attributes: Sequence[str] = NAMES,
    prevalence: Sequence[float] = (0.8, 0.5, 0.5, 0.1),
    without_positives: Sequence[str] = (),
    images: int = 60,
    folds: int = 3,
    seeds: int = 2,
    missing: float = 0.1,
    signal: float = 0.75,
    noise: int | None = None,
) -> dict[str, Any]:
    """The arrays of a run that never happened, named as in ``predictions.npz``; a target that is not observed is 0.

    Every image is a test row of one fold, a quarter of the others are its validation rows; a hold-out tests and
    validates on a sixth each. Logits are rounded, so that there are ties.

    Args:
        seed: of labels and logits.
        signal: of the logits, added for positives and subtracted for negatives.
        noise: seed of the logits alone; the labels of runs with the same seed are the same.
    """
    rng = np.random.default_rng(seed)
    truth = rng.random((images, len(attributes))) < prevalence
    observed = rng.random(truth.shape) >= missing
    truth[:, [name in without_positives for name in attributes]] = False
    home = np.arange(images) % (folds if folds > 1 else 6)
    rows, split, fold, positive, labelled = [], [], [], [], []
    for number in range(folds):
        test = np.flatnonzero(home == number)
        val = np.flatnonzero(home == 1) if folds == 1 else np.flatnonzero(home != number)[::4]
        train = np.setdiff1d(np.arange(images), [*val, *test])
        rows += [*val, *test]
        split += ["val"] * len(val) + ["test"] * len(test)
        fold += [number] * (len(val) + len(test))
        positive.append((truth & observed)[train].sum(axis=0))
        labelled.append(observed[train].sum(axis=0))
    rng = rng if noise is None else np.random.default_rng(noise)
    logits = rng.normal(size=(seeds, len(rows), len(attributes))) + signal * (2 * truth[rows] - 1)
    return {
        "logits": np.round(logits, 1).astype(np.float32),
        "targets": (truth & observed)[rows].astype(np.int8),
        "observed": observed[rows],
        "split": np.array(split),
        "fold": np.array(fold, dtype=np.int16),
        "group": np.array(rows, dtype=np.int32),
        "image_id": np.array([f"image_{row}.jpg" for row in rows]),
        "attribute": np.array(attributes),
        "seed": np.arange(seeds) * 10,
        "train_positive": np.array(positive, dtype=np.int32),
        "train_observed": np.array(labelled, dtype=np.int32),
    }


def run_of(content: Mapping[str, Any]) -> Predictions:
    """The run with these arrays; ``truth`` is -1 where it is not stated."""
    rest = dict(content)
    attributes = tuple(rest.pop("attribute").tolist())
    labels = Labels(rest.pop("targets"), rest.pop("observed"), attributes)
    if "truth" in rest:
        truth = rest.pop("truth")
        rest["truth"] = Labels(np.where(truth == -1, np.int8(0), truth), truth != -1, attributes)
    return Predictions(labels=labels, **rest)


def predictions(seed: int = 0, **options: Any) -> Predictions:
    """`run_of` `arrays`."""
    return run_of(arrays(seed, **options))


def probabilities(run: Predictions) -> Array:
    """Of all rows, [S, R, A]."""
    return sigmoid(run.logits)


def thresholds_of(run: Predictions, values: Array | float = 0.5) -> Thresholds:
    """Thresholds by hand: values that broadcast to [S, F, A]."""
    shape = len(run.seed), run.folds, len(run.labels.attributes)
    return Thresholds("by hand", run.labels.attributes, run.seed.tolist(), np.broadcast_to(values, shape).astype(float))


def decisions(accepted: Array, labels: Labels, group: Array | None = None, fold: Array | None = None) -> Decisions:
    """Decisions [S, R, A] on test rows; by default every row is a group, and all are of one fold."""
    rows = np.arange(len(labels))
    group, fold = rows if group is None else group, np.zeros_like(rows) if fold is None else fold
    return Decisions(accepted, labels, group, fold, rows)


METRICS = ("precision", "recall", "f1", "accuracy", "average_precision", "roc_auc")


def metric(name: str, scores: Array, labels: Labels, thresholds: Any = 0.5) -> Array:
    """A metric of the package by its name."""
    if name in ("average_precision", "roc_auc"):
        return ranking(scores, labels)[name]
    value: Array = getattr(Confusion.of(scores, labels, thresholds), name)
    return value


# Figures, by scikit-learn ---------------------------------------------------------------------------------------------


def figure(name: str, scores: Array, targets: Array, threshold: Array | float) -> float:
    """A metric of one attribute, by the words of the contract: scores and targets [n] of the observed rows."""
    accepted, positives = scores > threshold, targets.sum()
    if name == "accuracy":
        return metrics.accuracy_score(targets, accepted) if len(targets) else NAN
    if positives == 0 or (name == "precision" and not accepted.any()):
        return NAN
    if name == "roc_auc":
        return metrics.roc_auc_score(targets, scores) if positives < len(targets) else NAN
    if name == "average_precision":
        return metrics.average_precision_score(targets, scores)
    score: Callable[..., float] = getattr(metrics, f"{name}_score")
    return score(targets, accepted, zero_division=0)


def scored(folder: Path) -> dict[str, dict[str, float]]:
    """Attribute -> figure of a run tuned by `per_attribute_f1`, and "macro", the means; the counts are summed.

    From ``predictions.npz`` and ``thresholds.json`` alone. Every attribute defines every figure in every fold.
    """
    with np.load(folder / "predictions.npz") as file:
        made = {name: file[name] for name in file.files}
    tuned = np.array(json.loads((folder / "thresholds.json").read_text())["thresholds"])  # [S, F, A]
    seeds, split, fold = range(len(made["seed"])), made["split"], made["fold"]
    scores = 1 / (1 + np.exp(-made["logits"].astype(np.float64)))
    unseen = cross_fitted(scores, made)
    result: dict[str, dict[str, float]] = {}
    for a, attribute in enumerate(made["attribute"].tolist()):
        targets, observed = made["targets"][:, a], made["observed"][:, a]
        test, val = observed & (split == "test"), observed & (split == "val")

        def counted(name: str, limits: Array, rows: Array, a: int = a, targets: Array = targets) -> float:
            return float(np.mean([figure(name, scores[s, rows, a], targets[rows], limits[s][rows]) for s in seeds]))

        def ranked(name: str, a: int = a, targets: Array = targets, test: Array = test) -> float:
            folds = [test & (fold == number) for number in np.unique(fold)]
            return float(np.mean([figure(name, scores[s, f, a], targets[f], 0.5) for s in seeds for f in folds]))

        half, of_rows = np.full(scores.shape[:2], 0.5), tuned[:, fold, a]
        prevalence = (made["train_positive"] / made["train_observed"])[fold, a]
        result[attribute] = {
            "n_observed": int(test.sum()),
            "n_positive": int(targets[test].sum()),
            "f1_default": counted("f1", half, test),
            "f1_tuned": counted("f1", of_rows, test),
            "f1_validation": counted("f1", unseen[:, :, a], val),
            "threshold": tuned[:, :, a].mean(),
            "precision": counted("precision", of_rows, test),
            "recall": counted("recall", of_rows, test),
            "accuracy_default": counted("accuracy", half, test),
            "accuracy_tuned": counted("accuracy", of_rows, test),
            "average_precision": ranked("average_precision"),
            "roc_auc": ranked("roc_auc"),
            "floor_f1": figure("f1", np.ones(test.sum()), targets[test], 0.5),
            "prior_f1": figure("f1", prevalence[test], targets[test], 0.5),
        }
    columns = {name: [figures[name] for figures in result.values()] for name in result[attribute]}
    result["macro"] = {name: np.sum(x) if name.startswith("n_") else np.mean(x) for name, x in columns.items()}
    return result


# Thresholds, by brute force -------------------------------------------------------------------------------------------


def counts(threshold: float, pairs: Pairs) -> tuple[int, int, int, int]:
    """True positives, accepted, positives, rows."""
    accepted = [target for score, target in pairs if score > threshold]
    return sum(accepted), len(accepted), sum(target for _, target in pairs), len(pairs)


def exact_f1(threshold: float, pairs: Pairs) -> Fraction:
    """2 TP / (accepted + positives)."""
    true_positive, accepted, positives, _ = counts(threshold, pairs)
    return Fraction(2 * true_positive, accepted + positives)


def candidates(pairs: Pairs) -> list[float]:
    """Every threshold that the contract names."""
    scores = sorted({score for score, _ in pairs})
    result = [(1 + scores[-1]) / 2]
    if scores[0] > 0:  # else min / 2 accepts what the next candidate does
        result.append(scores[0] / 2)
    for lower, upper in itertools.pairwise(scores):
        middle = (lower + upper) / 2
        result.append(middle if middle < upper else lower)
    return result


def brute_force(pairs: Pairs, quality: Callable[..., Any] = exact_f1) -> float:
    """The candidate of the highest quality; of equal ones the nearest to 0.5, then the lower."""
    return min(candidates(pairs), key=lambda t: (-quality(t, pairs), abs(t - 0.5), t))


def per_attribute_f1(scores: Array, targets: Array, observed: Array) -> list[float]:
    """The best threshold of each attribute [R, A]; of all together where one has a single class; 0.5 where all have."""

    def pairs(attributes: Sequence[int]) -> Pairs:
        cells = [(r, a) for r in range(len(scores)) for a in attributes if observed[r, a]]
        return [(float(scores[cell]), int(targets[cell])) for cell in cells]

    def best(attributes: Sequence[int], otherwise: float) -> float:
        labelled = pairs(attributes)
        return brute_force(labelled) if {target for _, target in labelled} == {0, 1} else otherwise

    pooled = best(range(scores.shape[1]), 0.5)
    return [best([a], pooled) for a in range(scores.shape[1])]


def parts(group: Array, targets: Array, observed: Array) -> Array:
    """The part [R] of the validation rows of a fold: groups in turn, those with a positive of the rarest class last."""

    def rows_of(a: int, target: int) -> int:
        return sum(bool(observed[r, a]) and targets[r, a] == target for r in range(len(group)))

    rarest = sorted(range(targets.shape[1]), key=lambda a: min(rows_of(a, 0), rows_of(a, 1)))

    def holds(name: int) -> list[int]:
        rows = np.flatnonzero(group == name)
        return [max(1 + int(targets[r, a] == 1) if observed[r, a] else 0 for r in rows) for a in rarest]

    ordered = sorted(np.unique(group).tolist(), key=holds)
    return np.array([ordered.index(name) % 5 for name in group.tolist()])


def cross_fitted(scores: Array, made: Mapping[str, Array]) -> Array:
    """[S, R, A] the threshold of each validation row by `per_attribute_f1` of the other parts; NaN in test rows."""
    limits = np.full(scores.shape, np.nan)
    for fold in np.unique(made["fold"]):
        rows = np.flatnonzero((made["fold"] == fold) & (made["split"] == "val"))
        part = parts(made["group"][rows], made["targets"][rows], made["observed"][rows])
        for s, number in itertools.product(range(len(scores)), range(part.max() + 1)):
            others = rows[part != number]
            limits[s, rows[part == number]] = per_attribute_f1(
                scores[s, others], made["targets"][others], made["observed"][others]
            )
    return limits
