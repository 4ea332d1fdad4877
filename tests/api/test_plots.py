"""Plots: the numbers that stand in the summary, the same bytes every time, names that are no formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import fake_suite
import matplotlib
import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve

import aimonk_bench as ab
from aimonk_bench import cli
from aimonk_bench.errors import UserError
from aimonk_bench.reporting import plots

HOSTILE = ["$x_1$", "<script>", "bell\x07", "right\u202eleft", "n" * 200]
FILES = {"leaderboard", "heat_map", "precision_recall", "threshold_sweep", "reliability", "missingness"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> ab.Suite:
    """13 runs that are done, one that failed and one that was not run; `rare` has no positive label."""
    folder = tmp_path_factory.mktemp("plots") / "comparison"
    fake_suite.comparison(folder, attributes=("attr1", "rare", "attr3"), without_positives=("rare",))
    return ab.Suite(folder)


def lines(axes: Any) -> list[np.ndarray]:
    return [np.column_stack(line.get_data()) for line in axes.get_lines()]


def test_the_leaderboard_has_the_macro_figures_in_the_order_of_validation(suite: ab.Suite) -> None:
    [axes] = suite.plot.leaderboard(top=5).axes
    shown = suite._figures.ranking[:5]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [*(suite[run_id].name for run_id in shown), "selected per fold"] or names[0].endswith(" *")
    macro = suite.summary[suite.summary["attribute"] == "macro"].set_index("run")
    drawn = lines(axes)
    for place, run_id in enumerate(shown):
        interval, dot = drawn[2 * place], drawn[2 * place + 1]
        np.testing.assert_array_equal(interval[:, 0], macro.loc[run_id, ["f1_tuned_low", "f1_tuned_high"]])
        np.testing.assert_array_equal(dot, [[macro.loc[run_id, "f1_tuned"], place]])


def test_a_heat_map_has_the_column_of_each_run_and_attribute(suite: ab.Suite) -> None:
    axes, scale = suite.plot.heat_map("average_precision").axes
    assert scale.get_ylabel() == "AP"
    [image] = axes.get_images()
    wide = suite.pivot("average_precision").loc[list(suite._figures.ranking)]
    np.testing.assert_array_equal(image.get_array().filled(np.nan), wide.to_numpy())
    with pytest.raises(UserError, match="column: found 'f2'"):
        suite.plot.heat_map("f2")


def test_curves_are_those_of_scikit_learn(suite: ab.Suite) -> None:
    run = suite.finished[0]
    made, tuned = run._scored
    rows = made.part("test")
    observed = rows.labels.observed[:, 0]
    truth, scores = rows.labels.positive[observed, 0], rows.probabilities[0, observed, 0]
    precision, recall, limits = precision_recall_curve(truth, scores)
    of_seed = lines(run.plot.precision_recall().axes[0])[0]
    np.testing.assert_allclose(of_seed[::-1], np.column_stack([recall, precision])[: len(limits)])
    seeds, swept = len(made.seed), lines(run.plot.threshold_sweep().axes[0])
    verticals, curve = swept[: tuned.values[..., 0].size], swept[-seeds]
    assert {float(line[0, 0]) for line in verticals} == set(tuned.values[..., 0].ravel())
    np.testing.assert_allclose(curve[:, 1], [f1_score(truth, scores > limit) for limit in curve[:, 0]])


def test_an_attribute_without_positives_says_so(suite: ab.Suite) -> None:
    axes = suite.finished[0].plot.precision_recall().axes[1]
    assert [text.get_text() for text in axes.texts] == ["no positive test label"]


def test_the_diagonal_of_missing_labels_is_their_share(suite: ab.Suite) -> None:
    run = suite.finished[0]
    [image] = run.plot.missingness().axes[0].get_images()
    missing = ~run._scored[0].part("test").labels.observed
    np.testing.assert_allclose(np.diag(image.get_array()), 100 * missing.mean(axis=0))


def test_files_have_the_same_bytes_again_whatever_the_users_settings(suite: ab.Suite, tmp_path: Path) -> None:
    first = {file.name: file.read_bytes() for file in suite.plot.save(tmp_path / "a")}
    figure = suite.plot.leaderboard()
    again = {form: plots.save(figure, form) for form in get_args(plots.Format)}
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 20}):
        assert cli.main(["plots", str(suite.folder), "-o", str(tmp_path / "b")]) == 0
        assert {form: plots.save(suite.plot.leaderboard(), form) for form in again} == again
    assert {file.name: file.read_bytes() for file in (tmp_path / "b").iterdir()} == first
    assert set(first) == {f"{name}.png" for name in FILES}


def test_names_are_no_formulas_and_no_control_signs(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path / "run", "one", fake_suite.predictions(HOSTILE))
    run = ab.Run(tmp_path / "run")
    titles = [axes.get_title() for axes in run.plot.precision_recall().axes]
    assert titles == ["$x_1$", "<script>", "bell\\x07", "right\\u202eleft", "n" * (plots.LONGEST_ATTRIBUTE - 1) + "…"]
    assert len(run.plot.save(tmp_path, "svg")) == len(FILES)


def test_a_run_that_is_not_there_is_refused(suite: ab.Suite, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the id or name of a run"):
        suite.plot.reliability("nothing")
    with pytest.raises(UserError, match="the only run"):
        suite.finished[0].plot.reliability("nothing")
    with pytest.raises(UserError, match="format: found 'jpg'"):
        suite.plot.save(tmp_path, "jpg")  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        suite.plot.save(tmp_path / "file")
