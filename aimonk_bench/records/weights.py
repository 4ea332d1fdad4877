"""The weights of a finished run, as safetensors: nothing is pickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from aimonk_bench.errors import UserError
from aimonk_bench.records.files import write_bytes

HEADS = "heads.safetensors"


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """The linear heads of a run in their chosen epochs: logits = features @ weight.T + bias.

    Attributes:
        weight: [S, F, A, D] float32.
        bias: [S, F, A] float32.
    """

    weight: np.ndarray
    bias: np.ndarray


def write_heads(folder: Path, heads: HeadWeights) -> None:
    """Write ``heads.safetensors`` atomically."""
    tensors = {"weight": heads.weight, "bias": heads.bias}
    write_bytes(folder / HEADS, save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def read_heads(folder: Path) -> HeadWeights:
    """Read ``heads.safetensors``.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / HEADS
    try:
        tensors = load(path.read_bytes())
        heads = HeadWeights(tensors["weight"], tensors["bias"])
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as the weights of a run: {error}") from error
    if heads.weight.ndim != 4 or heads.bias.shape != heads.weight.shape[:3]:
        shapes = f"weight {list(heads.weight.shape)}, bias {list(heads.bias.shape)}"
        raise UserError(f"{path}: expected weight [S, F, A, D] and bias [S, F, A], found {shapes}")
    return heads
