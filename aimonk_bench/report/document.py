"""The data of the page: everything that it shows of one folder, as one document of plain values.

Figures are those of ``summary.csv``, ``metrics.json`` and ``statistics.json`` to the last digit; curves are thinned to
what can be drawn (`curves`). An undefined number is None. Lists over attributes are [A]; figures of a run are [A + 1],
the macro average last.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from aimonk_bench import __version__
from aimonk_bench.evaluation.comparison import MARGIN, Delta
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.plain_words import Word, words
from aimonk_bench.records.run import RunRecord
from aimonk_bench.records.suite import Collection
from aimonk_bench.report import advice
from aimonk_bench.report import curves as drawn
from aimonk_bench.report.advice import Card, Mark
from aimonk_bench.report.curves import Curves
from aimonk_bench.report.data_facts import DataFacts, data_facts
from aimonk_bench.report.galleries import Galleries
from aimonk_bench.report.making import Making, making
from aimonk_bench.report.shortened import shortened
from aimonk_bench.reporting.captions import heading, row_names
from aimonk_bench.reporting.cells import interval
from aimonk_bench.reporting.summary import NUMERIC, Summary
from aimonk_bench.reporting.verdict import sentence
from aimonk_bench.reporting.warning_lines import warnings
from aimonk_bench.reporting.words import run_name, threshold_notes

BEST = 20  # runs whose curves the page has, beside the selected one, the simplest and the baseline
COMPARED = ("value", "low", "high", "p", "simultaneous_low", "simultaneous_high", "detectable", "mark", "reason")


class Run(TypedDict):
    """A run of the folder, finished or not.

    ``marks`` are what is special about it; ``columns`` the texts of ``summary.csv``; ``figures`` its numeric columns,
    [A + 1], of a finished run; ``versus_baseline`` the paired difference of macro F1, see `Delta`; ``na_low`` and
    ``na_high`` [A] the range of F1 over fillings of the missing labels; ``calibration`` Brier score and calibration
    errors [A].
    """

    id: str
    name: str
    state: str
    reason: str | None
    marks: list[Mark]
    columns: dict[str, str]
    figures: dict[str, Array]
    few: list[bool]
    versus_baseline: dict[str, Any] | None
    na_low: Array
    na_high: Array
    calibration: dict[str, Array]


class Attribute(TypedDict):
    """What the tests say of an attribute, see `evaluation.verdict.Signal`: of the nested selection, or of the only run.

    ``tests`` says what stands behind the word; ``needed`` how many more positive labels would settle it.
    """

    name: str
    word: Word
    tests: str
    needed: str
    gain: float
    gain_low: float


class Document(TypedDict):
    """What the page shows of one folder. ``curves`` and ``making`` are by run id; ``ranking`` is the best run first."""

    version: str
    name: str
    title: str
    heading: list[str]
    verdict: str
    plainly: str
    cards: list[Card]
    warnings: list[str]
    meanings: list[tuple[str, str]]
    attributes: list[Attribute]
    runs: list[Run]
    ranking: list[str]
    baseline: str | None
    selected: str | None
    simplest: str | None
    all_positive: Array
    covered: list[bool]
    curves: dict[str, Curves]
    grid: dict[str, Any]
    data: DataFacts | None
    making: dict[str, Making]
    commands: list[str]
    galleries: Galleries | None
    no_images: str


def document(summary: Summary) -> Document:
    """Collect the document of a folder, without galleries.

    Raises:
        UserError: a file of a run is missing or damaged.
    """
    collection, stats = summary.collection, summary.statistics
    verdict = stats.verdict if stats else None
    records = {record.status.id: record for record in collection.finished}
    shown = _with_curves(summary)
    title, *lines = heading(summary)
    values = [summary.values[run_id] for run_id in summary.ranking]
    return Document(
        version=__version__,
        name=collection.name or run_name(*collection.names.values()),
        title=title,
        heading=lines,
        verdict=sentence(stats.verdict, collection.names, stats.against_winner) if stats else "No run finished.",
        plainly=advice.plainly(summary),
        cards=advice.cards(summary),
        warnings=shortened(_warnings(summary)),
        meanings=advice.meanings(words(stats.signal)) if stats else [],
        attributes=_attributes(summary),
        runs=[_run(summary, run_id, name) for run_id, name in row_names(summary, marked=False).items()],
        ranking=list(summary.ranking),
        baseline=collection.baseline,
        selected=verdict.run if verdict else None,
        simplest=verdict.simplest if verdict else None,
        all_positive=values[0]["floor_f1"] if values else np.array([]),
        covered=summary.covered["f1_tuned"].tolist() if values else [],
        curves={run_id: drawn.curves(records[run_id]) for run_id in shown},
        grid={"recall": drawn.RECALL, "threshold": drawn.THRESHOLD, "bins": drawn.BINS},
        data=data_facts(records[verdict.simplest]) if verdict else None,
        making={run_id: making(records[run_id]) for run_id in shown},
        commands=_commands(summary, verdict.simplest if verdict else None),
        galleries=None,
        no_images="",
    )


def _with_curves(summary: Summary) -> list[str]:
    """The runs whose curves the page has: the best ones, the selected one, the simplest and the baseline."""
    verdict = summary.statistics.verdict if summary.statistics else None
    special = (verdict.run, verdict.simplest, summary.collection.baseline) if verdict else ()
    chosen = {*summary.ranking[:BEST], *special}
    return [run_id for run_id in summary.ranking if run_id in chosen]


def _warnings(summary: Summary) -> list[str]:
    """What weakens the verdict, and what the thresholds of the simplest run could not follow."""
    lines, stats = warnings(summary), summary.statistics
    if stats:
        record = summary.collection.records[stats.verdict.simplest]
        lines += [f"threshold of {note}" for note in threshold_notes(record.thresholds)]
    return lines


def _attributes(summary: Summary) -> list[Attribute]:
    """What the tests say of each attribute."""
    if summary.statistics is None:
        return []
    signal = summary.statistics.signal
    before = next((record.before for record in summary.collection.comparable if record.before), None)
    values = summary.values[summary.statistics.winner]
    positives, observed = (values[name][:-1] for name in ("n_positive", "n_observed"))
    negatives = observed - positives
    if before is not None:
        positives, negatives = before.n_positive, before.n_negative
    attributes = []
    for a, (name, word) in enumerate(zip(summary.attributes, words(signal), strict=True)):
        more = advice.more_positives(int(positives[a]), int(negatives[a]), len(summary.attributes))
        attributes.append(
            Attribute(
                name=name,
                word=word,
                tests=advice.tests(signal, a, word),
                needed=advice.needed(word, more),
                gain=signal.gain[a],
                gain_low=signal.gain_low[a],
            )
        )
    return attributes


def _run(summary: Summary, run_id: str, name: str) -> Run:
    """One run, with its figures if it has any."""
    collection, stats = summary.collection, summary.statistics
    record = collection.records.get(run_id)
    done = record if record is not None and record.done else None
    reasons = {**collection.damaged, **collection.skipped}
    remarks: Mapping[str, Any] = done.scores.remarks if done else {"na_bounds": {"f1_low": [], "f1_high": []}}
    return Run(
        id=run_id,
        name=name,
        state=_state(collection, run_id),
        reason=shortened(record.status.reason if record else reasons.get(run_id)),
        marks=advice.marks(stats, run_id, collection.baseline) if done else [],
        columns=dict(record.status.columns) if record else {},
        figures=_figures(summary, done) if done else {},
        few=summary.values[run_id]["few"].tolist() if done else [],
        versus_baseline=_compared(stats.baseline.get(run_id)) if stats else None,
        na_low=remarks["na_bounds"]["f1_low"],
        na_high=remarks["na_bounds"]["f1_high"],
        calibration=dict(remarks.get("calibration", {})),
    )


def _state(collection: Collection, run_id: str) -> str:
    """The state of a run as ``summary.csv`` writes it."""
    if run_id in collection.records:
        return collection.records[run_id].status.state
    return "damaged" if run_id in collection.damaged else "skipped" if run_id in collection.skipped else "not run"


def _figures(summary: Summary, record: RunRecord) -> dict[str, Array]:
    """The numeric columns of ``summary.csv``, [A + 1] each; one number where it is the same in every row."""
    run_id = record.status.id
    single = {"seeds": len(record.thresholds.seed), "seconds": record.status.seconds["train"], **summary.costs[run_id]}
    return _columns(summary.values[run_id]) | {name: np.array([value]) for name, value in single.items()}


def _columns(values: Mapping[str, Array]) -> dict[str, Array]:
    return {name: values[name] for name in NUMERIC if name in values}


def _compared(delta: Delta | None) -> dict[str, Any] | None:
    """The difference of macro F1, and its interval in words; those of the attributes are among the figures."""
    if delta is None:
        return None
    shown = interval(delta.simultaneous_low, delta.simultaneous_high, MARGIN) if delta.mark else ""
    return {**{name: getattr(delta, name) for name in COMPARED}, "interval": shown}


def _commands(summary: Summary, best: str | None) -> list[str]:
    """The commands that repeat and use the work, with paths relative to the folder's parent."""
    folder = summary.collection.folder.absolute().name
    commands = [f"aimonk-bench table {shlex.quote(folder)}", f"aimonk-bench report {shlex.quote(folder)}"]
    if best is not None:
        config = f"{folder}/config.yaml" if summary.collection.name is None else f"{folder}/runs/{best}/config.yaml"
        commands = [f"aimonk-bench run {shlex.quote(config)} --out again", *commands]
        commands.append(f"aimonk-bench export {shlex.quote(folder)} -o {shlex.quote(f'{folder}-bundle')}")
    return commands
