"""The feature store of this machine: what is in it, whether it is sound, and making it smaller."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from aimonk_bench.backbones import store
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.backbones.store import StoredEncoder
from aimonk_bench.errors import UserError
from aimonk_bench.records import run as runs
from aimonk_bench.records.files import read_json

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = tuple(StoredEncoder.__dataclass_fields__)


def place() -> Path:
    """The folder of the store."""
    return FeatureStore().root


def show() -> pd.DataFrame:
    """The encoders whose features are stored, the one used last first: the columns of `StoredEncoder`.

    Raises:
        UserError: another process holds the index of an encoder too long, or it cannot be read.
    """
    return _table(store.encoders(place()))


def verify() -> pd.DataFrame:
    """The same with the columns blocks and damaged (Int64): numbers of blocks, and of those whose checksum differs.

    The exported network of an encoder counts as a block.
    Both are NA where the record or the index is damaged, so that nothing can be used. What is damaged is encoded again
    when its images are next used.
    """
    table = show()
    counts = [store.damage(place(), digest) or (None, None) for digest in table["digest"]]
    table["blocks"] = [blocks for _, blocks in counts]
    table["damaged"] = [damaged for damaged, _ in counts]
    return table.astype({"blocks": "Int64", "damaged": "Int64"})


def clear(
    experiments: Sequence[str | os.PathLike[str]] = (),
    *,
    unused_days: float | None = None,
    to_gigabytes: float | None = None,
    everything: bool = False,
) -> pd.DataFrame:
    """Remove features from the store; those that all conditions name. They are encoded again when they are needed.

    Args:
        experiments: folders of runs or suites whose features are meant.
        unused_days: features that were not used for so many days.
        to_gigabytes: those unused longest, until the store takes no more than this.
        everything: all of them.

    Returns:
        What was removed, as `show` shows it.

    Raises:
        UserError: no condition was given, or ``everything`` beside one; a folder holds no run that says what it
            used; another process is encoding.
    """
    conditions = bool(experiments), unused_days is not None, to_gigabytes is not None
    if everything == any(conditions):
        raise UserError(
            "cache clear: found "
            + ("no condition" if not everything else "everything beside another condition")
            + ", expected everything, or some of: folders of experiments, unused days, a size"
        )
    digests = None if not experiments else {digest for folder in experiments for digest in _digests(Path(folder))}
    chosen = store.to_remove(
        store.encoders(place()),
        digests=digests,
        unused_days=unused_days,
        to_bytes=None if to_gigabytes is None else to_gigabytes * 1e9,
    )
    for encoder in chosen:
        store.remove(place(), encoder)
    return _table(chosen)


def _digests(folder: Path) -> set[str]:
    """The encoders that the runs of a folder used."""
    files = sorted(folder.rglob(runs.ENVIRONMENT))
    digests = {digest for file in files for digest in read_json(file).get("features", ())}
    if not digests:
        raise UserError(
            f"{folder}: found no run that says which features it used, expected the folder of an experiment"
        )
    return digests


def _table(encoders: Sequence[StoredEncoder]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame([asdict(encoder) for encoder in encoders], columns=list(COLUMNS))
    whole = dict.fromkeys(("size", "images", "rows", "bytes"), "Int64")
    texts = dict.fromkeys(("digest", "network", "boundary", "dtype"), "string")
    return table.astype({**whole, **texts, "days": "float64"})
