"""Suites: the runs of a grid, their names, and what enters an id."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from small_tables import DATA, SUITE, load, load_suite, problems

from aimonk_bench.config import fields, grid
from aimonk_bench.config.fields import Config


def test_public_leaves_out_name_plot_and_paths(write):
    first = load(write("a.yaml", DATA + "backbone: {weights: x/w.pth}\n"))
    second = load(write("sub/b.yaml", DATA + "backbone: {weights: w.pth}\nplot: {title: b}\n"))
    assert grid.public(first) == grid.public(second)
    assert "sub" not in json.dumps(grid.public(second))
    assert grid.public(first) != grid.public(load(Path("a.yaml"), ["loss=focal"]))
    assert grid.public(first) != grid.public(load(Path("a.yaml"), ["backbone.weights=none"]))


def test_what_is_hidden_tuned_or_calibrated_enters_the_id(write):
    path = write("x.yaml", DATA)
    usual = grid.public(load(path))
    assert {*usual} == {*Config.model_fields} - {"name", "plugins", "plot", "run"}
    same = [
        "hide=null",
        "calibration=none",
        "tune=default",
        "train.epochs=auto",
        "run.executor=serial",
        "data.truth=t.csv",
    ]
    assert grid.public(load(path, same)) == usual
    for override in (
        *("hide={mechanism: random}", "hide={mechanism: random, seed: 1}", "hide={mechanism: random, rows: train}"),
        *("calibration=platt", "tune={train.lr: [0.1]}", "tune={}"),
    ):
        assert grid.public(load(path, [override])) != usual


def test_a_suite_expands_in_the_order_of_its_axes(write):
    suite = load_suite(write("s.yaml", SUITE))
    assert [" + ".join(run.parts) for run in suite.runs] == [
        "masked_bce + uniform",
        "masked_bce + repeat_factor",
        "pos_weight + uniform",
        "focal(gamma=1.0) + uniform",
        "focal(gamma=1.0) + repeat_factor",
    ]
    assert (suite.name, suite.baseline) == ("s", 0)
    assert suite.runs[4].config == load(
        write("x.yaml", DATA + "name: s\nloss: {name: focal, gamma: 1}\nsampler: repeat_factor\n")
    )
    assert suite.base == load(write("s2.yaml", DATA + "name: s\n"))


@pytest.mark.parametrize("axis", ["backbone", "backbone.name"])
def test_a_native_size_is_that_of_the_backbone_of_each_run(write, axis):
    head = f"{DATA}transform: {{size: native}}\nsuite:\n  baseline: {{{axis}: resnet18, loss: focal}}\n  axes: "
    losses = "loss: [masked_bce, focal]"
    suite = load_suite(write("s.yaml", f"{head}{{{axis}: [some_timm_model, resnet18], {losses}}}\n"))
    sizes = [(run.config.backbone.name, run.config.transform.size) for run in suite.runs]
    assert sizes == [("some_timm_model", 518)] * 2 + [("resnet18", 224)] * 2
    assert suite.baseline == 3
    [line] = problems(load_suite, write("t.yaml", f"{head}{{{axis}: [resnet18, resnet50], loss: [focal]}}\n"))
    assert "transform.size: found native, expected a number of pixels, because resnet50 was not trained on" in line


def test_an_axis_of_names_keeps_the_other_keys_of_the_network(write):
    text = f"{DATA}backbone: {{name: resnet18, engine: torch}}\nsplit: {{seed: 3, val: 0.2}}\nsuite:\n"
    text += "  baseline: {backbone.name: resnet18, split.scheme: kfold}\n"
    text += "  axes: {backbone.name: [resnet18, resnet50], split.scheme: [kfold, holdout]}\n"
    configs = [run.config for run in load_suite(write("s.yaml", text)).runs]
    assert {(one.backbone.name, one.backbone.engine) for one in configs} == {
        ("resnet18", "torch"),
        ("resnet50", "torch"),
    }
    assert [(one.split.scheme, one.split.seed, one.split.val) for one in configs[:2]] == [
        ("kfold", 3, 0.2),
        ("holdout", 3, 0.2),
    ]


def test_a_suite_says_what_becomes_of_runs_without_weights(write):
    assert load_suite(write("s.yaml", SUITE)).unavailable == "fail"
    assert load_suite(Path("s.yaml"), ["suite.unavailable=skip"]).unavailable == "skip"
    [line] = problems(load_suite, Path("s.yaml"), ["suite.unavailable=ignore"])
    assert "suite.unavailable: found 'ignore', expected one of fail, skip" in line


def test_axes_may_be_any_key(write):
    text = DATA + (
        "suite:\n  baseline: {split.seed: 0, train.lr: 0.1, backbone: resnet18}\n"
        "  axes:\n    split.seed: [0, 1]\n    train.lr: [1e-1]\n"
        "    backbone: [resnet18, {name: resnet50, weights: deep/w.pth}]\n"
        "    train.optimizer: [{name: sgd, nesterov: true}]\n"
        "    transform.size: [64]\n    loss.gamma: [1]\n"
        "loss: focal\n"
    )
    suite = load_suite(write("s.yaml", text))
    assert [" + ".join(run.parts) for run in suite.runs] == [
        f"seed={seed} + lr=0.1 + {backbone} + sgd(nesterov=True) + size=64 + gamma=1.0"
        for seed in (0, 1)
        for backbone in ("resnet18", "resnet50(weights=w.pth)")
    ]
    assert suite.runs[1].config.backbone.weights == os.path.abspath("deep/w.pth")


@pytest.mark.parametrize("axes", [("weights: [none]", "name: [resnet50]"), ("name: [resnet50]", "weights: [none]")])
def test_an_axis_that_names_another_backbone_undoes_no_other_key(write, axes):
    first, second = (f"backbone.{axis}" for axis in axes)
    suite = f"suite: {{baseline: {{}}, axes: {{{first}, {second}}}}}\n"
    [run] = load_suite(write("s.yaml", DATA + "backbone: {engine: torch}\n" + suite)).runs
    assert run.config.backbone == fields.BackboneConfig(name="resnet50", weights="none", engine="torch")


def test_hidden_labels_have_readable_names(write):
    axes = (
        "{hide: [null, {mechanism: random}, {mechanism: score, fraction: 0.25, rows: train, seed: 3}], "
        "missing: [ignore, negative]}"
    )
    suite = load_suite(write("s.yaml", DATA + f"suite: {{baseline: {{hide: null, missing: ignore}}, axes: {axes}}}\n"))
    assert [" + ".join(run.parts) for run in suite.runs] == [
        f"{hidden} + {policy}"
        for hidden in ("nothing hidden", "hide random(fraction=0.5)", "hide score(fraction=0.25, rows=train, seed=3)")
        for policy in ("ignore", "negative")
    ]
    assert suite.baseline == 0
    assert suite.runs[2].config.hide == fields.HideConfig(mechanism="random", fraction=0.5)


def test_parts_of_hide_can_be_axes(write):
    axes = "{hide.mechanism: [random, score], hide.fraction: [0.3, 0.6]}"
    baseline = "{hide.mechanism: score, hide.fraction: 0.6}"
    suite = load_suite(write("s.yaml", DATA + f"suite: {{baseline: {baseline}, axes: {axes}}}\n"))
    assert [" + ".join(run.parts) for run in suite.runs] == [
        f"{mechanism} + fraction={fraction}" for mechanism in ("random", "score") for fraction in (0.3, 0.6)
    ]
    assert suite.baseline == 3
    [line] = problems(load_suite, write("t.yaml", DATA + "suite: {baseline: {}, axes: {hide.fraction: [0.3]}}\n"))
    assert "hide.mechanism: found nothing" in line


def test_policies_of_attributes_can_be_axes(write):
    write("base.yaml", DATA + "threshold: {name: fixed, for: {a: fixed}}\n")
    for axis, values, expected in (
        ("threshold", ["fixed", "{name: fixed, for: {b: fixed}}"], ["fixed", "fixed(a, b: fixed)"]),
        ("threshold.name", ["fixed", "per_attribute_f1"], ["fixed", "per_attribute_f1"]),
        ("threshold.for", ["{a: per_attribute_f1, b: fixed}"], ["for(a: per_attribute_f1, b: fixed)"]),
        ("threshold.for.a", ["fixed", "per_attribute_f1"], ["a: fixed", "a: per_attribute_f1"]),
    ):
        axes = f"{{baseline: {{{axis}: {values[0]}}}, axes: {{{axis}: [{', '.join(values)}], loss: [focal]}}}}"
        runs = load_suite(write("s.yaml", f"extends: base.yaml\nsuite: {axes}\n")).runs
        assert [run.parts for run in runs] == [(name, "focal") for name in expected]


def test_whole_sections_have_readable_names(write):
    axes = "{split: [{folds: 3}, {scheme: holdout}], train: [{epochs: 3, optimizer: sgd}]}"
    suite = load_suite(write("s.yaml", DATA + f"suite: {{baseline: {{split: {{folds: 3}}}}, axes: {axes}}}\n"))
    assert [" + ".join(run.parts) for run in suite.runs] == [
        f"{split} + train(sgd, epochs=3)" for split in ("kfold(folds=3)", "holdout")
    ]


def test_an_axis_value_valid_only_with_another_is_valid(write):
    suite = load_suite(
        write(
            "s.yaml",
            DATA + "suite: {baseline: {train.patience: 3}, axes: {train.select: [loss], train.patience: [3]}}\n",
        )
    )
    assert suite.runs[0].config.train.patience == 3


def test_a_pattern_reads_like_an_axis_value(write):
    text = DATA + (
        "suite:\n  baseline: {loss: focal}\n  axes: {loss: [focal, {name: focal, gamma: 1}, {name: focal, gamma: 3}]}\n"
        "  exclude: [{loss: {name: focal, gamma: 3.0}}]\n"
    )
    suite = load_suite(write("s.yaml", text))
    assert [" + ".join(run.parts) for run in suite.runs] == ["focal", "focal(gamma=1.0)"]
    assert suite.baseline == 0


SUITE_PROBLEMS = [
    ("suite: {axes: {loss: [focal]}}", "suite.baseline: found nothing, expected a value"),
    ("suite: {baseline: {}, axes: {}}", "suite.axes: found {}, expected at least 1 item"),
    ("suite: {baseline: {}, axes: {loss: []}}", "suite.axes.loss: found \\[\\], expected at least 1 item"),
    ("suite: {baseline: {}, axes: {loss: focal}}", "suite.axes.loss: found 'focal', expected a list"),
    ("suite: {baseline: {}, axs: {}, axes: {loss: [focal]}}", "suite.axs: found unknown key .* mean axes"),
    ("suite:", "suite: found null, expected a map"),
    ("suite: {baseline: {}, axes: {loss: [focal, foacl]}}", ":1:44: loss: found unknown loss 'foacl'"),
    ("suite: {baseline: {}, axes: {loss: [{name: focal, gama: 1}]}}", ":1:51: loss.gama: found unknown key"),
    ("suite: {baseline: {}, axes: {train.lrr: [1]}}", ":1:30: train.lrr: found unknown key .* mean lr"),
    ("suite: {baseline: {}, axes: {data.group: [a]}}", ":1:30: suite.axes.data.group: found the axis 'data.group'"),
    ("suite: {baseline: {}, axes: {name: [a]}}", ":1:30: suite.axes.name: found the axis 'name'"),
    (
        "suite: {baseline: {}, axes: {train.keep_weights: [true]}}",
        ":1:30: suite.axes.train.keep_weights: found the axis 'train.keep_weights', expected a key outside",
    ),
    ("suite: {baseline: {}, axes: {run.executor: [auto]}}", ":1:30: suite.axes.run.executor: found the axis 'run.exec"),
    ("suite: {baseline: {}, axes: {loss: [focal], loss.gamma: [1]}}", "suite.axes.loss.gamma: found an axis inside"),
    (
        "tune: {train.lr: [0.1, 1]}\nsuite: {baseline: {}, axes: {train.lr: [1, 2], loss: [focal, masked_bce]}}",
        ":2:30: train.lr: found a value, and a list of values in `tune`, expected one of the two",
    ),
    ("suite: {baseline: {}, axes: {loss: [focal, {name: focal}]}}", ":1:44: suite.axes.loss: found .* a second time"),
    (
        "suite: {baseline: {}, axes: {loss: [focal, masked_bce]}}",
        "suite.baseline: found 2 runs that match, .* name also loss: focal or loss: masked_bce$",
    ),
    (
        "suite: {baseline: {loss: focal}, axes: {loss: [focal], tune: [{}, {train.lr: [0.1, 1.0]}]}}",
        ":1:19: suite.baseline: found 2 runs .* name also tune: {} or tune: {train.lr: \\[0.1, 1.0\\]}$",
    ),
    (
        "suite: {baseline: {}, axes: {loss: [focal, masked_bce], train.lr: [0.1, 1]}}",
        "name also loss: focal or loss: masked_bce, and train.lr: 0.1 or train.lr: 1$",
    ),
    (
        "suite: {baseline: {loss: pos_weight}, axes: {loss: [focal]}}",
        ":1:26: suite.baseline.loss: found 'pos_weight', .*: 'focal'$",
    ),
    (
        "suite: {baseline: {train.lr: 0.2, loss: focal}, axes: {loss: [focal], train.lr: [0.1, 1]}}",
        ":1:30: suite.baseline.train.lr: found 0.2, expected a value of this axis: 0.1, 1$",
    ),
    (
        "suite: {baseline: {}, axes: {loss: [focal]}, exclude: [{loss: foacl}]}",
        ":1:63: suite.exclude\\[0\\].loss: found un",
    ),
    (
        "suite: {baseline: {loss: foacl}, axes: {loss: [focal]}}",
        ":1:26: suite.baseline.loss: found unknown loss 'foacl'",
    ),
    ("suite: {baseline: {los: focal}, axes: {loss: [focal]}}", "suite.baseline.los: found unknown axis .* mean loss"),
    ("suite: {baseline: {}, axes: {loss: [focal]}, exclude: [{}]}", "suite.exclude.0.: found {}, expected at least 1"),
    ("suite: {baseline: {}, axes: {loss: [focal]}, exclude: [{loss: masked_bce}]}", "a pattern that matches no run"),
    (
        "suite: {baseline: {loss: focal}, axes: {loss: [focal, masked_bce]}, exclude: [{loss: focal}]}",
        "suite.baseline: found a run that `exclude` removes, expected exactly one",
    ),
    (
        "suite: {baseline: {}, axes: {loss: [focal], train.lr: [1, 2]}, exclude: [{loss: focal}]}",
        "suite.exclude.0.: found a pattern that removes the last run",
    ),
    (
        "suite: {baseline: {}, axes: {train.epochs: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], train.batch_size: *a, "
        "transform.size: *a, split.seed: *a}}",
        "suite.axes: found 14641 runs, expected at most 10000",
    ),
]


def test_an_option_that_one_loss_lacks_is_not_tuned_but_listed(write):
    tuned = "{}tune: {{loss.gamma: [1.0, 2.0]}}\nsuite: {{baseline: {}, axes: {{loss: [{}]}}}}\n"
    [line] = problems(load_suite, write("s.yaml", DATA + tuned.format("loss: focal\n", "{}", "focal, masked_bce")))
    assert "s.yaml:3:8: tune.loss.gamma: found an option that runs with loss masked_bce lack" in line
    [repair] = re.findall(r"or the axis lists its values: ({.*})", line)
    listed = f"suite: {{baseline: {{loss: masked_bce}}, axes: {{loss: [masked_bce, {repair}]}}}}\n"
    assert [" + ".join(run.parts) for run in load_suite(write("s.yaml", DATA + listed)).runs] == [
        "masked_bce",
        "focal(gamma=1.0)",
    ]
    other = tuned.format("loss: focal\n", "{loss: focal}", "focal, {name: focal, alpha: null}")
    assert len(load_suite(write("s.yaml", DATA + other)).runs) == 2


@pytest.mark.parametrize(("text", "pattern"), SUITE_PROBLEMS)
def test_a_wrong_suite_is_explained(write, text, pattern):
    [line] = problems(load_suite, write("s.yaml", text + "\n" + DATA))
    assert re.search(pattern, line)


def test_all_errors_of_a_suite_are_reported_at_once(write):
    text = (
        "loss: foacl\ndata: {labels: l, images: i}\nsuite:\n  baseline: {loss: masked_bec}\n"
        "  axes: {loss: [masked_bce, focla], losss: [x], train.lr: [fast, 1]}\n"
        "  exclude: [{sampler: uniform}, {train.lr: slow}]\n"
    )
    lines = problems(load_suite, write("s.yaml", text), ["train.lr=3"])
    assert [": ".join(line.split(": ")[:2]) for line in lines] == [
        "--set train.lr: found a key that is an axis of the suite, expected any other key",
        "s.yaml:1:7: loss",
        "s.yaml:4:20: suite.baseline.loss",
        "s.yaml:5:29: loss",
        "s.yaml:5:37: losss",
        "s.yaml:5:60: train.lr",
        "s.yaml:6:14: suite.exclude[0].sampler",
        "s.yaml:6:44: suite.exclude[1].train.lr",
    ]


@pytest.mark.parametrize(
    ("override", "conflict"),
    [
        ("loss=focal", True),
        ("loss.gamma=1", True),
        ("train={lr: 1, epochs: 2}", True),
        ("train={epochs: 2}", False),
        ("train.epochs=2", False),
    ],
)
def test_an_override_of_an_axis_is_an_error(write, override, conflict):
    text = DATA + "suite: {baseline: {}, axes: {loss: [focal], train.lr: [1]}}\n"
    path = write("s.yaml", text)
    if conflict:
        [line] = problems(load_suite, path, [override])
        assert "a key that is an axis of the suite" in line
    else:
        assert load_suite(path, [override]).runs[0].config.train.epochs == 2
