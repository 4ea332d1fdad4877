"""Claims: one holder at a time, taken over when it has stopped, and a holder that was taken over notices."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from aimonk_bench.records import claims, processes
from aimonk_bench.records.claims import ClaimFile, ClaimLost, Holder, Timing

ELSEWHERE = Holder(host="host9", pid=7, machine="another boot", started="1", token="t")
QUICK = Timing(refresh=0.002, stale=0.02, poll=0.002)
FROZEN = Timing(refresh=3600.0)


class Seconds:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, holder: Holder, counter: int = 0) -> None:
    path.write_text(f"{json.dumps(asdict(holder))}\n{counter:012}\n")


def holder_of(path: Path) -> Holder:
    return Holder(**json.loads(path.read_text().splitlines()[0]))


def look(file: ClaimFile, seconds: Seconds, until: float) -> bool:
    """Look every half second, as a waiting process does; whether the claim was free at the end."""
    while seconds.now < until:
        seconds.now += 0.5
        if file.remove_if_over():
            return True
    return False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / claims.CLAIM


@pytest.fixture
def here(path: Path) -> Holder:
    """This process as a holder."""
    with claims.hold(path, "tests") as claim:
        return claim.holder


def test_one_process_holds_a_claim_until_it_releases_it(path: Path) -> None:
    first, second = ClaimFile(path), ClaimFile(path)
    claim = first.take()
    assert claim is not None
    assert second.take() is None
    assert second.holder == claim.holder == holder_of(path)
    assert claim.holder.pid == os.getpid()
    claim.check()
    claim.release()
    with second.take() or pytest.fail("it is free"):
        assert first.take() is None
    assert not list(path.parent.iterdir())


def test_a_claim_is_stale_when_its_content_is_unchanged_on_the_clock_of_the_reader(path: Path) -> None:
    seconds = Seconds()
    file = ClaimFile(path, clock=seconds)
    path.parent.mkdir()
    write(path, ELSEWHERE)
    os.utime(path, (0, 0))  # the time of the file says nothing
    assert not look(file, seconds, until=59.0)
    write(path, ELSEWHERE, counter=1)
    assert not look(file, seconds, until=118.0)
    assert file.holder == ELSEWHERE
    assert look(file, seconds, until=120.0)


def test_seconds_in_which_the_reader_was_suspended_do_not_count(path: Path) -> None:
    seconds = Seconds()
    file = ClaimFile(path, clock=seconds)
    path.parent.mkdir()
    write(path, ELSEWHERE)
    assert not file.remove_if_over()
    seconds.now = 10_000.0
    assert not look(file, seconds, until=10_050.0)


def test_a_file_that_was_made_and_never_written_becomes_stale(path: Path) -> None:
    seconds = Seconds()
    file = ClaimFile(path, clock=seconds)
    path.parent.mkdir()
    path.touch()
    assert not look(file, seconds, until=59.0)
    assert file.holder is None
    assert look(file, seconds, until=62.0)


def ended(holder: Holder) -> Holder:
    """A process that has ended, and whose number is free."""
    process = subprocess.Popen(["true"])
    process.wait()
    return replace(holder, pid=process.pid)


@pytest.fixture
def sleeping(here: Holder) -> Iterator[Holder]:
    """Another process of this machine that runs."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield replace(here, pid=process.pid, started=processes.state(process.pid)[1])
        process.kill()


def is_zombie(pid: int) -> bool:
    return processes.state(pid)[0] == "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("change", "is_free"),
    [
        (lambda sleeping: sleeping, False),
        (ended, True),
        (lambda sleeping: replace(sleeping, started="1"), True),  # its number was given to another process
        (lambda sleeping: replace(ended(sleeping), machine="another boot"), False),
        (lambda sleeping: replace(ended(sleeping), machine=None), False),
    ],
    ids=["runs", "ended", "another process has its number", "ended on another machine", "on an unknown machine"],
)
def test_the_claim_of_a_process_of_this_machine_is_over_when_it_has_ended(
    sleeping: Holder, path: Path, change: Callable[[Holder], Holder], is_free: bool
) -> None:
    write(path, change(sleeping))
    assert ClaimFile(path).remove_if_over() == is_free


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_process_that_nobody_waited_for_has_ended(here: Holder, path: Path) -> None:
    process = subprocess.Popen(["true"])
    while not is_zombie(process.pid):
        time.sleep(0.001)
    write(path, replace(here, pid=process.pid, started=processes.state(process.pid)[1]))
    assert ClaimFile(path).remove_if_over()
    process.wait()


def test_a_file_that_is_put_back_is_the_one_that_its_holder_writes_into(path: Path) -> None:
    path.parent.mkdir()
    with path.open("wb", buffering=0) as file:  # created, and not written yet
        assert not claims._remove(path, lambda content: bool(content))
        file.write(b"the claim")
    assert path.read_bytes() == b"the claim"
    assert [*path.parent.iterdir()] == [path]


def test_of_eight_readers_of_a_stale_claim_exactly_one_takes_it(path: Path) -> None:
    path.parent.mkdir()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(25):
            write(path, ELSEWHERE)
            seconds = Seconds()
            files = [ClaimFile(path, FROZEN, seconds) for _ in range(8)]
            for step in range(60):  # one look is left before each finds it stale
                seconds.now = float(step)
                assert not any(file.remove_if_over() for file in files)
            seconds.now += 1.0
            barrier = threading.Barrier(8)

            def race(file: ClaimFile, barrier: threading.Barrier = barrier) -> claims.Claim | None:
                barrier.wait()
                return file.take()

            winners = [claim for claim in pool.map(race, files) if claim is not None]
            holding = []
            for claim in winners:
                try:
                    claim.check()
                    holding.append(claim)
                except ClaimLost:
                    pass
            assert len(holding) == 1
            assert holder_of(path) == holding[0].holder
            for claim in winners:
                claim.release()
            assert not list(path.parent.iterdir())


def test_a_reader_that_is_late_puts_a_newer_claim_back(path: Path) -> None:
    """It found the claim of another machine stale; before it renamed the file, somebody else had taken over."""
    seconds = Seconds()
    late = ClaimFile(path, clock=seconds)
    path.parent.mkdir()
    write(path, ELSEWHERE)
    assert not look(late, seconds, until=59.0)
    stale = path.read_bytes()
    newer = replace(ELSEWHERE, token="u")
    write(path, newer)
    assert not claims._remove(path, stale.__eq__)
    assert holder_of(path) == newer
    assert [file.name for file in path.parent.iterdir()] == [claims.CLAIM]


def test_a_holder_that_was_taken_over_notices_and_leaves_the_claim_of_the_other(path: Path) -> None:
    with claims.hold(path, "tests", replace(FROZEN, poll=0.001)) as claim:
        write(path, ELSEWHERE)
        with pytest.raises(ClaimLost, match="process 7 on host9 took over"):
            claim.check()
        path.unlink()
        with pytest.raises(ClaimLost, match="another process took over"):
            claim.check()
        path.mkdir()
        with pytest.raises(ClaimLost, match="cannot be read: IsADirectoryError"):
            claim.check()
        path.rmdir()
        path.parent.rmdir()
        with pytest.raises(ClaimLost, match="somebody removed the folder"):
            claim.check()
        path.parent.mkdir()
        write(path, ELSEWHERE)
    assert holder_of(path) == ELSEWHERE


def test_a_holder_refreshes_its_claim_and_no_other(path: Path) -> None:
    with claims.hold(path, "tests", QUICK):
        before = path.read_bytes()
        while (content := path.read_bytes()) == before:
            time.sleep(0.001)
        assert len(content) == len(before)
        assert content.splitlines()[0] == before.splitlines()[0]
        write(path, ELSEWHERE)
        time.sleep(5 * QUICK.refresh)
        assert path.read_text().endswith("\n000000000000\n")


def test_who_is_at_work_is_known_when_the_file_changes_or_has_not_changed_for_long(path: Path) -> None:
    file = ClaimFile(path, QUICK)
    assert file.living() is None
    path.parent.mkdir()
    write(path, ELSEWHERE)
    assert file.living() is None  # nobody refreshed it
    assert not path.exists()
    write(path, ELSEWHERE)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ClaimFile(path, replace(QUICK, stale=3600.0)).living)
        counter = 0
        while not asked.done():
            counter += 1
            write(path, ELSEWHERE, counter)
        assert asked.result() == ELSEWHERE
    with claims.hold(path.with_name("mine"), "tests"):
        holder = ClaimFile(path.with_name("mine")).living()
        assert holder is not None
        assert holder.pid == os.getpid()


def test_who_waits_for_a_claim_says_for_whom_and_for_what(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    timing = replace(FROZEN, poll=0.002)
    with ThreadPoolExecutor(1) as pool:
        with claims.hold(path, "tests", timing) as claim:

            def wait() -> Holder:
                with claims.hold(path, "encodes", timing) as second:
                    return second.holder

            waiting = pool.submit(wait)
            while not caplog.messages:
                time.sleep(0.001)
        assert waiting.result() != claim.holder
    assert caplog.messages == [f"waiting for process {os.getpid()} on {claim.holder.host}, which encodes"]


def test_a_claim_that_this_process_could_not_remove_keeps_it_from_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    claim = ClaimFile(path).take()
    assert claim is not None

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "rename", fail)
    claim.release()
    monkeypatch.undo()
    assert "cannot be removed (OSError: [Errno 5] Input/output error" in caplog.text
    assert path.exists()
    assert ClaimFile(path).remove_if_over()


def test_a_claim_that_cannot_be_written_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, mode: str) -> None:
        os.close(descriptor)
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match="No space"):
        ClaimFile(path).take()
    monkeypatch.undo()
    assert not path.exists()
