"""Finished runs of seconds, and bundles of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from aimonk_bench.config import loader
from aimonk_bench.serving.choice import Choice, choose
from aimonk_bench.serving.export import Exported, export
from aimonk_bench.suite import plan, runner
from aimonk_bench.suite.clock import Clock
from aimonk_bench.tables import TABLES

COMMON = """\
data: {labels: synthetic/labels.txt, images: synthetic/images}
transform: {size: 32}
tune: {}
"""
HOLDOUT = """\
backbone: {name: tf_efficientnet_lite0}
split: {scheme: holdout, val: 0.3, test: 0.3}
train: {epochs: 6, seeds: 3, lr: 0.01, select: average_precision}
calibration: platt
"""
FOLDS = """\
backbone: {name: tf_efficientnet_lite0}
split: {scheme: kfold, folds: 2, val: 0.3}
train: {epochs: 4, seeds: 2, select: average_precision}
tune: {train.lr: [0.001, 0.01], loss.gamma: [0.5, 2.0]}
loss: focal
"""
FINE_TUNED = """\
backbone: {name: tf_efficientnet_lite0, freeze: conv_head}
split: {scheme: holdout, val: 0.3, test: 0.3}
train: {epochs: 1, seeds: 2, device: cpu}
"""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """torch on one thread: the tests of other processes need the cores, and threads that wait for each other cost."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def no_progress(phase: str, done: int, total: int) -> None:
    """Report nothing."""


@pytest.fixture(scope="session")
def run_of(workplace: Path) -> Callable[[str, str], Path]:
    """Runs a config once, and returns its folder."""

    def run_of(name: str, text: str) -> Path:
        folder, config = workplace / name, workplace / f"{name}.yaml"
        if not folder.exists():
            common = [line for line in COMMON.splitlines() if line.split(":")[0] not in text]
            config.write_text("\n".join([*common, text]))
            runner.execute_run(plan.plan_run(loader.load(config, TABLES)), folder, Clock(), no_progress)
        return folder

    return run_of


@pytest.fixture(scope="session")
def holdout(run_of: Callable[[str, str], Path]) -> Path:
    return run_of("holdout", HOLDOUT)


@pytest.fixture(scope="session")
def chosen(holdout: Path) -> Choice:
    """The hold-out with its statistics, which take seconds."""
    return choose(holdout)


@pytest.fixture(scope="session")
def folds(run_of: Callable[[str, str], Path]) -> Path:
    return run_of("folds", FOLDS)


@pytest.fixture(scope="session")
def fine_tuned(run_of: Callable[[str, str], Path]) -> Path:
    return run_of("fine_tuned", FINE_TUNED)


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str | int | None], Exported]:
    """Exports a head of a run once."""
    made: dict[tuple[str, str], Exported] = {}

    def bundle_of(run: Path, head: str | int | None = None) -> Exported:
        key = os.fspath(run), str(head)
        if key not in made:
            made[key] = export(run, tmp_path_factory.mktemp("bundles") / "bundle", head=head)
        return made[key]

    return bundle_of
