"""What ``config.yaml`` of a run says about scoring, threshold policy and calibrator, and about the split."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.scores import Calibrator
from aimonk_bench.evaluation.thresholds import THRESHOLDS
from aimonk_bench.plugins import Origin, Plugin
from aimonk_bench.records.files import checked


@dataclass(frozen=True)
class _Config:
    """What tuning and scoring need of ``config.yaml``."""

    threshold: Any
    calibration: Calibrator = "none"
    plugins: list[str] = field(default_factory=list)


def read(path: Path) -> tuple[registry.Spec, Calibrator]:
    """The threshold policy and the calibrator; the code of plug-ins is not executed.

    A policy of a plug-in is a name alone: whoever tunes thresholds by it gets a `UserError`.

    Raises:
        UserError: the file is missing or broken.
    """
    config = checked(_Config, _content(path), path)
    policy, problems = registry.check_by_attribute("threshold", THRESHOLDS, config.threshold)
    if policy is None and config.plugins:
        name = config.threshold.get("name") if isinstance(config.threshold, dict) else config.threshold
        names = ", ".join(config.plugins)
        return registry.Spec(str(name), origin=Origin(Plugin(names, names, None), "THRESHOLDS")), config.calibration
    if policy is None:
        raise UserError([f"{path}: threshold: {problem}" for problem in problems])
    return policy, config.calibration


def has_official_split(path: Path) -> bool:
    """Whether a column of the label file states the split; False where the file is missing or broken."""
    try:
        content = _content(path)
    except UserError:
        return False
    split = content.get("split") if isinstance(content, dict) else None
    return isinstance(split, dict) and split.get("scheme") == "column"


def _content(path: Path) -> Any:
    """What the YAML holds, unchecked.

    Raises:
        UserError: the file is missing or broken.
    """
    try:
        return yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
