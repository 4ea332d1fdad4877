"""The budget of a head: how many epochs and which grid bring every loss near its own best.

For every data set and loss, heads are trained on 20 random hold-outs with every setting of a wide grid and scored after
several numbers of epochs, as averages over the epochs so far (``train.averaging``). The best of a loss is the one fixed
setting (learning rate, weight decay, epochs) with the highest mean test average precision, which flatters it:
``best_crossed`` is the mean on each half of the hold-outs of the setting that is best on the other half. A budget is a
part of the grid at one number of epochs, from which every head chooses on its own validation rows; its shortfall is how
far it stays below the best. `LogisticRegression` with C chosen on the same validation rows stands beside masked_bce.

The measured cells are kept under ``cells/`` of the output folder: an interrupted study goes on, and other budgets are
judged without training.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from aimonk_bench import registry
from aimonk_bench.backbones.threads import torch_threads
from aimonk_bench.config.fields import DEFAULT_GRID, TrainConfig
from aimonk_bench.config.split_fields import Holdout
from aimonk_bench.data import splits, synthetic
from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.metrics import f1, ranking
from aimonk_bench.evaluation.thresholds import best_f1
from aimonk_bench.records.run import REVISION
from aimonk_bench.registry import Spec
from aimonk_bench.suite import plan
from aimonk_bench.suite.tasks import encode
from aimonk_bench.tables import TABLES
from aimonk_bench.training import tuning
from aimonk_bench.training.batches import Features
from aimonk_bench.training.fit import TrainingStage
from aimonk_bench.training.heads_trainer import StackedHeads
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.recipe import Recipe, TrainingData
from aimonk_bench.training.set_losses import SET_LOSSES
from aimonk_bench.training.stack import Stack
from experiments.benchmarks.timing import markdown

Array = NDArray[np.float64]

BATCH_SIZE = 64
SCORES = ("val_ap", "val_loss", "test_ap", "test_f1")
DATA = Path(".data")
RARE = (0.88, 0.5, 0.1, 0.02)
C_VALUES = tuple(10.0 ** np.arange(-3, 2.1, 0.5))


@dataclass(frozen=True)
class Source:
    """A data set of the study.

    Attributes:
        config: the suite whose backbone, size and views are taken.
        options: of `synthetic.write`; None for a data set that is already there.
    """

    config: str
    options: dict[str, object] | None = None


SOURCES = {
    "embedded": Source("comparison", {}),
    "embedded, NA .5": Source("comparison", {"missing": 0.5}),
    "embedded, prevalence .02": Source("comparison", {"prevalences": RARE}),
    "embedded, 200 images": Source("comparison", {"images": 200}),
    "embedded, 2,000 images": Source("comparison", {"images": 2000}),
    "ELPV": Source("elpv"),
}


@dataclass(frozen=True)
class Wide:
    """The wide grid, and how often it is measured."""

    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    decays: tuple[float, ...] = (0.0, 3e-3, 3e-2, 3e-1)
    epochs: tuple[int, ...] = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
    splits: int = 20


@dataclass(frozen=True)
class Budget:
    """A grid at one number of epochs; each head chooses by its validation average precision or loss."""

    epochs: int
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    by: str = "average precision"

    @property
    def settings(self) -> int:
        """P."""
        return len(self.rates) * len(self.decays)

    def __str__(self) -> str:
        rates, decays = (", ".join(f"{value:g}" for value in values) for values in (self.rates, self.decays))
        return f"lr {rates}; decay {decays}; {self.epochs} epochs; by {self.by}"


@dataclass(frozen=True, eq=False)
class Encoded:
    """A data set with the features [rows, D] of its images in every view [V, N]."""

    features: NDArray[np.float32]
    index: NDArray[np.int64]
    labels: Labels
    folds: list[splits.Fold] = field(repr=False)


def main(out: Path, full: bool) -> None:
    """Write budget.csv (the budgets of budget.md), budget.md and budget.png.

    Without ``full``: one small data set, two losses and a narrow grid.
    """
    wide = Wide() if full else Wide((3e-3, 1e-2), (0.0, 3e-3), (1, 2, 4), 3)
    sources = SOURCES if full else {"embedded, 200 images": Source("comparison", {"images": 200})}
    losses = [*LOSSES, *SET_LOSSES] if full else ["masked_bce", "focal"]
    budgets = _budgets(wide)
    rows, references = [], []
    for name, source in sources.items():
        data = _encoded(name, source, wide.splits)
        for loss in losses:
            cell = _cell(out / "cells" / f"{_slug(name)}-{loss}.npz", data, loss, wide)
            rows += [{"data": name, "loss": loss, **row} for row in _judge(cell, wide, budgets)]
        references.append({"data": name, **_logistic(data)})
    frame, default = pd.DataFrame(rows), str(_default(wide))
    front = _front(frame)
    shown = frame[frame["budget"].isin([*front.index, default])]
    shown.to_csv(out / "budget.csv", index=False, float_format="%.5f")
    (out / "budget.md").write_text(_report(frame, front, pd.DataFrame(references), default), "utf-8")
    _draw(frame, out / "budget.png")


def _budgets(wide: Wide) -> list[Budget]:
    """The budgets that are judged: neighbouring learning rates x weight decays at every number of epochs from 10."""
    rates = [part for part in _runs(wide.rates) if len(part) <= 3]
    decays = [part for part in _runs(wide.decays) if len(part) <= 3]
    epochs = [number for number in wide.epochs if number >= 10] or [max(wide.epochs)]
    rules = ("average precision", "loss")
    return [Budget(*items) for items in itertools.product(epochs, rates, decays, rules)]


def _runs(values: Sequence[float]) -> Iterator[tuple[float, ...]]:
    """Every run of consecutive values."""
    for start, stop in itertools.combinations(range(len(values) + 1), 2):
        yield tuple(values[start:stop])


def _slug(name: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in name)


def _encoded(name: str, source: Source, number: int) -> Encoded:
    """Encode a data set with the backbone and the views of its suite, and draw the hold-outs."""
    overrides = []
    if source.options is not None:
        folder = DATA / "budget" / _slug(name)
        synthetic.write(folder, **source.options)  # type: ignore[arg-type]
        overrides = [f"data.labels={folder / 'labels.txt'}", f"data.images={folder / 'images'}"]
    suite = plan.load(Path("configs/suites") / f"{source.config}.yaml", TABLES, overrides)
    planned = plan.plan_suite(suite)
    run = planned.runs[0]
    dataset = encode(planned.dataset, run.config, run.encoder)
    schemes = [Holdout(val=0.15, test=0.2, seed=seed) for seed in range(number)]
    folds = [splits.split(scheme, dataset.labels, dataset.groups, {})[0] for scheme in schemes]
    rows, places = np.unique(dataset.stored.index, return_inverse=True)
    features = np.asarray(dataset.stored.rows[rows], np.float32)
    return Encoded(features, places.reshape(dataset.stored.index.shape), dataset.labels, folds)


def _cell(file: Path, data: Encoded, loss: str, wide: Wide) -> dict[str, Array]:
    """The scores of one loss, ``SCORES`` -> [E, F, P]; read where this code measured the same grid before."""
    measured = f"{wide}, revision {REVISION}"
    if file.exists():
        with np.load(file, allow_pickle=False) as stored:
            if str(stored.get("measured")) == measured:
                return {name: stored[name] for name in SCORES}
    begin = time.perf_counter()
    views = len(data.index)
    material = TrainingData(data.labels, data.labels, data.folds, np.full(views, 1 / views))
    train = TrainConfig(seeds=[0], batch_size=BATCH_SIZE, epochs=max(wide.epochs))
    spec, _ = registry.check("loss", LOSSES | SET_LOSSES, loss)
    assert spec is not None
    grid = {"train.lr": list(wide.rates), "train.weight_decay": list(wide.decays)}
    recipe = Recipe(train, spec, Spec("ignore"), Spec("uniform"), grid)
    device = torch.device("cpu")
    scores: dict[str, list[Array]] = {name: [] for name in SCORES}
    with torch_threads(1), torch.no_grad():
        stack = Stack(material, recipe, recipe.jobs(len(data.folds)), device, torch.float32)
        features = Features(data.features, device, torch.float32)
        learner, rngs = StackedHeads(stack, TrainingStage("", Spec("ignore")), features, data.index), stack.rngs()
        for epoch in range(1, train.epochs + 1):
            learner.train_epoch(epoch, stack.draw(rngs))
            if epoch in wide.epochs:
                of_folds = [_scores(stack, learner, fold, heads, epoch) for fold, heads in stack.by_fold()]
                for name in SCORES:
                    scores[name].append(np.stack([of_fold[name] for of_fold in of_folds]))
    cell = {name: np.stack(values) for name, values in scores.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, measured=np.array(measured), **cell)  # type: ignore[arg-type]
    print(f"{file.stem}: {time.perf_counter() - begin:.0f} s", flush=True)
    return cell


def _scores(stack: Stack, learner: StackedHeads, fold: int, heads: slice, epoch: int) -> dict[str, Array]:
    """The macro scores [P] of the heads of a fold; a head that diverged is given the scores of a constant."""
    parts = stack.data.folds[fold]
    val_labels, test_labels = (stack.data.val_labels[rows] for rows in (parts.val, parts.test))
    logits = learner.predict(heads, parts.val)
    loss = stack.objective(Spec("ignore"), heads)(logits, stack.tensors(val_labels), epoch).numpy()
    val, test = (
        np.nan_to_num(values.double().sigmoid().numpy()) for values in (logits, learner.predict(heads, parts.test))
    )
    thresholds = best_f1(val, val_labels)[:, None]
    return {
        "val_ap": np.nanmean(ranking(val, val_labels)["average_precision"], -1),
        "val_loss": np.where(np.isfinite(loss), loss, np.inf),
        "test_ap": np.nanmean(ranking(test, test_labels)["average_precision"], -1),
        "test_f1": np.nanmean(f1(test, test_labels, thresholds), -1),
    }


def _judge(cell: dict[str, Array], wide: Wide, budgets: Sequence[Budget]) -> Iterator[dict[str, object]]:
    """How far each budget stays below the best fixed setting of the wide grid."""
    mean = cell["test_ap"].mean(1)
    epoch, point = np.unravel_index(mean.argmax(), mean.shape)
    best = {name: cell[name][epoch, :, point] for name in ("test_ap", "test_f1")}
    rate, decay = divmod(int(point), len(wide.decays))
    crossed = _crossed(cell["test_ap"])
    grid = list(itertools.product(wide.rates, wide.decays))
    for budget in budgets:
        points = [n for n, (lr, wd) in enumerate(grid) if lr in budget.rates and wd in budget.decays]
        place = wide.epochs.index(budget.epochs)
        metric, scores = ("average_precision", "val_ap") if budget.by == "average precision" else ("loss", "val_loss")
        tune = {"train.lr": list(budget.rates), "train.weight_decay": list(budget.decays)}
        steps = tuning.steps(TrainConfig(), tune)
        chosen = np.array(points)[tuning.ranked(cell[scores][place][:, points], metric, steps).argmax(1)]
        reached = {name: cell[name][place, np.arange(len(chosen)), chosen] for name in best}
        lost = best["test_ap"] - reached["test_ap"]
        yield {
            **{"budget": str(budget), "epochs": budget.epochs, "settings": budget.settings},
            **{"best_lr": wide.rates[rate], "best_decay": wide.decays[decay], "best_epochs": wide.epochs[int(epoch)]},
            **{"best_ap": best["test_ap"].mean(), "best_crossed": crossed, "best_f1": best["test_f1"].mean()},
            **{"ap_shortfall": lost.mean(), "ap_shortfall_se": lost.std(ddof=1) / len(lost) ** 0.5},
            "f1_shortfall": (best["test_f1"] - reached["test_f1"]).mean(),
        }


def _crossed(scores: Array) -> float:
    """The mean of scores [E, F, P] on each half of the F hold-outs at the setting [E, P] that is best on the other."""
    halves = scores[:, ::2], scores[:, 1::2]
    means = [half.mean(1) for half in halves]
    return float(np.mean([means[1].flat[means[0].argmax()], means[0].flat[means[1].argmax()]]))


def _logistic(data: Encoded) -> dict[str, float]:
    """Mean test macro AP and tuned F1 of scikit-learn's LogisticRegression, with one C chosen on validation rows."""
    from sklearn.linear_model import LogisticRegression

    features, labels = data.features[data.index[0]], data.labels
    reached = []
    for fold in data.folds:
        shape = len(C_VALUES), labels.shape[1]
        val, test = (np.full((shape[0], len(rows), shape[1]), 0.5) for rows in (fold.val, fold.test))
        for attribute in range(labels.shape[1]):
            rows = fold.train[labels.observed[fold.train, attribute]]
            targets = labels.targets[rows, attribute]
            if len(np.unique(targets)) < 2:
                continue
            model = LogisticRegression(max_iter=1000, tol=1e-3, warm_start=True)
            for number, c in enumerate(C_VALUES):
                model.set_params(C=c).fit(features[rows], targets)
                val[number, :, attribute] = model.predict_proba(features[fold.val])[:, 1]
                test[number, :, attribute] = model.predict_proba(features[fold.test])[:, 1]
        chosen = np.nanmean(ranking(val, labels[fold.val])["average_precision"], -1).argmax()
        thresholds = best_f1(val[chosen], labels[fold.val])
        reached.append(
            [
                np.nanmean(ranking(test[chosen], labels[fold.test])["average_precision"]),
                np.nanmean(f1(test[chosen], labels[fold.test], thresholds)),
            ]
        )
    ap, tuned = np.mean(reached, axis=0)
    return {"LogisticRegression, AP": ap, "LogisticRegression, tuned F1": tuned}


def _default(wide: Wide) -> Budget:
    """The default of the shipped configs, cut to what was measured."""
    train = TrainConfig()
    rates = tuple(rate for rate in DEFAULT_GRID["train.lr"] if rate in wide.rates)
    decays = (train.weight_decay,) if train.weight_decay in wide.decays else wide.decays[:1]
    return Budget(min(train.epochs, max(wide.epochs)), rates, decays)


def _costs(frame: pd.DataFrame) -> pd.DataFrame:
    """Every budget with its cost, settings x epochs, and its shortfalls over all data sets and losses."""
    by_budget = frame.groupby("budget").agg(
        head_epochs=("epochs", "first"),
        settings=("settings", "first"),
        ap_mean=("ap_shortfall", "mean"),
        ap_largest=("ap_shortfall", "max"),
        f1_mean=("f1_shortfall", "mean"),
        f1_largest=("f1_shortfall", "max"),
    )
    by_budget["head_epochs"] *= by_budget["settings"]
    return by_budget


def _front(frame: pd.DataFrame) -> pd.DataFrame:
    """The budgets that no cheaper one equals in mean shortfall in average precision, by cost."""
    front = _costs(frame).sort_values(["head_epochs", "ap_mean"])
    return front[front["ap_mean"] < front["ap_mean"].cummin().shift(fill_value=np.inf)]


def _report(frame: pd.DataFrame, front: pd.DataFrame, references: pd.DataFrame, default: str) -> str:
    """The budgets on the front of cost and shortfall, and every data set and loss under the default one."""
    by_default = frame[frame["budget"] == default].drop(columns=["budget", "epochs", "settings"])
    by_data = by_default.groupby("data", sort=False)[["ap_shortfall", "f1_shortfall"]].mean().reset_index()
    parts = [
        "# The budget of a head",
        (__doc__ or "").strip(),
        "## Budgets that no cheaper one equals",
        markdown(_rounded(front.reset_index())),
        f"## The default: {default}",
        markdown(_rounded(_costs(frame).loc[[default]].reset_index())),
        "Means over the losses:",
        markdown(_rounded(by_data)),
        "Every data set and loss:",
        markdown(_rounded(by_default)),
        "## scikit-learn",
        markdown(_rounded(references)),
    ]
    return "\n\n".join(parts) + "\n"


def _rounded(frame: pd.DataFrame) -> list[dict[str, object]]:
    return frame.round(4).to_dict("records")


def _draw(frame: pd.DataFrame, path: Path) -> None:
    """Mean shortfall in average precision against the cost of a budget."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cost = frame["epochs"] * frame["settings"]
    means = frame.assign(cost=cost).groupby(["budget", "cost"])["ap_shortfall"].mean().reset_index()
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    axes.scatter(means["cost"], means["ap_shortfall"], s=9, alpha=0.5)
    front = means.groupby("cost")["ap_shortfall"].min().cummin()
    axes.step(front.index, front.to_numpy(), where="post", color="black", label="best at this cost")
    axes.axhline(0.005, linestyle="--", color="grey", label=".005")
    axes.set(xlabel="settings x epochs per head", ylabel="mean shortfall in macro AP", xscale="log", yscale="log")
    axes.set_title("Cost of a budget against what it loses")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)
