"""Charts as files: the numbers of the page, the same bytes each time, names as text."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from fake_pages import HOSTILE

import aimonk_bench
from aimonk_bench import cli
from aimonk_bench.errors import UserError
from aimonk_bench.report.plots import NAMES, Form, as_file


def test_the_command_writes_every_chart(suite_folder: Path, tmp_path: Path) -> None:
    assert cli.main(["plots", str(suite_folder), "-o", str(tmp_path / "new"), "--format", "svg"]) == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(f"{name}.svg" for name in NAMES)
    assert "<script" not in (tmp_path / "new" / "leaderboard.svg").read_text()


def test_figures_show_the_numbers_and_are_the_same_each_time(suite_folder: Path) -> None:
    suite = aimonk_bench.load(suite_folder)
    board = suite.plot.leaderboard()
    [axes] = board.axes
    expected = suite.pivot("f1_tuned")["macro"].dropna()
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), expected[suite.plot.document["ranking"]])
    names = [label.get_text() for label in suite.plot.heat_map().axes[0].get_xticklabels()]
    assert names == [name if len(name) <= 40 else f"{name[:39]}…" for name in HOSTILE]
    for form in get_args(Form):
        first, again = (as_file(suite.plot.missingness(), form) for _ in range(2))
        assert first == again


def test_a_run_without_curves_is_named(suite_folder: Path) -> None:
    suite = aimonk_bench.load(suite_folder)
    with pytest.raises(UserError, match=f"found 'sweet', expected .*{suite.baseline.id}"):
        suite.plot.reliability("sweet")
