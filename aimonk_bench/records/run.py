"""The directory of one run: who may write there, every file of it, and reading it back.

The order of writing is `claim`, `begin`, the files in any order, and `end`, which writes the status: a folder without
one is a run that never ended.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import yaml

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import scores, thresholds
from aimonk_bench.evaluation.association import BeforeTraining
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.scores import Calibrator, Scores
from aimonk_bench.records import suite
from aimonk_bench.records.files import PARTIAL, atomic, contents, read_as, read_json, write_json, write_text

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
CHECKPOINTS = "checkpoints"  # of a run that is not done
FILES = (CONFIG, ENVIRONMENT, DATA, HISTORY, LOSS_CURVE, PREDICTIONS, THRESHOLDS, METRICS, RELIABILITY, STATUS)


COLUMNS = ("backbone", "weights", "loss", "missing", "sampler")  # of ``summary.csv`` that a status holds


@dataclass(frozen=True)
class Status:
    """The content of ``status.json``.

    Attributes:
        id: of the run; in a suite also the name of its folder.
        state: "done" or "failed".
        seconds: spent in the phases "encode", "train" and "score"; a phase that was not reached is absent.
        reason: why it failed; None if it did not.
        name: what a reader sees, "focal + repeat_factor".
        columns: what `COLUMNS` names, as ``summary.csv`` shows it; backbone and weights are those used, not asked for.
        complexity: the run's place in the declared order of complexity, compared from the left.

    Raises:
        ValueError: a column is missing or unknown, or a run is done without its seconds of training.
    """

    id: str
    state: Literal["done", "failed"]
    seconds: Mapping[str, float]
    reason: str | None
    name: str
    columns: Mapping[str, str]
    complexity: Sequence[int]

    def __post_init__(self) -> None:
        if sorted(self.columns) != sorted(COLUMNS):
            raise ValueError(f"status: found columns {', '.join(self.columns)}, expected {', '.join(COLUMNS)}")
        if self.state == "done" and "train" not in self.seconds:
            raise ValueError("status: found no seconds of training for a run that is done")


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A run that ended, read from its folder; what is large is read on first use.

    Attributes:
        data: the content of ``data.json``, empty where a failed run has none.
        environment: the content of ``environment.json``, empty where a failed run has none.
    """

    folder: Path
    status: Status
    data: dict[str, Any]
    environment: dict[str, Any]

    @property
    def done(self) -> bool:
        """It ended well, so that it has figures."""
        return self.status.state == "done"

    @cached_property
    def predictions(self) -> Predictions:
        """``predictions.npz``."""
        return Predictions.load(self.folder / PREDICTIONS)

    @cached_property
    def thresholds(self) -> thresholds.Thresholds:
        """``thresholds.json``; if it is gone, tuned again by the policy of ``config.yaml``."""
        path = self.folder / THRESHOLDS
        if path.exists():
            return thresholds.Thresholds.from_json(read_json(path), str(path))
        return thresholds.tune(self.predictions, self._policy())

    @cached_property
    def scores(self) -> Scores:
        """``metrics.json``; if it is gone or of another revision, computed again from predictions and thresholds."""
        path = self.folder / METRICS
        if path.exists() and (content := read_json(path)).get("revision") == scores.REVISION:
            return Scores.from_json(content, str(path))
        return scores.score(self.predictions, self.thresholds, self._policy(), self._calibrator())

    @property
    def reliability(self) -> list[dict[str, Any]]:
        """The rows of ``reliability.csv``, computed from the predictions."""
        return scores.reliability(self.predictions, self._calibrator())

    @property
    def before(self) -> BeforeTraining | None:
        """The association test before training, from ``data.json``; None where the run has none."""
        found = self.data.get("signal")
        return None if found is None else BeforeTraining.from_json(found)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what every statistic derives from: predictions and thresholds."""
        files = (self.folder / name for name in (PREDICTIONS, THRESHOLDS))
        return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.exists())).hexdigest()

    def _calibrator(self) -> Calibrator:
        found: Calibrator = self._config().get("calibration", "none")
        if found not in get_args(Calibrator):
            raise UserError(f"{self.folder / CONFIG}: calibration: found {found!r}, expected none or platt")
        return found

    def _config(self) -> dict[str, Any]:
        """``config.yaml`` as plain data."""
        path = self.folder / CONFIG
        try:
            content = yaml.safe_load(path.read_bytes())
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"{path}: cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: found a {type(content).__name__}, expected a map")
        return content

    def _policy(self) -> registry.Spec:
        found = self._config().get("threshold")
        spec, problems = registry.check("threshold", thresholds.THRESHOLDS, found)
        if spec is None:
            raise UserError([f"{self.folder / CONFIG}: threshold: {problem}" for problem in problems])
        return spec


def claim(folder: Path, run_id: str, config: str) -> bool:
    """Check that the run ``run_id`` may write into ``folder``: it is new, empty, or was left by the same run.

    Args:
        config: the text of its ``config.yaml``, by which a run that was interrupted is recognised where its folder is
            not called by the id (which names, titles and paths do not change).

    Returns:
        True if that run is already done; False if it is to be done (again: it failed, or never ended).

    Raises:
        UserError: the folder holds another run, or something that is no run.
    """
    found = contents(folder)
    if not found:
        return False
    if STATUS in found:
        status = read_status(folder)
        if status.id != run_id:
            raise UserError(
                f"{folder}: holds the run {status.id}, this one is {run_id}; name another folder with --out"
            )
        return status.state == "done"
    if suite.FILE in found:
        raise UserError(f"{folder}: holds a suite; name another folder with --out")
    if CONFIG not in found:
        raise UserError(f"{folder}: holds {found[0]} but no run; name another folder with --out")
    if folder.name != run_id and (folder / CONFIG).read_text(encoding="utf-8") != config:
        raise UserError(f"{folder}: holds an unfinished run of another config; delete it or name another with --out")
    return False


def begin(folder: Path, config: str) -> None:
    """Make ``folder``, remove what an earlier attempt left (the status first), and write ``config.yaml``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in reversed(FILES):
        (folder / name).unlink(missing_ok=True)
    remove_partial(folder)
    write_text(folder / CONFIG, config)


def remove_partial(folder: Path) -> None:
    """Remove what a process that was killed had begun to write."""
    for partial in folder.glob(PARTIAL + "*"):
        partial.unlink(missing_ok=True)


def write_environment(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write ``environment.json``, as `records.environment.environment` gives it."""
    write_json(folder / ENVIRONMENT, environment)


def write_data(folder: Path, data: Mapping[str, Any]) -> None:
    """Write ``data.json``; the table reads ``n_listed``, ``n_used`` and ``folds``."""
    write_json(folder / DATA, data)


def write_history(folder: Path, columns: Mapping[str, npt.ArrayLike]) -> None:
    """Write ``history.csv``: columns of one length, NaN as an empty field."""
    _write_columns(folder / HISTORY, columns)


def _write_columns(path: Path, columns: Mapping[str, npt.ArrayLike]) -> None:
    fields = [_fields(np.asarray(column)) for column in columns.values()]
    with atomic(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*fields, strict=True))


def _fields(column: npt.NDArray[Any]) -> list[Any]:
    """The values, "" for NaN."""
    absent = column != column
    if not absent.any():
        return list(column.tolist())
    fields: list[Any] = [""] * len(column)  # most of a column of validation scores
    for place in np.flatnonzero(~absent).tolist():
        fields[place] = column[place].item()
    return fields


def read_history(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the columns of ``history.csv``, NaN for an empty field.

    Raises:
        UserError: it is missing or broken.
    """
    path = folder / HISTORY
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        values = np.array([[float(field or "nan") for field in row] for row in rows]).reshape(-1, len(header))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a history: {error}") from error
    whole = ("seed", "fold", "iteration_number", "epoch")
    return {
        name: column.astype(np.int64) if name in whole else column
        for name, column in zip(header, values.T, strict=True)
    }


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Write ``predictions.npz``."""
    with atomic(folder / PREDICTIONS) as partial:
        predictions.save(partial)


def write_thresholds(folder: Path, tuned: thresholds.Thresholds) -> None:
    """Write ``thresholds.json``."""
    write_json(folder / THRESHOLDS, tuned.to_json())


def write_metrics(folder: Path, scored: Scores) -> None:
    """Write ``metrics.json``."""
    write_json(folder / METRICS, scored.to_json())


def write_reliability(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``reliability.csv``; undefined is empty."""
    names = list(rows[0]) if rows else []
    _write_columns(folder / RELIABILITY, {name: [row[name] for row in rows] for name in names})


def end(folder: Path, status: Status) -> None:
    """Write ``status.json``, which ends the run, and remove the checkpoints of one that is done."""
    write_json(folder / STATUS, dataclasses.asdict(status))
    if status.state == "done":
        _remove_checkpoints(folder)


def _remove_checkpoints(folder: Path) -> None:
    """Remove what only an unfinished run needs."""
    if (folder / CHECKPOINTS).exists():
        shutil.rmtree(folder / CHECKPOINTS)


def read_status(folder: Path) -> Status:
    """Read ``status.json``.

    Raises:
        UserError: it is missing or broken.
    """
    return read_as(Status, folder / STATUS)


def read(folder: Path) -> RunRecord:
    """Read the run in ``folder``.

    Raises:
        UserError: it has no status, or one of its files is broken.
    """
    status = read_status(folder)
    data, environment = (
        read_json(folder / name) if status.state == "done" or (folder / name).exists() else {}
        for name in (DATA, ENVIRONMENT)
    )
    return RunRecord(folder, status, data, environment)


def restore(record: RunRecord) -> None:
    """Write again what was deleted of the files that derive from predictions: thresholds, metrics, reliability.

    Metrics of another revision too. What was left behind by a process that was killed is removed.
    """
    remove_partial(record.folder)
    _remove_checkpoints(record.folder)
    if not (record.folder / THRESHOLDS).exists():
        write_thresholds(record.folder, record.thresholds)
    metrics = record.folder / METRICS
    if not metrics.exists() or read_json(metrics).get("revision") != scores.REVISION:
        write_metrics(record.folder, record.scores)
    if not (record.folder / RELIABILITY).exists():
        write_reliability(record.folder, record.reliability)
