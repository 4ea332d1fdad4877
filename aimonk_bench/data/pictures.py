"""Picture files: find and hash what the labels list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aimonk_bench.data.label_file import SHOWN, LabelFile, inside, no_folder, no_picture, obstacle
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
    listed: LabelFile, images: Path, on_bad_image: Literal["error", "skip"]
) -> tuple[list[Picture | None], list[Skipped]]:
    """Find and hash every listed picture.

    Returns:
        [N] the picture of each row, None where there is none; and those rows with their reasons.

    Raises:
        UserError: there is no such folder, or nothing listed is in it; under "error" also every picture that is
            missing or unreadable, with file and line.
    """
    found = _examine(listed, images, _sha256)
    skipped = [item for item in found if isinstance(item, Skipped)]
    if skipped and on_bad_image == "error":
        raise UserError(_messages(listed, images, skipped), limit=SHOWN)
    if len(skipped) == len(found):
        raise UserError(f"{listed.path}: none of the {len(found)} pictures it lists can be read in {images}")
    return [item if isinstance(item, Picture) else None for item in found], skipped


def exist(listed: LabelFile, images: Path) -> list[str]:
    """Every listed picture that is not to be had, as ``file:line: ...``; nothing is hashed or decoded.

    Raises:
        UserError: there is no such folder.
    """
    found = _examine(listed, images, lambda path: "")
    return _messages(listed, images, [item for item in found if isinstance(item, Skipped)])


def fingerprint(listed: LabelFile, pictures: Sequence[Picture | None]) -> str:
    """SHA-256 (hex) of the attributes and, per row, the id, observed targets, group and picture's hash or "missing".

    Values under NA, paths, line numbers and the label format do not enter.
    """
    digest = hashlib.sha256(json.dumps(listed.labels.attributes).encode())
    groups = listed.groups or (None,) * len(listed.ids)
    for name, row, seen, group, picture in zip(
        listed.ids, listed.labels.targets.tolist(), listed.labels.observed.tolist(), groups, pictures, strict=True
    ):
        states = [target if known else None for target, known in zip(row, seen, strict=True)]
        digest.update(json.dumps([name, states, group, picture.sha256 if picture else "missing"]).encode())
    return digest.hexdigest()


def _examine(listed: LabelFile, images: Path, read: Callable[[Path], str]) -> list[Picture | Skipped]:
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
        return list(pool.map(one, listed.ids, listed.lines.tolist()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _messages(listed: LabelFile, images: Path, skipped: Sequence[Skipped]) -> list[str]:
    return [f"{listed.path}:{item.line}: {no_picture(item.image_id, item.reason, images)}" for item in skipped]
