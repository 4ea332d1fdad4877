"""How a run was made: its config, the versions of what made it, its weights and seconds; no paths of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import yaml

from aimonk_bench.errors import UserError
from aimonk_bench.records.run import CONFIG, RunRecord
from aimonk_bench.report.shortened import shortened


class Making(TypedDict):
    """Of a run: the text of its config, and (name, value) as text of its weights, of versions and seconds."""

    config: str
    weights: list[tuple[str, str]]
    versions: list[tuple[str, str]]


def making(record: RunRecord) -> Making:
    """How a finished run was made.

    Raises:
        UserError: its config cannot be read.
    """
    text = yaml.safe_dump(
        shortened(config_of(record)), sort_keys=False, default_flow_style=None, allow_unicode=True, width=100
    )
    environment = shortened(record.environment)
    weights = environment.pop("weights")
    seconds = {f"seconds: {phase}": f"{spent:.1f}" for phase, spent in record.status.seconds.items()}
    return Making(config=text, weights=_facts(weights), versions=_facts(environment | seconds))


def _facts(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values as text.

    >>> _facts({"git_commit": None, "cost": {"parameters": 3371008, "macs": None}, "non_commercial": False})
    [('git commit', 'not known'), ('cost', 'parameters 3,371,008, macs not known'), ('non commercial', 'no')]
    """
    return [(name.replace("_", " "), _text(value)) for name, value in content.items()]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}"
    return "not known" if value is None else str(value)


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
