"""A suite some of whose runs end their worker, hang, or need more memory than there is: the others finish.

So it is whether a loss does so in training, or a network when it is built or encodes.

    AIMONK_BENCH_FULL=1 .venv/bin/python -m pytest tests/suite/test_lost_workers.py

also executes a suite of 24 runs, of which four fail, under `processes` and `ray`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from small_suite import files_of_runs, rows_of, statuses

from aimonk_bench import cli

PLUGIN = '''\
"""Losses that no suite should ever see."""

import resource
import signal
import time

from aimonk_bench.training.losses import masked_bce


def crash(logits, targets):
    """End the process as a fault in a library does."""
    signal.raise_signal(signal.SIGSEGV)  # in this thread, which goes no further
    return masked_bce(logits, targets)


def hang(logits, targets):
    """Never come back."""
    time.sleep(600)
    return masked_bce(logits, targets)


def hungry(logits, targets):
    """Need more memory than there is."""
    limit = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (8 << 30), limit[1]))
    try:
        return masked_bce(logits.new_zeros(1 << 33), targets)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)


LOSSES = {"crash": crash, "hang": hang, "hungry": hungry}
'''
SUITE = """\
extends: small.yaml
plugins: [bad_losses.py]
tune: {}
run: {workers: 2, timeout: 10, retries: 0}
suite: {baseline: {loss: masked_bce}, axes: {loss: [masked_bce, crash, hang, hungry, focal]}}
"""


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture(autouse=True)
def _without_ray_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def _executed(workplace: Path, suite: str, executor: str, expected: int = 3) -> Path:
    """Execute a suite, some of whose runs fail unless the exit code is to be 0; the folder of its results."""
    config, out = workplace / "bad.yaml", workplace / executor
    config.write_text(suite)
    shutil.rmtree(out, ignore_errors=True)  # of another test
    words = ["suite", str(config), "--out", str(out), "--allow-plugins", "--executor", executor]
    assert cli.main(words) == expected
    return out


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the losses are for Linux")
@pytest.mark.parametrize(
    ("executor", "worker", "crashed"),
    [
        ("processes", "worker process", "was ended by SIGSEGV"),
        pytest.param("ray", "Ray worker", "ended; Ray says: The actor is dead because", marks=needs_ray),
    ],
)
def test_three_runs_fail_with_their_reasons_and_the_others_finish(
    executor: str, worker: str, crashed: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "bad_losses.py").write_text(PLUGIN)
    out = _executed(workplace, SUITE, executor)
    reasons = {status["columns"]["loss"]: status["reason"] for status in statuses(out)}
    assert reasons["masked_bce"] is None
    assert re.match(r"focal", next(loss for loss, reason in reasons.items() if reason is None and loss != "masked_bce"))
    assert reasons["crash"].startswith(f"its {worker} {crashed}")
    assert reasons["hang"] == f"its {worker} took longer than run.timeout, 10 s"
    assert "memory" in reasons["hungry"]
    assert {row["state"] for row in rows_of(out / "summary.csv")} == {"done", "failed"}
    printed = capsys.readouterr()
    assert all(loss in printed.out for loss in reasons)


NETWORKS = '''\
"""Networks that no suite should ever see."""

import os
import signal

from timm.models import register_model
from torch import nn

from aimonk_bench.backbones.catalog import Entry


class Net(nn.Module):
    """A convolution that may end its process in the third batch."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.batches, self.num_features = kind, 0, 8
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Identity()

    def get_classifier(self):
        return self.head

    def reset_classifier(self, classes):
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        self.batches += len(images) > 7  # with fewer images networks are tried and exported
        if self.batches == 3 and self.kind == "crash" and "SOUND" not in os.environ:
            signal.raise_signal(signal.SIGSEGV)
        return self.head(self.layers(images))


@register_model
def bad_unbuilt(pretrained=False, **options):
    signal.raise_signal(signal.SIGSEGV)


@register_model
def bad_none(pretrained=False, **options):
    return Net("none")


@register_model
def bad_crash(pretrained=False, **options):
    return Net("crash")


@register_model
def bad_refused(pretrained=False, **options):
    raise RuntimeError("no layers")


NAMES = ("bad_none", "bad_unbuilt", "bad_crash", "bad_refused")
CATALOG = {name: Entry(timm=name, features=8, licence=None, hub=None) for name in NAMES}
'''
NETWORKS_SUITE = """\
extends: small.yaml
plugins: [bad_networks.py]
tune: {}
train: {epochs: 1}
run: {workers: 1, retries: 0}
suite:
  baseline: {backbone: {name: bad_none, weights: none, engine: torch}}
  axes:
    backbone:
      - {name: bad_none, weights: none, engine: torch}
      - {name: bad_unbuilt, weights: none, engine: torch}
      - {name: bad_crash, weights: none, engine: torch}
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the networks are for Linux")
@pytest.mark.parametrize("executor", ["auto", "processes", pytest.param("ray", marks=needs_ray)])
def test_networks_that_end_their_process_cost_their_runs_alone(executor: str, workplace: Path) -> None:
    (workplace / "bad_networks.py").write_text(NETWORKS)
    out = _executed(workplace, NETWORKS_SUITE, executor)
    reasons = {re.match(r"bad_\w+", status["columns"]["backbone"])[0]: status["reason"] for status in statuses(out)}
    assert reasons["bad_none"] is None
    assert reasons["bad_unbuilt"].startswith(
        "bad_unbuilt at transform.size 32 cannot be tried: its worker process was ended by SIGSEGV; fix: another"
    )
    how = "Ray worker ended; Ray says" if executor == "ray" else "worker process was ended by SIGSEGV"
    assert reasons["bad_crash"].startswith(f"the images cannot be encoded: its {how}")


LOSSES_OF_24 = ["masked_bce", "focal", "hill", "asymmetric", "pos_weight"]
SAMPLERS_OF_24 = ["uniform", "repeat_factor", "class_aware", "balanced"]
SUITE_OF_24 = """\
extends: small.yaml
plugins: [bad_losses.py, bad_networks.py]
tune: {}
train: {epochs: 1}
run: {workers: 2, timeout: 15, retries: 0}
backbone: {weights: none, engine: torch}
suite:
  baseline: {backbone.name: test_resnet, loss: masked_bce, sampler: uniform}
  axes: {backbone.name: [test_resnet, bad_refused], loss: LOSSES, sampler: SAMPLERS}
  exclude: EXCLUDED
"""


def _suite_of_24() -> str:
    """Twenty sound runs, and one each of a crash, a hang, too much memory and a network that cannot be built."""
    bad = ["crash", "hang", "hungry"]
    excluded = [{"loss": loss, "sampler": sampler} for loss in bad for sampler in SAMPLERS_OF_24[1:]]
    excluded += [{"backbone.name": "bad_refused", "sampler": sampler} for sampler in SAMPLERS_OF_24[1:]]
    excluded += [{"backbone.name": "bad_refused", "loss": loss} for loss in [*LOSSES_OF_24[1:], *bad]]
    values = {"LOSSES": LOSSES_OF_24 + bad, "SAMPLERS": SAMPLERS_OF_24, "EXCLUDED": excluded}
    return re.sub("[A-Z]{6,}", lambda word: json.dumps(values[word[0]]), SUITE_OF_24)


@pytest.mark.skipif("AIMONK_BENCH_FULL" not in os.environ, reason="takes minutes; the tests above are its parts")
@pytest.mark.parametrize("executor", ["processes", pytest.param("ray", marks=needs_ray)])
def test_of_24_runs_20_finish_and_the_table_names_four(
    executor: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "bad_losses.py").write_text(PLUGIN)
    (workplace / "bad_networks.py").write_text(NETWORKS)
    suite = _suite_of_24()
    out = _executed(workplace, suite, executor)
    printed = capsys.readouterr().out
    ended = statuses(out)
    reasons = [status["reason"] for status in ended if status["state"] == "failed"]
    assert (len(ended), len(reasons)) == (24, 4)
    named = re.findall(r"(crash|hang|hungry|bad_refused).* failed: (.{15})", printed)
    assert sorted(name for name, _ in named) == ["bad_refused", "crash", "hang", "hungry"]
    assert sorted(begins for _, begins in named) == sorted(reason[:15] for reason in reasons)
    sound = yaml.safe_load(suite)
    sound["suite"]["axes"] |= {"backbone.name": ["test_resnet"], "loss": LOSSES_OF_24}
    sound["suite"]["exclude"] = []
    del sound["run"]
    serial_files = files_of_runs(_executed(workplace, yaml.safe_dump(sound), "serial", expected=0))
    assert len({file for file in serial_files if file.name == "predictions.npz"}) == 20
    assert {file: content for file, content in files_of_runs(out).items() if file in serial_files} == serial_files


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the network is for Linux")
def test_an_audit_says_which_images_a_network_cannot_encode(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "bad_networks.py").write_text(NETWORKS)
    lines = "extends: small.yaml\nplugins: [bad_networks.py]\n"
    (workplace / "audit.yaml").write_text(lines + "backbone: {name: bad_crash, weights: none, engine: torch}\n")
    assert cli.main(["audit", str(workplace / "audit.yaml"), "--allow-plugins"]) == 1
    reason = "the images cannot be encoded: its worker process was ended by SIGSEGV (2 times); fix: another network"
    assert reason in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the network is for Linux")
def test_an_export_that_trains_again_says_that_a_network_cannot_encode(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "bad_networks.py").write_text(NETWORKS)
    lines = "extends: small.yaml\nplugins: [bad_networks.py]\ntune: {}\ntrain: {epochs: 1}\nrun: {retries: 0}\n"
    (workplace / "again.yaml").write_text(lines + "backbone: {name: bad_crash, weights: none, engine: torch}\n")
    with monkeypatch.context() as sound:
        sound.setenv("SOUND", "1")
        run = ["run", str(workplace / "again.yaml"), "--out", str(tmp_path / "run"), "--allow-plugins"]
        assert cli.main(run) == 0
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path / "empty"))
    words = ["export", str(tmp_path / "run"), "-o", str(tmp_path / "bundle"), "--head", "refit", "--allow-plugins"]
    assert cli.main(words) == 1
    assert "the images cannot be encoded: its worker process was ended by SIGSEGV" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
