"""The files of a run that derive from its predictions: read them, or compute again what is missing or out of date."""

from __future__ import annotations

from typing import Any, get_args

import yaml

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import scores as scoring
from aimonk_bench.evaluation import thresholds as policies
from aimonk_bench.evaluation.scores import Calibrator, Scores
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.records import run
from aimonk_bench.records.files import read_json
from aimonk_bench.records.run import RunRecord


def read_or_tune(record: RunRecord) -> Thresholds:
    """``thresholds.json``; where the file is missing, tuned again by the policy in ``config.yaml``.

    Raises:
        UserError: a file that is needed is missing or broken.
    """
    path = record.folder / run.THRESHOLDS
    return Thresholds.load(path) if path.exists() else policies.tune(record.predictions, _policy(record))


def read_or_score(record: RunRecord, thresholds: Thresholds) -> Scores:
    """``metrics.json``; where the file is missing or of another revision, computed again.

    Raises:
        UserError: a file that is needed is missing or broken.
    """
    content = _metrics(record)
    if content is not None:
        return Scores.from_json(content, str(record.folder / run.METRICS))
    return scoring.score(record.predictions, thresholds, _policy(record), _calibrator(record))


def restore(record: RunRecord) -> None:
    """Write again the derived files that are missing or of another revision, and delete what a killed process left.

    Raises:
        UserError: a file that is needed is missing or broken.
    """
    run.remove_partial(record.folder)
    run.remove_checkpoints(record.folder)
    thresholds = read_or_tune(record)
    if not (record.folder / run.THRESHOLDS).exists():
        run.write_thresholds(record.folder, thresholds)
    if _metrics(record) is None:
        run.write_metrics(record.folder, read_or_score(record, thresholds))
    if not (record.folder / run.RELIABILITY).exists():
        run.write_reliability(record.folder, scoring.reliability(record.predictions, _calibrator(record)))


def _metrics(record: RunRecord) -> dict[str, Any] | None:
    """The content of ``metrics.json``; None where the file is missing or of another revision."""
    path = record.folder / run.METRICS
    content = read_json(path) if path.exists() else {}
    return content if content.get("revision") == scoring.REVISION else None


def _config(record: RunRecord) -> dict[str, Any]:
    """``config.yaml`` as plain data."""
    path = record.folder / run.CONFIG
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: found a {type(content).__name__}, expected a map")
    return content


def _policy(record: RunRecord) -> registry.Spec:
    spec, problems = registry.check("threshold", policies.THRESHOLDS, _config(record).get("threshold"))
    if spec is None:
        raise UserError([f"{record.folder / run.CONFIG}: threshold: {problem}" for problem in problems])
    return spec


def _calibrator(record: RunRecord) -> Calibrator:
    calibrator: Calibrator = _config(record).get("calibration", "none")
    if calibrator not in get_args(Calibrator):
        raise UserError(f"{record.folder / run.CONFIG}: calibration: found {calibrator!r}, expected none or platt")
    return calibrator
