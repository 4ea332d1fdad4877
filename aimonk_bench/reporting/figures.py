"""Pictures of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aimonk_bench.records.files import atomic


def loss_curve(history: Mapping[str, npt.ArrayLike], title: str, path: Path) -> None:
    """Draw ``training_loss`` over ``iteration_number``: every head thin, the mean of those still training thick.

    Args:
        history: the columns seed, fold, iteration_number and training_loss, of one length; heads may end at different
            iterations.
        title: of the plot.
        path: of the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    names = ("seed", "fold", "iteration_number", "training_loss")
    seed, fold, iteration, loss = (np.asarray(history[name]) for name in names)
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
    with atomic(path) as partial:
        figure.savefig(partial, format="png")
