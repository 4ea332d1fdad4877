"""Pictures of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.records.files import atomic

if TYPE_CHECKING:
    import pandas as pd

# Okabe and Ito's colours, which colour-blind readers can tell apart, each with a mark of its own
STYLES = (
    *(("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v"), ("#E69F00", "P")),
    *(("#000000", "X"), ("#999999", "<"), ("#8C564B", ">")),
)
OF_CURVE = ("seed", "fold", "iteration_number", "training_loss")  # columns of a history
HIGHEST = "highest"
MECHANISMS = {
    "random": "every label alike",
    "per_class": "equally many per class stay",
    "positives": "only positives go",
    "score": "low scores go first",
}


@dataclass(frozen=True)
class HiddenScore:
    """How well a run does with a part of its labels hidden.

    Attributes:
        mechanism: how they were hidden; None where none was.
        fraction: of the labels (of the positives, where only those go), 0 where none was.
        recipe: what distinguishes the run from others with the same labels.
        f1: macro, at tuned thresholds.
        average_precision: macro.
    """

    mechanism: str | None
    fraction: float
    recipe: str
    f1: float
    average_precision: float


def loss_curve(history: Mapping[str, npt.ArrayLike] | pd.DataFrame, title: str, path: Path) -> None:
    """Draw ``training_loss`` over ``iteration_number``: every head thin, the mean of those still training thick.

    Args:
        history: the columns OF_CURVE, of one length; heads may end at different iterations.
        title: of the plot.
        path: of the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    seed, fold, iteration, loss = (np.asarray(history[name]) for name in OF_CURVE)
    order = np.lexsort((iteration, fold, seed))
    points = np.column_stack([iteration, loss])[order]
    starts = np.flatnonzero(np.diff(seed[order]) | np.diff(fold[order])) + 1
    heads = np.split(points, starts)

    figure = Figure(figsize=(8, 5), dpi=100)
    FigureCanvasAgg(figure)  # its own canvas, so that no display and no global state is touched
    axes = figure.add_subplot()
    thin = LineCollection(heads, linewidths=0.6, alpha=0.2, colors="tab:blue", label=f"{len(heads)} heads")
    axes.add_collection(thin)
    training = np.bincount(iteration)
    seen = np.flatnonzero(training)
    mean = np.bincount(iteration, weights=loss)[seen] / training[seen]
    axes.plot(seen, mean, linewidth=2.0, color="tab:orange", label="mean")
    axes.set(xlabel="iteration_number", ylabel="training_loss")
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    if len(heads) > 1:
        axes.legend(loc="upper right")
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.1, top=0.93)
    with atomic(path) as partial:  # one for every run: the least compression takes a quarter of the usual one's time
        figure.savefig(partial, format="png", pil_kwargs={"compress_level": 1})


def missingness(scores: Sequence[HiddenScore], title: str, path: Path) -> None:
    """Draw F1 and average precision over the fraction hidden: a column per mechanism, a line per recipe.

    Runs without hidden labels stand at 0 in every column, and at each fraction the highest recipe has a ring. Where
    several runs are of one recipe, mechanism and fraction (other seeds of the hiding, say), the line goes through their
    mean and each is a dot. Recipes stand a little side by side, so that none covers another.

    Args:
        title: of the picture.
        path: of the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mechanisms = list(dict.fromkeys(score.mechanism for score in scores if score.mechanism))
    recipes = list(dict.fromkeys(score.recipe for score in scores))
    fractions = sorted({score.fraction for score in scores})
    width = 0.18 * min(np.diff(fractions), default=0.0) if len(recipes) > 1 else 0.0
    styles = {recipe: STYLES[number % len(STYLES)] for number, recipe in enumerate(recipes)}
    figure = Figure(figsize=(2.4 + 2.6 * len(mechanisms), 6.4), dpi=110)
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(mechanisms), sharex=True, sharey="row", squeeze=False)
    shown: dict[str, Any] = {}
    for column, mechanism in zip(panels.T, mechanisms, strict=True):
        own = [score for score in scores if score.mechanism in (mechanism, None)]
        for axes, name in zip(column, ("f1", "average_precision"), strict=True):
            shown |= _panel(axes, own, name, styles, width)
        family, *rest = mechanism.split(", ")
        column[0].set_title("\n".join([family, ", ".join([MECHANISMS.get(family, family), *rest])]), fontsize=10)
        column[1].set_xlabel("fraction of the positives hidden" if family == "positives" else "fraction hidden")
    panels[0, 0].set_xticks(fractions)  # of all panels
    panels[0, 0].set_ylabel("macro F1, tuned")
    panels[1, 0].set_ylabel("macro average precision")
    figure.suptitle(title, parse_math=False, fontsize=12)
    names = [*recipes, HIGHEST]
    rows = -(-len(names) // (2 + len(mechanisms)))
    marks = [shown[name] for name in names]
    figure.legend(marks, names, loc="lower center", ncols=-(-len(names) // rows), frameon=False)
    figure.tight_layout(rect=(0, 0.02 + 0.035 * rows, 1, 1))
    with atomic(path) as partial:
        figure.savefig(partial, format="png")


def _panel(
    axes: Any, scores: Sequence[HiddenScore], name: str, styles: Mapping[str, tuple[str, str]], width: float
) -> dict[str, Any]:
    """The lines of one mechanism and figure, and the rings; what the legend shows of each.

    Args:
        width: the recipes stand side by side over this width round each fraction, so that equal ones can be seen.
    """
    shown: dict[str, Any] = {}
    highest: dict[float, tuple[float, float]] = {}  # fraction -> the figure and where it stands
    for shift, (recipe, (colour, mark)) in zip(
        np.linspace(-width, width, len(styles)) / 2, styles.items(), strict=True
    ):
        values: dict[float, list[float]] = defaultdict(list)
        for score in sorted(scores, key=lambda score: score.fraction):
            if score.recipe == recipe:
                values[score.fraction].append(getattr(score, name))
        means = {fraction: float(np.mean(own)) for fraction, own in values.items()}
        for fraction, mean in means.items():
            if fraction not in highest or mean > highest[fraction][0]:
                highest[fraction] = mean, fraction + shift
        places = [fraction + shift for fraction in means]
        line = {"color": colour, "marker": mark, "markersize": 5, "linewidth": 1.2}
        (shown[recipe],) = axes.plot(places, [*means.values()], **line)
        repeated = [(fraction + shift, value) for fraction, own in values.items() if len(own) > 1 for value in own]
        axes.scatter(*zip(*repeated, strict=True) if repeated else ((), ()), s=7, color=colour, alpha=0.5, linewidths=0)
    ring = {"color": "0.35", "markersize": 11, "markerfacecolor": "none"}
    (shown[HIGHEST],) = axes.plot(
        [place for _, place in highest.values()], [top for top, _ in highest.values()], "o", **ring
    )
    axes.grid(alpha=0.3)
    axes.margins(x=0.08, y=0.08)
    return shown
