"""Experiments and audits as Python functions: they raise `UserError` and `RunFailed`, and neither print nor exit."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from aimonk_bench.api.label_frames import placed
from aimonk_bench.api.progress import Report, Reporter
from aimonk_bench.api.results import Result, Run, Suite
from aimonk_bench.arguments import above_zero, flag, instance, path, wrong
from aimonk_bench.config import loader
from aimonk_bench.config.fields import Config
from aimonk_bench.config.loader import Source
from aimonk_bench.config.overrides import Overrides
from aimonk_bench.config.tables import Tables
from aimonk_bench.errors import Resumable
from aimonk_bench.evaluation.audit import Audit as AuditRecord
from aimonk_bench.progress import Progress
from aimonk_bench.records import suite as suites
from aimonk_bench.records.files import dumps
from aimonk_bench.reporting import audit as reports
from aimonk_bench.reporting.findings import findings
from aimonk_bench.suite import costs, inspection, plan, preview, runner
from aimonk_bench.suite.clock import Clock
from aimonk_bench.suite.plan import Plan
from aimonk_bench.tables import tables

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

RESULTS = Path("experiments")  # below it stand the results of a config that names no folder
R = TypeVar("R", Run, Suite)


def run(
    config: Source,
    overrides: Overrides = None,
    *,
    out: str | os.PathLike[str] | None = None,
    progress: Report = False,
    allow_plugins: bool = False,
    clock: Clock | None = None,
    budget_hours: float | None = None,
) -> Run:
    """Execute one experiment, as `aimonk-bench run` does: the same id, the same files.

    A run that the folder holds already is not executed again. Messages go to the logger ``aimonk_bench``.

    Args:
        config: a YAML file, a dict of what it would hold (relative paths are relative to the working directory; its
            section ``data`` may be `labels` of a DataFrame), or a config such as `Run.config`.
        overrides: a dict of keys and values, such as ``{"train.lr": 1e-4, "loss": "focal"}``; or texts as for --set.
        out: the folder of the results; default ``experiments/NAME``.
        progress: True shows progress on a terminal and in a notebook, and nothing elsewhere; or a function of the
            phase ("encode", "train", ...), of what is done and of the total, None where it is not known. An exception
            that the function raises ends the call; the same call goes on from what was done.
        allow_plugins: the code that the config names under ``plugins`` may be executed.
        clock: counts the seconds of a command that began before.
        budget_hours: refuse, before anything is written, what would take more hours at the speeds that this machine
            has measured; what was never measured is named in a warning.

    Returns:
        The run, whose files are read when they are needed.

    Raises:
        UserError: config, data or options are wrong, or the folder holds something else; nothing was written.
        RunFailed: the run failed, for the reason that ``status.json`` holds too.
        Resumable: a KeyboardInterrupt after which the same call goes on from what was done.
    """
    names = tables(allow_plugins=flag("allow_plugins", allow_plugins))
    execute, reporter = partial(_run, _hours(budget_hours)), Reporter(progress)
    return _execute(Run, execute, config, overrides, out, reporter, names, _clock(clock))


def suite(
    config: Source,
    overrides: Overrides = None,
    *,
    out: str | os.PathLike[str] | None = None,
    progress: Report = False,
    allow_plugins: bool = False,
    clock: Clock | None = None,
    budget_hours: float | None = None,
) -> Suite:
    """Execute every run of a suite that is not done yet, as `aimonk-bench suite` does; arguments are those of `run`.

    Several processes, on one machine or on several that share a file system, may execute the same suite in one folder:
    each run is done once, and all of them return when it is complete.

    Returns:
        The suite. A run that failed does not end it: see `Suite.unfinished`, `failed_again` and `unwritten`.

    Raises:
        UserError: config, data or options are wrong, or the folder holds something else; nothing was written.
        Resumable: a KeyboardInterrupt after which the same call goes on from what was done.
    """
    names = tables(allow_plugins=flag("allow_plugins", allow_plugins))
    execute, reporter = partial(_suite, _hours(budget_hours)), Reporter(progress)
    return _execute(Suite, execute, config, overrides, out, reporter, names, _clock(clock))


def _clock(clock: Clock | None) -> Clock:
    return Clock() if clock is None else instance("clock", clock, Clock)


def _hours(budget: float | None) -> float | None:
    return None if budget is None else above_zero("budget_hours", budget, "hours")


def _folder(kind: type[Result], names: Tables, config: Source, overrides: Overrides) -> Path:
    """Where the results of a config go by default."""
    load = loader.load if kind is Run else loader.load_suite
    return RESULTS / load(config, names, overrides, check_paths=False).name


def _run(hours: float | None, planned: Plan, folder: Path, clock: Clock, progress: Progress) -> Run:
    costs.check_budget(planned, folder, hours)
    runner.execute_run(planned, folder, clock, progress)
    return Run(folder)


def _suite(hours: float | None, planned: Plan, folder: Path, clock: Clock, progress: Progress) -> Suite:
    costs.check_budget(planned, folder, hours)
    ended = runner.execute_suite(planned, folder, clock, progress)
    return Suite(folder, ended.failed_again, ended.unwritten)


def _execute(
    kind: type[R],
    execute: Callable[[Plan, Path, Clock, Progress], R],
    config: Source,
    overrides: Overrides,
    out: str | os.PathLike[str] | None,
    reporter: Reporter,
    names: Tables,
    clock: Clock,
) -> R:
    """Plan and execute a config, read its figures, and write where the seconds went."""
    check_config(config, overrides)
    named = None if out is None else path("out", out, "a folder for the results, or None")
    with placed(config, overrides, named, partial(_folder, kind, names)) as (source, layers, place):
        with clock("plan"):
            if kind is Run:
                planned = plan.plan_run(loader.load(source, names, layers))
            else:
                planned = plan.plan_suite(loader.load_suite(source, names, layers))
        # absolute, because a worker on another machine may run in another folder
        folder = (RESULTS / planned.name if place is None else place).absolute()
        try:
            with reporter as report:
                result = execute(planned, folder, clock, report)
        except KeyboardInterrupt:
            if suites.can_go_on(folder):
                raise Resumable from None
            raise
    with clock("statistics"):
        result.read()
    runner.write_seconds(folder, clock)
    return result


def validate(
    config: Source,
    overrides: Overrides = None,
    *,
    allow_plugins: bool = False,
    budget_hours: float | None = None,
) -> str:
    """What `run` or `suite` would do with a config and what it will take, as `aimonk-bench validate` prints it.

    Raises:
        UserError: everything that is wrong with config, labels, images and networks; or what `run` or `suite` would
            take is more than ``budget_hours``.
    """
    names, hours = tables(allow_plugins=flag("allow_plugins", allow_plugins)), _hours(budget_hours)
    with without_folder(config, overrides) as (source, layers):
        return preview.describe(source, names, layers, hours)


def check_config(config: Source, overrides: Overrides) -> None:
    """Check the types of a config and of its overrides.

    Raises:
        UserError: they are something else.
    """
    if not isinstance(config, Mapping | Config):
        path("config", config, "a YAML file, a dict of its keys, or a config such as `Run.config`")
    if overrides is None or isinstance(overrides, str):
        return
    if not isinstance(overrides, Mapping | Sequence) or not all(isinstance(key, str) for key in overrides):
        raise wrong("overrides", overrides, "a dict such as {'train.lr': 1e-4}, or texts such as 'train.lr=1e-4'")


@contextlib.contextmanager
def without_folder(config: Source, overrides: Overrides) -> Iterator[tuple[Source, Overrides]]:
    """Config and overrides in which labels that are a DataFrame stand in a temporary file.

    Raises:
        UserError: they are of another type; or that of the block.
    """
    check_config(config, overrides)
    with contextlib.ExitStack() as stack:

        def temporary(source: Source, layers: Overrides) -> Path:
            return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aimonk-bench-")))

        source, layers, _ = stack.enter_context(placed(config, overrides, None, temporary))
        yield source, layers


@dataclass(frozen=True)
class Audit:
    """What can be said of a data set before anything is trained.

    Attributes:
        record: everything, with the labels [N, A].
    """

    record: AuditRecord

    @property
    def labels_to_check(self) -> pd.DataFrame:
        """Labels that the images speak against, the most suspicious first; at most 50, of attributes with signal.

        Columns: image (string), its name in the label file; attribute (string); label (Int8); probability_of_label
        (float64), what a linear probe that has not seen the image gives the label.
        """
        import pandas as pd

        suspects = self.record.suspects
        columns = {
            "image": pd.array([self.record.ids[row] for row in suspects.row], dtype="string"),
            "attribute": pd.array([self.record.attributes[a] for a in suspects.attribute], dtype="string"),
            "label": pd.array(suspects.positive, dtype="Int8"),
            "probability_of_label": suspects.probability,
        }
        return pd.DataFrame(columns)

    @property
    def findings(self) -> pd.DataFrame:
        """What a reader should know, warnings first; columns level, kind, text, advice (string)."""
        import pandas as pd

        names = ["level", "kind", "text", "advice"]
        return pd.DataFrame([vars(finding) for finding in findings(self.record)], columns=names).astype("string")

    def to_json(self) -> str:
        """Everything as JSON, as `aimonk-bench audit --format json` prints it."""
        return dumps(reports.content(self.record))

    def render(self, console: Console) -> None:
        """Print the audit on a console of rich."""
        from rich.console import Console

        reports.render(self.record, instance("console", console, Console))


def audit(
    config: Source, overrides: Overrides = None, *, progress: Report = False, allow_plugins: bool = False
) -> Audit:
    """Find problems in the labels and images of an experiment or suite; nothing is trained. Arguments as for `run`.

    Raises:
        UserError: labels, images or options are wrong, or the weights cannot be had.
        RunFailed: the engine cannot be had.
    """
    names, reporter = tables(allow_plugins=flag("allow_plugins", allow_plugins)), Reporter(progress)
    with without_folder(config, overrides) as (source, layers), reporter as report:
        audited = inspection.configured(source, names, layers)
        return Audit(inspection.inspect(audited, report))
