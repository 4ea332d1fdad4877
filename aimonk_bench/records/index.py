"""Finding the runs of a folder: those of a suite, or the single run that the folder is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aimonk_bench.errors import UserError
from aimonk_bench.records import run, suite
from aimonk_bench.records.run import RunRecord


@dataclass(frozen=True, eq=False)
class Collection:
    """The runs that one table shows.

    Attributes:
        folder: where they lie.
        name: of the suite or of the run.
        baseline: id of the baseline run; None for a single run.
        names: id -> the name a reader sees, of every run that belongs here, in order.
        records: id -> the run, of those that ended, in the same order.
        left_out: folders under ``runs/`` that belong to no run of this suite, sorted.
    """

    folder: Path
    name: str
    baseline: str | None
    names: Mapping[str, str]
    records: Mapping[str, RunRecord]
    left_out: tuple[str, ...] = ()

    @property
    def finished(self) -> list[RunRecord]:
        """The runs that have figures, in order."""
        return [record for record in self.records.values() if record.done]

    @property
    def failed(self) -> list[RunRecord]:
        """The runs that failed, in order."""
        return [record for record in self.records.values() if not record.done]

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Id and name of the runs that have not ended, in order."""
        return [(run_id, name) for run_id, name in self.names.items() if run_id not in self.records]


def collect(folder: Path) -> Collection:
    """The runs of a suite, or the one run in ``folder``.

    Raises:
        UserError: ``folder`` holds neither, or a file of it is broken.
    """
    if (folder / suite.FILE).exists():
        return _suite(folder)
    if (folder / run.STATUS).exists():
        record = run.read(folder)
        run_id, name = record.status.id, record.status.name
        return Collection(folder, name, None, {run_id: name}, {run_id: record})
    unfinished = " (an unfinished run is there)" if (folder / run.CONFIG).exists() else ""
    raise UserError(f"{folder}: expected a folder with {suite.FILE} or {run.STATUS}{unfinished}")


def _suite(folder: Path) -> Collection:
    found = suite.read(folder)
    runs = folder / suite.RUNS
    ended = [run_id for run_id in found.ids if (runs / run_id / run.STATUS).exists()]
    others = sorted(path.name for path in runs.iterdir() if path.is_dir() and path.name not in found.names)
    return Collection(
        folder=folder,
        name=found.name,
        baseline=found.baseline,
        names={run_id: found.names[run_id] for run_id in found.ids},
        records={run_id: run.read(runs / run_id) for run_id in ended},
        left_out=tuple(others),
    )
