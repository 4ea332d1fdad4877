"""Timing in turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

REPEATS = 7


def interleaved(cases: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """The least seconds of each case, after one call that does not count; the cases take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(repeats + 1):
        for name, case in cases.items():
            begin = time.perf_counter()
            case()
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return {name: min(taken) for name, taken in seconds.items()}


def copy_bandwidth() -> dict[int, float]:
    """Bytes read and written per second by a copy of 256 MB, in GB/s, with one thread and with all."""
    source, target = torch.ones(2, 64 << 20).unbind()
    found, given = {}, torch.get_num_threads()
    for threads in sorted({1, given}):
        torch.set_num_threads(threads)
        best = interleaved({"copy": lambda: target.copy_(source)})["copy"]
        found[threads] = 2 * source.nbytes / best / 1e9
    torch.set_num_threads(given)
    return found


def markdown(rows: list[dict[str, object]]) -> str:
    """A table with the keys of the first row as its heading; floats with three digits."""

    def shown(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)

    heading = list(rows[0])
    lines = [heading, ["---"] * len(heading), *([shown(row[key]) for key in heading] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
