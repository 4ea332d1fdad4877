"""The folder of a suite: ``suite.json``, ``statistics.json``, its runs, and which of them a table shows."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aimonk_bench.errors import UserError, count
from aimonk_bench.evaluation.scores import REVISION
from aimonk_bench.evaluation.statistics import Statistics
from aimonk_bench.records import run
from aimonk_bench.records.files import (
    IDLE,
    contents,
    derived,
    read_as,
    read_json,
    refuse_folders,
    remove_partial,
    write_json,
)
from aimonk_bench.records.run import RunRecord

logger = logging.getLogger(__name__)

FILE = run.SUITE
STATISTICS = "statistics.json"
DERIVED = (STATISTICS, "summary.csv", "summary.md", "missingness.png", "seconds.json")  # beside ``suite.json``
RUNS = "runs"
SHOWN = 6  # runs that a message names


@dataclass(frozen=True)
class SuiteRecord:
    """The content of ``suite.json``.

    Attributes:
        name: of the suite.
        fingerprint: of the data set, which all runs share.
        baseline: id of the baseline run.
        ids: of all runs in the order of the axes; each is a folder name under ``runs/``.
        names: the parts of the name of each run, in the same order: ``("focal(gamma=1.0)", "repeat_factor")``.
        skipped: id -> why, in one line, of the runs that are not executed, because their weights cannot be had.

    Raises:
        ValueError: there are more or fewer names than ids, or the baseline or a skipped run is not among the ids.
    """

    name: str
    fingerprint: str
    baseline: str
    ids: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.ids):
            raise ValueError(f"found {len(self.names)} names, expected one for each of {len(self.ids)} ids")
        if self.baseline not in self.ids:
            raise ValueError(f"found the baseline {self.baseline}, expected one of the ids")
        if strange := sorted(self.skipped.keys() - set(self.ids)):
            raise ValueError(f"found the skipped runs {', '.join(strange)}, expected some of the ids")


@dataclass(frozen=True, eq=False)
class Collection:
    """The runs that one table shows: those of a suite, or a single run.

    Attributes:
        folder: of the suite or of the run.
        name: of the suite; None for a single run.
        baseline: id of the baseline run; None for a single run.
        names: run id -> the parts of its name, for every run of the suite, in order.
        records: run id -> the run, for those that ended, in the same order.
        damaged: run id -> why a run that ended cannot be shown, in the same order.
        skipped: run id -> why it is not executed: its weights cannot be had.
        left_out: names of folders under ``runs/`` that belong to no run of this suite, sorted.
    """

    folder: Path
    name: str | None
    baseline: str | None
    names: Mapping[str, tuple[str, ...]]
    records: Mapping[str, RunRecord]
    damaged: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def finished(self) -> list[RunRecord]:
        """The runs that are done, in order; they have figures."""
        return [record for record in self.records.values() if record.done]

    @property
    def comparable(self) -> list[RunRecord]:
        """The finished runs that the newest code among them made, in order; runs of older code have other numbers."""
        newest = max((record.status.revision or 0 for record in self.finished), default=0)
        return [record for record in self.finished if (record.status.revision or 0) == newest]

    @property
    def failed(self) -> list[RunRecord]:
        """The runs that failed, in order."""
        return [record for record in self.records.values() if not record.done]

    @property
    def missing(self) -> list[str]:
        """Ids of the runs that have not ended and are not skipped, in order."""
        there = {*self.records, *self.damaged, *self.skipped}
        return [run_id for run_id in self.names if run_id not in there]

    def without(self, damaged: Mapping[str, str]) -> Collection:
        """The same runs; these, id -> why, are found to be damaged."""
        reasons = {**self.damaged, **damaged}
        return dataclasses.replace(
            self,
            records={run_id: record for run_id, record in self.records.items() if run_id not in damaged},
            damaged={run_id: reasons[run_id] for run_id in self.names if run_id in reasons},
        )


def claim(folder: Path, suite: SuiteRecord) -> None:
    """Check that a suite may write into ``folder``: it is new, empty, or holds a suite whose results this one keeps.

    Every finished run of the suite there must be a run of this one too: a suite may go on, and may gain runs. Not so
    the runs of another `run.REVISION`, whose ids differ from those of the same config now. Where ``suite.json`` is
    lost, that is logged and the runs that ended are taken up.

    Raises:
        UserError: the folder holds results of another config or anything else, or folders in the place of files.
    """
    names = contents(folder, without=run.LABELS)
    refuse_folders(folder, (FILE, *DERIVED))
    contents(folder / RUNS)  # refuses a file in its place
    if FILE not in names and _has_runs(folder):
        logger.warning("%s: %s is lost and written again; the runs under %s/ are taken up", folder, FILE, RUNS)
    elif names and FILE not in names:
        raise UserError(f"{folder}: holds {names[0]} but no {FILE}; name another output folder")
    if FILE in names:
        _refuse_other(folder, suite)


def _refuse_other(folder: Path, suite: SuiteRecord) -> None:
    """Refuse a suite that leaves out finished runs of the suite in ``folder``; a damaged list of those is replaced.

    A run that is skipped, because its weights cannot be had any more, has another id than when it was finished.
    """
    try:
        earlier = read_as(SuiteRecord, folder / FILE)
    except UserError:
        return  # `write` logs it
    names = dict(zip(earlier.ids, earlier.names, strict=True))
    left_out = [run_id for run_id in earlier.ids if run_id not in suite.ids]
    finished = [names[run_id] for run_id in left_out if is_finished(folder / RUNS / run_id)]
    if not finished:
        return
    number, listed = count(len(finished), "finished run"), "; ".join(map(" + ".join, finished[:SHOWN]))
    runs = f"({listed}{'; ...' if len(finished) > SHOWN else ''})"
    skipped = {parts for run_id, parts in zip(suite.ids, suite.names, strict=True) if run_id in suite.skipped}
    if skipped.issuperset(finished):
        raise UserError(
            f"{folder}: holds {number} {runs} whose weights cannot be had any more, and its summary.* would be "
            "replaced without them; fix: the weights where they were, or another output folder"
        )
    other = "another config" if earlier.fingerprint == suite.fingerprint else "another data set"
    raise UserError(
        f"{folder}: holds results of {other}: {number} of the suite {earlier.name} that this suite does not have "
        f"{runs}, and its summary.* would be replaced; name another output folder"
    )


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a run of this `run.REVISION` that is done; one without a readable status is not."""
    try:
        status = read_as(run.Status, folder / run.STATUS)
    except UserError:
        return False
    return status.state == "done" and status.revision == run.REVISION


def _has_runs(folder: Path) -> bool:
    return any(folder.glob(f"{RUNS}/*/{run.STATUS}"))


def can_go_on(folder: Path) -> bool:
    """Whether an interrupted run or suite left what the same command goes on from: runs that ended, or checkpoints."""
    return _has_runs(folder) or any(folder.glob(f"**/{run.CHECKPOINTS}/*.pt"))


def write(folder: Path, suite: SuiteRecord) -> None:
    """Write ``suite.json`` and make ``runs/``; runs that are already there stay, old temporary files do not.

    Where ``suite.json`` lists runs that are not of this suite, that is logged.
    """
    _log_replaced(folder / FILE, suite)
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial(folder, IDLE)
    write_json(folder / FILE, dataclasses.asdict(suite))  # first: a folder without it is not taken for a suite
    (folder / RUNS).mkdir(exist_ok=True)


def _log_replaced(path: Path, suite: SuiteRecord) -> None:
    """Log which runs of the suite in a folder another suite leaves out."""
    if not path.exists():
        return
    try:
        earlier = read_as(SuiteRecord, path)
    except UserError as error:
        logger.warning("suite.json is replaced: %s", error)
        return
    if left_out := [run_id for run_id in earlier.ids if run_id not in {*suite.ids, *earlier.skipped}]:
        logger.warning(
            "%s: %s: %d of its %d runs are no longer in the table; their folders stay under %s/. "
            "To keep both suites, name another output folder",
            path.parent,
            f"the suite {earlier.name} of this folder "
            + ("has other runs now" if suite.name == earlier.name else f"is replaced by {suite.name}"),
            len(left_out),
            len(earlier.ids),
            RUNS,
        )


def collect(folder: Path) -> Collection:
    """Read the runs of a suite, or the single run in ``folder``; a damaged run of a suite costs no other.

    Raises:
        UserError: the folder holds neither, or ``suite.json`` or the single run is damaged.
    """
    if (folder / FILE).exists():
        suite, runs = read_as(SuiteRecord, folder / FILE), folder / RUNS
        records, damaged = {}, {}
        for run_id in suite.ids:
            if run_id in suite.skipped or not (runs / run_id / run.STATUS).exists():
                continue
            try:
                record = run.read(runs / run_id)
                if record.status.id != run_id:
                    raise UserError(f"{runs / run_id / run.STATUS}: found the status of {record.status.id}")
                records[run_id] = record
            except UserError as error:
                damaged[run_id] = error.problems[0]
        folders = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
        return Collection(
            folder=folder,
            name=suite.name,
            baseline=suite.baseline,
            names=dict(zip(suite.ids, suite.names, strict=True)),
            records=records,
            damaged=damaged,
            skipped=suite.skipped,
            left_out=tuple(name for name in folders if name not in suite.ids),
        )
    if (folder / run.STATUS).exists():
        record = run.read(folder)
        run_id, parts = record.status.id, record.status.name
        return Collection(folder, None, None, {run_id: parts}, {run_id: record})
    unfinished = " (the folder holds an unfinished run)" if (folder / run.CONFIG).exists() else ""
    if _has_runs(folder):
        unfinished = f"; {FILE} is lost: the same `aimonk-bench suite` command writes it again and keeps the runs"
    below = sorted(path for path in folder.glob("*/") if (path / FILE).exists() or (path / run.STATUS).exists())
    if below and not unfinished:
        unfinished = f", such as {', '.join(map(str, below[:SHOWN]))}"
    raise UserError(f"{folder}: expected a folder with {FILE} or {run.STATUS}{unfinished}")


def write_statistics(folder: Path, statistics: Statistics, skipped: Mapping[str, str] | None = None) -> None:
    """Write ``statistics.json``, with the runs that were skipped: id -> why."""
    write_json(folder / STATISTICS, statistics.to_json() | {"skipped": dict(skipped or {})})


def read_statistics(folder: Path) -> Statistics | None:
    """Read ``statistics.json``; None where the file is missing, damaged or of another revision."""

    def load(path: Path) -> Statistics | None:
        return read_as(Statistics, path) if read_json(path).get("revision") == REVISION else None

    return derived(folder / STATISTICS, load)
