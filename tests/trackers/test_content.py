"""What trackers are given: the config by dots, the figures of the summary, names that they accept."""

from __future__ import annotations

import fake_suite
import numpy as np
import pytest

import aimonk_bench as ab
from aimonk_bench.errors import UserError
from aimonk_bench.trackers import content

HOSTILE = ["a b", "a/b", "grün", "a_b", "x" * 300]


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """13 runs that are done, one that failed and one that was not run."""
    folder = tmp_path_factory.mktemp("tracked") / "comparison"
    fake_suite.comparison(folder, attributes=HOSTILE)
    return ab.Suite(folder)


@pytest.mark.parametrize(
    ("config", "flat"),
    [
        ({"loss": "focal"}, {"loss.name": "focal"}),
        ({"loss": {"name": "focal", "gamma": 2.0}}, {"loss.name": "focal", "loss.gamma": "2.0"}),
        ({"train": {"optimizer": "adam", "lr": 1e-3}}, {"train.optimizer.name": "adam", "train.lr": "0.001"}),
        ({"train": {"seeds": [0, 1]}, "hide": None}, {"train.seeds": "[0, 1]", "hide": "null"}),
        ({"tune": {}, "plugins": []}, {"tune": "{}", "plugins": "[]"}),
        ({"data": {"values": {"a": {"positive": ["1"]}}}}, {"data.values.a.positive": '["1"]'}),
        ({"backbone": {"name": "resnet18"}}, {"backbone.name": "resnet18"}),
    ],
)
def test_a_config_is_flattened_by_dots(config, flat):
    assert dict(content.flattened(config)) == flat


def test_figures_are_those_of_the_summary_and_undefined_ones_are_left_out(suite):
    table = suite.summary.set_index(["run", "attribute"])
    names = dict(zip([*HOSTILE, "macro"], content.distinct([*HOSTILE, "macro"]), strict=True))
    for run in content.tracked(suite._figures):
        if run.failure is not None:
            assert (run.figures, run.curves) == ({}, {})
            continue
        for attribute, name in names.items():
            row = table.loc[(run.id, attribute)]
            for column in ("f1_tuned", "f1_tuned_low", "roc_auc", "threshold", "p_value"):
                assert run.figures.get(f"{column}/{name}") == (None if np.isnan(row[column]) else row[column])
        assert run.curves["training_loss"].values.tolist() == [0.7, 0.6]


def test_the_suite_has_the_figures_of_the_nested_selection(suite):
    above = content.tracked_suite(suite._figures)
    assert above.figures["f1_tuned/macro"] == suite._figures.nested["f1_tuned"][-1]
    assert content.tracked_suite(suite.finished[0]._figures) is None


def test_names_are_accepted_and_distinct():
    assert content.distinct(HOSTILE) == ["a_b", "a_b-2", "gr_n", "a_b-3", "x" * 100]


def test_what_cannot_be_logged_is_refused(suite, tmp_path):
    with pytest.raises(UserError, match="to: found 'wandb'"):
        ab.log(suite, to="wandb")
    with pytest.raises(UserError, match="found no file or folder"):
        ab.log(suite, to="mlflow", artifacts=[tmp_path / "report.html"])
    with pytest.raises(UserError, match="keeps none"):
        ab.log(suite, to="tensorboard", artifacts=[tmp_path])
    (fake_suite.write_suite(tmp_path / "empty", ["a"])[0]).mkdir(parents=True)
    with pytest.raises(UserError, match="no run that ended"):
        ab.log(tmp_path / "empty", to="tensorboard")
