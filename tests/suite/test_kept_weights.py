"""Every finished run keeps the weights that gave its logits, and a run that lacks them is trained again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from small_suite import planned

from aimonk_bench import cli
from aimonk_bench.backbones import network as networks
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.data import transforms
from aimonk_bench.data.images import decode
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.records import run
from aimonk_bench.records.weights import HEADS, NETWORKS, read_heads, read_network
from aimonk_bench.suite import tasks
from aimonk_bench.training import finetune, heads_trainer, sources
from aimonk_bench.training.recipe import Recipe

HOLDOUT = "split={scheme: holdout, val: 0.25, test: 0.25}"
LAYER4 = "backbone={name: test_resnet, weights: none, freeze: layer4}"
PIXELS = "backbone={name: test_resnet, weights: none, freeze: none}"
TOKENS = "backbone={name: test_vit, weights: none, freeze: blocks.1}"
KEEP, DROP = (f"train.keep_weights={value}" for value in ("true", "false"))


def execute(config: Path, out: Path, *overrides: str) -> int:
    """The exit code of the command `run`."""
    return cli.main(["run", str(config), "--out", str(out), *(word for text in overrides for word in ("--set", text))])


def assert_recomputed(config: Path, out: Path, *overrides: str) -> None:
    """Compare the logits of the weights in a folder, and of features that are encoded anew, with its predictions."""
    planned_run = planned(config, *overrides).baseline
    experiment, encoder = planned_run.config, planned_run.encoder
    dataset = tasks.encode(planned(config, *overrides).dataset, experiment, encoder)
    folds = dataset.split_labels(experiment.split, experiment.hide).folds
    predictions, seeds = Predictions.load(out / run.PREDICTIONS), experiment.train.seeds
    rows, index = dataset.stored.rows, dataset.stored.index
    source: sources.Source = sources.Stored(rows, index)
    if encoder.freeze == "none":
        keys = transforms.views(experiment.transform).keys
        source = sources.Pixels(rows, index[0], keys, experiment.transform)
    for number, fold in enumerate(folds):
        for part in ("val", "test"):
            wanted = predictions.logits[:, (predictions.fold == number) & (predictions.split == part)]
            images = getattr(fold, part)
            if encoder.freeze == "all":
                made = heads_trainer.logits_of(read_heads(out), number, rows, index, images)
            else:
                jobs = len(folds) * len(seeds)
                files = [out / NETWORKS / f"fold{number}-seed{seed}.safetensors" for seed in seeds]
                made = np.stack(
                    [
                        finetune.logits_of(
                            read_network(file),
                            networks.build_trainable(encoder.weights, encoder.size, encoder.freeze),
                            *(source, images, Recipe.of(experiment), jobs),
                        )
                        for file in files
                    ]
                )
            np.testing.assert_array_equal(made, wanted)
            assert made.dtype == wanted.dtype


FROZEN = {
    "folds": [],
    "hold-out": [HOLDOUT],
    "one seed": ["train.seeds=[3]"],
    "tuned": ["tune={train.lr: [0.1, 0.001], loss.gamma: [0.5, 2.0]}", "loss=focal"],
    "tuned in a hold-out": [HOLDOUT, "tune={train.weight_decay: [0.0, 0.1]}", "train.select=f1_default"],
    "teacher": ["missing=self_trained"],
    "chosen epoch": ["train={epochs: 6, select: average_precision, patience: 1, lr: 0.1}"],
    "hidden labels": ["hide={mechanism: random}", "loss=two_way", "sampler=balanced"],
    "half precision": ["backbone.dtype=float16"],
}


@pytest.mark.parametrize("name", FROZEN)
def test_heads_of_a_run_give_its_predictions(workplace: Path, tmp_path: Path, name: str) -> None:
    assert execute(workplace / "small.yaml", tmp_path, *FROZEN[name]) == 0
    assert (tmp_path / HEADS).exists()
    assert not (tmp_path / NETWORKS).exists()
    assert_recomputed(workplace / "small.yaml", tmp_path, *FROZEN[name])


FINE_TUNED = {
    "folds": [LAYER4, KEEP],
    "hold-out": [LAYER4, HOLDOUT],
    "pixels": [PIXELS, HOLDOUT],
    "tokens": [TOKENS, HOLDOUT],
    "teacher": [LAYER4, HOLDOUT, "missing=self_trained", "train.epochs=1"],
    "chosen epoch": [LAYER4, HOLDOUT, "train={epochs: 4, select: loss, patience: 1, lr: 0.1}"],
}


@pytest.mark.parametrize("name", FINE_TUNED)
def test_networks_of_a_run_give_its_predictions(workplace: Path, tmp_path: Path, name: str) -> None:
    assert execute(workplace / "small.yaml", tmp_path, *FINE_TUNED[name]) == 0
    assert not (tmp_path / HEADS).exists()
    assert not (tmp_path / run.CHECKPOINTS).exists()
    assert_recomputed(workplace / "small.yaml", tmp_path, *FINE_TUNED[name])


@pytest.mark.parametrize(
    ("overrides", "count"),
    [([], 0), ([HOLDOUT], 2), ([KEEP], 4), ([HOLDOUT, DROP], 0), ([KEEP, "train.seeds=[5]"], 2)],
)
def test_what_is_kept_and_how_large_it_is_are_known_before_training(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], count: int
) -> None:
    overrides = [LAYER4, "train.epochs=1", *overrides]
    sets = [word for text in overrides for word in ("--set", text)]
    assert cli.main(["validate", str(workplace / "small.yaml"), *sets]) == 0
    stated = [line for line in capsys.readouterr().out.splitlines() if "keep_weights" in line]
    assert execute(workplace / "small.yaml", tmp_path / "out", *overrides) == 0
    logged = [line for line in capsys.readouterr().err.splitlines() if "keep_weights" in line]
    assert stated == logged
    assert len(stated) == (count > 0)
    files = list((tmp_path / "out").rglob("*.safetensors"))
    assert len(files) == count
    expected = planned(workplace / "small.yaml", *overrides).baseline.network_bytes
    headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in files)
    assert expected == sum(file.stat().st_size for file in files) - headers


def test_keeping_weights_changes_no_id(workplace: Path) -> None:
    ids = {planned(workplace / "small.yaml", LAYER4, keep).baseline.id for keep in (KEEP, DROP, "train.epochs=2")}
    assert len(ids) == 1


@pytest.mark.parametrize("overrides", [[LAYER4, HOLDOUT], [PIXELS, HOLDOUT], [TOKENS, HOLDOUT]])
def test_a_network_with_the_pretrained_weights_is_a_network_of_timm(
    workplace: Path, tmp_path: Path, overrides: list[str]
) -> None:
    assert execute(workplace / "small.yaml", tmp_path, *overrides) == 0
    planned_run = planned(workplace / "small.yaml", *overrides).baseline
    encoder = planned_run.encoder
    whole = timm.create_model(encoder.weights.entry.timm, num_classes=4, **networks.options(encoder.weights.entry, 32))
    whole.load_state_dict(networks.build(encoder.weights, 32).network.state_dict(), strict=False)
    saved = read_network(tmp_path / NETWORKS / "fold0-seed1.safetensors")
    head = networks.classifier(encoder.weights.entry.timm)
    tensors = {**saved.layers, f"{head}.weight": saved.weight, f"{head}.bias": saved.bias}
    before = whole.state_dict()
    assert tensors.keys() <= before.keys()
    assert (tensors.keys() == before.keys()) == (encoder.freeze == "none")
    whole.load_state_dict({name: torch.tensor(tensor) for name, tensor in tensors.items()}, strict=False)
    predictions = Predictions.load(tmp_path / run.PREDICTIONS)
    (place, *_) = np.flatnonzero(predictions.split == "test")
    folder = planned_run.config.data.images
    pixels = decoded(folder / predictions.image_id[place], encoder)
    with torch.no_grad():
        logits = whole.eval()(pixels)[0].numpy()
    np.testing.assert_allclose(logits, predictions.logits[1, place], rtol=1e-3, atol=1e-3)
    assert not np.allclose(logits, predictions.logits[0, place], rtol=1e-3, atol=1e-3)


def decoded(path: Path, encoder: EncoderSpec) -> torch.Tensor:
    """An image as the network reads it, [1, 3, H, W]."""
    entry = encoder.weights.entry
    pixels = torch.from_numpy(decode(path.read_bytes(), encoder.size, entry.interpolation)).permute(2, 0, 1)[None]
    return networks.Normalise(entry.mean, entry.std)(pixels)


def test_a_finished_run_without_its_heads_is_trained_again(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = workplace / "small.yaml"
    assert execute(config, tmp_path) == 0
    heads = (tmp_path / HEADS).read_bytes()
    flipped = heads[:-9] + bytes([heads[-9] ^ 1]) + heads[-8:]
    for content in (None, heads[:-1], flipped, b""):
        (tmp_path / HEADS).unlink()
        if content is not None:
            (tmp_path / HEADS).write_bytes(content)
        capsys.readouterr()
        assert execute(config, tmp_path) == 0
        messages = capsys.readouterr().err
        said = (
            "the run begins again" if content is not None else f"1 finished run without {HEADS}, which every run on a"
        )
        assert said in messages
        assert HEADS in messages
        assert (tmp_path / HEADS).read_bytes() == heads
    assert execute(config, tmp_path) == 0
    assert "already done" in capsys.readouterr().err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_keeps_its_results_until_it_is_trained_again(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a failure nor an interruption, of encoding, training or scoring, costs them."""
    config = workplace / "small.yaml"
    assert execute(config, tmp_path) == 0
    whole = contents(tmp_path)
    (tmp_path / HEADS).unlink()
    before = contents(tmp_path)
    for name in ("encode", "train", "score"):
        with monkeypatch.context() as patch:
            patch.setattr(tasks, name, lambda *_: 1 / 0)
            assert execute(config, tmp_path) == 1
        assert "the results of before stay" in capsys.readouterr().err
        (tmp_path / run.TRACEBACK).unlink()
        assert contents(tmp_path) == before
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "score", lambda *_: interrupt())
        assert execute(config, tmp_path) == 130
    assert {name: text for name, text in contents(tmp_path).items() if not name.startswith(run.AGAIN)} == before
    assert execute(config, tmp_path) == 0
    volatile = (run.STATUS, run.ENVIRONMENT, "seconds.json")  # they hold seconds and speeds
    after = contents(tmp_path)
    assert after.keys() == whole.keys()
    assert {name: text for name, text in after.items() if name not in volatile} == {
        name: text for name, text in whole.items() if name not in volatile
    }


def test_a_finished_run_without_the_networks_that_are_wanted_is_trained_again(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, settings = workplace / "small.yaml", [LAYER4, "train.epochs=1"]
    assert execute(config, tmp_path, *settings) == 0
    before = (tmp_path / run.PREDICTIONS).read_bytes()
    assert execute(config, tmp_path, *settings, DROP) == 0
    assert "already done" in capsys.readouterr().err
    assert execute(config, tmp_path, *settings, KEEP) == 0
    messages = capsys.readouterr().err
    assert f"1 finished run without {NETWORKS}/, which train.keep_weights asks for: trained again (small)" in messages
    assert (tmp_path / run.PREDICTIONS).read_bytes() == before
    files = sorted((tmp_path / NETWORKS).iterdir())
    assert [file.name for file in files] == [f"fold{fold}-seed{s}.safetensors" for fold in (0, 1) for s in (0, 1)]
    assert execute(config, tmp_path, *settings) == 0  # auto wants none, and none is deleted
    assert "already done" in capsys.readouterr().err
    assert sorted((tmp_path / NETWORKS).iterdir()) == files
    files[2].write_bytes(files[2].read_bytes()[:-4])
    assert execute(config, tmp_path, *settings, KEEP) == 0
    assert "fold1-seed0.safetensors: cannot be read" in capsys.readouterr().err


def test_an_interrupted_run_goes_on_with_other_weights_kept(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, settings = workplace / "small.yaml", [LAYER4, HOLDOUT, "train.epochs=1"]
    assert execute(config, tmp_path / "whole", *settings) == 0
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "score", lambda *_: interrupt())
        assert execute(config, tmp_path / "out", *settings, DROP) == 130
    assert not (tmp_path / "out" / run.STATUS).exists()
    assert execute(config, tmp_path / "out", *settings) == 0
    assert "continues after epoch 1" in capsys.readouterr().err
    for name in (run.PREDICTIONS, *(f"{NETWORKS}/fold0-seed{seed}.safetensors" for seed in (0, 1))):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_failed_run_is_not_said_to_lack_its_weights(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "train", lambda *_: 1 / 0)
        assert execute(workplace / "small.yaml", tmp_path) == 1
    capsys.readouterr()
    assert execute(workplace / "small.yaml", tmp_path) == 0
    assert HEADS not in capsys.readouterr().err


def test_a_run_that_no_longer_keeps_networks_leaves_none_of_an_earlier_attempt(workplace: Path, tmp_path: Path) -> None:
    config, settings = workplace / "small.yaml", [LAYER4, HOLDOUT, "train.epochs=1"]
    assert execute(config, tmp_path, *settings) == 0
    (tmp_path / run.STATUS).unlink()
    assert execute(config, tmp_path, *settings, DROP) == 0
    assert not (tmp_path / NETWORKS).exists()


def test_a_suite_takes_up_runs_with_their_weights(
    pair: Path, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(suite, tmp_path / "suite")
    first, second, third, _ = sorted((tmp_path / "suite" / "runs").iterdir())
    for folder in (first, third):
        (folder / HEADS).unlink()
    stamp = second / HEADS
    before = stamp.stat().st_mtime_ns
    assert cli.main(["suite", str(pair), "--out", str(tmp_path / "suite")]) == 0
    (message,) = (line for line in capsys.readouterr().err.splitlines() if HEADS in line)  # one for all of them
    assert "2 finished runs" in message
    assert "focal(gamma=1.0) + " in message
    for folder in (suite / "runs").iterdir():
        assert (tmp_path / "suite" / "runs" / folder.name / HEADS).read_bytes() == (folder / HEADS).read_bytes()
    assert stamp.stat().st_mtime_ns == before
