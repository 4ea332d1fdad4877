"""What a suite compares unfairly by its configs alone."""

from __future__ import annotations

import pytest
from small_tables import DATA

from aimonk_bench.config.loader import load, load_suite, shipped_configs
from aimonk_bench.evaluation.fairness import planned
from aimonk_bench.suite import preview
from aimonk_bench.suite.budgets import training_of, untuned
from aimonk_bench.tables import tables


def unfair(path):
    suite = load_suite(path, tables(), check_paths=False)
    items = planned({str(number): training_of(run.config) for number, run in enumerate(suite.runs)})
    return [(item.kind, item.key or item.policy or item.differs) for item in items]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tune: {train.lr: [1e-3]}\nsuite: {baseline: {loss: focal}, axes: {loss: [focal, hill]}}", [("one_rate", ())]),
        (
            "suite: {baseline: {loss: focal}, axes: {loss: [focal, hill], train.lr: [1e-3, 1e-2]}, exclude: "
            "[{loss: focal, train.lr: 1e-2}, {loss: hill, train.lr: 1e-3}]}",
            [("rates", ())],
        ),
        (
            "suite: {baseline: {tune: default}, axes: {tune: [default, {train.lr: [1e-6, 1e-5]}]}}",
            [("budgets", ("grid",))],
        ),
        (
            "suite: {baseline: {missing: ignore}, axes: {missing: [ignore, self_trained]}}",
            [("teacher", "self_trained")],
        ),
        (
            "suite: {baseline: {train: {epochs: 4}}, axes: "
            "{train: [{epochs: 4}, {epochs: 4, select: f1_default, patience: 1}]}}",
            [("budgets", ("select", "patience"))],
        ),
    ],
)
def test_unfair_suites_are_found(tmp_path, text, expected):
    path = tmp_path / "s.yaml"
    path.write_text(DATA + text)
    assert unfair(path) == expected


def test_a_preview_looks_at_every_run_though_two_have_one_name(tmp_path):
    """A learning rate that is set is not tuned; it is not part of the name where it is the default one."""
    path = tmp_path / "s.yaml"
    path.write_text(DATA + "suite: {baseline: {train: {}}, axes: {train: [{}, {lr: 1e-3}]}}")
    suite = load_suite(path, tables(), check_paths=False)
    assert len({run.parts for run in suite.runs}) == 1
    [sentence] = preview._unfair(suite)
    assert sentence.startswith("budgets differ (grids of `tune`)")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, []) for name in ("comparison", "elpv", "elpv_uncertain", "tuned", "aimonk", "backbones")),
        ("missingness", [("teacher", "self_trained")]),
        ("elpv_finetuned", [("budgets", ("epochs", "batch_size", "optimizer", "schedule", "grid"))]),
    ],
)
def test_shipped_suites_raise_no_false_alarm(name, expected):
    assert unfair(shipped_configs() / "suites" / f"{name}.yaml") == expected


@pytest.mark.parametrize(
    ("overrides", "notes"),
    [
        ({}, []),
        ({"train.lr": 1e-4}, ["not tuned: train.lr 0.0001, train.weight_decay 0.003"]),
        (
            {"tune": {"train.lr": [0.1, 1.0], "train.weight_decay": [0.5]}, "loss": {"name": "focal", "gamma": 3.0}},
            ["not tuned: train.weight_decay 0.5, loss.gamma 3, loss.alpha 0.25"],
        ),
        ({"backbone.freeze": "layer4"}, []),
    ],
)
def test_what_heads_do_not_tune_is_a_note_of_the_run(tmp_path, overrides, notes):
    path = tmp_path / "x.yaml"
    path.write_text(DATA)
    assert untuned(load(path, tables(), overrides, check_paths=False)) == notes
