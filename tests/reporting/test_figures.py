"""What the plots show; the tests of whole suites see that they are written."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from aimonk_bench.reporting import figures
from aimonk_bench.reporting.figures import HiddenScore

SCORES = [
    HiddenScore(None, False, 0.0, "ignore", 0.80, 0.90),
    HiddenScore(None, False, 0.0, "negative", 0.81, 0.89),
    HiddenScore("random", False, 0.6, "ignore", 0.70, 0.80),
    HiddenScore("random", False, 0.3, "ignore", 0.74, 0.84),
    HiddenScore("random", False, 0.3, "ignore", 0.76, 0.86),  # another seed of the hiding
    HiddenScore("random", False, 0.6, "negative", 0.60, 0.70),
    HiddenScore("positives", True, 0.3, "ignore", 0.5, float("nan")),
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *arguments: object, **options: object) -> None:
        saved.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def test_loss_curve_has_the_exact_texts_every_head_and_their_mean(drawn: list[Figure]) -> None:
    ends = {(0, 0): 5, (0, 1): 3, (1, 0): 4}
    heads = {key: np.random.default_rng(i).random(n) for i, (key, n) in enumerate(ends.items())}
    rows = [(s, f, i + 1, loss) for (s, f), losses in heads.items() for i, loss in enumerate(losses)]
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    names = ("seed", "fold", "iteration_number", "training_loss")
    history = dict(zip(names, map(np.array, zip(*shuffled, strict=True)), strict=True))
    assert figures.loss_curve(history, "cost in $ of $x").startswith(b"\x89PNG")
    (axes,) = drawn[0].axes
    texts = (axes.get_xlabel(), axes.get_ylabel(), axes.get_title())
    assert texts == ("iteration_number", "training_loss", "cost in $ of $x")
    (thin,) = [artist for artist in axes.collections if isinstance(artist, LineCollection)]
    for (_, losses), segment in zip(sorted(heads.items()), thin.get_segments(), strict=True):
        np.testing.assert_array_equal(segment, np.column_stack([np.arange(1, len(losses) + 1), losses]))
    (thick,) = axes.lines
    expected = [np.mean([losses[i] for losses in heads.values() if len(losses) > i]) for i in range(5)]
    np.testing.assert_allclose(thick.get_ydata(), expected)
    assert thick.get_linewidth() > thin.get_linewidth()[0]


def test_loss_curve_of_one_head(drawn: list[Figure]) -> None:
    history = {"seed": [0, 0], "fold": [0, 0], "iteration_number": [1, 2], "training_loss": [0.7, 0.6]}
    figures.loss_curve(history, "Aimonk_multilabel_problem")
    assert drawn[0].axes[0].get_legend() is None


def test_a_panel_has_a_line_per_recipe_dots_of_repeated_runs_and_rings_round_the_highest(drawn: list[Figure]) -> None:
    figures.missingness(SCORES, "title")
    axes = drawn[0].axes[0]
    shift = 0.18 * 0.3 / 2
    expected = {
        "ignore": [[0.0 - shift, 0.80], [0.3 - shift, 0.75], [0.6 - shift, 0.70]],
        "negative": [[0.0 + shift, 0.81], [0.6 + shift, 0.60]],
        "highest": [[0.0 + shift, 0.81], [0.3 - shift, 0.75], [0.6 - shift, 0.70]],
    }
    assert [line.get_label() for line in axes.lines] == list(expected)
    for line, points in zip(axes.lines, expected.values(), strict=True):
        np.testing.assert_allclose(line.get_xydata(), points, err_msg=str(line.get_label()))
    dots = np.concatenate([dots.get_offsets() for dots in axes.collections])
    np.testing.assert_allclose(dots, [[0.3 - shift, 0.74], [0.3 - shift, 0.76]])


def test_the_plot_has_two_panels_per_mechanism(drawn: list[Figure]) -> None:
    png = figures.missingness(SCORES, "of $1 and $2")
    (figure,) = drawn
    panels = np.reshape(figure.axes, (2, 2))
    assert [axes.get_title().split("\n")[0] for axes in panels[0]] == ["random", "positives"]
    assert panels[0, 1].get_title().endswith("training rows only")
    assert [axes.get_xlabel() for axes in panels[1]] == ["fraction hidden", "fraction of positives hidden"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["macro F1, tuned", "macro average precision"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ignore", "negative", "highest"]
    height, width, _ = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape
    assert height > 500 < width
