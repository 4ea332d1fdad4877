"""Other tools on the same images and the same features.

Heads: features of tf_efficientnet_lite0 (ImageNet) on the synthetic data set, one view, a tenth of the labels missing.
All tools train on the training rows of the same folds and are scored on the observed labels of the test rows: macro
over the attributes, mean over folds and seeds. aimonk_bench has one setting (masked BCE, Adam 1e-3, 10 epochs,
batches of 16). scikit-learn fits LogisticRegression(max_iter=1000) per attribute on the rows where it is observed,
which is another objective: it has an L2 penalty and is optimised to the end. fastai, which is no dependency, is
measured where it is installed: its Learner on the same rows with the same loss and optimizer.

Features: timm's own loop is `create_model(num_classes=0)` in eval and inference mode with its own transform and a
DataLoader of batches of 32, with 0 and with 2 workers. aimonk_bench encodes into an empty store; its network was
exported before. Both read the same files, one view.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.config.fields import DataConfig, TrainConfig, TransformConfig
from aimonk_bench.config.split_fields import KFold
from aimonk_bench.data import image_files, label_file, splits, synthetic, transforms
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.registry import Spec
from aimonk_bench.training.heads_trainer import train_heads
from aimonk_bench.training.recipe import Recipe, TrainingData
from experiments.benchmarks import encode
from experiments.benchmarks.plain import masked_bce
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, write

BACKBONE = "tf_efficientnet_lite0"
FASTAI = "fastai, 1 head"
REPEATS = 5
PER_HEAD = "ms per head of all attributes"
Probabilities = list[np.ndarray]  # per fold, [S', R, A] of its test rows


@dataclass(frozen=True, eq=False)
class Problem:
    """Features [N, D], labels [N, A] and folds."""

    features: np.ndarray
    labels: Labels
    folds: Sequence[Fold]


def stacked_heads(problem: Problem, seeds: int, epochs: int = 10) -> Probabilities:
    """aimonk_bench: the heads of all folds and seeds as one stack."""
    data = TrainingData(problem.labels, problem.labels, problem.folds, np.ones(1))
    config = TrainConfig(seeds=list(range(seeds)), epochs=epochs, batch_size=16, weight_decay=0.0, averaging="none")
    recipe = Recipe(config, Spec("masked_bce"), Spec("ignore"), Spec("uniform"))
    trained = train_heads(problem.features, np.arange(len(problem.features))[None], data, recipe)
    return [1 / (1 + np.exp(-fold["test"].astype(np.float64))) for fold in trained.logits]


def regressions(problem: Problem) -> Probabilities:
    """scikit-learn: one logistic regression per fold and attribute."""
    targets, observed = problem.labels.targets, problem.labels.observed

    def column(fold: Fold, attribute: int) -> np.ndarray:
        rows = fold.train[observed[fold.train, attribute]]
        model = LogisticRegression(max_iter=1000).fit(problem.features[rows], targets[rows, attribute])
        return model.predict_proba(problem.features[fold.test])[:, 1]

    attributes = range(targets.shape[1])
    return [np.stack([column(fold, attribute) for attribute in attributes], 1)[None] for fold in problem.folds]


def fastai_head(problem: Problem, epochs: int = 10) -> Probabilities:
    """fastai: one head by its Learner, with validation after every epoch."""
    import fastai.callback.progress  # noqa: F401  # adds `no_bar` to the Learner
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader as Loader
    from fastai.learner import Learner

    features, (fold,) = torch.from_numpy(problem.features), problem.folds
    targets, observed = problem.labels.targets, problem.labels.observed
    both = torch.from_numpy(np.stack([targets * observed, observed], -1)).float()
    parts = [TensorDataset(features[rows], both[rows]) for rows in (fold.train, fold.val)]
    loaders = [Loader(part, bs=16, shuffle=part is parts[0], num_workers=0) for part in parts]
    head = nn.Linear(features.shape[1], both.shape[1])
    learner = Learner(
        DataLoaders(*loaders, device=torch.device("cpu")),
        head,
        loss_func=lambda logits, labels: masked_bce(logits, labels[..., 0], labels[..., 1]),
        lr=1e-3,
        wd=0.0,
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(epochs)
    with torch.no_grad():
        return [torch.sigmoid(head(features[fold.test])).numpy()[None]]


def scores(problem: Problem, predicted: Probabilities) -> tuple[float, float]:
    """Average precision and F1 at 0.5: the mean over folds, seeds and attributes."""
    values = []
    for fold, probabilities in zip(problem.folds, predicted, strict=True):
        targets, observed = problem.labels.targets[fold.test], problem.labels.observed[fold.test]
        for seed in probabilities:
            for truth, mask, column in zip(targets.T, observed.T, seed.T, strict=True):
                y, s = truth[mask], column[mask]
                values.append((average_precision_score(y, s), f1_score(y, s > 0.5)))
    precision, f1 = np.mean(values, 0)
    return float(precision), float(f1)


def heads(problem: Problem, seeds: int, repeats: int) -> list[Row]:
    """Seconds and scores of every tool, on one fold and on all."""
    first = Problem(problem.features, problem.labels, problem.folds[:1])
    attributes, folds = problem.labels.shape[1], len(problem.folds)
    cases: dict[str, tuple[Problem, int, Callable[[], Probabilities]]] = {
        "aimonk_bench, 1 head": (first, 1, lambda: stacked_heads(first, 1)),
        f"LogisticRegression, 1 fold, {attributes} fits": (first, 1, lambda: regressions(first)),
        f"aimonk_bench, {folds} folds x {seeds} seeds": (
            problem,
            folds * seeds,
            lambda: stacked_heads(problem, seeds),
        ),
        f"LogisticRegression, {folds} folds, {folds * attributes} fits": (
            problem,
            folds,
            lambda: regressions(problem),
        ),
    }
    if importlib.util.find_spec("fastai"):
        cases[FASTAI] = (first, 1, lambda: fastai_head(first))
    seconds = interleaved({name: case for name, (_, _, case) in cases.items()}, repeats)
    rows = []
    for name, (part, count, case) in cases.items():
        precision, f1 = scores(part, case())
        ms = seconds[name] * 1e3
        rows.append({"heads": name, "ms": ms, PER_HEAD: ms / count, "AP": precision, "F1 at 0.5": f1})
    return rows


class Files(Dataset):
    """Images through timm's transform."""

    def __init__(self, images: Sequence[ImageFile], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> torch.Tensor:
        with Image.open(self.images[number].path) as image:
            return self.transform(image.convert("RGB"))


def timm_loop(images: Sequence[ImageFile], spec: EncoderSpec, workers: int) -> Callable[[], np.ndarray]:
    """timm's feature loop with its network built."""
    network = timm.create_model(spec.weights.entry.timm, pretrained=False, num_classes=0).eval()
    facts = timm.data.resolve_model_data_config(network) | {"input_size": (3, spec.size, spec.size)}
    loader = DataLoader(Files(images, timm.data.create_transform(**facts)), 32, num_workers=workers)

    def loop() -> np.ndarray:
        with torch.inference_mode():
            return torch.cat([network(batch) for batch in loader]).numpy()

    return loop


def features(images: Sequence[ImageFile], spec: EncoderSpec, store: FeatureStore, repeats: int) -> list[Row]:
    """Images per second of both tools."""
    transform = TransformConfig(size=spec.size, train=[])
    cases = {
        "aimonk_bench": encode.cases(images, transforms.UNAUGMENTED, transform, spec, store)["pipeline"],
        "timm, 2 workers": timm_loop(images, spec, 2),
        "timm, 0 workers": timm_loop(images, spec, 0),
    }
    rates = {name: len(images) / seconds for name, seconds in interleaved(cases, repeats).items()}
    return [
        {"features": name, "images / s": rate, "aimonk_bench / this": rates["aimonk_bench"] / rate}
        for name, rate in rates.items()
    ]


def main(out: Path, quick: bool = False) -> None:
    """Write peers.json, peers.md and peers.png."""
    conditions, repeats = Conditions.now(), 1 if quick else REPEATS
    count, seeds, size = (80, 2, 32) if quick else (1000, 5, 224)
    transform = TransformConfig(size=size, train=[])
    with tempfile.TemporaryDirectory() as place:
        data = Path(place, "data")
        synthetic.write(data, images=count, size=128, prevalences=(0.8, 0.7, 0.5, 0.3))
        config = DataConfig(labels=data / "labels.txt", images=data / "images")
        listed = label_file.load(config)
        images = [image for image in image_files.locate(listed, config.images, "error")[0] if image is not None]
        store, spec = FeatureStore(Path(place, "store")), encode.spec_of(BACKBONE, "imagenet", transform)
        loops = features(images[: 16 if quick else 256], spec, store, repeats)
        matrix = store.features(images, transforms.UNAUGMENTED, transform, spec)
        rows = matrix.rows[matrix.index[0]]
        folds = splits.split(KFold(scheme="kfold"), listed.labels, np.arange(count))
        trained = heads(Problem(rows, listed.labels, folds), seeds, repeats)
    tables = {f"Heads on features [{rows.shape[0]}, {rows.shape[1]}]": trained, f"Features of {BACKBONE}": loops}
    remarks = "" if importlib.util.find_spec("fastai") else f"{FASTAI}: fastai is not installed here."
    write(out, "peers", __doc__ or "", tables, conditions, remarks)
    draw(out / "peers.png", trained, loops)


def draw(path: Path, trained: list[Row], loops: list[Row]) -> None:
    """Training, its scores, and encoding."""
    panels = [
        Panel("training", PER_HEAD, {row["heads"]: row[PER_HEAD] for row in trained}),
        Panel("average precision on test rows", "AP, macro", {row["heads"]: row["AP"] for row in trained}),
        Panel(f"features of {BACKBONE}", "images / s", {row["features"]: row["images / s"] for row in loops}),
    ]
    bars(path, "Other tools on the same images and features", panels)
