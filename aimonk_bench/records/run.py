"""The folder of one run: who may write into it, its files, and how they are read back or computed again.

The order of writing is `claim`, `begin`, the files in any order, and `end`, which writes the status: a folder without
a status is a run that never ended. A finished run that is made again, because it lacks weights, is written into the
folder `AGAIN` in its own, and `replace` puts it in the place of the former when it is done.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import scores as scoring
from aimonk_bench.evaluation import thresholds as policies
from aimonk_bench.evaluation.association import BeforeTraining
from aimonk_bench.evaluation.fairness import Training
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.scores import Calibrator, Scores
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.evaluation.verdict import Doubts
from aimonk_bench.records import history, scoring_config, weights
from aimonk_bench.records.environment import BackboneCost, Environment
from aimonk_bench.records.files import (
    PARTIAL,
    checked,
    contents,
    delete,
    derived,
    dumps,
    file_sha256,
    harmless,
    read_as,
    read_json,
    refuse_folders,
    remove_partial,
    write_csv,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Raised by hand when the code gives other predictions for the same config and data. It enters the id of a run, so that
# runs made before are not taken for done, and its status, so that they are not compared with runs made since.
REVISION = 5

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
DATA = "data.json"
HISTORY = "history.csv"
LOSS_CURVE = "loss_curve.png"
PREDICTIONS = "predictions.npz"
THRESHOLDS = "thresholds.json"
METRICS = "metrics.json"
RELIABILITY = "reliability.csv"
STATUS = "status.json"
TRACEBACK = "traceback.txt"  # of a run that failed by an exception that has no message for the user
CHECKPOINTS = "checkpoints"  # which only an unfinished run needs
AGAIN = f"{PARTIAL}again"  # a folder: the files of a finished run that is made again, until it is done
SUITE = "suite.json"  # of a suite, whose folder no run may take
LABELS = "labels.csv"  # of labels that came as a DataFrame; ``config.yaml`` names it
FILES = (  # the config first
    *(CONFIG, ENVIRONMENT, DATA, HISTORY, LOSS_CURVE, PREDICTIONS, weights.HEADS),
    *(THRESHOLDS, METRICS, RELIABILITY, TRACEBACK, STATUS),
)

COLUMNS = ("backbone", "weights", "loss", "missing", "sampler")  # of ``summary.csv``, stored in the status


@dataclass(frozen=True, order=True)
class Complexity:
    """How complex a run is, compared from the first field on; the verdict names the simplest of equal runs.

    Attributes:
        trained: how much of the backbone is trained: 0 nothing, 1 some stages, 2 all of it.
        trainings: how often the head of each fold and seed is trained: stages x tuned settings.
        features: D.
        departures: how many of loss, missing-label policy, sampler and threshold policy differ from the reference.
    """

    trained: int
    trainings: int
    features: int
    departures: int


@dataclass(frozen=True)
class Status:
    """The content of ``status.json``.

    Attributes:
        id: of the run; in a suite also the name of its folder.
        state: "done" or "failed".
        seconds: spent in the phases "encode", "train" and "score"; a phase that was not reached is absent.
        reason: why the run failed; None if it did not.
        name: the parts of the name that a reader sees: ``("focal", "repeat_factor")``.
        columns: the values of `COLUMNS` in ``summary.csv``; backbone and weights are those used, not those asked for.
        complexity: of a run that is done; numbers without names where the run is older than `Complexity`.
        revision: the `REVISION` of the code that made the run; None before there was one.
        predictions: SHA-256 (hex) of ``predictions.npz`` of a run that is done; None where the run is older than that.

    Raises:
        ValueError: a column is missing or unknown, or a run is done without its seconds of training or its complexity.
    """

    id: str
    state: Literal["done", "failed"]
    seconds: Mapping[str, float]
    reason: str | None
    name: tuple[str, ...]
    columns: Mapping[str, str]
    complexity: Complexity | tuple[int, ...] | None = None
    revision: int | None = None
    predictions: str | None = None

    def __post_init__(self) -> None:
        if sorted(self.columns) != sorted(COLUMNS):
            raise ValueError(f"status: found columns {', '.join(self.columns)}, expected {', '.join(COLUMNS)}")
        if self.state == "done" and ("train" not in self.seconds or self.complexity is None):
            raise ValueError("status: found no seconds of training or no complexity for a run that is done")


@dataclass(frozen=True)
class _Data:
    """What a table needs of ``data.json``."""

    n_listed: int
    n_used: int
    folds: list[dict[str, int]]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A run that ended, as its files hold it.

    The properties read a file on first use, or compute it again from the predictions, and keep what they read;
    predictions are read again if two other runs came between, so that memory does not hold those of a whole suite.

    Attributes:
        data: the content of ``data.json``; empty of a failed run.
        environment: the content of ``environment.json``; empty of a failed run.
        policy: the threshold policy; None takes that of `scoring_config`.

    Raises:
        UserError: a property needs a file that is missing or broken.
    """

    folder: Path
    status: Status
    data: dict[str, Any]
    environment: dict[str, Any]
    policy: registry.Spec | None = None

    @property
    def done(self) -> bool:
        """The run did not fail, so that it has figures."""
        return self.status.state == "done"

    def check(self, weight_files: Sequence[str]) -> None:
        """Read the files of a run that is done that derive from no other, among them these with its weights.

        Raises:
            UserError: one of them is missing or damaged.
        """
        _ = self._scoring, history.read(self.folder / HISTORY)
        seeds, _, attributes = self.predictions.logits.shape
        weights.check(self.folder, weight_files, (seeds, self.predictions.folds, attributes))

    @property
    def cost(self) -> BackboneCost:
        """What the backbone costs, from ``environment.json``."""
        return checked(Environment, self.environment, self.folder / ENVIRONMENT).cost

    @property
    def predictions(self) -> Predictions:
        """``predictions.npz``; memory holds those of the two records that were used last."""
        return _predictions(self)

    @cached_property
    def thresholds(self) -> Thresholds:
        """``thresholds.json``; where the file is missing or damaged, tuned again by the policy in ``config.yaml``."""
        stored = self._thresholds
        return policies.tune(self.predictions, self._scoring[0]) if stored is None else stored

    @cached_property
    def scores(self) -> Scores:
        """``metrics.json``; where the file is missing, damaged or of another revision, computed again."""
        stored = self._scores
        return scoring.score(self.predictions, self.thresholds, *self._scoring) if stored is None else stored

    def reliability(self) -> pd.DataFrame:
        """The rows of ``reliability.csv``, see `scores.reliability`."""
        return scoring.reliability(self.predictions, self._scoring[1])

    @property
    def before(self) -> BeforeTraining | None:
        """The association test before training, from ``data.json``; None where the run has none."""
        return self._recorded(BeforeTraining, "signal")

    @property
    def doubts(self) -> Doubts | None:
        """What of the data bears on a verdict, from ``data.json``; None where the run has none."""
        return self._recorded(Doubts, "doubts")

    @property
    def training(self) -> Training | None:
        """How the heads were trained, from ``data.json``; None where the run has no such record."""
        return self._recorded(Training, "training")

    def _recorded(self, kind: type[T], name: str) -> T | None:
        return None if self.data.get(name) is None else checked(kind, self.data[name], self.folder / DATA)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of what every statistic derives from: predictions and thresholds."""
        path = self.folder / PREDICTIONS
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        return hashlib.sha256(content + dumps(self.thresholds.to_json()).encode()).hexdigest()

    def restore(self) -> None:
        """Write the derived files that are missing or cannot be used; delete what a killed process left."""
        remove_partial(self.folder)
        delete(self.folder / CHECKPOINTS)
        if self._thresholds is None:
            write_json(self.folder / THRESHOLDS, self.thresholds.to_json())
        if self._scores is None:
            write_json(self.folder / METRICS, self.scores.to_json())
        if not (self.folder / RELIABILITY).exists():
            write_csv(self.folder / RELIABILITY, harmless(self.reliability()))

    @cached_property
    def _thresholds(self) -> Thresholds | None:
        """The content of ``thresholds.json``; None where the file is missing or damaged."""
        return derived(self.folder / THRESHOLDS, lambda path: read_as(Thresholds, path))

    @cached_property
    def _scores(self) -> Scores | None:
        """The content of ``metrics.json``; None where the file is missing, damaged or of another revision."""

        def load(path: Path) -> Scores | None:
            content = read_json(path)
            return Scores.from_json(content, str(path)) if content.get("revision") == scoring.REVISION else None

        return derived(self.folder / METRICS, load)

    @cached_property
    def _scoring(self) -> tuple[registry.Spec, Calibrator]:
        """The threshold policy and the calibrator that ``config.yaml`` names."""
        policy, calibrator = scoring_config.read(self.folder / CONFIG)
        return self.policy or policy, calibrator


@lru_cache(maxsize=2)  # two runs are compared; those of a whole suite may not fit into memory
def _predictions(record: RunRecord) -> Predictions:
    path = record.folder / PREDICTIONS
    predictions = Predictions.load(path)
    if record.status.predictions not in (None, file_sha256(path)):
        raise UserError(f"{path}: found a file that cannot be used (of another run), expected that of {STATUS}")
    return predictions


def claim(folder: Path, run_id: str, config: str, weight_files: Sequence[str] = (weights.HEADS,)) -> bool:
    """Check that the run ``run_id`` may write into ``folder``: it is new, empty, or was left by the same run.

    Args:
        folder: the output folder.
        run_id: id of the run.
        config: the text of its ``config.yaml``. It identifies an interrupted run whose folder is not named by the id;
            the id does not depend on names, titles and paths, the text does.
        weight_files: those of the run, relative to its folder.

    Returns:
        Whether it is already done. If not: it is new, failed, never ended, lacks weights, or another file is missing or
        damaged, which is logged.

    Raises:
        UserError: the folder holds another run, or something that is no run.
    """
    if not (names := contents(folder, without=LABELS)):
        return False
    refuse_folders(folder, FILES)
    if (status := _status(folder)) is not None:
        if status.id != run_id:
            earlier = " of an earlier version" if status.revision != REVISION else ""
            kind, fix = ("failed run", "delete it or name") if status.state == "failed" else ("run", "name")
            other = f"{kind} {status.id}{earlier}, this one is {run_id}"
            raise UserError(f"{folder}: holds the {other}; {fix} another output folder")
        return status.state == "done" and _is_complete(folder, weight_files)
    if SUITE in names or CONFIG not in names:
        content = "a suite" if SUITE in names else f"{names[0]} but no run"
        raise UserError(f"{folder}: holds {content}; name another output folder")
    if folder.name != run_id and _as_trained((folder / CONFIG).read_text(encoding="utf-8")) != _as_trained(config):
        raise UserError(f"{folder}: holds an unfinished run of another config; delete it or name another output folder")
    return False


def _as_trained(config: str) -> Any:
    """What a ``config.yaml`` says but ``train.keep_weights``, which changes no result; None where it is damaged."""
    try:
        content = yaml.safe_load(config)
    except yaml.YAMLError:
        return None
    if isinstance(content, dict) and isinstance(content.get("train"), dict):
        content["train"].pop("keep_weights", None)
    return content


def _status(folder: Path) -> Status | None:
    """The status of a run; None where there is none, or a damaged one, which is logged."""
    path = folder / STATUS
    if not path.exists():
        return None
    try:
        return read_as(Status, path)
    except UserError as error:
        logger.warning("the run begins again, because its status cannot be read: %s", error.problems[0])
        return None


def _is_complete(folder: Path, weight_files: Sequence[str]) -> bool:
    """Whether every file of a finished run that is not derived from others can be read; why not is logged."""
    try:
        read(folder).check(weight_files)
    except weights.Missing:  # the driver names all such runs at once
        return False
    except UserError as error:
        logger.warning("the run begins again, because one of its files cannot be used: %s", error.problems[0])
        return False
    return True


def begin(folder: Path, config: str) -> None:
    """Make ``folder``, delete the files of an earlier attempt (the status first), and write ``config.yaml``.

    An earlier ``config.yaml`` stays until it is replaced: without it nobody could tell whose checkpoints these are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in reversed(FILES[1:]):  # not the config, by which other processes see that this is a run
        (folder / name).unlink(missing_ok=True)
    delete(folder / weights.NETWORKS)
    remove_partial(folder)
    write_text(folder / CONFIG, config)


def end(folder: Path, status: Status) -> None:
    """Write ``status.json`` with the checksum of the predictions, which ends the run; delete what a done one left."""
    if status.state == "done":
        status = dataclasses.replace(status, predictions=file_sha256(folder / PREDICTIONS))
    write_json(folder / STATUS, dataclasses.asdict(status))
    if status.state == "done":
        delete(folder / CHECKPOINTS)


def replace(folder: Path, again: Path) -> None:
    """Put the files of a run that was made again in the place of those before; the status leaves first, comes last."""
    (folder / STATUS).unlink(missing_ok=True)
    delete(folder / weights.NETWORKS)
    for name in (weights.NETWORKS, *FILES):
        if (again / name).exists():
            (again / name).replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    again.rmdir()
    delete(folder / CHECKPOINTS)


def read(folder: Path, policy: registry.Spec | None = None) -> RunRecord:
    """Read the run in ``folder``.

    Args:
        policy: its threshold policy, where the caller has it with the code of its plug-ins.

    Raises:
        UserError: the run has no status, or one of its files is broken.
    """
    status = read_as(Status, folder / STATUS)
    if status.state == "failed":
        return RunRecord(folder, status, {}, {}, policy)
    data, environment = (read_json(folder / name) for name in (DATA, ENVIRONMENT))
    checked(_Data, data, folder / DATA)
    checked(Environment, environment, folder / ENVIRONMENT)
    return RunRecord(folder, status, data, environment, policy)
