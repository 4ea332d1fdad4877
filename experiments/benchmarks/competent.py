"""The competent script: torch computes the features once, then heads are trained one after another in memory.

This is what somebody writes who knows that a frozen network gives the same output in every epoch. The script also uses
channels_last batches that fit the cache, flips decoded images instead of decoding twice, one thread for batches of 16
rows, and torch's fused Adam.

As a program it trains all heads of a suite. It reads a pickled `Job` from standard input, writes the probabilities of
every head to the file that is named, and prints the seconds of encoding and of training. Labels and folds are prepared
before.
"""

from __future__ import annotations

import functools
import json
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.plain import Batch, Images, bce, epochs_of, loader_of, masked_mean

BATCH = 8
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Job:
    """The heads of a suite. All of them sample uniformly: sampling takes no time worth measuring.

    Attributes:
        backbone: name in timm.
        images: N.
        targets: float32 [N, A], 0 where not observed.
        observed: float32 [N, A].
        folds: of each fold the training rows, and the rows to score.
        losses: one name of LOSSES per run.
        seeds: of each run and fold.
        epochs, batch_size, lr: of each head.
        workers: processes that decode.
    """

    backbone: str
    images: Images
    targets: np.ndarray
    observed: np.ndarray
    folds: Sequence[tuple[np.ndarray, np.ndarray]]
    losses: Sequence[str]
    seeds: Sequence[int]
    epochs: int
    batch_size: int
    lr: float
    workers: int


def pos_weight(positives: Tensor, negatives: Tensor) -> Loss:
    weight = torch.where(positives > 0, negatives / positives, 1.0).clamp(max=20)
    return functools.partial(bce, pos_weight=weight)


def class_balanced(positives: Tensor, negatives: Tensor, beta: float = 0.999) -> Loss:
    one, zero = ((1 - beta) / (1 - beta ** count.clamp(min=1).double()) for count in (positives, negatives))
    mean = (positives * one + negatives * zero) / (positives + negatives)
    one, zero = (one / mean).float(), (zero / mean).float()
    return lambda logits, targets: bce(logits, targets) * (zero + (one - zero) * targets)


def focal(logits: Tensor, targets: Tensor, alpha: float = 0.25) -> Tensor:
    return bce(logits, targets) * (targets - torch.sigmoid(logits)) ** 2 * (1 - alpha + (2 * alpha - 1) * targets)


def asymmetric(logits: Tensor, targets: Tensor, clip: float = 0.05) -> Tensor:
    p = torch.sigmoid(logits)
    q = (p - clip).clamp(min=0)
    return -targets * (1 - p) * functional.logsigmoid(logits) - (1 - targets) * q**4 * torch.log1p(-q)


def hill(logits: Tensor, targets: Tensor, lam: float = 1.5, margin: float = 1.0) -> Tensor:
    p, shifted = torch.sigmoid(logits), logits - margin
    positive = (1 - torch.sigmoid(shifted)) ** 2 * functional.logsigmoid(shifted)
    return -targets * positive + (1 - targets) * (lam - p) * p**2


# name -> loss, given the numbers [A] of observed positives and negatives among the training rows
LOSSES: dict[str, Callable[[Tensor, Tensor], Loss]] = {
    "masked_bce": lambda *_: bce,
    "pos_weight": pos_weight,
    "class_balanced": class_balanced,
    "focal": lambda *_: focal,
    "asymmetric": lambda *_: asymmetric,
    "hill": lambda *_: hill,
}


def encode(network: nn.Module, images: Images, count: int, workers: int = 0) -> Tensor:
    """Features of the first images, unaugmented and flipped: [2 x count, D]."""
    network = network.eval().to(memory_format=torch.channels_last)
    rows = np.split(np.arange(count), range(BATCH, count, BATCH))
    unaugmented, flipped = [], []
    with torch.no_grad():
        for batch, _ in loader_of(images, ((part, np.zeros(len(part), bool)) for part in rows), workers):
            unaugmented.append(network(batch.contiguous(memory_format=torch.channels_last)))
            flipped.append(network(batch.flip(3).contiguous(memory_format=torch.channels_last)))
    return torch.cat(unaugmented + flipped)


def train(
    head: nn.Linear,
    features: Tensor,
    targets: Tensor,
    observed: Tensor,
    batches: Iterable[Batch],
    lr: float,
    loss: Loss,
) -> list[float]:
    """Train one head; returns the loss before each step."""
    optimizer = torch.optim.Adam(head.parameters(), lr, fused=True)
    count, losses = len(targets), []
    for rows, flips in batches:
        inputs = features[torch.from_numpy(rows + count * flips)]
        batch = torch.from_numpy(rows)
        mean = masked_mean(loss(head(inputs), targets[batch]), observed[batch])
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        losses.append(mean.item())
    return losses


def predict(head: nn.Linear, features: Tensor, rows: np.ndarray) -> Tensor:
    """Probabilities [len(rows), A] of unaugmented images."""
    with torch.no_grad():
        return torch.sigmoid(head(features[torch.from_numpy(rows)]))


def suite(job: Job, features: Tensor) -> list[np.ndarray]:
    """Train and predict every head, in the order of runs, folds and seeds: float32 [scored, A] each."""
    targets, observed = torch.from_numpy(job.targets), torch.from_numpy(job.observed)
    probabilities = []
    for name in job.losses:
        for training, scored in job.folds:
            rows = torch.from_numpy(training)
            positives = targets[rows].sum(0)
            loss = LOSSES[name](positives, observed[rows].sum(0) - positives)
            for seed in job.seeds:
                torch.manual_seed(seed)
                head = nn.Linear(features.shape[1], targets.shape[1])
                batches = epochs_of(training, job.batch_size, job.epochs, np.random.default_rng(seed))
                train(head, features, targets, observed, batches, job.lr, loss)
                probabilities.append(predict(head, features, scored).numpy())
    return probabilities


def main(out: Path) -> None:
    job: Job = pickle.load(sys.stdin.buffer)
    begin = time.perf_counter()
    network = timm.create_model(job.backbone, pretrained=False, num_classes=0).requires_grad_(False)
    features = encode(network, job.images, len(job.targets), job.workers)
    encoded = time.perf_counter()
    torch.set_num_threads(1)
    np.savez(out, *suite(job, features))
    print(json.dumps({"encode": encoded - begin, "train": time.perf_counter() - encoded}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
