"""The head of a bundle: that of one seed, the mean of the seeds, or one that is trained again on all rows.

Thresholds are on the scale of probabilities as the run has them, the sigmoid of the raw logits. A calibrator changes
neither: its slope and intercept go along, and sigmoid(slope x logit + intercept) is the calibrated probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from aimonk_bench.config.fields import Config
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import calibration, intervals, metrics, thresholds
from aimonk_bench.evaluation.metrics import Figures
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.evaluation.proportions import Intervals
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.records import weights
from aimonk_bench.records.run import RunRecord
from aimonk_bench.reporting.words import threshold_notes

Kind = Literal["seed", "mean", "refit"]

FURTHEST = 16.0  # on the logit scale; a threshold of 0 or 1 has no logit, and counts as this far away in a mean


@dataclass(frozen=True, eq=False)
class Tensors:
    """The weights of a classifier that differ from the pretrained ones.

    Attributes:
        weight: [A, D] float32.
        bias: [A] float32.
        layers: name in timm's network -> tensor, of the trainable layers; empty where all are frozen.
    """

    weight: np.ndarray
    bias: np.ndarray
    layers: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Tuned:
    """What decides beside the weights, and how well that went on test rows.

    Attributes:
        thresholds: [A] float64, probabilities.
        notes: where the threshold policy could not follow its own rule, a line each.
        figures: on the test rows.
        intervals: of the figures.
        slope, intercept: [A] of the calibrator, NaN for an attribute without one; None without a calibrator.
    """

    thresholds: Array
    notes: list[str]
    figures: Figures
    intervals: Mapping[str, Intervals]
    slope: Array | None = None
    intercept: Array | None = None


def kind_of(head: str | int | None, config: Config, folds: int) -> tuple[Kind, tuple[int, ...]]:
    """What ``--head`` means for a run, and the seeds that take part.

    A run with folds has no head that all its figures are about, so only `refit` makes one. A hold-out can be trained
    again too: on validation and test rows as well. Networks cannot be averaged: of a fine-tuned run a hold-out has its
    seeds alone, and `refit` trains the first seed.

    Raises:
        UserError: the run has no such head.
    """
    seeds, trained = tuple(config.train.seeds), config.backbone.freeze != "all"
    if head is None:
        head = "refit" if folds > 1 else "mean"
        if trained and folds == 1:
            if len(seeds) > 1:
                raise UserError(
                    "--head: found none, expected a seed or refit, because networks that were fine-tuned have no mean; "
                    f"fix: --head {seeds[0]} (the seeds are {_listed(seeds)}), or --head refit"
                )
            head = seeds[0]
    if head == "refit":
        return "refit", seeds[:1] if trained else seeds
    if folds > 1:
        raise UserError(
            f"--head: found {head}, expected refit, because the run has {folds} folds, and each of its heads was "
            "trained on a part of the images; fix: --head refit, or a run with `split: {scheme: holdout}`"
        )
    if head == "mean":
        if trained:
            raise UserError(
                "--head: found mean, but networks that were fine-tuned have no mean; "
                f"fix: one of the seeds {_listed(seeds)}, or refit"
            )
        return "mean", seeds
    if str(head) not in map(str, seeds):
        raise UserError(f"--head: found {head}, expected refit, mean or one of the seeds of the run, {_listed(seeds)}")
    return "seed", (int(head),)


def _listed(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))


def saved(record: RunRecord, config: Config, seeds: tuple[int, ...]) -> Tensors:
    """The saved weights of a hold-out: those of a seed, or the mean of several heads, which is one linear head again.

    Raises:
        UserError: the files of weights are missing or damaged.
    """
    fix = "run the same command as before again: it trains this run again and keeps its weights"
    try:
        if config.backbone.freeze != "all":
            network = weights.read_network(record.folder / weights.NETWORKS / weights.network_file(0, seeds[0]))
            return Tensors(network.weight, network.bias, network.layers)
        heads = weights.read_heads(record.folder)
    except UserError as error:
        if config.backbone.freeze != "all":
            fix = "`--set train.keep_weights=true` keeps it, or --head refit trains one"
        raise UserError([*error.problems[:-1], f"{error.problems[-1]}; fix: {fix}"]) from error
    return average(heads, [config.train.seeds.index(seed) for seed in seeds])


def average(heads: weights.HeadWeights, places: list[int]) -> Tensors:
    """The mean of the heads of some seeds, in the first fold."""
    weight, bias = (
        tensor[places, 0].mean(axis=0, dtype=np.float64).astype(np.float32) for tensor in (heads.weight, heads.bias)
    )
    return Tensors(weight, bias, {})


def tuned_seed(record: RunRecord, config: Config, seed: int) -> Tuned:
    """The thresholds of a seed of a hold-out, and its own figures."""
    place = record.predictions.seed.tolist().index(seed)
    one = replace(record.predictions, logits=record.predictions.logits[[place]], seed=np.array([seed], np.int64))
    of_run = record.thresholds
    notes = [replace(note, seeds=[seed]) for note in of_run.notes if seed in note.seeds]
    chosen = Thresholds(of_run.policy, of_run.attribute, [seed], of_run.values[[place]], notes)
    return _measured(one, chosen, config)


def tuned_mean(record: RunRecord, config: Config) -> Tuned:
    """Thresholds tuned on the validation rows for the mean of the seeds' logits, and the figures of this mean."""
    mean = record.predictions.logits.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
    one = replace(record.predictions, logits=mean, seed=record.predictions.seed[:1])
    return _measured(one, thresholds.tune(one, config.threshold), config)


def _measured(predictions: Predictions, tuned: Thresholds, config: Config) -> Tuned:
    """One head on its hold-out."""
    slope = intercept = None
    if config.calibration == "platt":
        slope, intercept = (values[0, 0] for values in calibration.scaling(predictions)[:2])
    figures, bounds = metrics.figures(predictions, tuned), intervals.intervals(predictions, tuned)
    return Tuned(tuned.values[0, 0], threshold_notes(tuned), figures, bounds, slope, intercept)


def tuned_recipe(record: RunRecord, config: Config) -> Tuned:
    """The mean over folds and seeds of the thresholds on the logit scale, and of the calibrators; the run's figures."""
    with np.errstate(divide="ignore"):
        logits = np.log(record.thresholds.values) - np.log1p(-record.thresholds.values)
    mean = sigmoid(np.clip(logits, -FURTHEST, FURTHEST).mean(axis=(0, 1)))
    slope = intercept = None
    if config.calibration == "platt":
        *parameters, fitted = calibration.scaling(record.predictions)
        where = np.broadcast_to(fitted, parameters[0].shape)
        slope, intercept = (_mean_where(values, where) for values in parameters)
    scores, notes = record.scores, threshold_notes(record.thresholds)
    return Tuned(mean, notes, scores.figures, scores.intervals, slope, intercept)


def _mean_where(values: Array, where: Array) -> Array:
    """The mean over seeds and folds of values [S, F, A] where they are fitted; NaN where none is."""
    number = where.sum(axis=(0, 1))
    total = np.where(where, values, 0).sum(axis=(0, 1))
    return np.asarray(np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0))
