"""The files of a run that derive from its predictions: read them, or compute again what is missing or out of date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import scores as scoring
from aimonk_bench.evaluation import thresholds as policies
from aimonk_bench.evaluation.scores import Calibrator, Scores
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.records import run
from aimonk_bench.records.files import checked, read_as, read_json
from aimonk_bench.records.run import RunRecord


@dataclass(frozen=True)
class _Config:
    """What scoring needs of ``config.yaml``."""

    threshold: Any
    calibration: Calibrator = "none"


def read_or_tune(record: RunRecord) -> Thresholds:
    """``thresholds.json``; where the file is missing, tuned again by the policy in ``config.yaml``.

    Raises:
        UserError: a file that is needed is missing or broken.
    """
    path = record.folder / run.THRESHOLDS
    if path.exists():
        return read_as(Thresholds, path)
    return policies.tune(record.predictions, _scoring(record)[0])


def read_or_score(record: RunRecord, thresholds: Thresholds) -> Scores:
    """``metrics.json``; where the file is missing or of another revision, computed again.

    Raises:
        UserError: a file that is needed is missing or broken.
    """
    content = _metrics(record)
    if content is not None:
        return Scores.from_json(content, str(record.folder / run.METRICS))
    return scoring.score(record.predictions, thresholds, *_scoring(record))


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
        run.write_reliability(record.folder, scoring.reliability(record.predictions, _scoring(record)[1]))


def _metrics(record: RunRecord) -> dict[str, Any] | None:
    """The content of ``metrics.json``; None where the file is missing or of another revision."""
    path = record.folder / run.METRICS
    content = read_json(path) if path.exists() else {}
    return content if content.get("revision") == scoring.REVISION else None


def _scoring(record: RunRecord) -> tuple[registry.Spec, Calibrator]:
    """The threshold policy and the calibrator that ``config.yaml`` names."""
    path = record.folder / run.CONFIG
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    config = checked(_Config, content, path)
    policy, problems = registry.check("threshold", policies.THRESHOLDS, config.threshold)
    if policy is None:
        raise UserError([f"{path}: threshold: {problem}" for problem in problems])
    return policy, config.calibration
