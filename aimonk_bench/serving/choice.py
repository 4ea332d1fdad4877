"""Which run of a folder is exported, and what the statistics say of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aimonk_bench.config import loader
from aimonk_bench.config.fields import Config
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.statistics import Statistics
from aimonk_bench.records import run as runs
from aimonk_bench.records import suite
from aimonk_bench.records.run import RunRecord
from aimonk_bench.records.suite import Collection
from aimonk_bench.registry import hint
from aimonk_bench.reporting import summary
from aimonk_bench.tables import tables

Which = Literal["selected", "simplest"]


@dataclass(frozen=True, eq=False)
class Choice:
    """A finished run to export.

    Attributes:
        record: its files.
        config: from its ``config.yaml``, with the backbone that was used.
        reason: why it is this run: "only", of a folder of a single run; "named"; "selected" or "simplest" of a suite.
        statistics: of the suite, where the run is the selected one or not distinguishable from it; else of this run
            alone, because the suite's are about the selected runs.
        of_suite: whether they are those of the suite.
    """

    record: RunRecord
    config: Config
    reason: Literal["only", "named", "selected", "simplest"]
    statistics: Statistics
    of_suite: bool

    @property
    def better_than_guessing(self) -> bool:
        """Whether any attribute is shown to gain over the all-positive baseline."""
        return self.statistics.signal.outcome == "gain"


def choose(folder: Path, run: str | None = None, which: Which = "simplest", *, allow_plugins: bool = False) -> Choice:
    """The run to export.

    Args:
        folder: of a run or a suite.
        run: its id; None takes the only run, or of a suite the one that ``which`` says.
        which: "selected": chosen on validation rows; "simplest": the simplest that is not distinguishable from it.
        allow_plugins: the plug-ins of the run may be executed.

    Raises:
        UserError: the folder holds no run, there is none of that id, or it is not finished.
    """
    collection = suite.collect(folder)
    reason: Literal["only", "named", "selected", "simplest"] = "named"
    summarized = summary.summarize(collection)
    collection, statistics = summarized.collection, summarized.statistics
    if run is None and len(collection.names) == 1:
        (run,) = collection.names
        reason = "only"
    elif run is None:
        if statistics is None:
            raise UserError([f"{folder}: no run is finished, so there is nothing to export", *_states(collection)])
        run = statistics.verdict.run if which == "selected" else statistics.verdict.simplest
        reason = which
    elif run not in collection.names:
        names = ", ".join(collection.names)
        raise UserError(f"--run: found {run!r}, expected one of {names}{hint(run, collection.names)}")
    record = collection.records.get(run)
    if record is None or not record.done:
        raise UserError(f"{folder}: {_state(collection, run)}, so it has no head to export")
    of_suite = statistics is not None and run in (statistics.winner, *statistics.verdict.indistinguishable)
    if not of_suite:
        statistics = summary.summarize(suite.collect(record.folder)).statistics
    assert statistics is not None  # of a finished run
    return Choice(record, _config(record, allow_plugins), reason, statistics, of_suite and collection.name is not None)


def _config(record: RunRecord, allow_plugins: bool) -> Config:
    """The config of a run, with the backbone that was used, which may be the declared fallback."""
    config = loader.load(record.folder / runs.CONFIG, tables(allow_plugins=allow_plugins), check_paths=False)
    weights = record.environment["weights"]
    if weights["name"] == weights["requested"]:
        return config
    backbone = config.backbone.model_copy(update={"name": weights["name"], "weights": "imagenet", "fallback": None})
    return config.model_copy(update={"backbone": backbone})


def _states(collection: Collection) -> list[str]:
    return [_state(collection, run_id) for run_id in collection.names]


def _state(collection: Collection, run_id: str) -> str:
    """Why a run has no figures."""
    if run_id in collection.skipped:
        return f"run {run_id} was skipped ({collection.skipped[run_id]})"
    if run_id in collection.damaged:
        return f"run {run_id} is damaged ({collection.damaged[run_id]})"
    if run_id in collection.records:
        return f"run {run_id} failed ({collection.records[run_id].status.reason})"
    return f"run {run_id} has not ended; the command that began it goes on with it"
