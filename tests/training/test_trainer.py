"""The keystone: training all heads at once is training them one by one.

The oracle `alone` trains one torch.nn.Linear with torch's optimizer in the plainest loop there is; it shares with the
trainer the losses, policies and samplers (which have tests of their own) and the random generators. The test covers
every pair of loss and policy, with samplers, optimizers and the other options taken in turn. AIMONK_BENCH_FULL=1 runs
the whole product, loss x policy x sampler x optimizer: 4662 cases.
"""

from __future__ import annotations

import copy
import itertools
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aimonk_bench import registry
from aimonk_bench.config.fields import TrainConfig
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.registry import Spec
from aimonk_bench.training import fit, heads, heads_trainer, samplers
from aimonk_bench.training.batches import HeadRngs
from aimonk_bench.training.heads import Heads
from aimonk_bench.training.heads_trainer import train_heads
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.missing import MISSING, wants_teacher
from aimonk_bench.training.objective import Objective, check_combination
from aimonk_bench.training.optimizers import OPTIMIZERS
from aimonk_bench.training.recipe import Recipe, TrainingData, check
from aimonk_bench.training.samplers import SAMPLERS
from aimonk_bench.training.schedules import SCHEDULES
from aimonk_bench.training.selection import TIE
from aimonk_bench.training.set_losses import SET_LOSSES

NAMES = ["a", "b", "c"]
COLUMNS = ["training_loss", "val_loss", "val_f1_default", "val_average_precision", "val_roc_auc"]
ADAM = Spec("adam")


@pytest.fixture(autouse=True)
def one_thread():
    """As in training: with more of them, tiny products wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def problem(n=46, features=6, seed=0, folds=2, views=3):
    """Images with a little signal; two folds have training splits of 17 and 22 rows: 3 and 4 batches of 6."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(views * n + 5, features))
    index = rng.permutation(views * n + 5)[: views * n].reshape(views, n)
    observed = rng.random((n, 3)) > 0.2
    scores = rows[index[0]] @ rng.normal(size=(features, 3)) + rng.normal(size=(n, 3)) + [1, 0, -1]
    order = rng.permutation(n)
    cuts = [(17, 24), (22, 33)] if folds == 2 else [(20, 33)]
    return SimpleNamespace(
        features=rows,
        index=index,
        probabilities=np.array([0.5, 0.3, 0.2])[:views] if views > 1 else np.ones(1),
        targets=np.where(observed, scores > 0, 0).astype(np.int8),
        observed=observed,
        folds=[Fold(*map(np.sort, np.split(np.roll(order, 20 * f), cut))) for f, cut in enumerate(cuts)],
    )


def recipe(loss="masked_bce", missing="ignore", sampler="uniform", **options):
    kinds = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
    options = {k: registry.check(k, kinds[k], v)[0] if k in kinds else v for k, v in options.items()}
    plain = {"lr": 0.05, "batch_size": 6, "epochs": 2, "seeds": [0, 7], "bias_init": "uniform", "averaging": "none"}
    config = TrainConfig(**{**plain, **options})
    tables = {"loss": LOSSES | SET_LOSSES, "missing": MISSING, "sampler": SAMPLERS}
    named = {"loss": loss, "missing": missing, "sampler": sampler}
    return {"train": config, **{kind: registry.check(kind, tables[kind], named[kind])[0] for kind in tables}}


def run(data, config, **options):
    """Train on a problem; ``tune`` and ``val_observed`` beside the options of `train_heads`."""
    recipe = Recipe(**config, tune=options.pop("tune", None) or {})
    known = training_data(data, options.pop("val_observed", None))
    return train_heads(data.features, data.index, known, recipe, **{"dtype": torch.float64, **options})


def training_data(data, val_observed=None):
    """Labels as they stand in the problem, with whatever is under a missing one."""
    shown = data.observed if val_observed is None else val_observed
    train, val = (Labels(data.targets, observed, tuple(NAMES)) for observed in (data.observed, shown))
    return TrainingData(train, val, data.folds, data.probabilities)


def blank(fold):
    """Labels of the training rows for a sampler that does not read them."""
    return Labels(np.zeros((len(fold.train), 1)), np.zeros((len(fold.train), 1), bool))


def f1(y, s):
    return 2 * (y & (s > 0.5)).sum() / (y.sum() + (s > 0.5).sum())


def average_precision(y, s):
    return np.mean([y[s >= own].mean() for own in s[y]])


def roc_auc(y, s):
    higher, equal = s[y][:, None] > s[~y], s[y][:, None] == s[~y]
    return (higher + equal / 2).mean()


def macro(metric, targets, observed, scores):
    """One attribute at a time, over those that define the metric."""
    values = []
    for k in range(targets.shape[1]):
        y, s = targets[observed[:, k], k], scores[observed[:, k], k]
        if y.any() and (metric is not roc_auc or not y.all()):
            values.append(metric(y == 1, s))
    return np.mean(values) if values else np.nan


def alone(data, config, seed, number, steps, dtype=torch.float64):
    """One head trained alone, after its teacher if it has one: (val logits, test logits, history, chosen epoch)."""
    if not wants_teacher(config["missing"]):
        return one_stage(data, config, seed, number, steps, dtype)[:4]
    *_, model = one_stage(data, {**config, "missing": Spec("ignore")}, seed, number, steps, dtype)
    with torch.no_grad():
        teacher = torch.sigmoid(model(torch.from_numpy(data.features).to(dtype)[data.index[0]]))
    return one_stage(data, config, seed, number, steps, dtype, teacher)[:4]


def one_stage(data, config, seed, number, steps, dtype, teacher=None):
    """One head, one nn.Linear, one loop: (val logits, test logits, history columns, chosen epoch, the model)."""
    settings, fold, rngs = config["train"], data.folds[number], HeadRngs.of(seed, number)
    rows, targets = torch.from_numpy(data.features).to(dtype), torch.from_numpy(data.targets).to(dtype)
    observed = torch.from_numpy(data.observed)
    model = torch.nn.Linear(rows.shape[1], targets.shape[1], dtype=dtype)
    initial = Heads.initial(targets.shape[1], rows.shape[1], [rngs.init], dtype)
    model.load_state_dict({"weight": initial.weight[0].detach(), "bias": initial.bias[0, 0].detach()})
    y, o = targets[fold.train], observed[fold.train]
    counts = (y * o).sum(0)[None], ((1 - y) * o).sum(0)[None]
    loss = Objective(config["loss"], config["missing"], *counts)
    val_loss = Objective(config["loss"], Spec("ignore"), *counts)
    sampler = registry.build("sampler", SAMPLERS, config["sampler"])
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[settings.optimizer.name]
    share = 1 if settings.optimizer.name == "adamw" else targets.shape[1]  # the loss is a mean over attributes
    decays = {model.weight: settings.weight_decay / share, model.bias: 0.0}
    groups = [{"params": [parameter], "weight_decay": decay} for parameter, decay in decays.items()]
    optimizer = kind(groups, lr=settings.lr, **settings.optimizer.options)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
    history, best, waited, kept, chosen = {column: [] for column in COLUMNS}, -np.inf, 0, None, 0
    trained, ends = model, []
    for epoch in range(1, settings.epochs + 1):
        train_rows = fold.train
        if settings.order == "blocks":
            sampler, train_rows = samplers.blocks, train_rows[np.argsort(data.index[0, train_rows])]
        known = Labels(data.targets[train_rows], data.observed[train_rows])
        drawn = sampler(known, settings.batch_size, steps, rngs.sampler)
        views = rngs.views.choice(len(data.probabilities), size=drawn.shape, p=data.probabilities)
        for batch, view in zip(drawn, views, strict=True):
            images = [train_rows[i] for i in batch]
            inputs = torch.stack([rows[data.index[v, p]] for v, p in zip(view, images, strict=True)])
            labels = Labels(targets[images], observed[images])
            value = loss(trained(inputs), labels, epoch, None if teacher is None else teacher[images])
            optimizer.zero_grad()
            value.backward()
            if settings.clip is not None:
                torch.nn.utils.clip_grad_norm_(trained.parameters(), settings.clip)
            optimizer.step()
            if settings.schedule.name == "cosine":
                annealing.step()
            for column in COLUMNS:
                history[column].append(value.item() if column == "training_loss" else np.nan)
        ends.append(copy.deepcopy(trained.state_dict()))
        if settings.averaging == "polynomial":
            model = torch.nn.Linear(rows.shape[1], targets.shape[1], dtype=dtype)
            model.load_state_dict(averaged(ends))
        with torch.no_grad():
            logits = model(rows[data.index[0, fold.val]])
            seen, labels = data.observed[fold.val], data.targets[fold.val]
            value = val_loss(logits, Labels(targets[fold.val], observed[fold.val]), epoch).item()
        scores = 1 / (1 + np.exp(-logits.double().numpy()))
        history["val_loss"][-1] = value if seen.any() else np.nan
        for column, metric in zip(COLUMNS[2:], (f1, average_precision, roc_auc), strict=True):
            history[column][-1] = macro(metric, labels, seen, scores)
        watched = -history["val_loss"][-1]
        if settings.select not in ("last", "loss"):
            watched = history[f"val_{settings.select}"][-1]
        if settings.select == "last" or watched > best + TIE:
            kept = {name: value.clone() for name, value in model.state_dict().items()}
            best, waited, chosen = max(best, watched), 0, epoch
        else:
            waited += 1
        if waited == settings.patience:
            break
    model.load_state_dict(kept)
    with torch.no_grad():
        outcome = [model(rows[data.index[0, part]]).numpy() for part in (fold.val, fold.test)]
    return *outcome, history, chosen, model


def averaged(ends):
    """The weights at the ends of epochs 1, 2, ..., E in proportion to (i + 2)! / (i - 1)!, about i cubed."""
    shares = np.array([i * (i + 1) * (i + 2) for i in range(1, len(ends) + 1)])
    shares = shares / shares.sum()
    return {name: sum(share * end[name] for share, end in zip(shares, ends, strict=True)) for name in ends[0]}


def compare(data, config, rtol=1e-9, atol=1e-12, dtype=torch.float64):
    together = run(data, config, dtype=dtype)
    seeds = config["train"].seeds
    steps = -(-max(len(fold.train) for fold in data.folds) // config["train"].batch_size)
    for (s, seed), number in itertools.product(enumerate(seeds), range(len(data.folds))):
        val, test, history, chosen = alone(data, config, seed, number, steps, dtype)
        np.testing.assert_allclose(together.logits[number]["val"][s], val, rtol=rtol, atol=atol)
        np.testing.assert_allclose(together.logits[number]["test"][s], test, rtol=rtol, atol=atol)
        own = (together.history["seed"] == seed) & (together.history["fold"] == number)
        for column in COLUMNS:
            np.testing.assert_allclose(together.history[column][own], history[column], rtol=rtol, atol=atol)
        assert together.chosen_epoch[s, number] == chosen
    return together


MOVES = [
    {"optimizer": "adam"},
    {"optimizer": "adamw", "weight_decay": 0.1, "clip": 0.05, "schedule": "cosine"},
    {"optimizer": "sgd", "select": "loss", "patience": 1, "epochs": 5, "lr": 0.5},
    {"optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True}, "weight_decay": 0.01, "select": "roc_auc"},
    {"optimizer": "adam", "weight_decay": 0.01, "select": "f1_default", "patience": 2, "epochs": 5, "lr": 1.0},
    {"optimizer": "adam", "weight_decay": 0.01, "averaging": "polynomial", "epochs": 4},
    {"optimizer": "sgd", "averaging": "polynomial", "select": "loss", "patience": 1, "epochs": 5, "lr": 0.5},
]


def allowed(loss, policy):
    try:
        check_combination(Spec(loss), Spec(policy))
    except UserError:
        return False
    return True


PAIRS = [pair for pair in itertools.product([*LOSSES, *SET_LOSSES], MISSING) if allowed(*pair)]
CASES = [
    (loss, policy, sampler, move)
    for i, (loss, policy) in enumerate(PAIRS)
    for j, (sampler, move) in enumerate(itertools.product(SAMPLERS, range(len(MOVES))))
    if os.environ.get("AIMONK_BENCH_FULL") or j == (5 * i + i // 5) % (len(SAMPLERS) * len(MOVES))
]


@pytest.mark.parametrize(("loss", "policy", "sampler", "move"), CASES)
def test_stacked_is_separate(loss, policy, sampler, move):
    compare(problem(), recipe(loss, policy, sampler, **MOVES[move]))


def test_the_cases_reach_every_entry_and_training_splits_of_unequal_length():
    assert {case[0] for case in CASES} == {*LOSSES, *SET_LOSSES}
    assert {case[1] for case in CASES} == set(MISSING)
    assert {case[2] for case in CASES} == set(SAMPLERS)
    assert {case[3] for case in CASES} == set(range(len(MOVES)))
    assert {registry.check("o", OPTIMIZERS, move["optimizer"])[0].name for move in MOVES} == set(OPTIMIZERS)
    assert [-(-len(fold.train) // 6) for fold in problem().folds] == [3, 4]


@pytest.mark.parametrize("folds", [1, 2])
def test_stacked_is_separate_for_the_defaults_in_float32(folds):
    data = problem(n=60, features=32, folds=folds)
    config = recipe(lr=1e-3, batch_size=16, epochs=10, seeds=5, averaging="polynomial")
    compare(data, config, rtol=1e-4, atol=1e-5, dtype=torch.float32)


@pytest.mark.parametrize("views", [1, 3])
def test_stacked_is_separate_in_blocks_of_the_store(views, monkeypatch):
    monkeypatch.setattr(samplers, "BLOCK_ROWS", 3)
    monkeypatch.setattr(samplers, "BUFFER_ROWS", 9)
    data = problem(views=views)
    together = compare(data, recipe(order="blocks"))
    assert not np.allclose(together.logits[0]["val"], run(data, recipe()).logits[0]["val"])


@pytest.mark.parametrize("policy", ["ignore", "splc", "self_trained"])
def test_the_size_of_a_block_of_steps_changes_nothing(policy, monkeypatch):
    data, config = problem(views=3), recipe("pos_weight", policy, schedule="cosine", epochs=3)
    whole = run(data, config)
    monkeypatch.setattr(heads_trainer, "BLOCK_ELEMENTS", 1)
    step_by_step = run(data, config)
    for column, values in whole.history.items():
        np.testing.assert_allclose(step_by_step.history[column], values, rtol=1e-12)


def test_a_hold_out_is_one_fold():
    assert len(compare(problem(folds=1), recipe("focal", select="average_precision", epochs=4)).logits) == 1


@pytest.mark.parametrize("move", MOVES)
def test_a_heads_outcome_does_not_depend_on_its_company(move):
    data, config = problem(), recipe("asymmetric", "weak_negative", "balanced", **move)
    together = run(data, config)
    config["train"] = config["train"].model_copy(update={"seeds": [7]})
    single = run(data, config, steps=4)
    one = together.history["seed"] == 7
    for column, values in single.history.items():
        np.testing.assert_allclose(values, together.history[column][one], rtol=1e-9)
    for number in range(2):
        np.testing.assert_allclose(single.logits[number]["test"][0], together.logits[number]["test"][1], rtol=1e-9)


def test_a_setting_is_kept_where_no_step_can_gain_enough(monkeypatch: pytest.MonkeyPatch):
    grid = {"train.lr": [1e-4, 0.3]}
    tried = run(problem(seed=1), recipe(), tune=grid).tuning
    assert (tried.chosen["train.lr"] == 0.3).all()
    assert tried.ends()["train.lr"] == (0.0, 1.0)
    monkeypatch.setattr("aimonk_bench.training.tuning.STEP", 2.0)  # more than any score
    tried = run(problem(seed=1), recipe(), tune=grid).tuning
    assert (tried.chosen["train.lr"] == 1e-4).all()


TUNED = [
    (MOVES[0], "ignore", {"train.lr": [1e-3, 0.05, 0.3], "train.weight_decay": [0.0, 0.3]}),
    (MOVES[1], "self_trained", {"train.lr": [0.3, 0.01]}),
    (MOVES[2], "negative", {"train.weight_decay": [0.5, 0.0, 0.1], "train.lr": [2.0, 0.05]}),
    (MOVES[1], "ignore", {"train.lr": [0.2, 0.25, 0.3]}),
    (MOVES[3], "ignore", {"train.lr": [0.02, 0.05, 0.1], "loss.gamma": [0.0, 4.0]}),
    (MOVES[4], "splc", {"train.lr": [1e-3, 1.0], "train.weight_decay": [0.0, 0.1]}),
    ({**MOVES[4], "averaging": "polynomial"}, "splc", {"train.lr": [1e-3, 1.0], "train.weight_decay": [0.0, 0.1]}),
    (MOVES[1], "ignore", {"loss.alpha": [0.1, 0.9], "loss.gamma": [0.0, 1.0], "train.weight_decay": [0.0, 0.1]}),
]


@pytest.mark.parametrize(("move", "policy", "tune"), TUNED)
def test_a_tuned_run_is_head_by_head_one_of_untuned_ones_and_each_step_must_gain(move, policy, tune):
    data, config = problem(seed=1), recipe("focal", policy, "coverage", **{**move, "seeds": [3, 0, 5]})
    together, tuning = (trained := run(data, config, tune=tune)), trained.tuning
    metric = config["train"].select if config["train"].select != "last" else "average_precision"
    train = config["train"]
    lists = {"train.lr": [train.lr], "train.weight_decay": [train.weight_decay], **tune}
    points = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]

    def untuned_run(point):
        own = {key.partition(".")[2]: value for key, value in point.items() if key.startswith("loss.")}
        update = {"lr": point["train.lr"], "weight_decay": point["train.weight_decay"]}
        return run(data, {**config, "train": train.model_copy(update=update), "loss": Spec("focal", own)})

    untuned = list(map(untuned_run, points))
    assert tuning.metric == metric
    taken = set()
    for (s, seed), number in itertools.product(enumerate([3, 0, 5]), range(2)):
        scores, histories = [], []
        for single in untuned:
            own = (single.history["seed"] == seed) & (single.history["fold"] == number)
            histories.append({column: values[own] for column, values in single.history.items()})
            scores.append(histories[-1][f"val_{metric}"][4 * single.chosen_epoch[s, number] - 1])
        np.testing.assert_allclose(tuning.scores[:, s, number], scores, rtol=1e-9)
        cost = 0.0 if metric == "loss" else 0.005
        places = [sum(lists[key].index(value) for key, value in setting.items()) for setting in points]
        worth = [
            (-score if metric == "loss" else score) - cost * place for score, place in zip(scores, places, strict=True)
        ]
        point = next(p for p, value in enumerate(worth) if max(worth) - value <= TIE)
        taken.add(point)
        chosen = points[point]
        assert {key: values[s, number] for key, values in tuning.chosen.items()} == {key: chosen[key] for key in tune}
        assert {key: values[point] for key, values in tuning.points.items()} == {key: chosen[key] for key in tune}
        own = (together.history["seed"] == seed) & (together.history["fold"] == number)
        for column, values in histories[point].items():
            np.testing.assert_allclose(together.history[column][own], values, rtol=1e-9, atol=1e-12)
        assert together.chosen_epoch[s, number] == untuned[point].chosen_epoch[s, number]
        rates = (trained.effective_positive_rate[s, number] for trained in (together, untuned[point]))
        np.testing.assert_allclose(*rates)
        for part in ("val", "test"):
            wanted = untuned[point].logits[number][part][s]
            np.testing.assert_allclose(together.logits[number][part][s], wanted, rtol=1e-9, atol=1e-12)
    assert len(taken) > 1


@pytest.mark.parametrize("averaging", ["none", "polynomial"])
def test_a_point_that_diverges_is_not_chosen_and_the_run_fails_only_where_all_do(averaging):
    data, config = problem(), recipe(epochs=9, optimizer="sgd", weight_decay=10.0, averaging=averaging)
    trained = run(data, config, tune={"train.lr": [1e38, 0.05]}, dtype=torch.float32)
    alone = run(data, config, dtype=torch.float32)
    assert (trained.tuning.chosen["train.lr"] == 0.05).all()
    assert np.isnan(trained.tuning.scores[0]).all()
    np.testing.assert_allclose(trained.logits[1]["test"], alone.logits[1]["test"], rtol=1e-4)
    assert trained.notes == [
        "tune: 4 of 4 heads were not finite and could not be chosen at train.lr 1e+38, train.weight_decay 10"
    ]
    with pytest.raises(RunFailed, match=r"^loss is not finite at epoch .*; \d of 4 heads\); fix: a smaller train.lr"):
        run(data, config, tune={"train.lr": [1e38, 2e38]}, dtype=torch.float32)


def test_without_any_score_the_first_point_is_taken_and_said():
    data = problem()
    data.observed[data.folds[1].val] = False
    trained = run(data, recipe(), tune={"train.lr": [0.01, 0.5]})
    assert (trained.tuning.chosen["train.lr"][:, 1] == 0.01).all()
    assert trained.notes == [
        "fold 1: validation average_precision is defined at no setting of tune: the first one was chosen"
    ]


def test_hidden_labels_are_not_trained_on_and_may_be_shown_in_validation():
    data, config = problem(folds=1), recipe("class_balanced", sampler="balanced")
    everything, fold = data.observed, data.folds[0]
    data.observed = everything & (np.random.default_rng(3).random(everything.shape) > 0.5)
    hidden, shown = run(data, config), run(data, config, val_observed=everything)
    np.testing.assert_array_equal(hidden.history["training_loss"], shown.history["training_loss"])
    np.testing.assert_array_equal(hidden.logits[0]["test"], shown.logits[0]["test"])
    probability = 1 / (1 + np.exp(-shown.logits[0]["val"][0]))
    for trained, known in ((hidden, data.observed), (shown, everything)):
        wanted = macro(average_precision, data.targets[fold.val], known[fold.val], probability)
        last = trained.history["val_average_precision"][trained.history["seed"] == 0][-1]
        np.testing.assert_allclose(last, wanted)
    data.targets[fold.train] = np.where(data.observed[fold.train], data.targets[fold.train], 1)
    again = run(data, config, val_observed=everything)
    assert all(values.tobytes() == again.history[column].tobytes() for column, values in shown.history.items())


def test_a_teacher_is_trained_on_observed_labels_alone_and_its_stage_is_told():
    data, told = problem(), []
    config = recipe("focal", "self_trained", epochs=3)
    trained = run(data, config, progress=lambda *args: told.append(args))
    assert told == [("train", epoch, 6) for epoch in range(1, 7)]
    assert trained.history["epoch"].max() == 3
    first = run(data, recipe("focal", "ignore", epochs=3))
    losses = [first.history["training_loss"].reshape(4, 3, 4)[:, -1].mean(1)]
    assert trained.notes == [
        "self_trained: the history is that of the second stage; the teachers of the first stage, trained on observed "
        "labels alone, chose epochs 3 to 3, with mean training losses in their last epochs of "
        f"{np.min(losses):.3g} to {np.max(losses):.3g}"
    ]
    data.observed[:], data.targets[:] = True, data.targets
    whole = [run(data, recipe("focal", policy)).logits[0]["test"] for policy in ("self_trained", "ignore")]
    np.testing.assert_allclose(*whole, rtol=1e-12)  # without a missing label there is nothing to teach


@pytest.mark.parametrize("policy", MISSING)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_values_under_na_change_no_byte(policy, sampler):
    data = problem()
    data.targets[:, 0], data.observed[data.folds[0].train[:9]] = 1, False
    config = recipe("distribution_balanced", policy, sampler, select="roc_auc")
    rng = np.random.default_rng(1)
    clean = run(data, config, dtype=torch.float32)
    for junk in (rng.integers(-1, 2, data.targets.shape), rng.choice([np.nan, 1e9, 1.0], data.targets.shape)):
        data.targets = np.where(data.observed, data.targets, junk)
        dirty = run(data, config, dtype=torch.float32)
        for column, values in clean.history.items():
            assert values.tobytes() == dirty.history[column].tobytes()
        for fold, other in zip(clean.logits, dirty.logits, strict=True):
            assert all(fold[part].tobytes() == other[part].tobytes() for part in ("val", "test"))
        assert clean.effective_positive_rate.tobytes() == dirty.effective_positive_rate.tobytes()
        assert clean.notes == dirty.notes


def test_history_has_a_row_per_step_and_ends_where_a_head_stops():
    data, config = problem(), recipe(select="loss", patience=1, epochs=40, lr=1.0)
    history, chosen = (trained := run(data, config)).history, trained.chosen_epoch
    lengths = []
    for (s, seed), fold in itertools.product(enumerate([0, 7]), range(2)):
        own = (history["seed"] == seed) & (history["fold"] == fold)
        lengths.append(epochs := chosen[s, fold] + 1)
        assert history["iteration_number"][own].tolist() == list(range(1, 4 * epochs + 1))
        assert history["epoch"][own].tolist() == np.repeat(np.arange(1, epochs + 1), 4).tolist()
        for column in COLUMNS[1:]:
            assert np.isnan(history[column][own]).tolist() == ([True] * 3 + [False]) * epochs
    assert len(set(lengths)) > 1
    assert max(lengths) < 40
    assert np.array_equal(
        np.lexsort((history["iteration_number"], history["fold"], history["seed"])), np.arange(len(own))
    )


def test_a_metric_that_is_never_defined_keeps_the_last_epoch_and_says_so():
    data = problem()
    data.observed[data.folds[1].val] = False
    trained = run(data, recipe(select="roc_auc", patience=1, epochs=3, lr=1e-4))
    assert trained.chosen_epoch[:, 1].tolist() == [3, 3]
    assert [note for note in trained.notes if "never defined" in note] == [
        "fold 1: validation roc_auc was never defined: every epoch was trained and the last one chosen"
    ]
    last = trained.history["fold"] == 1
    assert all(np.isnan(trained.history[column][last]).all() for column in COLUMNS[1:])
    data.observed[data.folds[0].val] = False
    (note,) = run(data, recipe(select="roc_auc", epochs=1)).notes
    assert note.startswith("folds 0, 1: validation roc_auc was never defined")


def test_effective_positive_rate_counts_the_observed_labels_drawn():
    data = problem(n=60)
    data.targets[:, 2], data.observed[:, 2] = 0, False
    trained = run(data, recipe(sampler="class_aware", epochs=3))
    for (s, seed), number in itertools.product(enumerate([0, 7]), range(2)):
        fold, rngs = data.folds[number], HeadRngs.of(seed, number)
        y, o = data.targets[fold.train], data.observed[fold.train]
        drawn = np.concatenate([SAMPLERS["class_aware"](Labels(y, o), 6, 4, rngs.sampler).ravel() for _ in range(3)])
        wanted = [y[drawn, k][o[drawn, k]].mean() for k in range(2)]
        np.testing.assert_allclose(trained.effective_positive_rate[s, number], [*wanted, np.nan])
    assert trained.notes == []


def test_a_batch_without_any_label_costs_nothing_and_breaks_nothing():
    data = problem()
    data.observed[data.folds[0].train] = False
    trained = run(data, recipe("class_balanced"))
    own = trained.history["fold"] == 0
    assert (trained.history["training_loss"][own] == 0).all()
    assert np.isfinite(trained.logits[0]["test"]).all()


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_loss_that_is_not_finite_fails_the_run_and_is_named(part):
    data = problem()
    fold, first = data.folds[1], "seed 0, fold 1, validation"
    broken = getattr(fold, part)[0]
    data.features[data.index[:, broken]] = np.nan
    data.folds[0] = Fold(*(np.setdiff1d(rows, broken) for rows in vars(data.folds[0]).values()))
    if part == "train":
        draws = {seed: SAMPLERS["uniform"](blank(fold), 6, 4, HeadRngs.of(seed, 1).sampler) for seed in (0, 7)}
        step, seed = min((int(np.argwhere(fold.train[draw] == broken)[0, 0]), seed) for seed, draw in draws.items())
        first = f"seed {seed}, fold 1, iteration {step + 1}"
    with pytest.raises(RunFailed) as error:
        run(data, recipe())
    fix = "fix: a smaller train.lr or train.weight_decay, or train.clip"
    assert str(error.value) == f"loss is not finite at epoch 1 ({first}; 2 of 4 heads); {fix}"


def test_iterations_of_a_loss_that_is_not_finite_count_from_the_first_epoch():
    with pytest.raises(RunFailed, match=r"^loss is not finite at epoch \d \(seed [07], fold [01], ") as error:
        run(problem(), recipe(lr=1e38, epochs=9), dtype=torch.float32)
    epoch, iteration = re.search(r"epoch (\d) .* iteration (\d+);", str(error.value)).groups()
    assert (int(iteration) - 1) // 4 + 1 == int(epoch)  # four steps in an epoch


def test_what_a_stopped_head_goes_on_to_draw_does_not_count():
    data, config = problem(), recipe(select="f1_default", patience=1, epochs=6, lr=1e-9, seeds=[0], batch_size=4)
    data.observed[data.folds[0].val] = False  # so that the head of fold 0 never stops; that of fold 1 does at a tie
    fold, rngs = data.folds[1], HeadRngs.of(0, 1)
    drawn = [fold.train[SAMPLERS["uniform"](blank(fold), 4, 1, rngs.sampler)] for _ in range(6)]
    late = np.setdiff1d(drawn[2:], drawn[:2])
    data.features[data.index[:, late]] = np.nan
    data.folds[0] = Fold(*(np.setdiff1d(part, late) for part in vars(data.folds[0]).values()))
    data.folds[1] = Fold(fold.train, np.setdiff1d(fold.val, late), np.setdiff1d(fold.test, late))
    trained = run(data, config, steps=1)
    assert trained.chosen_epoch.tolist() == [[6, 1]]
    early = np.concatenate(drawn[:2]).ravel()
    wanted = [data.targets[early, k][data.observed[early, k]].mean() for k in range(3)]
    np.testing.assert_allclose(trained.effective_positive_rate[0, 1], wanted)
    config["train"] = config["train"].model_copy(update={"patience": None})
    with pytest.raises(RunFailed):
        run(data, config, steps=1)


def test_training_does_not_import_torchs_compiler():
    """Torch's own optimizers do, which takes seconds."""
    code = """if True:
        import sys
        import numpy as np
        from aimonk_bench.config.fields import TrainConfig
        from aimonk_bench.data.labels import Labels
        from aimonk_bench.data.splits import Fold
        from aimonk_bench.registry import Spec
        from aimonk_bench.training.heads_trainer import train_heads
        from aimonk_bench.training.recipe import Recipe, TrainingData
        fold, targets = Fold(*np.split(np.arange(9), 3)), np.tile([[0], [1], [0]], (3, 1))
        labels = Labels(targets, targets < 2, ("a",))
        data = TrainingData(labels, labels, [fold], np.ones(1))
        specs = Spec("masked_bce"), Spec("ignore"), Spec("uniform")
        train_heads(np.eye(9, dtype=np.float32), np.arange(9)[None], data, Recipe(TrainConfig(seeds=1), *specs))
        sys.exit("torch._dynamo" in sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scoring_in_chunks_changes_nothing(monkeypatch):
    whole = run(problem(), recipe())
    monkeypatch.setattr(heads, "CHUNK_BYTES", 2 * 6 * 8 * 3)  # three rows of each fold
    for fold, other in zip(whole.logits, run(problem(), recipe()).logits, strict=True):
        np.testing.assert_allclose(fold["test"], other["test"], rtol=1e-12)


@pytest.mark.parametrize("loss", ["class_balanced", "two_way"])
def test_judging_heads_a_few_at_a_time_changes_nothing(loss, monkeypatch):
    options = {"tune": {"train.lr": [0.05, 0.1, 0.2]}}
    data, whole = problem(), run(problem(), recipe(loss), **options)
    monkeypatch.setattr(fit, "CHUNK_ELEMENTS", 5 * max(len(fold.val) for fold in data.folds) * len(NAMES))
    for column, values in run(data, recipe(loss), **options).history.items():
        np.testing.assert_allclose(values, whole.history[column], rtol=1e-12)


def test_progress_is_told_after_every_epoch_and_logits_are_float32_by_default():
    told = []
    config = recipe(epochs=3)
    trained = run(problem(), config, dtype=torch.float32, progress=lambda *args: told.append(args))
    assert told == [("train", 1, 3), ("train", 2, 3), ("train", 3, 3)]
    assert trained.logits[0]["val"].dtype == np.float32


def test_what_the_attributes_or_the_machine_forbid_is_refused_at_once_and_all_together():
    bce, nesterov = (
        Spec("masked_bce"),
        recipe(optimizer={"name": "sgd", "nesterov": True}, device="cuda:99", batch_size=1)["train"],
    )
    with pytest.raises(UserError) as caught:
        check(Recipe(nesterov, bce, Spec("weak_negative"), Spec("coverage")), 1)
    for problem_, word in zip(caught.value.problems, ("cuda:99", "nesterov", "give w", "coverage"), strict=True):
        assert word in problem_
    with pytest.raises(UserError, match=r"train.order: found blocks with sampler balanced, .* sampler: uniform"):
        check(Recipe(**recipe(order="blocks", sampler="balanced")), 3)
    check(Recipe(**recipe(order="blocks")), 3)
    check(Recipe(**recipe(missing="weak_negative", sampler="coverage", batch_size=6)), 3)
