"""Suites on a Ray cluster: the same results as in this process, whatever ends meanwhile. Skipped without Ray."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_suite import execute, files_of_runs

from aimonk_bench import cli
from aimonk_bench.backbones.features import FeatureMatrix
from aimonk_bench.config.run_fields import RunConfig
from aimonk_bench.errors import UserError
from aimonk_bench.suite import ray_workers
from aimonk_bench.suite.ray_workers import Layout, Node, RayWorkers, _Actor, layout
from aimonk_bench.suite.worker import WorkerLost, WorkersKilled

ray: Any = pytest.importorskip("ray", reason="Ray is not installed", exc_type=ImportError)

ONE = Layout(1, 1, 0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with a core each, to which this process is connected."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        node = {"num_cpus": 1, "object_store_memory": 100 << 20}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        cluster.add_node(**node)
        ray.init(cluster.address, log_to_driver=False, logging_level="warning", configure_logging=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def settled(workers: RayWorkers, *functions: Any) -> list[Future[Any]]:
    """The futures of tasks, all done."""
    futures = [workers.submit(function) for function in functions]
    while not all(future.done() for future in futures):
        workers.pump()
    return futures


def fail() -> None:
    raise ZeroDivisionError("planted")


def end(number: int) -> None:
    """End the worker by a signal."""
    os.kill(os.getpid(), number)
    time.sleep(60)


def total(matrix: FeatureMatrix) -> tuple[float, bool, int]:
    """The sum of the features of the images, whether they can be written, and the number of rows."""
    return float(matrix.rows[matrix.index].sum()), bool(matrix.rows.flags.writeable), len(matrix.rows)


def test_a_feature_matrix_is_shared_once_and_only_the_rows_of_its_images(cluster: Any, tmp_path: Path) -> None:
    rows = np.memmap(tmp_path / "rows.bin", np.float32, "w+", shape=(1000, 40))
    rows[:] = np.arange(1000)[:, None]
    matrix = FeatureMatrix(rows, np.array([[7, 900, 7], [3, 2, 3]]), [], "onnxruntime")
    with RayWorkers(ONE) as workers:
        results = settled(workers, *[partial(total, matrix)] * 3)
        assert len(workers._shared) == 1
        task, references = workers._workers[0].pack(partial(total, matrix))
    assert [future.result() for future in results] == [(40.0 * (7 + 900 + 7 + 3 + 2 + 3), False, 4)] * 3
    assert len(task) < 1000
    assert len(references) == 1


def test_a_worker_that_ends_costs_its_task_alone(cluster: Any) -> None:
    with RayWorkers(ONE, retries=0, timeout=5) as workers:
        crashed, raised, hung, fine = settled(
            workers, partial(end, signal.SIGSEGV), fail, partial(time.sleep, 600), partial(max, 1, 2)
        )
    assert isinstance(crashed.exception(), WorkerLost)
    assert "its Ray worker ended; Ray says: The actor is dead because" in str(crashed.exception())
    assert isinstance(raised.exception(), ZeroDivisionError)
    assert "in fail" in str(raised.exception().__cause__)
    assert str(hung.exception()) == "its Ray worker took longer than run.timeout, 5 s"
    assert fine.result() == 2


def test_after_an_interruption_workers_are_killed(cluster: Any) -> None:
    """Their cores are free again."""

    def interrupted(workers: RayWorkers) -> None:
        with workers:
            sleeping.append(workers.submit(partial(time.sleep, 600)))
            while not workers._workers[0].job:
                workers.pump()
            raise KeyboardInterrupt

    sleeping: list[Future[None]] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(RayWorkers(ONE))
    assert isinstance(sleeping[0].exception(), WorkersKilled)
    deadline = time.monotonic() + 60
    while ray.available_resources()["CPU"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def late(function: Any) -> Any:
    """The result of a task that takes two seconds longer."""
    time.sleep(2)
    return function()


def test_a_suite_leaves_the_same_files_though_a_node_ends_in_the_middle(
    cluster: Any,
    suite: Path,
    pair: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`suite` was executed serially. Of four workers two are on the node that ends when three of them are training."""
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path))  # so that images are encoded on the cluster, too
    doomed = cluster.add_node(num_cpus=2, object_store_memory=100 << 20)
    submit, send, sent = RayWorkers.submit, _Actor.send, 0
    encoded: list[bool] = []

    def delayed(pool: RayWorkers, function: Any, name: str, **options: Any) -> Future[Any]:
        encoded.append(name == "encoding")
        return submit(pool, partial(late, function), name, **options)

    def send_and_end(worker: _Actor, packed: Any) -> None:
        nonlocal sent
        send(worker, packed)
        sent += worker.job.name != "encoding"
        if sent == 3:
            cluster.remove_node(doomed, allow_graceful=False)

    monkeypatch.setattr(RayWorkers, "submit", delayed)
    monkeypatch.setattr(_Actor, "send", send_and_end)
    assert execute(pair, pair.parent / "on-ray", "run.executor=ray", "run.workers=4") == 0
    assert files_of_runs(pair.parent / "on-ray") == files_of_runs(suite)
    assert encoded.count(True) == 7  # 20 batches of 4 images under 2 views, without the first, which decides the engine
    messages = " ".join(capsys.readouterr().err.split())
    assert "its Ray worker ended; Ray says: The actor" in messages
    assert "another one begins again" in messages


NETWORK = """\
import timm
from torch import nn

from aimonk_bench.backbones.catalog import Entry


@timm.models.register_model
def network_for_ray(pretrained=False, num_classes=0, **options):
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


CATALOG = {"for_ray": Entry("network_for_ray", features=6, licence=None, hub=None, size=32, multiple=1)}
"""


def test_workers_encode_with_the_network_of_a_plug_in(
    cluster: Any, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path))
    (tmp_path / "network.py").write_text(NETWORK)
    words = ["suite", str(pair), "--allow-plugins", "--quiet", "--executor", "ray", "--out", str(tmp_path / "out")]
    words += ["--set", f"plugins=[{tmp_path / 'network.py'}]"]
    assert cli.main([*words, "--set", "backbone={name: for_ray, weights: none, engine: torch}"]) == 0


@pytest.mark.parametrize(
    ("nodes", "run", "runs", "threads", "gpus", "expected"),
    [
        ([Node(2, 0)], {}, 40, 1, False, Layout(2, 1, 0)),
        ([Node(8, 0)], {}, 2, 1, False, Layout(2, 4, 0)),
        ([Node(8, 0), Node(4, 0), Node(4, 0)], {}, 1, 1, False, Layout(3, 4, 0)),
        ([Node(16, 0), Node(4, 0)], {"workers": 4}, 40, 2, False, Layout(4, 4, 0)),
        ([Node(16, 4), Node(64, 0)], {}, 9, 1, True, Layout(4, 4, 1)),
        ([Node(16, 4), Node(16, 4)], {"workers": 2}, 9, 1, True, Layout(2, 16, 1)),
        ([Node(3, 0)], {"workers": 9}, 9, 2, False, Layout(1, 3, 0)),
    ],
)
def test_a_cluster_is_divided_among_workers(
    nodes: list[Node], run: dict[str, Any], runs: int, threads: int, gpus: bool, expected: Layout
) -> None:
    section = RunConfig.model_validate({"executor": "ray", **run})
    assert layout(nodes, section, runs, threads, gpus=gpus) == expected


def test_a_cluster_that_is_too_small_is_refused() -> None:
    section = RunConfig.model_validate({"executor": "ray"})
    with pytest.raises(UserError, match=r"trained with 4 threads, but the machines of the Ray cluster have 2 cores"):
        layout([Node(2, 0), Node(2, 0)], section, 1, 4, gpus=False)
    with pytest.raises(UserError, match="no machine of the cluster has one"):
        layout([Node(2, 0)], section, 1, 1, gpus=True)


def test_an_address_without_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str, **options: Any) -> None:
        raise ConnectionError(f"nothing at {address}\nfurther lines")

    def late(address: str, **options: Any) -> None:
        raise Exception("too late")  # as Ray does

    monkeypatch.setenv("RAY_ADDRESS", "nowhere:1")
    monkeypatch.setattr(ray_workers, "ray", type("Ray", (), {"is_initialized": lambda: False, "init": refuse}))
    with pytest.raises(UserError, match=r"RAY_ADDRESS: found 'nowhere:1', expected .* \(nothing at nowhere:1\)$"):
        ray_workers.connected().__enter__()
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(ray_workers.ray, "init", late)
    with pytest.raises(UserError, match=r"could be started on this machine \(too late\); fix: .*--executor processes"):
        ray_workers.connected().__enter__()
