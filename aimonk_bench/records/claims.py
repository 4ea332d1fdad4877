"""Claims: which process works on what, on one machine or on several that share a file system.

A claim is a small file. It says who holds it (host, process, random token) and ends in a counter, which a thread of the
holder raises every `Timing.refresh` seconds. It needs no flock: only that a file can be created exclusively (O_EXCL)
and renamed atomically. A claim is over

- when a reader finds its content unchanged for `Timing.stale` seconds. The reader counts them on its monotonic clock,
  and only while it looks: times of files and clocks of other machines do not matter, and a reader that was suspended
  itself starts no false alarm;
- at once when the holder ran on this machine and its process has ended. A process that has its number again began at
  another time, and machines are told apart by the boot and the PID namespace, not by names.

Taking over. Readers that find the content C of a claim over rename the file to a name of their own, and look at what
they got. Renaming is atomic, so one of them gets C; it removes the file and creates its own claim exclusively. Another
reader finds no file, or gets a newer content: a claim made since, or C refreshed in the last moment. It puts that back,
exclusively. If a third process has created its claim in between, the claim that was put aside is lost. So there is
never more than one claim, and whoever holds it finds its own token in the file. A holder that was taken over finds
another token or no file: `Claim.check` raises `ClaimLost`. It is called directly before results are put into place.
A refresh never replaces the file: it writes into the file that it has found to be its own, and where that one was
renamed meanwhile, nobody reads it any more.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aimonk_bench.errors import RunFailed, sentence
from aimonk_bench.records.files import CLAIM, PARTIAL
from aimonk_bench.records.processes import Process, this_process

logger = logging.getLogger(__name__)

COUNTER = 12  # digits


@dataclass(frozen=True)
class Timing:
    """Seconds.

    Attributes:
        refresh: between two refreshes by the holder.
        stale: without a refresh, after which a claim may be taken over.
        poll: between two looks of a process that waits.
    """

    refresh: float = 10.0
    stale: float = 60.0
    poll: float = 0.5


TIMING = Timing()
_TOKENS: set[str] = set()  # of the claims that this process holds


@dataclass(frozen=True)
class Holder(Process):
    """The process that holds a claim.

    Attributes:
        token: of this claim alone.
    """

    token: str

    @property
    def is_over(self) -> bool:
        """Whether it is known to hold the claim no more; False where that cannot be told."""
        return self.token not in _TOKENS if self.is_this else self.has_ended  # a damaged disk may leave a file of ours


class ClaimLost(RunFailed):
    """Another process holds the claim now, or nobody: what this process made under it must not be put into place."""


def _content(holder: Holder) -> bytes:
    """The content of a new claim: a line of JSON, and the counter."""
    return f"{json.dumps(asdict(holder))}\n{0:0{COUNTER}}\n".encode()


def _holder(content: bytes | None) -> Holder | None:
    """Who holds a claim; None if it is free, or just made and not written yet."""
    try:
        return Holder(**json.loads((content or b"").partition(b"\n")[0]))
    except (ValueError, TypeError):
        return None


class ClaimFile:
    """A claim as this process sees it: it takes it, or watches who has it.

    Args:
        path: of the file; its folder is made.
        timing: the same in all processes.
        clock: monotonic seconds.
    """

    def __init__(self, path: Path, timing: Timing = TIMING, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._timing, self._clock = timing, clock
        self._content: bytes | None = None
        self._looked = clock()
        self._unchanged = 0.0
        self._changed = False  # while this process looked: somebody writes into it

    @property
    def holder(self) -> Holder | None:
        """Who held the claim when this process looked; None if nobody did, or it was not written yet."""
        return _holder(self._content)

    def take(self) -> Claim | None:
        """Take the claim if it is free or over.

        Raises:
            OSError: the file cannot be read or created.
        """
        if not self.remove_if_over():
            return None
        holder = Holder(**vars(this_process()), token=secrets.token_hex(16))
        _TOKENS.add(holder.token)
        try:
            if _create(self.path, _content(holder)):
                return Claim(self.path, holder, self._timing)
        except BaseException:
            _TOKENS.discard(holder.token)
            raise
        _TOKENS.discard(holder.token)
        return None

    def living(self) -> Holder | None:
        """Who is at work under the claim; None if nobody is. It waits until that is known, see `Timing`."""
        announced = False
        while not self.remove_if_over():
            holder = self.holder
            if holder is not None and not holder.is_over and (holder.is_here or self._changed):
                return holder
            if not announced:
                logger.info("%s: waiting to see whether %s is still at work", self.path.parent, holder or "a process")
                announced = True
            time.sleep(self._timing.poll)
        return None

    def remove_if_over(self) -> bool:
        """Look at the file, and remove it if the claim is over; whether there is no claim now."""
        now, before = self._clock(), self._content
        self._content = _read(self.path)
        if self._content is None:
            return True
        if self._content == before:
            self._unchanged += min(now - self._looked, 2 * self._timing.poll)
        else:
            self._changed = before is not None
            self._unchanged = 0.0
        self._looked = now
        holder = self.holder
        is_over = self._unchanged >= self._timing.stale or (holder is not None and holder.is_over)
        return is_over and _remove(self.path, self._content.__eq__)


class Claim:
    """A claim that this process holds, until it is released or the context ends.

    Attributes:
        holder: this process.
    """

    def __init__(self, path: Path, holder: Holder, timing: Timing) -> None:
        self.holder = holder
        self._path, self._token, self._timing = path, _token(_content(holder)), timing
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name=f"claim {path}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that this process holds the claim still; call it before results are put into place.

        Raises:
            ClaimLost: it was taken over, because this process had not refreshed it for too long; or it cannot be read.
        """
        try:
            content = _read(self._path)
            if content is None:  # a reader may have put it aside, and puts it back
                time.sleep(self._timing.poll)
                content = _read(self._path)
        except OSError as error:
            raise ClaimLost(
                f"{self._path.parent}: given up here, because its claim cannot be read: {sentence(error)}"
            ) from error
        if content is None and not self._path.parent.exists():
            raise ClaimLost(f"{self._path.parent}: given up here, because somebody removed the folder")
        if content is None or _token(content) != self._token:
            raise ClaimLost(
                f"{self._path.parent}: given up here, because this process stood still for {self._timing.stale:g} s "
                f"or more and {_holder(content) or 'another process'} took over"
            )

    def release(self) -> None:
        """Remove the file; other processes may claim at once. A claim that was lost stays with who has it now."""
        self._released.set()
        self._thread.join()
        try:
            content = _read(self._path)
            if content is not None and _token(content) == self._token:
                _remove(self._path, lambda content: _token(content) == self._token)
        except OSError as error:
            logger.warning("%s: cannot be removed (%s), so other processes wait for it", self._path, sentence(error))
        _TOKENS.discard(self.holder.token)

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *details: Any) -> None:
        self.release()

    def _refresh(self) -> None:
        """What the thread does."""
        number, is_warned = 0, False
        while not self._released.wait(self._timing.refresh):
            number += 1
            try:
                with self._path.open("r+b", buffering=0) as file:
                    content = file.read()
                    if _token(content) != self._token:
                        return  # `check` says so
                    file.seek(len(content) - COUNTER - 1)
                    file.write(f"{number:0{COUNTER}}\n".encode())
                    os.fsync(file.fileno())
            except FileNotFoundError:
                continue  # a reader has put it aside and may put it back
            except OSError as error:
                if not is_warned:
                    logger.warning("%s: cannot be refreshed: %s", self._path, sentence(error))
                is_warned = True


@contextlib.contextmanager
def hold(
    path: Path, work: str, timing: Timing = TIMING, waiting: Callable[[], object] | None = None
) -> Iterator[Claim]:
    """Wait for a claim and hold it.

    Args:
        work: what its holder does, for a message: "waiting for process 7 on host1, which ...".
        waiting: called at each look while somebody else holds it.

    Raises:
        OSError: the file cannot be read or created.
    """
    file, pause, announced = ClaimFile(path, timing), timing.poll / 64, None
    while (claim := file.take()) is None:
        if pause >= timing.poll and file.holder and file.holder != announced:
            announced = file.holder
            logger.info("waiting for %s, which %s", announced, work)
        if waiting is not None:
            waiting()
        time.sleep(pause)
        pause = min(2 * pause, timing.poll)
    with claim:
        yield claim


def of_folder(folder: Path) -> Path:
    """The file of the claim on all that is written into a folder."""
    return folder / CLAIM


def _token(content: bytes) -> bytes:
    """What stays the same in the content of a claim: who holds it."""
    return content.partition(b"\n")[0]


def _read(path: Path) -> bytes | None:
    """The content of a file; None where there is none, or another machine has just removed it."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return None
        raise


def _create(path: Path, content: bytes) -> bool:
    """Write a file that does not exist; whether it did not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except (FileExistsError, FileNotFoundError):  # the latter where another process has just removed the folder
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _remove(path: Path, is_right: Callable[[bytes], bool]) -> bool:
    """Remove a file if its content is right, and put it back if not; see the docstring of the module.

    Returns:
        Whether it is removed.
    """
    aside = path.with_name(f"{PARTIAL}{path.name}-{secrets.token_hex(8)}")
    try:
        path.rename(aside)
        content = aside.read_bytes()
        removed = is_right(content)
        if not removed:
            _put_back(aside, path, content)
        aside.unlink()
    except FileNotFoundError:
        return False
    return removed


def _put_back(aside: Path, path: Path, content: bytes) -> None:
    """Give a file its name again, unless there is another one.

    By a hard link, so that a holder that has just created the file and still writes into it writes into the right one.
    """
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        _create(path, content)
