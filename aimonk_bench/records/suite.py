"""``suite.json``: which runs make up a suite, in which order, under which names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.scores import REVISION
from aimonk_bench.evaluation.statistics import Statistics
from aimonk_bench.records.files import contents, read_as, read_json, write_json

FILE = "suite.json"
STATISTICS = "statistics.json"
RUNS = "runs"


@dataclass(frozen=True)
class SuiteRecord:
    """The content of ``suite.json``.

    Attributes:
        name: of the suite.
        fingerprint: of the data that its runs share.
        baseline: id of the baseline run.
        ids: of all runs, in the order of the axes; the folder names under ``runs/``.
        names: id -> the name a reader sees, "focal(gamma=1.0) + repeat_factor".
    """

    name: str
    fingerprint: str
    baseline: str
    ids: tuple[str, ...]
    names: Mapping[str, str]


def claim(folder: Path) -> None:
    """Check that a suite may write into ``folder``: it is new, empty, or holds a suite, which the new one replaces.

    Raises:
        UserError: it holds anything else.
    """
    found = contents(folder)
    if found and FILE not in found:
        raise UserError(f"{folder}: holds {found[0]} but no {FILE}; name another folder with --out")


def write(folder: Path, suite: SuiteRecord) -> None:
    """Write ``suite.json``, making ``folder`` and its ``runs/`` if need be; runs that are there stay."""
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, dataclasses.asdict(suite))


def read(folder: Path) -> SuiteRecord:
    """Read ``suite.json``.

    Raises:
        UserError: it is missing or broken.
    """
    path = folder / FILE
    suite = read_as(SuiteRecord, path)
    nameless = [run_id for run_id in suite.ids if run_id not in suite.names]
    if nameless:
        raise UserError(f"{path}: has no name for {', '.join(nameless)}")
    return suite


def write_statistics(folder: Path, statistics: Statistics) -> None:
    """Write ``statistics.json``."""
    write_json(folder / STATISTICS, dataclasses.asdict(statistics))


def read_statistics(folder: Path) -> Statistics | None:
    """Read ``statistics.json``; None if there is none of this revision.

    Raises:
        UserError: it is broken.
    """
    path = folder / STATISTICS
    current = path.exists() and read_json(path).get("revision") == REVISION
    return read_as(Statistics, path) if current else None
