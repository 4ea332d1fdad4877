"""The program `aimonk-bench`."""

from __future__ import annotations

import gc
import signal
import sys
import time

BEGAN = time.perf_counter() - time.process_time()  # the interpreter has been computing since the process began


def main() -> None:
    """Run the command line and leave with its exit code."""
    gc.set_threshold(50_000)  # what is imported stays: to look through it every 700 objects is a sixth of the start
    from aimonk_bench.cli import main as command

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: what is half done is cleared away
    code = command(sys.argv[1:], BEGAN)
    gc.freeze()  # or all that is loaded is looked through once more before the process ends
    sys.exit(code)


if __name__ == "__main__":
    main()
