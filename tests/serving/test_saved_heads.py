"""Saved heads and networks are those of the run: their shapes, their numbers, and the logits that they give."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimonk_bench.errors import UserError
from aimonk_bench.records import run as runs
from aimonk_bench.records import weights
from aimonk_bench.serving import classifier
from aimonk_bench.serving.choice import Choice
from aimonk_bench.serving.export import export, pretrained
from aimonk_bench.serving.heads import COARSE, HALF, SINGLE, Tensors, rounding, saved


def test_heads_of_another_run_are_refused(holdout: Path, tmp_path: Path):
    """They have the same shape; the seeds are swapped."""
    copied = Path(shutil.copytree(holdout, tmp_path / "run"))
    of_run = weights.read_heads(copied)
    weights.write_heads(copied, weights.HeadWeights(of_run.weight[::-1], of_run.bias[::-1]))
    with pytest.raises(UserError) as refused:
        export(copied, tmp_path / "bundle", head=0)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{copied / weights.HEADS}: found weights that do not give the logits of ")
    assert f"{copied / runs.PREDICTIONS}: on " in problem
    assert "of 48 images" in problem
    assert f"fix: put back {copied / weights.HEADS}, or delete it and run the same command" in problem
    assert not (tmp_path / "bundle").exists()


def cut(tensor: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(tensor[:2])


def with_nan(tensor: np.ndarray) -> np.ndarray:
    return np.where(np.arange(tensor.size).reshape(tensor.shape) == 5, np.nan, tensor)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut, ["found a weight [2, 1, 4, 1280], expected [3, 1, 4, 1280] as in", "found a bias [2, 1, 4]"]),
        (lambda tensor: tensor[:, :, :3], ["found a bias [3, 1, 3], expected [3, 1, 4]"]),
        (with_nan, ["found numbers that are not finite in weight, bias"]),
    ],
)
def test_heads_that_are_not_those_of_the_run_are_named(change: Any, words: list[str], chosen: Choice, tmp_path: Path):
    of_run = weights.read_heads(chosen.record.folder)
    weights.write_heads(tmp_path, weights.HeadWeights(change(of_run.weight), change(of_run.bias)))
    record = replace(chosen.record, folder=tmp_path)
    shutil.copy(chosen.record.folder / runs.PREDICTIONS, tmp_path)
    with pytest.raises(UserError) as refused:
        saved(record, chosen.config, (0, 1))
    message = str(refused.value)
    assert [word for word in [*words, str(tmp_path / weights.HEADS), "fix: put back"] if word not in message] == []


def test_a_head_on_other_features_is_named(chosen: Choice):
    resolved = pretrained(chosen)
    head = Tensors(np.zeros((4, 7), np.float32), np.zeros(4, np.float32), {}, "run/heads.safetensors")
    with pytest.raises(UserError, match=r"run/heads.safetensors: found a head on 7 features, expected 1280 as tf_eff"):
        classifier.build(resolved, 32, head)
    layers = {"conv_head.weight": np.zeros(3, np.float32), "stem.x": np.zeros(3, np.float32)}
    with pytest.raises(UserError, match=r"run/heads.safetensors: found conv_head.weight, stem.x, which tf_effi"):
        classifier.build(resolved, 32, replace(head, layers=layers))


def test_the_network_of_another_seed_is_refused(fine_tuned: Path, tmp_path: Path):
    folder = Path(shutil.copytree(fine_tuned, tmp_path / "run"))
    first, second = (folder / weights.NETWORKS / weights.network_file(0, seed) for seed in (0, 1))
    shutil.copy(second, first)
    with pytest.raises(UserError, match=f"{first}: found weights that do not give the logits of .*predictions.npz"):
        export(folder, tmp_path / "bundle", head=0)
    trained = weights.read_network(second)
    broken = {name: tensor * np.float32("nan") for name, tensor in trained.layers.items()}
    weights.write_network(first, replace(trained, layers=broken), "classifier")
    with pytest.raises(UserError, match=f"{first}: found numbers that are not finite in bn2.bias, .*fix: put back"):
        export(folder, tmp_path / "bundle", head=0)


@pytest.mark.parametrize(
    ("environment", "backbone", "precision", "expected"),
    [
        ({}, {}, "auto", SINGLE),
        ({"device": "cuda:0"}, {}, "auto", COARSE),
        ({"packages": {"torch": "1"}}, {}, "auto", COARSE),
        ({}, {"dtype": "float16"}, "auto", COARSE),
        ({}, {"freeze": "conv_head"}, "auto", SINGLE),
        ({}, {"freeze": "none"}, "bfloat16", HALF),
        ({"device": "cuda:0"}, {"freeze": "none"}, "auto", HALF),
        ({"device": "cuda:0"}, {"freeze": "none"}, "float32", COARSE),
    ],
)
def test_rounding_is_coarser_where_the_run_computed_otherwise(
    environment: dict[str, Any], backbone: dict[str, str], precision: str, expected: float, chosen: Choice
):
    config = chosen.config.model_copy(
        update={
            "backbone": chosen.config.backbone.model_copy(update=backbone),
            "train": chosen.config.train.model_copy(update={"precision": precision}),
        }
    )
    record = replace(chosen.record, environment={**chosen.record.environment, **environment})
    assert rounding(record, config) == expected
