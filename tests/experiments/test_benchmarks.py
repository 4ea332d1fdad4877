"""That the benchmarks still run and that what they compare does the same work; what they measure is not for a test."""

from __future__ import annotations

import json
import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from threadpoolctl import threadpool_limits

from aimonk_bench.backbones.features import FeatureStore, _Shelf
from aimonk_bench.config import loader
from aimonk_bench.config.fields import DataConfig, TrainConfig, TransformConfig
from aimonk_bench.data import image_files, label_file, transforms
from aimonk_bench.data.splits import Fold
from aimonk_bench.registry import Spec
from aimonk_bench.reporting import summary
from aimonk_bench.suite.plan import plan_suite
from aimonk_bench.tables import TABLES
from aimonk_bench.training import losses
from aimonk_bench.training.batches import HeadRngs
from aimonk_bench.training.entries import bind
from aimonk_bench.training.heads import Heads
from aimonk_bench.training.heads_trainer import train_heads
from aimonk_bench.training.recipe import Recipe, TrainingData
from aimonk_bench.training.samplers import uniform
from experiments.benchmarks import __main__ as command
from experiments.benchmarks import competent, encode, finetune, overhead, peers, plain, rows, step, suite, sweep, timing

EPOCHS, BATCH, LR = 2, 16, 0.01


@pytest.fixture(autouse=True)
def threads():
    """One: with more of them, tiny products wait for each other."""
    given = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(given)


@pytest.fixture(scope="module")
def small(workplace):
    """The small data set and its features by a network of timm's own initialisation: ours, and the same for scripts."""
    config = DataConfig(labels=workplace / "synthetic/labels.txt", images=workplace / "synthetic/images")
    listed = label_file.load(config)
    found, _ = image_files.locate(listed, config.images, "error")
    transform = TransformConfig(size=32)
    spec = encode.spec_of("resnet18", "none", transform)
    bank = FeatureStore().bank(found, transforms.views(transform), transform, spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(spec.weights.entry.timm, pretrained=False, num_classes=0).requires_grad_(False)
    entry = spec.weights.entry
    return SimpleNamespace(
        listed=listed,
        bank=bank,
        network=network,
        pictures=plain.Pictures([picture.path for picture in found], 32, entry.mean, entry.std),
        observed=torch.from_numpy(listed.labels.observed).float(),
        targets=torch.from_numpy(listed.labels.targets * listed.labels.observed).float(),
        fold=Fold(*np.split(np.arange(80), (50, 65))),
    )


def start(features, attributes):
    """The head with which ours begins."""
    head = torch.nn.Linear(features, attributes)
    initial = Heads.initial(attributes, features, [HeadRngs.of(0, 0).init])
    head.load_state_dict({"weight": initial.weight[0], "bias": initial.bias[0, 0]})
    return head


def batches(small):
    """What ours draws: rows and flips of every step."""
    rngs, train, listed = HeadRngs.of(0, 0), small.fold.train, small.listed
    steps = -(-len(train) // BATCH)
    for _ in range(EPOCHS):
        drawn = uniform(listed.labels[train], BATCH, steps, rngs.sampler)
        yield from zip(train[drawn], rngs.views.choice(2, size=drawn.shape, p=[0.5, 0.5]) == 1, strict=True)


def test_both_scripts_take_the_steps_that_ours_takes(small):
    labels = small.listed.labels
    data = TrainingData(labels, labels, [small.fold], np.array([0.5, 0.5]))
    train = TrainConfig(lr=LR, batch_size=BATCH, epochs=EPOCHS, seeds=[0])
    recipe = Recipe(train, Spec("masked_bce"), Spec("ignore"), Spec("uniform"))
    ours = train_heads(small.bank.rows, small.bank.index, data, recipe)
    features, test = torch.from_numpy(small.bank.rows[small.bank.index.ravel()]), small.fold.test
    labels = small.targets, small.observed
    heads = {name: start(features.shape[1], 4) for name in ("plain", "competent")}
    recorded = {
        "plain": plain.train(small.network, heads["plain"], small.pictures, *labels, batches(small), LR),
        "competent": competent.train(heads["competent"], features, *labels, batches(small), LR, competent.bce),
    }
    probabilities = {
        "plain": plain.predict(small.network, heads["plain"], small.pictures, test, BATCH),
        "competent": competent.predict(heads["competent"], features, test),
    }
    wanted = 1 / (1 + np.exp(-ours.logits[0]["test"][0]))
    assert len(recorded["plain"]) == len(ours.history["training_loss"]) == 8
    for name, tolerance in (("plain", 2e-3), ("competent", 1e-5)):  # its pictures are encoded by another engine
        np.testing.assert_allclose(recorded[name], ours.history["training_loss"], rtol=tolerance)
        np.testing.assert_allclose(probabilities[name], wanted, rtol=5 * tolerance)


def test_the_competent_script_computes_the_features_of_ours(small):
    found = competent.encode(small.network, small.pictures, 80).numpy()
    wanted = small.bank.rows[small.bank.index.ravel()]
    assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_a_scripts_epoch_has_every_row_and_whole_batches():
    drawn = list(plain.epochs_of(np.arange(10, 45), BATCH, 2, np.random.default_rng(0)))
    assert [len(rows) for rows, _ in drawn] == [len(flips) for _, flips in drawn] == [BATCH] * 6
    for epoch in (drawn[:3], drawn[3:]):
        assert set(np.concatenate([rows for rows, _ in epoch])) == set(range(10, 45))


def test_the_pipeline_is_measured_beside_its_halves(tmp_path):
    found = encode.make(tmp_path / "large", encode.Size(160, 120, 10))
    (tmp_path / "large" / "notes.txt").touch()
    assert len({picture.sha256 for picture in found}) == 10
    assert encode.jpegs(tmp_path / "large") == [picture.path for picture in found]
    store = FeatureStore(tmp_path / "store")
    full, fast = (
        encode.spec_of("resnet18", "none", TransformConfig(size=32, decode=kind)) for kind in ("full", "fast")
    )
    row = encode.measured("small", found, full, store, 1)
    assert row["limit /s"] == pytest.approx(1 / (1 / row["R_decode /s"] + 1 / row["R_encode /s"]))
    assert math.isclose(row["pipeline / limit"], row["pipeline /s"] / row["limit /s"])
    assert len(list(store.root.glob("features/*/rows.f32"))) == 1
    assert next(store.root.glob("features/*/rows.f32")).stat().st_size == 10 * 512 * 4  # the last repeat's rows
    cost = encode.cost_of_fast(found, (full, fast), store, 1)
    assert 0.9 < float(cost["cosine, min"]) <= float(cost["cosine, median"]) <= 1


def test_the_two_rates_share_the_cores():
    assert encode.Halves(decode=100, encode=50).limit(2) == pytest.approx(1 / (1 / 100 + 2 / 50))
    rates = encode.halves({"decode": 2.0, "encode": 4.0}, pictures=10, views=2, batch=8)
    assert (rates.decode, rates.encode) == (5.0, 6.0)  # 20 views fill three batches


@pytest.fixture(scope="module")
def overrides(workplace):
    data = workplace / "synthetic"
    return [f"data.labels={data}/labels.txt", f"data.images={data}/images", "backbone.weights=none", *suite.QUICK]


@pytest.fixture(scope="module")
def work(overrides):
    return suite.Work(plan_suite(loader.load_suite(suite.SUITE, TABLES, overrides)))


def test_the_work_of_a_suite_is_counted(work):
    assert (len(work.plan.runs), len(work.folds), work.seeds, work.heads) == (24, 2, 2, 96)
    assert work.steps == -(-max(len(fold.train) for fold in work.folds) // 16) == 3
    assert all(len(fold.train) + len(fold.val) + len(fold.test) == 80 for fold in work.folds)
    assert work.plain_seconds(0.01, 0) == pytest.approx(96 * 2 * 3 * 16 * 0.01)
    assert work.plain_seconds(0, 0.01) == pytest.approx(96 * work.scored * 0.01)
    bound = work.bound(encode.Halves(decode=100, encode=50), 1e-3)
    assert bound == pytest.approx(1.15 * (80 * 2 / 50 + 80 / 100) + 1.3 * 24 * 2 * 3 * 1e-3 + 10)


def test_the_plain_script_runs_on_a_part(work):
    part = suite.Part(batches=2, predicted=8, repeats=1, workers=0)
    seconds = timing.interleaved(suite.plain_cases(work, part), 1)
    assert len(seconds) == 2
    assert all(value > 0 for value in seconds.values())


def test_the_competent_script_trains_the_whole_suite(work, tmp_path):
    job = suite.competent_job(work, 0)
    seconds = suite.as_a_whole(job, tmp_path)
    assert seconds["wall"] > seconds["encode"] + seconds["train"] > 0
    with np.load(tmp_path / "probabilities.npz") as found:
        heads = list(found.values())
    assert len(heads) == work.heads
    sizes = [len(fold.val) + len(fold.test) for fold in work.folds for _ in range(work.seeds)]
    assert [head.shape for head in heads] == [(size, 4) for size in sizes * len(work.plan.runs)]
    assert all(((head > 0) & (head < 1)).all() for head in heads)
    assert len({head.tobytes() for head in heads}) == 6 * len(work.folds) * work.seeds  # the samplers are all the same


def test_the_competent_script_refuses_what_it_does_not_know(overrides):
    plan = plan_suite(loader.load_suite(suite.SUITE, TABLES, [*overrides, "train.weight_decay=0.1"]))
    with pytest.raises(ValueError, match="only the default options"):
        suite.competent_job(suite.Work(plan), 0)


@pytest.mark.parametrize("name", competent.LOSSES)
def test_the_competent_scripts_losses_are_ours(name):
    rng = np.random.default_rng(0)
    targets = torch.from_numpy((rng.random((60, 4)) > 0.6).astype(np.float32))
    targets[:, 2] = 0
    positives = torch.tensor([3.0, 40.0, 0.0, 900.0])  # one beyond the cap, one without a positive
    negatives = torch.tensor([90.0, 12.0, 30.0, 1.0])
    ours = bind(losses.LOSSES[name], positives=positives.view(1, 1, -1), negatives=negatives.view(1, 1, -1))
    theirs = competent.LOSSES[name](positives, negatives)
    slopes = []
    for loss, batch in ((ours, targets[None]), (theirs, targets)):
        logits = torch.from_numpy(np.random.default_rng(1).normal(scale=3, size=batch.shape)).float().requires_grad_()
        cells = loss(logits, batch)
        cells.sum().backward()
        slopes.append((cells.detach().view(60, 4), logits.grad.view(60, 4)))
    for own, other in zip(*slopes, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def test_a_suite_is_measured_beside_what_it_is_compared_with(work, overrides, monkeypatch):
    accounts = iter([(9.0, {"train": 2.0}), (7.0, {"train": 1.5})])
    scripts = iter([{"wall": 40.0, "encode": 8.0, "train": 30.0}, {"wall": 39.0, "encode": 9.0, "train": 28.0}])
    monkeypatch.setattr(suite, "product", lambda overrides, place: next(accounts))
    monkeypatch.setattr(suite, "as_a_whole", lambda job, place: next(scripts))
    part = suite.Part(rates=8, batches=1, predicted=8, repeats=1, suites=2, workers=0)
    found, parts, account = suite.measured(overrides, part)
    assert account == {"backbone": "resnet18", "wall": 7.0, "train": 1.5}  # of the quicker one
    assert {row["backbone"] for row in found} == {"resnet18"}
    ours = {row["what"]: row["ours s"] for row in found}
    assert ours == dict.fromkeys(ours, 7.0) | {"competent training / training": 1.5}
    theirs = {row["what"]: row["other s"] for row in found}
    seconds = (parts["plain, ms per training picture"] / 1e3, parts["plain, ms per predicted picture"] / 1e3)
    assert theirs["plain script / suite"] == pytest.approx(work.plain_seconds(*seconds))
    assert (theirs["competent script / suite"], theirs["competent training / training"]) == (39.0, 28.0)
    assert [parts[f"competent, s {what}"] for what in ("starting", "encoding", "training")] == [2.0, 9.0, 28.0]


def test_ratios_stand_beside_their_targets():
    rows = suite.compared(wall=20, train=2, bound=21, plain_seconds=30_000, competent_seconds=50, training=16)
    assert [row["ratio"] for row in rows] == [pytest.approx(20 / 21), 1500, 2.5, 8]
    assert [row["met"] for row in rows] == [True, True, False, True]


def test_a_suites_account_is_read(tmp_path):
    (tmp_path / "seconds.json").write_text('{"start": 1.5, "train": 2.0}')
    assert suite.itemised(tmp_path) == {"start": 1.5, "train": 2.0}


def separable():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(90, 5)).astype(np.float32)
    targets = (features @ rng.normal(size=(5, 2)) > 0).astype(np.int8)
    folds = [Fold(*np.split(np.roll(np.arange(90), shift), (50, 60))) for shift in (0, 30, 60)]
    return peers.Problem(features, targets, rng.random(targets.shape) > 0.2, folds)


def test_heads_and_regressions_learn_the_same_rows():
    problem = separable()
    rows = peers.heads(problem, seeds=2, repeats=1)
    assert len(rows) == 4
    assert peers.scores(problem, peers.ours(problem, 1, epochs=400))[0] > 0.9
    assert peers.scores(problem, peers.regressions(problem))[0] > 0.9
    hidden = peers.Problem(
        problem.features,
        np.where(problem.observed, problem.targets, 1 - problem.targets),
        problem.observed,
        problem.folds,
    )
    for method in (peers.regressions, lambda own: peers.ours(own, 2)):
        seen, unseen = method(problem), method(hidden)
        assert all(np.array_equal(*pair) for pair in zip(seen, unseen, strict=True))
        assert peers.scores(problem, seen) == peers.scores(hidden, unseen)


def test_timms_loop_gives_features_of_all_pictures(tmp_path):
    found = encode.make(tmp_path / "pictures", encode.Size(40, 40, 5))
    spec = encode.spec_of("resnet18", "none", TransformConfig(size=32))
    assert peers.timms(found, spec, 0)().shape == (5, 512)


@pytest.mark.skipif(not encode.OPENVINO, reason="openvino is not installed")
def test_both_engines_give_the_same_features(tmp_path):
    spec, store = encode.spec_of("resnet18", "none", TransformConfig(size=32)), FeatureStore(tmp_path / "store")
    found = encode.make(tmp_path / "pictures", encode.Size(40, 40, spec.batch))
    store.bank(found, transforms.UNAUGMENTED, TransformConfig(size=32), spec)
    row = encode.engines(spec, store, 3, 1)
    assert float(row["apart"]) < 1e-4
    assert row["openvino / onnxruntime"] == pytest.approx(row["openvino /s"] / row["onnxruntime /s"])


def test_statistics_are_made_in_every_call_that_is_timed(tmp_path, monkeypatch):
    """And not read from the file that the call before left."""
    made, real = [], summary.statistics.statistics
    monkeypatch.setattr(
        summary.statistics, "statistics", lambda *given, **named: made.append(1) or real(*given, **named)
    )
    overhead.summaries(tmp_path, 3, 2)
    assert len(made) == 3


def test_targets_of_a_million_rows_and_of_steps_are_compared():
    def row(heads, seconds, memory, most):
        own = {"s / M rows": seconds, "anonymous MB": memory, "most MB with pages": most}
        return {"heads": heads, "order": "shuffle", "limit": "2 GB" if most else "", **own}

    table = [row(1, 1.0, 400, ""), row(25, 10.0, 500, ""), row(1, 1.1, 999, 1638.6), row(25, 12.0, 1001, "")]
    table.append({**row(1, 9.0, 999, ""), "order": "blocks"})
    found = rows.targets(table)
    assert [own["met"] for own in found] == [True, True, True, False, False, False]
    assert [own["found"] for own in found] == [999, "1639 MB at most", 1.1, 1001, "not limited", 1.2]

    twice = [{**row(1, 1.0, 400, 3.0), "start MB": 2}, {**row(1, 0.9, 500, 2.0), "start MB": 1}]
    assert rows.best(twice) == {**row(1, 0.9, 500, 3.0), "start MB": 2}
    free = {**twice[0], "limit": "none", "most MB with pages": ""}
    assert rows.best([free, twice[1]]) == {**rows.best(twice), "limit": "none", "most MB with pages": ""}


def test_overheads_are_measured(tmp_path):
    rows = [
        overhead.parsing(tmp_path, 300),
        overhead.hashing(tmp_path, 5, 1000, 1),
        overhead.commits(tmp_path, 128),
        overhead.drawing(tmp_path, 2, 5, 1),
        overhead.summaries(tmp_path, 3, 1),
    ]
    assert all(row["s"] > 0 for row in rows)
    with _Shelf(tmp_path / "shelf", "float32") as shelf:
        assert shelf.rows().shape == (128, overhead.WIDTH)
    assert (tmp_path / "curve.png").exists()
    assert (tmp_path / "suite" / "summary.csv").exists()


def test_a_step_is_measured_beside_a_bare_one(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "IMAGES", 128)
    rows = step.measured(1)
    assert [row["timed"] for row in rows] == list(step.TIMED)
    for row in rows:
        assert row["bare us"] > 0
        assert all(row[f"{loss} / bare"] > 1 for loss in step.LOSSES)  # the step does all of the bare one, and more
    monkeypatch.setattr(step, "measured", lambda heads: [{**row, "heads": heads} for row in rows])
    step.main(tmp_path, quick=True)
    assert len(json.loads((tmp_path / "step.json").read_text())["Steps"]) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"step.json", "step.md", "step.png"}


def test_results_are_written(tmp_path):
    conditions = timing.Conditions(2, {1: 10.0}, (0.5, 0.25, 0.125))
    timing.write(tmp_path, "one", "What.\n", {"Rows": [{"a": 1, "b": 0.12345, "c": True, "d": 1234.5}]}, conditions)
    text = (tmp_path / "one.md").read_text()
    assert "**Rows**\n\n| a | b | c | d |\n| --- | --- | --- | --- |\n| 1 | 0.123 | yes | 1234 |\n" in text
    assert "copy bandwidth 10.0 GB/s with 1 thread(s); load 0.50 0.25 0.12 before" in text
    assert json.loads((tmp_path / "one.json").read_text())["Rows"] == [{"a": 1, "b": 0.12345, "c": True, "d": 1234.5}]
    panels = [
        timing.Panel("one", "s", {"a": 1.0, "b": 20.0}, target=2.0),
        timing.Panel("two", "s", {"c": 3.0}, log=True),
    ]
    timing.bars(tmp_path / "one.png", "Title", panels)
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_a_stored_trunk_trains_what_a_recomputed_one_trains(tmp_path):
    finetune.main(tmp_path, quick=True)
    found = json.loads((tmp_path / "finetune.json").read_text())
    assert [row["met"] for row in found["Targets"] if row["figure"] == "losses of an epoch apart"] == [True]
    assert [row["case"] for row in found["Pace"]] == ["tail", "stored", "recomputed", "decode", "trunk"]


def test_a_sweep_is_measured_beside_one_point(tmp_path):
    sweep.main(tmp_path, quick=True)
    found = json.loads((tmp_path / "sweep.json").read_text())
    one, hundred = (row["seconds"] for row in found["Training"])
    assert 0 < one < hundred


@pytest.mark.parametrize("name", command.NAMES)
def test_every_benchmark_takes_a_folder_and_options_of_the_command(name):
    assert {"out"} <= command.benchmark(name)[1] <= {"out", "labels", "images", "quick"}


def test_an_option_that_a_benchmark_does_not_read_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["sweep", "--data-images", str(tmp_path), "--out", str(tmp_path)])
    assert "sweep has no use for images" in capsys.readouterr().err


def test_a_busy_machine_is_told(capsys):
    command.warn_of(0.0)
    assert capsys.readouterr().err == ""
    command.warn_of(64.0 * os.cpu_count())
    assert "wait until the machine is idle" in capsys.readouterr().err


def test_all_runs_every_benchmark_with_its_options_and_gathers_what_they_wrote(tmp_path, monkeypatch):
    calls = []

    def run(arguments, check):
        calls.append([str(part) for part in arguments[3:]])
        (tmp_path / f"{calls[-1][0]}.md").write_text(f"Found by {calls[-1][0]}.\n")

    monkeypatch.setattr(command, "subprocess", SimpleNamespace(run=run))
    command.everything(tmp_path, {"images": tmp_path / "pictures", "quick": True})
    assert [call[0] for call in calls] == list(command.NAMES)
    options = {call[0]: call[3:] for call in calls}
    assert options["step"] == ["--quick"]
    assert options["encode"] == ["--data-images", str(tmp_path / "pictures"), "--quick"]
    assert options["peers"] == ["--quick"]
    text = (tmp_path / "README.md").read_text()
    assert all(f"## {name}\n\nFound by {name}.\n\n![{name}]({name}.png)" in text for name in command.NAMES)
    assert f"numpy {np.__version__}" in text


def test_training_on_stored_rows_is_measured(tmp_path):
    rows.write_store(tmp_path / "store", 300)
    found = rows.child(tmp_path / "store", 300, 2, "blocks")
    assert found["anonymous MB"] >= found["start MB"] > 0
    assert found["seconds"] > 0
