"""Whether there is room for the results of runs on the disk of the output folder, before anything is trained."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from aimonk_bench.data import splits
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.errors import UserError, count
from aimonk_bench.records.files import bytes_text
from aimonk_bench.suite import plan
from aimonk_bench.suite.plan import FLOAT32, PlannedRun

TEXT = 4  # bytes of a character in an array of texts
ROW = 30  # bytes of a row of `predictions.npz` beside its name, logits and labels: split, fold, group
HISTORY_ROW = 60  # bytes of a row of `history.csv`
SMALL_FILES = 1 << 20  # bytes of all other files of a run


def check(folder: Path, runs: Sequence[PlannedRun], listed: LabelFile) -> None:
    """Raise a UserError with the message of `lack`."""
    if (problem := lack(folder, runs, listed)) is not None:
        raise UserError(problem)


def lack(folder: Path, runs: Sequence[PlannedRun], listed: LabelFile) -> str | None:
    """The message that the disk of a folder has no room for the results of these runs; None where it has.

    Args:
        folder: of the output; it need not exist.
        runs: that are not done.
        listed: their label file.
    """
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    # checkpoints go when a run is done, and those of an interrupted run may be there already: they are not added
    needed, free = sum(result_bytes(planned, listed) for planned in runs), shutil.disk_usage(place).free
    if needed <= free:
        return None
    networks = any(planned.network_bytes for planned in runs)
    fewer = ", or train.keep_weights: false" if networks else ""
    return (
        f"{folder}: the results of {count(len(runs), 'run')} take about {bytes_text(needed)}, {bytes_text(free)} are "
        f"free there: free space on that disk, or name another output folder{fewer}"
    )


def result_bytes(planned: PlannedRun, listed: LabelFile) -> int:
    """About the bytes that the results of a run take on the disk, without the checkpoints of its training."""
    config, images, attributes = planned.config, len(listed.ids), len(listed.labels.attributes)
    seeds, folds = len(config.train.seeds), plan.folds(config)
    train, val, test = map(math.ceil, splits.part_sizes(config.split, images, listed.columns))
    rows = folds * (val + test)
    name = TEXT * max(map(len, listed.ids), default=0)
    predictions = rows * (ROW + name + attributes * (FLOAT32 * seeds + 2))  # target and mask: a byte each
    steps = math.ceil(train / config.train.batch_size) * config.train.epochs
    history = HISTORY_ROW * seeds * folds * steps
    heads = seeds * folds * FLOAT32 * attributes * (planned.features + 1) if config.backbone.freeze == "all" else 0
    return int(predictions + history + heads + planned.network_bytes + SMALL_FILES)
