"""The plain script: a frozen timm network and a linear head; every picture is decoded and forwarded in every epoch.

What one writes first, once for each configuration, fold and seed: a data set that reads files with cv2, a DataLoader,
masked BCE, Adam. As quick as it gets without another idea: no gradient through the network, channels_last, as many
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


class Pictures(Dataset):
    """Item (row, flipped) -> picture [3, size, size], normalised, and the row."""

    def __init__(self, files: Sequence[Path], size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.files, self.size = files, size
        self.mean, self.std = np.float32(mean), np.float32(std)

    def __getitem__(self, item: tuple[int, bool]) -> tuple[Tensor, int]:
        row, flipped = item
        picture = cv2.cvtColor(cv2.imread(str(self.files[row])), cv2.COLOR_BGR2RGB)
        picture = cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)
        if flipped:
            picture = picture[:, ::-1]
        normal = (picture.astype(np.float32) / 255 - self.mean) / self.std
        return torch.from_numpy(normal.transpose(2, 0, 1).copy()), int(row)


def epochs_of(rows: np.ndarray, size: int, epochs: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Every row in each epoch, the last batch filled up; half of them flipped."""
    for _ in range(epochs):
        order = np.concatenate([rng.permutation(rows), rng.permutation(rows)])[: -(-len(rows) // size) * size]
        for batch in order.reshape(-1, size):
            yield batch, rng.random(size) < 0.5


bce = functools.partial(functional.binary_cross_entropy_with_logits, reduction="none")


def masked_mean(cells: Tensor, observed: Tensor) -> Tensor:
    return (cells * observed).sum() / observed.sum()


def masked_bce(logits: Tensor, targets: Tensor, observed: Tensor) -> Tensor:
    return masked_mean(bce(logits, targets), observed)


def loader_of(pictures: Pictures, batches: Iterable[Batch], workers: int) -> DataLoader:
    items = [list(zip(rows.tolist(), flips.tolist(), strict=True)) for rows, flips in batches]
    return DataLoader(pictures, batch_sampler=items, num_workers=workers)


def train(
    network: nn.Module,
    head: nn.Linear,
    pictures: Pictures,
    targets: Tensor,
    observed: Tensor,
    batches: Iterable[Batch],
    lr: float,
    workers: int = 0,
) -> list[float]:
    """Train one head; the loss before each step."""
    network = network.eval().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(head.parameters(), lr)
    losses = []
    for images, rows in loader_of(pictures, batches, workers):
        with torch.no_grad():
            features = network(images.contiguous(memory_format=torch.channels_last))
        loss = masked_bce(head(features), targets[rows], observed[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def predict(
    network: nn.Module, head: nn.Linear, pictures: Pictures, rows: np.ndarray, size: int, workers: int = 0
) -> Tensor:
    """Probabilities [len(rows), A] of undisturbed pictures."""
    batches = [(part, np.zeros(len(part), bool)) for part in np.split(rows, range(size, len(rows), size))]
    with torch.no_grad():
        logits = [
            head(network(images.contiguous(memory_format=torch.channels_last)))
            for images, _ in loader_of(pictures, batches, workers)
        ]
    return torch.sigmoid(torch.cat(logits))
