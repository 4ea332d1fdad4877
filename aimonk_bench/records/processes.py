"""Processes by a name that other machines understand, and whether one has ended."""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process.

    Attributes:
        host: the name of its machine, for messages.
        machine: the boot and the PID namespace within which ``pid`` means one process; None where /proc is absent.
        started: when it began, in ticks since the boot; None where /proc is absent.
    """

    host: str
    pid: int
    machine: str | None
    started: str | None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, where this process can see it."""
        return self.machine is not None and self.machine == machine()

    @property
    def is_this(self) -> bool:
        """Whether it is this process."""
        return self.is_here and self.pid == os.getpid() and self.started == state(self.pid)[1]

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended; False where that cannot be told."""
        if not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # of another user
            pass
        try:
            now, started = state(self.pid)
        except OSError:  # hidden, or it has ended since the line above
            return False
        return now in "ZX" or started != self.started  # a later process may have its number


def this_process() -> Process:
    """This process."""
    pid = os.getpid()
    return Process(socket.gethostname(), pid, machine(), None if machine() is None else state(pid)[1])


@functools.cache
def machine() -> str | None:
    """The boot of this machine and the PID namespace of this process; None where /proc is absent."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return None


def state(pid: int) -> tuple[str, str]:
    """The state of a process of this machine, such as R or Z, and when it began, in ticks since the boot.

    Raises:
        OSError: it has ended, or /proc does not show it.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before may hold anything
    return fields[0], fields[19]
