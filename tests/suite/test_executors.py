"""Where tasks run: the same results everywhere, and no process that outlives its use."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_suite import execute, files_of_runs, statuses

from aimonk_bench import cli
from aimonk_bench.config.fields import BackboneConfig, TrainConfig
from aimonk_bench.config.run_fields import RunConfig
from aimonk_bench.config.split_fields import KFold
from aimonk_bench.records.weights import HEADS
from aimonk_bench.suite import containment, executors
from aimonk_bench.suite.clock import Clock
from aimonk_bench.suite.executors import Run, Stage, Task, TaskQueue
from aimonk_bench.suite.worker import Withdrawn, WorkerLost, WorkersKilled
from aimonk_bench.suite.workers import OOM_SCORE, Workers

linux_only = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes there are")


@dataclass(frozen=True)
class Answer:
    """The result of a task that says where it ran."""

    number: int
    pid: int
    seconds: dict[str, float]


def answer(number: int) -> Answer:
    return Answer(number, os.getpid(), {"score": 0.0})


def answer_late(number: int) -> Answer:
    """In a worker, late enough for the driver to go on."""
    if multiprocessing.parent_process() is not None:
        time.sleep(1)
    return answer(number)


def fail(number: int) -> Answer:
    raise ZeroDivisionError(f"planted {number}")


def run_of(function: Any, results: list[Future[Answer]], stage: Stage = "score") -> Run:
    """A run of one task, which adds the future of the task to the results."""
    results += yield [Task(stage, "a run", function)]


def collected(workers: Workers, *functions: Any) -> list[Future[Answer]]:
    """The futures of tasks scored beside training in this process, in the order of their ends."""
    results: list[Future[Answer]] = []
    TaskQueue(Clock(), workers, ["score"]).execute(run_of(function, results) for function in functions)
    return results


def pumped(queue: TaskQueue) -> None:
    """Wait for everything in flight."""
    assert queue._workers is not None
    while not all(item.is_done for item in queue._in_flight):
        queue._workers.pump()


@contextlib.contextmanager
def interrupted_queue() -> Iterator[TaskQueue]:
    """A queue with one worker for both stages; its use must end in a KeyboardInterrupt."""
    with Workers(1) as workers, pytest.raises(KeyboardInterrupt):
        yield TaskQueue(Clock(), workers, ["train", "score"])


def test_every_executor_leaves_the_same_files(
    suite: Path, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`suite` has four runs and was executed serially, as they are too few for a worker."""
    expected = files_of_runs(suite)
    assert [path.name for path in expected].count(HEADS) == 4
    monkeypatch.setattr(executors, "cores", lambda: 2)
    monkeypatch.setattr(executors, "WORTHWHILE", 2)
    for device in ("cpu", "cuda"):  # encoded and trained in workers, and here with a scoring worker
        monkeypatch.setattr(executors, "pick_device", lambda requested, device=device: device)
        monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path / device))
        assert execute(pair, pair.parent / device) == 0
        assert files_of_runs(pair.parent / device) == expected


BOTH: list[Stage] = ["train", "score"]


def test_the_tasks_of_a_list_share_the_workers_and_the_run_goes_on_when_all_are_done() -> None:
    results: list[Future[Answer]] = []

    def several() -> Run:
        results.extend((yield [Task("train", "a run", partial(answer_late, number)) for number in range(4)]))
        assert all(future.done() for future in results)
        results.extend((yield [Task("score", "a run", partial(answer, 4))]))

    with Workers(2) as workers:
        workers.start()
        TaskQueue(Clock(), workers, BOTH).execute([several()])
    assert [future.result().number for future in results] == [0, 1, 2, 3, 4]
    assert len({future.result().pid for future in results[:4]}) == 2


def test_a_trained_run_is_scored_before_the_networks_of_the_next_one() -> None:
    results: list[Future[Answer]] = []

    def trained(number: int) -> Run:
        yield [Task("train", "a run", partial(answer_late, number)) for _ in range(3)]
        results.extend((yield [Task("score", "a run", partial(answer, number))]))
        order.append(number)

    def counted(number: int) -> Run:
        yield [Task("train", "a run", partial(answer_late, number)) for _ in range(3)]
        order.append(number)

    order: list[int] = []
    with Workers(1) as workers:
        workers.start()
        TaskQueue(Clock(), workers, BOTH).execute([trained(1), counted(2)])
    assert order == [1, 2]
    assert results[0].result().number == 1


def test_where_one_task_of_a_list_fails_those_that_wait_are_given_up() -> None:
    results: list[Future[Answer]] = []

    def failing() -> Run:
        functions = [partial(fail, 0), *(partial(answer_late, number) for number in range(1, 9))]
        results.extend((yield [Task("train", "a run", function) for function in functions]))

    others: list[Future[Answer]] = []
    with Workers(2) as workers:
        workers.start()
        TaskQueue(Clock(), workers, BOTH).execute([failing(), run_of(partial(answer, 9), others, "train")])
    kinds = [type(future.exception()) for future in results]
    assert kinds[0] is ZeroDivisionError
    assert kinds.count(Withdrawn) >= 6  # one or two had begun
    assert others[0].result().number == 9


@pytest.mark.parametrize(
    ("run", "frozen", "layers", "device", "workers", "stages"),
    [
        ({"executor": "serial"}, 40, 0, "cpu", 0, []),
        ({}, 7, 0, "cpu", 0, []),
        ({}, 8, 0, "cpu", 4, BOTH),
        ({"workers": 2}, 8, 0, "cpu", 2, BOTH),
        ({"workers": 2}, 8, 0, "cuda", 1, ["score"]),
        ({}, 8, 1, "cpu", 1, ["score"]),
        ({}, 0, 9, "cpu", 0, []),
        ({"timeout": 60}, 2, 0, "cpu", 2, BOTH),
        ({"executor": "processes"}, 3, 0, "cuda", 1, BOTH),
        ({"executor": "processes", "workers": 9}, 3, 0, "cpu", 3, BOTH),
        ({"executor": "processes"}, 0, 1, "cpu", 4, BOTH),  # each of its 25 networks is a training
        ({"executor": "processes", "workers": 40}, 1, 1, "cpu", 26, BOTH),
        ({"executor": "processes"}, 0, 9, "cpu", 4, BOTH),
        ({"executor": "processes", "threads": 3}, 0, 9, "cpu", 1, BOTH),
        ({"executor": "processes", "workers": 3, "threads": 4}, 0, 9, "cpu", 3, BOTH),
        ({"executor": "processes"}, 0, 9, "cuda", 1, BOTH),
    ],
)
def test_what_is_done_in_workers(
    run: dict[str, Any],
    frozen: int,
    layers: int,
    device: str,
    workers: int,
    stages: list[Stage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []

    class Counted(Workers):
        def __init__(self, count: int, **options: Any) -> None:
            super().__init__(count, **options)
            self.count = count

        def start(self) -> None:
            started.append(self.count)

    monkeypatch.setattr(executors, "cores", lambda: 4)
    monkeypatch.setattr(executors, "Workers", Counted)
    monkeypatch.setattr(executors, "pick_device", lambda requested: device)
    freezes = ["all"] * frozen + ["blocks.3"] * layers
    section = RunConfig.model_validate(run)
    others = {"train": TrainConfig(), "split": KFold(), "run": section}
    configs: Any = [SimpleNamespace(backbone=BackboneConfig(freeze=freeze), **others) for freeze in freezes]
    with executors.opened(configs, section, Clock()) as queue:
        assert queue._stages == set(stages)
        assert started == ([workers] if workers else [])


@pytest.mark.parametrize(
    ("run", "weights", "is_new", "expected"),
    [
        ({"executor": "auto"}, "resnet18", True, ["first batch", "worker"]),
        ({"executor": "auto"}, "resnet18", False, ["worker"]),
        ({"executor": "auto"}, "of a plug-in", True, ["worker"]),
        ({"executor": "auto", "timeout": 60}, "resnet18", True, ["worker"]),
        ({"executor": "processes"}, "resnet18", True, ["worker"]),
    ],
)
def test_a_new_network_is_built_here_only_where_that_is_safe(
    run: dict[str, Any], weights: str, is_new: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    monkeypatch.setattr(containment, "read_record", lambda folder: None if is_new else object())
    monkeypatch.setattr(
        containment.features, "encode_missing", lambda request, encode: done.append("first batch") or {}
    )
    monkeypatch.setattr(containment, "encode_missing", lambda *words: done.append("worker") or {"a": "reason"})
    request: Any = SimpleNamespace(spec=SimpleNamespace(weights=SimpleNamespace(name=weights)), folder=None)
    plugins: Any = [object()]
    section = RunConfig.model_validate(run)
    pool: Any = None
    assert containment.encode_beside(pool, section, plugins, request) == {"a": "reason"}
    assert done == expected


def test_fine_tuning_leaves_the_same_files_in_worker_processes(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = workplace / "freezing.yaml"
    config.write_text(
        "extends: small.yaml\nbackbone: {name: test_resnet, weights: none, engine: torch}\ntransform: {train: []}\n"
        "train: {epochs: 1, seeds: 1, keep_weights: true}\n"
        "suite: {baseline: {backbone.freeze: all}, axes: {backbone.freeze: [all, layer4]}}\n"
    )
    left = []
    for name in ("serial", "processes"):
        monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path / name))
        assert execute(config, workplace / f"freezing-{name}", f"run.executor={name}") == 0
        left.append(files_of_runs(workplace / f"freezing-{name}"))
    assert len({path.parts[1] for path in left[0]}) == 2
    weights = sorted(path.name for path in left[0] if path.suffix == ".safetensors")
    assert weights == ["fold0-seed0.safetensors", "fold1-seed0.safetensors", HEADS]
    assert left[1] == left[0]


FAILING = """\
import os, signal
from pathlib import Path

from torch.nn.functional import binary_cross_entropy_with_logits


def plain(logits, targets):
    return binary_cross_entropy_with_logits(logits, targets.expand_as(logits), reduction="none")


def once(logits, targets):
    \"\"\"Ends the process that computes it first.\"\"\"
    try:
        (Path(__file__).parent / "ended").touch(exist_ok=False)
    except FileExistsError:
        return plain(logits, targets)
    os.kill(os.getpid(), signal.SIGKILL)


def boom(logits, targets):
    \"\"\"Fails.\"\"\"
    raise ArithmeticError("planted")


LOSSES = {"once": once, "boom": boom}
"""


def test_a_lost_worker_costs_one_network_and_a_failing_network_its_run(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "failing.py").write_text(FAILING)
    text = (
        "extends: small.yaml\nplugins: [failing.py]\nbackbone: {name: test_resnet, weights: none, engine: torch, "
        "freeze: layer4}\ntransform: {train: []}\ntrain: {epochs: 1, seeds: 2}\ntune: {}\n"
        "suite: {baseline: {loss: once}, axes: {loss: [once, boom]}}\n"
    )
    (workplace / "failing.yaml").write_text(text)
    outs = {name: workplace / f"failing-{name}" for name in ("processes", "serial")}
    for name, out in outs.items():
        words = ["suite", str(workplace / "failing.yaml"), "--out", str(out), "--executor", name, "--workers", "2"]
        assert cli.main([*words[: None if name == "processes" else -2], "--allow-plugins"]) == 3
        reasons = {status["name"][0]: status["reason"] for status in statuses(out)}
        assert reasons["once"] is None
        assert "ArithmeticError: planted" in reasons["boom"]
    printed = capsys.readouterr().err
    assert printed.count("once, fold") == printed.count("so another one begins again") == 1
    done = [
        {path: content for path, content in files_of_runs(out).items() if "once" in path.parts[1]}
        for out in outs.values()
    ]
    assert done[0] == done[1]


def talk(number: int) -> Answer:
    logging.getLogger("aimonk_bench.planted").warning("number %d of %s", number, object())
    logging.getLogger("aimonk_bench.planted").info("done with %d", number)
    logging.getLogger("aimonk_bench.planted").debug("not for users")
    return answer(number)


def test_what_a_worker_logs_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    with Workers(1) as workers:
        with caplog.at_level(logging.INFO, "aimonk_bench"):
            collected(workers, partial(talk, 1))
        with caplog.at_level(logging.WARNING, "aimonk_bench"):
            collected(workers, partial(talk, 2))
    logged = [(record.levelname, record.getMessage().partition(" of ")[0]) for record in caplog.records]
    planted = [entry for entry in logged if "in worker processes" not in entry[1]]
    assert planted == [("WARNING", "number 1"), ("INFO", "done with 1"), ("WARNING", "number 2")]


class Unpicklable(Exception):
    """Its arguments do not suit its constructor, so that it can be pickled but not read back."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail_unpicklably(number: int) -> Answer:
    raise Unpicklable(number, number)


def test_an_exception_that_cannot_be_sent_costs_its_task_alone() -> None:
    with Workers(1) as workers:
        one, two = collected(workers, partial(fail_unpicklably, 1), partial(answer, 2))
        if OOM_SCORE.exists():  # on Linux
            [score] = collected(workers, OOM_SCORE.read_text)
            assert score.result() == "1000\n"
    assert str(one.exception()) == "Unpicklable: 1 and 1"
    assert two.result().pid != os.getpid()


def test_an_exception_of_a_worker_comes_with_its_traceback_and_is_not_tried_again() -> None:
    with Workers(1) as workers:
        (one,) = collected(workers, partial(fail, 1))
    assert "in fail" in "".join(traceback.format_exception(one.exception()))
    assert 'raise ZeroDivisionError(f"planted {number}")' in str(one.exception().__cause__)


def test_a_worker_answers_and_a_task_that_raises_leaves_it_alive() -> None:
    with Workers(1) as workers:
        one, two, three = collected(workers, partial(answer, 1), partial(fail, 2), partial(answer, 3))
    assert one.result().pid == three.result().pid != os.getpid()
    assert str(two.exception()) == "planted 2"


def end_by_exit(folder: Path) -> Answer:
    """End the worker, the first time."""
    if not (folder / "tried").exists():
        (folder / "tried").touch()
        os._exit(7)
    return answer(1)


def end_by_signal(number: int) -> Answer:
    os.kill(os.getpid(), number)
    time.sleep(60)
    return answer(number)


def test_a_task_whose_worker_ends_is_tried_again_and_costs_no_other_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of the workers sees one GPU; one that is started later sees the GPU that is free."""
    with Workers(2, gpus=["3", "5"]) as workers:
        futures = [workers.submit(partial(answer_late, 0)), workers.submit(partial(end_by_exit, tmp_path), "a run")]
        futures += [workers.submit(partial(answer, number)) for number in (2, 3)]
        while not futures[1].done():
            workers.pump()
        workers.start()
        gpus = {worker.gpu for worker in workers._workers}
        seen = [workers.submit(partial(os.getenv, "CUDA_VISIBLE_DEVICES")) for _ in range(2)]
    assert [future.result().number for future in futures] == [0, 1, 2, 3]
    assert gpus == {"3", "5"}
    assert {future.result() for future in seen} <= gpus
    assert "a run: its worker process ended with exit code 7" in caplog.text


def test_tasks_that_end_their_workers_fail_with_the_reason_and_the_others_go_on() -> None:
    with Workers(2, retries=0, timeout=4) as workers:
        futures = collected(
            workers,
            partial(end_by_signal, signal.SIGSEGV),
            partial(end_by_signal, signal.SIGKILL),
            partial(time.sleep, 600),
            partial(answer, 4),
        )
    lost = {str(future.exception()) for future in futures if isinstance(future.exception(), WorkerLost)}
    assert lost == {
        "its worker process was ended by SIGSEGV",
        "its worker process was ended by SIGKILL, as the system does where memory runs out",
        "its worker process took longer than run.timeout, 4 s",
    }
    assert [future.result().number for future in futures if future.exception() is None] == [4]


def test_workers_that_cannot_start_are_an_error_for_every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    with Workers(1) as workers:
        one = workers.submit(partial(answer, 1))
    assert "no worker process can start" in str(one.exception())


def test_what_cannot_be_sent_costs_its_task_alone() -> None:
    with Workers(1) as workers:
        one, two = workers.submit(lambda: 1), workers.submit(partial(answer, 2))
    assert "pickle" in str(one.exception())
    assert two.result().number == 2


def test_what_a_worker_is_behind_with_is_done_here() -> None:
    results: list[Future[Answer]] = []
    with Workers(1) as workers:
        workers.start()
        queue = TaskQueue(Clock(), workers, ["score"], limit=2)
        queue.execute([run_of(partial(answer_late, number), results) for number in range(4)])
    assert [future.result().pid == os.getpid() for future in results] == [True, True, False, False]
    assert sorted(future.result().number for future in results) == [0, 1, 2, 3]


@pytest.mark.parametrize("dead", [False, True])
def test_after_an_interruption_trainings_in_workers_are_dropped_and_scoring_goes_on_here(dead: bool) -> None:
    """Also where Ctrl-C has ended a worker that had just been started."""
    results: list[Future[Answer]] = []

    def interrupted() -> Iterator[Run]:
        yield run_of(partial(time.sleep, 600), results, "train")
        yield run_of(partial(answer, 1), results)
        if dead:
            os.kill(workers.pids[0], signal.SIGKILL)
        raise KeyboardInterrupt

    with Workers(1) as workers:
        queue = TaskQueue(Clock(), workers, ["train", "score"])
        with pytest.raises(KeyboardInterrupt):
            queue.execute(interrupted())
    assert [future.result().pid for future in results] == [os.getpid()]


def test_an_interruption_while_a_result_is_written_costs_that_run_alone() -> None:
    results: list[Future[Answer]] = []

    def interrupted_writing() -> Run:
        yield [Task("score", "a run", partial(answer, 0))]
        raise KeyboardInterrupt

    def all_done() -> Iterator[Run]:
        yield interrupted_writing()
        yield from (run_of(partial(answer, number), results) for number in (1, 2))
        pumped(queue)

    with interrupted_queue() as queue:
        queue.execute(all_done())
    assert sorted(future.result().number for future in results) == [1, 2]


def test_after_an_interruption_a_training_that_is_done_is_used() -> None:
    results: list[Future[Answer]] = []

    def interrupted() -> Iterator[Run]:
        yield run_of(partial(answer, 1), results, "train")
        pumped(queue)
        raise KeyboardInterrupt

    with interrupted_queue() as queue:
        queue.execute(interrupted())
    assert [future.result().number for future in results] == [1]


@linux_only
def test_an_interruption_ends_the_workers_whatever_they_do() -> None:
    """Ctrl-C itself does not reach them."""

    def interrupted(workers: Workers) -> None:
        with workers:
            sleeping.append(workers.submit(partial(time.sleep, 600)))
            while not workers._workers[0].job:
                workers.pump()
            pids.extend(workers.pids)
            os.kill(pids[0], signal.SIGINT)
            raise KeyboardInterrupt

    pids: list[int] = []
    sleeping: list[Future[None]] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(Workers(1))
    assert isinstance(sleeping[0].exception(), WorkersKilled)
    assert not alive(pids[0])


# Asks a worker for its number; a main module without a guard would start another worker, and so on.
UNGUARDED = """
import os
from aimonk_bench.suite.workers import OOM_SCORE, Workers

print("once")
with Workers(1) as workers:
    asked = workers.submit(os.getpid)
assert asked.result() != os.getpid()
"""
ABANDONED = """
import os
from aimonk_bench.suite.workers import OOM_SCORE, Workers

workers = Workers(1)
asked = workers.submit(os.getpid)
while not asked.done():
    workers.pump()
print(asked.result(), flush=True)
os._exit(1)
"""


def test_a_worker_imports_neither_the_main_module_nor_what_lies_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('not this one')")
    script = tmp_path / "scripts" / "unguarded.py"
    script.parent.mkdir()
    script.write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("once\n", "", 0)


@linux_only
def test_a_worker_ends_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ABANDONED], stdout=subprocess.PIPE, text=True, timeout=60)
    pid, deadline = int(done.stdout), time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # one that nobody waits for has ended too
