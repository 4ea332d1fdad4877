"""Fine-tuned networks: against stacked heads where no layer is trainable, and against plain torch."""

from __future__ import annotations

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from test_trainer import problem, recipe, run, training_data
from torch import nn

import aimonk_bench
from aimonk_bench import cli
from aimonk_bench.backbones import network as networks
from aimonk_bench.config import loader
from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data import splits
from aimonk_bench.data.images import decode
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.transforms import views
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.records import history, suite
from aimonk_bench.suite import plan
from aimonk_bench.tables import TABLES
from aimonk_bench.training import finetune, sources, state
from aimonk_bench.training.batches import HeadRngs
from aimonk_bench.training.finetune import Scratch, fine_tune
from aimonk_bench.training.outcome import assemble
from aimonk_bench.training.recipe import Cores, Recipe, TrainingData, check
from aimonk_bench.training.samplers import SAMPLERS

COMBINATIONS = [
    {},
    {"loss": "pos_weight", "sampler": "balanced", "schedule": "warmup_cosine"},
    {"loss": "focal", "missing": "splc", "optimizer": "adamw", "weight_decay": 0.1},
    {"loss": "zlpr", "missing": "negative", "optimizer": {"name": "sgd", "momentum": 0.9}},
    {"missing": "self_trained", "clip": 0.1},
    {"select": "average_precision", "patience": 1, "epochs": 5, "lr": 0.5},
    {"accumulate": 3, "missing": "weak_negative"},
]


def single(data):
    """The same problem in float32, which both trainers then compute in."""
    data.features = data.features.astype(np.float32)
    return data


def fine(data, config, layers, **options):
    source = sources.Stored(data.features, data.index)
    labels, how = training_data(data), Recipe(**config)
    outcomes = fine_tune(source, labels, how, layers=layers, **options)
    return assemble(outcomes, how, how.steps(labels.folds))


def same(one, other, **tolerance):
    for ours, theirs in zip(one.logits, other.logits, strict=True):
        for part in ("val", "test"):
            np.testing.assert_allclose(ours[part], theirs[part], **tolerance)
    assert one.history.keys() == other.history.keys()
    for column, values in one.history.items():
        np.testing.assert_allclose(values, other.history[column], **tolerance, err_msg=column)
    np.testing.assert_array_equal(one.chosen_epoch, other.chosen_epoch)
    np.testing.assert_allclose(one.effective_positive_rate, other.effective_positive_rate)
    assert one.notes == other.notes


@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
def test_without_trainable_layers_it_trains_stacked_heads(options):
    data, config = single(problem()), recipe(**options)
    stacked = run(data, config, dtype=torch.float32)
    same(fine(data, config, nn.Identity()), stacked, rtol=2e-4, atol=2e-5)


def layers_of(width=5, *, norm=False):
    torch.manual_seed(3)
    first = nn.Linear(6, width, bias=not norm)  # a bias that BatchNorm takes away moves by rounding alone
    layers = [first, nn.BatchNorm1d(width) if norm else nn.Tanh(), nn.Linear(width, 4), nn.ReLU()]
    return nn.Sequential(*layers)


def plain(data, config, seed, number, layers):
    """One network in the plainest loop: training losses and the logits of the test rows."""
    settings, fold, rngs = config["train"], data.folds[number], HeadRngs.of(seed, number)
    network = copy.deepcopy(layers).train()
    bound = 1 / 4**0.5
    draws = torch.from_numpy(rngs.init.uniform(-bound, bound, (3, 5))).float()
    head = nn.Linear(4, 3)
    head.load_state_dict({"weight": draws[:, :-1], "bias": draws[:, -1]})
    rates = {head: settings.lr, network: settings.backbone_lr or settings.lr}
    decays = {head: settings.weight_decay / 3, network: settings.weight_decay}  # of three attributes
    groups = [
        {"params": [parameter], "lr": rate, "weight_decay": decays[module] if parameter.ndim > 1 else 0.0}
        for module, rate in rates.items()
        for parameter in module.parameters()
    ]
    optimizer = torch.optim.Adam(groups)
    steps = max(-(-len(each.train) // settings.batch_size) for each in data.folds)
    losses = []
    for _ in range(settings.epochs):
        labels = Labels(data.targets[fold.train], data.observed[fold.train])
        order = fold.train[SAMPLERS["uniform"](labels, settings.batch_size, steps, rngs.sampler)]
        views = rngs.views.random(order.shape)
        for images, draw in zip(order, views, strict=True):
            view = (draw[:, None] >= np.cumsum(data.probabilities)[:-1]).sum(1)
            rows = torch.from_numpy(data.features[data.index[view, images]])
            target, seen = (torch.from_numpy(array[images]).float() for array in (data.targets, data.observed))
            values = nn.functional.binary_cross_entropy_with_logits(head(network(rows)), target, reduction="none")
            loss = (values * seen).sum() / seen.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    with torch.no_grad():
        return losses, head(network.eval()(torch.from_numpy(data.features[data.index[0, fold.test]]))).numpy()


@pytest.mark.parametrize("norm", [False, True], ids=["tanh", "batch norm"])
@pytest.mark.parametrize("backbone_lr", [None, 0.01])
def test_every_job_is_a_plain_loop(norm, backbone_lr):
    data, config, layers = single(problem()), recipe(backbone_lr=backbone_lr, weight_decay=0.1), layers_of(norm=norm)
    before = copy.deepcopy(layers.state_dict())
    outcome = fine(data, config, layers)
    for (fold, seed), place in zip(itertools.product((0, 1), (0, 7)), itertools.count()):
        losses, logits = plain(data, config, seed, fold, layers)
        own = (outcome.history["seed"] == seed) & (outcome.history["fold"] == fold)
        np.testing.assert_allclose(outcome.history["training_loss"][own], losses, rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(outcome.logits[fold]["test"][place % 2], logits, rtol=2e-3, atol=2e-4)
    for name, tensor in layers.state_dict().items():
        assert torch.equal(tensor, before[name])  # what was handed in is copied, never changed


def test_parts_of_a_batch_add_up_to_the_batch():
    data, layers = single(problem()), layers_of()
    whole, parts = (fine(data, recipe(accumulate=count, loss="pos_weight"), layers) for count in (1, 3))
    same(parts, whole, rtol=2e-3, atol=2e-4)


def test_a_batch_is_not_cut_where_a_part_would_ask_the_rest():
    with pytest.raises(UserError, match=r"train.accumulate: found 2, expected 1 for zlpr \+ ignore"):
        check(Recipe(**recipe(accumulate=2, loss="zlpr")), 3)
    check(Recipe(**recipe(accumulate=2, missing="weak_negative")), 3)


class Hungry(nn.Module):
    """A layer that has no memory for more than some images: none for gradients, or none at all."""

    def __init__(self, most: int, *, predicting: bool = False):
        super().__init__()
        self._most, self._predicting = most, predicting

    def forward(self, rows):
        if len(rows) > self._most and (self._predicting or torch.is_grad_enabled()):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return rows


def test_out_of_memory_halves_the_images_at_once_and_changes_no_result(caplog):
    data, config = single(problem()), recipe(loss="pos_weight", batch_size=16, clip=0.1)
    wanted = fine(data, config, layers_of())
    same(fine(data, config, nn.Sequential(layers_of(), Hungry(5, predicting=True))), wanted, rtol=2e-3, atol=2e-4)
    for message in ("training 8 instead of 16", "training 4 instead of 8", "predicting 3 instead of 7"):
        assert f"CUDA out of memory: {message} images at once" in caplog.text


@pytest.mark.parametrize(
    ("options", "norm", "most", "reason", "fix"),
    [
        ({"batch_size": 16}, True, 8, "1 BatchNorm layer", "train.accumulate: 2, "),
        ({"batch_size": 16, "accumulate": 2}, True, 7, "1 BatchNorm layer", "train.accumulate: 4, "),
        ({"loss": "zlpr"}, False, 3, "zlpr + ignore needs the whole batch", "a smaller train.batch_size"),
        ({"missing": "splc"}, False, 3, "masked_bce + splc needs the whole batch", "a smaller train.batch_size"),
        ({}, False, 0, "while training 1 image", "a smaller transform.size"),
    ],
)
def test_out_of_memory_where_no_smaller_part_is_the_same_fails_the_run(options, norm, most, reason, fix):
    layers = nn.Sequential(layers_of(norm=norm), Hungry(most))
    with pytest.raises(RunFailed, match="CUDA out of memory") as failure:
        fine(single(problem()), recipe(**options), layers)
    assert reason in str(failure.value)
    assert f"(fix: {fix}" in str(failure.value)


@pytest.mark.parametrize("ends", [1, 4, 7])
@pytest.mark.parametrize("options", [{}, {"select": "roc_auc", "patience": 2, "optimizer": "adamw"}], ids=str)
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(ends, options, tmp_path):
    data, config, layers = single(problem()), recipe(epochs=4, **options), layers_of(norm=True)
    wanted = fine(data, config, layers)

    def interrupt(phase, done, total):
        if done >= ends:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine(data, config, layers, scratch=Scratch(tmp_path, "a"), progress=interrupt)
    seen = []
    outcome = fine(data, config, layers, scratch=Scratch(tmp_path, "a"), progress=lambda *step: seen.append(step))
    assert seen[-1] == ("train", 16, 16)
    same(outcome, wanted, rtol=0, atol=0)


@pytest.mark.parametrize(("key", "version"), [("b", aimonk_bench.__version__), ("a", "0.0.1")])
def test_a_checkpoint_of_another_run_or_version_is_not_taken_up(key, version, tmp_path, caplog, monkeypatch):
    data, config, layers = single(problem()), recipe(), layers_of()
    wanted = fine(data, config, layers, scratch=Scratch(tmp_path, "a"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"fold{fold}-seed{seed}.pt" for fold in (0, 1) for seed in (0, 7)
    ]
    monkeypatch.setattr(aimonk_bench, "__version__", version)
    outcome = fine(data, config, layers, scratch=Scratch(tmp_path, key))
    assert caplog.text.count("written by another run, or another version of aimonk_bench or torch") == 4
    same(outcome, wanted, rtol=0, atol=0)


def test_a_damaged_checkpoint_is_told_and_not_taken_up(tmp_path, caplog):
    data, config, layers = single(problem()), recipe(), layers_of()
    wanted = fine(data, config, layers, scratch=Scratch(tmp_path, "a"))
    file = tmp_path / "fold1-seed7.pt"
    file.write_bytes(file.read_bytes()[:200])
    outcome = fine(data, config, layers, scratch=Scratch(tmp_path, "a"))
    assert "fold1-seed7.pt is damaged" in caplog.text
    same(outcome, wanted, rtol=0, atol=0)


def test_the_checkpoint_of_a_job_that_is_done_holds_no_more_than_its_results(tmp_path):
    fine(single(problem()), recipe(), layers_of(), scratch=Scratch(tmp_path, "a"))
    content = torch.load(tmp_path / "fold0-seed0.pt", weights_only=True)
    assert content["learner"].keys() == {"chosen_weights"}


def test_results_do_not_depend_on_how_many_jobs_run_side_by_side(monkeypatch):
    data, config, layers = single(problem()), recipe(), layers_of(norm=True)
    wanted = fine(data, config, layers)
    threads = torch.get_num_threads()
    for count in (1, 5):
        monkeypatch.setattr(finetune, "cores", lambda count=count: count)
        same(fine(data, config, layers), wanted, rtol=0, atol=0)
    for cores in (Cores(share=1), Cores(share=5)):
        same(fine(data, config | {"cores": cores, "threads": 1}, layers), wanted, rtol=0, atol=0)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("jobs", "device", "threads", "share", "side_by_side", "torch_threads"),
    [
        (10, "cpu", None, None, 8, 1),
        (3, "cpu", None, None, 3, 2),
        (1, "cpu", None, None, 1, 8),
        (3, "cpu", None, 4, 2, 2),  # the share decides how many, and never with how many threads
        (3, "cpu", None, 1, 1, 2),
        (10, "cpu", 3, None, 2, 3),
        (10, "cpu", 16, None, 1, 16),
        (10, "cuda", None, 2, 1, 8),
    ],
)
def test_the_share_of_the_cores_decides_how_many_networks_train_at_a_time(
    jobs, device, threads, share, side_by_side, torch_threads, monkeypatch
):
    monkeypatch.setattr(finetune, "cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    asked = Recipe(**recipe(), threads=threads, cores=Cores(share=share))
    assert finetune._parallel(jobs, jobs, torch.device(device), asked) == (side_by_side, torch_threads)
    assert finetune._parallel(1, jobs, torch.device(device), asked) == (1, torch_threads)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_comes_near(precision):
    data = single(problem())
    wanted = fine(data, recipe(lr=0.01), layers_of())
    outcome = fine(data, recipe(lr=0.01, precision=precision), layers_of())
    losses = [own.history["training_loss"] for own in (wanted, outcome)]
    assert not np.array_equal(*losses)
    np.testing.assert_allclose(*losses, rtol=0.05)


def test_a_loss_that_is_not_finite_fails_the_run():
    data = single(problem())
    data.features[:] = np.inf
    with pytest.raises(RunFailed, match=r"loss is not finite at epoch 1 \(seed [07], fold [01], iteration 1\)"):
        fine(data, recipe(), layers_of())


def test_pixels_are_flipped_when_they_are_read():
    transform = TransformConfig(size=4, train=[{"HorizontalFlip": {}}, {"VerticalFlip": {}}])
    keys = views(transform).keys
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)
    index = np.array([3, 1, 6])
    source = sources.Pixels(images.reshape(7, -1), index, keys, transform)
    outcome = source(np.repeat(range(4), 3), np.tile(range(3), 4), 0, 1).reshape(4, 3, 4, 4, 3)
    own = images[index]
    wanted = {"identity": own, "h": own[:, :, ::-1], "v": own[:, ::-1], "hv": own[:, ::-1, ::-1]}
    for view, key in enumerate(keys):
        np.testing.assert_array_equal(outcome[view], wanted[key], err_msg=key)
    np.testing.assert_array_equal(source.unaugmented(np.array([2, 0])).reshape(2, 4, 4, 3), own[[2, 0]])


def test_fresh_views_depend_on_seed_epoch_and_image_alone():
    transform = TransformConfig(size=8, train=[{"RandomBrightnessContrast": {"p": 1.0}}], views="fresh")
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    source = sources.Pixels(images.reshape(5, -1), np.arange(5), ("identity",), transform)
    views = np.zeros(5, int)
    together = source(views, np.arange(5), 3, 2)
    for image in (4, 0, 2):
        np.testing.assert_array_equal(source(views[:1], np.array([image]), 3, 2)[0], together[image])
    for other in (source(views, np.arange(5), 4, 2), source(views, np.arange(5), 3, 1), images.reshape(5, -1)):
        assert (other != together).any(1).all()
    np.testing.assert_array_equal(source.unaugmented(np.arange(5)), images.reshape(5, -1))


FINE = """\
extends: small.yaml
backbone: {name: resnet18, weights: none, freeze: layer4}
"""


@pytest.mark.parametrize("freeze", ["layer4", "none"])
def test_a_run_leaves_the_same_files_and_goes_on_after_an_interruption(freeze, workplace, tmp_path, monkeypatch):
    (workplace / "fine.yaml").write_text(FINE)
    argv = [
        "run",
        str(workplace / "fine.yaml"),
        "--set",
        f"backbone.freeze={freeze}",
        "--set",
        "train.keep_weights=true",
    ]
    argv += ["--quiet", "--out"]
    assert cli.main([*argv, str(tmp_path / "whole")]) == 0
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert "predictions.npz" in files
    assert "checkpoints" not in files
    save, count = state.Checkpoint.save, itertools.count(1)

    def interrupted(self, fit_state, *, done):
        save(self, fit_state, done=done)
        if next(count) == 5:
            raise RunFailed("pulled the plug")

    monkeypatch.setattr(state.Checkpoint, "save", interrupted)
    assert cli.main([*argv, str(tmp_path / "parts")]) == 1
    assert list((tmp_path / "parts" / "checkpoints").iterdir())
    monkeypatch.setattr(state.Checkpoint, "save", save)
    assert cli.main([*argv, str(tmp_path / "parts")]) == 0
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == files
    networks = sorted(f"networks/{path.name}" for path in (tmp_path / "whole" / "networks").iterdir())
    assert len(networks) == 4
    for name in ("predictions.npz", "history.csv", "metrics.json", "thresholds.json", *networks):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    status = json.loads((tmp_path / "whole" / "status.json").read_text())
    assert status["columns"]["backbone"] == f"resnet18(freeze={freeze})"
    assert f"freeze_{freeze}" in status["id"]


def test_stored_and_recomputed_rows_train_the_same_network(workplace, tmp_path):
    """Layers that read the store learn what they learn when the frozen layers run again in every step."""
    (workplace / "fine.yaml").write_text(FINE)
    arguments = ["--set", "backbone.engine=torch", "--set", "split={scheme: holdout, val: 0.2, test: 0.2}"]
    arguments += ["--set", "train.seeds=1", "--quiet", "--out", str(tmp_path / "stored")]
    assert cli.main(["run", str(workplace / "fine.yaml"), *arguments]) == 0
    stored = suite.collect(tmp_path / "stored").finished[0]
    config = loader.load(tmp_path / "stored" / "config.yaml", TABLES, ())
    planned = plan.plan_run(config)
    (planned_run,), labels = planned.runs, planned.dataset.listed.labels
    images = [decode(image.path.read_bytes(), 32, "bilinear") for image in planned.dataset.images]
    lower = networks.build(planned_run.encoder.weights, 32, "layer4")

    class Recomputed:
        def __call__(self, flips, numbers, seed, epoch):
            pixels = [images[n][:, ::-1] if flip else images[n] for flip, n in zip(flips, numbers, strict=True)]
            with torch.inference_mode():
                return lower(torch.from_numpy(np.stack(pixels))).numpy()

        def unaugmented(self, numbers):
            return self(np.zeros(len(numbers), int), numbers, 0, 0)

    groups = splits.components([image.sha256 for image in planned.dataset.images], planned.dataset.listed.groups)
    folds = splits.split(config.split, labels, groups)
    layers = networks.build_trainable(planned_run.encoder.weights, 32, "layer4")
    data = TrainingData(labels, labels, folds, np.array([0.5, 0.5]))
    how = Recipe.of(config)
    outcome = assemble(fine_tune(Recomputed(), data, how, layers=layers), how, how.steps(data.folds))
    np.testing.assert_allclose(
        history.read(stored.folder / "history.csv")["training_loss"], outcome.history["training_loss"], rtol=1e-4
    )
