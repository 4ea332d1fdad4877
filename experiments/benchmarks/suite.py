"""The whole default suite on an empty store, against two yardsticks and against what the machine could do.

`plain.py` decodes and forwards every picture in every epoch of every head. It is run for real on a part and
extrapolated, to its advantage: masked_bce stands for all losses, validation and test rows are predicted once per head
instead of after every epoch, and of its start only that of the workers is charged.

`competent.py` computes features once with torch and trains the heads of the suite one after another, each with the loss
of its run, on one thread. It is run for real and as a whole, as a program of its own, in turns with the suite. To its
advantage every run samples uniformly, validation and test rows are predicted once per head, the labels are read and the
folds dealt before, and it makes no thresholds, scores, statistics, plots or tables.

    heads     = runs x folds x seeds
    plain     = heads x (epochs x T x B x seconds per training picture + scored x seconds per predicted picture)
    bound     = 1.15 x (N x V / R_encode + N / R_decode) + 1.3 x runs x epochs x T x floor step + 10 s

with T = ceil(largest training split / B) steps per epoch, `scored` the mean number of validation and test rows of a
fold, the floor step that of `step` for folds x seeds heads, and the raw rates those of `encode`. The suite is the
command that a user types; it and the competent script are timed from outside, and of each the best run counts. All else
is the best of five, in turns. Weights are those that timm begins with: the same speed.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.config import loader
from aimonk_bench.config.fields import Config, TrainConfig
from aimonk_bench.data import splits, synthetic, transforms
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.label_file import LabelFile
from aimonk_bench.data.splits import Fold
from aimonk_bench.records.environment import cores
from aimonk_bench.suite.plan import Plan, plan_suite
from aimonk_bench.tables import TABLES
from experiments.benchmarks import competent, encode, plain, step
from experiments.benchmarks.encode import Halves
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, write

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "configs" / "suites" / "comparison.yaml"
DATA = ROOT / ".data" / "aimonk"
BACKBONES = ("resnet18", "tf_efficientnet_lite0")
QUICK = ["transform.size=32", "train.epochs=2", "train.seeds=2", "split.folds=2"]


@dataclass(frozen=True)
class Part:
    """How much of it is run for real.

    Attributes:
        rates: pictures for the raw rates.
        batches: of the plain script.
        predicted: pictures predicted by the plain script.
        repeats: of each, after one that does not count.
        suites: on an empty store, whole, and as many competent scripts.
        workers: that decode for the scripts.
    """

    rates: int = 256
    batches: int = 12
    predicted: int = 64
    repeats: int = 5
    suites: int = 3
    workers: int = field(default_factory=cores)


@dataclass(frozen=True, eq=False)
class Work:
    """What a planned suite consists of; pictures that cannot be found are left out."""

    plan: Plan

    @property
    def config(self) -> Config:
        return self.plan.baseline.config

    @cached_property
    def pictures(self) -> list[ImageFile]:
        return [picture for picture in self.plan.dataset.images if picture is not None]

    @cached_property
    def listed(self) -> LabelFile:
        return self.plan.dataset.listed.subset(
            [row for row, picture in enumerate(self.plan.dataset.images) if picture is not None]
        )

    @cached_property
    def folds(self) -> list[Fold]:
        groups = splits.components([picture.sha256 for picture in self.pictures], self.listed.groups)
        return splits.split(self.config.split, self.listed.labels, groups)

    @cached_property
    def views(self) -> transforms.Views:
        return transforms.views(self.config.transform)

    @property
    def seeds(self) -> int:
        return len(self.config.train.seeds)

    @property
    def heads(self) -> int:
        return len(self.plan.runs) * len(self.folds) * self.seeds

    @property
    def steps(self) -> int:
        """T."""
        return -(-max(len(fold.train) for fold in self.folds) // self.config.train.batch_size)

    @property
    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each fold the training rows, and those to be scored."""
        return [(fold.train, np.concatenate([fold.val, fold.test])) for fold in self.folds]

    @property
    def scored(self) -> float:
        return float(np.mean([len(rows) for _, rows in self.parts]))

    @property
    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """Targets, 0 where not observed, and what is observed: float32 [N, A]."""
        observed = self.listed.labels.observed.astype(np.float32)
        return self.listed.labels.targets * observed, observed

    @property
    def features(self) -> int:
        """D.

        Raises:
            ValueError: the catalog does not know it.
        """
        weights = self.plan.baseline.encoder.weights
        if weights.entry.features is None:
            raise ValueError(f"{weights.name}: the catalog does not know its number of features")
        return weights.entry.features

    def plain_seconds(self, train: float, predict: float) -> float:
        """The plain script as a whole, of its seconds per picture in training and in prediction."""
        settings = self.config.train
        return self.heads * (settings.epochs * self.steps * settings.batch_size * train + self.scored * predict)

    def bound(self, rates: Halves, floor: float) -> float:
        """Seconds that the suite may take, of the raw rates and the seconds of the floor of a step."""
        encoding = len(self.pictures) / rates.limit(len(self.views.keys))
        return 1.15 * encoding + 1.3 * len(self.plan.runs) * self.config.train.epochs * self.steps * floor + 10


def pictures_of(work: Work) -> plain.Pictures:
    """The pictures as the scripts read them."""
    encoder = work.plan.baseline.encoder
    entry = encoder.weights.entry
    return plain.Pictures([picture.path for picture in work.pictures], encoder.size, entry.mean, entry.std)


def plain_cases(work: Work, part: Part) -> dict[str, Callable[[], object]]:
    """The plain script on a part of the work."""
    settings, entry = work.config.train, work.plan.baseline.encoder.weights.entry
    network = timm.create_model(entry.timm, pretrained=False, num_classes=0).requires_grad_(False)
    pictures = pictures_of(work)
    targets, observed = map(torch.from_numpy, work.known)
    training, scored = work.parts[0]
    batches = list(plain.epochs_of(training, settings.batch_size, settings.epochs, np.random.default_rng(0)))

    def head() -> nn.Linear:
        return nn.Linear(work.features, targets.shape[1])

    return {
        "training": lambda: plain.train(
            network, head(), pictures, targets, observed, batches[: part.batches], settings.lr, part.workers
        ),
        "predicting": lambda: plain.predict(
            network, head(), pictures, scored[: part.predicted], settings.batch_size, part.workers
        ),
    }


def competent_job(work: Work, workers: int) -> competent.Job:
    """All that the suite trains.

    Raises:
        ValueError: a run has options that the script does not know.
    """
    settings, (targets, observed) = work.config.train, work.known
    options = {key: getattr(settings, key) for key in ("seeds", "epochs", "batch_size", "lr")}
    for run in work.plan.runs:
        usual = TrainConfig(**options), "ignore", run.config.loss.name
        if (run.config.train, run.columns["missing"], run.columns["loss"]) != usual:
            raise ValueError(f"{run.name}: the competent script knows only the default options")
    return competent.Job(
        backbone=work.plan.baseline.encoder.weights.entry.timm,
        pictures=pictures_of(work),
        targets=targets,
        observed=observed,
        folds=work.parts,
        losses=[run.config.loss.name for run in work.plan.runs],
        workers=workers,
        **options,
    )


def as_a_whole(job: competent.Job, place: Path) -> dict[str, float]:
    """The wall seconds of the competent script ("wall"), and those of its two parts; ``place`` exists."""
    begin = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.competent", str(place / "probabilities.npz")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        input=pickle.dumps(job),
        stdout=subprocess.PIPE,
        check=True,
    )
    return {"wall": time.perf_counter() - begin, **json.loads(ended.stdout)}


def product(overrides: list[str], place: Path) -> tuple[float, dict[str, float]]:
    """The suite's wall seconds on an empty store, and what it says that they went into; ``place`` does not exist."""
    sets = [argument for override in overrides for argument in ("--set", override)]
    command = [sys.executable, "-m", "aimonk_bench", "suite", str(SUITE), *sets, "--out", str(place / "suite")]
    begin = time.perf_counter()
    subprocess.run(
        [*command, "--quiet"],
        cwd=ROOT,
        env={**os.environ, "AIMONK_BENCH_CACHE": str(place / "store")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - begin, itemised(place / "suite")


def itemised(folder: Path) -> dict[str, float]:
    """Seconds by kind, as the finished suite recorded them."""
    return dict(json.loads((folder / "seconds.json").read_text("utf-8")))


def measured(overrides: list[str], part: Part) -> tuple[list[Row], Row, Row]:
    """What was found against its targets, its parts, and the suite's own account."""
    work = Work(plan_suite(loader.load_suite(SUITE, TABLES, overrides)))
    encoder, config, job = work.plan.baseline.encoder, work.config, competent_job(work, part.workers)
    with tempfile.TemporaryDirectory() as folder:
        suites, scripts = [], []
        for number in range(part.suites):
            suites.append(product(overrides, Path(folder, str(number))))
            scripts.append(as_a_whole(job, Path(folder)))
        some = work.pictures[: part.rates]
        raw = encode.cases(some, work.views, config.transform, encoder, FeatureStore(Path(folder, "rates")))
        del raw["pipeline"]
        seconds = interleaved({**raw, **plain_cases(work, part)}, part.repeats)
    wall, own = min(suites, key=lambda run: run[0])
    script = min(scripts, key=lambda run: run["wall"])
    rates = encode.halves(seconds, len(some), len(work.views.keys), encoder.batch)
    floor = step.bare_seconds(len(work.folds), work.seeds, work.features)
    per_picture = seconds["training"] / (part.batches * config.train.batch_size)
    per_prediction = seconds["predicting"] / min(part.predicted, int(work.scored))
    parts = {
        "backbone": encoder.weights.name,
        "R_decode /s": rates.decode,
        "R_encode /s": rates.encode,
        f"floor step of {len(work.folds) * work.seeds} heads, us": floor * 1e6,
        "plain, ms per training picture": per_picture * 1e3,
        "plain, ms per predicted picture": per_prediction * 1e3,
        "competent, s starting": script["wall"] - script["encode"] - script["train"],
        "competent, s encoding": script["encode"],
        "competent, s training": script["train"],
        "heads": work.heads,
        "epochs": config.train.epochs,
        "T": work.steps,
        "B": config.train.batch_size,
        "N": len(work.pictures),
        "V": len(work.views.keys),
    }
    found = compared(
        wall,
        own["train"],
        work.bound(rates, floor),
        work.plain_seconds(per_picture, per_prediction),
        script["wall"],
        script["train"],
    )
    name = {"backbone": encoder.weights.name}
    return [{**name, **row} for row in found], parts, {**name, "wall": wall, **own}


def compared(
    wall: float, train: float, bound: float, plain_seconds: float, competent_seconds: float, training: float
) -> list[Row]:
    """Ratios beside their targets, all of seconds: of the suite, its training, the bound, both scripts, its heads."""

    def row(what: str, ours: float, theirs: float, ratio: float, target: float, most: bool) -> Row:
        met = ratio <= target if most else ratio >= target
        wanted = f"{'<=' if most else '>='} {target:g}"
        return {"what": what, "ours s": ours, "other s": theirs, "ratio": ratio, "target": wanted, "met": met}

    return [
        row("suite / bound", wall, bound, wall / bound, 1, True),
        row("plain script / suite", wall, plain_seconds, plain_seconds / wall, 1000, False),
        row("competent script / suite", wall, competent_seconds, competent_seconds / wall, 3, False),
        row("competent training / training", train, training, training / train, 8, False),
    ]


def main(out: Path, labels: Path | None = None, images: Path | None = None, quick: bool = False) -> None:
    """Write suite.json, suite.md and suite.png; the data set is the Aimonk one, if not named or ``quick``."""
    conditions = Conditions.now()
    part = Part(rates=16, batches=2, predicted=16, repeats=1, suites=1) if quick else Part()
    found, parts, accounts = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        data = DATA
        if quick:
            data = Path(folder, "data")
            synthetic.write(data, images=80, size=32, prevalences=(0.8, 0.7, 0.5, 0.3))
        overrides = [
            f"data.labels={labels or data / 'labels.txt'}",
            f"data.images={images or data / 'images'}",
            "data.on_bad_image=skip",
            "backbone.weights=none",
            *(QUICK if quick else []),
        ]
        for backbone in BACKBONES:
            rows, rates, account = measured([*overrides, f"backbone.name={backbone}"], part)
            found, parts, accounts = [*found, *rows], [*parts, rates], [*accounts, account]
    flipped = [{"": key, **{own["backbone"]: own[key] for own in parts}} for key in list(parts[0])[1:]]
    seconds = [{"": key, **{own["backbone"]: own[key] for own in accounts}} for key in list(accounts[0])[1:]]
    tables = {"Against the targets": found, "What it is made of": flipped, "The suite's own account, seconds": seconds}
    write(out, "suite", __doc__ or "", tables, conditions)
    draw(out / "suite.png", found, accounts)


def draw(path: Path, found: list[Row], accounts: list[Row]) -> None:
    """One panel per backbone on a logarithmic scale, and the suite's own account of its seconds."""
    panels = []
    for account in accounts:
        rows = {row["what"]: row for row in found if row["backbone"] == account["backbone"]}
        values = {
            "plain script (extrapolated)": rows["plain script / suite"]["other s"],
            "competent script": rows["competent script / suite"]["other s"],
            "bound": rows["suite / bound"]["other s"],
            "aimonk-bench suite": account["wall"],
        }
        panels.append(Panel(f"{account['backbone']}: the whole suite", "seconds, logarithmic", values, log=True))
        own = {key: value for key, value in account.items() if key not in ("backbone", "wall", "total")}
        panels.append(Panel(f"{account['backbone']}: where the suite's seconds go", "seconds", own))
    bars(path, "The default suite against a plain script, a competent script and the machine", panels)
