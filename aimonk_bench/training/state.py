"""The state of training between two epochs, and the checkpoint file that holds it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from aimonk_bench.records.files import atomic
from aimonk_bench.training.batches import HeadRngs
from aimonk_bench.training.selection import Selection
from aimonk_bench.training.stack import Stack

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class FitState:
    """The state of training of the heads of a stack.

    Attributes:
        selection: the chosen epoch of each head, and which heads have stopped.
        finite: [H] bool, False once a head has diverged.
        counts: int64 [H, 2, A] positives and observed labels that each head read before it stopped.
        lengths: [H] the number of epochs that each head was trained before it stopped.
        rngs: [J] random generators.
        epoch: the number of epochs trained.
        losses: [epoch] training losses, each [T, H].
        scores: [epoch] the val_* columns, each [H].
    """

    selection: Selection
    finite: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray
    rngs: list[HeadRngs]
    epoch: int = 0
    losses: list[np.ndarray] = field(default_factory=list)
    scores: list[dict[str, np.ndarray]] = field(default_factory=list)

    @classmethod
    def initial(cls, stack: Stack, finite: np.ndarray | None = None) -> FitState:
        """The state before the first epoch; heads that are not ``finite`` [H] are not trained."""
        train, heads = stack.recipe.train, stack.heads
        selection = Selection(heads, last=train.select == "last", patience=train.patience)
        finite = np.ones(heads, bool) if finite is None else finite.copy()
        selection.active &= finite
        counts = np.zeros((heads, 2, stack.attributes), np.int64)
        return cls(selection, finite, counts, np.zeros(heads, np.int64), stack.rngs())

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that are changed in place, by name."""
        choice = {name: getattr(self.selection, name) for name in ("epoch", "active", "best", "waited")}
        return choice | {"finite": self.finite, "counts": self.counts, "lengths": self.lengths}

    def generators(self) -> list[np.random.Generator]:
        """All random generators."""
        return [generator for rngs in self.rngs for generator in (rngs.init, rngs.sampler, rngs.views)]


class Resumable(Protocol):
    """A learner whose state can be saved."""

    def state_dict(self, *, done: bool) -> dict[str, Any]:
        """Its state; once training is done only the weights of the chosen epoch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""


class Checkpoint:
    """A file with the state of a learner and of its loop, from which an interrupted job continues.

    The resumed job gives the same bits on a CPU with the same number of threads.

    Args:
        file: its path.
        key: names the run and the versions of this package and torch; a file with another key is not loaded.
        learner: whose state is saved.
        device: of the tensors that are loaded.
    """

    def __init__(self, file: Path, key: str, learner: Resumable, device: torch.device) -> None:
        self._file, self._key, self._learner, self._device = file, key, learner, device

    def save(self, state: FitState, *, done: bool) -> None:
        """Write the file; once training is done it holds only what the results need."""
        content = {
            "key": self._key,
            "learner": self._learner.state_dict(done=done),
            "rngs": json.dumps([generator.bit_generator.state for generator in state.generators()]),
            "arrays": {name: array.tolist() for name, array in state.arrays().items()},
            "epoch": state.epoch,
            "losses": [losses.tolist() for losses in state.losses],
            "scores": [{column: values.tolist() for column, values in scores.items()} for scores in state.scores],
        }
        with atomic(self._file) as partial:
            torch.save(content, partial)

    def load(self, state: FitState) -> None:
        """Restore learner and ``state`` from the file; a file that is damaged or of another run gives a warning."""
        if not self._file.exists():
            return
        try:
            content: dict[str, Any] = torch.load(self._file, map_location=self._device, weights_only=True)
        except Exception as error:  # damaged files make unpicklers raise nearly anything
            reason = " ".join(str(error).split())[:200]
            logger.warning("%s is damaged (%s): the job is trained from its first epoch", self._file, reason)
            return
        if content["key"] != self._key:
            logger.warning(
                "%s was written by another run, or another version of aimonk_bench or torch: "
                "the job is trained from its first epoch",
                self._file,
            )
            return
        self._learner.load_state_dict(content["learner"])
        for generator, saved in zip(state.generators(), json.loads(content["rngs"]), strict=True):
            generator.bit_generator.state = saved
        for name, array in state.arrays().items():
            array[:] = content["arrays"][name]
        state.epoch = content["epoch"]
        state.losses = [np.array(losses) for losses in content["losses"]]
        state.scores = [{column: np.array(values) for column, values in scores.items()} for scores in content["scores"]]
        logger.info("%s: continues after epoch %d", self._file.stem, state.epoch)
