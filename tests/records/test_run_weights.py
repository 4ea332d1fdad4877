"""The weights of a run on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from aimonk_bench.errors import UserError
from aimonk_bench.records.weights import (
    HEADS,
    NETWORKS,
    HeadWeights,
    NetworkWeights,
    check,
    network_file,
    read_heads,
    read_network,
    write_heads,
    write_network,
)

NETWORK = NetworkWeights(
    layers={
        "layer4.0.bn1.num_batches_tracked": np.array(3),
        "layer4.0.conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2).transpose(0, 3, 1, 2),
    },
    weight=np.ones((4, 5), np.float32),
    bias=np.arange(4, dtype=np.float32),
)


def heads(seeds: int = 2, folds: int = 3, attributes: int = 4) -> HeadWeights:
    rng, shape = np.random.default_rng(0), (seeds, folds, attributes)
    return HeadWeights(*(rng.normal(size=size).astype(np.float32) for size in ((*shape, 5), shape)))


def test_heads_come_back_bit_for_bit(tmp_path: Path) -> None:
    made = heads()
    write_heads(tmp_path, HeadWeights(made.weight.transpose(1, 0, 2, 3), made.bias.swapaxes(0, 1)))
    read = read_heads(tmp_path)
    assert (read.weight == made.weight.transpose(1, 0, 2, 3)).all()
    assert read.weight.dtype == np.float32
    assert (read.bias == made.bias.swapaxes(0, 1)).all()


JUNK = [None, b"", b"\x00" * 100, b"PK\x03\x04 cut off", b"{}"]
ONE = np.zeros((1, 1, 2, 3), np.float32)


@pytest.mark.parametrize("content", [*JUNK, save({"weight": ONE}), save({"weight": ONE, "bias": ONE[..., 0, :]})])
def test_a_file_that_is_no_weights_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / HEADS).write_bytes(content)
    with pytest.raises(UserError, match=HEADS):
        read_heads(tmp_path)


def test_a_network_comes_back_bit_for_bit_under_the_names_of_timm(tmp_path: Path) -> None:
    path = tmp_path / network_file(1, 7)
    assert path.name == "fold1-seed7.safetensors"
    write_network(path, NETWORK, "head.fc")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    content = path.read_bytes()
    write_network(path, NetworkWeights(dict(reversed(NETWORK.layers.items())), NETWORK.weight, NETWORK.bias), "head.fc")
    assert path.read_bytes() == content
    assert sorted(load_file(path)) == ["head.fc.bias", "head.fc.weight", *sorted(NETWORK.layers)]
    read = read_network(path)
    assert read.layers.keys() == NETWORK.layers.keys()
    for name, tensor in NETWORK.layers.items():
        assert (read.layers[name].dtype, read.layers[name].shape) == (tensor.dtype, tensor.shape)
        np.testing.assert_array_equal(read.layers[name], tensor)
    np.testing.assert_array_equal(read.weight, NETWORK.weight)
    np.testing.assert_array_equal(read.bias, NETWORK.bias)


NO_NETWORK = [
    *JUNK,
    save({"fc.weight": ONE, "fc.bias": ONE}),  # it does not say which tensor is the head
    save({"fc.weight": ONE}, {"head": "fc"}),
    save({"fc.weight": ONE, "fc.bias": ONE}, {"head": "head"}),
]


@pytest.mark.parametrize("content", NO_NETWORK)
def test_a_file_that_is_no_network_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "fold0-seed0.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="fold0-seed0"):
        read_network(path)
    with pytest.raises(UserError, match="fold0-seed0"):
        check(tmp_path, [path.name], (1, 1, 4))


def test_a_network_that_is_cut_off_is_named_though_only_its_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fold0-seed0.safetensors"
    write_network(path, NETWORK, "fc")
    check(tmp_path, [path.name], (1, 1, 4))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="fold0-seed0"):
        check(tmp_path, [path.name], (1, 1, 4))


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 1, 4), (2, 3, 5)])
def test_heads_of_another_run_are_refused(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    write_heads(tmp_path, heads())
    check(tmp_path, [HEADS], (2, 3, 4))
    with pytest.raises(UserError) as error:
        check(tmp_path, [HEADS], shape)
    for part in (HEADS, "[2, 3, 4]", str(list(shape)), "predictions.npz"):
        assert part in str(error.value)


def test_weights_that_are_missing_are_named_with_the_reason_why_they_are_wanted(tmp_path: Path) -> None:
    check(tmp_path, [], (2, 3, 4))
    with pytest.raises(UserError, match=rf"{HEADS}: is missing; every run on a frozen backbone"):
        check(tmp_path, [HEADS], (2, 3, 4))
    name = f"{NETWORKS}/{network_file(0, 1)}"
    with pytest.raises(UserError, match=rf"{name}: is missing; train\.keep_weights"):
        check(tmp_path, [name], (2, 3, 4))
