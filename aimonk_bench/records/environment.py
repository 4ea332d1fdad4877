"""What a run was computed with: versions, processor, engine, weights, commit."""

from __future__ import annotations

import functools
import math
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import aimonk_bench

PACKAGES = (
    "torch",
    "timm",
    "albumentations",
    "opencv-python",
    "opencv-python-headless",
    "numpy",
    "scikit-learn",
    "iterative-stratification",
    "onnx",
    "onnxruntime",
    "safetensors",
)


@dataclass(frozen=True)
class Weights:
    """What a table needs of the weights in ``environment.json``."""

    name: str
    requested: str
    licence: str | None
    non_commercial: bool
    own_terms: bool = False


@dataclass(frozen=True)
class BackboneCost:
    """What the backbone of a run costs.

    Attributes:
        parameters, macs: of one image without classifier; NaN of a run that is older than these figures.
        images_per_second: that the machine of the run encoded; None where it was never measured.
    """

    parameters: float = math.nan
    macs: float = math.nan
    images_per_second: float | None = None


@dataclass(frozen=True)
class Environment:
    """What a table needs of ``environment.json``."""

    weights: Weights
    cost: BackboneCost = BackboneCost()


def environment(weights: Mapping[str, Any], cost: Mapping[str, Any], engine: str, device: str) -> dict[str, Any]:
    """The content of ``environment.json``.

    Args:
        weights: facts about the weights. The table reads ``name`` (the backbone used), ``requested`` (the backbone
            asked for), ``freeze``, ``licence``, ``non_commercial`` and ``own_terms``; ``source``, ``file`` and
            ``sha256`` are stored only.
        cost: of the backbone: ``parameters`` and ``macs`` of an image, without classifier, and ``images_per_second``
            of its encoder on this machine, None where it was never measured.
        engine: that encoded the images, "onnxruntime" or "torch".
        device: on which the heads were trained, such as "cpu".
    """
    return {**_machine(), "engine": engine, "device": device, "weights": dict(weights), "cost": dict(cost)}


def cores() -> int:
    """Number of processor cores that this process may use, by its affinity and the quota of its container."""
    import joblib

    return int(joblib.cpu_count())


@functools.cache
def _machine() -> dict[str, Any]:
    return {
        "aimonk_bench": aimonk_bench.__version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "git_commit": _commit(),
    }


def version(package: str) -> str | None:
    """The installed version of a distribution; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _commit() -> str | None:
    """The commit of this package, with ``-dirty`` for uncommitted changes; None where git does not track it."""
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    """The output of git in the folder of the package; None if git fails or is not installed."""
    folder = Path(aimonk_bench.__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
