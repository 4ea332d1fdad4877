"""The program `aimonk-bench`."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time

BEGAN = time.perf_counter() - time.process_time()  # the interpreter has been computing since the process began


INTERRUPTS = signal.SIGINT, signal.SIGTERM


def main() -> None:
    """Run the command line and leave with its exit code, whatever interrupts come while the process ends."""
    from aimonk_bench.cli import INTERRUPTED
    from aimonk_bench.cli import main as command

    atexit.register(_ignore_interrupts)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: half-written files are removed
    try:
        code = command(sys.argv[1:], BEGAN)
    except KeyboardInterrupt:  # another one, while the command was ending
        code = INTERRUPTED
    for number in INTERRUPTS:
        signal.signal(number, lambda *_: os._exit(code))
    sys.exit(code)


def _ignore_interrupts() -> None:
    """Ignore interrupts at the very end, where Python gives signals their default back, which ends the process."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
