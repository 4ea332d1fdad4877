from __future__ import annotations

import logging
import os
from pathlib import Path

import bundles
import cv2
import hypothesis
import numpy as np
import pytest

from aimonk_bench.data import synthetic

# The same examples in every run, so that a check that passed passes again; AIMONK_BENCH_FULL=1 looks for new ones.
# No clock decides: a busy machine may take longer than Hypothesis allows by default.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("new", deadline=None)
hypothesis.settings.load_profile("new" if os.environ.get("AIMONK_BENCH_FULL") else "repeatable")

SMALL = """\
data: {labels: synthetic/labels.txt, images: synthetic/images, truth: synthetic/truth.csv}
split: {scheme: kfold, folds: 2, val: 0.3}
backbone: {name: tf_efficientnet_lite0}
transform: {size: 32}
train: {lr: 0.001, epochs: 2, batch_size: 16, seeds: 2}
tune: {}
"""


@pytest.fixture(autouse=True)
def _no_logging_set_up() -> None:
    """Messages go to `caplog`, whatever a command of an earlier test set up."""
    package = logging.getLogger("aimonk_bench")
    package.handlers[:], package.propagate = [], True
    package.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small synthetic data set and `small.yaml`, an experiment of seconds on it."""
    folder = tmp_path_factory.mktemp("workplace")
    synthetic.write(folder / "synthetic", images=80, size=32, prevalences=(0.8, 0.7, 0.5, 0.3))
    (folder / "small.yaml").write_text(SMALL)
    return folder


@pytest.fixture(scope="session", autouse=True)
def feature_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature store for tests alone, shared by all of them."""
    folder = tmp_path_factory.mktemp("store")
    os.environ["AIMONK_BENCH_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def aimonk() -> Path:
    """The folder of the Aimonk data set: $AIMONK_DATA, or .data/aimonk in the repository; skips where it is absent."""
    folder = Path(os.environ.get("AIMONK_DATA", Path(__file__).parent.parent / ".data" / "aimonk"))
    if not (folder / "labels.txt").exists():
        pytest.skip("the Aimonk data set is not here")
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three attributes, which no run made."""
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
