from __future__ import annotations

import logging
from pathlib import Path

import bundles
import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three attributes."""
    return bundles.write_bundle(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    """Forty images, uint8 [40, SIZE, SIZE, 3], RGB, between dark and bright."""
    rng = np.random.default_rng(0)
    top = np.linspace(60, 256, 40).astype(int)
    return np.stack([rng.integers(0, high, (bundles.SIZE, bundles.SIZE, 3), np.uint8) for high in top])


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, noise: np.ndarray) -> Path:
    """The forty images as PNG, 00.png to 39.png."""
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(noise):
        cv2.imwrite(str(folder / f"{number:02}.png"), image[..., ::-1])
    return folder


@pytest.fixture(autouse=True)
def unprinted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages reach `caplog`, whatever command an earlier test has run."""
    package = logging.getLogger("aimonk_bench")
    monkeypatch.setattr(package, "handlers", [])
    monkeypatch.setattr(package, "propagate", True)
