from __future__ import annotations

import copy
import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge
from hypothesis import given, settings
from hypothesis import strategies as st

from aimonk_bench.backbones import catalog
from aimonk_bench.config import grid, loader, nodes, schema
from aimonk_bench.config.nodes import Place
from aimonk_bench.config.schema import Config, Tables
from aimonk_bench.errors import UserError
from aimonk_bench.registry import Problem, Spec

REPOSITORY = Path(__file__).parents[2]


def plain(values):
    """Takes no option."""


def focal(values, *, gamma: Annotated[float, Ge(0)] = 2.0, alpha: Annotated[float, Ge(0)] | None = 0.25):
    """Has two options."""


def sgd(values, *, momentum: Annotated[float, Ge(0)] = 0.0, nesterov: bool = False):
    """Has a switch."""


def check_transforms(train, views, size):
    return [
        Problem(("train", index, name), f"unknown transform {name!r}", "a flip", on_key=True)
        for index, item in enumerate(train)
        for name in item
        if name not in ("HorizontalFlip", "VerticalFlip") and views == "exact"
    ]


TABLES = Tables(
    backbones=dict.fromkeys(["resnet18", "resnet50", "tf_efficientnet_lite0"]),
    losses={"masked_bce": plain, "pos_weight": plain, "focal": focal},
    missing={"ignore": plain, "negative": plain},
    samplers={"uniform": plain, "repeat_factor": plain},
    thresholds={"fixed": plain, "per_attribute_f1": plain},
    optimizers={"adam": plain, "sgd": sgd},
    schedules={"constant": plain, "cosine": plain},
    importers=dict.fromkeys(["labels_txt", "wide_csv", "label_list", "jsonl"]),
    known_backbone=lambda name: name == "some_timm_model",
    stages=lambda name: catalog.CATALOG[name].stages if name in catalog.CATALOG else (),
    multiple=lambda name: 14 if name == "some_timm_model" else 1,
    check_transforms=check_transforms,
)
DATA = "data: {labels: l.txt, images: i}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes files into an empty working directory, so that messages name them without a folder."""
    monkeypatch.chdir(tmp_path)

    def write_one(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Path(name)

    return write_one


def load(*args) -> Config:
    return loader.load(args[0], TABLES, *args[1:], check_paths=False)


def load_suite(*args) -> grid.Suite:
    return loader.load_suite(args[0], TABLES, *args[1:], check_paths=False)


def problems(function, *args) -> list[str]:
    with pytest.raises(UserError) as caught:
        function(*args)
    for line in caught.value.problems:
        assert re.search(r"Input|Value error|Spec\(", line) is None
        assert "\n" not in line
    return caught.value.problems


# What a good file means


def test_base_yaml_states_exactly_the_defaults(write):
    base = REPOSITORY / "configs" / "base.yaml"
    tree = nodes.parse(base.read_text(), Place("base.yaml", 1, 1, base.parent), [])
    assert {*tree.children} == {*Config.model_fields} - {"name", "data"}
    for section in ("split", "backbone", "transform", "train", "plot"):
        assert {*tree.children[section].children} == {*type(Config.model_fields[section].default).model_fields}
    stated = load(write("x.yaml", f"extends: {base}\n{DATA}"))
    assert stated == load(write("x.yaml", DATA))
    for section in ("split", "backbone", "transform", "plot"):
        assert getattr(stated, section) == Config.model_fields[section].default
    assert stated.train == schema.TrainConfig()


def test_the_defaults_of_the_contract(write):
    config = load(write("focal.yaml", DATA))
    assert config.name == "focal"
    assert (config.loss, config.train.optimizer) == (Spec("masked_bce"), Spec("adam"))
    assert config.train.seeds == [0, 1, 2, 3, 4]
    assert config.data.values == schema.Values(positive=["1"], negative=["0"], missing=["NA", ""])


def test_scalars_follow_yaml_1_2(write):
    text = DATA + "train: {lr: 1e-3, weight_decay: 0x10, batch_size: 0o20, clip: +.5}\nplot: {title: no}\nname: 1:30\n"
    config = load(write("x.yaml", text))
    assert (config.train.lr, config.train.weight_decay, config.train.batch_size) == (1e-3, 16.0, 16)
    assert (config.train.clip, config.plot.title, config.name) == (0.5, "no", "1:30")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("", None), ("~", None), ("Null", None), ("TRUE", True), ("false", False), ("yes", "yes"), ("off", "off")),
        *(("-012", -12), ("1_000", "1_000"), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf)),
        *(("0o8", "0o8"), ("2024-01-01", "2024-01-01"), ("12:30:45", "12:30:45"), ("0b1", "0b1"), (".", ".")),
    ],
)
def test_scalar(text, value):
    assert nodes.scalar(text) == value
    assert type(nodes.scalar(text)) is type(value)


def test_not_a_number_is_read_as_such():
    assert math.isnan(nodes.scalar(".NaN"))  # type: ignore[arg-type]  # a float, for this text


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + DATA.encode(),
        DATA.encode() + b"train:\r\n  lr: 1e-3\r\n",
        DATA.encode().rstrip(),
        b"%YAML 1.2\n---\n" + DATA.encode() + b"...\n",
        b"data: &d {labels: l.txt, images: i}\n",
    ],
)
def test_byte_order_mark_crlf_and_the_like_change_nothing(write, content):
    assert load(write("x.yaml", content)) == load(write("x.yaml", DATA))


def test_an_alias_stands_for_its_anchor(write):
    config = load(write("x.yaml", DATA + "train: {lr: &x 0.5, weight_decay: *x}\n"))
    assert config.train.weight_decay == 0.5


def test_paths_start_from_the_file_they_are_written_in(write, tmp_path):
    write("sets/a.yaml", "data: {labels: labels.txt, images: ../pictures/}\nbackbone: {weights: w.pth}\n")
    path = write("configs/x.yaml", "extends: [../sets/a.yaml]\ndata: {images: other}\n")
    config = load(path)
    assert config.data.labels == tmp_path / "sets" / "labels.txt"
    assert config.data.images == tmp_path / "configs" / "other"
    assert config.backbone.weights == str(tmp_path / "sets" / "w.pth")
    moved = load(path, ["data.labels=here.txt", "backbone.fallback=resnet50"])
    assert moved.data.labels == tmp_path / "here.txt"
    assert moved.backbone.fallback == "resnet50"
    assert load(path, ["data.labels=/abs/l"]).data.labels == Path("/abs/l")
    assert load(path, ["backbone.weights=package:some.pt"]).backbone.weights == "package:some.pt"


def test_maps_merge_lists_replace_and_another_name_replaces(write):
    write(
        "a.yaml",
        "name: a\nloss: {name: focal, gamma: 1, alpha: 0.5}\ntrain: {seeds: [1, 2], lr: 0.5, optimizer: sgd}\n"
        "split: {scheme: kfold, folds: 3}\nbackbone: {name: resnet50, fallback: resnet18}\n",
    )
    write("w.yaml", "plot: [a map replaces a list]\n" + DATA)
    write("b.yaml", "train: {seeds: [3], optimizer: {momentum: 0.9}}\nloss: {gamma: 3}\n")
    config = load(
        write("x.yaml", "extends: [a.yaml, b.yaml]\nsplit: {scheme: holdout}\nbackbone: {engine: torch}\n" + DATA)
    )
    assert config.name == "a"
    assert config.loss == Spec("focal", {"gamma": 3.0, "alpha": 0.5})
    assert (config.train.seeds, config.train.lr) == ([3], 0.5)
    assert config.train.optimizer == Spec("sgd", {"momentum": 0.9, "nesterov": False})
    assert config.split == schema.Holdout()
    assert config.backbone == schema.BackboneConfig(name="resnet50", fallback="resnet18", engine="torch")
    other = load(write("y.yaml", "extends: x.yaml\nloss: focal\nbackbone: {name: resnet18}\nsplit: {scheme: kfold}\n"))
    assert other.loss == Spec("focal", {"gamma": 2.0, "alpha": 0.25})
    assert other.backbone == schema.BackboneConfig()
    assert other.split == schema.KFold()
    assert load(write("z.yaml", "extends: w.yaml\nplot: {}\n"), []).plot == schema.PlotConfig()


def test_an_unwritten_scheme_is_the_default_one(write):
    write("a.yaml", "split: {folds: 3}\nbackbone: {fallback: resnet50}\n")
    config = load(write("x.yaml", "extends: a.yaml\nsplit: {scheme: holdout}\nbackbone: {name: resnet50}\n" + DATA))
    assert config.split == schema.Holdout()
    assert config.backbone.fallback is None


def test_one_file_may_be_extended_twice(write):
    write("base.yaml", DATA)
    for letter, below in (("a", "base"), ("b", "base")):
        write(f"{letter}.yaml", f"extends: {below}.yaml\n")
    assert load(write("x.yaml", "extends: [a.yaml, b.yaml]\n")).data.labels.name == "l.txt"


def test_set_comes_last_and_reads_yaml(write):
    path = write("x.yaml", DATA + "loss: focal\n")
    config = load(path, ["loss.gamma=1", "train.lr=1e-2", "train.clip=", "train={epochs: 3}", "backbone=resnet50"])
    assert config.loss == Spec("focal", {"gamma": 1.0, "alpha": 0.25})
    assert (config.train.lr, config.train.epochs, config.train.clip) == (1e-2, 3, None)
    assert config.backbone.name == "resnet50"
    assert load(path, ["split.scheme=holdout", "split.test=0.3"]).split == schema.Holdout(test=0.3)
    assert load(path, ["train.lr=1", "train.lr=2"]).train.lr == 2.0
    for order in (1, -1):  # a new name does not undo the other overrides
        backbone = load(path, ["backbone.weights=none", "backbone.name=resnet50"][::order]).backbone
        assert (backbone.name, backbone.weights) == ("resnet50", "none")


def test_a_config_cannot_be_changed(write):
    config = load(write("x.yaml", DATA))
    with pytest.raises(ValueError, match="frozen"):
        config.name = "y"


# What a bad file gets


HOSTILE = {
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
    "true for one": ("train: {epochs: true}\n", ["x.yaml:1:17: train.epochs: found true, expected an integer"]),
    "float for int": ("train: {epochs: 1.0}\n", ["x.yaml:1:17: train.epochs: found 1.0, expected an integer"]),
    "infinite": ("train: {lr: 1e999}\n", ["x.yaml:1:13: train.lr: found inf, expected a finite number"]),
    "huge integer": (
        "train: {epochs: " + "9" * 5000 + "}\n",
        ["x.yaml:1:17: train.epochs: found", "expected an integer"],
    ),
    "list for map": ("train: [1]\n", ["x.yaml:1:8: train: found [1], expected a map"]),
    "empty section": ("plot:\n", ["x.yaml:1:6: plot: found null, expected a map"]),
    "duplicate key": (
        "train:\n  lr: 1\n  lr: 2\n",
        ["x.yaml:3:3: train.lr: found the key a second time", "x.yaml:2:3"],
    ),
    "duplicate section": ("plot: {}\nplot: {}\n", ["x.yaml:2:1: plot: found the key a second time", "x.yaml:1:1"]),
    "python tag": ("plot: !!python/object/apply:os.system {}\n", ["x.yaml:1:7: plot: found the tag", "os.system"]),
    "core tag": (
        "name: !!str a\n",
        ["x.yaml:1:7: name: found the tag tag:yaml.org,2002:str, expected a value without"],
    ),
    "undeclared tag": ("name: !e!x 5\n", ["x.yaml:1:7: not valid YAML", "undefined tag handle"]),
    "merge key": ("train: &t {lr: 1}\nplot:\n  <<: *t\n", ["x.yaml:3:3: plot: found the merge key <<"]),
    "unknown alias": ("train: *t\n", ["x.yaml:1:8: train: found the alias *t"]),
    "endless alias": ("train: &t {lr: *t}\n", ["x.yaml:1:16: train.lr: found the alias *t"]),
    "list as key": ("? [a]\n: b\n", ["x.yaml:1:3: found a key that is not text"]),
    "unclosed list": (
        "train:\n  seeds: [1, 2\nname: x\n",
        ["x.yaml:3:5: not valid YAML while parsing a flow sequence"],
    ),
    "tab": ("train:\n\tlr: 1\n", ["x.yaml:2:1: not valid YAML"]),
    "two documents": ("---\nname: a\n---\nname: b\n", ["x.yaml:3:1: found a second document"]),
    "control character": ("name: a\nplot: \x07\n", ["x.yaml:2:7: found the character #x0007"]),
    "surrogate": ('name: "\\ud800"\n', ["x.yaml:1:7: name: found", "expected text without NUL and surrogates"]),
    "NUL": ('name: "a\\0b"\n', ["x.yaml:1:7: name: found", "expected text without NUL"]),
    "top-level list": ("- a\n", ["x.yaml:1:1: found a list, expected a map"]),
    "top-level text": ("hello\n", ["x.yaml:1:1: found a single value, expected a map"]),
    "empty": ("", ["x.yaml:1:1: found an empty file, expected a map"]),
    "only comments": ("# nothing\n\n", ["x.yaml:1:1: found an empty file"]),
    "binary": (bytes(range(256)), ["x.yaml:2:118: found the byte 0x80, expected UTF-8 text"]),
    "zeros": (b"\0" * 100, ["x.yaml:1:1: found the character #x0000"]),
    "UTF-16": ("name: a".encode("utf-16"), ["x.yaml:1:1: found UTF-16 text, expected UTF-8"]),
    "Latin-1": ("name: a\nplot: {title: caf\xe9}\n".encode("latin-1"), ["x.yaml:2:18: found the byte 0xe9"]),
    "too large": (b"#" * 1_000_001, ["x.yaml: found more than 1000000 bytes"]),
    "too deep": ("name: " + "[" * 5000, ["x.yaml:1:57: name[0][0]: found a value nested too deeply"]),
    "unknown backbone": (
        "backbone: {name: resnet8}\n",
        ["x.yaml:1:18: backbone.name: found", "(did you mean resnet18?)"],
    ),
    "bare backbone": ("backbone: resnet8\n", ["x.yaml:1:11: backbone.name: found unknown backbone 'resnet8'"]),
    "unknown fallback": ("backbone: {fallback: resnet8}\n", ["x.yaml:1:22: backbone.fallback: found unknown backbone"]),
    "weights": (
        "backbone: {weights: imagnet}\n",
        ["x.yaml:1:21: backbone.weights: found 'imagnet', expected imagenet,"],
    ),
    "no stage": (
        "backbone: {freeze: layer 4}\n",
        ["x.yaml:1:20: backbone.freeze: found 'layer 4', expected all, none or"],
    ),
    "stage of another": (
        "backbone: {freeze: layer5}\n",
        ["x.yaml:1:20: backbone.freeze: found 'layer5', expected all, none or a stage of resnet18: layer1", "layer4"],
    ),
    "stage of the fallback": (
        "backbone: {freeze: layer4, fallback: tf_efficientnet_lite0}\n",
        [
            "x.yaml:1:20: backbone.freeze: found 'layer4', expected all, none or a stage of tf_efficientnet_lite0 (the "
            "declared fallback, which must have it too): blocks.0, blocks.1"
        ],
    ),
    "stage of a network without stages": (
        "backbone: {name: some_timm_model, freeze: layer4}\n",
        ["x.yaml:1:43: backbone.freeze: found 'layer4', expected all or none, because some_timm_model has no stages"],
    ),
    "cut patch": (
        "backbone: {name: some_timm_model}\ntransform: {size: 225}\n",
        ["x.yaml:2:19: transform.size: found 225, expected a multiple of 14 for some_timm_model"],
    ),
    "cut patch of the fallback": (
        "backbone: {fallback: some_timm_model}\ntransform: {size: 225}\n",
        [
            "x.yaml:2:19: transform.size: found 225, expected a multiple of 14 for some_timm_model (the "
            "declared fallback, which must take it too)"
        ],
    ),
    "stage of what does not exist": (
        "backbone: {name: resnet8, freeze: layer9}\n",
        ["x.yaml:1:18: backbone.name: found unknown backbone 'resnet8'"],
    ),
    "parts of one row": (
        "backbone: {freeze: layer4}\ntrain: {batch_size: 16, accumulate: 16}\n",
        ["x.yaml:2:37: train.accumulate: found 16, expected parts of at least two rows"],
    ),
    "engine of nothing": (
        "backbone: {freeze: none, engine: torch}\n",
        ["x.yaml:1:34: backbone.engine: found 'torch', expected auto, because under freeze: none nothing is encoded"],
    ),
    "half a pixel": (
        "backbone: {freeze: none, dtype: float16}\n",
        [
            "x.yaml:1:33: backbone.dtype: found 'float16', expected float32, because under freeze: none pixels are",
        ],
    ),
    "half a pixel, seen fresh": (
        "backbone: {freeze: none, dtype: float16}\ntransform: {views: fresh}\n",
        ["x.yaml:1:33: backbone.dtype: found 'float16', expected float32"],
    ),
    "fresh views of what is not known to be frozen": (
        "backbone: {freeze: nonne}\ntransform: {views: fresh}\n",
        ["x.yaml:1:20: backbone.freeze: found 'nonne', expected all, none or a stage of resnet18: layer1"],
    ),
    "fresh views of what is frozen": (
        "backbone: {freeze: layer4}\ntransform: {views: fresh}\n",
        [
            "x.yaml:2:20: transform.views: found 'fresh', expected exact or a number, because fresh views need "
            "backbone.freeze: none",
        ],
    ),
    "stored views of pixels": (
        "backbone: {freeze: none}\ntransform: {views: 3}\n",
        ["x.yaml:2:20: transform.views: found 3, expected exact or fresh, because under backbone.freeze: none no"],
    ),
    "rate of what is frozen": (
        "train: {backbone_lr: 1e-4}\n",
        ["x.yaml:1:22: train.backbone_lr: found 0.0001, expected null, because under backbone.freeze: all only a head"],
    ),
    "parts of a frozen batch": (
        "train: {accumulate: 4}\n",
        ["x.yaml:1:21: train.accumulate: found 4, expected 1, because under backbone.freeze: all only a head"],
    ),
    "precision of what is frozen": (
        "backbone: resnet18\ntrain: {precision: bfloat16}\n",
        ["x.yaml:2:20: train.precision: found 'bfloat16', expected auto, because under backbone.freeze: all"],
    ),
    "wrong precision of what is frozen": (
        "train: {precision: float61}\n",
        ["x.yaml:1:20: train.precision: found 'float61', expected one of auto,", "(did you mean float16?)"],
    ),
    "tuned network": (
        "backbone: {freeze: layer4}\ntune: {train.lr: [0.1, 0.01]}\n",
        [
            "x.yaml:2:7: tune: found {'train.lr': [0.1, 0.01]}, expected {}, because only heads on a frozen backbone "
            "(backbone.freeze: all) are tuned",
        ],
    ),
    "blocks of a tail": (
        "backbone: {freeze: layer4}\ntrain: {order: blocks}\n",
        ["x.yaml:2:16: train.order: found 'blocks', expected shuffle, because only heads on a frozen backbone"],
    ),
    "unequal parts": (
        "backbone: {freeze: layer4}\ntrain: {batch_size: 16, accumulate: 3}\n",
        ["x.yaml:2:37: train.accumulate: found 3, expected a divisor of train.batch_size (16)"],
    ),
    "tuned option of another loss": (
        "loss: focal\ntune: {loss.gama: [1.0]}\n",
        ["x.yaml:2:8: tune.loss.gama: found unknown key 'loss.gama'", "(did you mean loss.gamma?)"],
    ),
    "tuned option that other losses have": (
        "loss: masked_bce\ntune: {loss.gamma: [1.0, 2.0]}\n",
        [
            "x.yaml:2:8: tune.loss.gamma: found an option that runs with loss masked_bce lack, expected one of "
            "train.lr, train.weight_decay, or another loss (focal)",
        ],
    ),
    "tuned option of a loss that does not exist": (
        "loss: foacl\ntune: {loss.gamma: [1.0, 2.0]}\n",
        ["x.yaml:1:7: loss: found unknown loss 'foacl'"],
    ),
    "tuned option out of range": (
        "loss: focal\ntune: {loss.gamma: [1.0, -1.0]}\n",
        ["x.yaml:2:26: tune.loss.gamma[1]: found -1.0, expected a number of at least 0"],
    ),
    "tuned option that is no list": (
        "loss: focal\ntune: {loss.gamma: 1.0}\n",
        ["x.yaml:2:20: tune.loss.gamma: found 1.0, expected a list of numbers, none of them twice"],
    ),
    "unknown scheme": ("split: {scheme: kfolds}\n", ["x.yaml:1:17: split.scheme: found 'kfolds', expected 'kfold'"]),
    "key of the other scheme": ("split: {test: 0.1}\n", ["x.yaml:1:9: split.test: found unknown key 'test'"]),
    "one fold": ("split: {folds: 1}\n", ["x.yaml:1:16: split.folds: found 1, expected a number of at least 2"]),
    "nothing to train on": (
        "split: {scheme: holdout, val: 0.5, test: 0.5}\n",
        ["x.yaml:1:42: split.test: found 0.5, expected less than 0.5 (1 - split.val)"],
    ),
    "default test part": (
        "split: {scheme: holdout, val: 0.9}\n",
        ["x.yaml:1:1: split.test: found 0.15, expected less than 0.1 (1 - split.val)"],
    ),
    "no views": (
        "transform: {views: 0}\n",
        ["x.yaml:1:20: transform.views: found 0, expected exact, fresh, or a number"],
    ),
    "views true": ("transform: {views: true}\n", ["x.yaml:1:20: transform.views: found true, expected exact"]),
    "bare transform": ("transform: {train: [HorizontalFlip]}\n", ["x.yaml:1:21: transform.train[0]: found", "a map"]),
    "two in one": ("transform: {train: [{a: {}, b: {}}]}\n", ["x.yaml:1:21: transform.train[0]: found", "at most 1"]),
    "unknown transform": (
        "transform: {train: [{Flip: {}}]}\n",
        ["x.yaml:1:22: transform.train[0].Flip: found unknown"],
    ),
    "patience": ("train: {patience: 3}\n", ["x.yaml:1:19: train.patience: found 3, expected null"]),
    "no seeds": ("train: {seeds: 0}\n", ["x.yaml:1:16: train.seeds: found 0, expected a number of seeds from 1"]),
    "empty seeds": ("train: {seeds: []}\n", ["x.yaml:1:16: train.seeds: found [], expected a number of seeds"]),
    "too many seeds": ("train: {seeds: 1000000000}\n", ["x.yaml:1:16: train.seeds: found"]),
    "repeated seeds": ("train: {seeds: [1, 1]}\n", ["x.yaml:1:16: train.seeds: found [1, 1], expected no value twice"]),
    "negative seed": ("train: {seeds: [0, -1]}\n", ["x.yaml:1:20: train.seeds[1]: found -1, expected a number of at"]),
    "device": ("train: {device: gpu}\n", ["x.yaml:1:17: train.device: found 'gpu', expected auto, cpu"]),
    "metric": ("train: {select: auc}\n", ["x.yaml:1:17: train.select: found 'auc', expected one of last, loss,"]),
    "name as path": ("name: a/b\n", ["x.yaml:1:7: name: found 'a/b', expected a name that can be a folder's"]),
    "suite in run": ("suite: {}\n", ["x.yaml:1:1: suite: found a suite, expected one experiment"]),
    "extends a number": ("extends: 3\n", ["x.yaml:1:10: extends: found 3, expected a path"]),
    "extends nothing": ("extends: [no.yaml]\n", ["x.yaml:1:11: extends: no.yaml: found no such file"]),
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
    "tune": ("tune: 3\n", ["x.yaml:1:7: tune: found 3, expected a map"]),
    "no value to tune": ("tune: {train.lr: []}\n", ["x.yaml:1:18: tune.train.lr: found [], expected at least 1 item"]),
    "tuned twice": (
        "tune: {train.weight_decay: [0.1, 1e-1]}\n",
        ["x.yaml:1:28: tune.train.weight_decay: found [0.1, 0.1], expected no value twice"],
    ),
    "tuned out of range": (
        "tune: {train.lr: [0.1, 0]}\n",
        ["x.yaml:1:24: tune.train.lr[1]: found 0, expected a number above 0"],
    ),
    "decay out of range": (
        "tune: {train.weight_decay: [0, -1]}\n",
        ["x.yaml:1:32: tune.train.weight_decay[1]: found -1, expected a number of at least 0"],
    ),
    "not to be tuned": (
        "tune: {train.epochs: [3]}\n",
        ["x.yaml:1:8: tune.train.epochs: found unknown key 'train.epochs', expected one of train.lr, train.weight_dec"],
    ),
    "calibration": ("calibration: plat\n", ["x.yaml:1:14: calibration: found 'plat'", "(did you mean platt?)"]),
    "extends a folder": ("extends: .\n", ["x.yaml:1:10: extends: .: found a folder"]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_explained(write, case):
    content, parts = HOSTILE[case]
    if isinstance(content, str) and ("---" not in content) and re.match(r"\w+:|\n", content):
        content += DATA
    [line] = problems(load, write("x.yaml", content))
    for part in parts:
        assert part in line
    assert line.startswith(parts[0])


DATA_PROBLEMS = {
    "labels: 5, images: i": ["data.labels: found 5, expected a path"],
    "labels: l": ["data.images: found nothing, expected a value, which is required"],
    "images: i": ["data.labels: found nothing, expected a value, which is required"],
    "labels: l, images: i, importer: cvs": ["data.importer: found unknown importer 'cvs', expected one of auto,"],
    "labels: l, images: i, importer: label_list": ["data.absent: found null, expected negative or missing"],
    "labels: l, images: i, importer: jsonl, absent: missing": ["data.absent: found 'missing', expected null"],
    "labels: l, images: i, importer: jsonl, id: x": ["data.id: found 'x', expected null"],
    "labels: l, images: i, attributes: [a, macro]": [
        "data.attributes: found ['a', 'macro'], expected no attribute named"
    ],
    "labels: l, images: i, attributes: [a, '']": ["data.attributes: found ['a', ''], expected no empty name"],
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


def test_an_alias_bomb_is_refused_quickly(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    [line] = problems(load, write("x.yaml", "\n".join(lines)))
    assert re.match(r"x\.yaml:6:\d+: a5\[\d\]: found too many values once aliases are expanded", line)


def test_aliases_cannot_nest_deeper_than_text(write):
    text = "a0: &a0 " + "[" * 30 + "]" * 30 + "\n" + "a1: &a1 " + "[" * 30 + "*a0" + "]" * 30 + "\n"
    assert "nested too deeply" in problems(load, write("x.yaml", text))[0]


def test_without_data_both_paths_are_named(write):
    lines = problems(load, write("x.yaml", "name: a\n"))
    assert [line.split(": ")[1] for line in lines] == ["data.images", "data.labels"]
    assert all(line.startswith("x.yaml:1:1:") for line in lines)


@pytest.mark.parametrize(
    ("name", "found"), [("no.yaml", "no such file"), (".", "a folder"), ("a\0b", "embedded null byte")]
)
def test_a_file_that_cannot_be_read(write, name, found):
    [line] = problems(load, Path(name))
    assert line == f"{name}: found {found}, expected a YAML file"


def test_all_errors_are_reported_at_once_each_in_its_own_file(write):
    write("base.yaml", "train:\n  lr: fast\n  epochs: 0\nloss: foacl\n")
    path = write("x.yaml", "extends: base.yaml\nnmae: x\ntrain: {epochs: 3, lrr: 1}\nplot: {title: a, title: b}\n")
    assert [": ".join(line.split(": ")[:2]) for line in problems(load, path, ["train.seeds=x", "foo.bar=1"])] == [
        "--set foo.bar: foo",
        "--set train.seeds: train.seeds",
        "base.yaml:2:7: train.lr",
        "base.yaml:4:7: loss",
        "x.yaml:1:1: data.images",
        "x.yaml:1:1: data.labels",
        "x.yaml:2:1: nmae",
        "x.yaml:3:20: train.lrr",
        "x.yaml:4:18: plot.title",
    ]


def test_broken_files_are_all_named(write):
    write("a.yaml", "train: [\n")
    write("b.yaml", b"\xff")
    lines = problems(load, write("x.yaml", "extends: [a.yaml, b.yaml, c.yaml]\n"))
    assert [line[:12] for line in lines] == ["a.yaml:2:1: ", "b.yaml:1:1: ", "x.yaml:1:27:"]


@pytest.mark.parametrize(
    ("files", "cycle"),
    [
        ({"x.yaml": "extends: x.yaml\n"}, "x.yaml:1:10: extends: found a cycle: x.yaml -> x.yaml"),
        (
            {"x.yaml": "extends: sub/a.yaml\n", "sub/a.yaml": "name: b\nextends: [../x.yaml]\n"},
            "sub/a.yaml:2:11: extends: found a cycle: x.yaml -> sub/a.yaml -> x.yaml",
        ),
    ],
)
def test_a_cycle_is_named(write, files, cycle):
    for name, text in files.items():
        write(name, text)
    [line] = problems(load, Path("x.yaml"))
    assert line.startswith(cycle)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr", "--set train.lr: found 'train.lr', expected key=value, such as train.lr=1e-4"),
        ("=3", "--set: found '=3', expected key=value"),
        ("train..lr=3", "--set train..lr: found 'train..lr=3', expected key=value"),
        ("trian.lr=3", "--set trian.lr: trian: found unknown key 'trian', expected one of"),
        ("train.lrr=3", "--set train.lrr: train.lrr: found unknown key 'lrr', expected one of"),
        ("train.lr=[1", "--set train.lr: not valid YAML"),
        ("train.lr=fast", "--set train.lr: train.lr: found 'fast', expected a number"),
        ("loss.gamma=1", "--set loss.gamma: loss.gamma: found unknown key 'gamma', expected no options"),
        ("extends=a.yaml", "--set extends: extends: found a key that only a file can hold"),
        ("train.clip=!!float 3", "--set train.clip: found the tag"),
        ("train.accumulate=4", "--set train.accumulate: train.accumulate: found 4, expected 1, because under"),
        ("tune={train.lr: [0.1]}", "--set tune: tune: found {'train.lr': [0.1]}, expected {}, because only heads"),
        ("name.a=1", "--set name.a: name.a"),
    ],
)
def test_a_wrong_override_is_explained(write, override, message):
    frozen = ["backbone.freeze=layer4"] if override.startswith("tune") else []
    lines = problems(load, write("x.yaml", DATA + "loss: masked_bce\ntune: {}\n"), [override, *frozen])
    if override != "name.a=1":  # what `name` then holds is the file's fault
        assert len(lines) == 1
        assert lines[0].startswith(message)


def test_a_broken_override_hides_no_other_error(write):
    write("a.yaml", "train: [\n")
    overrides = ["los=hill", "train.lr=x", "foo", "train.clip=[1", f"transform={{trian: [{'x' * 500}]}}"]
    starts = ["--set foo: found", "--set los: los", "--set train.clip: not", "--set train.lr: train.lr: found 'x'"]
    starts.append("--set transform: transform.trian: found unknown key")
    lines = problems(load, write("x.yaml", DATA), overrides)
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts
    assert max(map(len, lines)) < 250
    lines = problems(load, write("x.yaml", "extends: a.yaml\n"), overrides)
    assert [line.split(": ")[0] for line in lines] == ["--set foo", "--set train.clip", "a.yaml:2:1"]


def test_paths_that_lead_nowhere_are_errors_with_their_place(write, tmp_path):
    path = write("x.yaml", DATA + "backbone: {weights: w.pt}\nloss: foacl\n")
    expected = [
        f"x.yaml:1:16: data.labels: found {tmp_path / 'l.txt'}, expected a file that exists",
        f"x.yaml:1:31: data.images: found {tmp_path / 'i'}, expected a folder that exists",
        f"x.yaml:2:21: backbone.weights: found {tmp_path / 'w.pt'}, expected a file that exists",
    ]
    assert problems(loader.load, path, TABLES)[:3] == expected
    assert problems(loader.load, path, TABLES, ["backbone.fallback=resnet50", "loss=focal"]) == expected[:2]
    assert problems(loader.load, path, TABLES, ["data.images=l.txt"])[0].startswith("--set data.images: data.images: ")
    for name in ("l.txt", "w.pt", "i/a.jpg"):
        write(name, "")
    assert problems(loader.load, path, TABLES)[0].startswith("x.yaml:3:7: loss")
    assert loader.load(path, TABLES, ["loss=focal"]) == load(path, ["loss=focal"])


def test_in_a_suite_an_absent_weight_file_fails_its_run_only(write):
    path = write("s.yaml", SUITE + "backbone: {weights: w.pt}\n")
    assert [line[:11] for line in problems(loader.load_suite, path, TABLES)] == ["s.yaml:1:16", "s.yaml:1:31"]
    for name in ("l.txt", "i/a.jpg"):
        write(name, "")
    assert loader.load_suite(path, TABLES) == load_suite(path)


def test_timm_is_asked_only_about_names_outside_the_catalog(write):
    assert load(write("x.yaml", DATA), ["backbone=some_timm_model"]).backbone.name == "some_timm_model"


# Round trips

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
tricky = st.sampled_from(
    ["1e-3", "no", "1:30", "0o7", "~", "null", "", " a ", "# x", "a: b", "'", "- x", "=", "<<", "\u2028"]
)
word = text | tricky
words = st.lists(word, min_size=1, max_size=3, unique=True)
number = st.floats(min_value=1e-300, max_value=1e300)
part = st.floats(0.01, 0.45)
seed = st.integers(0, 2**32 - 1)
path = text.map(lambda value: os.path.abspath("/" + value))


@st.composite
def token_lists(draw) -> dict[str, list[str]]:
    tokens = draw(st.lists(word, min_size=2, max_size=5, unique=True))
    return {"positive": tokens[:1], "negative": tokens[1:2], "missing": tokens[2:]}


holdouts = st.fixed_dictionaries({"scheme": st.just("holdout"), "val": part, "test": part, "seed": seed})
folds = st.fixed_dictionaries({"scheme": st.just("kfold"), "val": part, "folds": st.integers(2, 9)})
focals = st.fixed_dictionaries({"name": st.just("focal"), "gamma": number, "alpha": st.none()})

hidings = st.fixed_dictionaries(
    {"mechanism": st.sampled_from(["random", "per_class", "positives", "score"]), "fraction": part, "seed": seed}
)


@st.composite
def configs(draw) -> dict[str, Any]:
    names = words.filter(lambda names: not {"macro", ""} & {*names})
    attribute = word.filter(lambda key: key not in ("macro", ""))
    return {
        "name": draw(text.filter(lambda value: value.strip(" ") and value.isprintable() and not {*value} & {*"/\\."})),
        "data": {
            "labels": draw(path),
            "images": draw(path),
            "importer": "wide_csv",
            "id": draw(st.none() | word),
            "group": draw(st.none() | word),
            "attributes": draw(st.none() | names),
            "values": draw(token_lists() | st.dictionaries(attribute, token_lists(), min_size=1, max_size=3)),
            "on_bad_image": draw(st.sampled_from(["error", "skip"])),
        },
        "split": draw(holdouts | folds),
        "backbone": draw(st.sampled_from(["resnet50", {"weights": "none"}, {"weights": "/a b/w.pt"}])),
        "transform": {
            "views": draw(st.integers(1, 9)),
            "train": draw(st.sampled_from([[], [{"A": {"p": [1, None]}}]])),
        },
        "hide": draw(st.none() | hidings),
        "loss": draw(st.just("focal") | focals),
        "train": {
            "optimizer": {"name": "sgd", "nesterov": draw(st.booleans())},
            "lr": draw(number),
            "seeds": draw(st.integers(1, 5) | st.lists(seed, min_size=1, max_size=3, unique=True)),
            "select": "loss",
            "patience": draw(st.none() | st.integers(1, 9)),
        },
        "plot": {"title": draw(word)},
    }


@given(data=configs())
@settings(max_examples=100, deadline=None)
def test_loading_a_dump_gives_the_config_back(data):
    config, found = schema.check(copy.deepcopy(data), TABLES)
    assert config is not None, found
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "other.yaml"
        file.write_bytes(loader.dump(config).encode())
        again = load(file)
    assert again == config
    assert loader.dump(again) == loader.dump(config)
    assert grid.public(again) == grid.public(config)


@given(content=st.binary(max_size=60) | st.text("ab:{}[]&*!<-,'\"#|>%@ \n\t?.1e", max_size=60).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_no_file_whatever_gives_anything_but_a_user_error(content):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.yaml"
        file.write_bytes(content)
        with pytest.raises(UserError):
            load(file)


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
    assert {*usual} == {*Config.model_fields} - {"name", "plot"}
    assert grid.public(load(path, ["hide=null", "calibration=none", "tune={}"])) == usual
    for override in (
        *("hide={mechanism: random}", "hide={mechanism: random, seed: 1}", "hide={mechanism: random, rows: train}"),
        *("calibration=platt", "tune={train.lr: [0.1]}"),
    ):
        assert grid.public(load(path, [override])) != usual


# Suites


SUITE = (
    DATA
    + """\
suite:
  baseline: {loss: masked_bce, sampler: uniform}
  axes:
    loss: [masked_bce, pos_weight, {name: focal, gamma: 1.0}]
    sampler: [uniform, repeat_factor]
  exclude: [{loss: pos_weight, sampler: repeat_factor}]
"""
)


def test_a_suite_expands_in_the_order_of_its_axes(write):
    suite = load_suite(write("s.yaml", SUITE))
    assert [run.name for run in suite.runs] == [
        "masked_bce + uniform",
        "masked_bce + repeat_factor",
        "pos_weight + uniform",
        "focal(gamma=1.0) + uniform",
        "focal(gamma=1.0) + repeat_factor",
    ]
    assert suite.axes == {
        "loss": ["masked_bce", "pos_weight", "focal(gamma=1.0)"],
        "sampler": ["uniform", "repeat_factor"],
    }
    assert (suite.name, suite.baseline) == ("s", 0)
    assert suite.runs[4].config == load(
        write("x.yaml", DATA + "name: s\nloss: {name: focal, gamma: 1}\nsampler: repeat_factor\n")
    )
    assert suite.base == load(write("s2.yaml", DATA + "name: s\n"))


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
    assert [run.name for run in suite.runs] == [
        f"seed={seed} + lr=0.1 + {backbone} + sgd(nesterov=True) + size=64 + gamma=1.0"
        for seed in (0, 1)
        for backbone in ("resnet18", "resnet50(weights=w.pth)")
    ]
    assert suite.runs[1].config.backbone.weights == os.path.abspath("deep/w.pth")


def test_hidden_labels_have_readable_names(write):
    axes = (
        "{hide: [null, {mechanism: random}, {mechanism: score, fraction: 0.25, rows: train, seed: 3}], "
        "missing: [ignore, negative]}"
    )
    suite = load_suite(write("s.yaml", DATA + f"suite: {{baseline: {{hide: null, missing: ignore}}, axes: {axes}}}\n"))
    assert [run.name for run in suite.runs] == [
        f"{hidden} + {policy}"
        for hidden in ("nothing hidden", "hide random(fraction=0.5)", "hide score(fraction=0.25, rows=train, seed=3)")
        for policy in ("ignore", "negative")
    ]
    assert suite.baseline == 0
    assert suite.runs[2].config.hide == schema.HideConfig(mechanism="random", fraction=0.5)


def test_parts_of_hide_can_be_axes(write):
    axes = "{hide.mechanism: [random, score], hide.fraction: [0.3, 0.6]}"
    baseline = "{hide.mechanism: score, hide.fraction: 0.6}"
    suite = load_suite(write("s.yaml", DATA + f"suite: {{baseline: {baseline}, axes: {axes}}}\n"))
    assert [run.name for run in suite.runs] == [
        f"{mechanism} + fraction={fraction}" for mechanism in ("random", "score") for fraction in (0.3, 0.6)
    ]
    assert suite.baseline == 3
    [line] = problems(load_suite, write("t.yaml", DATA + "suite: {baseline: {}, axes: {hide.fraction: [0.3]}}\n"))
    assert "hide.mechanism: found nothing" in line


def test_whole_sections_have_readable_names(write):
    axes = "{split: [{folds: 3}, {scheme: holdout}], train: [{epochs: 3, optimizer: sgd}]}"
    suite = load_suite(write("s.yaml", DATA + f"suite: {{baseline: {{split: {{folds: 3}}}}, axes: {axes}}}\n"))
    assert [run.name for run in suite.runs] == [
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
    assert [run.name for run in suite.runs] == ["focal", "focal(gamma=1.0)"]
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
    ("suite: {baseline: {}, axes: {loss: [focal], loss.gamma: [1]}}", "suite.axes.loss.gamma: found an axis inside"),
    (
        "tune: {train.lr: [0.1, 1]}\nsuite: {baseline: {}, axes: {train.lr: [1, 2], loss: [focal, masked_bce]}}",
        ":2:30: suite.axes.train.lr: found the axis 'train.lr' and `tune` of the same key, expected one of the two",
    ),
    ("suite: {baseline: {}, axes: {loss: [focal, {name: focal}]}}", ":1:44: suite.axes.loss: found .* a second time"),
    ("suite: {baseline: {}, axes: {loss: [focal, masked_bce]}}", "suite.baseline: found 2 runs that match"),
    ("suite: {baseline: {loss: pos_weight}, axes: {loss: [focal]}}", "suite.baseline: found 0 runs that match"),
    ("suite: {baseline: {loss: foacl}, axes: {loss: [focal]}}", ":1:26: loss: found unknown loss 'foacl'"),
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
    assert [run.name for run in load_suite(write("s.yaml", DATA + listed)).runs] == ["masked_bce", "focal(gamma=1.0)"]
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
        "--set train.lr: train.lr",
        "s.yaml:1:7: loss",
        "s.yaml:4:20: loss",
        "s.yaml:5:29: loss",
        "s.yaml:5:37: losss",
        "s.yaml:5:60: train.lr",
        "s.yaml:6:14: suite.exclude[0].sampler",
        "s.yaml:6:44: train.lr",
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


def test_a_suite_is_told_from_an_experiment(write):
    assert loader.is_suite(write("s.yaml", SUITE))
    assert loader.is_suite(write("t.yaml", "extends: s.yaml\n"))
    assert not loader.is_suite(write("x.yaml", DATA))
    assert "found no suite" in problems(load_suite, Path("x.yaml"))[0]
    with pytest.raises(UserError):
        loader.is_suite(Path("no.yaml"))


# The schema for editors


def accepts(rule: Any, value: Any, root: dict[str, Any]) -> bool:
    """The few keywords of JSON schema that json_schema uses."""
    if isinstance(rule, bool):
        return rule
    if "$ref" in rule:
        return accepts(root["$defs"][rule["$ref"].rsplit("/", 1)[1]], value, root)
    if "anyOf" in rule and not any(accepts(other, value, root) for other in rule["anyOf"]):
        return False
    if ("enum" in rule and value not in rule["enum"]) or ("const" in rule and value != rule["const"]):
        return False
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
    kinds["boolean"] = bool
    if "type" in rule and not isinstance(value, kinds[rule["type"]]):
        return False
    if isinstance(value, dict):
        known, rest = rule.get("properties", {}), rule.get("additionalProperties", {})
        return all(accepts(known.get(key, rest), item, root) for key, item in value.items()) and not {
            *rule.get("required", [])
        } - {*value}
    if isinstance(value, list):
        return all(accepts(rule.get("items", {}), item, root) for item in value)
    return True


def as_data(file: Path) -> Any:
    return nodes.parse(file.read_text(), Place("", 1, 1, file.parent), []).plain()


@pytest.mark.parametrize("file", sorted((REPOSITORY / "configs").rglob("*.yaml")), ids=lambda file: file.name)
def test_the_json_schema_knows_every_key_of_the_shipped_configs(file):
    rules = schema.json_schema(TABLES)
    data = as_data(file)
    for key in schema.ENTRIES:  # the real tables are wider than these
        section = data if len(key) == 1 else data.get("train", {})
        section.pop(key[-1], None)
    assert accepts(rules, data, rules)


def test_the_json_schema_refuses_what_the_loader_refuses(write):
    rules = schema.json_schema(TABLES)
    json.dumps(rules)
    assert accepts(rules, as_data(write("s.yaml", SUITE)), rules)
    for good in (
        {"loss": "focal"},
        {"loss": {"name": "focal", "gamma": 1}},
        {"loss": {"gamma": 1}},
        {"train": {"optimizer": {"name": "sgd", "momentum": 0.9}, "seeds": [1], "clip": None}},
        {"split": {"scheme": "holdout", "test": 0.2}},
        {"split": {"val": 0.2}},
        {"backbone": "resnet50"},
        {"transform": {"views": 4}},
        {"extends": ["a.yaml"]},
        {"data": {"values": {"positive": ["y"]}}},
        {"data": {"values": {"a": {"positive": ["y"]}}}},
        {"hide": None},
        {"hide": {"mechanism": "score", "fraction": 0.3}},
        {"calibration": "platt"},
    ):
        assert accepts(rules, good, rules), good
    for bad in (
        {"los": "focal"},
        {"loss": "foacl"},
        {"loss": {"name": "focal", "gama": 1}},
        {"loss": {"name": "masked_bce", "gamma": 1}},
        {"train": {"optimizer": "sdg"}},
        {"train": {"lr": "fast"}},
        {"split": {"scheme": "holdout", "folds": 2}},
        {"data": {"importer": "cvs"}},
        {"suite": {"axis": {}}},
        {"hide": {"mechanism": "all"}},
        {"hide": {"rate": 0.3}},
    ):
        assert not accepts(rules, bad, rules), bad
