"""Executes planned runs: features, folds, heads, predictions, scores, files."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aimonk_bench.backbones.features import Bank, FeatureStore
from aimonk_bench.config import loader
from aimonk_bench.data import splits, transforms
from aimonk_bench.data.labels import SHOWN, Labels
from aimonk_bench.data.pictures import Skipped
from aimonk_bench.data.splits import Fold
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.evaluation import metrics, thresholds
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.records import index, run, suite
from aimonk_bench.records.environment import environment
from aimonk_bench.records.files import write_text
from aimonk_bench.records.run import Status
from aimonk_bench.reporting import figures, summary, table
from aimonk_bench.suite.plan import Dataset, Plan, PlannedRun
from aimonk_bench.training import trainer
from aimonk_bench.training.trainer import Trained

logger = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Material:
    """The pictures that can be used, in label-file order, and their features.

    Attributes:
        labels: of the N used rows.
        groups: [N] pictures of one group never part.
        skipped: listed pictures that are left out.
        fingerprint: of the data.
        bank: features; index [V, N].
        probabilities: [V] of the views in training.
    """

    labels: Labels
    groups: np.ndarray
    skipped: list[Skipped]
    fingerprint: str
    bank: Bank
    probabilities: np.ndarray


class Materials:
    """The material of each encoder and set of views, encoded when a run first asks for it and kept for the next."""

    def __init__(self, dataset: Dataset, progress: Progress) -> None:
        self._dataset = dataset
        self._progress = progress
        self._store = FeatureStore()
        self._ready: dict[tuple[str, tuple[str, ...]], Material] = {}

    def of(self, planned: PlannedRun) -> Material:
        """The material of a run.

        Raises:
            UserError: pictures that cannot be decoded, where they are not to be skipped.
        """
        if planned.reason is not None:
            raise RunFailed(planned.reason)
        views = transforms.views(planned.config.transform)
        key = (planned.encoder.digest, views.keys)
        if key not in self._ready:
            self._ready[key] = self._encode(planned, views)
        return dataclasses.replace(self._ready[key], probabilities=views.probabilities)

    def _encode(self, planned: PlannedRun, views: transforms.Views) -> Material:
        listed, data = self._dataset.labels, planned.config.data
        rows = [row for row, picture in enumerate(self._dataset.pictures) if picture is not None]
        found = [picture for picture in self._dataset.pictures if picture is not None]
        bank = self._store.bank(found, views, planned.config.transform, planned.encoder, self._progress)
        bad = [Skipped(found[n].image_id, found[n].line, reason) for n, reason in bank.bad]
        if bad and data.on_bad_image == "error":
            where = [f"{data.labels}:{item.line}: picture {item.image_id}" for item in bad]
            raise UserError(
                [f"{place} cannot be decoded: {item.reason}" for place, item in zip(where, bad, strict=True)],
                limit=SHOWN,
            )
        kept = np.delete(np.arange(len(found)), [n for n, _ in bank.bad])
        labels = listed.subset(np.array(rows)[kept])
        skipped = sorted([*self._dataset.skipped, *bad], key=lambda item: item.line)
        for item in skipped:
            logger.warning("%s:%d: skipped %s: %s", data.labels, item.line, item.image_id, item.reason)
        groups = splits.components([found[n].sha256 for n in kept], labels.groups)
        return Material(
            labels,
            groups,
            skipped,
            self._dataset.fingerprint,
            dataclasses.replace(bank, index=bank.index[:, kept], bad=[]),
            views.probabilities,
        )


def execute_run(plan: Plan, folder: Path, progress: Progress) -> None:
    """Execute the only run of ``plan`` in ``folder``; nothing is done if it is already there.

    Raises:
        UserError: the folder holds something else, or a picture cannot be decoded.
        RunFailed: with the reason, which also stands in ``status.json``.
    """
    (planned,) = plan.runs
    _tell_notes(plan.dataset)
    if run.claim(folder, planned.id, loader.dump(planned.config)):
        logger.info("already done: %s in %s", planned.id, folder)
        run.restore(run.read(folder))
        return
    execute(planned, Materials(plan.dataset, progress), folder, progress)


def execute_suite(plan: Plan, folder: Path, progress: Progress) -> None:
    """Execute the runs of ``plan`` that are not finished yet, and write ``suite.json`` and the summaries.

    A run that fails is recorded with its reason and the next one begins.

    Raises:
        UserError: the folder holds something else, or a picture cannot be decoded.
    """
    suite.claim(folder)
    _tell_notes(plan.dataset)
    names = {planned.id: planned.name for planned in plan.runs}
    record = suite.SuiteRecord(plan.name, plan.dataset.fingerprint, plan.baseline.id, tuple(names), names)
    suite.write(folder, record)
    materials = Materials(plan.dataset, progress)
    done = 0
    for number, planned in enumerate(plan.runs, start=1):
        place = folder / suite.RUNS / planned.id
        if run.claim(place, planned.id, loader.dump(planned.config)):
            run.restore(run.read(place))
            done += 1
            continue
        logger.info("run %d of %d: %s", number, len(plan.runs), planned.name)
        try:
            execute(planned, materials, place, progress)
        except RunFailed as error:
            logger.error("%s failed: %s", planned.name, error)
    if done:
        logger.info("%d of %d runs were already done", done, len(plan.runs))
    write_summaries(folder)


def write_summaries(folder: Path) -> None:
    """Write ``summary.csv`` and ``summary.md`` from the runs of a suite."""
    found = index.collect(folder)
    write_text(folder / "summary.csv", summary.to_csv(summary.rows(found)))
    write_text(folder / "summary.md", table.markdown(found))


def execute(planned: PlannedRun, materials: Materials, folder: Path, progress: Progress) -> None:
    """Execute one run and write its files, the status last.

    Raises:
        RunFailed: after the failure is recorded.
        UserError: a picture cannot be decoded; nothing is recorded.
    """
    clock = Clock()
    text = loader.dump(planned.config)
    try:
        with clock("encode"):
            material = materials.of(planned)
        run.begin(folder, text)
        _train_and_score(planned, material, folder, clock, progress)
    except UserError:
        raise
    except Exception as error:
        expected = isinstance(error, RunFailed)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        if not expected:
            logger.exception("an error that aimonk_bench did not expect, in %s", planned.name)
        run.begin(folder, text)
        run.write_status(folder, Status(planned.id, "failed", clock.seconds, reason, planned.name, planned.columns))
        raise RunFailed(reason) from error
    run.write_status(folder, Status(planned.id, "done", clock.seconds, None, planned.name, planned.columns))


def _train_and_score(planned: PlannedRun, material: Material, folder: Path, clock: Clock, progress: Progress) -> None:
    """From features to every file of the run but its status."""
    config, labels = planned.config, material.labels
    folds = splits.split(config.split, labels.targets, labels.observed, material.groups)
    with clock("train"):
        trained = trainer.train(
            material.bank.rows,
            material.bank.index,
            material.probabilities,
            labels.targets,
            labels.observed,
            folds,
            config.train,
            config.loss,
            config.missing,
            config.sampler,
            attributes=labels.attributes,
            progress=progress,
        )
    with clock("score"):
        predictions = assemble(trained, material, folds, config.train.seeds)
        tuned = thresholds.tune(predictions, config.threshold)
        scored = metrics.figures(predictions, tuned)
    for note in (*trained.notes, *tuned.notes):
        logger.info("%s: %s", planned.name, note)
    run.write_environment(folder, _environment(planned, material.bank.engine, config.train.device))
    run.write_data(folder, _data(material, folds, trained))
    run.write_history(folder, trained.history)
    figures.loss_curve(trained.history, config.plot.title, folder / run.LOSS_CURVE)
    run.write_predictions(folder, predictions)
    run.write_thresholds(folder, tuned)
    run.write_metrics(folder, scored)


def assemble(trained: Trained, material: Material, folds: Sequence[Fold], seeds: Sequence[int]) -> Predictions:
    """The logits of all folds as one table: one row per fold, split and picture, in label-file order within a part."""
    labels = material.labels
    parts = [(fold, part, getattr(folds[fold], part)) for fold in range(len(folds)) for part in ("val", "test")]
    rows = np.concatenate([own for _, _, own in parts])
    sizes = [len(own) for _, _, own in parts]
    observed = labels.observed
    positive = observed & (labels.targets == 1)
    return Predictions(
        logits=np.concatenate([trained.logits[fold][part] for fold, part, _ in parts], axis=1),
        targets=np.where(observed, labels.targets, 0).astype(np.int8)[rows],
        observed=observed[rows],
        split=np.repeat([part for _, part, _ in parts], sizes),
        fold=np.repeat(np.array([fold for fold, _, _ in parts], np.int16), sizes),
        group=material.groups[rows].astype(np.int32),
        image_id=np.array(labels.ids)[rows],
        attribute=np.array(labels.attributes),
        seed=np.array(seeds, np.int64),
        train_positive=np.stack([positive[fold.train].sum(0) for fold in folds]).astype(np.int32),
        train_observed=np.stack([observed[fold.train].sum(0) for fold in folds]).astype(np.int32),
    )


def _data(material: Material, folds: Sequence[Fold], trained: Trained) -> dict[str, Any]:
    """The content of ``data.json``."""
    labels = material.labels
    positive, known = (labels.observed & (labels.targets == 1)).sum(0), labels.observed.sum(0)
    rate = trained.effective_positive_rate.mean((0, 1))
    return {
        "n_listed": len(labels.ids) + len(material.skipped),
        "n_used": len(labels.ids),
        "skipped": [dataclasses.asdict(item) for item in material.skipped],
        "fingerprint": material.fingerprint,
        "folds": [{part: len(getattr(fold, part)) for part in ("train", "val", "test")} for fold in folds],
        "n_groups": len(np.unique(material.groups)),
        "n_positive": dict(zip(labels.attributes, positive, strict=True)),
        "n_observed": dict(zip(labels.attributes, known, strict=True)),
        "prevalence": dict(zip(labels.attributes, positive / np.where(known, known, np.nan), strict=True)),
        "sampled_prevalence": dict(zip(labels.attributes, rate, strict=True)),
        "notes": [*labels.notes, *trained.notes],
    }


def _environment(planned: PlannedRun, engine: str, device: str) -> dict[str, Any]:
    """The content of ``environment.json``."""
    weights = planned.encoder.weights
    facts = {
        "name": weights.name,
        "requested": weights.requested,
        "source": weights.source,
        "file": weights.file and str(weights.file),
        "sha256": weights.sha256,
        "licence": weights.licence,
        "non_commercial": weights.non_commercial,
    }
    return environment(facts, engine, str(trainer.device_of(device)))


def _tell_notes(dataset: Dataset) -> None:
    for note in dataset.labels.notes:
        logger.info("%s: %s", dataset.labels.file, note)


class Clock:
    """Seconds per phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time a phase, also if it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = round(time.perf_counter() - start, 3)
