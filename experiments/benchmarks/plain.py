"""The plain script: a frozen timm network and a linear head; every epoch decodes and encodes every image again.

This is what one writes first, and runs once per configuration, fold and seed: a data set that reads files with cv2, a
DataLoader, masked BCE, Adam. It avoids what is easily avoided: no gradient through the network, channels_last, as many
workers as cores.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

Batch = tuple[np.ndarray, np.ndarray]  # rows and whether each is flipped, both [B]


class Images(Dataset):
    """Item (row, flipped) -> normalised image [3, size, size], and the row."""

    def __init__(self, files: Sequence[Path], size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.files, self.size = files, size
        self.mean, self.std = np.float32(mean), np.float32(std)

    def __getitem__(self, item: tuple[int, bool]) -> tuple[Tensor, int]:
        row, flipped = item
        image = cv2.cvtColor(cv2.imread(str(self.files[row])), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA)
        if flipped:
            image = image[:, ::-1]
        normalised = (image.astype(np.float32) / 255 - self.mean) / self.std
        return torch.from_numpy(normalised.transpose(2, 0, 1).copy()), int(row)


def epochs_of(rows: np.ndarray, size: int, epochs: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Batches with every row in each epoch, the last one filled up; half of the rows are flipped."""
    for _ in range(epochs):
        order = np.concatenate([rng.permutation(rows), rng.permutation(rows)])[: -(-len(rows) // size) * size]
        for batch in order.reshape(-1, size):
            yield batch, rng.random(size) < 0.5


bce = functools.partial(functional.binary_cross_entropy_with_logits, reduction="none")


def masked_mean(losses: Tensor, observed: Tensor) -> Tensor:
    return (losses * observed).sum() / observed.sum()


def masked_bce(logits: Tensor, targets: Tensor, observed: Tensor) -> Tensor:
    return masked_mean(bce(logits, targets), observed)


def loader_of(images: Images, batches: Iterable[Batch], workers: int) -> DataLoader:
    items = [list(zip(rows.tolist(), flips.tolist(), strict=True)) for rows, flips in batches]
    return DataLoader(images, batch_sampler=items, num_workers=workers)


def train(
    network: nn.Module,
    head: nn.Linear,
    images: Images,
    targets: Tensor,
    observed: Tensor,
    batches: Iterable[Batch],
    lr: float,
    workers: int = 0,
) -> list[float]:
    """Train one head; returns the loss before each step."""
    network = network.eval().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(head.parameters(), lr)
    losses = []
    for batch, rows in loader_of(images, batches, workers):
        with torch.no_grad():
            features = network(batch.contiguous(memory_format=torch.channels_last))
        loss = masked_bce(head(features), targets[rows], observed[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def predict(
    network: nn.Module, head: nn.Linear, images: Images, rows: np.ndarray, size: int, workers: int = 0
) -> Tensor:
    """Probabilities [len(rows), A] of unaugmented images."""
    batches = [(part, np.zeros(len(part), bool)) for part in np.split(rows, range(size, len(rows), size))]
    with torch.no_grad():
        logits = [
            head(network(batch.contiguous(memory_format=torch.channels_last)))
            for batch, _ in loader_of(images, batches, workers)
        ]
    return torch.sigmoid(torch.cat(logits))
