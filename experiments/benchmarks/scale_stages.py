"""The stages of a suite on made-up data, each measured in a process of its own.

``python -m experiments.benchmarks.scale_stages STAGE ROWS ATTRIBUTES FOLDER`` measures one and prints JSON.

A stage is ``(case) -> work``: the function makes its inputs, the work is what is measured. The stages of `CHAIN` read
what the earlier ones wrote into the folder of the case.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from aimonk_bench.config.fields import DataConfig, TrainConfig, TransformConfig
from aimonk_bench.config.split_fields import KFold
from aimonk_bench.data import image_files, label_file, splits
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.data.near_duplicates import Hashes
from aimonk_bench.data.splits import Fold
from aimonk_bench.evaluation import scores, thresholds
from aimonk_bench.evaluation.association import before_training
from aimonk_bench.evaluation.duplicates import near_duplicates, tested_part
from aimonk_bench.evaluation.missing_dependence import missing_dependence
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.records import files, run, suite
from aimonk_bench.records.weights import HeadWeights, write_heads
from aimonk_bench.registry import Spec
from aimonk_bench.report.build import build
from aimonk_bench.reporting import markup, summary, table
from aimonk_bench.reporting.view import View
from aimonk_bench.suite import summaries

Work = Callable[[], object]

SEEDS, FOLDS = 3, 5
MISSING, SIGNAL = 0.2, 0.75
BATCH, EPOCHS = 1024, 2
IMAGE_BYTES = 100_000
LIMIT = 24 << 30  # bytes of memory, beyond which a stage fails
VALIDATION = 8  # every eighth row that is not tested, about the default share of 0.15
DUPLICATES = 50  # every 50th image is a copy of the one before
NAMES = ("masked_bce + uniform", "focal + uniform")
FEATURES = 512
POLICY = Spec("per_attribute_f1")
CONFIG = "name: scale\nthreshold: {name: per_attribute_f1}\n"
ENVIRONMENT = {
    "engine": "onnxruntime",
    "weights": {"name": "resnet18", "requested": "resnet18", "source": "none", "file": None, "sha256": None}
    | {"licence": "none", "non_commercial": False},
    "cost": {"parameters": 11_176_512, "macs": 1_814_073_344, "images_per_second": None},
}


@dataclass(frozen=True)
class Case:
    """The size of a data set, and the folder that holds its files.

    Attributes:
        rows: N images.
        attributes: A.
    """

    rows: int
    attributes: int
    folder: Path

    @property
    def names(self) -> list[str]:
        """[A] names of the attributes."""
        return [f"attr{number}" for number in range(1, self.attributes + 1)]

    @property
    def ids(self) -> np.ndarray:
        """[N] names of the images."""
        return np.char.add(np.char.zfill(np.arange(self.rows).astype("U9"), 9), ".jpg")

    def labels(self) -> Labels:
        """[N, A], of which a fifth is missing; prevalences from 0.5 down to 0.01."""
        rng = np.random.default_rng(0)
        prevalence = np.geomspace(0.5, 0.01, self.attributes, dtype=np.float32)
        targets = rng.random((self.rows, self.attributes), np.float32) < prevalence
        return Labels.of(targets, rng.random(targets.shape, np.float32) >= MISSING, self.names)

    def groups(self) -> np.ndarray:
        """[N] numbers of the duplicate groups."""
        rows = np.arange(self.rows)
        return rows - (rows % DUPLICATES == 1)

    def folds(self) -> list[Fold]:
        """F folds that cut no group."""
        home = self.groups() % FOLDS
        folds = []
        for number in range(FOLDS):
            rest = np.flatnonzero(home != number)
            validation = self.groups()[rest] // FOLDS % VALIDATION == 0
            folds.append(Fold(rest[~validation], rest[validation], np.flatnonzero(home == number)))
        return folds

    def listed(self) -> LabelFile:
        """The label file as `label_file.load` reads it."""
        ids = tuple(self.ids.tolist())
        return LabelFile(self.folder / "labels.txt", ids, ids, self.labels(), None, np.arange(self.rows) + 1, ())

    def features(self) -> np.ndarray:
        """[N, D] float32 of noise, in which every attribute has a direction."""
        rng, labels = np.random.default_rng(1), self.labels()
        features = rng.standard_normal((self.rows, FEATURES), np.float32)
        directions = 0.1 * rng.standard_normal((self.attributes, FEATURES), np.float32)
        for start in range(0, self.rows, 50_000):
            features[start : start + 50_000] += labels.targets[start : start + 50_000].astype(np.float32) @ directions
        return features


def parsing(case: Case) -> Work:
    """`label_file.load` of a ``labels_txt``."""
    labels, path = case.labels(), case.folder / "labels.txt"
    tokens = np.array(["0", "1", "NA"])[np.where(labels.observed, labels.targets, 2)]
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{name} {' '.join(row)}\n" for name, row in zip(case.ids.tolist(), tokens, strict=True))
    del tokens, labels
    return lambda: label_file.load(DataConfig(labels=path, images=case.folder))


def hashing(case: Case) -> Work:
    """`image_files.locate` of files of 100 kB, and the fingerprint."""
    images = case.folder / "hashed"
    images.mkdir(exist_ok=True)
    content = np.random.default_rng(1).bytes(IMAGE_BYTES)
    for name in case.ids.tolist():
        (images / name).write_bytes(content + name.encode())
    listed = case.listed()
    return lambda: image_files.fingerprint(listed, image_files.locate(listed, images, "error")[0])


def fingerprint(case: Case) -> Work:
    """`image_files.fingerprint` of hashes that are there."""
    listed = case.listed()
    images = [image_files.ImageFile(name, Path(name), f"{row:064x}", row) for row, name in enumerate(listed.ids)]
    return lambda: image_files.fingerprint(listed, images)


def splitting(case: Case) -> Work:
    """Duplicate groups and folds."""
    labels, hashes = case.labels(), [f"{group:064x}" for group in case.groups().tolist()]
    return lambda: splits.split(KFold(folds=FOLDS), labels, splits.components(hashes))


def near(case: Case) -> Work:
    """Near duplicates among random perceptual hashes."""
    rng = np.random.default_rng(2)
    hashes = Hashes(rng.integers(0, 1 << 63, case.rows, np.uint64), np.ones(case.rows, bool))
    labels, part = case.labels(), tested_part(case.folds(), case.rows)
    return lambda: near_duplicates(hashes, np.arange(case.rows), part, labels)


def encoding(case: Case) -> Work:
    """`FeatureStore.features` of ResNet18 on JPEGs of 480 x 360, with an empty store."""
    from aimonk_bench.backbones.features import FeatureStore
    from aimonk_bench.data import transforms
    from experiments.benchmarks import encode

    images = encode.make(case.folder / "images", encode.Size(480, 360, case.rows))
    transform = TransformConfig(train=[])
    spec, store = encode.spec_of("resnet18", "none", transform), FeatureStore(case.folder / "store")
    store.features(images[: spec.batch_size], transforms.UNAUGMENTED, transform, spec)  # exports the network
    encode.emptied(store, spec)
    return lambda: store.features(images, transforms.UNAUGMENTED, transform, spec)


def association(case: Case) -> Work:
    """`before_training`."""
    features, labels, groups = case.features(), case.labels(), case.groups()
    return lambda: before_training(features, labels, groups, seed=0)


def dependence(case: Case) -> Work:
    """`missing_dependence` on labels alone, as a run records it."""
    labels, groups = case.labels(), case.groups()
    return lambda: missing_dependence(labels, groups, sizes={}, traits={}, features=None, seed=0)


def training(case: Case) -> Work:
    """Heads of all seeds and folds on stored features, and their validation."""
    from aimonk_bench.training.heads_trainer import train_heads
    from aimonk_bench.training.recipe import Recipe, TrainingData
    from experiments.benchmarks.rows import write_store

    path = case.folder / "rows.bin"
    write_store(path, case.rows)
    features = np.memmap(path, np.float16, "r", shape=(case.rows, FEATURES))
    labels, index = case.labels(), np.arange(case.rows)[None]
    config = TrainConfig(seeds=list(range(SEEDS)), batch_size=BATCH, epochs=EPOCHS)
    data = TrainingData(labels, labels, case.folds(), np.ones(1))
    recipe = Recipe(config, Spec("masked_bce"), Spec("ignore"), Spec("uniform"))
    return lambda: train_heads(features, index, data, recipe)


def made(case: Case, number: int) -> Predictions:
    """The predictions of one of the runs."""
    labels, folds = case.labels(), case.folds()
    parts = [(fold, part, getattr(rows, part)) for fold, rows in enumerate(folds) for part in ("val", "test")]
    rows, sizes = np.concatenate([part for *_, part in parts]), [len(part) for *_, part in parts]
    of_rows, rng = labels[rows], np.random.default_rng(number)
    logits = rng.standard_normal((SEEDS, *of_rows.shape), np.float32)
    for of_seed in logits:
        of_seed += np.float32(SIGNAL + number / 10) * (2 * of_rows.targets - 1)
    counts = [labels[fold.train].counts() for fold in folds]
    return Predictions(
        logits=logits,
        labels=of_rows,
        split=np.repeat([part for _, part, _ in parts], sizes),
        fold=np.repeat(np.array([fold for fold, *_ in parts], np.int16), sizes),
        group=case.groups()[rows].astype(np.int32),
        image_id=case.ids[rows],
        seed=np.arange(SEEDS),
        train_positive=np.stack([positive for positive, _ in counts]).astype(np.int32),
        train_observed=np.stack([positive + negative for positive, negative in counts]).astype(np.int32),
    )


def suite_folder(case: Case) -> Path:
    """The folder of the suite."""
    return case.folder / "suite"


def run_folders(case: Case) -> list[Path]:
    """The folders of its runs."""
    return sorted((suite_folder(case) / suite.RUNS).iterdir())


def predictions(case: Case) -> Work:
    """Writing ``predictions.npz`` of all runs; the other files of a run are written beside it."""
    parts = [tuple(name.split(" + ")) for name in NAMES]
    ids = ["-".join(name) for name in parts]
    suite.write(suite_folder(case), suite.SuiteRecord("scale", "0" * 64, ids[0], tuple(ids), tuple(parts)))
    folders = [suite_folder(case) / suite.RUNS / run_id for run_id in ids]
    data = {"n_listed": case.rows, "n_used": case.rows, "skipped": []}
    data["folds"] = [{part: len(getattr(fold, part)) for part in ("train", "val", "test")} for fold in case.folds()]
    weight = np.zeros((SEEDS, FOLDS, case.attributes, 2), np.float32)
    steps = np.arange(1, 101)
    history = {"seed": 0, "fold": 0, "iteration_number": steps, "epoch": steps, "training_loss": 1 / steps}
    for folder in folders:
        run.begin(folder, CONFIG)
        files.write_json(folder / run.ENVIRONMENT, ENVIRONMENT)
        files.write_json(folder / run.DATA, data)
        write_heads(folder, HeadWeights(weight, weight[..., 0]))
        files.write_csv(folder / run.HISTORY, frame(history))

    def work() -> None:
        for number, folder in enumerate(folders):
            made(case, number).save(folder / run.PREDICTIONS)

    return work


def frame(columns: dict[str, Any]) -> Any:
    """The columns as a pandas table."""
    import pandas as pd

    return pd.DataFrame(columns)


def tuning(case: Case) -> Work:
    """Thresholds of all runs, tuned on the validation rows."""

    def work() -> None:
        for folder in run_folders(case):
            tuned = thresholds.tune(Predictions.load(folder / run.PREDICTIONS), POLICY)
            files.write_json(folder / run.THRESHOLDS, tuned.to_json())

    return work


def scoring(case: Case) -> Work:
    """Figures, intervals and calibration of all runs."""
    folders = run_folders(case)

    def work() -> None:
        for folder in folders:
            loaded = Predictions.load(folder / run.PREDICTIONS)
            tuned = files.read_as(thresholds.Thresholds, folder / run.THRESHOLDS)
            scored = scores.score(loaded, tuned, POLICY)
            files.write_json(folder / run.METRICS, scored.to_json())
            files.write_csv(folder / run.RELIABILITY, scores.reliability(loaded, "none"))
            loss, sampler = folder.name.split("-")
            columns = {"backbone": "resnet18", "weights": "none", "loss": loss, "missing": "ignore", "sampler": sampler}
            status = run.Status(
                id=folder.name,
                state="done",
                seconds={"encode": 0.0, "train": 0.0, "score": 0.0},
                reason=None,
                name=(loss, sampler),
                columns=columns,
                complexity=run.Complexity(trained=0, trainings=1, features=FEATURES, departures=loss != "masked_bce"),
                revision=run.REVISION,
            )
            run.end(folder, status)

    return work


def statistics(case: Case) -> Work:
    """``statistics.json``, ``summary.csv`` and ``summary.md`` of the suite."""
    folder = suite_folder(case)
    (folder / suite.STATISTICS).unlink(missing_ok=True)
    return lambda: summaries.write(suite.collect(folder))


def table_stage(case: Case) -> Work:
    """The table on a terminal, from the files that are there."""

    def work() -> None:
        summarized = summary.summarize(suite.collect(suite_folder(case)))
        with (case.folder / "table.txt").open("w", encoding="utf-8") as file:
            table.render(summarized, Console(file=file, width=200))
            file.write(markup.markdown(summarized, View(explain=True)))

    return work


def report(case: Case) -> Work:
    """The page of the suite, without images."""

    def work() -> None:
        summarized = summary.summarize(suite.collect(suite_folder(case)))
        page = build([summarized], lambda images: {}, lambda phase, done, total: None, images=False)
        (case.folder / "report.html").write_text(page.html, "utf-8")

    return work


CHAIN = ("predictions", "thresholds", "scoring", "statistics", "table", "report")
STAGES: dict[str, Callable[[Case], Work]] = {
    "parsing": parsing,
    "hashing": hashing,
    "fingerprint": fingerprint,
    "splitting": splitting,
    "near duplicates": near,
    "encoding": encoding,
    "dependence": dependence,
    "association": association,
    "training": training,
    "predictions": predictions,
    "thresholds": tuning,
    "scoring": scoring,
    "statistics": statistics,
    "table": table_stage,
    "report": report,
}


def cpu() -> float:
    """Processor seconds of this process, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak() -> float:
    """The largest resident memory of this process so far, in MB; ``ru_maxrss`` would count that of its parent too."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


def written(folder: Path) -> float:
    """The size of all files below a folder, in MB."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def measured(name: str, case: Case) -> dict[str, float]:
    """Processor and wall seconds of a stage; the memory of the process at its start, before the work and at its peak;
    and the size of the files that it wrote.
    """
    start = peak()
    work = STAGES[name](case)
    files_before, inputs, begin = written(case.folder), peak(), (cpu(), time.perf_counter())
    work()
    seconds = {"cpu_s": cpu() - begin[0], "wall_s": time.perf_counter() - begin[1]}
    memory = {"start_mb": start, "inputs_mb": inputs, "peak_mb": peak()}
    return seconds | memory | {"written_mb": written(case.folder) - files_before}


if __name__ == "__main__":
    stage, rows, attributes, folder = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    print(json.dumps(measured(stage, Case(int(rows), int(attributes), Path(folder)))))
