"""Fine-tuning on a stored trunk against computing the trunk again in every epoch: ResNet18 from layer4, weights none.

One job, all cores, float32, batch 32, one engine (torch) for everything. `tail`: forward, backward and update on rows
that lie in memory. `stored`: an epoch of `training.finetune`, sampling, reading of the memory-mapped store, labels and
recorded losses included, the validation at its end not. `recomputed`: the same epoch when each batch is decoded (by all
cores), sent through the trunk (all threads) and then learned from, one after the other. `decode` and `trunk` are those
two alone. The limit of what storing can gain is (decode + trunk + tail) / tail. The stored rows are those that the
trunk made of the same pictures here; that an encoder gives what the trunk makes is tested in
`tests/backbones/test_encoder.py`.
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

from aimonk_bench.backbones import network as trunks
from aimonk_bench.backbones.weights import resolve
from aimonk_bench.config.fields import BackboneConfig, TrainConfig
from aimonk_bench.data.images import decode
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.records.environment import cores
from aimonk_bench.registry import Spec
from aimonk_bench.training import finetune, sources
from aimonk_bench.training.fit import Stage
from aimonk_bench.training.recipe import Recipe, TrainingData
from aimonk_bench.training.stack import Stack
from experiments.benchmarks.encode import DISTINCT, QUALITY, Size, texture
from experiments.benchmarks.timing import Conditions, Panel, bars, interleaved, write

STAGE, ATTRIBUTES, BATCH = "layer4", 4, 32
PICTURES = Size(480, 360, 256)
OVERHEAD, SHARE, EQUAL = 1.15, 0.85, 1e-4  # stored / tail at most; of the limit at least; losses at most apart


class Recomputed:
    """A source that decodes and encodes what is asked for, every time."""

    def __init__(self, files: list[bytes], size: int, trunk: nn.Module, pool: ThreadPoolExecutor) -> None:
        self._files, self._size, self._trunk, self._pool = files, size, trunk, pool

    def pixels(self, pictures: np.ndarray) -> np.ndarray:
        """Decoded: uint8 [B, size, size, 3]."""
        return np.stack(list(self._pool.map(lambda n: decode(self._files[n], self._size, "bilinear"), pictures)))

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Rows [B, D] of pixels."""
        with torch.inference_mode():
            return self._trunk(torch.from_numpy(pixels)).numpy()

    def __call__(self, views: np.ndarray, images: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        return self.encode(self.pixels(images))

    def unaugmented(self, images: np.ndarray) -> np.ndarray:
        return self.encode(self.pixels(images))


class Job:
    """A network before its first epoch."""

    def __init__(self, stack: Stack, network: finetune.FineTunedNetwork) -> None:
        self.stack, self.network, self.rngs = stack, network, stack.rngs()

    def epoch(self) -> torch.Tensor:
        """An epoch with its sampling: the losses of its steps."""
        return self.network.train_epoch(1, self.stack.draw(self.rngs))


class Problem:
    """Pictures, their rows in a file, labels, and one job on them.

    Args:
        pictures: how many of which size.
        size: edge of what the network sees.
        folder: for the file of rows.
    """

    def __init__(self, pictures: Size, size: int, folder: Path) -> None:
        rng = np.random.default_rng(0)
        weights = resolve(BackboneConfig(name="resnet18", weights="none"))
        self.size, self.count = size, pictures.count
        self.pool, self.readers = ThreadPoolExecutor(cores()), ThreadPoolExecutor(cores())
        own = [
            cv2.imencode(".jpg", texture(pictures, rng), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            for _ in range(DISTINCT)
        ]
        files = [own[number % DISTINCT].tobytes() for number in range(pictures.count)]
        trunk = trunks.build(weights, size, STAGE).to(memory_format=torch.channels_last)
        self.tail = trunks.build_trainable(weights, size, STAGE).to(memory_format=torch.channels_last)
        self.recomputed = Recomputed(files, size, trunk, self.pool)
        numbers = np.arange(pictures.count)
        self.rows = np.concatenate(
            [self.recomputed.unaugmented(part) for part in np.split(numbers, pictures.count // BATCH)]
        )
        self.rows.tofile(folder / "rows")
        self.stored = sources.Stored(np.memmap(folder / "rows", np.float32, "r", shape=self.rows.shape), numbers[None])
        targets, observed = (rng.random((pictures.count, ATTRIBUTES)) > share for share in (0.5, 0.2))
        labels = Labels.of(targets, observed)
        fold = Fold(numbers, numbers[:BATCH], numbers[:BATCH])
        self.data = TrainingData(labels, labels, [fold], np.ones(1))

    def job(self, source: sources.Source) -> Job:
        """A job before its first epoch."""
        train = TrainConfig(seeds=[0], batch_size=BATCH)
        recipe = Recipe(train, Spec("masked_bce"), Spec("ignore"), Spec("uniform"))
        stack = Stack(self.data, recipe, [(0, 0)], torch.device("cpu"), torch.float32)
        shared = finetune.Shared(source, self.tail, 512, self.readers)
        return Job(stack, finetune.FineTunedNetwork(stack, Stage("", Spec("ignore")), shared))

    def bare(self) -> Callable[[], None]:
        """An epoch of nothing but forward, backward and update."""
        network = nn.Sequential(copy.deepcopy(self.tail), nn.Linear(512, ATTRIBUTES)).train()
        optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
        rows, targets = torch.from_numpy(self.rows).split(BATCH), torch.rand(BATCH, ATTRIBUTES)

        def epoch() -> None:
            for own in rows:
                optimizer.zero_grad()
                nn.functional.binary_cross_entropy_with_logits(network(own), targets).backward()
                optimizer.step()

        return epoch


def measured(pictures: Size, size: int, repeats: int) -> tuple[dict[str, float], float]:
    """Seconds of an epoch of each case, and how far the losses of a first epoch lie apart."""
    with tempfile.TemporaryDirectory() as folder:
        problem = Problem(pictures, size, Path(folder))
        losses = [problem.job(source).epoch() for source in (problem.stored, problem.recomputed)]
        apart = float((losses[0] - losses[1]).abs().max())
        job, again = problem.job(problem.stored), problem.job(problem.recomputed)
        again.network._network.train()  # as `train_epoch` does
        pixels = problem.recomputed.pixels(np.arange(BATCH))
        batches = np.split(np.arange(pictures.count), pictures.count // BATCH)
        seconds = interleaved(
            {
                "tail": problem.bare(),
                "stored": job.epoch,
                "recomputed": lambda: [
                    again.network._step(
                        torch.from_numpy(problem.recomputed.unaugmented(own)), torch.from_numpy(own), 1, 1.0
                    )
                    for own in batches
                ],
                "decode": lambda: [problem.recomputed.pixels(own) for own in batches],
                "trunk": lambda: [problem.recomputed.encode(pixels) for _ in batches],
            },
            repeats,
        )
        problem.pool.shutdown()
        problem.readers.shutdown()
    return seconds, apart


def main(out: Path, quick: bool = False) -> None:
    """Write finetune.json, finetune.md and finetune.png."""
    cv2.setNumThreads(1)
    conditions = Conditions.now()
    pictures, size, repeats = (Size(64, 48, 2 * BATCH), 64, 1) if quick else (PICTURES, 224, 5)
    seconds, apart = measured(pictures, size, repeats)
    tail, stored, recomputed = (seconds[name] for name in ("tail", "stored", "recomputed"))
    limit = (seconds["decode"] + seconds["trunk"] + tail) / tail
    gain = recomputed / stored
    pace = [{"case": name, "pictures/s": pictures.count / own, "x tail": own / tail} for name, own in seconds.items()]
    found = [
        {
            "figure": "stored / tail",
            "found": stored / tail,
            "target": f"at most {OVERHEAD}",
            "met": stored / tail <= OVERHEAD,
        },
        {
            "figure": "recomputed / stored, of the limit",
            "found": gain / limit,
            "target": f"at least {SHARE}",
            "met": gain / limit >= SHARE,
        },
        {"figure": "losses of an epoch apart", "found": apart, "target": f"at most {EQUAL}", "met": apart <= EQUAL},
    ]
    even = (seconds["decode"] + seconds["trunk"]) / (recomputed - stored)
    remarks = (
        f"Recomputing takes {gain:.2f} times as long as the stored trunk; the limit is {limit:.2f}. Storing the rows "
        f"costs decode + trunk once, which is won back after {even:.2f} epochs."
    )
    write(out, "finetune", __doc__ or "", {"Pace": pace, "Targets": found}, conditions, remarks)
    panel = Panel("an epoch, times the tail alone", "x tail", {row["case"]: row["x tail"] for row in pace}, OVERHEAD)
    bars(out / "finetune.png", "Fine-tuning ResNet18 from layer4: a stored trunk or a recomputed one", [panel])
