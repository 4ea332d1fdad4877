"""What the plots show; that they are written is seen in the tests of whole suites."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from aimonk_bench.reporting import figures
from aimonk_bench.reporting.figures import HiddenScore

SCORES = [
    HiddenScore(None, 0.0, "ignore", 0.80, 0.90),
    HiddenScore(None, 0.0, "negative", 0.81, 0.89),
    HiddenScore("random", 0.6, "ignore", 0.70, 0.80),
    HiddenScore("random", 0.3, "ignore", 0.74, 0.84),
    HiddenScore("random", 0.3, "ignore", 0.76, 0.86),  # another seed of the hiding
    HiddenScore("random", 0.6, "negative", 0.60, 0.70),
    HiddenScore("positives, training rows only", 0.3, "ignore", 0.5, float("nan")),
]
STYLES = {"ignore": ("red", "o"), "negative": ("blue", "s")}


def test_a_panel_has_a_line_per_recipe_and_rings_the_highest() -> None:
    axes = Figure().subplots()
    shown = figures._panel(axes, SCORES[:6], "f1", STYLES, 0.02)
    shift = 0.01
    for name, expected in {
        "ignore": [[0.0 - shift, 0.80], [0.3 - shift, 0.75], [0.6 - shift, 0.70]],
        "negative": [[0.0 + shift, 0.81], [0.6 + shift, 0.60]],
        "highest": [[0.0 + shift, 0.81], [0.3 - shift, 0.75], [0.6 - shift, 0.70]],
    }.items():
        np.testing.assert_allclose(shown[name].get_xydata(), expected, err_msg=name)
    dots = np.concatenate([dots.get_offsets() for dots in axes.collections])
    np.testing.assert_allclose(dots, [[0.3 - shift, 0.74], [0.3 - shift, 0.76]])


def test_the_plot_has_two_panels_per_mechanism(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *arguments: object, **options: object) -> None:
        drawn.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    figures.missingness(SCORES, "of $1 and $2", tmp_path / "missingness.png")
    (figure,) = drawn
    panels = np.reshape(figure.axes, (2, 2))
    assert [axes.get_title().split("\n")[0] for axes in panels[0]] == ["random", "positives"]
    assert panels[0, 1].get_title().endswith("training rows only")
    assert [axes.get_xlabel() for axes in panels[1]] == ["fraction hidden", "fraction of the positives hidden"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["macro F1, tuned", "macro average precision"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ignore", "negative", "highest"]
    height, width, _ = cv2.imread(str(tmp_path / "missingness.png")).shape
    assert height > 500 < width
