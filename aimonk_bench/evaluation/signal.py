"""Do pictures tell anything about labels: a test on the features before training, one on the predictions after it.

In both, a group of duplicates is one row: the mean of its features or logits, and per attribute the majority of its
observed labels; an attribute on which its labels tie is dropped for that group. Duplicates permuted apart would look
like evidence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from aimonk_bench.evaluation.cells import Cells
from aimonk_bench.evaluation.metrics import roc_auc
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.resampling import by_group

Array = npt.NDArray[Any]

RIDGE = 10.0  # in units of the mean variance of a feature: leading directions count, trailing ones are shrunk away
FOLDS = 5  # of the probe
REPEATED = 0.01  # p up to which a test is made again with more permutations
PERMUTATIONS_EACH = 200  # so many times the number of attributes: the smallest p, adjusted by Holm, is then 0.005
_BLOCK_BYTES = 64 << 20  # permuted labels held at once
_ROUNDING = 1e-6  # Q this close relative to the largest, and sums of ranks this close, are equal


@dataclass(frozen=True, eq=False)
class Before:
    """The test before training, [A] each; NaN is undefined.

    Attributes:
        p: of the score test, not adjusted for the number of attributes.
        auc: ROC AUC of the probe's out-of-fold scores, which is printed beside p and decides nothing.
        n_positive: groups with a positive label; ``n_negative`` likewise.
        notes: why there is no p; "" where there is one.
    """

    p: Array
    auc: Array
    n_positive: Array
    n_negative: Array
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data, None for NaN."""
        return {
            "p": _plain(self.p),
            "auc": _plain(self.auc),
            "n_positive": self.n_positive.tolist(),
            "n_negative": self.n_negative.tolist(),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Before:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: the content is something else.
        """
        return cls(
            p=np.array(content["p"], dtype=np.float64),
            auc=np.array(content["auc"], dtype=np.float64),
            n_positive=np.array(content["n_positive"], dtype=np.int64),
            n_negative=np.array(content["n_negative"], dtype=np.int64),
            notes=list(content["notes"]),
        )


@dataclass(frozen=True, eq=False)
class After:
    """The test after training, [A] each; NaN is undefined.

    Attributes:
        auc: ROC AUC, mean over seeds and over the folds that define it; a group counts once.
        p: one-sided, not adjusted for the number of attributes. From any test that is valid for these predictions: one
            that retrains on permuted labels may take the place of the default.
        n_positive: test groups with a positive label in those folds; ``n_negative`` likewise.
    """

    auc: Array
    p: Array
    n_positive: Array
    n_negative: Array


def before(
    features: Array, targets: Array, observed: Array, groups: Array, *, permutations: int | None = None, seed: int
) -> Before:
    """Is any attribute associated with the features, before anything is trained?

    The p-value is `score_test`'s, the AUC that of `probe`.

    Args:
        features: [N, D] of the undisturbed pictures.
        targets: [N, A] 0 or 1, not read where not observed.
        observed: [N, A] bool.
        groups: [N] duplicates share a number.
        permutations: of `score_test`.
        seed: of the permutations and of the probe's folds.
    """
    features, targets, observed = _one_row_per_group(features, targets, observed, groups)
    positive, known = (observed & (targets == 1)).sum(axis=0), observed.sum(axis=0)
    notes = ["" if 0 < n1 < n else _one_class(n1, n) for n1, n in zip(positive, known, strict=True)]
    with threadpool_limits(1, user_api="blas"):  # several wait for each other in eigh, ten times as long when disturbed
        x, penalty = _standardised(features)
        scores = _probed(x, penalty, targets, observed, np.arange(len(features)), seed)
        factor = _kernel_factor(x, penalty)
        del x  # as large as the features
        p = _score_tested(factor, targets, observed, permutations, seed)
    auc = roc_auc(np.nan_to_num(scores), targets, observed, 0.5)
    auc[(observed & np.isnan(scores)).any(axis=0)] = np.nan
    return Before(p, auc, positive, known - positive, notes)


def _one_class(positive: int, known: int) -> str:
    return f"no observed {'label' if not known else 'negative' if positive else 'positive'}: nothing to test"


def score_test(
    features: Array, targets: Array, observed: Array, *, permutations: int | None = None, seed: int
) -> Array:
    """p [A] of the global score test of a ridge model, by permutation; NaN without both classes.

    Q = (y - mean)' K (y - mean) with K = G (G + 10)^-1 without its diagonal and G = X X' / D for standardised features
    X: large where rows with similar features have similar labels. p = (1 + #{Q* >= Q}) / (1 + P) over P permutations of
    an attribute's observed labels among its observed rows. There are no folds, so nothing depends on how they fall.

    It sees what a linear head can use, above all along the directions in which the features vary most. It cannot see a
    dependence that is not linear in the features, and has little power where few positives meet a signal spread over
    many directions: no rejection does not mean that there is nothing to learn. With very few rows of one class few
    permutations differ, and p cannot be small.

    Memory beside the features: three float32 arrays of their size, and 200 MB.

    Args:
        features: [N, D] one row per group of duplicates.
        targets: [N, A] 0 or 1, not read where not observed.
        observed: [N, A] bool.
        permutations: P; by default 999, and where they leave p <= 0.01, again 200 for every attribute if these are
            more, so that p can be small enough for Holm.
        seed: of the permutations.

    Source: Goeman, van de Geer, van Houwelingen, Testing against a high dimensional alternative, JRSS B 68, 2006.
    """
    return _score_tested(_kernel_factor(*_standardised(features)), targets, observed, permutations, seed)


def _score_tested(factor: Array, targets: Array, observed: Array, permutations: int | None, seed: int) -> Array:
    """`score_test` by a factor [N, d] of the kernel."""
    values = np.full(targets.shape[1], np.nan)
    first = permutations or 999
    more = permutations or max(first, PERMUTATIONS_EACH * len(values))
    for a, (labels, rows) in enumerate(zip(targets.T, observed.T, strict=True)):
        positive = labels[rows] == 1
        if positive.any() and not positive.all():
            rng = np.random.default_rng([seed, a])
            own = factor if rows.all() else factor[rows]
            values[a] = _permutation_p(own, positive, first, rng)
            if values[a] <= REPEATED and first < more:
                values[a] = _permutation_p(own, positive, more, rng)
    return values


def _permutation_p(factor: Array, positive: Array, permutations: int, rng: np.random.Generator) -> float:
    """Q of labels [n] against Q of their permutations, for the rows [n, d] of a factor of the kernel."""
    centred = (positive - positive.mean()).astype(factor.dtype)
    diagonal = np.einsum("nd,nd->n", factor, factor)
    blocks = itertools.chain([centred[None]], _permuted(centred, permutations, rng))
    statistic = np.concatenate([np.square(y @ factor).sum(axis=1) - np.square(y) @ diagonal for y in blocks])
    reached = statistic[1:] >= statistic[0] - _ROUNDING * np.abs(statistic).max()
    return float((1 + reached.sum()) / (1 + permutations))


def _permuted(values: Array, permutations: int, rng: np.random.Generator) -> Iterator[Array]:
    """Blocks [b, n] of permutations of the values [n], as many in all as asked for."""
    block = max(1, _BLOCK_BYTES // (2 * values.nbytes))
    for start in range(0, permutations, block):
        yield rng.permuted(np.broadcast_to(values, (min(block, permutations - start), len(values))), axis=1)


def _standardised(features: Array) -> tuple[Array, float]:
    """Features with mean 0 and variance 1 in the fewest columns that keep all inner products, and the ridge penalty.

    Only inner products enter K and the probe, so that D > N features can be replaced by N, in float64. Columns that do
    not vary are left out.

    Returns:
        [N, min(N, D)], and 10 D, what X'X is shrunk by.
    """
    features = features[:, features.max(axis=0) > features.min(axis=0)]
    rows, width = features.shape
    x: Array = features.astype(np.float64 if rows < width else np.float32)
    x = x - features.mean(axis=0, dtype=np.float64).astype(x.dtype)
    x = x / np.sqrt(np.einsum("nd,nd->d", x, x) / rows)
    if rows < width:
        eigenvalues, vectors = np.linalg.eigh(x @ x.T)
        x = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    return x, RIDGE * width


def _kernel_factor(x: Array, penalty: float) -> Array:
    """Z [N, min(N, D)] with Z Z' = G (G + 10)^-1 = X (X'X + 10 D)^-1 X', of what `_standardised` gives."""
    covariance = (x.T @ x).astype(np.float64)
    root = np.linalg.cholesky(covariance + penalty * np.eye(x.shape[1]))
    return np.asarray(x @ np.linalg.inv(root).T.astype(x.dtype))


def probe(features: Array, targets: Array, observed: Array, groups: Array, *, seed: int) -> Array:
    """Out-of-fold scores [N, A] of a linear probe: ridge regression of each attribute, without its intercept.

    w = (X'X + 10 D)^-1 X'(y - mean) on the observed rows of four fifths of the groups, X centred by them; the score of
    any other row, observed or not, is (x - mean) w. An attribute's folds deal its positive groups evenly, then its
    negative ones, then those without a label. Without intercepts the scores of all folds are on one scale, and their
    pooled ROC AUC is not biased by the prevalence that each fold's training rows happen to have.

    NaN where the training rows of a fold lack one class.

    Args:
        features: [N, D].
        targets: [N, A] 0 or 1, not read where not observed.
        observed: [N, A] bool.
        groups: [N] rows of one group share a fold.
        seed: of the folds.
    """
    return _probed(*_standardised(features), targets, observed, groups, seed)


def _probed(x: Array, penalty: float, targets: Array, observed: Array, groups: Array, seed: int) -> Array:
    """`probe` of what `_standardised` gives."""
    scores = np.full(targets.shape, np.nan)
    for a, fold in enumerate(_folds(targets, observed, groups, seed).T):
        positive = observed[:, a] & (targets[:, a] == 1)
        parts = [_moments(x[rows], positive[rows]) for rows in ((fold == k) & observed[:, a] for k in range(FOLDS))]
        for k in range(FOLDS):
            rows = fold == k
            count, hits, sums, products, along = (sum(m) for m in zip(*parts[:k], *parts[k + 1 :], strict=True))
            if 0 < hits < count:
                mean = sums / count
                centred = products - count * np.outer(mean, mean)
                centred[np.diag_indices_from(centred)] += penalty
                scores[rows, a] = (x[rows] - mean) @ np.linalg.solve(centred, along - hits * mean)
    return scores


def _moments(x: Array, positive: Array) -> tuple[int, int, Array, Array, Array]:
    """n, n1, the sums of x [d], of x x' [d, d], and of x over the positive rows [d], which add up over parts."""
    total, hits = x.sum(axis=0, dtype=np.float64), x[positive].sum(axis=0, dtype=np.float64)
    return len(x), int(positive.sum()), total, (x.T @ x).astype(np.float64), hits


def _folds(targets: Array, observed: Array, groups: Array, seed: int) -> Array:
    """[N, A] fold of each row: whole groups, sorted by label and dealt in turn, in random order within a label."""
    _, member = np.unique(groups, return_inverse=True)
    positive = by_group(observed & (targets == 1), member)
    known = by_group(observed, member)
    label = np.where(known == 0, 2, np.where(2 * positive > known, 0, 1))
    chance = np.random.default_rng(seed).random(label.shape)
    place = np.argsort(np.lexsort((chance, label), axis=0), axis=0)
    return np.asarray((place % FOLDS)[member])


def calibrated(scores: Array, targets: Array, observed: Array, groups: Array, *, seed: int) -> Array:
    """Out-of-fold probabilities [N, A] of out-of-fold scores [N, A], such as `probe`'s.

    Per attribute a logistic regression on the one score, fitted on the observed rows of the other folds, which fall as
    those of `probe` do under the same seed. NaN where the score is, or where the fitting rows lack one class.

    Args:
        scores: [N, A], NaN allowed.
        targets: [N, A] 0 or 1, not read where not observed.
        observed: [N, A] bool.
        groups: [N].
        seed: of the folds.
    """
    from sklearn.linear_model import LogisticRegression

    probabilities = np.full(scores.shape, np.nan)
    folds = _folds(targets, observed, groups, seed)
    for a, (column, fold) in enumerate(zip(scores.T, folds.T, strict=True)):
        usable = np.isfinite(column)
        known = usable & observed[:, a]
        if not known.any():
            continue
        unit = ((column - column[known].mean()) / (column[known].std() or 1.0))[:, None]
        for k in range(FOLDS):
            rows, fit = usable & (fold == k), known & (fold != k)
            labels = targets[fit, a] == 1
            if rows.any() and labels.any() and not labels.all():
                model = LogisticRegression().fit(unit[fit], labels)
                probabilities[rows, a] = model.predict_proba(unit[rows])[:, 1]
    return probabilities


def after(predictions: Predictions, *, permutations: int | None = None, seed: int) -> After:
    """Do the trained heads rank the test rows better than chance? One-sided, per attribute.

    Hold-out: the labels of the test groups are permuted against the fixed scores. The statistic, the AUC averaged over
    seeds, is a linear rank statistic: T, the sum over the positives of their mean mid-rank. All permutations are
    counted if there are no more than asked for, p = #{T* >= T} / #{T*}; else p = (1 + #) / (1 + P).

    K folds: permuting labels against out-of-fold scores would reject too often, because the labels of each fold have
    trained the heads of the others. Instead z = (mean fold AUC - 1/2) / (c SD0) against the normal distribution, with
    SD0^2 = sum_k (n_k + 1) / (12 n1_k n0_k) / K^2 for the K folds that hold both classes, and `Cells.variance_factor`
    for c^2. As a group is one row, SD0 counts groups.

    NaN where no fold has both classes among its test rows.

    Args:
        permutations: P, for a hold-out; by default 9,999, or 200 for every attribute if these are more.
        seed: of the permutations.
    """
    folds = [_test_rows(predictions, fold) for fold in range(predictions.folds)]
    attributes = range(len(predictions.attribute))
    permutations = permutations or max(9999, PERMUTATIONS_EACH * len(attributes))
    factor = Cells.of(predictions).variance_factor
    auc, p = np.full((2, len(attributes)), np.nan)
    counts = np.zeros((2, len(attributes)), np.int64)
    for a in attributes:
        ranked = [_ranks(scores[:, :, a], targets[:, a], observed[:, a]) for scores, targets, observed in folds]
        defined = [(ranks, positive) for ranks, positive in ranked if positive.any() and not positive.all()]
        if defined:
            own = np.array([_rank_auc(ranks, positive) for ranks, positive in defined])
            sizes = np.array([(positive.sum(), (~positive).sum()) for _, positive in defined])
            auc[a], counts[:, a] = own.mean(), sizes.sum(axis=0)
            if predictions.folds == 1:
                p[a] = _rank_p(*defined[0], permutations, np.random.default_rng([seed, a]))
            else:
                p[a] = _normal_p(auc[a] - 0.5, factor * _null_variance(sizes))
    return After(auc, p, *counts)


def _test_rows(predictions: Predictions, fold: int) -> tuple[Array, Array, Array]:
    """Logits [G, S, A], targets and observed [G, A] of the test groups of a fold."""
    rows = predictions.rows(fold, "test")
    logits = np.moveaxis(predictions.logits[:, rows].astype(np.float64), 0, 1)
    labels = predictions.targets[rows], predictions.observed[rows], predictions.group[rows]
    flat, targets, observed = _one_row_per_group(logits.reshape(len(logits), -1), *labels)
    return flat.reshape(-1, *logits.shape[1:]), targets, observed


def _ranks(scores: Array, targets: Array, observed: Array) -> tuple[Array, Array]:
    """Mid-ranks of the observed rows, averaged over the seeds of scores [G, S], and which rows are positive."""
    known = scores[observed].T
    ordered = np.sort(known, axis=1)
    ends = [
        [np.searchsorted(*pair, side=side) for pair in zip(ordered, known, strict=True)] for side in ("left", "right")
    ]
    return (np.mean(ends, axis=(0, 1)) + 0.5), targets[observed] == 1


def _rank_auc(ranks: Array, positive: Array) -> float:
    """The share of (positive, negative) pairs in the right order, ties counting half."""
    hits, misses = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def _rank_p(ranks: Array, positive: Array, permutations: int, rng: np.random.Generator) -> float:
    """One-sided p of the sum of the positives' ranks among all ways to choose as many rows, or P random ones."""
    hits = int(positive.sum())
    reached = ranks[positive].sum() - _ROUNDING
    ways = math.comb(len(ranks), hits)
    if ways <= permutations:
        chosen = np.array(list(itertools.combinations(range(len(ranks)), hits)))
        return float((ranks[chosen].sum(axis=1) >= reached).mean())
    sums = np.concatenate([block[:, :hits].sum(axis=1) for block in _permuted(ranks, permutations, rng)])
    return float((1 + (sums >= reached).sum()) / (1 + permutations))


def _null_variance(sizes: Array) -> float:
    """Variance of the mean of K fold AUCs without signal, for the (positives, negatives) [K, 2] of the folds."""
    hits, misses = sizes.T
    return float(((hits + misses + 1) / (12 * hits * misses)).sum() / len(sizes) ** 2)


def _normal_p(value: float, variance: float) -> float:
    """The probability that a normal variable of mean 0 exceeds the value."""
    return math.erfc(value / math.sqrt(2 * variance)) / 2


def _one_row_per_group(values: Array, targets: Array, observed: Array, groups: Array) -> tuple[Array, Array, Array]:
    """The groups as rows, in ascending order: mean values [G, C], majority labels [G, A], and where there is one."""
    _, first, member, size = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    means = values[first]
    shared = size[member] > 1  # a copy of the others would double the memory
    if shared.any():
        means[size > 1] = by_group(values[shared], member[shared]) / size[size > 1, None]
    positive, known = by_group(observed & (targets == 1), member), by_group(observed, member)
    return means, (2 * positive > known).astype(np.int8), 2 * positive != known


def _plain(values: Array) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
