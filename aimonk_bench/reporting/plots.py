"""Plots of finished work for papers: figures of matplotlib, and the same bytes whenever they are saved again.

A plot of many runs takes a `Summary`; a plot of one run takes its predictions and thresholds, of which the test rows of
all folds are drawn, one line per seed.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aimonk_bench.errors import UserError, printable
from aimonk_bench.evaluation.metrics import Confusion
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.reporting.summary import MACRO, Summary
from aimonk_bench.reporting.view import METRICS
from aimonk_bench.reporting.words import number, run_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Format = Literal["png", "svg", "pdf"]
Run = tuple[Predictions, Thresholds]

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.45"  # of Okabe and Ito, which colour-blind readers can tell apart
TOP = 20  # runs in a plot of many
SHARES = ("f1_tuned", "f1_default", "precision", "recall", "average_precision", "roc_auc")  # of a heat map
PANELS = 4  # attributes side by side
SWEEP = np.linspace(0.01, 0.99, 99)  # thresholds
LONGEST_RUN, LONGEST_ATTRIBUTE = 60, 24  # signs of a name
UNDATED: dict[Format, dict[str, Any]] = {  # what would differ between two files of one figure
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save(figure: Figure, form: Format) -> bytes:
    """The figure as a file; equal figures give equal bytes with one version of matplotlib."""
    file = io.BytesIO()
    with _style():
        figure.savefig(file, format=form, metadata=UNDATED[form])
    return file.getvalue()


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's defaults, whatever the user's settings; names of runs and attributes are never formulas."""
    import matplotlib

    ours: dict[Any, Any] = {
        "text.parse_math": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.axisbelow": True,
        "font.size": 9,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(ours | {"svg.hashsalt": "aimonk_bench", "pdf.fonttype": 42})
        yield


@contextlib.contextmanager
def _drawn(width: float, height: float) -> Iterator[Figure]:
    """A figure to draw on, in inches, which is laid out once at the end: each layout would move it a little."""
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def leaderboard(summary: Summary, top: int = TOP) -> Figure:
    """Macro tuned F1 of the ``top`` best runs with 95 % intervals, the nested selection, and the all-positive baseline.

    A filled dot is a run that the data cannot tell from the selected one; a ring is a worse run.

    Raises:
        UserError: no run is finished.
    """
    _check_finished(summary)
    assert summary.statistics is not None
    verdict = summary.statistics.verdict
    alike = {verdict.run, *verdict.indistinguishable} if len(summary.values) > 1 else set(summary.values)
    rows = [
        (
            _run_name(summary, run_id) + (" *" if run_id == summary.selected else ""),
            summary.values[run_id],
            run_id in alike,
        )
        for run_id in summary.ranking[:top]
    ]
    if summary.nested is not None:
        rows.append(("selected per fold", summary.nested, True))
    with _drawn(7.0, 1.6 + 0.26 * len(rows)) as figure:
        axes = figure.add_subplot()
        for place, (_, values, is_alike) in enumerate(rows):
            value, low, high = (values[name][-1] for name in ("f1_tuned", "f1_tuned_low", "f1_tuned_high"))
            axes.plot([low, high], [place, place], color=BLUE, linewidth=1.2)
            axes.plot(value, place, "o", color=BLUE, markersize=5, markerfacecolor=BLUE if is_alike else "white")
        axes.axvline(verdict.all_positive_f1, color=ORANGE, linestyle="--", linewidth=1.2, label="all positive")
        dot: dict[str, Any] = {"linestyle": "", "marker": "o", "color": BLUE, "markersize": 5}
        if summary.selected is not None:
            axes.plot([], [], **dot, label="* best on validation rows, which sort the runs; filled: not worse than it")
        if not all(is_alike for *_, is_alike in rows):
            axes.plot([], [], **dot, markerfacecolor="white", label="worse, or not tested")
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("macro F1 at tuned thresholds, with 95 % intervals")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower center", frameon=False, fontsize=8)
    return figure


def heat_map(summary: Summary, column: str = "f1_tuned", top: int = TOP) -> Figure:
    """A column of the summary, from 0 to 1, of the ``top`` best runs: runs x attributes and macro.

    Raises:
        UserError: no run is finished.
    """
    _check_finished(summary)
    runs = summary.ranking[:top]
    values = np.array([summary.values[run_id][column] for run_id in runs])  # [R, A + 1]
    attributes = [*map(_short, summary.attributes), MACRO]
    with _drawn(4.4 + 0.55 * len(attributes), 2.2 + 0.26 * len(runs)) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(attributes)), attributes, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(runs)), [_run_name(summary, run_id) for run_id in runs])
        axes.grid(visible=False)
        for (row, place), value in np.ndenumerate(values):
            colour = "white" if value < 0.5 else "black"
            axes.text(place, row, number(value), ha="center", va="center", color=colour, fontsize=7)
        figure.colorbar(image, ax=axes, label=METRICS.get(column, column.replace("_", " ")))
    return figure


def precision_recall(run: Run) -> Figure:
    """Precision over recall of each attribute, a line per seed; a cross is the point at the seed's tuned threshold.

    The test rows of all folds are in one curve, although heads of different folds need not be on one scale.
    """
    made, tuned = run
    rows = made.part("test")
    confusion = Confusion.of(rows.probabilities, rows.labels, tuned.values[:, rows.fold])
    n1, n0 = rows.labels.counts()

    def draw(axes: Any, a: int) -> None:
        observed = rows.labels.observed[:, a]
        positive = rows.labels.positive[observed, a]
        for scores in rows.probabilities[:, observed, a]:
            order = np.argsort(-scores, kind="stable")
            hits, ordered = positive[order].cumsum(), scores[order]
            last = np.append(ordered[1:] != ordered[:-1], True)  # rows with equal scores are one point
            accepted = np.arange(1, len(order) + 1)[last]
            axes.step(hits[last] / n1[a], hits[last] / accepted, where="post", color=BLUE, linewidth=0.8, alpha=0.6)
        axes.axhline(n1[a] / (n1[a] + n0[a]), color=ORANGE, linestyle="--", linewidth=1)
        axes.plot(confusion.recall[:, a], confusion.precision[:, a], "x", color="black", markersize=5)

    legend = "a line per seed; cross: at the tuned thresholds of a seed; dashed: prevalence"
    return _panels(made, n1 > 0, draw, ("recall", "precision"), legend)


def threshold_sweep(run: Run) -> Figure:
    """F1 of each attribute over one threshold for all folds, a line per seed.

    Vertical lines are the tuned thresholds of every seed and fold.
    """
    made, tuned = run
    rows = made.part("test")
    f1 = np.stack([Confusion.of(rows.probabilities, rows.labels, limit).f1 for limit in SWEEP])  # [T, S, A]

    def draw(axes: Any, a: int) -> None:
        for threshold in tuned.values[..., a].ravel():
            axes.axvline(threshold, color=ORANGE, linewidth=0.7, alpha=0.5)
        axes.plot(SWEEP, f1[:, :, a], color=BLUE, linewidth=0.8, alpha=0.6)

    legend = "a line per seed; vertical: the tuned thresholds of every seed and fold"
    return _panels(made, rows.labels.counts()[0] > 0, draw, ("threshold", "F1"), legend)


def reliability(run: Run, table: pd.DataFrame) -> Figure:
    """Share of positives over the predicted probability, by bin, with 95 % intervals.

    Args:
        run: of the table.
        table: `scores.reliability` of the run; its raw probabilities are drawn.
    """
    raw = table[table["probabilities"] == "calibration"]

    def draw(axes: Any, a: int) -> None:
        bins = raw[raw["attribute"] == run[0].labels.attributes[a]]
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        axes.vlines(bins["probability"], bins["low"], bins["high"], color=BLUE, linewidth=1)
        axes.plot(bins["probability"], bins["positive"], "o-", color=BLUE, markersize=3.5, linewidth=0.8, clip_on=False)

    observed = run[0].part("test").labels.observed.any(axis=0)
    legend = "mean over the seeds, with 95 % intervals; dashed: perfect calibration"
    return _panels(run[0], observed, draw, ("probability", "share of positives"), legend)


def missingness(run: Run) -> Figure:
    """Share of test rows in which both attributes of a pair miss their labels; the diagonal is one attribute."""
    labels = run[0].part("test").labels
    missing = (~labels.observed).astype(np.float64)
    percent, names = 100 * missing.T @ missing / len(missing), [_short(name) for name in labels.attributes]
    with _drawn(4.0 + 0.5 * len(names), 2.8 + 0.42 * len(names)) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(percent, cmap="cividis", vmin=0, vmax=max(float(percent.max()), 1.0))
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False)
        for (row, place), value in np.ndenumerate(percent):
            colour = "white" if value < percent.max() / 2 else "black"
            axes.text(place, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=7)
        figure.colorbar(image, ax=axes, label="% of test rows in which both labels are missing")
    return figure


def _panels(
    made: Predictions,
    defined: Array,
    draw: Callable[[Any, int], None],
    axis_labels: tuple[str, str],
    legend: str,
) -> Figure:
    """A panel for each attribute, both axes from 0 to 1; one whose figure is not defined says so.

    Args:
        defined: [A] bool.
        draw: called with the axes and the number of an attribute.
        legend: what lines and signs are.
    """
    names = made.labels.attributes
    columns = min(PANELS, len(names))
    lines = -(-len(names) // columns)
    with _drawn(2.3 * columns + 0.4, 2.2 * lines + 0.5) as figure:
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for a, name in enumerate(names):
            grid[a].set_title(_short(name), fontsize=9)
            grid[a].set(
                xlim=(0, 1.02), ylim=(0, 1.02), xticks=(0, 0.25, 0.5, 0.75, 1), xticklabels=("0", "", ".5", "", "1")
            )
            if defined[a]:
                draw(grid[a], a)
            else:
                grid[a].text(0.5, 0.5, "no positive test label", ha="center", transform=grid[a].transAxes)
        for axes in grid[len(names) :]:
            axes.remove()
        figure.supxlabel(f"{axis_labels[0]}\n{legend}", fontsize=9)
        figure.supylabel(axis_labels[1], fontsize=9)
    return figure


def _check_finished(summary: Summary) -> None:
    if not summary.values:
        raise UserError(f"{summary.collection.folder}: found no finished run, expected one to draw")


def _run_name(summary: Summary, run_id: str) -> str:
    return _short(run_name(summary.collection.names[run_id]), LONGEST_RUN)


def _short(name: str, length: int = LONGEST_ATTRIBUTE) -> str:
    text = printable(name)
    return text if len(text) <= length else text[: length - 1] + "…"
