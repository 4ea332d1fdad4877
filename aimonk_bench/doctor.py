"""What this machine has, what is wrong with it, and how to mend it."""

from __future__ import annotations

import functools
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from aimonk_bench.records.environment import PACKAGES, cores

MORE_PACKAGES = ("pandas", "matplotlib", "rich", "pydantic", "typer")  # those that no record of a run names
OLDEST_OPENCV = (4, 12)  # older releases return stale pixels for truncated JPEGs


@dataclass(frozen=True)
class Finding:
    """One line of the report: a fact, or a problem with its cure."""

    state: Literal["ok", "note", "problem"]
    text: str


def examine(backbone: str = "resnet18") -> Iterator[Finding]:
    """Look at Python, the packages, OpenCV's owners, the devices, the feature store and the weights of a backbone.

    A look that fails is a problem in itself, and the next one is taken.
    """
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "the packages": _packages,
        "OpenCV": _opencv,
        "the devices": _devices,
        "the feature store": _store,
        f"the weights of {backbone}": functools.partial(_weights, backbone),
    }
    for subject, look in looks.items():
        try:
            yield from look()
        except Exception as error:  # a broken package may raise anything
            yield Finding("problem", f"{subject} cannot be examined ({type(error).__name__}: {error})")


def _packages() -> Iterator[Finding]:
    usable = f"{cores()} of {os.cpu_count()} cores usable"
    yield Finding("ok", f"Python {platform.python_version()} on {platform.platform()}, {usable}")
    for name in (*PACKAGES, *MORE_PACKAGES):
        version = _version(name)
        if version is not None:
            yield Finding("ok", f"{name} {version}")
        elif not name.startswith("opencv"):
            yield Finding("problem", f"{name} is not installed; mend: pip install -c constraints.txt -e .")


def _opencv() -> Iterator[Finding]:
    owners = {name: _version(name) for name in PACKAGES if name.startswith("opencv")}
    installed = {name: version for name, version in owners.items() if version is not None}
    if len(set(installed.values())) > 1:
        both = " and ".join(f"{name} {version}" for name, version in installed.items())
        newest = max(installed.values(), key=_parts)
        yield Finding(
            "problem",
            f"{both} share the folder cv2/, and the last written wins; mend: pip uninstall -y {' '.join(installed)}, "
            f"then pip install opencv-python=={newest} opencv-python-headless=={newest}",
        )
    try:
        import cv2
    except ImportError as error:
        yield Finding(
            "problem",
            f"cv2 cannot be imported ({error}); mend: apt install libgl1, or pip uninstall -y {' '.join(installed)}, "
            "then pip install opencv-python-headless",
        )
        return
    state: Literal["ok", "problem"] = "ok" if _parts(cv2.__version__) >= OLDEST_OPENCV else "problem"
    yield Finding(
        state, f"cv2 {cv2.__version__}, owned by {', '.join(installed) or 'no package'}; expected 4.12 or newer"
    )


def _devices() -> Iterator[Finding]:
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield Finding("ok", f"CUDA devices: {', '.join(names)}" if names else "no CUDA device: everything runs on the CPU")


def _store() -> Iterator[Finding]:
    from aimonk_bench.backbones.features import FeatureStore

    root = FeatureStore().root
    parent = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        yield Finding("problem", f"the feature store {root} cannot be written; mend: set AIMONK_BENCH_CACHE")
        return
    used = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    free = shutil.disk_usage(parent).free
    yield Finding("ok", f"feature store {root}: {used / 2**20:.0f} MiB used, {free / 2**30:.0f} GiB free")


def _weights(backbone: str) -> Iterator[Finding]:
    from aimonk_bench.backbones import weights
    from aimonk_bench.config.fields import BackboneConfig

    try:
        found = weights.resolve(BackboneConfig(name=backbone))
    except weights.WeightsUnavailable as error:
        lines = "\n".join(f"  {line}" for line in error.problems)
        yield Finding(
            "note", f"the weights of {backbone} cannot be had here, so name another backbone or a fallback:\n{lines}"
        )
        return
    yield Finding("ok", f"weights of {found.name}: {found.source}, {found.file}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
