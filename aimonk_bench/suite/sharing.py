"""Several processes on one output folder: which runs this process executes, and what the others do.

Every run folder has a claim, which a process holds while it executes the run. While a process takes part in a suite it
also holds a claim of its own in the folder of the suite, named after the content of ``suite.json``: a process with
another config finds it there and is refused. A third claim is held for moments, by who looks for these or writes the
files beside the runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from aimonk_bench.errors import UserError, sentence
from aimonk_bench.records import claims, run, suite
from aimonk_bench.records.claims import Claim, ClaimFile, ClaimLost, Holder
from aimonk_bench.records.files import CLAIM, contents, dumps
from aimonk_bench.records.suite import SuiteRecord

logger = logging.getLogger(__name__)

SUITE = f"{CLAIM}-suite"
DIGITS = 16  # hex, of the content of ``suite.json``

Turn = Literal["here", "elsewhere", "ended"]  # who executes a run: this process, another one, nobody any more


class RunClaims:
    """The runs of one call, as processes share them; what this process holds is released when the context ends.

    Args:
        folders: id of a run -> its folder.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._files = {run_id: ClaimFile(claims.of_folder(folder)) for run_id, folder in folders.items()}
        self._statuses = {run_id: self._status(run_id) for run_id in folders}
        self._announced: dict[str, Holder] = {}
        self._held: dict[str, tuple[Claim, contextlib.ExitStack]] = {}

    def __enter__(self) -> RunClaims:
        return self

    def __exit__(self, *details: Any) -> None:
        for run_id in [*self._held]:
            self.release(run_id)

    def turn(self, run_id: str, title: str) -> Turn:
        """Claim a run, or say who executes it.

        A run that has ended since this object was made is not executed again, even if it failed.

        Args:
            title: of the run, for messages.

        Raises:
            OSError: the folder of the run cannot be written.
        """
        if not self._ended_elsewhere(run_id):
            if not self.take(run_id):
                holder = self._files[run_id].holder  # None where the file is just made
                if holder is not None and self._announced.get(run_id) != holder:
                    logger.info("%s is being done by %s", title, holder)
                    self._announced[run_id] = holder
                return "elsewhere"
            if not self._ended_elsewhere(run_id):  # asked again, because it may have ended before it was claimed
                return "here"
            self.release(run_id)
        logger.info("%s was done by another process", title)
        return "ended"

    def take(self, run_id: str) -> bool:
        """Claim a run, unless another process has; whether this process holds it.

        Raises:
            OSError: the folder of the run cannot be written.
        """
        if run_id in self._held:
            return True
        with contextlib.ExitStack() as stack:
            stack.enter_context(_made(self._folders[run_id]))
            claim = self._files[run_id].take()
            if claim is not None:
                stack.enter_context(claim)
                self._held[run_id] = claim, stack.pop_all()
        return claim is not None

    def release(self, run_id: str) -> None:
        """Release the claim on a run, if this process holds it."""
        if run_id in self._held:
            _, stack = self._held.pop(run_id)
            stack.close()

    def check(self, run_id: str) -> None:
        """Make sure that this process holds the claim on a run still.

        Raises:
            ClaimLost: it was taken over.
        """
        claim, _ = self._held[run_id]
        claim.check()

    def lost(self, run_id: str) -> ClaimLost | None:
        """What `check` raises, if anything."""
        try:
            self.check(run_id)
        except ClaimLost as error:
            return error
        return None

    def look_again(self, run_id: str) -> None:
        """Take what a run is now as what it was when this object was made."""
        self._statuses[run_id] = self._status(run_id)

    def living(self, run_id: str) -> Holder | None:
        """Who is at work on a run, see `ClaimFile.living`."""
        return self._files[run_id].living()

    def _ended_elsewhere(self, run_id: str) -> bool:
        return (status := self._status(run_id)) is not None and status != self._statuses[run_id]

    def _status(self, run_id: str) -> bytes | None:
        try:
            return (self._folders[run_id] / run.STATUS).read_bytes()
        except OSError:  # none, or a folder or a file in the place of another, which `run.claim` refuses
            return None


@contextlib.contextmanager
def alone(folder: Path, run_id: str) -> Iterator[RunClaims]:
    """The claim on the only run of a call, held until the context ends.

    Raises:
        UserError: another process is at work in the folder, or it cannot be written.
    """
    with RunClaims({run_id: folder}) as runs:
        with _refused_as_user_error(folder):
            contents(folder)
            while not runs.take(run_id):
                if (holder := runs.living(run_id)) is not None:
                    raise UserError(_refusal(folder, holder))
            runs.look_again(run_id)  # a run that failed while this process waited is executed
            _refuse_others(folder, None)
        yield runs


@contextlib.contextmanager
def joined(folder: Path, record: SuiteRecord) -> Iterator[None]:
    """Take part in a suite, alone or with processes that execute the same one.

    Raises:
        UserError: another process executes something else in the folder, or it cannot be written; see `suite.claim`.
    """
    key = hashlib.sha256(dumps(dataclasses.asdict(record)).encode()).hexdigest()[:DIGITS]
    with contextlib.ExitStack() as stack:
        with _refused_as_user_error(folder):
            contents(folder)
            stack.enter_context(_made(folder))
            with writing(folder):
                if others := _refuse_others(folder, key):
                    logger.info("%s: shared with %s", folder, ", ".join(map(str, others)))
                suite.claim(folder, record)
                claim = ClaimFile(folder / f"{SUITE}-{key}-{secrets.token_hex(8)}").take()
                assert claim is not None  # nobody else has this name
                stack.enter_context(claim)
        stack.callback(_remove_left, folder, key)
        yield


def _remove_left(folder: Path, key: str) -> None:
    """Remove the claims of processes that took part in a suite and were killed, as far as that is known by now."""
    for path in folder.glob(f"{SUITE}-{key}-*"):
        try:
            ClaimFile(path).remove_if_over()
        except OSError as error:
            logger.warning("%s: cannot be removed: %s", path, sentence(error))


def writing(folder: Path) -> contextlib.AbstractContextManager[Claim]:
    """Hold the claim on the files of a suite that stand beside its runs; others who write there wait.

    Raises:
        OSError: the folder cannot be written.
    """
    return claims.hold(folder / SUITE, "writes the files of the suite")


def pause() -> None:
    """Wait for a moment, before the runs of other processes are looked at again."""
    time.sleep(claims.TIMING.poll)


def _refuse_others(folder: Path, key: str | None) -> list[Holder]:
    """Refuse a folder in which another process executes something else.

    Args:
        key: of the suite of this process; None of a single run, whose claim it holds.

    Returns:
        Who executes the same suite.
    """
    same = []
    for path in sorted(folder.glob(f"{CLAIM}*")):
        file = ClaimFile(path)
        if key is not None and path.name.startswith(f"{SUITE}-{key}-"):
            if not file.remove_if_over() and file.holder is not None:
                same.append(file.holder)
        elif path.name != (CLAIM if key is None else SUITE) and (holder := file.living()) is not None:
            raise UserError(_refusal(folder, holder))
    return same


def _refusal(folder: Path, holder: Holder) -> str:
    return (
        f"{folder}: {holder} is writing there, expected nobody or the same suite (config, data, weights); "
        "wait until it has ended, or name another output folder"
    )


@contextlib.contextmanager
def _refused_as_user_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {sentence(error)}") from error


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; at the end remove those that were made and are still empty."""
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in absent:
            try:
                path.rmdir()
            except OSError:  # it holds something
                break
