"""Picture files: find and hash what the labels list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aimonk_bench.data.labels import SHOWN, Labels, inside, no_folder, no_picture, obstacle
from aimonk_bench.errors import UserError


@dataclass(frozen=True)
class Picture:
    """A listed picture that exists: its name in the label file, its file, the hash of its bytes, its line."""

    image_id: str
    path: Path
    sha256: str
    line: int


@dataclass(frozen=True)
class Skipped:
    """A listed picture that is left out, and why."""

    image_id: str
    line: int
    reason: str


def locate(
    labels: Labels, images: Path, on_bad_image: Literal["error", "skip"]
) -> tuple[list[Picture | None], list[Skipped]]:
    """Find and hash every listed picture.

    Returns:
        [N] the picture of each row, None where there is none; and those rows with their reasons.

    Raises:
        UserError: there is no such folder, or nothing listed is in it; under "error" also every picture that is
            missing or unreadable, with file and line.
    """
    found = _examine(labels, images, _sha256)
    skipped = [item for item in found if isinstance(item, Skipped)]
    if skipped and on_bad_image == "error":
        raise UserError(_messages(labels, images, skipped), limit=SHOWN)
    if len(skipped) == len(found):
        raise UserError(f"{labels.file}: none of the {len(found)} pictures it lists can be read in {images}")
    return [item if isinstance(item, Picture) else None for item in found], skipped


def exist(labels: Labels, images: Path) -> list[str]:
    """Every listed picture that is not to be had, as ``file:line: ...``; nothing is hashed or decoded.

    Raises:
        UserError: there is no such folder.
    """
    found = _examine(labels, images, lambda path: "")
    return _messages(labels, images, [item for item in found if isinstance(item, Skipped)])


def fingerprint(labels: Labels, pictures: Sequence[Picture | None]) -> str:
    """SHA-256 (hex) of the attributes and, per row, the id, observed targets, group and picture's hash or "missing".

    Values under NA, paths, line numbers and the label format do not enter.
    """
    digest = hashlib.sha256(json.dumps(labels.attributes).encode())
    groups = labels.groups or (None,) * len(labels.ids)
    for name, row, seen, group, picture in zip(
        labels.ids, labels.targets.tolist(), labels.observed.tolist(), groups, pictures, strict=True
    ):
        states = [target if known else None for target, known in zip(row, seen, strict=True)]
        digest.update(json.dumps([name, states, group, picture.sha256 if picture else "missing"]).encode())
    return digest.hexdigest()


def _examine(labels: Labels, images: Path, read: Callable[[Path], str]) -> list[Picture | Skipped]:
    if not images.is_dir():
        raise UserError(no_folder(images))

    def one(name: str, line: int) -> Picture | Skipped:
        path = images / inside(name)
        reason = obstacle(path)
        if reason:
            return Skipped(name, line, reason)
        try:
            return Picture(name, path, read(path), line)
        except OSError as error:
            return Skipped(name, line, f"unreadable: {error.strerror}")

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, labels.ids, labels.lines.tolist()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _messages(labels: Labels, images: Path, skipped: Sequence[Skipped]) -> list[str]:
    return [f"{labels.file}:{item.line}: {no_picture(item.image_id, item.reason, images)}" for item in skipped]
