"""The driver of runs and suites: it submits tasks, and it alone writes the folders of runs."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aimonk_bench.backbones.features import FeatureMatrix
from aimonk_bench.data import transforms
from aimonk_bench.errors import RunFailed, UserError, count, release, sentence, write_traceback
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.progress import Progress
from aimonk_bench.records import run, suite, weights
from aimonk_bench.records.files import atomic, write_bytes, write_json
from aimonk_bench.reporting.findings import Finding
from aimonk_bench.reporting.words import number, threshold_notes
from aimonk_bench.suite import artefacts, executors, restoring, room, sharing, summaries, tasks, training_speed
from aimonk_bench.suite.clock import Clock
from aimonk_bench.suite.dataset import EncodedDataset, SplitLabels
from aimonk_bench.suite.encodings import Encoding, encode
from aimonk_bench.suite.executors import Run, Task, TaskQueue, Work
from aimonk_bench.suite.plan import Plan, PlannedRun, describe_networks
from aimonk_bench.suite.sharing import RunClaims, Turn
from aimonk_bench.suite.tasks import TrainingResult
from aimonk_bench.suite.worker import Withdrawn
from aimonk_bench.training.outcome import Trained
from aimonk_bench.training.recipe import Recipe, TrainingData, absent_values

logger = logging.getLogger(__name__)

SECONDS = "seconds.json"


def execute_run(plan: Plan, folder: Path, clock: Clock, progress: Progress) -> None:
    """Execute the only run of ``plan`` in ``folder``; nothing is done if it is already there.

    Raises:
        UserError: the folder holds something else, an image cannot be decoded, or the split is impossible; nothing
            is written.
        RunFailed: with the reason, which also stands in ``status.json``.
    """
    planned = plan.baseline
    with sharing.alone(folder, planned.id) as claims:
        if run.claim(folder, planned.id, planned.text, planned.weights):
            logger.info("already done: %s in %s", planned.id, folder)
            restoring.restore(planned, folder, clock)
            return
        room.check(folder, [planned], plan.dataset.listed)
        _announce_weights([planned], {planned.id: folder})
        with executors.opened([planned.config], planned.config.run, clock) as queue:
            encodings = encode(plan.dataset, [planned], clock, progress, queue.elsewhere)
            outcome = encodings[planned.id].outcome
            if isinstance(outcome, UserError):
                raise outcome
            if isinstance(outcome, EncodedDataset):
                outcome.folds(planned.config.split)  # refuses an impossible split before anything is written
            driver = Driver(queue, clock, progress, claims)
            driver.execute([planned], {planned.id: folder}, encodings)
    for error in driver.failures.values():
        raise error if isinstance(error, UserError) else RunFailed(sentence(error)) from error


@dataclass(frozen=True)
class Ended:
    """What the files of a suite do not say after a call.

    Attributes:
        failed_again: id of a finished run that failed when it was trained again -> why: its status is that of before.
        unwritten: why the files beside the runs, such as ``summary.csv``, could not be written; None if they were.
    """

    failed_again: Mapping[str, str]
    unwritten: str | None


def execute_suite(plan: Plan, folder: Path, clock: Clock, progress: Progress) -> Ended:
    """Execute the runs of ``plan`` that are not finished yet, and write ``suite.json`` and the summaries.

    A run that fails is recorded with its reason and the next one begins. After an interruption the runs that are
    trained are scored; the others have no status and begin again with the next call. Other processes that execute the
    same suite in the same folder share the runs; each returns when all runs have ended.

    Raises:
        UserError: the folder holds something else or results of another config, or an image cannot be decoded; nothing
            is written.
    """
    record = suite.SuiteRecord(
        name=plan.name,
        fingerprint=plan.dataset.fingerprint,
        baseline=plan.baseline.id,
        ids=tuple(planned.id for planned in plan.runs),
        names=tuple(planned.parts for planned in plan.runs),
        # the further lines of a reason, places that were looked into, are this machine's: `doctor` prints them
        skipped={planned.id: str(planned.reason).partition("\n")[0] for planned in plan.runs if planned.skip},
    )
    folders = {planned.id: folder / suite.RUNS / planned.id for planned in plan.executed}
    with sharing.joined(folder, record), sharing.RunClaims(folders) as claims:
        with clock("files"):
            pending = [p for p in plan.executed if not run.claim(folders[p.id], p.id, p.text, p.weights)]
        room.check(folder, pending, plan.dataset.listed)
        _announce_weights(pending, folders)
        configs = [planned.config for planned in pending]
        with executors.opened(configs, plan.baseline.config.run, clock) as queue:
            encodings = encode(plan.dataset, pending, clock, progress, queue.elsewhere)
            with sharing.writing(folder):
                suite.write(folder, record)
            for planned in plan.executed:
                if planned not in pending:
                    restoring.restore_claimed(planned, folders[planned.id], claims, clock)
            try:
                places = {planned.id: place for place, planned in enumerate(plan.executed, start=1)}
                driver = Driver(queue, clock, progress, claims, places)
                driver.execute(pending, folders, encodings)
            finally:
                unwritten = _summarize(plan, folder, clock)
    if done := len(plan.executed) - len(pending):
        logger.info("%d of %d runs were already done", done, len(plan.executed))
    again = {run_id: sentence(error) for run_id, error in driver.failures.items() if suite.is_finished(folders[run_id])}
    return Ended(again, unwritten)


def _summarize(plan: Plan, folder: Path, clock: Clock) -> str | None:
    """Write the files of a suite beside its runs; why that cannot be done, which is logged: the runs stay."""
    try:
        with sharing.writing(folder), clock("statistics"):
            collection = summaries.write(suite.collect(folder))
        with clock("plots"):
            summaries.draw_missingness(plan, collection)
    except (OSError, UserError) as error:  # the latter where somebody has removed the folder
        logger.error("%s: the summary cannot be written: %s", folder, reason := sentence(error))
        return reason
    return None


def _announce_weights(pending: Sequence[PlannedRun], folders: Mapping[str, Path]) -> None:
    """Say which finished runs are trained again for their weights, and how large the networks will be."""
    for name, why in (
        (weights.HEADS, "which every run on a frozen backbone keeps"),
        (f"{weights.NETWORKS}/", "which train.keep_weights asks for"),
    ):
        lacking = [
            planned.name
            for planned in pending
            if suite.is_finished(folder := folders[planned.id])
            and any(file.startswith(name) and not (folder / file).exists() for file in planned.weights)
        ]
        if lacking:
            names = f"{', '.join(lacking[: suite.SHOWN])}{', ...' if len(lacking) > suite.SHOWN else ''}"
            logger.warning(
                "%s without %s, %s: trained again (%s)", count(len(lacking), "finished run"), name, why, names
            )
    for line in describe_networks([planned.network_bytes for planned in pending]):
        logger.info("%s", line)


class Driver:
    """Takes runs from features to files: it writes what their tasks return, the status last.

    Attributes:
        failures: id of a run -> why it failed; its status says so too.

    Args:
        claims: on the runs, which other processes may claim, too.
        places: id of a run of a suite -> its number; a run on its own is not announced.
    """

    def __init__(
        self,
        queue: TaskQueue,
        clock: Clock,
        progress: Progress,
        claims: RunClaims,
        places: Mapping[str, int] | None = None,
    ) -> None:
        self._queue, self._clock, self._progress, self._claims, self._places = queue, clock, progress, claims, places
        self._validation: list[tuple[str, float]] = []  # name and macro validation F1 of the runs done here
        self.failures: dict[str, Exception] = {}
        self._said: set[Finding] = set()

    def _say(self, path: Path, findings: Sequence[Finding]) -> None:
        """Warn of what is doubtful about a split of this label file, once for all runs."""
        for finding in findings:
            if finding not in self._said:
                logger.warning("%s: %s %s", path, finding.text, finding.advice)
        self._said.update(findings)

    def execute(
        self, runs: Sequence[PlannedRun], folders: Mapping[str, Path], encodings: Mapping[str, Encoding]
    ) -> None:
        """Execute runs, each in the folder of its id, until all have ended, here or in another process.

        A run that fails is recorded and the others go on.
        """
        remaining = {planned.id: planned for planned in runs}

        def show() -> None:
            if self._places is not None and runs:
                self._progress("suite", len(runs) - len(remaining), len(runs))

        def counted(planned: PlannedRun) -> Run:
            has_ended = yield from self._run(planned, folders[planned.id], encodings[planned.id])
            self._claims.release(planned.id)
            if has_ended:
                del remaining[planned.id]
                show()

        def in_turn() -> Iterator[Run]:
            for planned in [*remaining.values()]:
                turn = self._turn(planned)
                if turn == "here":
                    yield counted(planned)
                elif turn == "ended":
                    del remaining[planned.id]
                    show()

        show()
        while remaining:
            self._queue.execute(in_turn())
            if remaining:
                sharing.pause()

    def _turn(self, planned: PlannedRun) -> Turn:
        """Claim a run, and say who executes it."""
        place = "" if self._places is None else f"run {self._places[planned.id]} of {len(self._places)}: "
        try:
            turn = self._claims.turn(planned.id, f"{place}{planned.name}")
        except OSError as error:  # without a claim nothing is written, not even its status
            self.failures[planned.id] = error
            logger.error("%s failed, because it cannot be claimed: %s", planned.name, sentence(error))
            return "ended"
        if turn == "here" and self._places is not None:
            logger.info("%s%s%s", place, planned.name, self._best_so_far())
        return turn

    def _best_so_far(self) -> str:
        """The best validation F1 of the runs that this call did, and the run that has it, in parentheses."""
        if not self._validation:
            return ""
        name, best = max(self._validation, key=lambda of_run: np.nan_to_num(of_run[1], nan=-1.0))
        return f" (best validation F1 of this call so far: {number(best)}, {name})"

    def _run(self, planned: PlannedRun, folder: Path, encoding: Encoding) -> Work[bool]:
        """One run, from its features to its status. A finished run keeps its files until it is done again.

        Returns:
            Whether it ended; not if another process took its claim over, which has the folder to itself then.
        """
        seconds: dict[str, float] = {}
        config, dataset = planned.config, encoding.outcome
        try:
            if isinstance(dataset, Exception):
                raise dataset
            seconds["encode"] = encoding.seconds
            with self._clock("plan"):
                labels = dataset.split_labels(config.split, config.hide)
                findings = dataset.split_findings(config.split)
            self._say(dataset.listed.path, findings)
            for warning in absent_values(labels.train, labels.folds):
                logger.warning("%s: %s", dataset.listed.path, warning)
            with self._clock("statistics"):
                _ = dataset.association  # before training
            place = folder / run.AGAIN if suite.is_finished(folder) else folder
            self._claims.check(planned.id)
            with self._clock("files"):
                run.begin(place, planned.text)
            if (problem := room.lack(folder, [planned], dataset.listed)) is not None:  # of other files, meanwhile
                raise RunFailed(problem)
            views = transforms.views(config.transform)
            data = TrainingData(labels.train, labels.val, labels.folds, views.probabilities)
            resumed = (folder / run.CHECKPOINTS).exists()
            training = yield from self._train(planned, data, dataset.stored, folder / run.CHECKPOINTS, seconds)
            if self._queue.is_measured(config.backbone.freeze):
                training_speed.note(planned, data, None if resumed else training.seconds["train"])
            self._claims.check(planned.id)
            predictions = self._write_trained(planned, place, dataset, labels, training.trained)
            score = partial(tasks.score, config, predictions, training.trained.history)
            del training  # its logits are in the predictions now
            (scoring,) = yield from _timed([Task("score", planned.name, score)], seconds)
            self._validation.append((planned.name, scoring.validation))
            for note in threshold_notes(scoring.thresholds):
                logger.info("note: %s", note)
            self._claims.check(planned.id)
            with self._clock("files"):
                for name, content in scoring.files.items():
                    write_bytes(place / name, content)
                run.end(place, artefacts.status(planned, seconds, features=dataset.pooled.rows.shape[1]))
                if place != folder:
                    run.replace(folder, place)
        except Exception as error:
            if (lost := self._claims.lost(planned.id)) is not None:
                logger.warning("%s: %s", planned.name, lost)
                return False
            self._fail(planned, folder, seconds, error)
        return True

    def _train(
        self, planned: PlannedRun, data: TrainingData, stored: FeatureMatrix, scratch: Path, seconds: dict[str, float]
    ) -> Work[TrainingResult]:
        """Train a run in one task; where workers train layers, in one for each seed in each fold."""
        name, here = planned.name, self._queue.trains_here
        inputs = planned, data, stored, scratch, self._progress if here else None, self._queue.cores
        if here or planned.config.backbone.freeze == "all":
            results = yield from _timed([Task("train", name, partial(tasks.train, *inputs))], seconds)
            training: TrainingResult = results[0]
            return training
        parts = yield from _timed(
            [
                Task("train", f"{name}, fold {fold}, seed {seed}", partial(tasks.train_jobs, *inputs, [(seed, fold)]))
                for seed, fold in Recipe.of(planned.config).jobs(len(data.folds))
            ],
            seconds,
        )
        return tasks.assembled(planned, data, scratch, parts)

    def _write_trained(
        self, planned: PlannedRun, folder: Path, dataset: EncodedDataset, labels: SplitLabels, trained: Trained
    ) -> Predictions:
        """Write the files that do not depend on scoring."""
        for note in trained.notes:
            logger.info("note: %s", note)
        predictions = artefacts.predictions(trained, dataset, labels, planned.config.train.seeds)
        with self._clock("files"):
            write_json(folder / run.ENVIRONMENT, artefacts.environment_json(planned, dataset))
            write_json(folder / run.DATA, artefacts.data_json(planned, dataset, labels, trained))
            with atomic(folder / run.PREDICTIONS) as partial_file:
                predictions.save(partial_file)
            if trained.heads is not None:
                weights.write_heads(folder, trained.heads)
            for file in trained.networks:
                (folder / weights.NETWORKS).mkdir(exist_ok=True)
                os.replace(file, folder / weights.NETWORKS / file.name)
            seeds, _, attributes = predictions.logits.shape
            weights.check(folder, planned.weights, (seeds, predictions.folds, attributes))
        return predictions

    def _fail(self, planned: PlannedRun, folder: Path, seconds: Mapping[str, float], error: Exception) -> None:
        """Record why a run failed, and the traceback of what has no message for the user."""
        # runs that need the same features fail by the same exception
        is_new = all(error is not other for other in self.failures.values())
        self.failures[planned.id] = error
        if self._places is not None:  # who executes a run on its own gets the exception
            logger.error("%s failed: %s", planned.name, sentence(error).partition("\n")[0])
        try:
            if stays := suite.is_finished(folder):
                shutil.rmtree(folder / run.AGAIN, ignore_errors=True)
                logger.error("%s: not done again, so the results of before stay", folder)
            else:
                run.begin(folder, planned.text)
            if not isinstance(error, (RunFailed, UserError)):
                place = write_traceback(error, folder / run.TRACEBACK)
                if is_new:
                    logger.error("%s", place)
            if not stays:
                run.end(folder, artefacts.status(planned, seconds, reason=sentence(error)))
        except OSError as unwritable:
            logger.error("%s: the failure cannot be recorded: %s", folder, sentence(unwritable))
        release(error)


def _timed(parts: Sequence[Task], seconds: dict[str, float]) -> Work[list[Any]]:
    """The results of tasks; the seconds of their stage are the sum of those they counted, or until one failed."""
    begun, stage = time.perf_counter(), parts[0].stage
    futures = yield parts
    seconds[stage] = time.perf_counter() - begun
    failures = [error for future in futures if (error := future.exception()) is not None]
    if failures:
        raise next((error for error in failures if not isinstance(error, Withdrawn)), failures[0])
    results = [future.result() for future in futures]
    seconds[stage] = sum(result.seconds[stage] for result in results)
    return results


def write_seconds(folder: Path, clock: Clock) -> None:
    """Log where results are and where seconds went; write ``seconds.json``, which stays where nothing was done."""
    items = clock.itemised()
    if "encode" in clock.seconds:
        try:
            write_json(folder / SECONDS, items)
        except OSError as error:
            logger.error("%s: cannot be written: %s", folder / SECONDS, sentence(error))
    parts = [f"{phase} {seconds:.1f}" for phase, seconds in items.items() if phase != "total"]
    logger.info("results in %s", folder)
    logger.info("%.1f s: %s", items["total"], ", ".join(parts))
