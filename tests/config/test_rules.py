"""Rules between fields: the message about every rule that a config breaks."""

from __future__ import annotations

import pytest
from small_tables import DATA, load, problems

BROKEN_RULES = {
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
    "average of networks": (
        "backbone: {freeze: layer4}\ntrain: {averaging: polynomial}\n",
        [
            "x.yaml:2:20: train.averaging: found 'polynomial', expected auto or none, because only heads on a frozen "
            "backbone (backbone.freeze: all) are averaged"
        ],
    ),
    "parts of one row": (
        "backbone: {freeze: layer4}\ntrain: {batch_size: 16, accumulate: 16}\n",
        ["x.yaml:2:37: train.accumulate: found 16, expected parts of at least two rows"],
    ),
    "engine of nothing": (
        "backbone: {freeze: none, engine: torch}\n",
        ["x.yaml:1:34: backbone.engine: found 'torch', expected auto, because under freeze: none nothing is encoded"],
    ),
    "heads that are always kept": (
        "train: {keep_weights: false}\n",
        ["x.yaml:1:23: train.keep_weights: found false, expected auto or true, because under backbone.freeze: all"],
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
    "tuned option out of range": (
        "loss: focal\ntune: {loss.gamma: [1.0, -1.0]}\n",
        ["x.yaml:2:26: tune.loss.gamma[1]: found -1.0, expected a number of at least 0"],
    ),
    "nothing to train on": (
        "split: {scheme: holdout, val: 0.5, test: 0.5}\n",
        ["x.yaml:1:42: split.test: found 0.5, expected less than 0.5 (1 - split.val)"],
    ),
    "default test part": (
        "split: {scheme: holdout, val: 0.9}\n",
        ["x.yaml:1:1: split.test: found 0.15, expected less than 0.1 (1 - split.val)"],
    ),
    "unknown transform": (
        "transform: {train: [{Flip: {}}]}\n",
        ["x.yaml:1:22: transform.train[0].Flip: found unknown"],
    ),
    "patience": ("train: {patience: 3}\n", ["x.yaml:1:19: train.patience: found 3, expected null"]),
    "tuned out of range": (
        "tune: {train.lr: [0.1, 0]}\n",
        ["x.yaml:1:24: tune.train.lr[1]: found 0.0, expected a number above 0"],
    ),
    "decay out of range": (
        "tune: {train.weight_decay: [0, -1]}\n",
        ["x.yaml:1:32: tune.train.weight_decay[1]: found -1.0, expected a number of at least 0"],
    ),
    "not to be tuned": (
        "tune: {train.epochs: [3]}\n",
        ["x.yaml:1:8: tune.train.epochs: found unknown key 'train.epochs', expected one of train.lr, train.weight_dec"],
    ),
}


@pytest.mark.parametrize("case", BROKEN_RULES)
def test_a_broken_rule_is_explained(write, case):
    content, parts = BROKEN_RULES[case]
    [line] = problems(load, write("x.yaml", content + DATA))
    for part in parts:
        assert part in line
    assert line.startswith(parts[0])
