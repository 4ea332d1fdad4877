"""``python -m experiments.simulations NAME [--full] [--out DIR]``, from the root of the repository.

The simulations test the statistics on data sets whose truth is known: error rates, coverage, power.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

NAMES = ("coverage", "comparison", "signal", "budget")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--full", action="store_true", help="the published size: minutes to hours, as its page says")
    parser.add_argument("--out", type=Path, default=Path("experiments/statistics"), help="default: %(default)s")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    importlib.import_module(f"{__package__}.{arguments.name}").main(arguments.out, arguments.full)


main()
