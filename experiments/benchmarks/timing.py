"""Timing in turns, and the results of every benchmark: NAME.json, NAME.md and NAME.png."""

from __future__ import annotations

import collections
import json
import os
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from aimonk_bench.records.environment import cores

REPEATS = 7
Row = dict[str, Any]
Name = TypeVar("Name", bound=Hashable)


def interleaved(
    cases: Mapping[Name, Callable[[], object]],
    repeats: int = REPEATS,
    summary: Callable[[Sequence[float]], float] = min,
) -> dict[Name, float]:
    """The time of each case in seconds; the cases take turns, and the first call of each does not count.

    Args:
        summary: which of the repeats counts.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in cases}
    for number in range(repeats + 1):
        for name, case in cases.items():
            begin = time.perf_counter()
            case()
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return {name: summary(taken) for name, taken in seconds.items()}


def threaded(work: Callable[[Any], object], items: Iterable[Any], threads: int) -> None:
    """Call ``work`` on every item in a pool of threads."""
    with ThreadPoolExecutor(threads) as pool:
        collections.deque(pool.map(work, items), maxlen=0)


def copy_bandwidth() -> dict[int, float]:
    """Bytes read and written per second by a copy of 256 MB, in GB/s, with one thread and with all."""
    source, target = torch.ones(2, 64 << 20).unbind()
    bandwidth, all_threads = {}, torch.get_num_threads()
    for threads in sorted({1, all_threads}):
        torch.set_num_threads(threads)
        seconds = interleaved({"copy": lambda: target.copy_(source)})["copy"]
        bandwidth[threads] = 2 * source.nbytes / seconds / 1e9
    torch.set_num_threads(all_threads)
    return bandwidth


@dataclass(frozen=True)
class Conditions:
    """The machine during a benchmark.

    Attributes:
        cores: that this process may use.
        bandwidth: of a copy, GB/s by number of threads.
        load: mean number of running processes over 1, 5 and 15 minutes before the benchmark.
    """

    cores: int
    bandwidth: dict[int, float]
    load: tuple[float, float, float]

    @classmethod
    def now(cls) -> Conditions:
        """The load is read before the copies, which add to it."""
        load = os.getloadavg()
        return cls(cores(), copy_bandwidth(), load)

    def __str__(self) -> str:
        copies = ", ".join(f"{speed:.1f} GB/s with {threads} thread(s)" for threads, speed in self.bandwidth.items())
        before, after = (" ".join(f"{value:.2f}" for value in load) for load in (self.load, os.getloadavg()))
        return f"{self.cores} cores; copy bandwidth {copies}; load {before} before, {after} after (1, 5, 15 minutes)."


def markdown(rows: Sequence[Row]) -> str:
    """A table headed by the keys of the first row; floats with three significant digits."""

    def shown(value: object) -> str:
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        if not isinstance(value, float | np.floating):
            return str(value)
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"

    heading = list(rows[0])
    lines = [heading, ["---"] * len(heading), *([shown(row[key]) for key in heading] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(
    out: Path, name: str, text: str, tables: Mapping[str, Sequence[Row]], conditions: Conditions, remarks: str = ""
) -> None:
    """Write ``name.json`` and ``name.md``, and print the latter.

    Args:
        out: the folder.
        name: of the benchmark.
        text: what is compared and how.
        tables: heading -> rows.
        conditions: of the machine.
        remarks: below the tables.
    """
    content = {"conditions": str(conditions), "copy GB/s": conditions.bandwidth, **tables}
    (out / f"{name}.json").write_text(json.dumps(content, indent=2, default=float) + "\n", "utf-8")
    parts = [text.strip(), str(conditions)]
    parts += [f"**{heading}**\n\n{markdown(rows).strip()}" for heading, rows in tables.items()]
    parts += [remarks] if remarks else []
    (out / f"{name}.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    print((out / f"{name}.md").read_text("utf-8"))


@dataclass(frozen=True)
class Panel:
    """One group of horizontal bars.

    Attributes:
        title: what is compared.
        unit: of the values.
        values: label -> value.
        log: a logarithmic axis.
    """

    title: str
    unit: str
    values: Mapping[str, float]
    log: bool = False


def bars(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Draw the panels below each other, with the value at the end of each bar."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    counts = [len(panel.values) for panel in panels]
    figure = Figure(figsize=(9, 1.0 + sum(0.34 * count + 1.05 for count in counts)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[count + 1 for count in counts])
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        labels, values = list(panel.values), list(panel.values.values())
        drawn = axis.barh(range(len(values)), values, color="#0072B2")
        written = [f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in values]
        axis.bar_label(drawn, written, padding=3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        axis.set_yticks(range(len(values)), labels)
        axis.invert_yaxis()
        if panel.log:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:,.10g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
        low, high = min(values) / 2 if panel.log else 0, max(values)
        axis.set_xlim(low, high * ((high / low) ** 0.15 if panel.log else 1.15))
        axis.set_xlabel(panel.unit)
        axis.set_title(panel.title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
