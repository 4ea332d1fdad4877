"""The figures that `run` and `suite` draw: the loss curve of a run, and the scores of a suite that hides labels."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart, each with another marker
STYLES = (
    *(("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v"), ("#E69F00", "P")),
    *(("#000000", "X"), ("#999999", "<"), ("#8C564B", ">")),
)
MECHANISMS = {  # of hiding labels
    "random": "missing completely at random",
    "per_class": "equally many of each class stay",
    "positives": "positives only (PU)",
    "score": "score-dependent (MNAR)",
}


@dataclass(frozen=True)
class HiddenScore:
    """How well a run does with a part of its labels hidden.

    Attributes:
        mechanism: by which labels were hidden, a key of `MECHANISMS`; None where none were.
        train_only: only labels of training rows were hidden.
        fraction: of the labels (under "positives", of the positive ones) that were hidden.
        recipe: what distinguishes the run from others with the same labels.
        f1: macro, at tuned thresholds.
        average_precision: macro.
    """

    mechanism: str | None
    train_only: bool
    fraction: float
    recipe: str
    f1: float
    average_precision: float


def _png(figure: Figure) -> bytes:
    """The figure as a PNG file; the least compression takes a quarter of the time of the default."""
    file = io.BytesIO()
    figure.savefig(file, format="png", pil_kwargs={"compress_level": 1})
    return file.getvalue()


def loss_curve(history: Mapping[str, npt.ArrayLike] | pd.DataFrame, title: str) -> bytes:
    """Draw ``training_loss`` over ``iteration_number``: every head thin, the mean of those still training thick.

    Args:
        history: the columns of ``history.csv``; heads may end at different iterations.
        title: of the plot.

    Returns:
        A PNG file.
    """
    import pandas as pd
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    names = ["seed", "fold", "iteration_number", "training_loss"]
    losses = pd.DataFrame({name: history[name] for name in names}).sort_values(names[:3])
    heads = [head[names[2:]].to_numpy() for _, head in losses.groupby(names[:2])]
    mean = losses.groupby("iteration_number")["training_loss"].mean()
    figure = Figure(figsize=(8, 5), dpi=100)
    axes = figure.add_subplot()
    label = f"{len(heads)} heads"
    axes.add_collection(LineCollection(heads, linewidths=0.6, alpha=0.2, colors="tab:blue", label=label))
    axes.plot(mean.index, mean, linewidth=2.0, color="tab:orange", label="mean")
    axes.set(xlabel="iteration_number", ylabel="training_loss")
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    if len(heads) > 1:
        axes.legend(loc="upper right")
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.1, top=0.93)
    return _png(figure)


def missingness(scores: Sequence[HiddenScore], title: str) -> bytes:
    """Draw F1 and average precision over the fraction hidden: a column per mechanism, a line per recipe.

    Runs without hidden labels stand at 0 in every column, and at each fraction the best recipe has a ring. Where
    several runs are of one recipe, mechanism and fraction (other seeds of the hiding, say), the line goes through their
    mean and each run is a dot. Recipes stand a little side by side, so that none covers another.

    Args:
        scores: of every run.
        title: of the plot.

    Returns:
        A PNG file.
    """
    import pandas as pd
    from matplotlib.figure import Figure

    table = pd.DataFrame(list(scores))
    recipes, fractions = table["recipe"].unique(), np.unique(table["fraction"])
    width = 0.18 * min(np.diff(fractions), default=0.0) if len(recipes) > 1 else 0.0
    shifts = pd.Series(np.linspace(-width, width, len(recipes)) / 2, index=recipes)
    ways = table[["mechanism", "train_only"]].dropna().drop_duplicates().itertuples(index=False, name=None)
    mechanisms = list(ways)
    figure = Figure(figsize=(2.6 + 2.9 * len(mechanisms), 7.0), dpi=100)
    panels = figure.subplots(2, len(mechanisms), sharex=True, sharey="row", squeeze=False)
    for column, (mechanism, train_only) in zip(panels.T, mechanisms, strict=True):
        same = (table["mechanism"] == mechanism) & (table["train_only"] == train_only)
        for axes, name in zip(column, ("f1", "average_precision"), strict=True):
            _panel(axes, table[same | table["mechanism"].isna()], name, shifts)
        where = ", training rows only" if train_only else ""
        column[0].set_title(f"{mechanism}\n{MECHANISMS[mechanism]}{where}", fontsize=10)
        column[1].set_xlabel("fraction of positives hidden" if mechanism == "positives" else "fraction hidden")
    panels[0, 0].set_xticks(fractions)  # of all panels
    panels[0, 0].set_ylabel("macro F1, tuned")
    panels[1, 0].set_ylabel("macro average precision")
    figure.suptitle(title, parse_math=False, fontsize=12)
    lines, names = panels[0, 0].get_legend_handles_labels()
    rows = -(-len(names) // (2 + len(mechanisms)))
    figure.legend(lines, names, loc="lower center", ncols=-(-len(names) // rows), frameon=False)
    figure.tight_layout(rect=(0, 0.02 + 0.035 * rows, 1, 1))
    return _png(figure)


def _panel(axes: Any, table: pd.DataFrame, name: str, shifts: pd.Series) -> None:
    """Draw a column over ``fraction``: a line for each recipe, shifted by ``shifts``, and rings round the best."""
    means = table.pivot_table(name, "fraction", "recipe").reindex(columns=shifts.index)  # mean of each recipe
    for (recipe, shift), (colour, marker) in zip(shifts.items(), itertools.cycle(STYLES), strict=False):
        line, runs = means[recipe].dropna(), table[table["recipe"] == recipe]
        axes.plot(line.index + shift, line, color=colour, marker=marker, markersize=5, linewidth=1.2, label=recipe)
        repeated = runs[runs.duplicated("fraction", keep=False)]
        axes.scatter(repeated["fraction"] + shift, repeated[name], s=7, color=colour, alpha=0.5, linewidths=0)
    ring = {"color": "0.35", "markersize": 11, "markerfacecolor": "none", "label": "highest"}
    axes.plot(means.index + means.idxmax(axis=1).map(shifts), means.max(axis=1), "o", **ring)
    axes.grid(alpha=0.3)
    axes.margins(x=0.08, y=0.08)
