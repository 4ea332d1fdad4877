"""Encoding for all runs of a suite: each encoder and set of views once, a failure for the runs that need it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from aimonk_bench.errors import RunFailed, UserError, fix, release
from aimonk_bench.progress import Progress
from aimonk_bench.suite import tasks
from aimonk_bench.suite.clock import Clock
from aimonk_bench.suite.containment import EncodeElsewhere
from aimonk_bench.suite.dataset import Dataset, EncodedDataset
from aimonk_bench.suite.plan import PlannedRun
from aimonk_bench.suite.tasks import BadImages


@dataclass(frozen=True, eq=False)
class Encoding:
    """The data set with the features that a run needs, or why they cannot be had.

    Attributes:
        seconds: that encoding took; 0 for a run whose features another run needed before.
    """

    outcome: EncodedDataset | Exception
    seconds: float


def encode(
    dataset: Dataset,
    runs: Sequence[PlannedRun],
    clock: Clock,
    progress: Progress,
    elsewhere: EncodeElsewhere | None = None,
) -> dict[str, Encoding]:
    """Encode a data set with every encoder and set of views that the runs need, each once.

    Args:
        elsewhere: encodes images in other processes; None: they are encoded in this process.

    Returns:
        id of a run -> what it gets; its failure is recorded when its turn comes.

    Raises:
        BadImages: no run can begin.
    """
    outcomes: dict[tuple[object, ...], EncodedDataset | Exception] = {}
    encodings = {}
    for planned in runs:
        config, encoder = planned.config, planned.encoder
        # `run_digest`, because networks that share stored pixels differ in their pooled features
        # and the groups, of which the split decides whether they hold near duplicates
        alike = config.split.near_duplicates
        key = encoder.run_digest, encoder.engine, tasks.stored_views(config).keys, alike, planned.reason
        begun = time.perf_counter()
        if is_new := key not in outcomes:
            with clock("encode"):
                try:
                    if planned.reason is not None:
                        raise RunFailed(planned.reason)
                    outcomes[key] = tasks.encode(dataset, config, encoder, progress, elsewhere)
                except BadImages:
                    raise
                except Exception as error:  # the failure of every run that needs it; it is not tried again
                    if not isinstance(error, (RunFailed, UserError)):
                        has_fix = fix(error) or isinstance(error, OSError)
                        other = "" if has_fix else " (fix: another transform.size or backbone)"
                        error.add_note(
                            f"while encoding with {planned.columns['backbone']} at transform.size {encoder.size}{other}"
                        )
                    release(error)
                    outcomes[key] = error
        encodings[planned.id] = Encoding(outcomes[key], time.perf_counter() - begun if is_new else 0.0)
    return encodings
