"""Which run of a folder is exported, what the statistics say of it, and whether its plug-ins must be executed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from aimonk_bench.backbones import catalog
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
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.serving.heads import Kind
from aimonk_bench.tables import RECORDED, tables

Which = Literal["selected", "simplest"]


@dataclass(frozen=True, eq=False)
class Choice:
    """A finished run to export.

    Attributes:
        record: its files.
        config: from its ``config.yaml``, with the backbone that was used. Plug-ins are only named, see `executable`.
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


def choose(folder: Path, run: str | None = None, which: Which | None = None) -> Choice:
    """The run to export; no code of its plug-ins is executed.

    Args:
        folder: of a run or a suite.
        run: its id; None takes the only run, or of a suite the one that ``which`` says.
        which: of a suite, "selected": chosen on validation rows; "simplest" (None too): the simplest that is not
            distinguishable from it.

    Raises:
        UserError: the folder holds no run, there is none of that id, it is not finished, or ``which`` is of no use.
    """
    if run is not None and which is not None:
        raise UserError("run and which: found both, expected one: run names the run that which would choose")
    collection = suite.collect(folder)
    if collection.name is None and which is not None:
        raise UserError(f"which: found {which}, expected nothing, because {folder} holds a single run; leave it out")
    reason: Literal["only", "named", "selected", "simplest"] = "named"
    summarized = summary.summarize(collection)
    collection, statistics = summarized.collection, summarized.statistics
    if run is None and collection.name is None:
        (run,) = collection.names
        reason = "only"
    elif run is None:
        reason = which or "simplest"
        run = _selected(summarized, reason)
    elif run not in collection.names:
        names = ", ".join(collection.names)
        raise UserError(f"run: found {run!r}, expected one of {names}{hint(run, collection.names)}")
    record = collection.records.get(run)
    if record is None or not record.done:
        raise UserError(f"{folder}: {_state(collection, run)}, so it has no head to export")
    of_suite = statistics is not None and run in (statistics.winner, *statistics.verdict.indistinguishable)
    if not of_suite:
        statistics = summary.summarize(suite.collect(record.folder)).statistics
    assert statistics is not None  # of a finished run
    config = _with_used_backbone(loader.load(record.folder / runs.CONFIG, RECORDED, check_paths=False), record)
    return Choice(record, config, reason, statistics, of_suite and collection.name is not None)


def _selected(summarized: Summary, which: Which) -> str:
    """The id of the run of a suite that ``which`` says.

    Raises:
        UserError: no run is selected.
    """
    collection, selection = summarized.collection, summarized.selection
    if not collection.finished:
        states = [_state(collection, run_id) for run_id in collection.names]
        raise UserError([f"{collection.folder}: no run is finished, so there is nothing to export", *states])
    if selection is None:
        names = ", ".join(record.status.id for record in collection.finished)
        raise UserError(
            f"{collection.folder}: no run has an F1 on validation rows, so none is selected; fix: name a run ({names})"
        )
    return selection.run if which == "selected" else selection.simplest


def executes_plugins(config: Config, kind: Kind) -> bool:
    """Whether a head can be exported only by executing code of plug-ins.

    Weights and thresholds of a seed are stored. The thresholds of the mean are tuned anew; training again needs what
    trains; a backbone outside the catalog may be that of a plug-in, which is needed in any case.
    """
    used = {
        "seed": (),
        "mean": (config.threshold, *config.threshold.attributes.values()),
        "refit": (config.loss, config.missing, config.sampler),
    }
    if not config.plugins:
        return False
    return any(spec.origin is not None for spec in used[kind]) or config.backbone.name not in catalog.CATALOG


def executable(chosen: Choice, kind: Kind, *, allow_plugins: bool) -> Choice:
    """The run with the code of its plug-ins where this head needs it, else without plug-ins.

    Raises:
        UserError: the code may not be executed, cannot be, or is another one than that of the run.
    """
    record, config = chosen.record, chosen.config
    if not executes_plugins(config, kind):
        return replace(chosen, config=config.model_copy(update={"plugins": []}))
    config = loader.load(record.folder / runs.CONFIG, tables(allow_plugins=allow_plugins), check_paths=False)
    expected, file = [plugin["sha256"] for plugin in record.environment["plugins"]], record.folder / runs.ENVIRONMENT
    problems = [
        f"{plugin.file}: found the SHA-256 {plugin.sha256}, expected {' or '.join(expected)} as in {file}, because the "
        "plug-in has changed since the run; fix: put back the code of the run, or run again"
        for plugin in config.plugins
        if plugin.sha256 not in expected
    ]
    if problems:
        raise UserError(problems)
    return replace(chosen, config=_with_used_backbone(config, record))


def _with_used_backbone(config: Config, record: RunRecord) -> Config:
    """The config with the backbone that was used, which may be the declared fallback."""
    weights = record.environment["weights"]
    if weights["name"] == weights["requested"]:
        return config
    backbone = config.backbone.model_copy(update={"name": weights["name"], "weights": "imagenet", "fallback": None})
    return config.model_copy(update={"backbone": backbone})


def _state(collection: Collection, run_id: str) -> str:
    """Why a run has no figures."""
    if run_id in collection.skipped:
        return f"run {run_id} was skipped ({collection.skipped[run_id]})"
    if run_id in collection.damaged:
        return f"run {run_id} is damaged ({collection.damaged[run_id]})"
    if run_id in collection.records:
        return f"run {run_id} failed ({collection.records[run_id].status.reason})"
    return f"run {run_id} has not ended; the command that began it goes on with it"
