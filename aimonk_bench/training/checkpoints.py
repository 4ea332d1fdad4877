"""Checkpoints of fine-tuning: one file per job and stage, written after every epoch.

An interrupted job goes on as if nothing had happened: to the bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from aimonk_bench.records.files import atomic
from aimonk_bench.training.batches import HeadRngs
from aimonk_bench.training.fit import FitState

logger = logging.getLogger(__name__)

CHOICE = ("epoch", "active", "best", "waited")  # the arrays of a Selection


class Resumable(Protocol):
    """A learner whose state can be saved."""

    device: torch.device

    def state_dict(self, *, done: bool) -> dict[str, Any]:
        """Its state; of training that is done only the weights it kept."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put such a state back."""


class CheckpointFile:
    """The `Checkpoint` of one job.

    Args:
        file: where it is.
        key: what it must bear to be loaded: the run, and the versions of this package and torch.
        learner: whose state it saves.
    """

    def __init__(self, file: Path, key: str, learner: Resumable) -> None:
        self._file, self._key, self._learner = file, key, learner

    def save(self, state: FitState, *, done: bool) -> None:
        """Write the file; of training that is done only what its results come from."""
        content = {
            "key": self._key,
            "learner": self._learner.state_dict(done=done),
            "epoch": state.epoch,
            "rngs": json.dumps([generator.bit_generator.state for generator in _generators(state.rngs)]),
            "choice": {name: getattr(state.selection, name).tolist() for name in CHOICE},
            "finite": state.finite.tolist(),
            "counts": state.counts.tolist(),
            "lengths": state.lengths.tolist(),
            "losses": [losses.tolist() for losses in state.losses],
            "scores": [{column: values.tolist() for column, values in scores.items()} for scores in state.scores],
        }
        with atomic(self._file) as partial:
            torch.save(content, partial)

    def load(self, state: FitState) -> None:
        """Put learner and ``state`` back to where the file was written; a damaged or foreign file only warns."""
        if not self._file.exists():
            return
        try:
            content: dict[str, Any] = torch.load(self._file, map_location=self._learner.device, weights_only=True)
        except Exception as error:  # damaged files make unpicklers raise nearly anything
            reason = " ".join(str(error).split())[:200]
            logger.warning("%s is damaged, and that job begins anew: %s", self._file, reason)
            return
        if content["key"] != self._key:
            logger.warning(
                "%s is of another run or of another aimonk_bench or torch, and that job begins anew", self._file
            )
            return
        self._learner.load_state_dict(content["learner"])
        for generator, saved in zip(_generators(state.rngs), json.loads(content["rngs"]), strict=True):
            generator.bit_generator.state = saved
        for name, values in content["choice"].items():
            getattr(state.selection, name)[:] = values
        state.epoch = content["epoch"]
        for name in ("finite", "counts", "lengths"):
            getattr(state, name)[:] = content[name]
        state.losses = [np.array(losses) for losses in content["losses"]]
        state.scores = [{column: np.array(values) for column, values in scores.items()} for scores in content["scores"]]
        logger.info("%s goes on after epoch %d", self._file.stem, state.epoch)


def _generators(rngs: list[HeadRngs]) -> list[np.random.Generator]:
    return [generator for job in rngs for generator in (job.init, job.sampler, job.views)]
