"""Training on 1k to 1M stored rows: time per row, anonymous memory, and whether 2 GB with the page cache suffice.

D 512, float16, memory-mapped, A 4, batch 1024, 2 epochs, a hold-out (70 % training, 15 % validation, 15 % test rows);
the heads are seeds. Every size runs in a process of its own, limited to 2 GB, pages of the file included, by a memory
cgroup (v1) below its own; where none can be created, `limit` says "none". The pages of the file are dropped first, so
that they count. `anonymous MB` is the peak of RssAnon of the process, sampled every 10 ms; `start MB` is RssAnon before
the labels are made. `seconds` are those of `train_heads`, also per million rows and epoch; `cpu` is processor time. All
sizes take turns, ROUNDS times with REPEATS trainings each, of which the first reads from the disk: the shortest time
and the largest memory count.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from experiments.benchmarks.timing import Conditions, Panel, Row, bars, write

FEATURES, ATTRIBUTES, BATCH, EPOCHS, REPEATS, ROUNDS = 512, 4, 1024, 2, 2, 3
SIZES, HEADS = (1_000, 10_000, 100_000, 1_000_000), (1, 25)
LIMIT = 2 << 30
MEMORY, LIMITED = ("start MB", "anonymous MB"), ("limit", "most MB with pages")


def write_store(path: Path, rows: int) -> None:
    """Write features of ``rows`` rows, a piece at a time."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, 50_000):
            shape = min(50_000, rows - start), FEATURES
            file.write(rng.standard_normal(shape, np.float32).astype(np.float16).tobytes())


def anonymous() -> float:
    """RssAnon of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))


@contextlib.contextmanager
def watched(peak: list[float]) -> Iterator[None]:
    """Append to ``peak`` the largest `anonymous` while the body runs."""
    done, samples = threading.Event(), [anonymous()]

    def watch() -> None:
        while not done.wait(0.01):
            samples.append(anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        peak.append(max(samples))


def child(path: Path, rows: int, heads: int, order: str) -> dict[str, object]:
    """Train on the store at ``path`` in this process; returns seconds and memory."""
    from aimonk_bench.config.fields import TrainConfig
    from aimonk_bench.data.labels import Labels
    from aimonk_bench.data.splits import Fold
    from aimonk_bench.registry import Spec
    from aimonk_bench.training.heads_trainer import train_heads
    from aimonk_bench.training.recipe import Recipe, TrainingData

    start, peak, wall, cpu = anonymous(), [], [], []
    with watched(peak):
        rng = np.random.default_rng(1)
        features = np.memmap(path, np.float16, "r", shape=(rows, FEATURES))
        observed = rng.random((rows, ATTRIBUTES), np.float32) > 0.2
        targets = (rng.random((rows, ATTRIBUTES), np.float32) > 0.7).astype(np.int8)
        fold = Fold(*np.split(rng.permutation(rows), (int(0.7 * rows), int(0.85 * rows))))
        config = TrainConfig(seeds=list(range(heads)), batch_size=BATCH, epochs=EPOCHS, weight_decay=0.0, order=order)
        labels, index = Labels.of(targets, observed, list("abcd")), np.arange(rows)[None]
        data = TrainingData(labels, labels, [fold], np.ones(1))
        recipe = Recipe(config, Spec("masked_bce"), Spec("ignore"), Spec("uniform"))
        for _ in range(REPEATS):
            begin = time.perf_counter(), time.process_time()
            train_heads(features, index, data, recipe)
            wall.append(time.perf_counter() - begin[0])
            cpu.append(time.process_time() - begin[1])
    return {"start MB": start, "anonymous MB": peak[0], "seconds": min(wall), "cpu": min(cpu)}


@contextlib.contextmanager
def limited(limit: int) -> Iterator[Path | None]:
    """A memory cgroup (v1) below that of this process, limited in bytes; None where none can be created."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    parents = [line.split(":", 2)[2] for line in lines if ":memory:" in line]
    group = Path(f"/sys/fs/cgroup/memory{parents[0] if parents else ''}/rows-{os.getpid()}")
    try:
        if not parents:
            raise FileNotFoundError("no memory cgroup of version 1")
        group.mkdir()
    except OSError as error:
        print(f"no limit: {error}", file=sys.stderr)
        yield None
        return
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        yield group
    finally:
        group.rmdir()


def measured(folder: Path, rows: int, heads: int, order: str) -> Row:
    """A row of the table, measured in a process of its own."""
    path = folder / f"{rows}.bin"
    if not path.exists():
        write_store(path, rows)
    with path.open("rb") as file:  # a page counts for the process that reads it first, which must be the child
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with limited(LIMIT) as group:
        enter = "" if group is None else f"open({str(group / 'cgroup.procs')!r}, 'w').write('0'); "
        call = f"rows.child(Path({str(path)!r}), {rows}, {heads}, {order!r})"
        imports = "import json; from pathlib import Path; from experiments.benchmarks import rows"
        code = f"{enter}{imports}; print(json.dumps({call}))"
        completed = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
        most = None if group is None else int((group / "memory.max_usage_in_bytes").read_text())
    measurements = json.loads(completed.stdout)
    million = rows * EPOCHS / 1e6
    return {
        "rows": rows,
        "heads": heads,
        "order": order,
        **measurements,
        "s / M rows": measurements["seconds"] / million,
        "cpu s / M rows": measurements["cpu"] / million,
        "limit": "none" if group is None else "2 GB",
        "most MB with pages": "" if most is None else most / 1e6,
    }


def best(rounds: Sequence[Row]) -> Row:
    """Of a row that was measured several times, the shortest times and the largest memory; the limit if all had it."""
    limited = all(row["limit"] == "2 GB" for row in rounds)
    values = {
        key: (max if key in MEMORY else min)(row[key] for row in rounds) for key in rounds[0] if key not in LIMITED
    }
    most = max(row["most MB with pages"] for row in rounds) if limited else ""
    return {**values, "limit": "2 GB" if limited else "none", "most MB with pages": most}


def main(out: Path, quick: bool = False) -> None:
    """Write rows.json, rows.md and rows.png."""
    conditions, sizes = Conditions.now(), (300, 1_000) if quick else SIZES
    cases = [*product(sizes, HEADS, ["shuffle"]), (sizes[-1], 1, "blocks")]
    with tempfile.TemporaryDirectory(dir=out) as folder:
        rounds = [[measured(Path(folder), *case) for case in cases] for _ in range(1 if quick else ROUNDS)]
    table = [best(repeated) for repeated in zip(*rounds, strict=True)]
    write(out, "rows", __doc__ or "", {"Sizes": table}, conditions)
    draw(out / "rows.png", table)


def draw(path: Path, table: Sequence[Row]) -> None:
    """Time per row and memory of each size."""
    names = {f"{row['rows']:,} rows, {row['heads']} heads, {row['order']}": row for row in table}
    panels = [
        Panel(title, unit, {name: row[key] for name, row in names.items()}, log)
        for title, unit, key, log in (
            ("training, per million rows and epoch", "s", "s / M rows", True),
            ("anonymous memory at its peak", "MB", "anonymous MB", False),
        )
    ]
    bars(path, "Training on stored rows of 512 features, float16, memory-mapped", panels)
