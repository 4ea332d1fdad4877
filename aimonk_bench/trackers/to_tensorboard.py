"""Finished work for TensorBoard: a folder of events for each run; logged again it is written anew."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from aimonk_bench.errors import UserError
from aimonk_bench.trackers.content import TrackedRun, distinct

EVENTS = "events.out.tfevents.*"


def log(runs: Sequence[TrackedRun], folder: Path) -> None:
    """Write the runs below a folder: curves and figures as scalars, parameters and figures as a row of HPARAMS.

    Raises:
        UserError: TensorBoard is not installed, or the folder cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            f"tensorboard cannot be imported ({error}); fix: pip install 'aimonk-bench[tensorboard]'"
        ) from error
    for run, name in zip(runs, distinct([run.id for run in runs]), strict=True):
        place = folder / name
        _clear(place)
        try:
            writer = SummaryWriter(str(place))
        except OSError as error:
            raise UserError(f"{place}: cannot be written: {error.strerror}") from error
        with writer:
            for key, curve in run.curves.items():
                for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
                    writer.add_scalar(key, value, step, walltime=run.time)
            for key, value in run.figures.items():
                writer.add_scalar(key, value, 0, walltime=run.time)
            macro = {key: value for key, value in run.figures.items() if key.endswith("/macro")}
            writer.add_hparams(dict(run.parameters), macro, run_name="hparams", global_step=0)
            writer.add_text("run", f"{run.name}{f': failed, {run.failure}' if run.failure else ''}", 0, run.time)


def _clear(place: Path) -> None:
    """Remove the events of an earlier call, and nothing else."""
    for events in place.glob(EVENTS):
        events.unlink()
    if (hparams := place / "hparams").is_dir():
        shutil.rmtree(hparams)
