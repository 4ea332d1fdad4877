from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from aimonk_bench.serving.classifier import TorchClassifier
from aimonk_bench.serving.onnx_graph import planes
from aimonk_bench.serving.resizing import Sample, flips, logits_of, samples

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


def classifier() -> TorchClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(1), nn.Linear(4 * 14 * 14, 2))
    return TorchClassifier(Normalise((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), network)


def run_of(network: TorchClassifier) -> Callable[[np.ndarray], np.ndarray]:
    """As onnxruntime computes it for a bundle."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = network(torch.from_numpy(images)).numpy()
        return logits

    return run


NAMES = [f"{number:03}.png" for number in range(120)]


def numbers(images: list[Sample]) -> list[int]:
    return [int(image.path.stem) for image in images]


def test_images_are_evenly_spaced_and_decoded_as_in_training(folder: Path):
    decoded = samples(config(folder), WEIGHTS, [NAMES])
    spaced = numbers(decoded)
    assert len(set(spaced)) == 100
    assert (spaced[0], spaced[-1]) == (0, 119)
    assert set(np.diff(spaced)) == {1, 2}
    assert [image.name for image in decoded] == [image.path.name for image in decoded]
    data = decoded[3].path.read_bytes()
    assert np.array_equal(decoded[3].pixels, decode(data, SIZE, WEIGHTS.entry.interpolation))


def test_where_test_images_are_fewer_others_follow(folder: Path):
    """First all test images, then all validation images, then others, but none that the run skipped."""
    decoded = samples(config(folder), WEIGHTS, [NAMES[:30], NAMES[25:40]], skipped=NAMES[40:50])
    assert numbers(decoded)[:40] == [*range(40)]
    assert len(decoded) == 100
    assert set(numbers(decoded)[40:]) <= {*range(50, 120)}
    assert numbers(decoded)[-1] == 119
    assert len(samples(config(folder), WEIGHTS, [], skipped=NAMES[7:])) == 7


def test_an_image_that_is_gone_is_left_out_and_said(folder: Path, caplog: pytest.LogCaptureFixture):
    (folder / "images" / "001.png").unlink()
    (folder / "images" / "002.png").write_bytes(b"no image")
    decoded = samples(config(folder), WEIGHTS, [NAMES[:3]], skipped=NAMES[3:])
    assert [image.name for image in decoded] == ["000.png"]
    assert "2 of 3 images of the run cannot be read, first" in caplog.text


def test_decisions_that_flip_are_counted_and_differences_measured(folder: Path):
    network = classifier()
    decoded = samples(config(folder), WEIGHTS, [NAMES[:12]], skipped=NAMES[12:])
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=CFG))
    with torch.inference_mode():
        expected_logits = network(torch.from_numpy(planes(np.stack([image.pixels for image in decoded])))).numpy()
        tensors = torch.stack([transform(Image.open(image.path).convert("RGB")) for image in decoded])
        theirs = sigmoid(network.network(tensors).numpy())
    logits, ours = logits_of(run_of(network), decoded), sigmoid(expected_logits)
    assert logits == pytest.approx(expected_logits, abs=1e-5)
    thresholds = (ours[5] + theirs[5]) / 2
    expected = int(((ours > thresholds) != (theirs > thresholds)).sum())
    assert expected >= 2  # those of the image from which the thresholds are
    counted = flips(decoded, logits, run_of(network), CFG, thresholds, NAMES[:5])
    assert (counted.images, counted.test_images, counted.decisions) == (12, 5, 24)
    assert (counted.flipped, counted.unreadable) == (expected, 0)
    assert counted.largest == pytest.approx(np.abs(ours - theirs).max(), abs=1e-5)
    assert counted.median == pytest.approx(np.median(np.abs(ours - theirs)), abs=1e-5)
    assert flips(decoded, logits, run_of(network), CFG, np.ones(2), ()).flipped == 0


def test_an_image_that_pillow_cannot_read_is_counted(folder: Path):
    (folder / "broken.png").write_bytes(b"no image")
    first, second = samples(config(folder), WEIGHTS, [NAMES[:2]], skipped=NAMES[2:])
    images = [first, Sample("broken.png", folder / "broken.png", second.pixels), second]
    network = classifier()
    logits = logits_of(run_of(network), images)
    whole = flips([first, second], logits[[0, 2]], run_of(network), CFG, np.ones(2), ["000.png"])
    assert flips(images, logits, run_of(network), CFG, np.ones(2), ["000.png", "broken.png"]) == replace(
        whole, unreadable=1
    )
    nothing = flips([], logits_of(run_of(network), []), run_of(network), CFG, np.ones(2), ())
    assert (nothing.images, nothing.decisions, nothing.flipped, nothing.unreadable) == (0, 0, 0, 0)
    assert np.isnan([nothing.largest, nothing.median]).all()
