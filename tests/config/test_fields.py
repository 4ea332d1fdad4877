"""Fields: defaults, and the message about every kind of bad value."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from small_tables import DATA, load, problems

from aimonk_bench.config import fields, loader, nodes, split_fields
from aimonk_bench.config.faults import Place
from aimonk_bench.config.fields import Config
from aimonk_bench.registry import Spec

REPOSITORY = Path(__file__).parents[2]


def test_base_yaml_states_exactly_the_defaults(write):
    base = REPOSITORY / "configs" / "base.yaml"
    tree = nodes.parse(base.read_text(), Place("base.yaml", 1, 1, base.parent), [])
    assert {*tree.children} == {*Config.model_fields} - {"name", "data"}
    for section in ("split", "backbone", "transform", "train", "plot", "run"):
        keys = {*type(Config.model_fields[section].default).model_fields}
        assert {*tree.children[section].children} == keys - {"lr"}  # it is tuned
    stated = load(write("x.yaml", f"extends: {base}\n{DATA}"))
    assert stated == load(write("x.yaml", DATA))
    for section in ("split", "backbone", "transform", "plot", "run"):
        assert getattr(stated, section) == Config.model_fields[section].default
    assert stated.train == fields.TrainConfig()
    assert stated.tune == fields.DEFAULT_GRID


def test_the_defaults_of_the_contract(write):
    config = load(write("focal.yaml", DATA))
    assert config.name == "focal"
    assert (config.loss, config.train.optimizer) == (Spec("masked_bce"), Spec("adam"))
    assert config.train.seeds == [0, 1, 2, 3, 4]
    assert config.data.values == fields.Values(positive=["1"], negative=["0"], missing=["NA", ""])


def test_a_config_cannot_be_changed(write):
    config = load(write("x.yaml", DATA))
    with pytest.raises(ValueError, match="frozen"):
        config.name = "y"


DATA_PROBLEMS = {
    "labels: 5, images: i": ["data.labels: found 5, expected a path"],
    "labels: l": ["data.images: found nothing, expected a value, which is required"],
    "images: i": ["data.labels: found nothing, expected a value, which is required"],
    "labels: l, images: i, importer: cvs": ["data.importer: found unknown importer 'cvs', expected one of auto,"],
    "labels: l, images: i, importer: label_list": ["data.absent: found null, expected negative or missing"],
    "labels: l, images: i, importer: jsonl, absent: missing": ["data.absent: found 'missing', expected null"],
    "labels: l, images: i, importer: labels_txt, group: g": ["data.group: found 'g', expected null, because"],
    "labels: l, images: i, importer: jsonl, id: x": ["data.id: found 'x', expected null"],
    "labels: l, images: i, attributes: [a, macro]": [
        "data.attributes: found ['a', 'macro'], expected no attribute named"
    ],
    "labels: l, images: i, attributes: [a, '']": [
        "data.attributes: found ['a', ''], expected no attribute without a name"
    ],
    "labels: l, images: i, attributes: [a, a]": ["data.attributes: found ['a', 'a'], expected no value twice"],
    "labels: l, images: i, values: {positive: [1]}": ["data.values.positive[0]: found 1, expected text (in quotes"],
    "labels: l, images: i, values: {positve: ['1']}": ["data.values.positve: found unknown key"],
    "labels: l, images: i, values: {negative: ['1']}": ["data.values.negative: found ['1'], expected no token that"],
    "labels: l, images: i, values: {positive: ['']}": ["data.values.missing: found ['NA', ''], expected no token that"],
    "labels: l, images: i, values: {missing: ['0']}": ["data.values.missing: found ['0'], expected no token that"],
    "labels: l, images: i, values: {a: {positive: []}}": ["data.values.a.positive: found [], expected at least 1 item"],
    "labels: l, images: i, values: {a: {}, b: 3}": ["data.values.b: found 3, expected a map"],
    "labels: l, images: i, values: {macro: {}}": ["data.values: found {'macro'", "expected no attribute named 'macro'"],
}


@pytest.mark.parametrize("text", DATA_PROBLEMS)
def test_a_wrong_data_section_is_explained(write, text):
    [line] = problems(load, write("x.yaml", f"data: {{{text}}}\n"))
    assert line.startswith("x.yaml:1:")
    for part in DATA_PROBLEMS[text]:
        assert part in line


def test_values_may_differ_per_attribute(write):
    text = "data: {labels: l, images: i, values: {1: {positive: [y]}, positive: {negative: [n]}}}\n"
    values = load(write("x.yaml", text)).data.values
    assert isinstance(values, dict)
    assert values["1"].positive == ["y"]
    assert values["positive"].negative == ["n"]


def test_without_data_both_paths_are_named(write):
    lines = problems(load, write("x.yaml", "name: a\n"))
    assert [line.split(": ")[1] for line in lines] == ["data.images", "data.labels"]
    assert all(line.startswith("x.yaml:1:1:") for line in lines)


def test_timm_is_asked_only_about_names_outside_the_catalog(write):
    assert load(write("x.yaml", DATA), ["backbone=some_timm_model"]).backbone.name == "some_timm_model"


BAD_FIELDS = {
    "executor": (
        "run: {executor: threads}\n",
        ["x.yaml:1:17: run.executor: found 'threads', expected one of auto, serial, processes, ray"],
    ),
    "threads": (
        "run: {threads: 100000}\n",
        ["x.yaml:1:16: run.threads: found 100000, expected auto or a whole number from 1 to 1024"],
    ),
    "unknown key": (
        "los: focal\n",
        ["x.yaml:1:1: los: found unknown key 'los', expected one of", "(did you mean loss?)"],
    ),
    "unknown section key": ("train:\n  epoch: 3\n", ["x.yaml:2:3: train.epoch: found", "(did you mean epochs?)"]),
    "misspelt loss": ("\nloss: foacl\n", ["x.yaml:2:7: loss: found unknown loss 'foacl'", "(did you mean focal?)"]),
    "misspelt name": ("loss:\n  name: foacl\n", ["x.yaml:2:9: loss.name: found unknown loss 'foacl'"]),
    "bad option": ("loss: {name: focal, gama: 1}\n", ["x.yaml:1:21: loss.gama: found", "(did you mean gamma?)"]),
    "option range": ("loss: {name: focal, gamma: -1}\n", ["x.yaml:1:28: loss.gamma: found -1, expected a number of"]),
    "number as text": ("train: {lr: '1e-3'}\n", ["x.yaml:1:13: train.lr: found '1e-3', expected a number"]),
    "true for one": (
        "train: {epochs: true}\n",
        ["x.yaml:1:17: train.epochs: found true, expected auto, or a whole number"],
    ),
    "float for int": (
        "train: {epochs: 1.0}\n",
        ["x.yaml:1:17: train.epochs: found 1.0, expected auto, or a whole number"],
    ),
    "misspelt averaging": (
        "train: {averaging: polynomal}\n",
        ["x.yaml:1:20: train.averaging: found 'polynomal'", "(did you mean polynomial?)"],
    ),
    "averaging over three epochs": (
        "train: {averaging: 3}\n",
        ["x.yaml:1:20: train.averaging: found 3, expected auto, polynomial or none"],
    ),
    "infinite": ("train: {lr: 1e999}\n", ["x.yaml:1:13: train.lr: found inf, expected a finite number"]),
    "huge integer": (
        "train: {epochs: " + "9" * 5000 + "}\n",
        ["x.yaml:1:17: train.epochs: found", "expected auto, or a whole number"],
    ),
    "list for map": ("train: [1]\n", ["x.yaml:1:8: train: found [1], expected a map"]),
    "empty section": ("plot:\n", ["x.yaml:1:6: plot: found null, expected a map"]),
    "unknown backbone": (
        "backbone: {name: resnet8}\n",
        ["x.yaml:1:18: backbone.name: found", "(did you mean resnet18?)"],
    ),
    "bare backbone": ("backbone: resnet8\n", ["x.yaml:1:11: backbone.name: found unknown backbone 'resnet8'"]),
    "unknown fallback": ("backbone: {fallback: resnet8}\n", ["x.yaml:1:22: backbone.fallback: found unknown backbone"]),
    "size": (
        "transform: {size: natve}\n",
        ["x.yaml:1:19: transform.size: found 'natve', expected native, or a whole number of pixels from 1 to 4096"],
    ),
    "size of a backbone that has none": (
        "backbone: resnet50\ntransform: {size: native}\n",
        ["x.yaml:2:19: transform.size: found native, expected a number of pixels, because resnet50 was not trained on"],
    ),
    "native size of nothing": (
        "backbone: resnet81\ntransform: {size: native}\n",
        ["x.yaml:1:11: backbone.name: found unknown backbone 'resnet81'"],
    ),
    "weights": (
        "backbone: {weights: imagnet}\n",
        ["x.yaml:1:21: backbone.weights: found 'imagnet', expected imagenet,"],
    ),
    "no stage": (
        "backbone: {freeze: layer 4}\n",
        ["x.yaml:1:20: backbone.freeze: found 'layer 4', expected all, none or"],
    ),
    "stage of what does not exist": (
        "backbone: {name: resnet8, freeze: layer9}\n",
        ["x.yaml:1:18: backbone.name: found unknown backbone 'resnet8'"],
    ),
    "wrong precision of what is frozen": (
        "train: {precision: float61}\n",
        ["x.yaml:1:20: train.precision: found 'float61', expected one of auto,", "(did you mean float16?)"],
    ),
    "tuned option of a loss that does not exist": (
        "loss: foacl\ntune: {loss.gamma: [1.0, 2.0]}\n",
        ["x.yaml:1:7: loss: found unknown loss 'foacl'"],
    ),
    "tuned option that is no list": (
        "loss: focal\ntune: {loss.gamma: 1.0}\n",
        ["x.yaml:2:20: tune.loss.gamma: found 1.0, expected a list"],
    ),
    "unknown scheme": (
        "split: {scheme: kfolds}\n",
        ["x.yaml:1:17: split.scheme: found 'kfolds', expected one of kfold, holdout, column"],
    ),
    "key of the other scheme": ("split: {test: 0.1}\n", ["x.yaml:1:9: split.test: found unknown key 'test'"]),
    "one fold": ("split: {folds: 1}\n", ["x.yaml:1:16: split.folds: found 1, expected a number of at least 2"]),
    "no views": (
        "transform: {views: 0}\n",
        ["x.yaml:1:20: transform.views: found 0, expected exact, fresh, or a number"],
    ),
    "weights kept in words": (
        "train: {keep_weights: yes}\n",
        ["x.yaml:1:23: train.keep_weights: found 'yes', expected true, false or auto"],
    ),
    "weights kept by number": (
        "train: {keep_weights: 1}\n",
        ["x.yaml:1:23: train.keep_weights: found 1, expected true, false or auto"],
    ),
    "views true": ("transform: {views: true}\n", ["x.yaml:1:20: transform.views: found true, expected exact"]),
    "bare transform": ("transform: {train: [HorizontalFlip]}\n", ["x.yaml:1:21: transform.train[0]: found", "a map"]),
    "two in one": ("transform: {train: [{a: {}, b: {}}]}\n", ["x.yaml:1:21: transform.train[0]: found", "at most 1"]),
    "no seeds": ("train: {seeds: 0}\n", ["x.yaml:1:16: train.seeds: found 0, expected a number of seeds from 1"]),
    "empty seeds": ("train: {seeds: []}\n", ["x.yaml:1:16: train.seeds: found [], expected a number of seeds"]),
    "too many seeds": ("train: {seeds: 1000000000}\n", ["x.yaml:1:16: train.seeds: found"]),
    "repeated seeds": ("train: {seeds: [1, 1]}\n", ["x.yaml:1:16: train.seeds: found [1, 1], expected no value twice"]),
    "negative seed": ("train: {seeds: [0, -1]}\n", ["x.yaml:1:20: train.seeds[1]: found -1, expected a number of at"]),
    "device": ("train: {device: gpu}\n", ["x.yaml:1:17: train.device: found 'gpu', expected auto, cpu"]),
    "metric": ("train: {select: auc}\n", ["x.yaml:1:17: train.select: found 'auc', expected one of last, loss,"]),
    "name as path": ("name: a/b\n", ["x.yaml:1:7: name: found 'a/b', expected a name that can be a folder's"]),
    "no mechanism": ("hide: {fraction: 0.3}\n", ["x.yaml:1:1: hide.mechanism: found nothing, expected a value"]),
    "mechanism": (
        "hide: {mechanism: postives}\n",
        ["x.yaml:1:19: hide.mechanism: found 'postives', expected one of random,", "(did you mean positives?)"],
    ),
    "bare mechanism": ("hide: random\n", ["x.yaml:1:7: hide: found 'random', expected a map"]),
    "everything hidden": (
        "hide: {mechanism: random, fraction: 1.0}\n",
        ["x.yaml:1:37: hide.fraction: found 1.0, expected a number below 1"],
    ),
    "rows": (
        "hide: {mechanism: score, rows: val}\n",
        ["x.yaml:1:32: hide.rows: found 'val', expected one of train_val"],
    ),
    "hide key": (
        "hide: {mechanism: score, frac: 1}\n",
        ["x.yaml:1:26: hide.frac: found unknown key", "(did you mean fraction?)"],
    ),
    "tune": ("tune: 3\n", ["x.yaml:1:7: tune: found 3, expected default, {}, or a map"]),
    "no value to tune": ("tune: {train.lr: []}\n", ["x.yaml:1:18: tune.train.lr: found [], expected at least 1 item"]),
    "tuned twice": (
        "tune: {train.weight_decay: [0.1, 1e-1]}\n",
        ["x.yaml:1:28: tune.train.weight_decay: found [0.1, 0.1], expected no value twice"],
    ),
    "calibration": ("calibration: plat\n", ["x.yaml:1:14: calibration: found 'plat'", "(did you mean platt?)"]),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_a_bad_field_is_explained(write, case):
    content, parts = BAD_FIELDS[case]
    [line] = problems(load, write("x.yaml", content + DATA))
    for part in parts:
        assert part in line
    assert line.startswith(parts[0])


def test_ray_is_refused_where_it_is_not_installed(write, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    [line] = problems(load, write("x.yaml", "run: {executor: ray}\n" + DATA))
    assert line.startswith("x.yaml:1:17: run.executor: found 'ray', expected the package ray; install it with")
    assert "pip install 'aimonk_bench[ray]'" in line


@pytest.mark.parametrize("section", ["data", "hide", "split", "backbone", "transform", "train", "plot", "run"])
def test_an_unknown_key_is_answered_with_the_keys_of_its_section(write, section):
    needed = {"data": "labels: l, images: i, ", "hide": "mechanism: random, "}.get(section, "")
    text = f"{section}: {{{needed}nonsense: 1}}\n" + ("" if section == "data" else DATA)
    [line] = problems(load, write("x.yaml", text))
    kinds = {"split": split_fields.KFold, "data": fields.DataConfig, "hide": fields.HideConfig}
    kind = kinds.get(section) or type(Config.model_fields[section].default)
    keys = "title" if section == "plot" else "one of " + ", ".join(sorted(kind.model_fields))
    assert line.endswith(f"expected {keys}")


@pytest.mark.parametrize(
    ("backbone", "size"),
    [("", 224), ("backbone: some_timm_model\n", 518), ("backbone: {name: some_timm_model, fallback: resnet18}\n", 518)],
)
def test_a_native_size_is_the_number_of_the_backbone(write, backbone, size):
    config = load(write("x.yaml", f"{DATA}{backbone}transform: {{size: native}}\n"))
    assert config.transform.size == size


@pytest.mark.parametrize(
    ("weights", "is_file"),
    [
        *((name, True) for name in ("w.pth.tar", "last.ckpt", "pytorch_model.bin", "./w", "a/w", "w.v2", "a\\w")),
        *((name, False) for name in ("imagenet", "none", "package:some.pt", "package:a/b")),
    ],
)
def test_a_file_of_weights_may_have_any_suffix(write, weights, is_file):
    assert fields.is_weight_file(weights) == is_file
    config = load(write("x.yaml", f"{DATA}backbone: {{weights: '{weights}'}}\n"))
    assert (config.backbone.weights == weights) != is_file  # a path is made absolute


FOR_PROBLEMS = [
    ("{name: fixed, for: {a: pooled}}", "x.yaml:1:35: threshold.for.a: found unknown threshold policy 'pooled'", ""),
    ("{name: fixed, for: {a: {name: fixd}}}", "x.yaml:1:42: threshold.for.a.name: found unknown", "mean fixed?"),
    ("{name: fixed, for: {a: {name: fixed, k: 1}}}", "x.yaml:1:49: threshold.for.a.k: found unknown key 'k'", ""),
    ("{name: fixed, for: {a: {k: 1}}}", "x.yaml:1:35: threshold.for.a: found a map without 'name'", ""),
    ("{name: fixed, for: {a: {name: fixed, for: {}}}}", "x.yaml:1:49: threshold.for.a.for: found unknown key", ""),
    ("{name: fixed, for: {a: null}}", "x.yaml:1:35: threshold.for.a: found null, expected the name", ""),
    ("{name: fixed, for: [a]}", "x.yaml:1:31: threshold.for: found ['a'], expected a map", ""),
    ("{name: fixed, for: null}", "x.yaml:1:31: threshold.for: found null, expected a map", ""),
    ("{name: fixed, fr: {}}", "x.yaml:1:26: threshold.fr: found unknown key 'fr'", "mean for?"),
    ("{for: {a: fixed}}", "x.yaml:1:12: threshold: found a map without 'name'", ""),
    ("{name: fixed, for: {a: x, b: y}}", "x.yaml:1:35: threshold.for.a: found unknown threshold policy 'x'", ""),
]


@pytest.mark.parametrize(("value", "expected", "fix"), FOR_PROBLEMS)
def test_what_is_wrong_with_the_policy_of_an_attribute_is_named_where_it_stands(
    write: Any, value: str, expected: str, fix: str
) -> None:
    lines = problems(load, write("x.yaml", f"threshold: {value}\n" + DATA))
    assert lines[0].startswith(expected)
    assert fix in lines[0]
    assert len(lines) == value.count("x, b: y") + 1


def test_only_thresholds_differ_by_attribute(write: Any) -> None:
    [line] = problems(load, write("x.yaml", "loss: {name: focal, for: {a: focal}}\n" + DATA))
    assert line.startswith("x.yaml:1:21: loss.for: found unknown key 'for'")


def test_the_policies_of_attributes_merge_and_come_from_everywhere(write: Any) -> None:
    write("base.yaml", DATA + "threshold: {name: fixed, for: {a: fixed, b: per_attribute_f1}}\n")
    path = write("x.yaml", "extends: base.yaml\nthreshold: {for: {c: fixed}}\n")
    threshold = load(path, ["threshold.for.a=per_attribute_f1"]).threshold
    assert {name: entry.name for name, entry in threshold.attributes.items()} == {
        "a": "per_attribute_f1",
        "b": "per_attribute_f1",
        "c": "fixed",
    }
    assert threshold.places == {
        "a": "--set threshold.for.a",
        "b": "base.yaml:2:42: threshold.for.b",
        "c": "x.yaml:2:19: threshold.for.c",
    }
    named = write("named.yaml", DATA + "threshold: {name: fixed, for: {name: fixed, values: fixed, b: fixed}}\n")
    changed = load(
        named, ["threshold.for={name: per_attribute_f1, values: {name: per_attribute_f1}}"]
    ).threshold.plain()
    assert changed == {"name": "fixed", "for": dict.fromkeys(["name", "values"], "per_attribute_f1") | {"b": "fixed"}}
    dumped = loader.dump(load(path))
    again = load(write("again.yaml", dumped)).threshold
    assert again.plain() == load(path).threshold.plain()
    assert not load(path, ["threshold=fixed"]).threshold.attributes
