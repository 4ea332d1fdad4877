"""The weights that training returns give the logits that it returns, bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_finetune import COMBINATIONS, fine, layers_of, single
from test_trainer import problem, recipe, run

from aimonk_bench.records.weights import HeadWeights, network_file, read_network
from aimonk_bench.training import finetune, heads, heads_trainer, sources
from aimonk_bench.training.finetune import Scratch
from aimonk_bench.training.recipe import Recipe

OPTIONS = [
    *(options for options in COMBINATIONS if "accumulate" not in options),
    {"tune": {"train.lr": [0.5, 1e-4, 0.05]}},
    {"tune": {"train.lr": [0.5, 0.05], "train.weight_decay": [0.0, 0.1]}, "select": "loss", "patience": 1, "epochs": 5},
    {"tune": {"train.lr": [0.05, 0.2]}, "missing": "self_trained", "select": "f1_default"},
    {"tune": {"train.lr": [0.5, 0.05]}, "averaging": "polynomial", "select": "loss", "epochs": 5},
    {"seeds": [5]},
]


def assert_recomputed(data, trained):
    for fold, parts in enumerate(data.folds):
        for part, wanted in trained.logits[fold].items():
            made = heads_trainer.logits_of(trained.heads, fold, data.features, data.index, getattr(parts, part))
            np.testing.assert_array_equal(made, wanted)
            assert made.dtype == wanted.dtype


@pytest.mark.parametrize("folds", [1, 2])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_heads_give_their_logits(options, folds):
    options = dict(options)
    tune, data = options.pop("tune", None), single(problem(folds=folds))
    trained = run(data, recipe(**options), dtype=torch.float32, tune=tune)
    seeds = len(options.get("seeds", "07"))
    assert trained.heads.weight.shape == (seeds, folds, 3, 6)
    assert trained.heads.bias.shape == (seeds, folds, 3)
    assert_recomputed(data, trained)


@pytest.mark.parametrize("chunk", [1, 6 * 4 * 5, 1 << 24])
def test_heads_give_their_logits_whatever_is_gathered_at_once(chunk, monkeypatch):
    monkeypatch.setattr(heads, "CHUNK_BYTES", chunk)
    data = single(problem())
    assert_recomputed(data, run(data, recipe(), dtype=torch.float32))


def test_heads_of_half_precision_features_give_their_logits():
    data = problem(features=40)
    data.features = data.features.astype(np.float16)
    assert_recomputed(data, run(data, recipe(), dtype=torch.float32))


def test_the_heads_are_those_of_the_chosen_epoch_and_setting():
    data, options = single(problem()), {"select": "loss", "epochs": 5}
    trained = run(data, recipe(**options, lr=0.5), dtype=torch.float32, tune={"train.lr": [0.05, 0.5, 2.0]})
    assert (trained.chosen_epoch < 5).any()
    assert len(np.unique(trained.tuning.chosen["train.lr"])) > 1
    seed, fold = 1, 1
    features = data.features[data.index[0, data.folds[fold].test]].astype(np.float64)
    logits = features @ trained.heads.weight[seed, fold].T + trained.heads.bias[seed, fold]
    np.testing.assert_allclose(trained.logits[fold]["test"][seed], logits, rtol=1e-5, atol=1e-5)


def test_one_head_of_several_gives_its_logits_to_rounding():
    data = single(problem())
    trained = run(data, recipe(), dtype=torch.float32)
    one = HeadWeights(trained.heads.weight[1:], trained.heads.bias[1:])
    made = heads_trainer.logits_of(one, 0, data.features, data.index, data.folds[0].test[:3])
    np.testing.assert_allclose(made[0], trained.logits[0]["test"][1, :3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
def test_networks_give_their_logits(options, tmp_path):
    data, config = single(problem()), recipe(**options)
    trained = fine(data, config, layers_of(norm=True), scratch=Scratch(tmp_path, keep="head.fc"))
    jobs = [(fold, seed) for fold in (0, 1) for seed in (0, 7)]
    source = sources.Stored(data.features, data.index)
    for number, (fold, _) in enumerate(jobs):
        network = read_network(tmp_path / network_file(*jobs[number]))
        for part, wanted in trained.logits[fold].items():
            rows = getattr(data.folds[fold], part)
            made = finetune.logits_of(network, layers_of(norm=True), source, rows, Recipe(**config), len(jobs))
            np.testing.assert_array_equal(made, wanted[number % 2])


def test_a_training_without_networks_returns_the_same(tmp_path):
    data = single(problem())
    keeping = fine(data, recipe(), layers_of(), scratch=Scratch(tmp_path, keep="fc"))
    plain = fine(data, recipe(), layers_of(), scratch=Scratch(tmp_path / "plain"))
    assert plain.heads is None
    assert keeping.heads is None
    assert not list((tmp_path / "plain").glob("*.safetensors"))
    for field in dataclasses.fields(plain):
        if field.name in ("logits", "history"):
            np.testing.assert_equal(getattr(keeping, field.name), getattr(plain, field.name))


def test_a_network_of_other_layers_is_refused(tmp_path):
    data, config = single(problem()), recipe()
    fine(data, config, layers_of(), scratch=Scratch(tmp_path, keep="fc"))
    source = sources.Stored(data.features, data.index)
    with pytest.raises(RuntimeError, match="Missing key"):
        finetune.logits_of(
            read_network(tmp_path / network_file(0, 0)), layers_of(norm=True), source, np.arange(3), Recipe(**config), 4
        )
