"""What lies in the feature store: its encoders, how large they are, whether they are sound, and how to remove them."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from aimonk_bench.backbones.encoder_record import MODEL, RECORD, StoreDamaged, damaged, read_record
from aimonk_bench.backbones.feature_table import FILES, INDEX, INDEX_FILES, is_writable, open_table
from aimonk_bench.errors import UserError
from aimonk_bench.records import claims
from aimonk_bench.records.claims import ClaimFile
from aimonk_bench.records.files import PARTIAL, file_sha256

logger = logging.getLogger(__name__)

SECONDS_OF_A_DAY = 86_400.0
# All that lies in a folder of features but its claim. The index is last: until it is removed the folder stays damaged,
# and a new index must not meet the journal of the one before.
CONTENT = (MODEL, *FILES.values(), RECORD, *INDEX_FILES)


@dataclass(frozen=True)
class StoredEncoder:
    """The features of one encoder. What a damaged record or index would say is empty or None.

    Attributes:
        digest: the name of its folder, see `EncoderSpec.digest`.
        network: name and version of timm; "pixels" where the images themselves are stored; "damaged" where the record
            or the index is.
        boundary: where the frozen layers end.
        size: edge of the images in pixels.
        dtype: of the rows.
        images: number of distinct images.
        rows: number of rows, one for each image and view.
        bytes: that the folder takes on the disk.
        days: since it was last used.
    """

    digest: str
    network: str
    boundary: str
    size: int | None
    dtype: str
    images: int | None
    rows: int | None
    bytes: int
    days: float


def encoders(root: Path) -> list[StoredEncoder]:
    """The encoders of a feature store, the one used last first."""
    return sorted(filter(None, map(_read, _folders(root))), key=lambda encoder: encoder.days)


def used(folder: Path) -> None:
    """Note that the features in a folder are used now, unless it is only read."""
    if is_writable(folder):
        os.utime(folder)


def damage(root: Path, digest: str) -> tuple[int, int] | None:
    """Read every block of an encoder and compare its checksum: (damaged blocks, blocks).

    The exported network counts as one block more, where it is there and has a checksum.

    None where the record or the index is damaged, so that nothing can be used.
    """
    folder = root / "features" / digest
    try:
        _check_index_exists(folder)
        with open_table(folder, _dtype(folder)) as table:
            table.check_index()
            number, blocks = len(table.damaged_blocks()), table.blocks
        record, model = read_record(folder), folder / MODEL
        if record is None or record.model_sha256 is None or not model.exists():
            return number, blocks
        return number + (file_sha256(model) != record.model_sha256), blocks + 1
    except StoreDamaged:
        return None


def clear_damaged(folder: Path, dtype: str) -> None:
    """Empty a folder of features whose record or index is damaged, unless another process did so meanwhile.

    Who has mapped the rows keeps them.

    Args:
        dtype: of the rows.

    Raises:
        UserError: the files cannot be removed.
    """
    with claims.hold(claims.of_folder(folder), "encodes with the same network") as claim:
        try:
            with open_table(folder, dtype, claim) as table:
                table.check_index()
        except StoreDamaged as error:
            logger.warning("%s", error)
            for file in (folder / name for name in CONTENT):
                try:
                    shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
                except OSError as problem:
                    raise UserError(f"{file}: cannot be removed: {problem.strerror}") from problem


def to_remove(
    stored: Sequence[StoredEncoder],
    *,
    digests: Collection[str] | None = None,
    unused_days: float | None = None,
    to_bytes: float | None = None,
) -> list[StoredEncoder]:
    """The encoders that all the given conditions name.

    Args:
        stored: the one used last first.
        digests: only these.
        unused_days: only those not used for so long.
        to_bytes: only as many, the one unused longest first, as are needed until the store takes no more.
    """
    chosen = [
        encoder
        for encoder in stored
        if (digests is None or encoder.digest in digests) and (unused_days is None or encoder.days >= unused_days)
    ]
    if to_bytes is None:
        return chosen
    excess, removed = sum(encoder.bytes for encoder in stored) - to_bytes, []
    for encoder in reversed(chosen):
        if excess <= 0:
            break
        removed.append(encoder)
        excess -= encoder.bytes
    return removed


def remove(root: Path, encoder: StoredEncoder) -> None:
    """Remove the features of an encoder.

    Raises:
        UserError: another process is encoding there, or the folder cannot be removed.
    """
    folder = root / "features" / encoder.digest
    file = ClaimFile(claims.of_folder(folder))
    try:
        while (claim := file.take()) is None:
            if (holder := file.living()) is not None:
                raise UserError(f"{folder}: {holder} is encoding there, so it is not removed")
        with claim, tempfile.TemporaryDirectory(dir=root, prefix=PARTIAL) as place:
            folder.rename(Path(place) / folder.name)  # at once, so that nobody encodes into half a folder
    except OSError as error:
        raise UserError(f"{folder}: cannot be removed: {error.strerror}") from error


def _check_index_exists(folder: Path) -> None:
    """Look for the index of rows that are there: opening the table would make an empty one.

    Raises:
        StoreDamaged: nothing says whose rows these are.
    """
    files = {name: folder / name for name in (*FILES.values(), INDEX)}
    filled = {name for name, file in files.items() if file.exists() and file.stat().st_size > 0}
    if filled and INDEX not in filled:
        raise damaged(folder, f"{INDEX} is lost")


def _folders(root: Path) -> list[Path]:
    """The folders of encoders.

    Raises:
        UserError: the store is no folder.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"the feature store {root} is no folder; AIMONK_BENCH_CACHE names another place")
    features = root / "features"
    return sorted(folder for folder in features.iterdir() if folder.is_dir()) if features.is_dir() else []


def _dtype(folder: Path) -> str:
    """Of the rows; where nothing says so, that of a file that is there."""
    record = read_record(folder)
    if record is not None:
        return str(record.identity["dtype"])
    return next((dtype for dtype, name in FILES.items() if (folder / name).exists()), "float32")


def _read(folder: Path) -> StoredEncoder | None:
    """An encoder; None where nothing is encoded yet."""
    days = max(0.0, (time.time() - folder.stat().st_mtime) / SECONDS_OF_A_DAY)
    size = 0
    with contextlib.suppress(FileNotFoundError):  # another process may remove it meanwhile
        size = sum(file.stat().st_size for file in folder.iterdir())
    try:
        record = read_record(folder)
        if record is None and not (folder / INDEX).exists():
            return None
        _check_index_exists(folder)
        with open_table(folder, _dtype(folder)) as table:
            images, rows = table.numbers()
    except StoreDamaged:
        return StoredEncoder(folder.name, "damaged", "", None, "", None, None, size, days)
    if record is None:
        return None
    identity = record.identity
    return StoredEncoder(
        digest=folder.name,
        network=str(identity.get("network", "pixels")),
        boundary=str(identity["boundary"]),
        size=int(identity["size"]),
        dtype=str(identity["dtype"]),
        images=images,
        rows=rows,
        bytes=size,
        days=days,
    )
