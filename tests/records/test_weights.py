"""The weights of a run on disk."""

import numpy as np
import pytest
from safetensors.numpy import save

from aimonk_bench.errors import UserError
from aimonk_bench.records.weights import HEADS, HeadWeights, read_heads, write_heads


def test_heads_come_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 4, 5), (2, 3, 4)))
    write_heads(tmp_path, HeadWeights(weight.transpose(1, 0, 2, 3), bias.swapaxes(0, 1)))
    heads = read_heads(tmp_path)
    assert (heads.weight == weight.transpose(1, 0, 2, 3)).all()
    assert heads.weight.dtype == np.float32
    assert (heads.bias == bias.swapaxes(0, 1)).all()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\x00" * 100,
        save({"weight": np.zeros((1, 1, 2, 3), np.float32)}),
        save({"weight": np.zeros((1, 1, 2, 3), np.float32), "bias": np.zeros((1, 1, 3), np.float32)}),
    ],
)
def test_a_file_that_is_no_weights_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / HEADS).write_bytes(content)
    with pytest.raises(UserError, match=HEADS):
        read_heads(tmp_path)
