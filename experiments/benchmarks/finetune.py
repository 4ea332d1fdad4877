"""Fine-tuning on stored features against encoding in every epoch: ResNet18 frozen up to layer4, untrained weights.

One job on all cores, float32, batch 32, torch throughout. All figures are seconds of one epoch. `bare`: forward,
backward and update of the trainable layers on rows in memory. `stored`: `fine_tune`, which reads the rows of a
memory-mapped file, with sampling, recorded losses, the start of the job and the validation of one batch. `recomputed`:
`fine_tune` on a source that decodes every batch (on all cores) and runs the frozen layers (with all threads of torch).
`decode` and `frozen layers` are these two steps alone. Storing can save at most decode + frozen layers. The stored rows
are those that the frozen layers give for the same images; encoders are tested in `tests/backbones/test_encoder.py`.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from aimonk_bench.backbones import network
from aimonk_bench.backbones.weights import resolve
from aimonk_bench.config.fields import BackboneConfig, TrainConfig
from aimonk_bench.data.images import decode
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.records.environment import cores
from aimonk_bench.registry import Spec
from aimonk_bench.training.finetune import fine_tune
from aimonk_bench.training.recipe import Recipe, TrainingData
from aimonk_bench.training.sources import Source, Stored
from experiments.benchmarks.encode import DISTINCT, QUALITY, Size, texture
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, write

STAGE, ATTRIBUTES, BATCH, FEATURES = "layer4", 4, 32, 512
IMAGES = Size(480, 360, 256)


class Recomputed:
    """A source that decodes and encodes what it is asked for, every time."""

    def __init__(self, files: list[bytes], size: int, frozen: nn.Module, pool: ThreadPoolExecutor) -> None:
        self._files, self._size, self._frozen, self._pool = files, size, frozen, pool

    def pixels(self, images: np.ndarray) -> np.ndarray:
        """Decoded images: uint8 [B, size, size, 3]."""
        return np.stack(list(self._pool.map(lambda n: decode(self._files[n], self._size, "bilinear"), images)))

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Rows [B, D] of pixels."""
        with torch.inference_mode():
            return self._frozen(torch.from_numpy(pixels)).numpy()

    def __call__(self, views: np.ndarray, images: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        return self.unaugmented(images)

    def unaugmented(self, images: np.ndarray) -> np.ndarray:
        return self.encode(self.pixels(images))


class Problem:
    """Images, their stored rows, labels, and the trainable layers.

    Args:
        images: how many, of which size.
        size: edge of the input of the network.
        folder: for the file of rows.
        pool: threads that decode.
    """

    def __init__(self, images: Size, size: int, folder: Path, pool: ThreadPoolExecutor) -> None:
        rng, numbers = np.random.default_rng(0), np.arange(images.count)
        weights = resolve(BackboneConfig(name="resnet18", weights="none"))
        quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        distinct = [cv2.imencode(".jpg", texture(images, rng), quality)[1].tobytes() for _ in range(DISTINCT)]
        files = [distinct[number % DISTINCT] for number in numbers]
        frozen = network.build(weights, size, STAGE).to(memory_format=torch.channels_last)
        self.layers = network.build_trainable(weights, size, STAGE).to(memory_format=torch.channels_last)
        self.recomputed = Recomputed(files, size, frozen, pool)
        self.batches = np.split(numbers, images.count // BATCH)
        self.rows = np.concatenate([self.recomputed.unaugmented(batch) for batch in self.batches])
        self.rows.tofile(folder / "rows")
        self.stored = Stored(np.memmap(folder / "rows", np.float32, "r", shape=self.rows.shape), numbers[None])
        shape = (images.count, ATTRIBUTES)
        targets, observed = rng.random(shape) > 0.5, rng.random(shape) > 0.2
        labels = Labels.of(targets, observed, [f"attr{number}" for number in range(1, ATTRIBUTES + 1)])
        self.data = TrainingData(labels, labels, [Fold(numbers, numbers[:BATCH], numbers[:BATCH])], np.ones(1))

    def epoch(self, source: Source) -> np.ndarray:
        """Fine-tune for one epoch; the loss before each step."""
        config = TrainConfig(seeds=[0], batch_size=BATCH, epochs=1, weight_decay=0.0, averaging="none")
        recipe = Recipe(config, Spec("masked_bce"), Spec("ignore"), Spec("uniform"))
        (outcome,) = fine_tune(source, self.data, recipe, layers=self.layers)
        return outcome.losses

    def bare(self) -> Callable[[], None]:
        """An epoch of forward, backward and update alone."""
        model = nn.Sequential(copy.deepcopy(self.layers), nn.Linear(FEATURES, ATTRIBUTES)).train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
        batches, targets = torch.from_numpy(self.rows).split(BATCH), torch.rand(BATCH, ATTRIBUTES)

        def epoch() -> None:
            for batch in batches:
                optimizer.zero_grad()
                nn.functional.binary_cross_entropy_with_logits(model(batch), targets).backward()
                optimizer.step()

        return epoch


def measured(images: Size, size: int, repeats: int) -> tuple[dict[str, float], float]:
    """Seconds of an epoch of each case, and the largest difference between the losses of stored and recomputed."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(cores()) as pool:
        problem = Problem(images, size, Path(folder), pool)
        difference = np.abs(problem.epoch(problem.stored) - problem.epoch(problem.recomputed)).max()
        pixels = problem.recomputed.pixels(problem.batches[0])
        cases = {
            "bare": problem.bare(),
            "stored": lambda: problem.epoch(problem.stored),
            "recomputed": lambda: problem.epoch(problem.recomputed),
            "decode": lambda: [problem.recomputed.pixels(batch) for batch in problem.batches],
            "frozen layers": lambda: [problem.recomputed.encode(pixels) for _ in problem.batches],
        }
        return interleaved(cases, repeats), float(difference)


def main(out: Path, quick: bool = False) -> None:
    """Write finetune.json, finetune.md and finetune.png."""
    cv2.setNumThreads(1)
    conditions = Conditions.now()
    images, size, repeats = (Size(64, 48, 2 * BATCH), 64, 1) if quick else (IMAGES, 224, 5)
    seconds, difference = measured(images, size, repeats)
    bare, stored, recomputed = (seconds[name] for name in ("bare", "stored", "recomputed"))
    encoding = seconds["decode"] + seconds["frozen layers"]
    rows = [
        {"case": name, "images / s": images.count / taken, "x bare": taken / bare} for name, taken in seconds.items()
    ]
    ratios = [
        {"ratio": "stored / bare", "value": stored / bare},
        {"ratio": "recomputed / stored", "value": recomputed / stored},
        {"ratio": "largest possible: (bare + decode + frozen layers) / bare", "value": (bare + encoding) / bare},
        {"ratio": "epochs until storing pays", "value": encoding / (recomputed - stored)},
        {"ratio": "largest difference between the losses", "value": difference},
    ]
    write(out, "finetune", __doc__ or "", {"Speed": rows, "Ratios": ratios}, conditions)
    draw(out / "finetune.png", rows)


def draw(path: Path, rows: list[Row]) -> None:
    """An epoch of each case, in times of the bare one."""
    panel = Panel("an epoch, times the bare one", "x bare", {row["case"]: row["x bare"] for row in rows})
    bars(path, "Fine-tuning ResNet18 from layer4: stored or recomputed output of the frozen layers", [panel])
