"""Stacked linear heads: H heads as one weight tensor and one bias tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aimonk_bench.training.batches import Features

CHUNK_BYTES = 16 << 20  # features gathered at once for validation and test rows


@dataclass(frozen=True, eq=False)
class Heads:
    """H linear heads.

    Attributes:
        weight: [H, A, D].
        bias: [H, 1, A].
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def initial(
        cls,
        attributes: int,
        features: int,
        generators: Sequence[np.random.Generator],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Heads:
        """One head per generator, initialised as torch.nn.Linear: weights and biases uniform within +-1/sqrt(D).

        Drawn in float64 on the CPU, so that the start does not depend on dtype or device.
        """
        bound, width = 1 / math.sqrt(features), features + 1  # the bias is the last column
        draws = np.stack([rng.uniform(-bound, bound, (attributes, width)) for rng in generators])
        both = torch.from_numpy(draws).to(device, dtype)
        return cls(both[..., :features].contiguous(), both[..., features].unsqueeze(1).contiguous())

    def repeated(self, times: int) -> Heads:
        """Every head ``times`` in a row."""
        return Heads(self.weight.repeat_interleave(times, 0), self.bias.repeat_interleave(times, 0))

    def copy(self) -> Heads:
        """A copy of the heads in new memory."""
        return Heads(self.weight.clone(), self.bias.clone())

    def approach(self, others: Heads, share: float) -> None:
        """Move every head towards the one of ``others`` with its number, by ``share`` of the way."""
        self.weight.lerp_(others.weight, share)
        self.bias.lerp_(others.bias, share)

    def __getitem__(self, heads: slice | np.ndarray) -> Heads:
        """Some of the heads; a slice shares their memory."""
        return Heads(self.weight[heads], self.bias[heads])

    def logits(self, features: Tensor) -> Tensor:
        """Logits [H, B, A] for features [J, B, D]; every P = H / J consecutive heads read the same features."""
        jobs, batch, size = features.shape
        heads, attributes, _ = self.weight.shape
        # weight x features takes a third of the time of features x weight when A is small
        products = torch.bmm(self.weight.view(jobs, -1, size), features.transpose(1, 2))
        return products.view(heads, attributes, batch).transpose(1, 2) + self.bias

    def predict(self, features: Features, rows: Tensor) -> Tensor:
        """Logits [H, R, A] for rows [R] of the feature matrix.

        The last bits may depend on which heads and rows one call is for.
        """
        size = max(1, CHUNK_BYTES // (features.size * self.weight.element_size()))
        return torch.cat([self.logits(features.take(some)[None]) for some in rows.split(size)], 1)

    def gradients(self, by_logits: Tensor, features: Tensor, out: Sequence[Tensor]) -> None:
        """Write the derivatives by weight [H, A, D] and by bias [H, 1, A] into ``out``.

        Args:
            by_logits: [H, B, A] the derivatives by the logits.
            features: [J, B, D] as for `logits`.
            out: two contiguous tensors. New memory for every step would take as long as the product.
        """
        jobs, batch, size = features.shape
        of_weight, of_bias = out
        transposed = by_logits.transpose(1, 2).reshape(jobs, -1, batch)
        torch.bmm(transposed, features, out=of_weight.view(jobs, -1, size))
        torch.sum(by_logits, 1, keepdim=True, out=of_bias)
