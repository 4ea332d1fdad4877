"""What was deleted of a finished run and derives from its other files is written again."""

from __future__ import annotations

import logging
from pathlib import Path

from aimonk_bench.errors import UserError, sentence
from aimonk_bench.records import history, run
from aimonk_bench.records.files import write_bytes
from aimonk_bench.reporting import figures
from aimonk_bench.suite.clock import Clock
from aimonk_bench.suite.plan import PlannedRun
from aimonk_bench.suite.sharing import RunClaims

logger = logging.getLogger(__name__)


def restore_claimed(planned: PlannedRun, folder: Path, claims: RunClaims, clock: Clock) -> None:
    """`restore`, unless another process does it or the run cannot be claimed; the latter is logged."""
    try:
        if not claims.take(planned.id):
            return
    except OSError as error:  # the folder of the run is protected, for example
        logger.warning("%s: nothing that was deleted could be written again: %s", folder, sentence(error))
        return
    restore(planned, folder, clock)
    claims.release(planned.id)


def restore(planned: PlannedRun, folder: Path, clock: Clock) -> None:
    """Write again what was deleted of a finished run and derives from its predictions and its history.

    A file that cannot be written is logged; the table computes what it holds.
    """
    try:
        with clock("files"):
            run.read(folder, planned.config.threshold).restore()
        if (folder / run.LOSS_CURVE).exists():
            return
        with clock("plots"):
            curve = figures.loss_curve(history.read(folder / run.HISTORY), planned.config.plot.title)
            write_bytes(folder / run.LOSS_CURVE, curve)
    except (OSError, UserError) as error:
        logger.error("%s: not every file that was deleted could be written again: %s", folder, sentence(error))
