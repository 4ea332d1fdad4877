"""The grid of `tune`: inherited as a whole, and left by the keys that are set explicitly."""

from __future__ import annotations

import logging

import pytest
from small_tables import DATA, load, load_suite, problems

from aimonk_bench.config import grid, loader
from aimonk_bench.config.fields import DEFAULT_GRID, TRAINABLE_LAYERS, TrainConfig
from aimonk_bench.registry import Spec

BOTH = "tune: {train.lr: [0.1, 0.2], train.weight_decay: [0.5]}\n"
DECAYS = {"train.weight_decay": [0.5]}
TUNED = DATA + "tune: default\n"
HEADS = {key: getattr(TrainConfig(), key) for key in TRAINABLE_LAYERS}
AXES = "suite: {{baseline: {{}}, axes: {{{}}}}}\n"


@pytest.mark.parametrize(
    ("base", "text", "overrides", "tune"),
    [
        ("", "", [], DEFAULT_GRID),
        ("", "train: {lr: 0.1}\n", [], {}),
        ("train: {lr: 0.1}\n", "", [], {}),
        ("", "backbone: {freeze: none}\n", [], {}),
        ("tune: default\n", "", [], DEFAULT_GRID),
        ("", "tune: default\n", [], DEFAULT_GRID),
        ("", "tune: {}\n", [], {}),
        ("tune: {train.lr: [0.1]}\n", "", [], {"train.lr": [0.1]}),
        ("tune: {train.lr: [0.1]}\n", "tune: {train.weight_decay: [0.5]}\n", [], {"train.weight_decay": [0.5]}),
        ("tune: {train.lr: [0.1]}\n", "tune: default\n", [], DEFAULT_GRID),
        (BOTH, "train: {lr: 0.1}\n", [], DECAYS),
        ("", "tune: default\ntrain: {lr: 0.1}\n", [], {}),
        ("train: {lr: 0.1}\n", "tune: default\n", [], DEFAULT_GRID),
        ("train: {lr: 0.1}\ntune: default\n", "", [], {}),
        (BOTH, "", ["train.lr=0.1"], DECAYS),
        (BOTH, "train: {lr: 0.1}\n", ["train.weight_decay=0.5"], {}),
        ("", "train: {lr: 0.1}\n", ["tune=default"], DEFAULT_GRID),
        ("tune: default\n", "train: {epochs: 3}\n", [], DEFAULT_GRID),
        ("loss: focal\ntune: {loss.gamma: [1.0, 2.0]}\n", "loss: {gamma: 3.0}\n", [], {}),
        ("loss: focal\ntune: {loss.gamma: [1.0, 2.0]}\n", "", ["loss.gamma=3.0"], {}),
        ("loss: focal\ntune: {loss.gamma: [1.0, 2.0]}\n", "loss: {alpha: 0.5}\n", [], {"loss.gamma": [1.0, 2.0]}),
        ("", "tune: default\nbackbone: {freeze: none}\n", [], {}),
        ("tune: default\n", "backbone: {freeze: layer4}\n", [], {}),
    ],
)
def test_a_key_that_is_set_leaves_an_inherited_grid(write, base, text, overrides, tune):
    write("base.yaml", DATA + base)
    config = load(write("x.yaml", f"extends: base.yaml\n{text}"), overrides)
    assert config.tune == tune
    values = {"train.lr": config.train.lr, "train.weight_decay": config.train.weight_decay}
    unset = {"train.lr": TrainConfig().lr, "train.weight_decay": TrainConfig().weight_decay}
    assert all(values[key] == unset[key] for key in values if key in tune)
    assert load(write("again.yaml", loader.dump(config))) == config


def test_what_leaves_the_grid_is_said(write, caplog):
    caplog.set_level(logging.INFO, logger="aimonk_bench")
    load(write("x.yaml", DATA + "tune: default\ntrain:\n  lr: 0.1\n"))
    assert caplog.messages == ["x.yaml:4:3: train.lr is set, so it is not tuned (tune: nothing)"]
    caplog.clear()
    load(write("x.yaml", DATA + BOTH), ["train.weight_decay=0"])
    assert caplog.messages == [
        "--set train.weight_decay: train.weight_decay is set, so it is not tuned (tune: train.lr)"
    ]
    caplog.clear()
    load(write("x.yaml", DATA + "tune: {}\ntrain: {lr: 0.1}\n"))
    assert caplog.messages == []
    load_suite(write("s.yaml", TUNED + AXES.format("train.lr: [0.1], loss: [focal]")))
    assert caplog.messages == ["s.yaml:3:30: train.lr is set, so it is not tuned (tune: nothing)"]


@pytest.mark.parametrize(
    ("text", "axes", "expected"),
    [
        # an axis tune comes last, so that it replaces what the file sets
        (
            "train: {lr: 0.1}\n",
            "tune: [default, {}]",
            ["s.yaml:2:9: train.lr is set, but the axis tune lists values for it, in 1 of 2 runs"],
        ),
        # `auto` is what the shipped defaults say
        ("train: {weight_decay: auto}\n", "tune: [default, {train.lr: [0.1], train.weight_decay: [0, 0.01]}]", []),
        (
            "tune: default\n",
            "train: [{lr: 0.1}, {lr: 0.2}]",
            ["s.yaml:3:55: train.lr is set, so it is not tuned (tune: nothing)"],
        ),
        (
            "tune: default\n",
            "train: [{lr: 0.1}, {epochs: 2}]",
            ["s.yaml:3:55: train.lr is set, so it is not tuned (tune: nothing), in 1 of 2 runs"],
        ),
        (
            "tune: {}\n",
            "loss: [focal, masked_bce]",
            ["s.yaml:2:1: train.lr is not set, so it has its default, 0.001, and is not tuned"],
        ),
    ],
)
def test_a_suite_says_which_of_its_runs_do_not_tune_a_key(write, caplog, text, axes, expected):
    caplog.set_level(logging.INFO, logger="aimonk_bench")
    key, _, first = axes.partition(": [")
    first = next(value for value in ("{lr: 0.1}", "default", "focal") if first.startswith(value))
    suite = f"suite: {{baseline: {{{key}: {first}}}, axes: {{{axes}}}}}\n"
    load_suite(write("s.yaml", DATA + text + suite))
    assert caplog.messages == expected


def test_an_axis_value_cannot_set_what_its_file_tunes(write):
    text = "loss: focal\ntune: {loss.gamma: [0.0, 2.0]}\n"
    text += "suite: {baseline: {loss: focal}, axes: {loss: [focal, {name: focal, gamma: 1.0}]}}\n"
    assert problems(load_suite, write("s.yaml", DATA + text)) == [
        "s.yaml:4:69: loss.gamma: found a value, and a list of values in `tune`, expected one of the two"
    ]


def test_a_default_rate_that_is_not_tuned_is_said(write, caplog):
    caplog.set_level(logging.INFO, logger="aimonk_bench")
    load(write("x.yaml", DATA), ["tune={}"])
    assert caplog.messages == ["--set tune: train.lr is not set, so it has its default, 0.001, and is not tuned"]
    caplog.clear()
    load(write("x.yaml", DATA + "tune: {}\nbackbone: {freeze: layer4}\n"))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tune: {train.lr: [0.1]}\ntrain: {lr: 0.5}\n", "x.yaml:3:9: train.lr"),
        ("train: {weight_decay: 0}\ntune: {train.weight_decay: [0.1]}\n", "x.yaml:2:9: train.weight_decay"),
        ("loss: {name: focal, gamma: 3.0}\ntune: {loss.gamma: [1.0]}\n", "x.yaml:2:21: loss.gamma"),
    ],
)
def test_one_file_cannot_set_and_tune_a_key(write, text, place, caplog):
    caplog.set_level(logging.INFO, logger="aimonk_bench")
    expected = "found a value, and a list of values in `tune`, expected one of the two"
    assert problems(load, write("x.yaml", DATA + text)) == [f"{place}: {expected}"]
    assert caplog.messages == []  # a note that the key leaves the grid would contradict it


def test_axes_leave_an_inherited_grid_and_can_replace_it(write):
    tunes = [run.config.tune for run in load_suite(write("s.yaml", TUNED + AXES.format("train.lr: [0.1]"))).runs]
    assert tunes == [{}]
    text = DATA + "suite: {baseline: {tune: {}}, axes: {tune: [default, {}, {train.lr: [0.1]}]}}\n"
    tunes = [run.config.tune for run in load_suite(write("s.yaml", text)).runs]
    assert tunes == [DEFAULT_GRID, {}, {"train.lr": [0.1]}]
    text = TUNED + "suite: {baseline: {backbone.freeze: all}, axes: {backbone.freeze: [all, layer4]}}\n"
    assert [run.config.tune for run in load_suite(write("s.yaml", text)).runs] == [DEFAULT_GRID, {}]
    text = "suite: {baseline: {loss: focal}, axes: {loss: [focal, {name: focal, gamma: 3.0}]}}\n"
    text = "extends: f.yaml\n" + text
    write("f.yaml", DATA + "loss: focal\ntune: {loss.gamma: [1.0, 2.0]}\n")
    assert [run.config.tune for run in load_suite(write("s.yaml", text)).runs] == [{"loss.gamma": [1.0, 2.0]}, {}]


def test_a_value_that_is_tuned_away_is_not_in_the_id(write):
    write("base.yaml", DATA + "train: {lr: 0.5}\n")
    one = load(write("x.yaml", "extends: base.yaml\ntune: default\n"))
    assert grid.public(one) == grid.public(load(write("y.yaml", TUNED)))
    assert one.loss == Spec("masked_bce")


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("", HEADS),
        ("train: {epochs: auto, batch_size: auto, weight_decay: auto, averaging: auto}\n", HEADS),
        ("train: {epochs: 3}\n", {**HEADS, "epochs": 3}),
        ("train: {weight_decay: 0, averaging: none}\n", {**HEADS, "weight_decay": 0, "averaging": "none"}),
        ("backbone: {freeze: layer4}\n", TRAINABLE_LAYERS),
        ("backbone: {freeze: none}\ntrain: {batch_size: auto, epochs: 7}\n", {**TRAINABLE_LAYERS, "epochs": 7}),
    ],
)
def test_auto_is_the_budget_of_heads_or_of_trainable_layers(write, text, budget):
    config = load(write("x.yaml", DATA + text))
    assert {key: getattr(config.train, key) for key in budget} == budget
    assert load(write("again.yaml", loader.dump(config))) == config


def test_auto_is_looked_up_for_each_run_of_a_suite(write):
    axes = "suite: {baseline: {backbone.freeze: all}, axes: {backbone.freeze: [all, layer4, none]}}\n"
    runs = load_suite(write("s.yaml", DATA + axes)).runs
    short = TRAINABLE_LAYERS["epochs"]
    assert [run.config.train.epochs for run in runs] == [TrainConfig().epochs, short, short]
    assert [run.config.train.averaging for run in runs] == ["polynomial", "none", "none"]
    assert [bool(run.config.tune) for run in runs] == [True, False, False]
