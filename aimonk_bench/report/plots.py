"""The charts of the page as matplotlib figures, for papers: the same numbers, and the same bytes each time."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aimonk_bench.errors import UserError
from aimonk_bench.report.curves import RECALL, THRESHOLD, OfAttribute
from aimonk_bench.report.document import Document, Run
from aimonk_bench.reporting.columns import ALL_POSITIVE
from aimonk_bench.reporting.words import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Form = Literal["png", "svg", "pdf"]
NAMES = ("leaderboard", "heat_map", "precision_recall", "threshold_sweep", "reliability", "missingness")
BLUE, ORANGE, PURPLE, GREY = "#0072B2", "#D55E00", "#7B3F61", "#666666"
LONGEST = 40  # signs of a name in a chart
PANELS = 4  # in a row
# What a file says of its making would differ each time, or tell of the machine.
METADATA: dict[Form, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}


@dataclass(frozen=True)
class Plots:
    """The charts of a run or a suite; each method returns a `matplotlib.figure.Figure`.

    Attributes:
        document: what the report page shows.

    Raises:
        UserError: no run is finished.
    """

    document: Document

    def leaderboard(self) -> Figure:
        """Macro F1 of every finished run with its 95 % interval, the best on validation at the top."""
        runs = self._runs
        values = np.array([[_macro(run, f"f1_tuned{end}") for end in ("", "_low", "_high")] for run in runs])
        figure, axes = _figure(7.5, 1.2 + 0.28 * len(runs))
        places = np.arange(len(runs))[::-1]
        axes.hlines(places, values[:, 1], values[:, 2], color=BLUE, alpha=0.5, linewidth=3)
        axes.plot(values[:, 0], places, "o", color=BLUE, markersize=5)
        floor = float(self.document["all_positive"][-1])
        axes.axvline(floor, color=ORANGE, linestyle="--", linewidth=1.2, label=f"{ALL_POSITIVE} {number(floor)}")
        _names(axes.yaxis, [run["name"] for run in runs][::-1])
        axes.set(xlabel="macro F1 on test rows at tuned thresholds, 95 % interval")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(loc="lower left", frameon=False)
        return figure

    def heat_map(self) -> Figure:
        """F1 at tuned thresholds of every attribute and finished run, with the number in each cell."""
        runs, names = self._runs, self._attributes
        values = np.array([run["figures"]["f1_tuned"] for run in runs], float)[:, : len(names)]
        figure, axes = _figure(3.5 + 0.55 * len(names), 1.4 + 0.28 * len(runs))
        axes.imshow(values, aspect="auto", cmap="Blues", vmin=0, vmax=1.8)  # so that black text is read on every cell
        for (row, column), value in np.ndenumerate(values):
            axes.text(column, row, number(value), ha="center", va="center", fontsize=8)
        _names(axes.xaxis, names, rotation=45, ha="right")
        _names(axes.yaxis, [run["name"] for run in runs])
        return figure

    def precision_recall(self, run: str | None = None) -> Figure:
        """Precision at each recall, a panel for each attribute; default of the simplest run."""

        def draw(axes: Any, of: OfAttribute, a: int, figures: Run) -> None:
            axes.fill_between(RECALL, of["precision_low"], of["precision_high"], color=BLUE, alpha=0.2, linewidth=0)
            axes.plot(RECALL, of["precision"], color=BLUE)
            share = figures["figures"]["n_positive"][a] / figures["figures"]["n_observed"][a]
            axes.axhline(share, color=ORANGE, linestyle="--", linewidth=1, label="prevalence")

        return self._panels(run, draw, "recall", "precision")

    def threshold_sweep(self, run: str | None = None) -> Figure:
        """F1 at each threshold with the tuned ones, a panel for each attribute; default of the simplest run."""

        def draw(axes: Any, of: OfAttribute, a: int, figures: Run) -> None:
            axes.fill_between(THRESHOLD, of["f1_low"], of["f1_high"], color=BLUE, alpha=0.2, linewidth=0)
            axes.plot(THRESHOLD, of["f1"], color=BLUE)
            axes.axhline(
                figures["figures"]["floor_f1"][a], color=ORANGE, linestyle="--", linewidth=1, label=ALL_POSITIVE
            )
            axes.vlines(of["chosen"], 0, 0.06, color=PURPLE, linewidth=0.6)
            axes.axvline(figures["figures"]["threshold"][a], color=PURPLE, linewidth=1.2, label="tuned, mean")

        return self._panels(run, draw, "threshold", "F1")

    def reliability(self, run: str | None = None) -> Figure:
        """The share of positives by predicted probability, a panel for each attribute; default of the simplest run."""

        def draw(axes: Any, of: OfAttribute, a: int, figures: Run) -> None:
            bins = of["reliability"]
            axes.plot([0, 1], [0, 1], color=ORANGE, linestyle="--", linewidth=1, label="calibrated")
            axes.vlines(bins["probability"], bins["low"], bins["high"], color=BLUE, alpha=0.5, linewidth=2)
            axes.plot(bins["probability"], bins["positive"], "o", color=BLUE, markersize=3.5)

        return self._panels(run, draw, "predicted probability", "share of positives")

    def missingness(self) -> Figure:
        """Positive, negative and missing labels of each attribute.

        Raises:
            UserError: the files do not hold the counts.
        """
        data, names = self.document["data"], self._attributes
        if data is None or data["n_observed"] is None or data["n_positive"] is None:
            raise UserError("data.json: found no n_observed and n_positive; execute the same config again")
        positive, observed = np.array(data["n_positive"]), np.array(data["n_observed"])
        figure, axes = _figure(7.5, 1.4 + 0.28 * len(names))
        places = np.arange(len(names))[::-1]
        axes.barh(places, positive, color=BLUE, label="positive")
        axes.barh(places, observed - positive, left=positive, color=ORANGE, label="negative")
        missing = data["n_used"] - observed
        axes.barh(places, missing, left=observed, color="white", edgecolor=GREY, hatch="//", label="missing")
        _names(axes.yaxis, list(names)[::-1])
        axes.set(xlabel="images")
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / (1.4 + 0.28 * len(names))), ncols=3, frameon=False
        )
        return figure

    @property
    def _runs(self) -> list[Run]:
        """The finished runs, the best on validation first."""
        runs = {run["id"]: run for run in self.document["runs"]}
        if not self.document["ranking"]:
            raise UserError(f"{self.document['title']}: found no finished run, expected one to draw")
        return [runs[run_id] for run_id in self.document["ranking"]]

    @property
    def _attributes(self) -> list[str]:
        return [attribute["name"] for attribute in self.document["attributes"]]

    def _panels(
        self, run: str | None, draw: Callable[[Any, OfAttribute, int, Run], None], xlabel: str, ylabel: str
    ) -> Figure:
        """A panel for each attribute of a run.

        Raises:
            UserError: the document has no curves of that run.
        """
        runs = {one["id"]: one for one in self._runs}
        run = self.document["simplest"] if run is None else run
        if run is None or run not in self.document["curves"]:
            expected = ", ".join(self.document["curves"])
            raise UserError(f"run: found {run!r}, expected the id of a run with curves: {expected}")
        names = self._attributes
        rows = math.ceil(len(names) / PANELS)
        figure, _ = _figure(2.6 * min(PANELS, len(names)), 0.6 + 2.3 * rows, axes=False)
        panels = figure.subplots(rows, min(PANELS, len(names)), squeeze=False, sharex=True, sharey=True)
        for a, (axes, name) in enumerate(zip(panels.flat, names, strict=False)):
            draw(axes, self.document["curves"][run]["attributes"][a], a, runs[run])
            axes.set_title(_short(name), fontsize=9, parse_math=False)
            axes.set(xlim=(0, 1), ylim=(0, 1.02))
            axes.grid(alpha=0.3)
        for axes in panels.flat[len(names) :]:
            axes.set_axis_off()
        panels[0, 0].legend(fontsize=7, frameon=False)
        figure.supxlabel(xlabel, fontsize=10)
        figure.supylabel(ylabel, fontsize=10)
        return figure


def as_file(figure: Figure, form: Form) -> bytes:
    """A figure as the content of a file: the same bytes for the same figure."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "aimonk_bench", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(file, format=form, metadata=METADATA[form], dpi=150)
    return file.getvalue()


def _figure(width: float, height: float, axes: bool = True) -> tuple[Figure, Any]:
    """A figure of these inches whose parts are laid out when it is drawn, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot() if axes else None


def _macro(run: Run, name: str) -> float:
    return float(run["figures"][name][-1])


def _names(axis: Any, names: Sequence[str], **style: Any) -> None:
    """Names as the ticks of an axis; a name is text, whatever signs it has."""
    axis.set_ticks(np.arange(len(names)), [_short(name) for name in names], parse_math=False, fontsize=8, **style)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
