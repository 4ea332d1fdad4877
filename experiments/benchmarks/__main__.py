"""``python -m experiments.benchmarks NAME [--out DIR]``, from the root of the repository.

``all`` runs every one in a process of its own, in order, and writes a README.md of what they found.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aimonk_bench.records.environment import cores, environment

NAMES = ("step", "sweep", "rows", "encode", "finetune", "suite", "peers", "overhead")
BUSY = 0.25  # of the cores, on the mean of the last minute


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("all", *NAMES))
    parser.add_argument("--out", type=Path, default=Path("experiments/speed"), help="default: %(default)s")
    parser.add_argument("--data-labels", dest="labels", type=Path, help="suite: default .data/aimonk/labels.txt")
    parser.add_argument("--data-images", dest="images", type=Path, help="suite, encode: a folder of pictures")
    parser.add_argument("--quick", action="store_true", default=None, help="tiny sizes: to see that it works")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = {key: getattr(arguments, key) for key in ("labels", "images", "quick")}
    given = {key: value for key, value in options.items() if value is not None}
    if arguments.name == "all":
        everything(arguments.out, given)
        return
    function, takes = benchmark(arguments.name)
    if unread := given.keys() - takes:
        parser.error(f"{arguments.name} has no use for {', '.join(sorted(unread))}")
    function(arguments.out, **given)


def warn_of(load: float) -> None:
    """Say so if the machine has something else to do, or had until now."""
    if load > BUSY * cores():
        print(f"warning: load {load:.2f}: wait until the machine is idle, or the figures are too high", file=sys.stderr)


def benchmark(name: str) -> tuple[Any, set[str]]:
    """The function of a benchmark, and the options that it takes."""
    function = importlib.import_module(f"{__package__}.{name}").main
    return function, set(inspect.signature(function).parameters)


def everything(out: Path, given: dict[str, Any]) -> None:
    """Run all, each with those options that it takes, and write README.md."""
    flags = {"labels": "--data-labels", "images": "--data-images"}
    load = os.getloadavg()
    warn_of(load[0])
    for name in NAMES:
        takes = benchmark(name)[1]
        own = [part for key in flags if key in given and key in takes for part in (flags[key], str(given[key]))]
        own += ["--quick"] if "quick" in given and "quick" in takes else []
        subprocess.run([sys.executable, "-m", __package__, name, "--out", out, *own], check=True)
    summarise(out, " ".join(f"{value:.2f}" for value in load))


def summarise(out: Path, load: str) -> None:
    """Write README.md of what lies in a folder."""
    facts = environment({}, "onnxruntime", "cpu")
    versions = ", ".join(f"{package} {version}" for package, version in facts["packages"].items() if version)
    parts = [
        "# How fast it is",
        "Command: `python -m experiments.benchmarks all --out experiments/published/speed`. Ratios, not bare "
        "seconds: what is compared is timed in turns in one process, and the best of the repeats counts.",
        f"{facts['processor']}, {facts['platform']}, Python {facts['python']}, {versions}; "
        f"commit {facts['git_commit']}; load at the start {load}.",
    ]
    for name in NAMES:
        parts += [f"## {name}", (out / f"{name}.md").read_text("utf-8").strip(), f"![{name}]({name}.png)"]
    (out / "README.md").write_text("\n\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main()
