"""Small suites through the command line, in this process, and what their folders hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from aimonk_bench import cli
from aimonk_bench.config import loader
from aimonk_bench.suite import plan
from aimonk_bench.suite.plan import Plan
from aimonk_bench.tables import TABLES


def execute(config: Path, out: Path, *sets: str) -> int:
    """The exit code of the command `suite`."""
    overrides = [word for override in sets for word in ("--set", override)]
    return cli.main(["suite", str(config), "--out", str(out), "--quiet", *overrides])


def planned(config: Path, *overrides: str) -> Plan:
    """The plan of a suite or of a run."""
    if loader.is_suite(config):
        return plan.plan_suite(loader.load_suite(config, TABLES, overrides))
    return plan.plan_run(loader.load(config, TABLES, overrides))


def no_progress(phase: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(suite: Path) -> list[dict[str, Any]]:
    """The statuses of all runs that ended."""
    return [json.loads(path.read_text()) for path in suite.rglob("status.json")]


def files_of_runs(suite: Path) -> dict[Path, bytes]:
    """Every file of every run but those that hold times or paths."""
    files = [path for path in (suite / "runs").rglob("*") if path.is_file()]
    varying = ("status.json", "config.yaml", "environment.json")
    return {path.relative_to(suite): path.read_bytes() for path in files if path.name not in varying}
