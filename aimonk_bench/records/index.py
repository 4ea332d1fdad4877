"""Find the runs in a folder: those of a suite, or the single run whose folder it is."""

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
        folder: of the suite or of the run.
        name: of the suite; None for a single run.
        baseline: id of the baseline run; None for a single run.
        names: run id -> the parts of its name, for every run of the suite, in order.
        records: run id -> the run, for those that ended, in the same order.
        left_out: names of folders under ``runs/`` that belong to no run of this suite, sorted.
    """

    folder: Path
    name: str | None
    baseline: str | None
    names: Mapping[str, tuple[str, ...]]
    records: Mapping[str, RunRecord]
    left_out: tuple[str, ...] = ()

    @property
    def finished(self) -> list[RunRecord]:
        """The runs that are done, in order; they have figures."""
        return [record for record in self.records.values() if record.done]

    @property
    def failed(self) -> list[RunRecord]:
        """The runs that failed, in order."""
        return [record for record in self.records.values() if not record.done]

    @property
    def missing(self) -> list[str]:
        """Ids of the runs that have not ended, in order."""
        return [run_id for run_id in self.names if run_id not in self.records]


def collect(folder: Path) -> Collection:
    """Read the runs of a suite, or the single run in ``folder``.

    Raises:
        UserError: the folder holds neither, or one of its files is broken.
    """
    if (folder / suite.FILE).exists():
        return _of_suite(folder)
    if (folder / run.STATUS).exists():
        record = run.read(folder)
        run_id, parts = record.status.id, record.status.name
        return Collection(folder, None, None, {run_id: parts}, {run_id: record})
    unfinished = " (the folder holds an unfinished run)" if (folder / run.CONFIG).exists() else ""
    raise UserError(f"{folder}: expected a folder with {suite.FILE} or {run.STATUS}{unfinished}")


def _of_suite(folder: Path) -> Collection:
    record = suite.read(folder)
    runs = folder / suite.RUNS
    folders = sorted(path.name for path in runs.iterdir() if path.is_dir())
    ended = [run_id for run_id in record.ids if (runs / run_id / run.STATUS).exists()]
    return Collection(
        folder=folder,
        name=record.name,
        baseline=record.baseline,
        names=dict(zip(record.ids, record.names, strict=True)),
        records={run_id: run.read(runs / run_id) for run_id in ended},
        left_out=tuple(name for name in folders if name not in record.ids),
    )
