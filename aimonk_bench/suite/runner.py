"""Executes planned runs: features, folds, heads, predictions, scores, files."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np

from aimonk_bench.backbones.encoder import pick_device
from aimonk_bench.backbones.features import Bank, FeatureStore
from aimonk_bench.config.fields import Config, HideConfig, Holdout, KFold
from aimonk_bench.data import splits, transforms, truth
from aimonk_bench.data.hiding import hide
from aimonk_bench.data.image_files import SHOWN, Skipped
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.data.transforms import UNAUGMENTED
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.evaluation import metrics, signal, thresholds
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.records import derived, index, run, suite
from aimonk_bench.records.environment import environment
from aimonk_bench.records.files import write_json, write_text
from aimonk_bench.records.index import Collection
from aimonk_bench.records.run import Status
from aimonk_bench.reporting import figures, summary, table
from aimonk_bench.suite import missingness
from aimonk_bench.suite.completion import WORTHWHILE, Aside, Unscored, complete
from aimonk_bench.suite.plan import Dataset, Plan, PlannedRun
from aimonk_bench.training.outcome import Trained

logger = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
MaterialKey = tuple[str, str, tuple[str, ...]]  # encoder, engine, views
BEHIND = 4  # runs that wait to be completed
MISSINGNESS = "missingness.png"
SECONDS = "seconds.json"
PHASES = ("start", "plan", "encode", "train", "score", "plots", "statistics", "files")
HIDING = 0x4849  # its random numbers: not those that drew a synthetic data set or a split of the same seed


class Clock:
    """Seconds per phase, none of them counted twice: a phase within another stops that one.

    Args:
        began: when the process did, by `time.perf_counter`; what has passed since is the phase "start".
    """

    def __init__(self, began: float | None = None) -> None:
        now = time.perf_counter()
        self._began = now if began is None else began
        self.seconds = {"start": now - self._began}
        self._within = 0.0  # seconds of the phases that stopped the current one
        self._lapped: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time a phase, also if it raises; several times add up."""
        start, outside, self._within = time.perf_counter(), self._within, 0.0
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[phase] = self.seconds.get(phase, 0.0) + spent - self._within
            self._within = outside + spent

    def laps(self, *phases: str) -> dict[str, float]:
        """Seconds of these phases since they were last asked for; one that was not entered is absent."""
        passed = {phase: self.seconds.get(phase, 0.0) - self._lapped.get(phase, 0.0) for phase in phases}
        self._lapped |= {phase: self.seconds.get(phase, 0.0) for phase in phases}
        return {phase: round(seconds, 3) for phase, seconds in passed.items() if seconds}

    def itemised(self) -> dict[str, float]:
        """Seconds of every one of PHASES, what is left ("other"), and "total", since the process began."""
        total = time.perf_counter() - self._began
        items = {phase: self.seconds.get(phase, 0.0) for phase in PHASES}
        items |= {"other": total - sum(items.values()), "total": total}
        return {phase: round(seconds, 3) for phase, seconds in items.items()}


class BadPictures(UserError):
    """Pictures that cannot be decoded and are not to be skipped: no run of the data set can begin."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Which labels [N, A] the training, validation and test rows of every fold keep."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class Material:
    """The pictures that can be used, in label-file order, and their features.

    Attributes:
        listed: the N rows of the label file that can be used.
        groups: [N] pictures of one group never part.
        skipped: listed pictures that are left out.
        fingerprint: of the data.
        bank: what is stored of the frozen part of the network, index [V, N].
        pooled: pooled features of the network as pretrained; the same bank if all of it is frozen.
        truth: [N, A] 1, 0, -1 where not known; None where nobody knows.
    """

    listed: LabelFile
    groups: np.ndarray
    skipped: list[Skipped]
    fingerprint: str
    bank: Bank
    pooled: Bank
    truth: np.ndarray | None
    _probed: dict[tuple[int, bytes], np.ndarray] = dataclasses.field(default_factory=dict)
    _dealt: dict[Holdout | KFold, list[Fold]] = dataclasses.field(default_factory=dict)

    @property
    def labels(self) -> Labels:
        """The labels [N, A] of the used images."""
        return self.listed.labels

    def folds(self, scheme: Holdout | KFold) -> list[Fold]:
        """The parts of a split, dealt once.

        Raises:
            UserError: it is impossible.
        """
        if scheme not in self._dealt:
            self._dealt[scheme] = splits.split(scheme, self.labels, self.groups)
        return self._dealt[scheme]

    def seen(self, hiding: HideConfig | None, folds: Sequence[Fold]) -> Seen:
        """The labels that each part of a split keeps.

        What is hidden does not depend on the split, except under ``score``: what a label says must not tell, through
        what is hidden elsewhere, a head by which its own row is tested. So the rows that are tested together are looked
        at by themselves, and in a hold-out those that are not tested.
        """
        observed, targets = self.labels.observed, self.labels.targets
        if hiding is None:
            return Seen(observed, observed, observed)
        tested = [fold.test for fold in folds]
        parts = tested if len(folds) > 1 else [np.setdiff1d(np.arange(len(targets)), tested[0])]
        rng = np.random.default_rng([hiding.seed, HIDING])
        hidden = np.zeros_like(observed)
        for rows in parts if hiding.mechanism == "score" else [np.arange(len(targets))]:
            standing = self._probe(rows, hiding.seed) if hiding.mechanism == "score" else None
            hidden[rows] = hide(hiding.mechanism, hiding.fraction, self.labels[rows], standing, rng)
        left = observed & ~hidden
        return Seen(left, observed if hiding.rows == "train" else left, observed)

    def features(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """float32 [R, D] pooled features of the undisturbed pictures, by default of all N."""
        return np.asarray(self.pooled.rows[self.pooled.index[0, rows]], np.float32)

    @cached_property
    def before(self) -> signal.Before:
        """The test for signal in the features of the undisturbed pictures, before anything is hidden or trained."""
        return signal.before(self.features(), self.labels.targets, self.labels.observed, self.groups, seed=0)

    def _probe(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """Out-of-fold scores [R, A] of a probe on the undisturbed pictures of these rows alone, computed once."""
        key = seed, rows.tobytes()
        if key not in self._probed:
            own = self.labels.targets[rows], self.labels.observed[rows], self.groups[rows]
            self._probed[key] = signal.probe(self.features(rows), *own, seed=seed)
        return self._probed[key]


class Materials:
    """The material of each encoder and set of views, encoded when it is first asked for and kept for the next run."""

    def __init__(self, dataset: Dataset, clock: Clock, progress: Progress) -> None:
        self._dataset = dataset
        self._clock = clock
        self._progress = progress
        self._store = FeatureStore()
        self._ready: dict[MaterialKey, Material | UserError | RunFailed] = {}
        self._uncharged: dict[MaterialKey, dict[str, float]] = {}

    def of(self, planned: PlannedRun) -> Material:
        """The material of a run.

        Raises:
            RunFailed: its weights or its engine cannot be had.
            BadPictures: some cannot be decoded and are not to be skipped, or none can.
        """
        if planned.reason is not None:
            raise RunFailed(planned.reason)
        key = self._key(planned)
        if key not in self._ready:
            with self._clock("encode"):
                try:
                    self._ready[key] = self._encode(planned)
                except (UserError, RunFailed) as error:  # not found out again for every run
                    self._ready[key] = error
            self._uncharged[key] = self._clock.laps("encode")
        material = self._ready[key]
        if isinstance(material, Exception):
            raise material
        return material

    def seconds(self, planned: PlannedRun) -> dict[str, float]:
        """What encoding the material of a run took, under "encode": 0 from the second run that asks on."""
        return {"encode": 0.0} | self._uncharged.pop(self._key(planned), {})

    @staticmethod
    def _key(planned: PlannedRun) -> MaterialKey:
        # not only what is stored: under `freeze: none` that is the same for all networks, `Material.pooled` is not
        return planned.encoder.run_digest, planned.encoder.engine, stored_views(planned.config).keys

    def _encode(self, planned: PlannedRun) -> Material:
        listed, data, views = self._dataset.listed, planned.config.data, stored_views(planned.config)
        rows = [row for row, picture in enumerate(self._dataset.pictures) if picture is not None]
        found = [picture for picture in self._dataset.pictures if picture is not None]
        transform, encoder = planned.config.transform, planned.encoder
        with _meanwhile(lambda: importlib.import_module("iterstrat.ml_stratifiers"), self._progress) as progress:
            bank = self._store.bank(found, views, transform, encoder, progress)
        bad = [Skipped(found[n].image_id, found[n].line, reason) for n, reason in bank.bad]
        if bad and (data.on_bad_image == "error" or len(bad) == len(found)):
            where = [f"{data.labels}:{item.line}: picture {item.image_id}" for item in bad]
            raise BadPictures(
                [f"{place} cannot be decoded: {item.reason}" for place, item in zip(where, bad, strict=True)],
                limit=SHOWN,
            )
        kept = np.delete(np.arange(len(found)), [n for n, _ in bank.bad])
        used = np.array(rows)[kept]
        usable = listed.subset(used)
        known = None if self._dataset.truth is None else self._dataset.truth[used]
        skipped = sorted([*self._dataset.skipped, *bad], key=lambda item: item.line)
        for item in skipped:
            logger.warning("%s:%d: skipped %s: %s", data.labels, item.line, item.image_id, item.reason)
        groups = splits.components([found[n].sha256 for n in kept], usable.groups)
        bank = dataclasses.replace(bank, index=bank.index[:, kept], bad=[])
        pooled = bank
        if encoder.freeze != "all":
            whole = dataclasses.replace(encoder, freeze="all")
            pooled = self._store.bank([found[n] for n in kept], UNAUGMENTED, transform, whole, self._progress)
        return Material(usable, groups, skipped, self._dataset.fingerprint, bank, pooled, known)


@contextlib.contextmanager
def _meanwhile(work: Callable[[], object], progress: Progress) -> Iterator[Progress]:
    """A progress whose first call begins ``work`` in a thread; what that raises, whoever needs it finds out again."""
    begun: list[Future[object]] = []
    with ThreadPoolExecutor(1) as lane:

        def told(phase: str, done: int, total: int) -> None:
            if not begun:
                begun.append(lane.submit(work))
            progress(phase, done, total)

        yield told


def stored_views(config: Config) -> transforms.Views:
    """The views of a picture that the feature store keeps: of pixels only the undisturbed one."""
    return UNAUGMENTED if config.backbone.freeze == "none" else transforms.views(config.transform)


def execute_run(plan: Plan, folder: Path, clock: Clock, progress: Progress) -> None:
    """Execute the only run of ``plan`` in ``folder``; nothing is done if it is already there.

    Raises:
        UserError: the folder holds something else, a picture cannot be decoded, or the split is impossible; nothing
            is written.
        RunFailed: with the reason, which also stands in ``status.json``.
    """
    (planned,) = plan.runs
    _tell_notes(plan.dataset)
    with alone(folder):
        if run.claim(folder, planned.id, planned.text):
            logger.info("already done: %s in %s", planned.id, folder)
            restore(planned, folder, clock)
        else:
            execute(planned, Materials(plan.dataset, clock, progress), folder, clock, progress)


def execute_suite(plan: Plan, folder: Path, clock: Clock, progress: Progress) -> None:
    """Execute the runs of ``plan`` that are not finished yet, and write ``suite.json`` and the summaries.

    A run that fails is recorded with its reason and the next one begins.

    Raises:
        UserError: the folder holds something else, or a picture cannot be decoded; nothing is written.
    """
    _tell_notes(plan.dataset)
    with alone(folder):
        _execute_pending(plan, folder, clock, progress)


def _execute_pending(plan: Plan, folder: Path, clock: Clock, progress: Progress) -> None:
    suite.claim(folder)
    places = {planned.id: folder / suite.RUNS / planned.id for planned in plan.runs}
    with clock("files"):
        pending = [p for p in plan.runs if not run.claim(places[p.id], p.id, p.text)]
    materials = Materials(plan.dataset, clock, progress)
    short = sum(planned.config.backbone.freeze == "all" for planned in pending)
    with contextlib.ExitStack() as stack:
        # its start costs nothing while that of the encoder has use for one core only
        later = _Later(stack.enter_context(Aside()), clock) if short >= WORTHWHILE else None
        _encode_all(pending, materials)
        record = suite.SuiteRecord(
            name=plan.name,
            fingerprint=plan.dataset.fingerprint,
            baseline=plan.baseline.id,
            ids=tuple(planned.id for planned in plan.runs),
            names=tuple(planned.parts for planned in plan.runs),
        )
        suite.write(folder, record)
        try:
            for number, planned in enumerate(plan.runs, start=1):
                if planned not in pending:
                    restore(planned, places[planned.id], clock)
                    continue
                logger.info("run %d of %d: %s", number, len(plan.runs), planned.name)
                _execute_or_record(planned, materials, places[planned.id], clock, progress, later)
        finally:
            if later is not None:
                later.tell_what_is_left()
            with clock("score"):
                stack.close()
            if later is not None:
                later.complete_the_rest()
            with clock("statistics"):
                found = index.collect(folder)
                write_summaries(found)
            with clock("plots"):
                _draw_missingness(plan, found)
    if len(pending) < len(plan.runs):
        logger.info("%d of %d runs were already done", len(plan.runs) - len(pending), len(plan.runs))


def _encode_all(pending: Sequence[PlannedRun], materials: Materials) -> None:
    """Encode whatever the runs need, so that pictures that cannot be decoded are told before anything is written."""
    for planned in pending:
        try:
            materials.of(planned)
        except BadPictures:
            raise
        except (RunFailed, UserError):
            continue  # its own failure, recorded when its turn comes


class _Later:
    """Runs that are completed beside the next ones, as far as there is somebody to do it."""

    def __init__(self, aside: Aside, clock: Clock) -> None:
        self._aside, self._clock = aside, clock
        self._given: list[tuple[PlannedRun, Unscored]] = []

    @property
    def cores(self) -> int:
        """How many cores that takes."""
        return 0 if self._aside.gone else 1

    def complete(self, planned: PlannedRun, unscored: Unscored) -> None:
        """Have it completed; where the process is gone or behind, complete it here."""
        self._given = self._left()
        if self._aside.gone or len(self._given) >= BEHIND:
            complete(unscored, self._clock)
        else:
            self._given.append((planned, unscored))
            self._aside.complete(unscored)

    def _left(self) -> list[tuple[PlannedRun, Unscored]]:
        return [given for given in self._given if not (given[1].folder / run.STATUS).exists()]

    def tell_what_is_left(self) -> None:
        """Say how many runs are still to be completed."""
        if count := len(self._left()):
            logger.info("%d trained run%s still to be scored", count, " is" if count == 1 else "s are")

    def complete_the_rest(self) -> None:
        """Complete, here, what the process did not; a run for which that fails has failed."""
        for planned, unscored in self._left():
            logger.warning("%s was not scored beside the training and is now", planned.name)
            self._clock.laps("score")
            try:
                complete(unscored, self._clock)
            except Exception as error:
                seconds = _sum(unscored.status.seconds, self._clock.laps("score"))
                _record_failure(planned, unscored.folder, seconds, error)
                logger.error("%s failed: %s", planned.name, _reason(error))


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Seconds by phase."""
    return {phase: round(one.get(phase, 0.0) + other.get(phase, 0.0), 3) for phase in one.keys() | other.keys()}


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


def _execute_or_record(
    planned: PlannedRun, materials: Materials, folder: Path, clock: Clock, progress: Progress, later: _Later | None
) -> None:
    try:
        execute(planned, materials, folder, clock, progress, later)
    except UserError as error:  # in a suite it is this run's failure: the others can go on
        _record_failure(planned, folder, clock.laps("train", "score"), error)
        logger.error("%s failed: %s", planned.name, error)
    except RunFailed as error:
        logger.error("%s failed: %s", planned.name, str(error).partition("\n")[0])


def restore(planned: PlannedRun, folder: Path, clock: Clock) -> None:
    """Write again what was deleted of a finished run and derives from its predictions and its history."""
    with clock("files"):
        derived.restore(run.read(folder))
    if (folder / run.LOSS_CURVE).exists():
        return
    with clock("plots"):
        figures.loss_curve(run.read_history(folder), planned.config.plot.title, folder / run.LOSS_CURVE)


def write_summaries(found: Collection) -> None:
    """Write ``statistics.json``, ``summary.csv`` and ``summary.md`` from the runs of a suite."""
    made = summary.summarize(found)
    if made.statistics:
        suite.write_statistics(found.folder, made.statistics)
    write_text(found.folder / "summary.csv", summary.to_csv(summary.frame([made])))
    write_text(found.folder / "summary.md", table.markdown(made))


def _draw_missingness(plan: Plan, found: Collection) -> None:
    """Draw ``missingness.png`` if the suite hides labels in several ways; none is left of an earlier suite."""
    points = missingness.scores(plan, found)
    path = found.folder / MISSINGNESS
    if points:
        judge = "the test labels" if plan.dataset.truth is None else truth.FILE
        figures.missingness(points, f"{plan.name}: scored on {judge}", path)
    else:
        path.unlink(missing_ok=True)


def execute(
    planned: PlannedRun,
    materials: Materials,
    folder: Path,
    clock: Clock,
    progress: Progress,
    later: _Later | None = None,
) -> None:
    """Execute one run and write its files, the status last.

    Args:
        later: completes it if heads alone are trained; beside the training of a part of a network that takes no time.

    Raises:
        RunFailed: after the failure is recorded.
        UserError: a picture cannot be decoded or the split is impossible; nothing is written.
    """
    clock.laps("train", "score")  # those of other runs
    seconds: dict[str, float] = {}
    try:
        material = materials.of(planned)
        seconds = materials.seconds(planned)
        with clock("plan"):
            folds = material.folds(planned.config.split)
        with clock("files"):
            run.begin(folder, planned.text)
        later = later if planned.config.backbone.freeze == "all" else None
        unscored = _train(planned, material, folds, folder, clock, progress, seconds)
        seconds = dict(unscored.status.seconds)
        if later is None:
            complete(unscored, clock)
        else:
            later.complete(planned, unscored)
    except UserError:
        raise
    except Exception as error:
        _record_failure(planned, folder, _sum(seconds, clock.laps("train", "score")), error)
        raise RunFailed(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Why a run failed, as its status says."""
    if isinstance(error, UserError):
        return "; ".join(error.problems)
    return str(error) if isinstance(error, RunFailed) else f"{type(error).__name__}: {error}"


def _status(
    planned: PlannedRun, state: Literal["done", "failed"], seconds: dict[str, float], reason: str | None = None
) -> Status:
    return Status(planned.id, state, seconds, reason, planned.parts, planned.columns, planned.complexity)


def _record_failure(planned: PlannedRun, folder: Path, seconds: dict[str, float], error: Exception) -> None:
    if not isinstance(error, (RunFailed, UserError)):
        logger.error("an error that aimonk_bench did not expect, in %s", planned.name, exc_info=error)
    try:
        run.begin(folder, planned.text)
        run.end(folder, _status(planned, "failed", seconds, _reason(error)))
    except OSError as other:
        logger.error("%s: the failure cannot be recorded: %s", folder, other)


def _train(
    planned: PlannedRun,
    material: Material,
    folds: list[Fold],
    folder: Path,
    clock: Clock,
    progress: Progress,
    seconds: dict[str, float],
) -> Unscored:
    """From features to predictions, and the files that `complete` does not write.

    Args:
        seconds: spent on the run before.
    """
    config = planned.config
    seen = material.seen(config.hide, folds)
    with clock("train"):
        trained = _trained(planned, material, seen, folds, folder, clock, progress)
    with clock("score"):
        predictions = assemble(trained, material, seen, folds, config.train.seeds)
        tuned = thresholds.tune(predictions, config.threshold)
        before = material.before
    for note in (*trained.notes, *_by_fold(tuned.notes)):
        logger.info("%s", note)
    with clock("files"):
        run.write_environment(folder, _environment(planned, material.bank.engine, config.train.device))
        run.write_data(folder, _data(config, material, seen, folds, trained) | {"signal": before.to_json()})
    return Unscored(
        folder=folder,
        history=trained.history,
        predictions=predictions,
        thresholds=tuned,
        policy=config.threshold,
        calibration=config.calibration,
        title=config.plot.title,
        status=_status(planned, "done", seconds | clock.laps("train", "score")),
    )


def _trained(
    planned: PlannedRun,
    material: Material,
    seen: Seen,
    folds: list[Fold],
    folder: Path,
    clock: Clock,
    progress: Progress,
) -> Trained:
    """Train heads on a frozen backbone, or what of the backbone is not frozen with them."""
    config, labels, bank = planned.config, material.labels, material.bank
    views = transforms.views(config.transform)
    with clock("start"):  # torch is loaded when there is something to train
        from aimonk_bench.training.recipe import Recipe, TrainingData

    train_labels, val_labels = (
        Labels.of(labels.targets, observed, labels.attributes) for observed in (seen.train, seen.val)
    )
    data, recipe = TrainingData(train_labels, val_labels, folds, views.probabilities), Recipe.of(config)
    if config.backbone.freeze == "all":
        with clock("start"):
            from aimonk_bench.training import heads_trainer

        return heads_trainer.train_heads(bank.rows, bank.index, data, recipe, progress=progress)
    with clock("start"):
        from aimonk_bench.backbones import network
        from aimonk_bench.training import finetune, sources

    source: sources.Source = sources.Stored(bank.rows, bank.index)
    if config.backbone.freeze == "none":
        source = sources.Pixels(bank.rows, bank.index[0], views.keys, config.transform)
    return finetune.fine_tune(
        source,
        data,
        recipe,
        layers=network.build_trainable(planned.encoder.weights, planned.encoder.size, planned.encoder.freeze),
        key=planned.id,
        checkpoints=folder / run.CHECKPOINTS,
        progress=progress,
    )


def itemise(folder: Path, clock: Clock) -> None:
    """Tell where the seconds went, and write ``seconds.json``; where nothing was done the one that is there stays."""
    items = clock.itemised()
    if "encode" in clock.seconds:
        write_json(folder / SECONDS, items)
    parts = [f"{phase} {seconds:.1f}" for phase, seconds in items.items() if phase != "total"]
    logger.info("%.1f s: %s", items["total"], ", ".join(parts))


def assemble(
    trained: Trained, material: Material, seen: Seen, folds: Sequence[Fold], seeds: Sequence[int]
) -> Predictions:
    """The logits of all folds as one table: one row per fold, split and picture, in label-file order within a part."""
    labels, known = material.labels, material.truth
    parts = [(fold, part, getattr(folds[fold], part)) for fold in range(len(folds)) for part in ("val", "test")]
    rows = np.concatenate([own for _, _, own in parts])
    sizes = [len(own) for _, _, own in parts]
    observed = np.concatenate([getattr(seen, part)[own] for _, part, own in parts])
    positive = seen.train & (labels.targets == 1)
    return Predictions(
        logits=np.concatenate([trained.logits[fold][part] for fold, part, _ in parts], axis=1),
        targets=np.where(observed, labels.targets[rows], 0).astype(np.int8),
        observed=observed,
        split=np.repeat([part for _, part, _ in parts], sizes),
        fold=np.repeat(np.array([fold for fold, _, _ in parts], np.int16), sizes),
        group=material.groups[rows].astype(np.int32),
        image_id=np.array(material.listed.ids)[rows],
        attribute=np.array(labels.attributes),
        seed=np.array(seeds, np.int64),
        train_positive=np.stack([positive[fold.train].sum(0) for fold in folds]).astype(np.int32),
        train_observed=np.stack([seen.train[fold.train].sum(0) for fold in folds]).astype(np.int32),
        truth=None if known is None else known[rows],
    )


def _data(config: Config, material: Material, seen: Seen, folds: Sequence[Fold], trained: Trained) -> dict[str, Any]:
    """The content of ``data.json``."""
    labels = material.labels
    positive, known = (labels.observed & (labels.targets == 1)).sum(0), labels.observed.sum(0)
    drawn = trained.effective_positive_rate.reshape(-1, len(labels.attributes)).T
    rate = metrics.macro(drawn, np.isfinite(drawn))  # over the heads that drew an observed label of it
    return {
        "n_listed": len(labels) + len(material.skipped),
        "n_used": len(labels),
        "skipped": [dataclasses.asdict(item) for item in material.skipped],
        "fingerprint": material.fingerprint,
        "folds": [{part: len(getattr(fold, part)) for part in ("train", "val", "test")} for fold in folds],
        "views": config.transform.views,
        "n_groups": len(np.unique(material.groups)),
        "n_positive": dict(zip(labels.attributes, positive, strict=True)),
        "n_observed": dict(zip(labels.attributes, known, strict=True)),
        "n_hidden": dict(zip(labels.attributes, known - seen.train.sum(0), strict=True)),
        "prevalence": dict(zip(labels.attributes, positive / np.where(known, known, np.nan), strict=True)),
        "sampled_prevalence": dict(zip(labels.attributes, rate, strict=True)),
        "chosen_epoch": trained.chosen_epoch,
        "tune": None if trained.tuning is None else dataclasses.asdict(trained.tuning),
        "notes": [*material.listed.notes, *trained.notes],
    }


def _by_fold(notes: Sequence[str]) -> list[str]:
    """Notes that differ in nothing but the fold as one: ``attr4: no observed validation positive (folds 0, 3)``."""
    folds: dict[str, list[str]] = {}
    for note in notes:
        fold, _, remark = note.removeprefix("fold ").partition(", ")
        folds.setdefault(remark, []).append(fold)
    return [f"{remark} (fold{'s' if len(own) > 1 else ''} {', '.join(own)})" for remark, own in folds.items()]


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
        "freeze": planned.encoder.freeze,
    }
    return environment(facts, engine, pick_device(device))


def _tell_notes(dataset: Dataset) -> None:
    for note in dataset.listed.notes:
        logger.info("%s: %s", dataset.listed.path, note)
