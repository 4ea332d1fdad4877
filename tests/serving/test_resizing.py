from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import timm.data
import torch
from PIL import Image
from torch import nn

from aimonk_bench.backbones import catalog
from aimonk_bench.backbones.network import Normalise
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.config.fields import Config, DataConfig, TransformConfig
from aimonk_bench.data.images import decode
from aimonk_bench.evaluation.predictions import sigmoid
from aimonk_bench.serving.classifier import Classifier
from aimonk_bench.serving.onnx_graph import planes
from aimonk_bench.serving.resizing import Flips, Sample, flips, samples

SIZE = 16
WEIGHTS = Weights("a_net", "a_net", "none", None, "none, seed 0", catalog.entry("resnet18"))
CFG = {
    "input_size": (3, SIZE, SIZE),
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "crop_mode": "squash",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """120 images of noise, twice and a half as large as the network takes them, and their labels."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(120):
        pixels = rng.integers(0, 256, (40, 41, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{number:03}.png"), pixels)
    lines = [f"{number:03}.png {number % 2}" for number in range(120)]
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    return tmp_path


def config(folder: Path) -> Config:
    data = DataConfig(labels=folder / "labels.txt", images=folder / "images")
    return Config(name="a", data=data, transform=TransformConfig(size=SIZE))


def classifier() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(1), nn.Linear(4 * 14 * 14, 2))
    return Classifier(Normalise((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), network)


def test_images_are_evenly_spaced_and_decoded_as_in_training(folder: Path):
    names = [f"{number:03}.png" for number in range(120)]
    decoded = samples(config(folder), names, WEIGHTS)
    numbers = [int(image.path.stem) for image in decoded]
    assert len(set(numbers)) == 100
    assert (numbers[0], numbers[-1]) == (0, 119)
    assert set(np.diff(numbers)) == {1, 2}
    data = decoded[3].path.read_bytes()
    assert np.array_equal(decoded[3].pixels, decode(data, SIZE, WEIGHTS.entry.interpolation))
    assert len(samples(config(folder), names[:7], WEIGHTS)) == 7


def test_an_image_that_is_gone_is_left_out_and_said(folder: Path, caplog: pytest.LogCaptureFixture):
    (folder / "images" / "001.png").unlink()
    (folder / "images" / "002.png").write_bytes(b"no image")
    decoded = samples(config(folder), ["000.png", "001.png", "002.png"], WEIGHTS)
    assert [image.path.name for image in decoded] == ["000.png"]
    assert "2 of 3 images of the run cannot be read, first" in caplog.text


def test_decisions_that_flip_are_counted(folder: Path):
    network = classifier()
    decoded = samples(config(folder), [f"{number:03}.png" for number in range(12)], WEIGHTS)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=CFG))
    with torch.inference_mode():
        ours = sigmoid(network(torch.from_numpy(planes(np.stack([image.pixels for image in decoded])))).numpy())
        tensors = torch.stack([transform(Image.open(image.path).convert("RGB")) for image in decoded])
        theirs = sigmoid(network.network(tensors).numpy())
    thresholds = (ours[5] + theirs[5]) / 2
    expected = int(((ours > thresholds) != (theirs > thresholds)).sum())
    assert expected >= 2  # those of the image from which the thresholds are
    assert flips(decoded, network, CFG, thresholds) == Flips(12, 24, expected, 0)
    assert flips(decoded, network, CFG, np.ones(2)) == Flips(12, 24, 0, 0)


def test_an_image_that_pillow_cannot_read_is_counted(folder: Path):
    (folder / "broken.png").write_bytes(b"no image")
    decoded = samples(config(folder), ["000.png"], WEIGHTS)
    broken = Sample(folder / "broken.png", decoded[0].pixels)
    assert flips([*decoded, broken], classifier(), CFG, np.ones(2)) == Flips(1, 2, 0, 1)
    assert flips([], classifier(), CFG, np.ones(2)) == Flips(0, 0, 0, 0)
