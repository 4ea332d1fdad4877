"""``python -m experiments.benchmarks NAME [--out DIR]``, from the root of the repository.

``all`` runs every benchmark in a process of its own and writes a README.md with all results.
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

# not part of `all` -> where they write
ALONE = {name: Path("experiments/published") / name for name in ("gpu", "scale")}
sys.path.append(str(Path(__file__).parents[2] / "tests"))  # `overhead` measures folders that `fake_suite` makes
NAMES = ("sweep", "rows", "encode", "predict", "finetune", "suite", "peers", "overhead")
BUSY = 0.25  # of the cores, on the mean of the last minute


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("all", *NAMES, *ALONE))
    parser.add_argument(
        "--out", type=Path, help="default: experiments/speed; of gpu and scale experiments/published/NAME"
    )
    parser.add_argument("--data-labels", dest="labels", type=Path, help="suite: default .data/aimonk/labels.txt")
    parser.add_argument("--data-images", dest="images", type=Path, help="suite, encode, predict: a folder of images")
    parser.add_argument("--quick", action="store_true", default=None, help="tiny sizes, to test the benchmark itself")
    arguments = parser.parse_args(argv)
    arguments.out = arguments.out or ALONE.get(arguments.name, Path("experiments/speed"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = {key: getattr(arguments, key) for key in ("labels", "images", "quick")}
    options = {key: value for key, value in options.items() if value is not None}
    if arguments.name == "all":
        run_all(arguments.out, options)
        return
    function, accepted = benchmark(arguments.name)
    if unused := options.keys() - accepted:
        parser.error(f"{arguments.name} has no use for {', '.join(sorted(unused))}")
    function(arguments.out, **options)


def warn_if_busy(load: float) -> None:
    """Warn if other processes use the machine, or used it in the last minute."""
    if load > BUSY * cores():
        print(
            f"warning: load {load:.2f}: wait until the machine is idle, otherwise the times are too long",
            file=sys.stderr,
        )


def benchmark(name: str) -> tuple[Any, set[str]]:
    """The function of a benchmark, and the options that it accepts."""
    function = importlib.import_module(f"{__package__}.{name}").main
    return function, set(inspect.signature(function).parameters)


def run_all(out: Path, options: dict[str, Any]) -> None:
    """Run every benchmark with the options that it accepts, and write README.md."""
    flags = {"labels": "--data-labels", "images": "--data-images"}
    load = os.getloadavg()
    warn_if_busy(load[0])
    for name in NAMES:
        accepted = benchmark(name)[1] & options.keys()
        arguments = [part for key in flags if key in accepted for part in (flags[key], str(options[key]))]
        arguments += ["--quick"] if "quick" in accepted else []
        subprocess.run([sys.executable, "-m", __package__, name, "--out", out, *arguments], check=True)
    summarise(out, " ".join(f"{value:.2f}" for value in load))


def summarise(out: Path, load: str) -> None:
    """Write README.md from the results in a folder."""
    facts = environment({}, {}, "onnxruntime", "cpu")
    versions = ", ".join(f"{package} {version}" for package, version in facts["packages"].items() if version)
    parts = [
        "# How fast it is",
        "Command: `python -m experiments.benchmarks all --out experiments/published/speed`. What is compared is timed "
        "in turns in one process, and the best of the repeats counts. Read the ratios, not the seconds.",
        f"{facts['processor']}, {facts['platform']}, Python {facts['python']}, {versions}; "
        f"commit {facts['git_commit']}; load at the start {load}.",
    ]
    for name in NAMES:
        parts += [f"## {name}", (out / f"{name}.md").read_text("utf-8").strip(), f"![{name}]({name}.png)"]
    (out / "README.md").write_text("\n\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main()
