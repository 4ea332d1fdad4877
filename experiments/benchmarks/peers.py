"""Other tools on the same pictures and the same features.

Heads: the features are those of tf_efficientnet_lite0 (ImageNet) on the synthetic data set, one view, a tenth of the
labels missing; both learn from the training rows of the same folds and are scored on the test rows, observed labels
only, macro over the attributes and mean over folds (and seeds). Ours is the default recipe (masked BCE, Adam 1e-3, 10
epochs of batches of 16); scikit-learn's is LogisticRegression(max_iter=1000), one for each attribute, on the rows where
it is observed, which is another optimum: all the way down, with an L2 penalty. fastai is measured where it is
installed (it is no dependency): its Learner on the same rows, loss and optimizer as ours.

Features: timm's own loop is `create_model(num_classes=0)` in eval and inference mode, its own transform, and a
DataLoader of batches of 32, with 0 and with 2 workers; ours is an empty store whose network was exported before, one
view. Both read the same files.
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
from aimonk_bench.config.fields import DataConfig, KFold, TrainConfig, TransformConfig
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
Predicted = list[np.ndarray]  # per fold, [S', R, A] probabilities of its test rows


@dataclass(frozen=True, eq=False)
class Problem:
    """Features [N, D], targets and observed [N, A], folds."""

    features: np.ndarray
    targets: np.ndarray
    observed: np.ndarray
    folds: Sequence[Fold]


def ours(problem: Problem, seeds: int, epochs: int = 10) -> Predicted:
    """Stacked heads of all folds and seeds."""
    count, attributes = problem.targets.shape
    labels = Labels.of(problem.targets, problem.observed, [f"attr{number + 1}" for number in range(attributes)])
    data = TrainingData(labels, labels, problem.folds, np.ones(1))
    train = TrainConfig(seeds=list(range(seeds)), epochs=epochs)
    recipe = Recipe(train, Spec("masked_bce"), Spec("ignore"), Spec("uniform"))
    trained = train_heads(problem.features, np.arange(count)[None], data, recipe)
    return [1 / (1 + np.exp(-fold["test"].astype(np.float64))) for fold in trained.logits]


def regressions(problem: Problem) -> Predicted:
    """One logistic regression for each fold and attribute."""

    def column(fold: Fold, attribute: int) -> np.ndarray:
        known = fold.train[problem.observed[fold.train, attribute]]
        model = LogisticRegression(max_iter=1000).fit(problem.features[known], problem.targets[known, attribute])
        return model.predict_proba(problem.features[fold.test])[:, 1]

    attributes = range(problem.targets.shape[1])
    return [np.stack([column(fold, attribute) for attribute in attributes], 1)[None] for fold in problem.folds]


def fastais(problem: Problem, epochs: int = 10) -> Predicted:
    """One head by fastai's Learner, masked BCE and Adam as ours; it looks at the validation rows after every epoch."""
    import fastai.callback.progress  # noqa: F401  # gives the Learner what turns its progress bars off
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader as Loader
    from fastai.learner import Learner

    features, (fold,) = torch.from_numpy(problem.features), problem.folds
    both = torch.from_numpy(np.stack([problem.targets * problem.observed, problem.observed], -1)).float()
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


def scores(problem: Problem, predicted: Predicted) -> tuple[float, float]:
    """Average precision, and F1 at 0.5: of each fold, seed and attribute, then their mean."""
    values = []
    for fold, probabilities in zip(problem.folds, predicted, strict=True):
        targets, observed = problem.targets[fold.test], problem.observed[fold.test]
        for own in probabilities:
            for truth, known, score in zip(targets.T, observed.T, own.T, strict=True):
                y, s = truth[known], score[known]
                values.append((average_precision_score(y, s), f1_score(y, s > 0.5)))
    precision, f1 = np.mean(values, 0)
    return float(precision), float(f1)


def heads(problem: Problem, seeds: int, repeats: int) -> list[Row]:
    """Seconds and scores, of one fold and of all."""
    first = Problem(problem.features, problem.targets, problem.observed, problem.folds[:1])
    attributes, folds = problem.targets.shape[1], len(problem.folds)
    cases: dict[str, tuple[Problem, int, Callable[[], Predicted]]] = {
        "aimonk_bench, 1 head": (first, 1, lambda: ours(first, 1)),
        f"LogisticRegression, 1 fold, {attributes} fits": (first, 1, lambda: regressions(first)),
        f"aimonk_bench, {folds} folds x {seeds} seeds": (problem, folds * seeds, lambda: ours(problem, seeds)),
        f"LogisticRegression, {folds} folds, {folds * attributes} fits": (
            problem,
            folds,
            lambda: regressions(problem),
        ),
    }
    if importlib.util.find_spec("fastai"):
        cases[FASTAI] = (first, 1, lambda: fastais(first))
    seconds = interleaved({name: case for name, (_, _, case) in cases.items()}, repeats)
    rows = []
    for name, (own, count, case) in cases.items():
        precision, f1 = scores(own, case())
        rows.append(
            {
                "heads": name,
                "ms": seconds[name] * 1e3,
                "ms per head of all attributes": seconds[name] / count * 1e3,
                "AP": precision,
                "F1 at 0.5": f1,
            }
        )
    return rows


class Files(Dataset):
    """Pictures as timm's transform makes them."""

    def __init__(self, found: Sequence[ImageFile], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.found, self.transform = found, transform

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, number: int) -> torch.Tensor:
        with Image.open(self.found[number].path) as picture:
            return self.transform(picture.convert("RGB"))


def timms(found: Sequence[ImageFile], spec: EncoderSpec, workers: int) -> Callable[[], np.ndarray]:
    """timm's feature loop, its network built."""
    network = timm.create_model(spec.weights.entry.timm, pretrained=False, num_classes=0).eval()
    facts = timm.data.resolve_model_data_config(network) | {"input_size": (3, spec.size, spec.size)}
    loader = DataLoader(Files(found, timm.data.create_transform(**facts)), 32, num_workers=workers)

    def loop() -> np.ndarray:
        with torch.inference_mode():
            return torch.cat([network(batch) for batch in loader]).numpy()

    return loop


def features(found: Sequence[ImageFile], spec: EncoderSpec, store: FeatureStore, repeats: int) -> list[Row]:
    """Pictures per second of both."""
    transform = TransformConfig(size=spec.size, train=[])
    pipeline = encode.cases(found, transforms.views(transform), transform, spec, store)["pipeline"]
    cases = {
        "aimonk_bench": pipeline,
        "timm, 2 workers": timms(found, spec, 2),
        "timm, 0 workers": timms(found, spec, 0),
    }
    seconds = interleaved(cases, repeats)
    rates = {name: len(found) / own for name, own in seconds.items()}
    return [
        {"features": name, "pictures / s": rate, "aimonk_bench / this": rates["aimonk_bench"] / rate}
        for name, rate in rates.items()
    ]


def main(out: Path, quick: bool = False) -> None:
    """Write peers.json, peers.md and peers.png."""
    conditions, repeats = Conditions.now(), 1 if quick else REPEATS
    images, seeds, size = (80, 2, 32) if quick else (1000, 5, 224)
    with tempfile.TemporaryDirectory() as place:
        data = Path(place, "data")
        synthetic.write(data, images=images, size=128, prevalences=(0.8, 0.7, 0.5, 0.3))
        config = DataConfig(labels=data / "labels.txt", images=data / "images")
        listed = label_file.load(config)
        found = [picture for picture in image_files.locate(listed, config.images, "error")[0] if picture is not None]
        store, spec = (
            FeatureStore(Path(place, "store")),
            encode.spec_of(BACKBONE, "imagenet", TransformConfig(size=size)),
        )
        loops = features(found[: 16 if quick else 256], spec, store, repeats)
        transform = TransformConfig(size=size, train=[])
        bank = store.bank(found, transforms.views(transform), transform, spec)
        folds = splits.split(KFold(scheme="kfold"), listed.labels, np.arange(len(found)))
        rows = bank.rows[bank.index[0]]
        heading = f"Heads on features [{rows.shape[0]}, {rows.shape[1]}]"
        trained = heads(Problem(rows, listed.labels.targets, listed.labels.observed, folds), seeds, repeats)
    tables = {heading: trained, f"Features of {BACKBONE}": loops}
    remarks = "" if importlib.util.find_spec("fastai") else f"{FASTAI}: not measured, as fastai is not installed here."
    write(out, "peers", __doc__ or "", tables, conditions, remarks)
    each = "ms per head of all attributes"
    panels = [
        Panel("training", each, {r["heads"]: r[each] for r in trained}),
        Panel("average precision on test rows", "AP, macro", {r["heads"]: r["AP"] for r in trained}),
        Panel(f"features of {BACKBONE}", "pictures / s", {r["features"]: r["pictures / s"] for r in loops}),
    ]
    bars(out / "peers.png", "Other tools on the same pictures and features", panels)
