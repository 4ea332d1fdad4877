"""The driver of runs and suites: it submits tasks, and it alone writes the folders of runs."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import filelock

from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.data import transforms
from aimonk_bench.data.splits import Fold
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.records import run, suite
from aimonk_bench.records.files import atomic, write_bytes, write_csv, write_json, write_text
from aimonk_bench.records.suite import Collection
from aimonk_bench.reporting import figures, summary, table
from aimonk_bench.reporting.words import threshold_notes
from aimonk_bench.suite import artefacts, executors, missingness, tasks
from aimonk_bench.suite.clock import Clock
from aimonk_bench.suite.dataset import Dataset, EncodedDataset, SplitLabels
from aimonk_bench.suite.executors import Stage, TaskQueue
from aimonk_bench.suite.plan import Plan, PlannedRun
from aimonk_bench.suite.tasks import BadImages, MappedRows, Progress, ScoringResult, Training, TrainingResult
from aimonk_bench.training.recipe import Recipe, TrainingData

logger = logging.getLogger(__name__)

MISSINGNESS = "missingness.png"
SECONDS = "seconds.json"


def execute_run(plan: Plan, folder: Path, clock: Clock, progress: Progress) -> None:
    """Execute the only run of ``plan`` in ``folder``; nothing is done if it is already there.

    Raises:
        UserError: the folder holds something else, an image cannot be decoded, or the split is impossible; nothing
            is written.
        RunFailed: with the reason, which also stands in ``status.json``.
    """
    (planned,) = plan.runs
    _log_notes(plan.dataset)
    with alone(folder):
        if run.claim(folder, planned.id, planned.text):
            logger.info("already done: %s in %s", planned.id, folder)
            restore(planned, folder, clock)
            return
        datasets = EncodedDatasets(plan.dataset, clock, progress)
        datasets.prepare([planned], fatal=UserError)
        with executors.opened(plan.baseline.config.run.executor, 1, clock) as queue:
            driver = Driver(datasets, queue, clock, progress)
            driver.execute([planned], {planned.id: folder})
    for error in driver.failures.values():
        raise error if isinstance(error, UserError) else RunFailed(reason(error)) from error


def execute_suite(plan: Plan, folder: Path, clock: Clock, progress: Progress) -> None:
    """Execute the runs of ``plan`` that are not finished yet, and write ``suite.json`` and the summaries.

    A run that fails is recorded with its reason and the next one begins. After an interruption the runs that are
    trained are scored; the others have no status and begin again with the next call.

    Raises:
        UserError: the folder holds something else, or an image cannot be decoded; nothing is written.
    """
    _log_notes(plan.dataset)
    with alone(folder):
        suite.claim(folder)
        folders = {planned.id: folder / suite.RUNS / planned.id for planned in plan.runs}
        with clock("files"):
            pending = [p for p in plan.runs if not run.claim(folders[p.id], p.id, p.text)]
        datasets = EncodedDatasets(plan.dataset, clock, progress)
        frozen = sum(planned.config.backbone.freeze == "all" for planned in pending)
        with executors.opened(plan.baseline.config.run.executor, frozen, clock) as queue:
            datasets.prepare(pending, fatal=BadImages)
            record = suite.SuiteRecord(
                name=plan.name,
                fingerprint=plan.dataset.fingerprint,
                baseline=plan.baseline.id,
                ids=tuple(planned.id for planned in plan.runs),
                names=tuple(planned.parts for planned in plan.runs),
            )
            suite.write(folder, record)
            for planned in plan.runs:
                if planned not in pending:
                    restore(planned, folders[planned.id], clock)
            driver = Driver(datasets, queue, clock, progress)
            try:
                driver.execute(pending, folders)
            finally:
                with clock("statistics"):
                    collection = suite.collect(folder)
                    write_summaries(collection)
                with clock("plots"):
                    _draw_missingness(plan, collection)
    if len(pending) < len(plan.runs):
        logger.info("%d of %d runs were already done", len(plan.runs) - len(pending), len(plan.runs))


class EncodedDatasets:
    """The data set under each encoder and set of views: encoded for the first run that needs it, then shared."""

    def __init__(self, dataset: Dataset, clock: Clock, progress: Progress) -> None:
        self._dataset, self._clock, self._progress = dataset, clock, progress
        self._encoded: dict[tuple[object, ...], EncodedDataset | UserError | RunFailed] = {}
        self._seconds: dict[tuple[object, ...], float] = {}

    def prepare(self, runs: Sequence[PlannedRun], fatal: type[UserError]) -> None:
        """Encode what the runs need and compute their splits, before anything is written.

        Raises:
            UserError: of the type ``fatal``; another failure is that of its run, and recorded when its turn comes.
        """
        for planned in runs:
            try:
                with self._clock("plan"):
                    self.of(planned).folds(planned.config.split)
            except fatal:
                raise
            except (RunFailed, UserError):
                continue

    def of(self, planned: PlannedRun) -> EncodedDataset:
        """The encoded data set of a run.

        Raises:
            RunFailed: its weights or its engine cannot be had.
            UserError: as `tasks.encode` says.
        """
        if planned.reason is not None:
            raise RunFailed(planned.reason)
        key = self._key(planned)
        if key not in self._encoded:
            with self._clock("encode"):
                begun = time.perf_counter()
                try:
                    self._encoded[key] = tasks.encode(self._dataset, planned.config, planned.encoder, self._progress)
                except (UserError, RunFailed) as error:  # not tried again for the next run
                    self._encoded[key] = error
                self._seconds[key] = time.perf_counter() - begun
        outcome = self._encoded[key]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def seconds(self, planned: PlannedRun) -> float:
        """What encoding took for a run: 0 from the second run on that shares it."""
        return self._seconds.pop(self._key(planned), 0.0)

    @staticmethod
    def _key(planned: PlannedRun) -> tuple[object, ...]:
        # `run_digest`, because networks that share stored pixels differ in their pooled features
        return planned.encoder.run_digest, planned.encoder.engine, tasks.stored_views(planned.config).keys


@dataclass(eq=False)
class _Job:
    """A run that is being executed.

    Attributes:
        seconds: of the phases that are done.
        stage: of the task that was submitted last, and when that was.
    """

    planned: PlannedRun
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    stage: tuple[Stage, float] | None = None


class Driver:
    """Takes runs from features to files: submits their tasks and writes what these return, the status last.

    Attributes:
        failures: id of a run -> why it failed; its status says so too.
    """

    def __init__(self, datasets: EncodedDatasets, queue: TaskQueue, clock: Clock, progress: Progress) -> None:
        self._datasets, self._queue, self._clock, self._progress = datasets, queue, clock, progress
        self.failures: dict[str, Exception] = {}

    def execute(self, runs: Sequence[PlannedRun], folders: Mapping[str, Path]) -> None:
        """Execute runs, each in the folder of its id. A run that fails is recorded and the others go on."""
        try:
            for number, planned in enumerate(runs, start=1):
                if len(runs) > 1:
                    logger.info("run %d of %d: %s", number, len(runs), planned.name)
                self._begin(_Job(planned, folders[planned.id]))
                self._queue.collect()
        except BaseException:
            self._queue.drop_training()
            raise
        finally:
            self._queue.finish()

    def _begin(self, job: _Job) -> None:
        with self._recorded(job):
            planned, config = job.planned, job.planned.config
            dataset = self._datasets.of(planned)
            job.seconds["encode"] = self._datasets.seconds(planned)
            with self._clock("plan"):
                folds = dataset.folds(config.split)
                labels = dataset.split_labels(config.hide, folds)
            with self._clock("statistics"):
                _ = dataset.association  # before training
            with self._clock("files"):
                run.begin(job.folder, planned.text)
            training = Training(
                data=TrainingData(labels.train, labels.val, folds, transforms.views(config.transform).probabilities),
                recipe=Recipe.of(config),
                rows=MappedRows.of(dataset.stored.rows),
                index=dataset.stored.index,
                encoder=planned.encoder,
                transform=config.transform,
                key=planned.id,
                scratch=job.folder / run.CHECKPOINTS,
            )
            progress = self._progress if self._queue.trains_here else None  # which no worker could call
            task = partial(tasks.train, training, progress)
            self._submit("train", job, task, partial(self._score, job, dataset, labels, folds))

    def _score(
        self,
        job: _Job,
        dataset: EncodedDataset,
        labels: SplitLabels,
        folds: list[Fold],
        training: Future[TrainingResult],
    ) -> None:
        with self._recorded(job):
            result, config = training.result(), job.planned.config
            job.seconds["train"] = result.seconds["train"]
            for note in result.trained.notes:
                logger.info("%s", note)
            predictions = artefacts.predictions(result.trained, dataset, labels, folds, config.train.seeds)
            with self._clock("files"):
                environment = artefacts.environment_json(job.planned, dataset.stored.engine)
                write_json(job.folder / run.ENVIRONMENT, environment)
                data = artefacts.data_json(job.planned, dataset, labels, folds, result.trained)
                write_json(job.folder / run.DATA, data)
                write_csv(job.folder / run.HISTORY, result.trained.history)
                with atomic(job.folder / run.PREDICTIONS) as partial_file:
                    predictions.save(partial_file)
            task = partial(
                tasks.score,
                predictions,
                config.threshold,
                config.calibration,
                result.trained.history,
                config.plot.title,
            )
            self._submit("score", job, task, partial(self._end, job))

    def _end(self, job: _Job, scoring: Future[ScoringResult]) -> None:
        with self._recorded(job):
            result = scoring.result()
            job.seconds["score"] = result.seconds["score"]
            for note in threshold_notes(result.thresholds):
                logger.info("%s", note)
            with self._clock("files"):
                write_json(job.folder / run.THRESHOLDS, result.thresholds.to_json())
                write_json(job.folder / run.METRICS, result.scores.to_json())
                write_csv(job.folder / run.RELIABILITY, result.reliability)
                write_bytes(job.folder / run.LOSS_CURVE, result.loss_curve)
                run.end(job.folder, artefacts.status(job.planned, "done", job.seconds))

    def _submit(self, stage: Stage, job: _Job, task: executors.Task, then: executors.Then) -> None:
        job.stage = stage, time.perf_counter()
        self._queue.submit(stage, job.planned.name, task, then)

    @contextlib.contextmanager
    def _recorded(self, job: _Job) -> Iterator[None]:
        """Record an exception as the failure of the run."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, (RunFailed, UserError)):
                logger.error("an error that aimonk_bench did not expect, in %s", job.planned.name, exc_info=error)
            if job.stage is not None and job.stage[0] not in job.seconds:
                job.seconds[job.stage[0]] = time.perf_counter() - job.stage[1]
            self.failures[job.planned.id] = error
            logger.error("%s failed: %s", job.planned.name, reason(error).partition("\n")[0])
            try:
                run.begin(job.folder, job.planned.text)
                run.end(job.folder, artefacts.status(job.planned, "failed", job.seconds, reason(error)))
            except OSError as unwritable:
                logger.error("%s: the failure cannot be recorded: %s", job.folder, unwritable)


def reason(error: Exception) -> str:
    """Why a run failed, as its status says."""
    if isinstance(error, UserError):
        return "; ".join(error.problems)
    return str(error) if isinstance(error, RunFailed) else f"{type(error).__name__}: {error}"


def restore(planned: PlannedRun, folder: Path, clock: Clock) -> None:
    """Write again what was deleted of a finished run and derives from its predictions and its history."""
    with clock("files"):
        run.read(folder).restore()
    if (folder / run.LOSS_CURVE).exists():
        return
    with clock("plots"):
        curve = figures.loss_curve(run.read_history(folder), planned.config.plot.title)
        write_bytes(folder / run.LOSS_CURVE, curve)


def write_summaries(collection: Collection) -> None:
    """Write ``statistics.json``, ``summary.csv`` and ``summary.md`` from the runs of a suite."""
    summarized = summary.summarize(collection)
    if summarized.statistics:
        suite.write_statistics(collection.folder, summarized.statistics)
    write_text(collection.folder / "summary.csv", summary.to_csv(summary.frame([summarized])))
    write_text(collection.folder / "summary.md", table.markdown(summarized))


def _draw_missingness(plan: Plan, collection: Collection) -> None:
    """Draw ``missingness.png`` if the suite hides labels in several ways; that of an earlier suite does not stay."""
    points = missingness.scores(plan, collection)
    path = collection.folder / MISSINGNESS
    if points:
        truth = plan.baseline.config.data.truth
        scored_on = "the test labels" if truth is None else truth.name
        write_bytes(path, figures.missingness(points, f"{plan.name}: scored on {scored_on}"))
    else:
        path.unlink(missing_ok=True)


def write_seconds(folder: Path, clock: Clock) -> None:
    """Log where the seconds of a command went and write ``seconds.json``, which stays as it is if nothing was done."""
    items = clock.itemised()
    if "encode" in clock.seconds:
        write_json(folder / SECONDS, items)
    parts = [f"{phase} {seconds:.1f}" for phase, seconds in items.items() if phase != "total"]
    logger.info("%.1f s: %s", items["total"], ", ".join(parts))


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a lock on an output folder; it lies beside the feature store, so that the folder holds results only.

    Raises:
        UserError: another process is writing there.
    """
    locks = FeatureStore().root / "locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{locks}: cannot be written ({error}); AIMONK_BENCH_CACHE names another place") from error
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    lock = filelock.FileLock(locks / name)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise UserError(f"{folder}: another process is writing there") from error
    try:
        yield
    finally:
        lock.release()


def _log_notes(dataset: Dataset) -> None:
    for note in dataset.listed.notes:
        logger.info("%s: %s", dataset.listed.path, note)
