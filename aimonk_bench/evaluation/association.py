"""The association of images and labels: a test on the features before training, one on the predictions after it.

In both, a group of duplicates is one row: the mean of its features or logits, and per attribute the majority of its
observed labels; an attribute on which its labels tie is dropped for that group. Duplicates permuted apart would look
like evidence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.decisions import variance_factor
from aimonk_bench.evaluation.metrics import macro, ranking, ratio
from aimonk_bench.evaluation.numbers import Array, Numbers
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.probe import probed, standardised
from aimonk_bench.evaluation.resampling import LARGE, by_group, majority
from aimonk_bench.evaluation.subsets import squares_and_sums, sums

REPEATED = 0.01  # p up to which a test is made again with more permutations
PERMUTATIONS_EACH = 200  # so many times the number of attributes: the smallest p, adjusted by Holm, is then 0.005
MOST_PERMUTATIONS = 20_000  # of the score test; of over 500 attributes 40 for each, with which that p is 0.025
_BLOCK_BYTES = 64 << 20  # permuted labels held at once
_ROUNDING = 1e-6  # Q this close relative to the largest, and sums of ranks this close, are equal


@dataclass(frozen=True, eq=False)
class BeforeTraining:
    """The association test before training, [A] each; NaN is undefined.

    Attributes:
        p: of the score test, not adjusted for the number of attributes.
        auc: ROC AUC of the probe's out-of-fold scores, which is printed beside p and decides nothing.
        n_positive, n_negative: groups with a positive, and with a negative label.
        notes: why there is no p; "" where there is one.
    """

    p: Numbers
    auc: Numbers
    n_positive: Numbers
    n_negative: Numbers
    notes: list[str]


@dataclass(frozen=True, eq=False)
class AfterTraining:
    """The association test after training, [A] each; NaN is undefined.

    Attributes:
        auc: ROC AUC, mean over seeds and over the folds that define it; a group counts once.
        p: one-sided, not adjusted for the number of attributes. From any test that is valid for these predictions: one
            that retrains on permuted labels may take the place of the default.
        n_positive, n_negative: test groups with a positive, and with a negative label in those folds.
    """

    auc: Array
    p: Array
    n_positive: Array
    n_negative: Array


def before_training(
    features: Array, labels: Labels, groups: Array, *, permutations: int | None = None, seed: int
) -> BeforeTraining:
    """Is any attribute associated with the features, before anything is trained?

    The p-value is that of `score_test`, the AUC that of `probe.probe`.

    Args:
        features: [N, D] of the unaugmented images.
        labels: [N, A].
        groups: [N] duplicates share a number.
        permutations: of `score_test`.
        seed: of the permutations and of the probe's folds.
    """
    features, labels = one_row_per_group(features, labels, groups)
    positive, negative = labels.counts()
    notes = ["" if n1 and n0 else _one_class(n1, n0) for n1, n0 in zip(positive, negative, strict=True)]
    with threadpool_limits(1, user_api="blas"):  # several wait for each other in eigh: ten times as long on a busy core
        x, penalty = standardised(features)
        scores = probed(x, penalty, labels, np.arange(len(features)), seed)
        factor = _kernel_factor(x, penalty)
        del x  # as large as the features
        p = _score_tested(factor, labels, permutations, seed)
    auc = ranking(np.nan_to_num(scores), labels)["roc_auc"]
    auc[(labels.observed & np.isnan(scores)).any(axis=0)] = np.nan
    return BeforeTraining(p, auc, positive, negative, notes)


def _one_class(positive: int, negative: int) -> str:
    absent = "negative" if positive else "positive" if negative else "label"
    return f"no observed {absent}: nothing to test"


def score_test(features: Array, labels: Labels, *, permutations: int | None = None, seed: int) -> Array:
    """p [A] of the global score test of a ridge model, by permutation; NaN without both classes.

    Q = (y - mean)' K (y - mean) with K = G (G + 10)^-1 without its diagonal and G = X X' / D for standardised features
    X: large where rows with similar features have similar labels. p = (1 + #{Q* >= Q}) / (1 + P) over P permutations of
    an attribute's observed labels among its observed rows. There are no folds, so nothing depends on how they fall.

    It sees what a linear head can use, above all along the directions in which the features vary most. It cannot see a
    dependence that is not linear in the features, and has little power where few positives meet a signal spread over
    many directions: no rejection does not mean that there is nothing to learn. With very few rows of one class few
    permutations differ, and p cannot be small.

    Beyond `resampling.LARGE` rows, Q of permuted labels is drawn by `subsets.squares_and_sums`.

    Memory beside the features: three float32 arrays of their size, and 200 MB; beyond `resampling.LARGE` rows four.

    Args:
        features: [N, D] one row per group of duplicates.
        labels: [N, A].
        permutations: P; by default 999, and where they leave p <= 0.01, again 200 for every attribute if these are
            more (beyond `MOST_PERMUTATIONS` fewer), so that p can be small enough for Holm.
        seed: of the permutations.

    Source: Goeman, van de Geer, van Houwelingen, Testing against a high dimensional alternative, JRSS B 68, 2006.
    """
    return _score_tested(_kernel_factor(*standardised(features)), labels, permutations, seed)


def _score_tested(factor: Array, labels: Labels, permutations: int | None, seed: int) -> Array:
    """`score_test` by a factor [N, d] of the kernel."""
    values = np.full(labels.shape[1], np.nan)
    first = permutations or 999
    most = max(MOST_PERMUTATIONS, PERMUTATIONS_EACH // 5 * len(values))
    more = permutations or max(first, min(PERMUTATIONS_EACH * len(values), most))
    for a, rows in enumerate(labels.observed.T):
        positive = labels.positive[rows, a]
        if positive.any() and not positive.all():
            rng = np.random.default_rng([seed, a])
            observed_factor = factor if rows.all() else factor[rows]
            values[a] = _permutation_p(observed_factor, positive, first, rng)
            if values[a] <= REPEATED and first < more:
                values[a] = _permutation_p(observed_factor, positive, more, rng)
    return values


def _permutation_p(factor: Array, positive: Array, permutations: int, rng: np.random.Generator) -> float:
    """Q of labels [n] against Q of their permutations, for the rows [n, d] of a factor of the kernel."""
    diagonal = np.einsum("nd,nd->n", factor, factor)
    if len(positive) > LARGE:
        statistic = _statistics_by_sums(np.column_stack([factor, diagonal]), positive, permutations, rng)
    else:
        centred = (positive - positive.mean()).astype(factor.dtype)
        blocks = itertools.chain([centred[None]], _permuted(centred, permutations, rng))
        statistic = np.concatenate([np.square(y @ factor).sum(axis=1) - np.square(y) @ diagonal for y in blocks])
    reached = statistic[1:] >= statistic[0] - _ROUNDING * np.abs(statistic).max()
    return float((1 + reached.sum()) / (1 + permutations))


def _statistics_by_sums(values: Array, positive: Array, permutations: int, rng: np.random.Generator) -> Array:
    """Q of labels [n] and of permutations of them, [1 + P], by sums over the positive rows.

    With the share m of positives and the factor Z, Q = |sum of Z over the positives - m sum of Z|^2 - m^2 sum of d -
    (1 - 2 m) sum of d over the positives, where d is the diagonal of the kernel.

    Args:
        values: [n, d + 1] the factor and, last, the diagonal.
    """
    size, share, total = int(positive.sum()), positive.mean(), values.sum(axis=0, dtype=np.float64)
    there = values[positive].sum(axis=0, dtype=np.float64)
    squares, diagonals = squares_and_sums(values, size, permutations, rng)
    squares = np.append(np.square(there - share * total)[:-1].sum(), squares)
    return np.asarray(squares - share**2 * total[-1] - (1 - 2 * share) * np.append(there[-1], diagonals))


def _permuted(values: Array, permutations: int, rng: np.random.Generator) -> Iterator[Array]:
    """Blocks [b, n] of permutations of the values [n], as many in all as asked for."""
    block = max(1, _BLOCK_BYTES // (2 * values.nbytes))
    for start in range(0, permutations, block):
        yield rng.permuted(np.broadcast_to(values, (min(block, permutations - start), len(values))), axis=1)


def _kernel_factor(x: Array, penalty: float) -> Array:
    """Z [N, min(N, D)] with Z Z' = G (G + 10)^-1 = X (X'X + 10 D)^-1 X', of what `probe.standardised` gives."""
    covariance = (x.T @ x).astype(np.float64)
    root = np.linalg.cholesky(covariance + penalty * np.eye(x.shape[1]))
    return np.asarray(x @ np.linalg.inv(root).T.astype(x.dtype))


def after_training(predictions: Predictions, *, permutations: int | None = None, seed: int) -> AfterTraining:
    """Do the trained heads rank the test rows better than chance? One-sided, per attribute.

    Hold-out: the labels of the test groups are permuted against the fixed scores. The statistic, the AUC averaged over
    seeds, is a linear rank statistic: T, the sum over the positives of their mean mid-rank. All permutations are
    counted if there are no more than asked for, p = #{T* >= T} / #{T*}; else p = (1 + #) / (1 + P). Beyond
    `resampling.LARGE` groups, T of permuted labels is drawn by `subsets.sums`.

    K folds: permuting labels against out-of-fold scores would reject too often, because the labels of each fold have
    trained the heads of the others. Instead z = (mean fold AUC - 1/2) / (c SD0) against the normal distribution, with
    SD0^2 = sum_k (n_k + 1) / (12 n1_k n0_k) / K^2 for the K folds that hold both classes, and
    `decisions.variance_factor` for c^2. As a group is one row, SD0 counts groups.

    NaN where no fold has both classes among its test rows.

    Args:
        permutations: P, for a hold-out; by default 9,999, or 200 for every attribute if these are more.
        seed: of the permutations.
    """
    from scipy import special

    folds = [_test_groups(predictions, fold) for fold in range(predictions.folds)]
    auc = np.stack([ranking(logits, labels)["roc_auc"].mean(axis=0) for logits, labels in folds])  # [F, A]
    defined = np.isfinite(auc)
    counts = np.stack([labels.counts() for _, labels in folds])  # [F, 2, A] positives and negatives
    mean = macro(auc.T, defined.T)
    if predictions.folds > 1:
        variances = ratio(counts.sum(axis=1) + 1, 12 * counts.prod(axis=1))  # of the AUC of a fold, without signal
        variance = macro(variances.T, defined.T) / defined.sum(axis=0)
        p = special.ndtr((0.5 - mean) / np.sqrt(variance_factor(predictions.folds) * variance))
    else:
        permutations = permutations or max(9999, PERMUTATIONS_EACH * len(mean))
        p = np.full(len(mean), np.nan)
        ((logits, labels),) = folds
        for a in np.flatnonzero(defined[0]).tolist():
            rows = labels.observed[:, a]
            p[a] = _rank_p(logits[:, rows, a], labels.positive[rows, a], permutations, np.random.default_rng([seed, a]))
    return AfterTraining(mean, p, *np.where(defined[:, None], counts, 0).sum(axis=0))


def _test_groups(predictions: Predictions, fold: int) -> tuple[Array, Labels]:
    """Logits [S, G, A] and labels [G, A] of the test groups of a fold."""
    rows = predictions.part("test", fold)
    logits = np.moveaxis(rows.logits.astype(np.float64), 0, 1)
    flat, labels = one_row_per_group(logits.reshape(len(logits), -1), rows.labels, rows.group)
    return np.moveaxis(flat.reshape(-1, *logits.shape[1:]), 1, 0), labels


def _rank_p(scores: Array, positive: Array, permutations: int, rng: np.random.Generator) -> float:
    """One-sided p of the sum of the positives' ranks among all ways to choose as many rows, or P random ones.

    Args:
        scores: [S, G]; a rank is a mid-rank, averaged over the seeds.
        positive: [G] bool.
    """
    from scipy import stats

    ranks = stats.rankdata(scores, axis=1).mean(axis=0)
    n1 = int(positive.sum())
    reached = ranks[positive].sum() - _ROUNDING
    if len(ranks) <= LARGE and math.comb(len(ranks), n1) <= permutations:
        rows = np.array(list(itertools.combinations(range(len(ranks)), n1)))
        return float((ranks[rows].sum(axis=1) >= reached).mean())
    if len(ranks) > LARGE:
        drawn = sums(ranks, n1, permutations, rng)
    else:
        drawn = np.concatenate([block[:, :n1].sum(axis=1) for block in _permuted(ranks, permutations, rng)])
    return float((1 + (drawn >= reached).sum()) / (1 + permutations))


def one_row_per_group(values: Array, labels: Labels, groups: Array) -> tuple[Array, Labels]:
    """The groups as rows, in ascending order: mean values [G, C] and majority labels [G, A], missing where they tie."""
    _, first, member, size = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    means = values[first]
    shared = size[member] > 1  # a copy of the others would double the memory
    if shared.any():
        means[size > 1] = by_group(values[shared], member[shared]) / size[size > 1, None]
    return means, majority(labels, member)
