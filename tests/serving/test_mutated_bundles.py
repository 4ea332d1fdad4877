"""Bundles and files of weights, damaged: logits and tensors or our own error, in bounded time and memory."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import bundles
import numpy as np
import pytest
from hostile_files import HOSTILE, limited, mutated
from hypothesis import given
from hypothesis import strategies as st

from aimonk_bench.errors import UserError
from aimonk_bench.records import weights
from aimonk_bench.records.weights import HeadWeights, NetworkWeights
from aimonk_bench.serving.graph import open_classifier

IMAGE = np.random.default_rng(0).integers(0, 256, (1, bundles.SIZE, bundles.SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle, with files of weights as runs have them."""
    folder = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("mutated") / "bundle"))
    heads = HeadWeights(np.zeros((2, 2, 3, 4), np.float32), np.zeros((2, 2, 3), np.float32))
    weights.write_heads(folder, heads)
    network = NetworkWeights({"layer": np.zeros((2, 2), np.float32)}, heads.weight[0, 0], heads.bias[0, 0])
    weights.write_network(folder / "network.safetensors", network, "fc")
    return folder


@HOSTILE
@given(data=st.data())
def test_a_mutated_bundle_predicts_or_is_a_user_error(folder: Path, data: st.DataObject) -> None:
    names = ("config.json", "model.onnx", weights.HEADS, "network.safetensors")
    originals = {name: (folder / name).read_bytes() for name in names}
    name, content = data.draw(mutated(originals, text=data.draw(st.booleans())))
    try:
        (folder / name).write_bytes(content)
        with limited(), contextlib.suppress(UserError):
            if name == weights.HEADS:
                assert weights.read_heads(folder).weight.ndim == 4
            elif name == "network.safetensors":
                assert weights.read_network(folder / name).layers is not None
            else:
                classifier = open_classifier(folder)
                images = np.resize(IMAGE, (1, classifier.size, classifier.size, 3))
                assert classifier.encoder(1)(images).shape == (1, len(classifier.attributes))
    finally:
        (folder / name).write_bytes(originals[name])
