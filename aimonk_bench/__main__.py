"""The program `aimonk-bench`."""

from __future__ import annotations

import signal
import sys
import time

BEGAN = time.perf_counter() - time.process_time()  # the interpreter has been computing since the process began


def main() -> None:
    """Run the command line and leave with its exit code."""
    from aimonk_bench.cli import main as command

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: half-written files are removed
    sys.exit(command(sys.argv[1:], BEGAN))


if __name__ == "__main__":
    main()
