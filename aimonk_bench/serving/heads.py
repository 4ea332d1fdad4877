"""The head of a bundle: that of one seed, the mean of the seeds, or one that is trained again on all rows.

Thresholds are on the scale of probabilities as the run has them, the sigmoid of the raw logits. A calibrator changes
neither: its slope and intercept go along, and sigmoid(slope x logit + intercept) is the calibrated probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from aimonk_bench.config.fields import Config
from aimonk_bench.errors import UserError, count
from aimonk_bench.evaluation import calibration, intervals, metrics, thresholds
from aimonk_bench.evaluation.metrics import Figures
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.evaluation.proportions import Intervals
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.records import environment, weights
from aimonk_bench.records.run import PREDICTIONS, RunRecord
from aimonk_bench.reporting.words import listed, threshold_notes

Kind = Literal["seed", "mean", "refit"]

NO_MEAN = "networks that were fine-tuned have no mean"
COMPUTE = ("torch", "timm", "onnxruntime", "opencv-python", "opencv-python-headless")  # what decides bits of a logit
SINGLE, COARSE, HALF = 1e-3, 2e-2, 1e-1  # see `rounding`
FURTHEST = 16.0  # on the logit scale; a threshold of 0 or 1 has no logit, and counts as this far away in a mean


@dataclass(frozen=True, eq=False)
class Tensors:
    """The weights of a classifier that differ from the pretrained ones.

    Attributes:
        weight: [A, D] float32.
        bias: [A] float32.
        layers: name in timm's network -> tensor, of the trainable layers; empty where all are frozen.
        place: where they come from, for messages.
    """

    weight: np.ndarray
    bias: np.ndarray
    layers: Mapping[str, np.ndarray]
    place: str


@dataclass(frozen=True)
class Agreement:
    """How well saved weights give the logits of the run.

    Attributes:
        images: on which they were compared.
        largest: difference of a logit; NaN where no image was compared.
    """

    images: int
    largest: float


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
    """What ``head`` means for a run, and the seeds that take part.

    A run with folds has no head that all its figures are about, so only `refit` makes one. A hold-out can be trained
    again too: on validation and test rows as well. Networks cannot be averaged: of a fine-tuned run a hold-out has its
    seeds alone, by default the first, and `refit` trains the first seed.

    Raises:
        UserError: the run has no such head.
    """
    seeds, trained = tuple(config.train.seeds), config.backbone.freeze != "all"
    if head is None:
        head = "refit" if folds > 1 else seeds[0] if trained else "mean"
    if head == "refit":
        return "refit", seeds[:1] if trained else seeds
    if folds > 1:
        raise UserError(
            f"head: found {head}, expected refit, because the run has {folds} folds, and each of its heads was "
            "trained on a part of the images; fix: refit, or a run with `split: {scheme: holdout}`"
        )
    if head == "mean":
        if trained:
            raise UserError(
                f"head: found mean, but {NO_MEAN}; fix: one of the seeds {', '.join(map(str, seeds))}, or refit"
            )
        return "mean", seeds
    if str(head) not in map(str, seeds):
        choices = ", ".join(map(str, seeds))
        raise UserError(f"head: found {head}, expected refit, mean or one of the seeds of the run, {choices}")
    return "seed", (int(head),)


def saved(record: RunRecord, config: Config, seeds: tuple[int, ...]) -> Tensors:
    """The saved weights of a hold-out: those of a seed, or the mean of several heads, which is one linear head again.

    Raises:
        UserError: the files of weights are missing or damaged, or hold something else than the heads of this run.
    """
    of_run, _, attributes = record.predictions.logits.shape
    file = record.folder / weights.HEADS
    fix = "run the same command as before again: it trains this run again and keeps its weights"
    if config.backbone.freeze != "all":
        file = record.folder / weights.NETWORKS / weights.network_file(0, seeds[0])
        fix = "`train.keep_weights: true` keeps it, or refit trains one"
    try:
        if config.backbone.freeze == "all":
            heads = weights.read_heads(record.folder)
        else:
            network = weights.read_network(file)
    except UserError as error:
        raise UserError([*error.problems[:-1], f"{error.problems[-1]}; fix: {fix}"]) from error
    if config.backbone.freeze == "all":
        _check(record, file, vars(heads), (of_run, record.predictions.folds, attributes))
        return average(heads, [config.train.seeds.index(seed) for seed in seeds], str(file))
    _check(record, file, {**network.layers, "weight": network.weight, "bias": network.bias}, (attributes,))
    return Tensors(network.weight, network.bias, network.layers, str(file))


def _check(record: RunRecord, file: Path, tensors: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
    """Refuse a file whose head is not of this shape, but for its features, or that holds numbers that are not finite.

    Args:
        tensors: ``weight`` and ``bias`` of the head, and others.
    """
    problems = []
    for name, expected in (("weight", (*shape, *tensors["weight"].shape[-1:])), ("bias", shape)):
        if tensors[name].shape != expected:
            mismatch = f"found a {name} {[*tensors[name].shape]}, expected {[*expected]}"
            problems.append(f"{file}: {mismatch} as in {record.folder / PREDICTIONS}; {_restore(file)}")
    endless = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if endless:
        problems.append(f"{file}: found numbers that are not finite in {listed(endless)}; {_restore(file)}")
    if problems:
        raise UserError(problems)


def _restore(file: str | Path) -> str:
    return f"fix: put back {file}, or delete it and run the same command as before again, which trains the run again"


def compare(
    record: RunRecord, config: Config, head: Tensors, seeds: tuple[int, ...], logits: Mapping[str, Array]
) -> Agreement:
    """Compare the logits of saved weights with those that the run predicted, on some of its images.

    Args:
        head: the saved weights; of several seeds their mean.
        logits: name of an image -> [A], by the exported network. Images that the run has no logits for do not count.

    Raises:
        UserError: they differ by more than rounding.
    """
    predictions, file = record.predictions, record.folder / PREDICTIONS
    row_of = {name: row for row, name in enumerate(predictions.image_id.tolist())}
    names = [name for name in logits if name in row_of]
    if not names:
        return Agreement(0, math.nan)
    places = [config.train.seeds.index(seed) for seed in seeds]
    expected = predictions.logits[np.ix_(places, [row_of[name] for name in names])].mean(axis=0, dtype=np.float64)
    difference = np.abs(np.stack([logits[name] for name in names]) - expected).max(axis=1)
    accepted = rounding(record, config) * max(1.0, float(np.abs(expected).max()))
    if not (difference <= accepted).all():
        worst = int(difference.argmax())
        raise UserError(
            f"{head.place}: found weights that do not give the logits of {file}: on "
            f"{(difference > accepted).sum()} of {count(len(names), 'image')} they differ by more than {accepted:.1g}, "
            f"on {names[worst]} by {difference[worst]:.2g}, so one of the two files is of another run, or the images "
            f"have changed; {_restore(head.place)}"
        )
    return Agreement(len(names), float(difference.max()))


def rounding(record: RunRecord, config: Config) -> float:
    """The largest accepted difference of the logits of a run and of the same weights here, relative to the largest.

    Measured with tf_efficientnet_lite0: 1e-5 on the same machine, 4e-3 for products of 11 bits (float16, TF32), 3e-2
    for those of 8 bits (bfloat16); heads of two seeds on the same features differ by 6e-2, networks by more.
    """
    device, versions = record.environment.get("device"), record.environment.get("packages", {})
    precision = config.train.precision
    if config.backbone.freeze != "all" and (device != "cpu" if precision == "auto" else precision != "float32"):
        return HALF
    equal = all(versions.get(package) == environment.version(package) for package in COMPUTE)
    return SINGLE if equal and device == "cpu" and config.backbone.dtype == "float32" else COARSE


def average(heads: weights.HeadWeights, places: list[int], place: str) -> Tensors:
    """The mean of the heads of some seeds, in the first fold."""
    weight, bias = (
        tensor[places, 0].mean(axis=0, dtype=np.float64).astype(np.float32) for tensor in (heads.weight, heads.bias)
    )
    return Tensors(weight, bias, {}, place)


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
