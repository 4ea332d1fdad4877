"""What a graphics card does: is it as fast as it should be, and does it decide like the CPU? In 8 minutes.

`encoding`: the feature store filled from JPEGs, against the slower of decoding alone (all cores) and of the forward
passes alone (pixels in memory). `heads`: 25 stacked heads on features that lie on the device, against the CPU.
`fine-tuning`: ResNet18 without frozen layers, automatic mixed precision against float32. `resume`: the same training,
interrupted after an epoch. `processes`: a suite of two runs in worker processes, against one process and the CPU.

A decision is a logit above 0. Two devices add in another order, so decisions must be equal only where the logit of the
reference is outside a band around 0; the table states the band. ResNet18 has random weights, because only its speed and
the agreement count; the suite has the embedded weights of `tf_efficientnet_lite0`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from aimonk_bench.api import work
from aimonk_bench.backbones import encoder as encoders
from aimonk_bench.backbones import network
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.backbones.weights import Weights, resolve
from aimonk_bench.config.fields import BackboneConfig, TrainConfig, TransformConfig
from aimonk_bench.data import synthetic, transforms
from aimonk_bench.data.images import decode
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.progress import Progress
from aimonk_bench.records import run as runs
from aimonk_bench.records.environment import cores, environment
from aimonk_bench.registry import Spec
from aimonk_bench.training.batches import Features
from aimonk_bench.training.finetune import Scratch, fine_tune
from aimonk_bench.training.heads_trainer import train_heads
from aimonk_bench.training.outcome import Trained, assemble
from aimonk_bench.training.recipe import Recipe, TrainingData
from aimonk_bench.training.sources import Pixels
from experiments.benchmarks import encode
from experiments.benchmarks.timing import interleaved, markdown, threaded

COMMAND = "python -m experiments.benchmarks gpu"
BATCH = 16  # of fine-tuning
LEAST_OF_LIMIT = 0.7  # of the slower of decoding and forward passes that the pipeline must reach
MOST_SECONDS = 480  # of all checks
BAND = 0.1  # |logit| of the reference, within which decisions may differ
LOSS_TOLERANCE = 0.1  # relative, of the mean loss of the last epoch with and without mixed precision


@dataclass(frozen=True)
class SuiteSizes:
    """Backbone and weights of a suite, its images, their edge in pixels, its epochs, and its worker processes."""

    backbone: tuple[str, str]
    images: int
    edge: int
    epochs: int
    workers: int


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        network: that encodes and is fine-tuned, with random weights.
        encoded: JPEGs of the pipeline.
        edge: of the input of the network, in pixels.
        rows, attributes, seeds: of the heads, in 5 folds.
        tuned: images of fine-tuning.
        epochs: of fine-tuning.
        suite: of `processes`.
        repeats: of what is timed.
    """

    network: str
    encoded: encode.Size
    edge: int
    rows: int
    attributes: int
    seeds: int
    tuned: int
    epochs: int
    suite: SuiteSizes
    repeats: int


FULL = Sizes(
    network="resnet18",
    encoded=encode.Size(480, 360, 2048),
    edge=224,
    rows=20_000,
    attributes=40,
    seeds=5,
    tuned=1024,
    epochs=3,
    suite=SuiteSizes(("tf_efficientnet_lite0", "imagenet"), images=400, edge=64, epochs=20, workers=2),
    repeats=3,
)
QUICK = Sizes(
    network="test_resnet",
    encoded=encode.Size(64, 48, 24),
    edge=32,
    rows=120,
    attributes=3,
    seeds=2,
    tuned=32,
    epochs=2,
    suite=SuiteSizes(("test_resnet", "none"), images=60, edge=32, epochs=2, workers=1),
    repeats=1,
)


@dataclass(frozen=True)
class Figure:
    """A row of ``gpu.csv``.

    Attributes:
        check: what was checked.
        figure: what was measured.
        value: of it.
        limit: what it must be; empty where nothing is asked.
        passed: whether it is; None where nothing is asked.
    """

    check: str
    figure: str
    value: float
    limit: str = ""
    passed: bool | None = None


def at_least(check: str, figure: str, value: float, least: float) -> Figure:
    return Figure(check, figure, value, f"at least {least:g}", value >= least)


def at_most(check: str, figure: str, value: float, most: float) -> Figure:
    return Figure(check, figure, value, f"at most {most:g}", value <= most)


def encoding(device: str, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """The pipeline against the slower of its two halves, which overlap on a card."""
    images = encode.make(folder / "jpegs", sizes.encoded)
    spec = EncoderSpec(_weights(sizes.network), sizes.edge, "torch", device)
    store, transform = FeatureStore(folder / "store"), TransformConfig(size=sizes.edge, train=[])
    views = transforms.views(transform)
    store.features(images[: spec.batch_size], views, transform, spec)  # builds the network, and warms the device up
    data = [image.path.read_bytes() for image in images]
    run = encoders.torch_run(network.build(spec.weights, spec.size), device)
    batch = np.resize(np.stack([decode(data[0], spec.size, "bilinear")]), (spec.batch_size, spec.size, spec.size, 3))

    def pipeline() -> None:
        encode.emptied(store, spec)
        store.features(images, views, transform, spec)

    def decoding() -> None:
        cv2.setNumThreads(1)
        threaded(lambda content: decode(content, spec.size, "bilinear"), data, cores())

    def forward() -> None:
        for _ in range(-(-len(images) // spec.batch_size)):
            run(batch)

    seconds = interleaved({"pipeline": pipeline, "decoding": decoding, "forward": forward}, sizes.repeats)
    rates = {name: len(images) / taken for name, taken in seconds.items()}
    for name, rate in rates.items():
        yield Figure("encoding", f"{name}, images a second", rate)
    share = rates["pipeline"] / min(rates["decoding"], rates["forward"])
    yield at_least("encoding", "pipeline / min(decoding, forward)", share, LEAST_OF_LIMIT)


def heads(device: str, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """Stacked heads on the device against the CPU."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(sizes.rows, 512)).astype(np.float32)
    data = _problem(features @ rng.normal(size=(512, sizes.attributes)), folds=5)
    index = np.arange(sizes.rows)[None]
    matrix = Features(features, torch.device(device), torch.float32)
    is_there = matrix.take(torch.zeros(1, dtype=torch.int64)).device.type == device.partition(":")[0]
    yield Figure("heads", "features are gathered on the device", float(is_there), "1", is_there)

    def train(place: str) -> Trained:
        config = TrainConfig(device=place, batch_size=128, epochs=3, seeds=list(range(sizes.seeds)))
        return train_heads(features, index, data, _recipe(config))

    trained = {}
    for place in ("cpu", device):
        begun = time.perf_counter()
        trained[place] = train(place)
        yield Figure("heads", f"seconds on {place}", time.perf_counter() - begun)
    yield from _agreement("heads", _test_logits(trained["cpu"]), _test_logits(trained[device]))


def fine_tuning(device: str, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """Mixed precision against float32, and an interrupted training against one that is not."""
    half = "bfloat16" if device == "cpu" else "auto"  # on a card bfloat16 where it is native, else float16
    trained = {}
    for precision in ("float32", half):
        begun = time.perf_counter()
        trained[precision] = _fine_tuned(device, sizes, precision)
        images = BATCH * len(trained[precision].history["training_loss"])
        yield Figure("fine-tuning", f"{precision}, images a second", images / (time.perf_counter() - begun))
    losses = [outcome.history["training_loss"] for outcome in trained.values()]
    steps = len(losses[0]) // sizes.epochs
    whole, mixed = (float(np.mean(loss[-steps:])) for loss in losses)
    yield at_most("fine-tuning", "loss, mixed / float32 - 1", abs(mixed / whole - 1), LOSS_TOLERANCE)
    again = _fine_tuned(device, sizes, half, folder / "checkpoints", interrupted=True)
    yield from _agreement("resume", _test_logits(trained[half]), _test_logits(again))


def processes(device: str, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """A suite of two runs in worker processes on the device, in one process there, and on the CPU."""
    synthetic.write(folder / "data", images=sizes.suite.images, size=sizes.suite.edge)
    logits: dict[tuple[str, str], np.ndarray] = {}
    for place, executor in (("cpu", "serial"), (device, "serial"), (device, "processes")):
        if (place, executor) in logits:
            continue
        out, begun = folder / f"{place}-{executor}", time.perf_counter()
        suite = work.suite(_suite(folder / "data", place, executor, sizes.suite), out=out)
        yield Figure("processes", f"seconds of the suite on {place}, {executor}", time.perf_counter() - begun)
        failed = len(suite.unfinished)
        yield at_most("processes", f"runs that failed on {place}, {executor}", failed, 0)
        logits[place, executor] = _suite_logits(out)
    here, workers, on_cpu = logits[device, "serial"], logits[device, "processes"], logits["cpu", "serial"]
    yield from _agreement("processes against serial", here, workers)
    yield from _agreement("suite against the CPU", on_cpu, workers)


CHECKS: tuple[Callable[[str, Sizes, Path], Iterator[Figure]], ...] = (encoding, heads, fine_tuning, processes)


def _agreement(check: str, reference: np.ndarray, logits: np.ndarray) -> Iterator[Figure]:
    """How far logits are apart, and whether decisions are equal outside the band."""
    yield Figure(check, "largest difference of the logits", float(np.abs(reference - logits).max()))
    outside = np.abs(reference) > BAND
    yield Figure(check, f"share of the logits outside +-{BAND:g}", float(outside.mean()))
    differ = int(((reference > 0) != (logits > 0))[outside].sum())
    yield at_most(check, f"decisions outside +-{BAND:g} that differ", differ, 0)


def _problem(scores: np.ndarray, folds: int) -> TrainingData:
    """Labels that scores [N, A] decide, a tenth of them missing, in folds."""
    rng, rows = np.random.default_rng(1), np.arange(len(scores))
    names = [f"attr{number}" for number in range(scores.shape[1])]
    labels = Labels.of(scores > np.median(scores, axis=0), rng.random(scores.shape) < 0.9, names)
    parts = [np.array_split(np.roll(rows, shift * len(rows) // folds), 5) for shift in range(folds)]
    of_folds = [Fold(*(np.sort(part) for part in (np.concatenate(p[:3]), p[3], p[4]))) for p in parts]
    return TrainingData(labels, labels, of_folds, np.ones(1))


def _recipe(config: TrainConfig) -> Recipe:
    return Recipe(config, Spec("masked_bce"), Spec("ignore"), Spec("uniform"))


def _weights(name: str) -> Weights:
    return resolve(BackboneConfig(name=name, weights="none"))


class _Interrupted(Exception):
    """The interruption of `resume`."""


def _fine_tuned(
    device: str, sizes: Sizes, precision: str, checkpoints: Path | None = None, *, interrupted: bool = False
) -> Trained:
    """The network without frozen layers, trained; ``interrupted``: stopped after an epoch and taken up again."""
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (sizes.tuned, sizes.edge * sizes.edge * 3), np.uint8)
    transform = TransformConfig(size=sizes.edge, train=[])
    source = Pixels(pixels, np.arange(sizes.tuned), transforms.views(transform).keys, transform)
    config = TrainConfig(
        device=device,
        precision=precision,
        batch_size=BATCH,
        epochs=sizes.epochs,
        seeds=[0],
        lr=1e-4,
        weight_decay=0.0,
        averaging="none",
    )
    data = _problem(pixels[:, :3].astype(np.float64), folds=1)
    torch.manual_seed(0)  # of timm's random weights
    layers = network.build_trainable(_weights(sizes.network), sizes.edge, "none")
    recipe, scratch = _recipe(config), None if checkpoints is None else Scratch(checkpoints, "gpu")

    def train(progress: Progress | None = None) -> Trained:
        outcomes = fine_tune(source, data, recipe, layers=layers, scratch=scratch, progress=progress)
        return assemble(outcomes, recipe, recipe.steps(data.folds))

    def stop(phase: str, done: int, total: int) -> None:
        if done:
            raise _Interrupted

    if interrupted:
        try:
            train(progress=stop)
        except _Interrupted:
            return train()
        raise RuntimeError("the training was not interrupted")
    return train()


def _test_logits(trained: Trained) -> np.ndarray:
    return np.concatenate([fold["test"].ravel() for fold in trained.logits])


def _suite(data: Path, device: str, executor: str, sizes: SuiteSizes) -> dict[str, Any]:
    """The config of the suite of `processes`; its features go into the user's feature store."""
    return {
        "name": "gpu",
        "data": {"labels": str(data / "labels.txt"), "images": str(data / "images")},
        "split": {"scheme": "kfold", "folds": 2},
        "backbone": dict(zip(("name", "weights"), sizes.backbone, strict=True)),
        "transform": {"size": sizes.edge, "train": []},
        "train": {"device": device, "epochs": sizes.epochs, "seeds": 2},
        "run": {"executor": executor} | ({"workers": sizes.workers} if executor == "processes" else {}),
        "suite": {"baseline": {"loss": "masked_bce"}, "axes": {"loss": ["masked_bce", "focal"]}},
    }


def _suite_logits(folder: Path) -> np.ndarray:
    """The logits of both runs of a suite, by loss; the hash in an id differs from device to device."""
    files = sorted((folder / "runs").glob(f"*/{runs.PREDICTIONS}"))
    return np.concatenate([Predictions.load(file).logits.ravel() for file in files])


def check(out: Path, device: str, sizes: Sizes) -> list[Figure]:
    """Make every check, and write ``gpu.csv`` and ``README.md``."""
    figures: list[Figure] = []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        for function in CHECKS:
            folder = Path(temporary) / function.__name__
            folder.mkdir()
            started = time.perf_counter()
            figures += function(device, sizes, folder)
            print(f"{function.__name__}: {time.perf_counter() - started:.0f} s", flush=True)
    figures.append(at_most("all", "seconds", time.perf_counter() - begun, MOST_SECONDS))
    table = pd.DataFrame([vars(figure) for figure in figures])
    table.to_csv(out / "gpu.csv", index=False)
    facts = environment({}, {}, "torch", device)
    versions = ", ".join(f"{package} {version}" for package, version in facts["packages"].items() if version)
    card = facts["processor"] if device == "cpu" else torch.cuda.get_device_name(device)
    asked = table["passed"].dropna()
    parts = [
        "# The check on a graphics card",
        f"Command: `{COMMAND}`, on {card} with {cores()} cores.",
        f"{int(asked.sum())} of {len(asked)} requirements are met.",
        (__doc__ or "").strip(),
        markdown([{**vars(figure), "passed": _word(figure.passed)} for figure in figures]).strip(),
        f"{facts['platform']}, Python {facts['python']}, {versions}; commit {facts['git_commit']}.",
    ]
    (out / "README.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    return figures


def _word(passed: bool | None) -> str:
    return "" if passed is None else "yes" if passed else "NO"


def write_not_run(out: Path) -> None:
    """The page that says that nothing was measured; results of a machine with a card stay."""
    if (out / "gpu.csv").exists():
        print(f"no card on this machine: the results in {out} stay as they are")
        return
    text = f"""# The check on a graphics card

**Not run.** No machine with a card that torch can use was at hand. On such a machine

    {COMMAND}

writes this page and `gpu.csv`. It may take 8 minutes, which it checks too. Until then nothing is claimed about speed or
agreement on a card. The test `tests/experiments/test_gpu_check.py` executes the same code with tiny sizes on the CPU.

## What it checks

{(__doc__ or "").strip()}
"""
    (out / "README.md").write_text(text, "utf-8")
    print(f"no card on this machine (torch.cuda.is_available() is False): {out / 'README.md'} says that it was not run")


def main(out: Path, quick: bool = False) -> None:
    """Check the card of this machine; without one say so."""
    if not torch.cuda.is_available():
        write_not_run(out)
        return
    figures = check(out, "cuda", QUICK if quick else FULL)
    print((out / "README.md").read_text("utf-8"))
    if failed := [figure for figure in figures if figure.passed is False]:
        raise SystemExit("\n".join(f"{item.check}: {item.figure} {item.value:g}, {item.limit}" for item in failed))
