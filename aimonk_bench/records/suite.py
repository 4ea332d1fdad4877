"""The files of a suite: ``suite.json``, its runs in order with their names, and ``statistics.json``."""

from __future__ import annotations

import dataclasses
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
        fingerprint: of the data set, which all runs share.
        baseline: id of the baseline run.
        ids: of all runs in the order of the axes; each is a folder name under ``runs/``.
        names: the parts of the name of each run, in the same order: ``("focal(gamma=1.0)", "repeat_factor")``.

    Raises:
        ValueError: there are more or fewer names than ids, or the baseline is not among the ids.
    """

    name: str
    fingerprint: str
    baseline: str
    ids: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.ids):
            raise ValueError(f"found {len(self.names)} names, expected one for each of {len(self.ids)} ids")
        if self.baseline not in self.ids:
            raise ValueError(f"found the baseline {self.baseline}, expected one of the ids")


def claim(folder: Path) -> None:
    """Check that a suite may write into ``folder``: it is new, empty, or holds a suite, which the new one replaces.

    Raises:
        UserError: the folder holds anything else.
    """
    names = contents(folder)
    if names and FILE not in names:
        raise UserError(f"{folder}: holds {names[0]} but no {FILE}; name another folder with --out")


def write(folder: Path, suite: SuiteRecord) -> None:
    """Write ``suite.json`` and make ``runs/``; runs that are already there stay."""
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, dataclasses.asdict(suite))


def read(folder: Path) -> SuiteRecord:
    """Read ``suite.json``.

    Raises:
        UserError: the file is missing or broken.
    """
    return read_as(SuiteRecord, folder / FILE)


def write_statistics(folder: Path, statistics: Statistics) -> None:
    """Write ``statistics.json``."""
    write_json(folder / STATISTICS, dataclasses.asdict(statistics))


def read_statistics(folder: Path) -> Statistics | None:
    """Read ``statistics.json``; None where the file is missing or of another revision.

    Raises:
        UserError: the file is broken.
    """
    path = folder / STATISTICS
    current = path.exists() and read_json(path).get("revision") == REVISION
    return read_as(Statistics, path) if current else None
