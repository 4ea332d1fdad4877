"""The weights of a finished run, as safetensors: nothing is pickled.

A run on a frozen backbone keeps its heads in one file. A fine-tuned run keeps a file for each fold and seed in the
folder ``networks``, if its config wants them (``train.keep_weights``). Such a file holds the trainable layers, their
buffers included, under timm's names (``layer4.0.conv1.weight``), and the head under the name of timm's classifier
(``fc.weight``), which the file's metadata states under ``head``; frozen layers are not in it. With the pretrained
weights it makes a whole network: ``model.load_state_dict(load_file(path), strict=False)``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from aimonk_bench.errors import UserError
from aimonk_bench.records.files import atomic, write_bytes

HEADS = "heads.safetensors"
NETWORKS = "networks"  # a folder


class Missing(UserError):
    """A run lacks weights that it is to have, as runs of earlier versions do, and those of another config."""


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """The linear heads of a run, as they predict after their chosen epochs: logits = features @ weight.T + bias.

    Attributes:
        weight: [S, F, A, D] float32.
        bias: [S, F, A] float32.
    """

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class NetworkWeights:
    """The trainable layers of a network and its linear head, of one fold and seed, in the chosen epoch.

    Attributes:
        layers: name in timm's network -> tensor.
        weight: [A, C] of the head, on C pooled features.
        bias: [A] of the head.
    """

    layers: Mapping[str, np.ndarray]
    weight: np.ndarray
    bias: np.ndarray


def write_heads(folder: Path, heads: HeadWeights) -> None:
    """Write ``heads.safetensors`` atomically."""
    tensors = {"weight": np.ascontiguousarray(heads.weight), "bias": np.ascontiguousarray(heads.bias)}
    write_bytes(folder / HEADS, save(tensors, metadata={"crc32": _checksum(**tensors)}))


def read_heads(folder: Path) -> HeadWeights:
    """Read ``heads.safetensors``.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / HEADS
    try:
        with safe_open(path, framework="np") as file:
            heads = HeadWeights(file.get_tensor("weight"), file.get_tensor("bias"))
            checksum = (file.metadata() or {}).get("crc32")
    except (OSError, SafetensorError, KeyError) as error:
        raise _unreadable(path, error) from error
    if checksum != _checksum(heads.weight, heads.bias):
        what = "no checksum, as in files of earlier versions" if checksum is None else "other numbers than were written"
        raise UserError(f"{path}: found {what}; the same command that made the run makes it again")
    if heads.weight.ndim != 4 or heads.bias.shape != heads.weight.shape[:3]:
        shapes = f"weight {list(heads.weight.shape)}, bias {list(heads.bias.shape)}"
        raise UserError(f"{path}: expected weight [S, F, A, D] and bias [S, F, A], found {shapes}")
    return heads


def _checksum(weight: np.ndarray, bias: np.ndarray) -> str:
    kinds = f"{weight.dtype} {weight.shape} {bias.dtype} {bias.shape}".encode()
    return str(zlib.crc32(kinds, zlib.crc32(bias.tobytes(), zlib.crc32(weight.tobytes()))))


def network_file(fold: int, seed: int) -> str:
    """The name of the file with the network of a fold and seed."""
    return f"fold{fold}-seed{seed}.safetensors"


def write_network(path: Path, network: NetworkWeights, head: str) -> None:
    """Write a network atomically.

    Args:
        head: the name of the head among the tensors, that of timm's classifier.
    """
    tensors = {**network.layers, f"{head}.weight": network.weight, f"{head}.bias": network.bias}
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    with atomic(path) as partial:
        save_file(arrays, partial, metadata={"head": head})  # of several keys the order is random


def read_network(path: Path) -> NetworkWeights:
    """Read a network.

    Raises:
        UserError: the file is missing or damaged.
    """
    with _opened(path) as (file, head):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no map
        weight, bias = tensors.pop(f"{head}.weight"), tensors.pop(f"{head}.bias")
    return NetworkWeights(tensors, weight, bias)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, str]]:
    """The file of a network, of which the header is read, and the name of the head in it."""
    try:
        with safe_open(path, framework="np") as file:
            yield file, (file.metadata() or {})["head"]
    except (OSError, SafetensorError, KeyError) as error:
        raise _unreadable(path, error) from error


def check(folder: Path, names: Sequence[str], shape: tuple[int, int, int]) -> None:
    """Check that the files of weights in the folder of a run are there and can be read; of networks only the header.

    Args:
        folder: of the run.
        names: of its files of weights, relative to the folder.
        shape: (S, F, A), as the predictions have it.

    Raises:
        Missing: a file is missing.
        UserError: a file is damaged, or holds heads for another number of seeds, folds or attributes.
    """
    for name in names:
        path, expected = folder / name, list(shape if name == HEADS else shape[2:])
        if not path.exists():
            wanted = "every run on a frozen backbone keeps it" if name == HEADS else "train.keep_weights asks for it"
            raise Missing(f"{path}: is missing; {wanted}")
        if name == HEADS:
            bias_shape = list(read_heads(folder).bias.shape)
        else:
            with _opened(path) as (file, head):
                bias_shape = file.get_slice(f"{head}.bias").get_shape()
        if bias_shape != expected:
            raise UserError(f"{path}: found a bias {bias_shape}, expected {expected} as in predictions.npz")


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read as the weights of a run: {error}")
