"""`export`: a finished run becomes a folder that timm, transformers, onnxruntime and `predict` load."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aimonk_bench import __version__
from aimonk_bench.backbones import weights as sources
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.data.images import BACKGROUND
from aimonk_bench.errors import UserError, sentence
from aimonk_bench.evaluation import plain_words
from aimonk_bench.progress import Progress
from aimonk_bench.records.files import PARTIAL, contents, plain, write_json, write_text
from aimonk_bench.serving import bundle, card, choice, heads, refit
from aimonk_bench.serving.bundle import Bundle
from aimonk_bench.serving.choice import Choice, Which
from aimonk_bench.serving.heads import Kind, Tensors, Tuned

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

FIGURES = ("f1_tuned", "precision", "recall", "average_precision", "roc_auc")  # with intervals, in the bundle


@dataclass(frozen=True, eq=False)
class Exported:
    """A bundle that was written.

    Attributes:
        folder: of the bundle.
        run: id of the run.
        head: "seed", "mean" or "refit".
        seeds: that took part.
        better_than_guessing: whether any attribute is shown to gain over the all-positive baseline.
        bundle: what it says of itself.
    """

    folder: Path
    run: str
    head: Kind
    seeds: tuple[int, ...]
    better_than_guessing: bool
    bundle: Bundle = field(repr=False)  # it holds a hash of every image


def export(
    folder: Path,
    out: Path,
    *,
    run: str | None = None,
    which: Which | None = None,
    head: str | int | None = None,
    progress: Progress | None = None,
    allow_plugins: bool = False,
) -> Exported:
    """Write a bundle of a run.

    Args:
        folder: of a run or a suite.
        out: a new or empty folder.
        run: id of a run; None takes the only one, or of a suite the one that ``which`` says.
        which: of a suite, "selected", the run chosen on validation rows, or "simplest" (None too), the simplest that is
            not distinguishable from it.
        head: of a hold-out a seed, or "mean" (default): the mean of the seeds' heads, but of a fine-tuned run the first
            seed; "refit" (default with folds) trains again on all labelled rows, see `refit`.
        progress: called with (phase, done, total).
        allow_plugins: the plug-ins of the run may be executed.

    Raises:
        UserError: there is no such run, its plug-ins are needed and not allowed, or it has no such head; its weights
            are not here or not those of its predictions; ``out`` is not a new or empty folder.
        RunFailed: the network cannot be exported, or onnxruntime does not compute what torch does.
    """
    target = _target(out)
    chosen = choice.choose(folder, run, which)
    record = chosen.record
    kind, seeds = heads.kind_of(head, chosen.config, record.predictions.folds)
    chosen = choice.executable(chosen, kind, allow_plugins=allow_plugins)
    weights = pretrained(chosen)
    is_default = head is None
    if is_default and kind == "seed" and len(chosen.config.train.seeds) > 1:
        logger.info("head: seed %d, the first, because %s; head names another seed, or refit", seeds[0], heads.NO_MEAN)
    with _written(target, out) as partial:
        tensors, tuned, facts = _head(chosen, kind, seeds, weights, partial, progress)
        facts = {"kind": kind, "seeds": list(seeds), "default": is_default, **facts}
        logger.info("writing the model, and checking it on images")
        made = _write(partial, chosen, weights, tensors, tuned, facts)
        write_text(partial / bundle.CARD, card.text(made, chosen, folder.resolve().name, weights.entry))
    if not chosen.better_than_guessing:
        logger.warning("%s: %s", out, card.NO_GAIN)
    return Exported(out, record.status.id, kind, seeds, chosen.better_than_guessing, made)


def _target(out: Path) -> Path:
    """The folder that the bundle becomes, without links.

    Raises:
        UserError: it is not a new or empty folder.
    """
    fix = "name another output folder"
    target = Path(os.path.realpath(out))
    if out.is_symlink() and not target.exists():
        raise UserError(f"{out}: a link to {target}, which does not exist, expected a new or empty folder; fix: {fix}")
    if names := contents(out):
        raise UserError(f"{out}: holds {names[0]}, expected a new or empty folder; fix: {fix}")
    return target


@contextmanager
def _written(target: Path, out: Path) -> Iterator[Path]:
    """A folder to write to, whose files ``target`` has if all goes well; nothing is left of it otherwise.

    A folder that exists stays, because it may be the working directory or a mount, and its parent may be read-only.

    Args:
        out: how the user calls the target.

    Raises:
        UserError: it cannot be written to, or a disk is full.
    """
    exists = target.exists()
    partial = (target if exists else target.parent) / f"{PARTIAL}{os.getpid()}-bundle"
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {sentence(error)}") from error
    try:
        yield partial
        if exists:
            for file in sorted(partial.iterdir()):
                file.rename(target / file.name)
        else:
            partial.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{out}: cannot be made, because a disk is full: {sentence(error)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def pretrained(chosen: Choice) -> Weights:
    """The pretrained weights with which the run was made.

    Raises:
        UserError: they cannot be had here, or are others here.
    """
    weights = sources.resolve(chosen.config.backbone, plugins=chosen.config.plugins)
    expected = chosen.record.environment["weights"]["sha256"]
    if weights.sha256 != expected:
        raise UserError(
            f"{weights.place}: found weights of {weights.name} with the SHA-256 {weights.sha256}, expected {expected}, "
            "with which the run was made; fix: put that file there, or run again"
        )
    return weights


def _head(
    chosen: Choice,
    kind: Kind,
    seeds: tuple[int, ...],
    weights: Weights,
    scratch: Path,
    progress: Progress | None,
) -> tuple[Tensors, Tuned, dict[str, Any]]:
    """The weights of the head, what decides beside them, and facts about how they were made.

    Everything that can fail without training fails before it.
    """
    record, config = chosen.record, chosen.config
    if kind == "refit":
        from aimonk_bench.serving import onnx_graph

        tuned = heads.tuned_recipe(record, config)
        recipe = refit.prepare(chosen, seeds)
        onnx_graph.attempt(scratch / bundle.MODEL, weights, config.transform.size, tuned.thresholds)
        tensors, facts = refit.train(recipe, progress)
        return tensors, tuned, facts
    tensors = heads.saved(record, config, seeds)
    tuned = heads.tuned_seed(record, config, seeds[0]) if kind == "seed" else heads.tuned_mean(record, config)
    return tensors, tuned, {}


def _write(
    folder: Path, chosen: Choice, weights: Weights, tensors: Tensors, tuned: Tuned, head: dict[str, Any]
) -> Bundle:
    """Write everything but the card."""
    from aimonk_bench.serving import classifier as classifiers
    from aimonk_bench.serving import onnx_graph, resizing, training_data

    record, config, size = chosen.record, chosen.config, chosen.config.transform.size
    predictions = record.predictions
    names, tested = predictions.labels.attributes, predictions.part("test").image_id.tolist()
    classifier = classifiers.build(weights, size, tensors)
    pretrained_cfg, model_args = classifiers.facts(weights, size, len(names))
    skipped = [item["image_id"] for item in record.data["skipped"]]
    images = resizing.samples(config, weights, [tested, predictions.part("val").image_id.tolist()], skipped)
    model = folder / bundle.MODEL
    onnx_graph.write(model, classifier, weights, size, tuned.thresholds)
    pixels = [image.pixels for image in images[: max(onnx_graph.BATCHES)]]
    noise = onnx_graph.noise(max(onnx_graph.BATCHES) - len(pixels), size)
    onnx_graph.check(model, classifier, weights, np.stack([*pixels, *noise]), tuned.thresholds)
    run = onnx_graph.runner(model)
    logits = resizing.logits_of(run, images)
    if head["kind"] != "refit":
        by_name = {image.name: of_image for image, of_image in zip(images, logits, strict=True)}
        agreement = heads.compare(record, config, tensors, tuple(head["seeds"]), by_name)
        head = head | {"compared": asdict(agreement)}
    flips = resizing.flips(images, logits, run, pretrained_cfg, tuned.thresholds, {*tested})
    learned_from = training_data.training_images(chosen, head["kind"])
    made = Bundle(
        architecture=pretrained_cfg["architecture"],
        label_names=tuple(names),
        thresholds=dict(zip(names, tuned.thresholds.tolist(), strict=True)),
        num_features=tensors.weight.shape[1],
        pretrained_cfg=pretrained_cfg,
        model_args=model_args,
        aimonk_bench=plain(_block(chosen, weights, tuned, head) | {"timm_transform": asdict(flips)}),
        training_images=None if learned_from is None else learned_from.text,
    )
    onnx_graph.describe(model, made.metadata())
    save(folder, made, classifier.network.state_dict())
    return made


def save(folder: Path, made: Bundle, tensors: Mapping[str, Tensor]) -> None:
    """Write what timm and transformers load: ``config.json``, and the tensors of the network."""
    import safetensors.torch

    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    (folder / bundle.WEIGHTS).write_bytes(safetensors.torch.save(contiguous, metadata={"format": "pt"}))
    write_json(folder / bundle.CONFIG, made.config())


def _block(chosen: Choice, weights: Weights, tuned: Tuned, head: dict[str, Any]) -> dict[str, Any]:
    """Our own part of ``config.json``."""
    record, config, entry = chosen.record, chosen.config, weights.entry
    names, figures = record.predictions.labels.attributes, tuned.figures
    words = plain_words.words(chosen.statistics.signal)
    by_attribute = {
        name: {
            "n_observed": figures.constant["n_observed"][a],
            "n_positive": figures.constant["n_positive"][a],
            "word": words[a],
            **{
                figure: {
                    "value": figures.value(figure)[a],
                    "low": tuned.intervals[figure].low[a],
                    "high": tuned.intervals[figure].high[a],
                }
                for figure in FIGURES
            },
        }
        for a, name in enumerate(names)
    }
    return {
        "schema_version": bundle.SCHEMA_VERSION,
        "aimonk_bench_version": __version__,
        "run": record.status.id,
        "name": list(record.status.name),
        "choice": chosen.reason,
        "verdict": chosen.statistics.signal.outcome,
        "head": head,
        "thresholds_chosen": record.thresholds.policy,
        "threshold_notes": tuned.notes,
        "calibration": _calibration(names, tuned),
        "size": config.transform.size,
        "decode": config.transform.decode,
        "interpolation": entry.interpolation,
        "mean": list(entry.mean),
        "std": list(entry.std),
        "white": config.data.white,
        "background": BACKGROUND,
        "data_fingerprint": record.data["fingerprint"],
        "figures_of": "recipe" if head["kind"] == "refit" else "head",
        "folds": record.predictions.folds,
        "figures": by_attribute,
        "all_positive": dict(zip(names, figures.constant["floor_f1"], strict=True)),
        "backbone": weights.name,
        "backbone_weights": weights.sha256,
        "licence": entry.licence,
        "non_commercial": entry.non_commercial,
        "own_terms": entry.own_terms,
    }


def _calibration(names: tuple[str, ...], tuned: Tuned) -> dict[str, Any] | None:
    """The calibrator: probability = sigmoid(slope x logit + intercept); null for an attribute without one."""
    if tuned.slope is None or tuned.intercept is None:
        return None
    return {
        "method": "platt",
        "slope": dict(zip(names, tuned.slope, strict=True)),
        "intercept": dict(zip(names, tuned.intercept, strict=True)),
    }
