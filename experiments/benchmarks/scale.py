"""What happens at a million rows: processor time and peak memory of every stage of a suite, for growing data sets.

Stages and inputs: `scale_stages`. Every stage at every size runs in a process of its own with one thread. A result is
written when it is there, and what is there is not measured again: the same command continues an interrupted one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.benchmarks import scale_page
from experiments.benchmarks.scale_stages import CHAIN, STAGES

if TYPE_CHECKING:
    import pandas as pd

SIZES = (
    *((rows, 40) for rows in (10_000, 30_000, 100_000, 300_000, 1_000_000)),
    *((rows, 400) for rows in (10_000, 30_000, 100_000)),
)
IMAGES = (1_000, 3_000, 10_000)  # of the stages that read images
OF_IMAGES = ("hashing", "encoding")
QUICK_SIZES, QUICK_IMAGES = ((60, 3), (120, 3)), (20,)
KEY = ["stage", "rows", "attributes"]
NUMBERS = ("cpu_s", "wall_s", "start_mb", "inputs_mb", "peak_mb", "written_mb")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main(out: Path, quick: bool = False) -> None:
    """Write scale.csv, scale.png and README.md."""
    path = out / "scale.csv"
    sizes, images = (QUICK_SIZES, QUICK_IMAGES) if quick else (SIZES, IMAGES)
    cases = [(*size, tuple(name for name in STAGES if name not in OF_IMAGES)) for size in sizes]
    cases += [(rows, sizes[0][1], OF_IMAGES) for rows in images]
    for rows, attributes, stages in cases:
        with tempfile.TemporaryDirectory(dir=out) as folder:
            for stage in pending(read(path), rows, attributes, stages):
                add(path, measure(stage, rows, attributes, Path(folder)))
    results = read(path)
    scale_page.draw(out / "scale.png", results)
    planned = [(stage, rows, attributes) for rows, attributes, stages in cases for stage in stages]
    (out / "README.md").write_text(scale_page.text(results, planned), "utf-8")


def pending(results: pd.DataFrame, rows: int, attributes: int, stages: Sequence[str]) -> list[str]:
    """The stages to measure: those without a result; all of `CHAIN` if one has none, as each needs the others."""
    done = set(results.query("rows == @rows and attributes == @attributes")["stage"])
    chain = any(stage in CHAIN and stage not in done for stage in stages)
    return [stage for stage in stages if stage not in done or (chain and stage in CHAIN)]


def measure(stage: str, rows: int, attributes: int, folder: Path) -> dict[str, object]:
    """A row of the results; where the stage failed, ``failed`` has the last line that it printed."""
    command = [sys.executable, "-m", f"{__package__}.scale_stages", stage, str(rows), str(attributes), str(folder)]
    environment = os.environ | ONE_THREAD | {"AIMONK_BENCH_CACHE": str(folder / "cache")}
    completed = subprocess.run(command, capture_output=True, text=True, env=environment)
    row: dict[str, object] = {"stage": stage, "rows": rows, "attributes": attributes}
    if completed.returncode:
        lines = completed.stderr.splitlines() or [f"ended by signal {-completed.returncode}"]
        row["failed"] = lines[-1]
    else:
        row |= json.loads(completed.stdout)
    print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    return row


def read(path: Path) -> pd.DataFrame:
    """The results in ``scale.csv``; an empty table without a file."""
    import pandas as pd

    if not path.exists():
        return pd.DataFrame(columns=[*KEY, *NUMBERS, "failed"])
    undefined = {name: [""] for name in NUMBERS}
    return pd.read_csv(path, dtype={"stage": str, "failed": str}, keep_default_na=False, na_values=undefined)


def add(path: Path, row: dict[str, object]) -> None:
    """Add a result to ``scale.csv``, in the place of an earlier one of this stage and size."""
    import pandas as pd

    rows = [*read(path).to_dict("records"), dict.fromkeys(NUMBERS) | {"failed": ""} | row]
    results = pd.DataFrame(rows).drop_duplicates(KEY, keep="last")
    order = [*STAGES]
    results = results.sort_values(KEY, key=lambda column: column.map(order.index) if column.name == "stage" else column)
    results[[*KEY, *NUMBERS, "failed"]].to_csv(path, index=False, float_format="%.4g")
