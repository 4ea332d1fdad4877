"""The competent script: features once, with torch, then heads one after another on rows in memory.

What somebody writes who has seen that a frozen network says the same in every epoch. It knows that batches of 32 in
the channels_last format are quick, and that flipping what is decoded saves a decode.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.plain import Batch, Pictures, loader_of, masked_bce

BATCH = 32


def encode(network: nn.Module, pictures: Pictures, count: int, workers: int = 0) -> Tensor:
    """Features of the first pictures, upright and flipped: [2 x count, D]."""
    network = network.eval().to(memory_format=torch.channels_last)
    rows = np.split(np.arange(count), range(BATCH, count, BATCH))
    upright, flipped = [], []
    with torch.no_grad():
        for images, _ in loader_of(pictures, ((part, np.zeros(len(part), bool)) for part in rows), workers):
            upright.append(network(images.contiguous(memory_format=torch.channels_last)))
            flipped.append(network(images.flip(3).contiguous(memory_format=torch.channels_last)))
    return torch.cat(upright + flipped)


def train(
    head: nn.Linear, features: Tensor, targets: Tensor, observed: Tensor, batches: Iterable[Batch], lr: float
) -> list[float]:
    """Train one head; the loss before each step."""
    optimizer = torch.optim.Adam(head.parameters(), lr)
    count, losses = len(targets), []
    for rows, flips in batches:
        inputs = features[torch.from_numpy(rows + count * flips)]
        own = torch.from_numpy(rows)
        loss = masked_bce(head(inputs), targets[own], observed[own])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def predict(head: nn.Linear, features: Tensor, rows: np.ndarray) -> Tensor:
    """Probabilities [len(rows), A] of undisturbed pictures."""
    with torch.no_grad():
        return torch.sigmoid(head(features[torch.from_numpy(rows)]))
