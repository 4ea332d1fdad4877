"""A suite that is disturbed, and what plain runs after it make of it, as a program that `test_faults` starts.

`operations`: the n-th operation on files fails or ends the process, for each n. `kills`: the driver, a worker or both
are killed at random moments. One process imports everything and then forks one for each run, so that a run takes half a
second.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer.main
from faulty_files import KINDS, Faults, Kind

from aimonk_bench import cli
from aimonk_bench.backbones import examination
from aimonk_bench.records.files import PARTIAL
from aimonk_bench.reporting import figures

# The last two say how long things took: a command that did the work, a training that nothing interrupted.
OPTIONAL = re.compile(r"lock|claim|seconds\.json|store/training/")
KEPT_FOR_SPEED = "store/networks"  # what cannot be written there is found out again next time
VARYING = ("status.json", "config.yaml", "environment.json")  # which hold times or paths


@dataclass(frozen=True)
class Outcome:
    """What became of one fault.

    Attributes:
        at, kind, failed: the operation.
        code: exit code of the run with the fault; -9 where it was killed.
        message: that it printed.
        problems: everything that is wrong with that, or with the second run.
    """

    at: int
    kind: Kind
    failed: str
    code: int
    message: str
    problems: list[str]


class Place:
    """A folder with the output and the feature store of one suite, and its runs in processes of their own.

    Args:
        folder: of the test; what is below ``work`` is counted.
        config: of the suite.
        overrides: of its keys, as for --set.
    """

    def __init__(self, folder: Path, config: Path, *overrides: str) -> None:
        self.folder, self.config, self.overrides = folder, config, overrides
        self.work, self.log, self.note = folder / "work", folder / "log.txt", folder / "note.json"

    def clear(self) -> None:
        """Begin with nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.work.mkdir(parents=True)

    def run(self, faults: Faults | None = None) -> int:
        """The exit code of the suite in a process of its own, negative where a signal ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.start(faults), 0)[1])

    def start(self, faults: Faults | None = None) -> int:
        """Start the suite; the number of its process."""
        process = os.fork()
        if process == 0:
            with open(self.log, "w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            os._exit(self.run_here(faults))
        return process

    def run_here(self, faults: Faults | None = None) -> int:
        """The exit code of the suite in this process, which is changed for good."""
        os.environ["AIMONK_BENCH_CACHE"] = str(self.work / "store")
        tempfile.tempdir = str(self.folder)
        try:
            if faults is not None:
                faults.install()
            sets = [word for override in self.overrides for word in ("--set", override)]
            code = cli.main(["suite", str(self.config), "--out", str(self.work / "out"), "--quiet", *sets])
            sys.stderr.flush()
            if faults is not None:
                self.note.write_text(json.dumps(asdict(faults), default=str))
        except BaseException:
            traceback.print_exc()
            return 99
        return code

    def age(self) -> None:
        """Make temporary files as old as if the second run were tomorrow's."""
        for partial in self.work.rglob(f"{PARTIAL}*"):
            os.utime(partial, (0, 0))

    def content(self) -> dict[str, str]:
        """Path -> digest of each file; of files that hold times or paths only the path."""
        files = [path for path in self.work.rglob("*") if not path.is_dir() or PARTIAL in path.name]
        names = {str(path.relative_to(self.work)): path for path in files}
        return {name: self._digest(path) for name, path in names.items() if not OPTIONAL.search(name)}

    def _digest(self, path: Path) -> str:
        if path.parent.parent.name != "runs" or path.name in VARYING:
            return ""
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def statuses(self) -> Iterator[tuple[Path, dict[str, object]]]:
        """The folder and the status of each run that ended."""
        for path in self.work.glob("out/runs/*/status.json"):
            yield path.parent, json.loads(path.read_text())


def tried(place: Place, at: int, kind: Kind, each_write: bool, expected: dict[str, str]) -> Outcome | None:
    """The outcome of one fault; None where the suite had fewer operations."""
    place.clear()
    code = place.run(Faults(place.work, kind, at, each_write))
    message, failed = place.log.read_text(), "killed"
    if kind != "kill" or code != -9:
        if (noted := json.loads(place.note.read_text()) if place.note.exists() else {}).get("failed", "") is None:
            return None
        failed = noted.get("failed", "unknown")
    problems = []
    if (code == -9) != (kind == "kill") or code not in (-9, 0, 1, 2, 3):
        problems.append(f"ended with {code}")
    if "Traceback (most recent call last)" in message:
        problems.append("printed a traceback")
    if code > 0 and not re.search(r"fix: |AIMONK_BENCH_CACHE", message):
        problems.append("failed without saying what to do")
    for folder, status in place.statuses():
        reason = status["reason"]
        if status["state"] == "done":
            problems += incomplete(place, folder, expected)
        elif not isinstance(reason, str) or "\n" in reason or not reason:
            problems.append(f"reason {reason!r}")
    if code == 0:
        wrong = different(place.content(), expected)
        said = "/checkpoints: cannot be deleted" in " ".join(message.split())
        left = "/checkpoints/" if said else KEPT_FOR_SPEED
        problems += [f"exit code 0: {item}" for item in wrong if KEPT_FOR_SPEED not in item and left not in item]
    place.age()
    second = place.run()
    again = place.log.read_text()
    if second != 0 or "Traceback (most recent call last)" in again:
        problems.append(f"the second run ended with {second}: {again[-600:]}")
    problems += [f"after the second run: {item}" for item in different(place.content(), expected)]
    return Outcome(at, kind, failed, code, message[-1500:], problems)


def different(content: dict[str, str], expected: dict[str, str], below: str = "") -> list[str]:
    """What is missing (-), too much (+) or other (!=)."""
    names = sorted(name for name in {*content, *expected} if name.startswith(below))
    signs = [(name, "-" if name not in content else "+" if name not in expected else "!=") for name in names]
    return [f"{sign} {name}" for name, sign in signs if content.get(name) != expected.get(name)]


def incomplete(place: Place, folder: Path, expected: dict[str, str]) -> list[str]:
    """What a run that says it is done lacks; what it has too much, such as checkpoints, the next command deletes."""
    items = different(place.content(), expected, str(folder.relative_to(place.work)))
    return [f"a run that is done: {item}" for item in items if not item.startswith("+")]


def outcomes(place: Place, share: Callable[[int], list[Kind]], each_write: bool, first: int) -> Iterator[Outcome]:
    """The outcomes of this place's share of the faults, from ``first`` on until a run has no operation of a number."""
    place.clear()
    if place.run() != 0:
        raise SystemExit(f"the suite fails by itself:\n{place.log.read_text()}")
    expected = place.content()
    for at in range(first, 100_000):
        results = [tried(place, at, kind, each_write, expected) for kind in share(at)]
        if results and None in results:
            return
        yield from (outcome for outcome in results if outcome is not None)


def leave_out_what_takes_long() -> None:
    """Half of the time of so small a suite goes into what no file depends on, or only its content."""
    figures.loss_curve = lambda history, title: b"a plot"  # type: ignore[assignment]
    examination.examine = functools.cache(examination.examine)  # type: ignore[assignment]
    typer.main.get_command = functools.cache(typer.main.get_command)


def damage(place: Place, expected: dict[str, str], code: int) -> list[str]:
    """What is wrong with a folder after a run that ended with this code."""
    problems = [] if code in (-9, 0, 3) else [f"ended with {code}: {place.log.read_text()[-600:]}"]
    if code == 0:
        return problems + different(place.content(), expected)
    done = [folder for folder, status in place.statuses() if status["state"] == "done"]
    return problems + [item for folder in done for item in incomplete(place, folder, expected)]


def operations(config: Path, folder: Path, jobs: int, full: bool, first: int) -> None:
    """Print the outcomes of all faults."""
    if not full:
        leave_out_what_takes_long()
    warm_up(Place(folder / "warm", config))

    def share(job: int, at: int) -> list[Kind]:
        if at % jobs != job:
            return []
        return list(KINDS) if full else [KINDS[at // jobs % len(KINDS)]]

    processes = []
    for job in range(jobs):
        if (process := os.fork()) == 0:
            with open(folder / f"outcomes{job}.jsonl", "w") as file:
                place = Place(folder / f"job{job}", config)
                for outcome in outcomes(place, functools.partial(share, job), full, first):
                    print(json.dumps(asdict(outcome)), file=file, flush=True)
            os._exit(0)
        processes.append(process)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    for job in range(jobs):
        sys.stdout.write((folder / f"outcomes{job}.jsonl").read_text())
    if any(codes):
        raise SystemExit(f"a job ended with {max(codes)}")


def kills(config: Path, folder: Path, executor: str, number: int, seed: int) -> None:
    """Kill processes of a suite so often, beginning again after it is done; print what was killed and is wrong."""
    overrides = (f"run.executor={executor}",)
    rng, place = random.Random(seed), Place(folder / executor, config, *overrides)
    warm_up(Place(folder / "warm", config, "run.executor=serial"))
    place.clear()
    begun = time.monotonic()
    if place.run() != 0:
        raise SystemExit(f"the suite fails by itself:\n{place.log.read_text()}")
    expected, seconds = place.content(), time.monotonic() - begun
    place.clear()
    killed: list[str] = []
    while len(killed) < number:
        place.age()
        driver = place.start()
        moment = rng.uniform(0, seconds)
        done, kill = waited(driver, moment), None
        if done is None:
            victims, name = chosen(driver, executor, rng)
            for victim in victims:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(victim, signal.SIGKILL)
            done = os.waitpid(driver, 0)[1]
            kill = f"{name} after {moment:.2f} s of {seconds:.2f}"
            killed.append(kill)
        code = os.waitstatus_to_exitcode(done)
        problems = damage(place, expected, code)
        if code == 0:
            place.clear()
        elif len(killed) == number:
            place.age()
            problems += damage(place, expected, place.run())
        print(json.dumps({"killed": kill, "code": code, "problems": problems}), flush=True)


def waited(process: int, seconds: float) -> int | None:
    """The status of a process that ends within so many seconds; None of one that does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    return None


def chosen(driver: int, executor: str, rng: random.Random) -> tuple[list[int], str]:
    """Which processes are killed: the driver, a worker, or both."""
    workers = ray_workers(driver) if executor == "ray" else children(driver)
    what = rng.choice(["driver", "worker", "both"]) if workers else "driver"
    worker = [rng.choice(workers)] if workers else []
    return {"driver": [driver], "worker": worker, "both": [*worker, driver]}[what], what


def children(process: int) -> list[int]:
    """The processes that this one started; none of one that has ended."""
    pids: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
            pids += map(int, path.read_text().split())
    return pids


def ray_workers(driver: int) -> list[int]:
    """The actors' processes, which Ray's own process of the node, a child of the driver, starts and names.

    Not Ray's agents, with which a node ends, and no worker that is no actor yet.
    """
    workers = []
    for pid in (worker for child in children(driver) for worker in children(child)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
            if name.startswith(b"ray::_Remote"):
                workers.append(pid)
    return workers


def warm_up(place: Place) -> None:
    """Import what every run needs, in the process from which they are forked."""
    place.clear()
    with contextlib.redirect_stdout(sys.stderr):
        place.run_here()
    gc.freeze()  # what is there is shared by all processes as long as nobody writes to it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["operations", "kills"])
    parser.add_argument("config", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="operations: faults that are tried side by side")
    parser.add_argument("--full", action="store_true", help="operations: every kind of failure at each, plots drawn")
    parser.add_argument("--first", type=int, default=1, help="operations: the number of the first that fails")
    parser.add_argument("--executor", default="serial", help="kills: of the suite")
    parser.add_argument("--number", type=int, default=50, help="kills: how many")
    parser.add_argument("--seed", type=int, default=0, help="kills: of the moments")
    asked = parser.parse_args()
    folder = asked.config.parent / asked.what
    if asked.what == "operations":
        operations(asked.config, folder, asked.jobs, asked.full, asked.first)
    else:
        kills(asked.config, folder, asked.executor, asked.number, asked.seed)


if __name__ == "__main__":
    main()
