"""What this machine has, what is wrong with it, and how to fix it."""

from __future__ import annotations

import os
import platform
import shutil
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from aimonk_bench.errors import UserError
from aimonk_bench.records.environment import PACKAGES, cores, version
from aimonk_bench.records.files import bytes_text

MORE_PACKAGES = ("pandas", "matplotlib", "rich", "pydantic", "typer")  # that no ``environment.json`` names
OLDEST_OPENCV = (4, 12)  # older releases return the pixels of another image for truncated JPEGs


@dataclass(frozen=True)
class Finding:
    """One line of the report: a fact, or a problem and how to fix it."""

    state: Literal["ok", "note", "problem"]
    text: str


def examine(backbone: str = "resnet18") -> Iterator[Finding]:
    """Examine Python, packages, OpenCV, devices, the feature store, and the weights of all backbones and of one.

    What cannot be examined is a problem, and the rest is examined all the same.

    Raises:
        UserError: there is no such backbone.
    """
    subjects: dict[str, Callable[[], Iterator[Finding]]] = {
        "the packages": _packages,
        "OpenCV": _opencv,
        "the devices": _devices,
        "the feature store": _store,
        "the backbones": _backbones,
        f"the weights of {backbone}": partial(_weights, backbone),
    }
    for subject, findings in subjects.items():
        try:
            yield from findings()
        except UserError:
            raise
        except Exception as error:  # a broken package may raise anything
            yield Finding("problem", f"{subject} cannot be examined ({type(error).__name__}: {error})")


def _packages() -> Iterator[Finding]:
    usable = f"{cores()} of {os.cpu_count()} cores usable"
    yield Finding("ok", f"Python {platform.python_version()} on {platform.platform()}, {usable}")
    for name in (*PACKAGES, *MORE_PACKAGES):
        if number := version(name):
            yield Finding("ok", f"{name} {number}")
        elif not name.startswith("opencv"):
            yield Finding("problem", f"{name} is not installed; fix: pip install -c constraints.txt -e .")


def _opencv() -> Iterator[Finding]:
    owners = {name: number for name in PACKAGES if name.startswith("opencv") and (number := version(name))}
    uninstall = f"pip uninstall -y {' '.join(owners)}"
    if len(set(owners.values())) > 1:
        both = " and ".join(f"{name} {number}" for name, number in owners.items())
        newest = max(owners.values(), key=_numbers)
        install = f"pip install opencv-python=={newest} opencv-python-headless=={newest}"
        text = f"{both} share the folder cv2/, and the last one written replaces the other"
        yield Finding("problem", f"{text}; fix: {uninstall}, then {install}")
    try:
        import cv2
    except ImportError as error:
        fix = f"apt install libgl1, or {uninstall}, then pip install opencv-python-headless"
        yield Finding("problem", f"cv2 cannot be imported ({error}); fix: {fix}")
        return
    text = f"cv2 {cv2.__version__}, owned by {', '.join(owners) or 'no package'}; expected 4.12 or newer"
    yield Finding("ok" if _numbers(cv2.__version__) >= OLDEST_OPENCV else "problem", text)


def _devices() -> Iterator[Finding]:
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield Finding("ok", f"CUDA devices: {', '.join(names)}" if names else "no CUDA device: everything runs on the CPU")


def _store() -> Iterator[Finding]:
    from aimonk_bench.backbones.features import FeatureStore

    try:
        root = FeatureStore().root
    except UserError as error:
        yield Finding("problem", str(error))
        return
    parent = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        yield Finding("problem", f"the feature store {root} cannot be written; fix: set AIMONK_BENCH_CACHE")
        return
    used = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    free = shutil.disk_usage(parent).free
    yield Finding("ok", f"feature store {root}: {bytes_text(used)} used, {bytes_text(free)} free")


def _backbones() -> Iterator[Finding]:
    """Every backbone whose weights are on this machine, and how many more the hub has."""
    from aimonk_bench.backbones import weights
    from aimonk_bench.backbones.catalog import CATALOG

    absent = []
    for name, entry in CATALOG.items():
        if place := weights.local(entry):
            yield Finding("ok", f"backbone {name}: {place}")
        else:
            absent.append(name)
    for name, file in weights.cached_elsewhere(entry.timm for entry in CATALOG.values()):
        yield Finding("ok", f"backbone {name}: cache, {file}")
    if absent:
        reason = weights.unreachable(CATALOG[absent[0]])
        for name in [] if reason else absent:
            yield Finding("ok", f"backbone {name}: hub, {CATALOG[name].hub}, not downloaded yet")
        if reason:
            names = textwrap.fill(", ".join(absent), 100, break_on_hyphens=False)
            yield Finding("note", f"backbones whose weights cannot be had here ({reason}):\n{names}")


def _weights(backbone: str) -> Iterator[Finding]:
    from aimonk_bench.backbones import weights
    from aimonk_bench.config.fields import BackboneConfig

    try:
        resolved = weights.resolve(BackboneConfig(name=backbone), download=False)
    except weights.WeightsUnavailable as error:
        reasons = "".join(f"\n{line}" for line in error.problems)
        text = f"the weights of {backbone} cannot be had here, so name another backbone or a fallback:{reasons}"
        yield Finding("note", text)
        return
    place = f"{resolved.source}, the file above" if resolved.file else resolved.place  # `_backbones` lists the file
    yield Finding("ok", f"weights of {resolved.name}: {place}")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
