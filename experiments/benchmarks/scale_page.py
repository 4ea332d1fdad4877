"""The page and the plot of `scale`: what every stage takes, how it grows, and what that means for 10^8 images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aimonk_bench.config.fields import DEFAULT_GRID, TrainConfig
from experiments.benchmarks.scale_stages import BATCH, EPOCHS, FEATURES, FOLDS, NAMES, SEEDS, STAGES
from experiments.benchmarks.timing import markdown

if TYPE_CHECKING:
    import pandas as pd

IMAGES = 1e8  # of the extrapolation
VIEWS = 2  # an image and its mirror image
RUNS = 24  # of the suite that is extrapolated, with the default budget
TRAINED_EPOCHS, SETTINGS = TrainConfig().epochs, len(DEFAULT_GRID["train.lr"])
NODE_CORES, NODE_GB = 64, 256  # of a node of the cluster
PER_RUN = ("training", "predictions", "thresholds", "scoring", "statistics", "report")
N_LOG_N = 0.15  # by which an exponent of n log n between 10^4 and 10^6 rows, with its noise, may exceed 1
SHARE = 0.1  # of a suite, above which a stage that grows faster is a fault
SUITE = 100_000  # rows of that suite
QUESTION = """# A million rows, and 10^8 images

Question: what does every stage of a suite take on growing data sets, what grows too fast, and what breaks first?

Command: `nice python -m experiments.benchmarks scale --out experiments/published/scale`. It measures what `scale.csv`
does not hold yet.
"""
METHOD = f"""Every stage runs at every size in a process of its own, with one thread. Seconds are processor seconds
(user and system) of the work alone, so that other load on the machine hardly counts; memory is the largest resident
memory of the process, its modules and inputs included. Labels, logits, features and perceptual hashes are made up; a
fifth of the labels is missing, and every fiftieth image is a copy. The suite has {len(NAMES)} runs of {FOLDS} folds and
{SEEDS} seeds, so that every row is a test row. `training` is one run, {FOLDS * SEEDS} heads on {FEATURES} features,
{EPOCHS} epochs, batch {BATCH}; `predictions` to `scoring` are all runs. `hashing` reads files of 100 kB, `encoding` is
ResNet18 on JPEGs of 480 x 360 by onnxruntime, both at most 10,000 images.
"""

FIXED = """## What was changed

Measured by the same stages before and after, at 10,000 x 40; results of up to 5,000 duplicate groups stay as they were.

| what | before | after |
| --- | --- | --- |
| association test before training | over 58 s, stopped | 41 s |
| statistics | 16.1 s | 4.6 s |
| dependence of missing labels | 4.8 s | 3.1 s |
| memory of scoring, above its start | 290 MB | 151 MB |
| memory of the statistics, above its start | 339 MB | 160 MB |

- Association: sums over random subsets (`aimonk_bench/evaluation/subsets.py`) in the place of permutations of all
  labels, whose time grew with rows x attributes^2.
- Statistics: equal groups draw their labels together, by one binomial draw (`aimonk_bench/evaluation/resampling.py`);
  their time grew with rows x attributes^2 too.
- Dependence: counts of all pairs by one matrix product and Fisher's test of all tables at once, with the same p;
  Pearson's test where 1,000 groups are expected in each cell.
- Memory: the interval of one figure after the other, probabilities that are not kept, counts in float32.
"""


class Growth(NamedTuple):
    """How a stage grows in the upper half of the measured sizes.

    Attributes:
        rows: the largest measured size.
        seconds: processor seconds there.
        gigabytes: memory there that the process did not have at its start.
        time, memory: exponents; NaN where fewer than two sizes were measured.
        per_row: gigabytes that a row adds, from the two largest sizes.
    """

    rows: int
    seconds: float
    gigabytes: float
    time: float
    memory: float
    per_row: float

    def at(self, rows: float) -> tuple[float, float]:
        """Processor hours and gigabytes at so many rows; an exponent of time below 1, or none, counts as 1."""
        hours = self.seconds * (rows / self.rows) ** np.fmax(self.time, 1.0) / 3600
        return hours, self.gigabytes + self.per_row * (rows - self.rows)

    def fitting(self, gigabytes: float) -> float:
        """The rows whose memory is so large; infinite where no row adds any."""
        more = gigabytes - self.gigabytes
        return self.rows + more / self.per_row if self.per_row > 0 else math.inf


def exponent(rows: Sequence[float], values: Sequence[float]) -> float:
    """The slope of the logarithm over that of the rows, in the upper half of the sizes; NaN below two sizes.

    >>> round(exponent([1, 10, 100, 1000], [5, 1, 100, 10_000]), 6)
    2.0
    """
    if len(rows) < 2:
        return math.nan
    start = min(len(rows) // 2, len(rows) - 2)
    slope, _ = np.polyfit(np.log(rows[start:]), np.log(values[start:]), 1)
    return float(slope)


def growths(results: pd.DataFrame, attributes: int) -> dict[str, Growth]:
    """Stage -> its growth, of the stages that were measured with so many attributes."""
    measured = results[(results["attributes"] == attributes) & results["cpu_s"].notna()]
    growth = {}
    for stage, of_stage in measured.groupby("stage", sort=False):
        rows, seconds = of_stage["rows"].tolist(), of_stage["cpu_s"].clip(lower=1e-3).tolist()
        memory = (of_stage["peak_mb"] - of_stage["start_mb"]).clip(lower=1.0).tolist()
        per_row = np.diff([0, *memory])[-1] / np.diff([0, *rows])[-1] / 1e3
        growth[str(stage)] = Growth(
            rows[-1], seconds[-1], memory[-1] / 1e3, exponent(rows, seconds), exponent(rows, memory), max(per_row, 0.0)
        )
    return growth


def size(rows: int, attributes: int) -> str:
    """The head of a column."""
    return f"{rows:,} x {attributes}"


def table(results: pd.DataFrame, column: str, digits: str) -> str:
    """A Markdown table of a column of the results: stages by size; "failed" where the stage failed."""
    sizes = sorted({*zip(results["attributes"].tolist(), results["rows"].tolist(), strict=True)})
    cells = {
        (row["stage"], row["attributes"], row["rows"]): "failed" if row["failed"] else format(row[column], digits)
        for row in results.to_dict("records")
    }
    rows = [
        {"stage": stage} | {size(n, a): cells.get((stage, a, n), "") for a, n in sizes}
        for stage in STAGES
        if stage in set(results["stage"])
    ]
    return markdown(rows)


def exponents(results: pd.DataFrame) -> str:
    """A Markdown table: exponents of time and memory, and the share of a suite of `SUITE` rows."""
    few, many = min(results["attributes"]), max(results["attributes"])
    growth, wider = growths(results, few), growths(results, many)
    at_suite = {stage: 3600 * one.at(SUITE)[0] for stage, one in growth.items()}
    here = results[(results["attributes"] == few) & (results["rows"] == SUITE)].set_index("stage")["cpu_s"].dropna()
    at_suite |= here.to_dict()
    total = sum(at_suite.values())
    rows = [
        {
            "stage": stage,
            "time": f"{one.time:.2f}",
            "memory": f"{one.memory:.2f}",
            f"time, {many} attributes": _two_places(wider[stage].time) if stage in wider else "",
            f"share of a suite of {SUITE:,} rows": f"{at_suite[stage] / total:.1%}",
            "faster than n log n": "yes" if one.time > 1 + N_LOG_N else "no",
        }
        for stage, one in growth.items()
    ]
    faults = [row["stage"] for row in rows if row["faster than n log n"] == "yes"]
    grave = [stage for stage in faults if at_suite[stage] > SHARE * total]
    verdict = f"Faster than n log n: {', '.join(faults) or 'none'}; of these with over {SHARE:.0%} of the suite: "
    return f"{markdown(rows)}\n{verdict}{', '.join(grave) or 'none'}."


def _two_places(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def extrapolation(results: pd.DataFrame) -> str:
    """Bytes, node-hours and what breaks first at `IMAGES` images, each with its formula."""
    attributes = min(results["attributes"])
    growth = growths(results, attributes)
    rows = [
        {
            "stage": stage,
            "measured": f"{one.seconds:.3g} s, {one.gigabytes:.2g} GB at {one.rows:,}",
            "GB at 10^6 rows": f"{one.at(1e6)[1]:.3g}",
            "core hours": f"{one.at(IMAGES)[0]:,.3g}",
            "GB in one process": f"{one.at(IMAGES)[1]:,.3g}",
            f"rows that fit {NODE_GB} GB": f"{one.fitting(NODE_GB):.1e}",
        }
        for stage, one in growth.items()
        if math.isfinite(one.time)
    ]
    return "\n\n".join([markdown(rows).strip(), *_bytes(results, attributes), *_hours(growth), *_breaks(growth)])


def _bytes(results: pd.DataFrame, attributes: int) -> list[str]:
    features = IMAGES * VIEWS * FEATURES
    test_and_validation = 1 + 0.15 * (FOLDS - 1)
    logits = SEEDS * IMAGES * test_and_validation * attributes * 4
    lines = [
        f"features: N x V x D x 2 bytes (float16) = {IMAGES:.0e} x {VIEWS} x {FEATURES} x 2 = "
        f"{2 * features / 1e9:,.0f} GB, {4 * features / 1e9:,.0f} GB in float32",
        f"labels in memory: N x 2A bytes = {2 * IMAGES * attributes / 1e9:,.0f} GB",
        f"logits of a run: S x N x (1 + 0.15 (F - 1)) x A x 4 bytes = {logits / 1e9:,.0f} GB; probabilities, in "
        f"float64, twice that",
    ]
    for stage, what in (("parsing", "the label file"), ("predictions", "`predictions.npz`, each run")):
        of_stage = results[(results["stage"] == stage) & (results["attributes"] == attributes)].dropna(subset="cpu_s")
        if len(of_stage):
            last, runs = of_stage.iloc[-1], len(NAMES) if stage == "predictions" else 1
            file = last["written_mb"] / runs if stage == "predictions" else 0.0
            if file:
                lines.append(
                    f"{what}: measured {file:,.0f} MB at {last['rows']:,} rows, so "
                    f"{file / 1e3 * IMAGES / last['rows']:,.0f} GB"
                )
    return ["**Bytes**", "\n".join(f"- {line}" for line in lines)]


def _hours(growth: dict[str, Growth]) -> list[str]:
    lines = []
    if encoding := growth.get("encoding"):
        rate = encoding.rows / encoding.seconds
        hours = IMAGES * VIEWS / rate / 3600 / NODE_CORES
        lines.append(
            f"encoding: N x V / rate / cores = {IMAGES:.0e} x {VIEWS} / {rate:.3g} images per core second / "
            f"{NODE_CORES} = {hours:,.0f} node hours; it is cut into any number of tasks"
        )
    if training := growth.get("training"):
        per_epoch = training.seconds / EPOCHS / training.rows
        hours = per_epoch * IMAGES * TRAINED_EPOCHS * SETTINGS * RUNS / 3600
        lines.append(
            f"training: {per_epoch * 1e6:.3g} s per million rows and epoch for {FOLDS * SEEDS} heads, x "
            f"{TRAINED_EPOCHS} epochs x {SETTINGS} settings x {RUNS} runs = {hours:,.0f} core hours = "
            f"{hours / NODE_CORES:,.0f} node hours; one run is one process: {hours / RUNS:,.0f} hours for each"
        )
    return [f"**Node hours** (nodes of {NODE_CORES} cores)", "\n".join(f"- {line}" for line in lines)]


def _breaks(growth: dict[str, Growth]) -> list[str]:
    of_memory = sorted(
        (one.fitting(NODE_GB), stage)
        for stage, one in growth.items()
        if math.isfinite(one.memory) and one.gigabytes > 0.1
    )
    of_time = sorted(
        ((one.at(IMAGES)[0], stage) for stage, one in growth.items() if stage not in ("encoding", "training")),
        reverse=True,
    )
    memory = ", ".join(f"{stage} at {rows:.1e} rows" for rows, stage in of_memory[:3])
    time = ", ".join(f"{stage} with {hours:,.0f} hours" for hours, stage in of_time[:3])
    return [
        "**What breaks first**",
        f"- Memory of one process ({NODE_GB} GB): {memory}.\n"
        f"- Time on one core, beside encoding and training: {time}.\n"
        "- Near duplicates are compared with every image that shares one of seven bands of nine bits: N^2 x 7 / 2^10 "
        f"comparisons, {IMAGES**2 * 7 / 2**10:.1e} here.\n"
        "- The split assigns one image after the other, and all images of a run are the rows of one `predictions.npz`: "
        "neither is cut into tasks. The statistics hold the decisions of all runs at once: of 24 runs as large as "
        f"these, {24 * SEEDS * 40 * 1e6 / 1e9:,.0f} GB at a million rows x 40.\n"
        "- Row numbers of the store are int32, so that V x N stays below 2.1e9; the sums of the paired test are "
        "float32, which counts exactly up to 1.7e7 images.",
    ]


def unmeasured(results: pd.DataFrame, planned: Sequence[tuple[str, int, int]]) -> str:
    """A line about the stages and sizes that are planned and have no result; empty if there are none."""
    there = {*zip(results["stage"], results["rows"], results["attributes"], strict=True)}
    absent: dict[str, list[str]] = {}
    for stage, rows, attributes in planned:
        if (stage, rows, attributes) not in there:
            absent.setdefault(size(rows, attributes), []).append(stage)
    number = {name: sum(size(*one) == name for _, *one in planned) for name in absent}
    items = (f"{name} ({', '.join(s) if len(s) < number[name] else 'all stages'})" for name, s in absent.items())
    return f"Not measured yet: {'; '.join(items)}." if absent else ""


def text(results: pd.DataFrame, planned: Sequence[tuple[str, int, int]]) -> str:
    """README.md; planned: the stage, rows and attributes of all measurements."""
    parts = [
        QUESTION,
        METHOD,
        unmeasured(results, planned),
        "## Processor seconds",
        table(results, "cpu_s", ".3g"),
        "## Peak memory, MB",
        table(results, "peak_mb", ".0f"),
        "## How it grows",
        "Exponents: the slope of the logarithm over the logarithm of the rows, in the upper half of the sizes; of "
        "memory, without what the process had at its start.",
        exponents(results),
        FIXED,
        "![seconds and memory](scale.png)",
        f"## {IMAGES:.0e} images".replace("1e+08", "10^8"),
        "Each stage as measured at its largest size: seconds times (N / rows)^exponent, where an "
        "exponent below 1 counts as 1, and memory plus what each further row adds, by the two largest sizes.",
        extrapolation(results),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def draw(path: Path, results: pd.DataFrame) -> None:
    """Seconds and memory of each stage over the rows, for the fewest attributes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = results[(results["attributes"] == min(results["attributes"])) & results["cpu_s"].notna()]
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (("cpu_s", "processor seconds"), ("peak_mb", "peak memory, MB"))
    axes = figure.subplots(1, len(panels))
    marks = "osv^D<>Pp*hX8d"
    for axis, (column, label) in zip(axes, panels, strict=True):
        for place, (stage, of_stage) in enumerate(measured.groupby("stage", sort=False)):
            axis.plot(of_stage["rows"], of_stage[column], marker=marks[place % len(marks)], ms=4, lw=1, label=stage)
        axis.set(xscale="log", yscale="log", xlabel="rows", ylabel=label)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)
