"""``encoder.json``: how the features in a folder of the store were computed, and the checksum of its network."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aimonk_bench.errors import UserError
from aimonk_bench.records.files import checked, dumps, read_json, write_json

RECORD, MODEL = "encoder.json", "model.onnx"
CHECKSUM = "sha256"  # key of the checksum of the other keys; earlier versions did not write it
Engine = Literal["torch", "onnxruntime"]


class StoreDamaged(UserError):
    """The record or the index of a folder of features is damaged, so that nothing says what its rows are."""


@dataclass(frozen=True)
class Record:
    """How the features in a folder of the store were computed.

    Attributes:
        identity: as :attr:`EncoderSpec.identity`.
        engine: that encoded every row of the folder.
        features: D.
        parity: max|a - b| / max|a| of onnxruntime against torch on the first batch; None if they were not compared.
        reason: why the engine is not the preferred one, else None.
        images_per_second: that all threads together encoded, without decoding; None while it is not measured.
        model_sha256: of ``model.onnx``; None where no network is exported. Earlier versions did not write it.
    """

    identity: dict[str, Any]
    engine: Engine
    features: int
    parity: float | None
    reason: str | None
    images_per_second: float | None = None
    model_sha256: str | None = None


@dataclass(frozen=True)
class _Identity:
    """The keys of every identity that others read."""

    boundary: str
    size: int
    dtype: Literal["float32", "float16", "uint8"]
    network: str = ""  # none for pixels


def write_record(folder: Path, record: Record) -> None:
    """Write the record of a folder of features, with its checksum."""
    content = asdict(record)
    write_json(folder / RECORD, content | {CHECKSUM: _checksum(content)})


def read_record(folder: Path) -> Record | None:
    """The record of a folder of features; None while nothing is encoded.

    Raises:
        StoreDamaged: the record is not one of this version, or does not fit its checksum.
        UserError: the file cannot be opened.
    """
    file = folder / RECORD
    try:
        if not file.exists():
            return None
        content = read_json(file)
        checksum = content.pop(CHECKSUM, None)
        record = checked(Record, content, file)
        checked(_Identity, record.identity, file)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise
        raise damaged(folder, f"{file.name} is not one of this version") from error
    if checksum not in (None, _checksum(content)):
        raise damaged(folder, f"{file.name} does not fit its checksum")
    return record


def _checksum(content: dict[str, Any]) -> str:
    """Of the fields of a record."""
    return hashlib.sha256(dumps(content).encode()).hexdigest()


def damaged(folder: Path, reason: str) -> StoreDamaged:
    """The error for a folder of features whose content is inconsistent."""
    return StoreDamaged(f"the feature store {folder} is damaged ({reason}): its images are encoded again")
