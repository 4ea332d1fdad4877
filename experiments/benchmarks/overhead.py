"""Everything but encoding and training: start-up, labels, hashes, commits, plots, statistics.

Start-up is timed in new processes; a cold start begins with an empty page cache, where the system permits dropping it.
Labels are a `labels_txt` of a million lines with four attributes, of which a tenth is NA. Hashing is
`image_files.locate`, which finds, reads and hashes the listed images, from the page cache. A commit appends 64 rows of
1280 float32 to the store, waits for the disk, and then names them in the index. The loss curve and the summaries
(statistics, summary.csv, summary.md) are as large as in the default suite: 25 heads of 420 steps, and 24 runs of 5
folds and 5 seeds on 972 images.
"""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import fake_suite
import numpy as np

from aimonk_bench.backbones.encoder import Record
from aimonk_bench.backbones.feature_table import open_table
from aimonk_bench.config.fields import DataConfig
from aimonk_bench.data import image_files, label_file, synthetic
from aimonk_bench.records import suite
from aimonk_bench.records.files import write_json
from aimonk_bench.reporting import figures
from aimonk_bench.suite.summaries import write as write_summaries
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, write

ROOT = Path(__file__).parents[2]
DROP = Path("/proc/sys/vm/drop_caches")
REPEATS = 5
WIDTH, CHUNK = 1280, 64
IDENTITY = {"boundary": "global pooling", "size": 224, "dtype": "float32"}  # of features that are only stored
ATTRIBUTES = 4
SUITE = {"images": 972, "folds": 5, "seeds": 5}


def drop_caches() -> bool:
    """Empty the page cache; returns whether that is permitted."""
    os.sync()
    try:
        DROP.write_text("3")
    except OSError:
        return False
    return True


def starts(data: Path, repeats: int) -> list[Row]:
    """Seconds of commands that start and do little."""
    validate = ["validate", "configs/base.yaml", "--set", f"data.labels={data}/labels.txt"]
    validate += ["--set", f"data.images={data}/images"]
    commands = {"--help": ["--help"], "list": ["list"], "validate": validate}

    def call(arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "aimonk_bench", *arguments]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)

    def cold(arguments: Sequence[str]) -> float | str:
        if not drop_caches():
            return "not permitted here"
        begin = time.perf_counter()
        call(arguments)
        return time.perf_counter() - begin

    first = {name: cold(arguments) for name, arguments in commands.items()}
    cases = {name: functools.partial(call, arguments) for name, arguments in commands.items()}
    warm = interleaved(cases, repeats)
    return [{"command": f"aimonk-bench {name}", "warm s": warm[name], "cold s": first[name]} for name in commands]


def parsing(place: Path, lines: int) -> Row:
    """Reading ``lines`` lines of labels once, and how much the peak memory of the process grows."""
    rng, file = np.random.default_rng(0), place / "labels.txt"
    tokens = np.array(["0", "1", "NA"])[rng.choice(3, (lines, ATTRIBUTES), p=[0.5, 0.4, 0.1])]
    file.write_text("".join(f"{number}.jpg {' '.join(row)}\n" for number, row in enumerate(tokens)), "utf-8")
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    listed = label_file.load(DataConfig(labels=file, images=place))
    seconds = time.perf_counter() - begin
    if len(listed.ids) != lines:
        raise ValueError(f"{len(listed.ids)} of {lines} lines were read")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    rate = f"{lines / seconds:,.0f} lines/s, peak memory +{grown / 1024:.0f} MB"
    return {"what": f"parsing {lines:,} label lines", "s": seconds, "rate": rate}


def hashing(place: Path, count: int, size: int, repeats: int) -> Row:
    """Finding and hashing ``count`` files of ``size`` bytes."""
    images = place / "hashed"
    images.mkdir()
    rng, names = np.random.default_rng(1), [f"{number}.jpg" for number in range(count)]
    for name in names:
        (images / name).write_bytes(rng.bytes(size))
    (place / "hashed.txt").write_text("".join(f"{name} 1 0\n" for name in names), "utf-8")
    listed = label_file.load(DataConfig(labels=place / "hashed.txt", images=images))
    seconds = interleaved({"hash": lambda: image_files.locate(listed, images, "error")}, repeats)["hash"]
    million = 1e6 * seconds / count
    rate = f"{count * size / seconds / 1e6:,.0f} MB/s, {count / seconds:,.0f} files/s: a million in {million:,.0f} s"
    return {"what": f"hashing {count:,} files of {size / 1000:g} kB", "s": seconds, "rate": rate}


def commits(place: Path, rows: int) -> Row:
    """Storing ``rows`` rows of features, a chunk at a time."""
    folder = place / "table"
    folder.mkdir()
    write_json(folder / "encoder.json", asdict(Record(IDENTITY, "torch", WIDTH, None, None)))
    chunk = np.ones((CHUNK, WIDTH), np.float32)
    with open_table(folder, "float32") as table:
        begin = time.perf_counter()
        for start in range(0, rows, CHUNK):
            table.append([(f"{number:064x}", "identity") for number in range(start, start + CHUNK)], chunk)
        seconds = time.perf_counter() - begin
    rate = f"{rows / seconds:,.0f} rows/s, {seconds / rows * CHUNK * 1e3:.2g} ms per commit of {CHUNK}"
    return {"what": f"committing {rows:,} rows", "s": seconds, "rate": rate}


def drawing(heads: int, steps: int, repeats: int) -> Row:
    """One loss curve."""
    seed, iteration = np.divmod(np.arange(heads * steps), steps)
    loss = 0.7 / (1 + iteration / 99)
    history = {"seed": seed, "fold": 0 * seed, "iteration_number": iteration + 1, "training_loss": loss}
    seconds = interleaved({"curve": lambda: figures.loss_curve(history, "Loss")}, repeats)["curve"]
    rate = f"{24 * seconds:.3g} s for 24 runs"
    return {"what": f"loss curve of {heads} heads, {steps} steps", "s": seconds, "rate": rate}


def summaries(place: Path, runs: int, repeats: int, **made: int) -> Row:
    """Statistics and summaries of a finished suite."""
    folder = place / "suite"
    names = [f"run {number}" for number in range(runs)]
    for number, run_folder in enumerate(fake_suite.write_suite(folder, names)):
        logits = fake_suite.predictions(signal=0.4 + number / runs, noise=number, **made)
        fake_suite.write_run(run_folder, names[number], logits)

    def write() -> None:
        (folder / "statistics.json").unlink(missing_ok=True)  # otherwise it is read instead of computed
        write_summaries(suite.collect(folder))

    seconds = interleaved({"summaries": write}, repeats)["summaries"]
    rate = f"{seconds / runs * 1e3:.3g} ms per run"
    return {"what": f"statistics and summaries of {runs} runs", "s": seconds, "rate": rate}


def main(out: Path, quick: bool = False) -> None:
    """Write overhead.json, overhead.md and overhead.png."""
    conditions, repeats = Conditions.now(), 1 if quick else REPEATS
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        synthetic.write(place / "data", images=80, size=32, prevalences=(0.8, 0.7, 0.5, 0.3))
        start_rows = starts(place / "data", repeats)
        rows = [
            parsing(place, 2000 if quick else 1_000_000),
            hashing(place, 50 if quick else 4000, 100_000, repeats),
            commits(place, 640 if quick else 64_000),
            drawing(25, 42 if quick else 420, repeats),
            summaries(place, 3 if quick else 24, 1 if quick else 3, **({} if quick else SUITE)),
        ]
    write(out, "overhead", __doc__ or "", {"Start-up": start_rows, "Other work": rows}, conditions)
    draw(out / "overhead.png", start_rows, rows)


def draw(path: Path, start_rows: list[Row], rows: list[Row]) -> None:
    """Start-up, cold and warm, and everything else."""
    starts = {f"{row['command']}, {kind}": row[f"{kind} s"] for row in start_rows for kind in ("warm", "cold")}
    panels = [
        Panel("start-up", "seconds", {key: value for key, value in starts.items() if not isinstance(value, str)}),
        Panel("other work", "seconds, logarithmic", {row["what"]: row["s"] for row in rows}, log=True),
    ]
    bars(path, "Everything but encoding and training", panels)
