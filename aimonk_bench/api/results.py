"""Finished work as Python objects: a run, a suite, their tables. Files are read when they are needed, then kept."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from aimonk_bench import registry
from aimonk_bench.api.plots import Plots
from aimonk_bench.arguments import choice, instance, path, whole, wrong
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.verdict import Outcome
from aimonk_bench.evaluation.verdict import Verdict as VerdictRecord
from aimonk_bench.records import history
from aimonk_bench.records import run as runs
from aimonk_bench.records import suite as suites
from aimonk_bench.records.run import RunRecord
from aimonk_bench.records.suite import Collection
from aimonk_bench.reporting import frames, html, summary, table
from aimonk_bench.reporting.frames import ErrorKind
from aimonk_bench.reporting.summary import MACRO, NUMERIC, Summary
from aimonk_bench.reporting.verdict import sentence
from aimonk_bench.reporting.view import View
from aimonk_bench.reporting.warning_lines import warnings
from aimonk_bench.reporting.words import listed, run_name

if TYPE_CHECKING:
    import pandas as pd

    from aimonk_bench.config.fields import Config


class Verdict(str):
    """The verdict in words, as the table ends with it.

    Attributes:
        record: the same as data: attributes with signal and with a gain, sizes and bounds, which runs are as good.
    """

    record: VerdictRecord

    @property
    def outcome(self) -> Outcome:
        """no_signal, no_gain or gain."""
        return self.record.outcome


@dataclass(frozen=True)
class Result(ABC):
    """What `Run` and `Suite` share.

    Attributes:
        folder: that the run or the suite wrote, absolute.

    Raises:
        UserError: a property or method needs a file that is missing or damaged.
    """

    folder: Path

    def __post_init__(self) -> None:
        folder = path("folder", self.folder, "a folder that `run` or `suite` wrote")
        object.__setattr__(self, "folder", folder.absolute())  # as the working directory may change

    @cached_property
    def _collection(self) -> Collection:
        return suites.collect(self.folder)

    @cached_property
    def _figures(self) -> Summary:
        return summary.summarize(self._collection)

    def read(self) -> None:
        """Read the figures of all finished runs now."""
        _ = self._figures

    @property
    def summary(self) -> pd.DataFrame:
        """The rows of ``summary.csv``: one for each run and attribute, and one for each run and ``macro``.

        Texts are of type string, n_observed, n_positive and seeds of type Int64, all other numbers of type float64; an
        undefined number is NaN or NA. experiments/README.md explains the columns. The mean of a column would count the
        macro rows too; see `pivot`. To read the file itself, without losing an attribute that is called NA or null:

            pd.read_csv("summary.csv", dtype={"run": str, "attribute": str}, keep_default_na=False, na_values="")

        In the file a name that a spreadsheet would read as a formula begins with an apostrophe, see `files.harmless`.
        """
        return summary.frame([self._figures])

    def pivot(self, column: str = "f1_tuned") -> pd.DataFrame:
        """A numeric column of the summary as runs [R] x attributes and macro [A + 1], in the order of the suite.

        The index ``run`` and the columns ``attribute`` are of type string, values of type Int64 or float64 as in the
        summary. A run without figures is a row without numbers.

        Raises:
            UserError: there is no such column.
        """
        choice("column", column, NUMERIC)
        attributes = [*self._figures.attributes, MACRO]
        wide = self.summary.pivot(index="run", columns="attribute", values=column)
        return wide.loc[list(self._collection.names), attributes]

    @cached_property
    def verdict(self) -> Verdict | None:
        """Whether anything beats guessing, and what; None where no run finished."""
        if self._figures.statistics is None:
            return None
        record = self._figures.statistics.verdict
        verdict = Verdict(sentence(record, self._collection.names, self._figures.statistics.against_winner))
        verdict.record = record
        return verdict

    @property
    def warnings(self) -> list[str]:
        """What a reader should know before believing the verdict, the weightiest first: few labels, one seed, ..."""
        return warnings(self._figures)

    def render(self, console: Console, top: int = 20) -> None:
        """Print the table of the command line, with the ``top`` best runs, on a console of rich.

        Raises:
            UserError: ``console`` is none, or ``top`` no whole number of at least 1.
        """
        view = View(top=whole("top", top, least=1))
        table.render(self._figures, instance("console", console, Console), view)

    @property
    def plot(self) -> Plots:
        """Its plots, such as ``suite.plot.leaderboard()``: figures of matplotlib."""
        return Plots(self._figures, self._record_of)

    @abstractmethod
    def _record_of(self, run: Any) -> RunRecord:
        """The files of the run that is meant, which is done; None means the only one, or the one to use."""

    def _repr_html_(self) -> str:
        """The verdict and the ten best runs with intervals, for a notebook."""
        return html.fragment(self._figures)


@dataclass(frozen=True)
class Run(Result):
    """One run that ended, done or failed. Its comparison with other runs is that of its `Suite`."""

    @cached_property
    def _record(self) -> RunRecord:
        if self._collection.name is not None:
            raise UserError(f"{self.folder}: holds a suite, expected a run; aimonk_bench.load reads both")
        [record] = self._collection.records.values()
        return record

    @property
    def id(self) -> str:
        """Readable, ending in a hash of config, data and encoder: the ``run`` column of a summary."""
        return self._record.status.id

    @property
    def name(self) -> str:
        """Its name in the table: its values at the axes of the suite, or the name of its config."""
        return run_name(self._record.status.name)

    @property
    def failure(self) -> str | None:
        """Why it failed; None where it is done."""
        return self._record.status.reason

    @cached_property
    def config(self) -> Config:
        """Its complete config, frozen; `aimonk_bench.run` takes it.

        Plug-ins are only named there: their code is not executed to read a result, and need not be here any more.
        `aimonk_bench.run` executes it where ``allow_plugins`` says that it may.
        """
        from aimonk_bench.config import loader
        from aimonk_bench.tables import RECORDED

        return loader.load(self.folder / runs.CONFIG, RECORDED, check_paths=False)

    @property
    def history(self) -> pd.DataFrame:
        """``history.csv``: seed, fold, iteration_number, epoch (int64); training_loss and val_* (float64).

        Iterations and epochs count from 1; val_* is NaN but in the last row of an epoch. Where `train.averaging` is
        `polynomial`, training_loss is that of the head that is trained, and val_* those of the average, which predicts.
        """
        return history.read(self._done.folder / runs.HISTORY)

    @property
    def reliability(self) -> pd.DataFrame:
        """``reliability.csv``: a row for each attribute and bin of probabilities that holds a test row.

        Columns: probabilities, attribute (string); from, to, the ends of the bin, n, probability, positive, low, high
        (float64). positive is the share of positives, low and high its 95 % interval.
        """
        return self._done.reliability()

    def predictions(self) -> pd.DataFrame:
        """Every prediction: a row for each row of ``predictions.npz``, seed and attribute, in this order.

        Columns: image (string), its name in the label file; fold (int16), from 0; split (string), val or test; seed
        (int64); attribute (string); target (Int8), NA where the label is missing; logit (float32); probability,
        threshold (float64), the latter of this fold and seed; decision (bool), probability > threshold.
        """
        return frames.predictions(self._scored)

    def errors(self, attribute: str | None = None, kind: ErrorKind | None = None, n: int | None = 20) -> pd.DataFrame:
        """The test images that most seeds decide wrongly, the farthest from the threshold first.

        Columns: image (string), fold (int16), attribute (string), kind (string), target (Int8); probability, threshold,
        margin (float64), means over the seeds, margin being probability minus threshold; positive_seeds (float64), the
        share of the seeds that decide positive. A missing label is no error.

        Args:
            attribute: only its errors; None: those of all attributes.
            kind: false_positive or false_negative; None: both.
            n: how many; None: all.

        Raises:
            UserError: there is no such attribute or kind, or n is not positive.
        """
        return frames.errors(self._scored, attribute, kind, n)

    def _record_of(self, run: Any) -> RunRecord:
        if run is not None and run != self and run not in (self.id, self.name):
            raise UserError(f"run: found {run!r}, expected {self.id}, the only run of {self.folder}")
        return self._done

    @property
    def _done(self) -> RunRecord:
        if not self._record.done:
            raise UserError(f"{self.folder}: the run failed, so it has no results: {self.failure}")
        return self._record

    @property
    def _scored(self) -> frames.Run:
        return self._done.predictions, self._done.thresholds


@dataclass(frozen=True)
class Suite(Result):
    """The runs of a suite, and what their comparison comes to.

    ``suite[NAME]`` is the run of that id or name; its runs are those that ended.

    Attributes:
        failed_again: of the call of `aimonk_bench.suite` that returned it: id of a finished run that was trained again
            and failed -> why. Its results are still those of before.
        unwritten: why that call could not write the files beside the runs, such as ``summary.csv``; None if it could.
    """

    failed_again: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    unwritten: str | None = field(default=None, compare=False, repr=False)

    @cached_property
    def _collection(self) -> Collection:
        collection = suites.collect(self.folder)
        if collection.name is None:
            raise UserError(f"{self.folder}: holds a run, expected a suite; aimonk_bench.load reads both")
        return collection

    @property
    def name(self) -> str:
        """The name of the suite."""
        return str(self._collection.name)

    @cached_property
    def runs(self) -> Mapping[str, Run]:
        """Id -> run, of all runs that ended, in the order of the suite."""
        return {run_id: Run(record.folder) for run_id, record in self._figures.collection.records.items()}

    def __getitem__(self, name: str) -> Run:
        return self._find(name)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs.values())

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def baseline(self) -> Run | None:
        """The run that the others are compared with; None where it did not end."""
        return self.runs.get(str(self._collection.baseline))

    @property
    def selected(self) -> Run | None:
        """The run with the best macro F1 on validation rows; None where no run has one."""
        selection = self._figures.selection
        return None if selection is None else self.runs[selection.run]

    @property
    def simplest(self) -> Run | None:
        """The simplest of the selected run and those that the paired tests do not find worse; see `selected`."""
        selection = self._figures.selection
        return None if selection is None else self.runs[selection.simplest]

    @property
    def finished(self) -> list[Run]:
        """The runs that are done, in the order of the suite; they have figures."""
        return [run for run in self.runs.values() if run.failure is None]

    @property
    def unfinished(self) -> Mapping[str, str]:
        """Id -> why a run has no figures: it failed, is damaged or was not run. Skipped runs are not among them."""
        collection = self._figures.collection
        failed = {record.status.id: str(record.status.reason) for record in collection.failed}
        return {**failed, **collection.damaged, **dict.fromkeys(collection.missing, "not run")}

    def compare(self, a: Run | str, b: Run | str) -> pd.DataFrame:
        """Tuned F1 of run a minus that of run b on the test rows, by attribute and, in the last row, macro.

        Columns: attribute (string); f1_a, f1_b, delta, delta_low, delta_high (float64), the latter the bounds of the
        95 % interval; p_value (float64) of the paired test, adjusted for nothing; and, of the macro average alone,
        detectable (float64), the true difference that the test finds with 80 % probability, mark (string), better,
        worse, equivalent or unresolved, and reason (string), why nothing was tested (other_rows, one_seed, no_f1).

        The macro average is over the attributes that every finished run of the suite defines.

        Args:
            a: a run of this suite, its id or its name.
            b: likewise.

        Raises:
            UserError: there is no such run, it has no figures, or a and b are the same run.
        """
        first, second = self._find(a, "a"), self._find(b, "b")
        if first == second:
            raise UserError(f"{self.folder}: found {first.id} twice, expected two runs to compare")
        return frames.differences(first._scored, second._scored, self._figures.covered["f1_tuned"])

    def disagreements(self, a: Run | str, b: Run | str) -> pd.DataFrame:
        """The test images and attributes about which two runs decide differently, the widest apart first.

        A run decides as most of its seeds do. Columns: image (string), fold (int16), attribute (string), target (Int8),
        NA where the label is missing; decision_a, decision_b (bool); probability_a, probability_b (float64), means over
        the seeds; positive_seeds_a, positive_seeds_b (float64), the shares of the seeds that decide positive. Sorted by
        the difference of the latter, then by that of the probabilities.

        Args:
            a: a run of this suite, its id or its name.
            b: likewise.

        Raises:
            UserError: there is no such run, it has no figures, or the test rows of the two differ.
        """
        return frames.disagreements(self._find(a, "a")._scored, self._find(b, "b")._scored)

    def _record_of(self, run: Any) -> RunRecord:
        chosen = self.simplest if run is None else self._find(run)
        if chosen is None:
            raise UserError(f"{self.folder}: found no run that was selected, expected the id or name of a run")
        return chosen._done

    def _find(self, wanted: Run | str, argument: str = "run") -> Run:
        """The run that is meant, which ended.

        Args:
            argument: what a message calls ``wanted``.

        Raises:
            UserError: no run, or more than one, is called so, or it did not end.
        """
        if not isinstance(wanted, Run | str):
            raise wrong(argument, wanted, "a run of this suite, its id or its name")
        name = wanted.id if isinstance(wanted, Run) else wanted
        names = {run_id: run_name(parts) for run_id, parts in self._collection.names.items()}
        called = [name] if name in names else [run_id for run_id, text in names.items() if text == name]
        if not called:
            near = registry.hint(name, [*names, *names.values()]) or f": {listed([*names.values()])}"
            raise UserError(f"{self.folder}: found {name!r}, expected the id or name of a run{near}")
        if len(called) > 1:
            raise UserError(f"{self.folder}: found {len(called)} runs called {name!r}; use an id: {', '.join(called)}")
        [run_id] = called
        if run_id not in self.runs:
            reasons = {**self.unfinished, **self._collection.skipped}
            raise UserError(f"{self.folder}: the run {run_id} has no results: {reasons[run_id]}")
        return self.runs[run_id]


def load(folder: str | os.PathLike[str]) -> Run | Suite:
    """What `aimonk_bench.run` or `aimonk_bench.suite` wrote into a folder; its files are read when they are needed.

    `Run(folder)` and `Suite(folder)` are the same where it is known which of the two a folder holds.

    Raises:
        UserError: the folder holds neither, or its first file is damaged.
    """
    place = path("folder", folder, "a folder that `run` or `suite` wrote")
    result = Suite(place) if (place / suites.FILE).exists() else Run(place)
    _ = result._collection  # raises where it is damaged
    return result
