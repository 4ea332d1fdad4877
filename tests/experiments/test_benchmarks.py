"""The benchmarks run, and what they compare does the same work. What they measure is not for a test."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from threadpoolctl import threadpool_limits

from aimonk_bench.backbones.feature_table import open_table
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.config import loader
from aimonk_bench.config.fields import DataConfig, TrainConfig, TransformConfig
from aimonk_bench.data import image_files, label_file, transforms
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.registry import Spec
from aimonk_bench.suite.plan import plan_suite
from aimonk_bench.tables import TABLES
from aimonk_bench.training.batches import EpochBatches, HeadRngs
from aimonk_bench.training.entries import bind
from aimonk_bench.training.heads import Heads
from aimonk_bench.training.heads_trainer import train_heads
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.recipe import Recipe, TrainingData
from aimonk_bench.training.samplers import uniform
from experiments.benchmarks import __main__ as command
from experiments.benchmarks import (
    competent,
    encode,
    finetune,
    overhead,
    peers,
    plain,
    predict,
    rows,
    suite,
    sweep,
    timing,
)

EPOCHS, BATCH, LR = 2, 16, 0.01
VIEWS = np.array([0.5, 0.5])


@pytest.fixture(autouse=True)
def one_thread():
    """With more threads, tiny products wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def small(workplace):
    """The small data set, its features by an untrained network, and the same for the scripts."""
    config = DataConfig(labels=workplace / "synthetic/labels.txt", images=workplace / "synthetic/images")
    labels = label_file.load(config).labels
    images, _ = image_files.locate(label_file.load(config), config.images, "error")
    transform = TransformConfig(size=32)
    spec = encode.spec_of("resnet18", "none", transform)
    entry = spec.weights.entry
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(entry.timm, pretrained=False, num_classes=0).requires_grad_(False)
    return SimpleNamespace(
        labels=labels,
        matrix=FeatureStore().features(images, transforms.views(transform), transform, spec),
        network=network,
        images=plain.Images([image.path for image in images], 32, entry.mean, entry.std),
        observed=torch.from_numpy(labels.observed).float(),
        targets=torch.from_numpy(labels.targets * labels.observed).float(),
        fold=Fold(*np.split(np.arange(80), (50, 65))),
    )


def initial_head(features, attributes):
    """The head from which `train_heads` starts."""
    head = torch.nn.Linear(features, attributes)
    initial = Heads.initial(attributes, features, [HeadRngs.of(0, 0).init])
    head.load_state_dict({"weight": initial.weight[0], "bias": initial.bias[0, 0]})
    return head


def batches(small):
    """Rows and flips of every step, as `train_heads` draws them."""
    rngs, train = [HeadRngs.of(0, 0)], small.fold.train
    shape = -(-len(train) // BATCH), BATCH
    for _ in range(EPOCHS):
        drawn = EpochBatches.draw(uniform, small.labels, [train], rngs, VIEWS, shape)
        yield from zip(drawn.images[:, 0].astype(np.int64), drawn.views[:, 0] == 1, strict=True)


def test_both_scripts_take_the_steps_of_train_heads(small):
    options = {"weight_decay": 0.0, "bias_init": "uniform", "averaging": "none"}
    config = TrainConfig(lr=LR, batch_size=BATCH, epochs=EPOCHS, seeds=[0], **options)
    recipe = Recipe(config, Spec("masked_bce"), Spec("ignore"), Spec("uniform"))
    data = TrainingData(small.labels, small.labels, [small.fold], VIEWS)
    trained = train_heads(small.matrix.rows, small.matrix.index, data, recipe)
    features, test = torch.from_numpy(small.matrix.rows[small.matrix.index.ravel()]), small.fold.test
    labels = small.targets, small.observed
    heads = {name: initial_head(features.shape[1], 4) for name in ("plain", "competent")}
    losses = {
        "plain": plain.train(small.network, heads["plain"], small.images, *labels, batches(small), LR),
        "competent": competent.train(heads["competent"], features, *labels, batches(small), LR, competent.bce),
    }
    probabilities = {
        "plain": plain.predict(small.network, heads["plain"], small.images, test, BATCH),
        "competent": competent.predict(heads["competent"], features, test),
    }
    expected = 1 / (1 + np.exp(-trained.logits[0]["test"][0]))
    assert len(losses["plain"]) == len(trained.history["training_loss"]) == 8
    for name, tolerance in (("plain", 2e-3), ("competent", 1e-5)):  # the plain script encodes with another engine
        np.testing.assert_allclose(losses[name], trained.history["training_loss"], rtol=tolerance)
        np.testing.assert_allclose(probabilities[name], expected, rtol=5 * tolerance)


def test_the_competent_script_computes_the_features_of_the_store(small):
    features = competent.encode(small.network, small.images, 80).numpy()
    expected = small.matrix.rows[small.matrix.index.ravel()]
    assert np.abs(features - expected).max() < 2e-3 * np.abs(expected).max()


def test_an_epoch_of_a_script_has_every_row_and_whole_batches():
    drawn = list(plain.epochs_of(np.arange(10, 45), BATCH, 2, np.random.default_rng(0)))
    assert [len(rows) for rows, _ in drawn] == [len(flips) for _, flips in drawn] == [BATCH] * 6
    for epoch in (drawn[:3], drawn[3:]):
        assert set(np.concatenate([rows for rows, _ in epoch])) == set(range(10, 45))


@pytest.mark.parametrize("name", competent.LOSSES)
def test_the_losses_of_the_competent_script_are_those_of_the_suite(name):
    rng = np.random.default_rng(0)
    targets = torch.from_numpy((rng.random((60, 4)) > 0.6).astype(np.float32))
    targets[:, 2] = 0
    positives = torch.tensor([3.0, 40.0, 0.0, 900.0])  # one beyond the cap, one without a positive
    negatives = torch.tensor([90.0, 12.0, 30.0, 1.0])
    product = bind(LOSSES[name], positives=positives.view(1, 1, -1), negatives=negatives.view(1, 1, -1))
    script = competent.LOSSES[name](positives, negatives)
    results = []
    for loss, batch in ((product, targets[None]), (script, targets)):
        logits = torch.from_numpy(np.random.default_rng(1).normal(scale=3, size=batch.shape)).float().requires_grad_()
        values = loss(logits, batch)
        values.sum().backward()
        results.append((values.detach().view(60, 4), logits.grad.view(60, 4)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_pipeline_is_measured_beside_its_limit(tmp_path):
    images = encode.make(tmp_path / "large", encode.Size(160, 120, 10))
    (tmp_path / "large" / "notes.txt").touch()
    assert len({image.sha256 for image in images}) == 10
    assert encode.jpegs(tmp_path / "large") == [image.path for image in images]
    store = FeatureStore(tmp_path / "store")
    full, fast = (
        encode.spec_of("resnet18", "none", TransformConfig(size=32, decode=kind)) for kind in ("full", "fast")
    )
    row = encode.measured("small", images, full, store, 1)
    assert row["limit /s"] == pytest.approx(1 / (1 / row["R_decode /s"] + 1 / row["R_encode /s"]))
    assert row["pipeline / limit"] == pytest.approx(row["pipeline /s"] / row["limit /s"])
    [file] = store.root.glob("features/*/rows.f32")
    assert file.stat().st_size == 10 * 512 * 4  # every repeat starts with an empty store
    cost = encode.cost_of_fast(images, (full, fast), store, 1)
    assert 0.9 < float(cost["cosine, min"]) <= float(cost["cosine, median"]) <= 1


def test_decoding_and_encoding_share_the_cores():
    assert encode.Rates(decode=100, encode=50).limit(2) == pytest.approx(1 / (1 / 100 + 2 / 50))
    rates = encode.rates_of({"decode": 2.0, "encode": 4.0}, images=10, views=2, batch_size=8)
    assert (rates.decode, rates.encode) == (5.0, 6.0)  # 20 views are three batches


@pytest.mark.skipif(not encode.OPENVINO, reason="openvino is not installed")
def test_both_engines_give_the_same_features(tmp_path):
    spec, store = encode.spec_of("resnet18", "none", TransformConfig(size=32)), FeatureStore(tmp_path / "store")
    images = encode.make(tmp_path / "images", encode.Size(40, 40, spec.batch_size))
    store.features(images, transforms.UNAUGMENTED, TransformConfig(size=32), spec)
    row = encode.engines(spec, store, 3, 1)
    assert float(row["difference"]) < 1e-4
    assert row["openvino / onnxruntime"] == pytest.approx(row["openvino /s"] / row["onnxruntime /s"])


@pytest.fixture(scope="module")
def overrides(workplace):
    data = workplace / "synthetic"
    return [
        f"data.labels={data}/labels.txt",
        f"data.images={data}/images",
        "backbone.weights=none",
        *suite.BUDGET,
        *suite.QUICK,
    ]


@pytest.fixture(scope="module")
def work(overrides):
    return suite.Work(plan_suite(loader.load_suite(suite.SUITE, TABLES, overrides)))


def test_the_work_of_a_suite_is_counted(work):
    assert (len(work.plan.runs), len(work.folds), work.heads) == (24, 2, 96)
    assert work.steps == -(-max(len(fold.train) for fold in work.folds) // 16) == 3
    assert all(len(fold.train) + len(fold.val) + len(fold.test) == 80 for fold in work.folds)
    assert work.plain_seconds(0.01, 0) == pytest.approx(96 * 2 * 3 * 16 * 0.01)
    assert work.plain_seconds(0, 0.01) == pytest.approx(96 * work.scored * 0.01)


def test_the_plain_script_runs_on_a_part(work):
    seconds = timing.interleaved(suite.plain_cases(work, suite.Sizes(batches=2, predicted=8, workers=0)), 1)
    assert seconds.keys() == {"training", "predicting"}


def test_the_competent_script_trains_the_whole_suite(work, tmp_path):
    seconds = suite.run_competent(suite.competent_job(work, 0), tmp_path)
    assert seconds["wall"] > seconds["encode"] + seconds["train"] > 0
    with np.load(tmp_path / "probabilities.npz") as file:
        heads = list(file.values())
    assert len(heads) == work.heads
    sizes = [len(fold.val) + len(fold.test) for fold in work.folds for _ in range(2)]
    assert [head.shape for head in heads] == [(size, 4) for size in sizes * len(work.plan.runs)]
    assert all(((head > 0) & (head < 1)).all() for head in heads)
    assert len({head.tobytes() for head in heads}) == 6 * len(work.folds) * 2  # the samplers are all uniform


def test_the_competent_script_refuses_options_that_it_does_not_support(overrides):
    plan = plan_suite(loader.load_suite(suite.SUITE, TABLES, [*overrides, "train.weight_decay=0.1"]))
    with pytest.raises(ValueError, match="default options only"):
        suite.competent_job(suite.Work(plan), 0)


def test_the_suite_is_compared_with_both_scripts_and_the_machine():
    rows = suite.compared({"wall": 20, "train": 2}, {"wall": 50, "train": 16}, plain_wall=30_000, limit=16)
    assert {row["what"]: row["ratio"] for row in rows} == {
        "suite / encoding limit": 1.25,
        "plain script / suite": 1500,
        "competent script / suite": 2.5,
        "competent training / training": 8,
    }


def separable(observed=1.0):
    """Labels that a linear head can learn, and three folds."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(90, 5)).astype(np.float32)
    targets = (features @ rng.normal(size=(5, 2)) > 0).astype(np.int8)
    folds = [Fold(*np.split(np.roll(np.arange(90), shift), (50, 60))) for shift in (0, 30, 60)]
    return peers.Problem(features, Labels.of(targets, rng.random(targets.shape) < observed), folds)


def test_heads_and_regressions_learn_from_the_observed_labels():
    problem = separable(observed=0.8)
    assert len(peers.heads(problem, seeds=2, repeats=1)) == 4
    assert peers.scores(problem, peers.stacked_heads(problem, 1, epochs=400))[0] > 0.9
    assert peers.scores(problem, peers.regressions(problem))[0] > 0.9
    targets, observed = problem.labels.targets, problem.labels.observed
    flipped = Labels(np.where(observed, targets, 1), observed)  # other values where the label is missing
    other = peers.Problem(problem.features, flipped, problem.folds)
    for method in (peers.regressions, lambda problem: peers.stacked_heads(problem, 2)):
        predicted, again = method(problem), method(other)
        assert all(np.array_equal(*pair) for pair in zip(predicted, again, strict=True))
        assert peers.scores(problem, predicted) == peers.scores(other, again)


def test_the_loop_of_timm_gives_features_of_all_images(tmp_path):
    images = encode.make(tmp_path / "images", encode.Size(40, 40, 5))
    spec = encode.spec_of("resnet18", "none", TransformConfig(size=32))
    assert peers.timm_loop(images, spec, 0)().shape == (5, 512)


def test_overheads_are_measured(tmp_path):
    table = [
        overhead.parsing(tmp_path, 300),
        overhead.hashing(tmp_path, 5, 1000, 1),
        overhead.commits(tmp_path, 128),
        overhead.drawing(2, 5, 1),
        overhead.summaries(tmp_path, 3, 1),
    ]
    assert all(row["s"] > 0 for row in table)
    with open_table(tmp_path / "table", "float32") as stored:
        assert stored.rows().shape == (128, overhead.WIDTH)
    assert (tmp_path / "suite" / "summary.csv").exists()


def test_predicting_is_measured_beside_encoding(tmp_path):
    images = encode.make(tmp_path / "images", encode.Size(40, 40, 5))
    spec = encode.spec_of("resnet18", "none", TransformConfig(size=32))
    cases = predict.cases(images, spec, FeatureStore(tmp_path / "store"), tmp_path)
    row = {"backbone": "resnet18", **predict.measured(len(images), cases, 1)}
    assert row["predict / encode"] == pytest.approx(row["predict /s"] / row["encode /s"])
    assert {name: case() for name, case in cases.items()} == {"encode": 5, "predict": 5}
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 6
    predict.draw(tmp_path / "predict.png", [row])
    assert (tmp_path / "predict.png").exists()


def test_stored_and_recomputed_features_train_the_same_layers(tmp_path):
    finetune.main(tmp_path, quick=True)
    results = json.loads((tmp_path / "finetune.json").read_text())
    assert [row["case"] for row in results["Speed"]] == ["bare", "stored", "recomputed", "decode", "frozen layers"]
    assert {row["ratio"]: row["value"] for row in results["Ratios"]}["largest difference between the losses"] < 1e-4


def test_a_sweep_is_measured_beside_one_point(tmp_path):
    sweep.main(tmp_path, quick=True)
    results = json.loads((tmp_path / "sweep.json").read_text())
    assert [row["case"] for row in results["Training"]] == ["one point", "100 points"]


def test_training_on_stored_rows_is_measured(tmp_path):
    rows.write_store(tmp_path / "store", 300)
    result = rows.child(tmp_path / "store", 300, 2, "blocks")
    assert result["anonymous MB"] >= result["start MB"] > 0
    assert result["seconds"] > 0


def test_the_best_of_several_rounds_counts():
    first = {"heads": 1, "seconds": 1.0, "start MB": 2, "anonymous MB": 400, "limit": "2 GB", "most MB with pages": 3.0}
    second = {**first, "seconds": 0.9, "start MB": 1, "anonymous MB": 500, "most MB with pages": 2.0}
    expected = {**first, "seconds": 0.9, "anonymous MB": 500}
    assert rows.best([first, second]) == expected
    unlimited = {**first, "limit": "none", "most MB with pages": ""}
    assert rows.best([unlimited, second]) == {**expected, "limit": "none", "most MB with pages": ""}


def test_results_are_written(tmp_path):
    conditions = timing.Conditions(2, {1: 10.0}, (0.5, 0.25, 0.125))
    timing.write(tmp_path, "one", "What.\n", {"Rows": [{"a": 1, "b": 0.12345, "c": True, "d": 1234.5}]}, conditions)
    text = (tmp_path / "one.md").read_text()
    assert "**Rows**\n\n| a | b | c | d |\n| --- | --- | --- | --- |\n| 1 | 0.123 | yes | 1234 |\n" in text
    assert "copy bandwidth 10.0 GB/s with 1 thread(s); load 0.50 0.25 0.12 before" in text
    assert json.loads((tmp_path / "one.json").read_text())["Rows"] == [{"a": 1, "b": 0.12345, "c": True, "d": 1234.5}]
    panels = [timing.Panel("one", "s", {"a": 1.0, "b": 20.0}), timing.Panel("two", "s", {"c": 3.0}, log=True)]
    timing.bars(tmp_path / "one.png", "Title", panels)
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", command.NAMES)
def test_every_benchmark_accepts_a_folder_and_options_of_the_command(name):
    assert {"out"} <= command.benchmark(name)[1] <= {"out", "labels", "images", "quick"}


def test_an_option_that_a_benchmark_does_not_accept_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["sweep", "--data-images", str(tmp_path), "--out", str(tmp_path)])
    assert "sweep has no use for images" in capsys.readouterr().err


def test_a_busy_machine_is_reported(capsys):
    command.warn_if_busy(0.0)
    assert capsys.readouterr().err == ""
    command.warn_if_busy(64.0 * os.cpu_count())
    assert "wait until the machine is idle" in capsys.readouterr().err


def test_the_results_of_all_benchmarks_are_gathered_on_one_page(tmp_path: Path):
    for name in command.NAMES:
        (tmp_path / f"{name}.md").write_text(f"Result of {name}.\n")
    command.summarise(tmp_path, "0.50 0.25 0.12")
    text = (tmp_path / "README.md").read_text()
    assert all(f"## {name}\n\nResult of {name}.\n\n![{name}]({name}.png)" in text for name in command.NAMES)
    assert f"numpy {np.__version__}" in text
