"""Two Gaussian worlds in which the population figures of every head are known.

`Heads`: fixed heads on many test sets. Head s scores image i by d_s y + sqrt(h) w + sqrt(1 - h) e_s + b_s. All heads
share w; e_s belongs to one head; d_s and b_s differ between seeds, so that the seeds are a random sample. Labels and w
are correlated between the attributes of a set.

`Sample`: heads trained on drawn images in folds or a hold-out, thresholds tuned on validation rows. The score of a head
and the latent variable behind a label are bivariate normal, which gives the population figures of the head.

In both, images may come in groups of duplicates: they have one label, and one w or the same features.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.special import logit, ndtr, ndtri, owens_t
from threadpoolctl import threadpool_limits

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.records.environment import cores

Array = np.ndarray[Any, Any]

SEEDS = 5
ATTRIBUTES = 3  # of one set
SEED_SLOPE, SEED_SHIFT = 0.03, 0.1  # SD over seeds of d_s / d, and of b_s

VALIDATION = 0.15  # share of the rows outside the test fold; in a hold-out of all rows, as the share of test rows
FEATURES = 16
PREVALENCES = (0.1, 0.45, 0.88)  # of the attributes of retrained heads
# [D, A] of the latents, of length 1; the first half of the features holds nine tenths of them
DIRECTIONS = np.repeat([[0.9 / 8], [0.1 / 8]], 8, axis=0) ** 0.5 * (-1) ** (np.arange(16)[:, None] >> np.arange(3))
STEEPNESS = 2.0  # of logits over ridge scores of labels -1 and 1, right where the probability is near 0.5


@dataclass(frozen=True)
class Heads:
    """A world of fixed heads.

    Attributes:
        auc: ROC AUC of the average head.
        n: number of images.
        missing: share of missing labels.
        copies: images of a group of duplicates.
        shared: h, the share of the variance of a score, given the label, that is common to all heads; near 1 for
            frozen heads, whose seeds differ little.
    """

    prevalence: float
    auc: float
    n: int
    missing: float
    copies: int = 1
    shared: float = 0.8

    @property
    def distance(self) -> float:
        """Between the mean scores of the two classes, in standard deviations."""
        return float(np.sqrt(2) * ndtri(self.auc))

    @property
    def limits(self) -> dict[str, float]:
        """Thresholds of the score: where the calibrated probability is 0.5, and where F1 is best."""
        grid = np.linspace(-5, 8, 5001)
        best = grid[np.argmax(self._f1(grid, self.distance, 0.0))]
        half = self.distance / 2 - logit(self.prevalence) / self.distance
        return {"f1_default": float(half), "f1_tuned": float(best)}

    def probability(self, score: Array | float) -> Array:
        """P(label | score) by the average head."""
        return sigmoid(self.logit(score))

    def logit(self, score: Array | float) -> Array:
        return np.asarray(self.distance * score - self.distance**2 / 2 + logit(self.prevalence))

    def _f1(self, limit: Array | float, distance: Array | float, shift: Array | float) -> Array:
        hits = self.prevalence * ndtr(distance + shift - limit)
        accepted = hits + (1 - self.prevalence) * ndtr(shift - np.asarray(limit))
        return np.asarray(2 * hits / (accepted + self.prevalence))

    def truths(self) -> dict[str, float]:
        """The estimands: population figures, in expectation over seeds."""
        node, weight = np.polynomial.hermite_e.hermegauss(31)
        weight = weight / weight.sum()
        slopes, shifts = self.distance * (1 + SEED_SLOPE * node)[:, None], SEED_SHIFT * node[None]
        truths = {name: float(weight @ self._f1(limit, slopes, shifts) @ weight) for name, limit in self.limits.items()}
        truths["roc_auc"] = float(weight @ ndtr(slopes[:, 0] / np.sqrt(2)))
        return truths


def fixed(cell: Heads, sets: int, rng: np.random.Generator) -> tuple[Predictions, Thresholds]:
    """Draw ``sets`` test sets side by side: the attributes of set k begin at column k x ATTRIBUTES."""
    size = (cell.n, sets, ATTRIBUTES)
    group = np.arange(cell.n) // cell.copies
    groups = int(group[-1]) + 1

    def noise(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    def between(share: float) -> Array:
        shared, apart = noise(groups, sets, 1), noise(groups, sets, ATTRIBUTES)
        return (np.sqrt(share) * shared + np.sqrt(1 - share) * apart)[group]

    positive = between(0.3) < ndtri(cell.prevalence)
    observed = rng.random(size, dtype=np.float32) >= cell.missing
    slope = cell.distance * (1 + SEED_SLOPE * noise(SEEDS, 1, sets, ATTRIBUTES))
    scores = slope * positive + np.sqrt(cell.shared) * between(0.5) + np.sqrt(1 - cell.shared) * noise(SEEDS, *size)
    scores += SEED_SHIFT * noise(SEEDS, 1, sets, ATTRIBUTES)
    columns = sets * ATTRIBUTES
    rows = np.arange(-1, cell.n)  # predictions need a validation row; the first one is it

    def with_validation(array: Array, axis: int) -> Array:
        flat = array.reshape(*array.shape[:-2], columns)
        return np.concatenate([np.zeros_like(flat.take([0], axis=axis)), flat], axis=axis)

    names = tuple(map(str, range(columns)))
    predictions = Predictions(
        logits=with_validation(cell.logit(scores), 1).astype(np.float32),
        labels=Labels.of(with_validation(positive, 0), with_validation(observed, 0), names),
        split=np.where(rows < 0, "val", "test"),
        fold=np.zeros(len(rows), dtype=np.int16),
        group=np.append(-1, group).astype(np.int32),
        image_id=rows.astype(str),
        seed=np.arange(SEEDS),
        train_positive=np.zeros((1, columns), dtype=np.int32),
        train_observed=np.zeros((1, columns), dtype=np.int32),
    )
    limit = np.full((SEEDS, 1, columns), cell.probability(cell.limits["f1_tuned"]))
    return predictions, Thresholds("best", names, list(range(SEEDS)), limit)


@dataclass(frozen=True)
class World:
    """A world of retrained heads: latent = rho x'b + noise.

    Attributes:
        auc: ROC AUC of the best score at prevalence .5.
        n: number of images.
        folds: 1 is a hold-out.
        prevalences: of the attributes.
        copies: images of a group of duplicates.
    """

    auc: float
    n: int
    folds: int = 5
    prevalences: tuple[float, ...] = PREVALENCES
    copies: int = 1

    @property
    def rho(self) -> float:
        correlation, auc = _curve(0.5)
        return float(np.interp(self.auc, auc, correlation))


@cache
def _curve(prevalence: float) -> tuple[Array, Array]:
    """Correlations of score and latent, and the ROC AUC of each."""
    score, correlation = np.linspace(-8, 8, 4001), np.linspace(-0.9, 0.995, 96)
    density = np.exp(-(score**2) / 2)
    width = np.sqrt(1 - correlation[:, None] ** 2)
    hit = density * ndtr((correlation[:, None] * score - ndtri(1 - prevalence)) / width)
    hits, falls = (np.cumsum(part, axis=1) / part.sum(axis=1, keepdims=True) for part in (hit, density - hit))
    return correlation, np.trapezoid(falls, hits, axis=1)


def _both_above(a: Array, b: Array, correlation: Array) -> Array:
    """P(X > a, Y > b) of standard normals; a and b not 0. Source: Owen (1956)."""
    width = np.sqrt(1 - correlation**2)
    parts = owens_t(a, (b / a - correlation) / width) + owens_t(b, (a / b - correlation) / width)
    return np.asarray((ndtr(-a) + ndtr(-b)) / 2 - parts - (a * b < 0) / 2)


@dataclass(frozen=True, eq=False)
class Sample:
    """A drawn sample of images.

    Attributes:
        world: from which it is drawn.
        features: [N, 1 + D], the first is 1.
        labels: [N, A] -1 or 1.
        group: [N] of duplicates, never parted.
        test, training: [F, N] bool; the other rows are validation rows.
    """

    world: World
    features: Array
    labels: Array
    group: Array
    test: Array
    training: Array

    @classmethod
    def draw(cls, world: World, rng: np.random.Generator) -> Sample:
        group = np.arange(world.n) // world.copies
        groups, folds = int(group[-1]) + 1, np.arange(world.folds)[:, None]
        features = rng.standard_normal((groups, FEATURES))
        noise = rng.standard_normal((groups, ATTRIBUTES))
        latent = world.rho * features @ DIRECTIONS + np.sqrt(1 - world.rho**2) * noise
        labels = np.where(latent > ndtri(1 - np.array(world.prevalences)), 1, -1)
        order = rng.permutation(groups)
        test = order % world.folds == folds if world.folds > 1 else order[None] < VALIDATION * groups
        drawn = np.where(test, np.inf, rng.random(test.shape))
        validation = VALIDATION * (1 - 1 / world.folds) if world.folds > 1 else VALIDATION
        training = (drawn > np.quantile(drawn, validation, axis=1, keepdims=True)) & ~test
        design = np.c_[np.ones(groups), features]
        return cls(world, design[group], labels[group], group, test[:, group], training[:, group])

    def heads(self, ridge: float, features: int, rng: np.random.Generator) -> Array:
        """Ridge heads [S, F, 1 + D, A], each on a bootstrap sample of its training rows."""
        x, width = self.features[:, : features + 1], features + 1
        samples = []
        for training in np.tile(self.training, (SEEDS, 1)):
            rows = np.flatnonzero(training)
            samples.append(np.bincount(rng.choice(rows, len(rows)), minlength=len(training)))
        counts = np.array(samples, dtype=np.float64)
        squares = (counts @ (x[:, :, None] * x[:, None]).reshape(len(x), -1)).reshape(-1, width, width)
        targets = (counts @ (x[:, :, None] * self.labels[:, None]).reshape(len(x), -1)).reshape(-1, width, ATTRIBUTES)
        weights = np.zeros((len(counts), FEATURES + 1, ATTRIBUTES))
        weights[:, :width] = np.linalg.solve(squares + ridge * np.diag(np.arange(width) > 0), targets)
        return weights.reshape(SEEDS, self.world.folds, FEATURES + 1, ATTRIBUTES)

    def predictions(self, heads: Array) -> Predictions:
        logits = STEEPNESS * np.einsum("nd,sfda->sfna", self.features, heads, optimize=True)
        parts = []
        for fold, (test, training) in enumerate(zip(self.test, self.training, strict=True)):
            parts += [(fold, "val", np.flatnonzero(~test & ~training)), (fold, "test", np.flatnonzero(test))]
        rows = np.concatenate([part[2] for part in parts])
        repeats = [len(part[2]) for part in parts]
        names = tuple(map(str, self.world.prevalences))
        fold = np.repeat(np.array([part[0] for part in parts], dtype=np.int16), repeats)
        return Predictions(
            logits=logits[:, fold, rows].astype(np.float32),
            labels=Labels.of(self.labels[rows] > 0, np.ones((len(rows), ATTRIBUTES)), names),
            split=np.repeat([part[1] for part in parts], repeats),
            fold=fold,
            group=self.group[rows].astype(np.int32),
            image_id=rows.astype(str),
            seed=np.arange(SEEDS),
            train_positive=(self.training.astype(np.int32) @ (self.labels > 0)).astype(np.int32),
            train_observed=np.repeat(self.training.sum(axis=1, keepdims=True), ATTRIBUTES, axis=1).astype(np.int32),
        )

    def population(self, heads: Array, limits: Array) -> dict[str, Array]:
        """The population figures of the heads at their limits (probabilities), [S, F, A] each."""
        weights = heads[:, :, 1:]
        norm = np.linalg.norm(weights, axis=2)
        correlation = self.world.rho * (weights * DIRECTIONS).sum(axis=2) / norm
        prevalence = np.array(self.world.prevalences)

        def f1(limits: Array) -> Array:
            above = (logit(limits) / STEEPNESS - heads[:, :, 0]) / norm
            hits = _both_above(above, ndtri(1 - prevalence), correlation)
            return np.asarray(2 * hits / (ndtr(-above) + prevalence))

        auc = [np.interp(correlation[..., a], *_curve(p)) for a, p in enumerate(self.world.prevalences)]
        return {"f1_default": f1(np.full(norm.shape, 0.5)), "f1_tuned": f1(limits), "roc_auc": np.stack(auc, axis=-1)}


def workers() -> ProcessPoolExecutor:
    """A process for each core, which computes on one thread."""
    return ProcessPoolExecutor(cores(), initializer=threadpool_limits, initargs=(1, "blas"))
