"""The default suite as a whole, on an empty store: against two scripts and against the encoding limit of the machine.

`plain.py` decodes and encodes every image in every epoch of every head. A part of it is run, and the rest extrapolated
in its favour: masked_bce stands for all losses, validation and test rows are predicted once per head instead of after
every epoch, and only the start of the workers is charged.

The suite is run with one setting for each head, 10 epochs and batches of 16 images (`BUDGET`), because the scripts
train one head after another.

`competent.py` computes the features once with torch and trains the heads of the suite one after another on one thread,
each with the loss of its run. It is run as a whole, as a program of its own, in turns with the suite. In its favour
every run samples uniformly, validation and test rows are predicted once per head, labels and folds are prepared before,
and it makes no thresholds, scores, statistics, plots or tables.

    heads     = runs x folds x seeds
    plain     = heads x (epochs x T x B x seconds per training image + scored x seconds per predicted image)
    limit     = N x V / R_encode + N / R_decode

T = ceil(largest training split / B) steps per epoch; `scored` is the mean number of validation and test rows of a fold;
the rates are those of `encode`. The suite is the command that a user types. Suite and competent script are timed from
outside, and the best run of each counts; everything else is the best of five, in turns. The weights are timm's
initialisation, which does not change the speed.
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
from aimonk_bench.data import image_files, label_file, splits, synthetic, transforms
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.data.splits import Fold
from aimonk_bench.records.environment import cores
from aimonk_bench.suite.plan import Plan, plan_suite
from aimonk_bench.tables import TABLES
from experiments.benchmarks import competent, encode, plain
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, write

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "configs" / "suites" / "comparison.yaml"
DATA = ROOT / ".data" / "aimonk"
BACKBONES = ("resnet18", "tf_efficientnet_lite0")
# one setting of each head, few epochs: the scripts train the heads one after another
BUDGET = ["tune={}", "train.weight_decay=0", "train.batch_size=16", "train.epochs=10", "train.averaging=none"]
QUICK = ["transform.size=32", "train.epochs=2", "train.seeds=2", "split.folds=2"]


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Attributes:
        rates: images for the rates of decoding and of encoding.
        batches: training batches of the plain script.
        predicted: images that the plain script predicts.
        repeats: of each case, after one that does not count.
        suites: runs of the suite and of the competent script.
        workers: processes that decode for the scripts.
    """

    rates: int = 256
    batches: int = 12
    predicted: int = 64
    repeats: int = 5
    suites: int = 3
    workers: int = field(default_factory=cores)


@dataclass(frozen=True, eq=False)
class Work:
    """The work of a planned suite, for the scripts; images without a file are left out."""

    plan: Plan

    @property
    def config(self) -> Config:
        return self.plan.baseline.config

    @cached_property
    def images(self) -> list[ImageFile]:
        return [image for image in self._files if image is not None]

    @cached_property
    def label_file(self) -> LabelFile:
        return self._listed.subset([row for row, image in enumerate(self._files) if image is not None])

    @cached_property
    def _listed(self) -> LabelFile:
        return label_file.load(self.config.data)

    @cached_property
    def _files(self) -> list[ImageFile | None]:
        return image_files.locate(self._listed, self.config.data.images, "skip")[0]

    @cached_property
    def folds(self) -> list[Fold]:
        groups = splits.components([image.sha256 for image in self.images], self.label_file.groups)
        return splits.split(self.config.split, self.label_file.labels, groups)

    @cached_property
    def views(self) -> transforms.Views:
        return transforms.views(self.config.transform)

    @property
    def heads(self) -> int:
        return len(self.plan.runs) * len(self.folds) * len(self.config.train.seeds)

    @property
    def steps(self) -> int:
        """T."""
        return -(-max(len(fold.train) for fold in self.folds) // self.config.train.batch_size)

    @property
    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each fold the training rows, and the rows to score."""
        return [(fold.train, np.concatenate([fold.val, fold.test])) for fold in self.folds]

    @property
    def scored(self) -> float:
        return float(np.mean([len(rows) for _, rows in self.parts]))

    @property
    def targets_and_observed(self) -> tuple[np.ndarray, np.ndarray]:
        """Targets, 0 where not observed, and the mask: float32 [N, A]."""
        observed = self.label_file.labels.observed.astype(np.float32)
        return self.label_file.labels.targets * observed, observed

    @property
    def features(self) -> int:
        """D."""
        features = self.plan.baseline.encoder.weights.entry.features
        assert features is not None  # both backbones are of the catalog
        return features

    def plain_seconds(self, train: float, predict: float) -> float:
        """Seconds of the plain script as a whole, from its seconds per image in training and in prediction."""
        settings = self.config.train
        return self.heads * (settings.epochs * self.steps * settings.batch_size * train + self.scored * predict)


def script_images(work: Work) -> plain.Images:
    """The images as the scripts read them."""
    encoder = work.plan.baseline.encoder
    entry = encoder.weights.entry
    return plain.Images([image.path for image in work.images], encoder.size, entry.mean, entry.std)


def plain_cases(work: Work, sizes: Sizes) -> dict[str, Callable[[], object]]:
    """The plain script on a part of the work."""
    settings, entry = work.config.train, work.plan.baseline.encoder.weights.entry
    network = timm.create_model(entry.timm, pretrained=False, num_classes=0).requires_grad_(False)
    images = script_images(work)
    targets, observed = map(torch.from_numpy, work.targets_and_observed)
    training, scored = work.parts[0]
    batches = list(plain.epochs_of(training, settings.batch_size, settings.epochs, np.random.default_rng(0)))

    def head() -> nn.Linear:
        return nn.Linear(work.features, targets.shape[1])

    return {
        "training": lambda: plain.train(
            network, head(), images, targets, observed, batches[: sizes.batches], settings.lr, sizes.workers
        ),
        "predicting": lambda: plain.predict(
            network, head(), images, scored[: sizes.predicted], settings.batch_size, sizes.workers
        ),
    }


def competent_job(work: Work, workers: int) -> competent.Job:
    """The heads of the suite.

    Raises:
        ValueError: a run has options that the script does not support.
    """
    settings, (targets, observed) = work.config.train, work.targets_and_observed
    options = {key: getattr(settings, key) for key in ("seeds", "epochs", "batch_size", "lr")}
    for run in work.plan.runs:
        supported = TrainConfig(**options, weight_decay=0.0, averaging="none"), "ignore", run.config.loss.name
        if (run.config.train, run.columns["missing"], run.columns["loss"]) != supported:
            raise ValueError(f"{run.name}: the competent script supports the default options only")
    return competent.Job(
        backbone=work.plan.baseline.encoder.weights.entry.timm,
        images=script_images(work),
        targets=targets,
        observed=observed,
        folds=work.parts,
        losses=[run.config.loss.name for run in work.plan.runs],
        workers=workers,
        **options,
    )


def run_competent(job: competent.Job, folder: Path) -> dict[str, float]:
    """Seconds of the competent script as a whole ("wall"), and of encoding and training; ``folder`` exists."""
    begin = time.perf_counter()
    completed = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.competent", str(folder / "probabilities.npz")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        input=pickle.dumps(job),
        stdout=subprocess.PIPE,
        check=True,
    )
    return {"wall": time.perf_counter() - begin, **json.loads(completed.stdout)}


def run_suite(overrides: list[str], folder: Path) -> dict[str, float]:
    """Seconds of the suite on an empty store ("wall"), and its own account of them; ``folder`` does not exist."""
    sets = [argument for override in overrides for argument in ("--set", override)]
    command = [sys.executable, "-m", "aimonk_bench", "suite", str(SUITE), *sets, "--out", str(folder / "suite")]
    begin = time.perf_counter()
    subprocess.run(
        [*command, "--quiet"],
        cwd=ROOT,
        env={**os.environ, "AIMONK_BENCH_CACHE": str(folder / "store")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    wall = time.perf_counter() - begin
    return {"wall": wall, **json.loads((folder / "suite" / "seconds.json").read_text("utf-8"))}


def measured(overrides: list[str], sizes: Sizes) -> tuple[list[Row], Row, Row]:
    """The comparison, its parts, and the suite's own account of its seconds."""
    work = Work(plan_suite(loader.load_suite(SUITE, TABLES, overrides)))
    encoder, config, job = work.plan.baseline.encoder, work.config, competent_job(work, sizes.workers)
    with tempfile.TemporaryDirectory() as folder:
        suites, scripts = [], []
        for number in range(sizes.suites):
            suites.append(run_suite(overrides, Path(folder, str(number))))
            scripts.append(run_competent(job, Path(folder)))
        sample = work.images[: sizes.rates]
        cases = encode.cases(sample, work.views, config.transform, encoder, FeatureStore(Path(folder, "rates")))
        del cases["pipeline"]
        seconds = interleaved({**cases, **plain_cases(work, sizes)}, sizes.repeats)
    suite, script = (min(runs, key=lambda run: run["wall"]) for runs in (suites, scripts))
    rates = encode.rates_of(seconds, len(sample), len(work.views.keys), encoder.batch_size)
    per_training_image = seconds["training"] / (sizes.batches * config.train.batch_size)
    per_predicted_image = seconds["predicting"] / min(sizes.predicted, int(work.scored))
    parts = {
        "backbone": encoder.weights.name,
        "R_decode /s": rates.decode,
        "R_encode /s": rates.encode,
        "plain, ms per training image": per_training_image * 1e3,
        "plain, ms per predicted image": per_predicted_image * 1e3,
        "competent, s starting": script["wall"] - script["encode"] - script["train"],
        "competent, s encoding": script["encode"],
        "competent, s training": script["train"],
        "heads": work.heads,
        "epochs": config.train.epochs,
        "T": work.steps,
        "B": config.train.batch_size,
        "N": len(work.images),
        "V": len(work.views.keys),
    }
    name = {"backbone": encoder.weights.name}
    plain_wall = work.plain_seconds(per_training_image, per_predicted_image)
    limit = len(work.images) / rates.limit(len(work.views.keys))
    return [{**name, **row} for row in compared(suite, script, plain_wall, limit)], parts, {**name, **suite}


def compared(suite: dict[str, float], script: dict[str, float], plain_wall: float, limit: float) -> list[Row]:
    """Ratios of seconds: the suite to the encoding limit, both scripts to the suite, and training to training."""
    pairs = {
        "suite / encoding limit": (suite["wall"], limit, suite["wall"] / limit),
        "plain script / suite": (suite["wall"], plain_wall, plain_wall / suite["wall"]),
        "competent script / suite": (suite["wall"], script["wall"], script["wall"] / suite["wall"]),
        "competent training / training": (suite["train"], script["train"], script["train"] / suite["train"]),
    }
    return [{"what": what, "ours s": a, "other s": b, "ratio": ratio} for what, (a, b, ratio) in pairs.items()]


def main(out: Path, labels: Path | None = None, images: Path | None = None, quick: bool = False) -> None:
    """Write suite.json, suite.md and suite.png; by default for the Aimonk data set."""
    conditions = Conditions.now()
    sizes = Sizes(rates=16, batches=2, predicted=16, repeats=1, suites=1) if quick else Sizes()
    comparison, parts, accounts = [], [], []
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
            *BUDGET,
            *(QUICK if quick else []),
        ]
        for backbone in BACKBONES:
            rows, part, account = measured([*overrides, f"backbone.name={backbone}"], sizes)
            comparison, parts, accounts = [*comparison, *rows], [*parts, part], [*accounts, account]
    tables = {
        "Against scripts and the machine": comparison,
        "Parts": transposed(parts),
        "The suite's own account, seconds": transposed(accounts),
    }
    write(out, "suite", __doc__ or "", tables, conditions)
    draw(out / "suite.png", tables)


def transposed(rows: list[Row]) -> list[Row]:
    """A row per key, a column per backbone."""
    return [{"": key, **{row["backbone"]: row[key] for row in rows}} for key in list(rows[0])[1:]]


def draw(path: Path, tables: dict[str, list[Row]]) -> None:
    """Of each backbone the whole suite beside its rivals, and its own account of its seconds."""
    comparison, _, accounts = tables.values()
    panels = []
    for backbone in BACKBONES:
        rows = {row["what"]: row for row in comparison if row["backbone"] == backbone}
        values = {
            "plain script (extrapolated)": rows["plain script / suite"]["other s"],
            "competent script": rows["competent script / suite"]["other s"],
            "aimonk-bench suite": rows["competent script / suite"]["ours s"],
            "encoding limit": rows["suite / encoding limit"]["other s"],
        }
        panels.append(Panel(f"{backbone}: the whole suite", "seconds, logarithmic", values, log=True))
        account = {row[""]: row[backbone] for row in accounts if row[""] not in ("wall", "total")}
        panels.append(Panel(f"{backbone}: the seconds of the suite", "seconds", account))
    bars(path, "The default suite against a plain script, a competent script and the machine", panels)
