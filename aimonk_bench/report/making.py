"""How a run was made: its config, the versions of what made it, its weights and seconds; no paths of the machine."""

from __future__ import annotations

from typing import Any, TypedDict

import yaml

from aimonk_bench.errors import UserError
from aimonk_bench.records.run import CONFIG, RunRecord
from aimonk_bench.report.shortened import shortened


class Making(TypedDict):
    """Of a run: the text of its config, the facts of ``environment.json`` and the seconds of its phases."""

    config: str
    environment: dict[str, Any]
    seconds: dict[str, float]


def making(record: RunRecord) -> Making:
    """How a finished run was made.

    Raises:
        UserError: its config cannot be read.
    """
    text = yaml.safe_dump(
        shortened(config_of(record)), sort_keys=False, default_flow_style=None, allow_unicode=True, width=100
    )
    return Making(config=text, environment=shortened(record.environment), seconds=dict(record.status.seconds))


def config_of(record: RunRecord) -> dict[str, Any]:
    """The content of ``config.yaml`` as plain data; nothing in it is executed.

    Raises:
        UserError: the file cannot be read.
    """
    path = record.folder / CONFIG
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: found a {type(content).__name__}, expected a map of the keys of a config")
    return content
