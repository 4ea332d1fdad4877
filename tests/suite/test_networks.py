"""Networks are tried before an image is read: `validate` prints it, `run` stops, in a suite a run fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from small_suite import rows_of, statuses

from aimonk_bench import cli
from aimonk_bench.data import image_files
from aimonk_bench.suite import networks, plan
from aimonk_bench.tables import TABLES

SMALL = "test_resnet"


def _run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture
def weight_file(tmp_path: Path) -> Path:
    """Weights as training code saves them: nested, prefixed, with a head."""
    state = timm.create_model(SMALL, pretrained=False, num_classes=0).state_dict()
    file = tmp_path / "best.pth.tar"
    head = {"head.0.weight": torch.ones(3, 3), "head.2.weight": torch.ones(2, 3)}
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()} | head}, file)
    return file


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("backbone={name: vit_tiny_patch16_224, weights: none}", "found 225, expected a multiple of 16"),
        ("backbone={name: convnextv2_atto, weights: none}", "found 225, expected a multiple of 4"),
        ("backbone={name: maxvit_tiny_tf_224, weights: none}", "cannot take images of 225 x 225 pixels"),
        ("backbone={name: resnet18, weights: labels.txt}", "these are not weights of resnet18"),
        ("backbone={name: resnet18, weights: 'package:none-such'}", "none-such is not installed"),
    ],
)
def test_a_network_that_cannot_be_used_stops_everything_before_an_image_is_read(
    override: str,
    expected: str,
    workplace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace / "synthetic")
    monkeypatch.setattr(plan, "locate", lambda *_: pytest.fail("images are read"))
    monkeypatch.setattr(image_files, "locate", lambda *_: pytest.fail("images are read"))
    sets = ("--set", override, "--set", "transform.size=225")
    for words in (("validate",), ("run", "--out", tmp_path / "out")):
        assert _run(*words, workplace / "small.yaml", *sets) == 2
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_validate_says_what_the_network_is_and_what_was_undone(
    weight_file: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    override = f"backbone={{name: {SMALL}, weights: {weight_file}}}"
    assert _run("validate", workplace / "small.yaml", "--set", override) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{SMALL}: 32 x 32 pixels, 96 features; weights: path, {weight_file}" in lines
    assert f"  {weight_file}: took the tensors under 'state_dict'" in lines
    assert f"  {weight_file}: removed the prefix 'module.' from the names of the tensors" in lines
    assert f"  {weight_file}: left out 2 tensors beside the network: head.0.weight, head.2.weight" in lines
    planned = plan.plan_run(plan.load(workplace / "small.yaml", TABLES, [override]).base)
    assert planned.baseline.encoder.weights.file == weight_file


def test_in_a_suite_the_runs_of_that_network_fail_and_validate_says_which(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, fits, refuses = (
        workplace / "sizes.yaml",
        "{name: test_resnet, weights: none}",
        "{name: halonet26t, weights: none}",
    )
    config.write_text(
        "extends: small.yaml\ntransform: {size: 100}\ntrain: {epochs: 1, seeds: 1}\n"
        f"suite:\n  baseline: {{backbone: {fits}}}\n  axes: {{backbone: [{fits}, {refuses}]}}\n"
    )
    assert _run("validate", config) == 0
    printed = capsys.readouterr().out
    assert "test_resnet: 100 x 100 pixels, 96 features; weights: none, untrained" in printed
    assert "1 run will fail (halonet26t(weights=none)): transform.size: halonet26t cannot take images of 100" in printed
    assert _run("suite", config, "--out", tmp_path / "out", "--quiet") == 3
    [failed] = [status for status in statuses(tmp_path / "out") if status["state"] == "failed"]
    assert "halonet26t cannot take images of 100 x 100 pixels" in failed["reason"]
    config.write_text(config.read_text().replace(fits, refuses, 1).replace(f"{fits}, ", ""))
    assert _run("validate", config) == 2
    assert "halonet26t cannot take images" in capsys.readouterr().err


ABSENT = "{name: test_resnet, weights: 'package:not-installed'}"
SKIPPING = f"""\
extends: small.yaml
train: {{epochs: 1, seeds: 1}}
suite:
  baseline: {{backbone: tf_efficientnet_lite0}}
  unavailable: skip
  axes:
    backbone: [tf_efficientnet_lite0, {ABSENT}, {{name: test_resnet, weights: none}}]
"""


def test_a_suite_skips_runs_without_weights_and_names_them(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = workplace / "skipping.yaml", tmp_path / "out"
    config.write_text(SKIPPING)
    absent = "test_resnet(weights=package:not-installed)"
    assert _run("validate", config) == 0
    printed = capsys.readouterr().out
    [warning] = [line for line in printed.splitlines() if line.startswith("warning: skipped")]
    assert warning.endswith(f": {absent}")
    assert "2 runs, 4 heads" in printed
    assert "will fail" not in printed
    assert _run("suite", config, "--out", out) == 0
    printed = capsys.readouterr()
    assert f"(suite.unavailable: skip): {absent}" in " ".join(printed.out.split())
    assert sum("skipped" in line for line in printed.err.splitlines()) == 1
    assert "run 2 of 2" in printed.err
    skipped = json.loads((out / "suite.json").read_text())["skipped"]
    [(run_id, reason)] = skipped.items()
    assert "test_resnet" in run_id
    assert reason == "backbone.weights: package:not-installed cannot be had for test_resnet"
    assert json.loads((out / "statistics.json").read_text())["skipped"] == skipped
    assert f"skip): {absent}" in (out / "summary.md").read_text()
    assert sorted(path.name for path in (out / "runs").iterdir()) == sorted(s["id"] for s in statuses(out))
    rows = rows_of(out / "summary.csv")
    assert {row["state"] for row in rows if row["run"] in skipped} == {"skipped"}
    costs = {row["backbone"]: (row["parameters"], row["macs"]) for row in rows if row["state"] == "done"}
    assert costs["tf_efficientnet_lite0"] == ("3.371008", "0.007834848")  # at 32 pixels a 49th of those at 224
    assert len(set(costs.values())) == 2
    assert _run("table", out) == 0
    assert "skipped" in capsys.readouterr().out
    assert _run("suite", config, "--out", out, "--quiet") == 0  # again: nothing is missed


def test_the_same_suite_fails_where_it_is_not_told_to_skip(workplace: Path, tmp_path: Path) -> None:
    config = workplace / "skipping.yaml"
    config.write_text(SKIPPING)
    assert _run("suite", config, "--out", tmp_path, "--quiet", "--set", "suite.unavailable=fail") == 3
    assert _run("suite", config, "--out", tmp_path, "--quiet") == 0  # takes the folder up, the failed run is left out
    assert len([status for status in statuses(tmp_path) if status["state"] == "failed"]) == 1


def test_a_skipped_baseline_is_said_and_a_suite_of_skipped_runs_is_an_error(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = workplace / "skipping.yaml"
    config.write_text(SKIPPING.replace("backbone: tf_efficientnet_lite0}", f"backbone: {ABSENT}}}"))
    assert _run("validate", config) == 0
    assert "warning: suite.baseline: test_resnet(weights=package:not-installed) is" in capsys.readouterr().out
    assert _run("suite", config, "--out", tmp_path / "a") == 0
    printed = capsys.readouterr()
    assert "so no run is compared with a baseline" in printed.err
    assert "the baseline included" in " ".join(printed.out.split())
    config.write_text(
        config.read_text().replace("[tf_efficientnet_lite0, ", "[").replace(", {name: test_resnet, weights: none}", "")
    )
    for words in (("validate",), ("suite", "--out", tmp_path / "b")):
        assert _run(*words, config) == 2
        assert "not-installed" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_network_that_cannot_take_the_size_fails_although_others_are_skipped(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = workplace / "skipping.yaml"
    config.write_text(SKIPPING.replace("{name: test_resnet, weights: none}", "{name: halonet26t, weights: none}"))
    assert _run("suite", config, "--out", tmp_path, "--set", "transform.size=36") == 3
    assert "failed" in capsys.readouterr().out


def test_each_network_is_found_and_tried_once(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[object] = []
    real = networks.trial.attempt
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(networks.trial, "attempt", lambda *arguments: attempts.append(1) or real(*arguments))
    config = plan.load(workplace / "small.yaml", TABLES, ["backbone={name: test_resnet, weights: none}"]).base
    larger = config.model_copy(update={"transform": config.transform.model_copy(update={"size": 48})})
    prepared = networks.prepare([config, larger, config])
    assert [network.encoder.size for network in prepared] == [32, 48, 32]
    assert len(attempts) == 2
    networks.prepare([config, larger])
    assert len(attempts) == 2  # what was found is stored


def test_a_native_size_is_a_number_in_the_config_of_a_run(workplace: Path, tmp_path: Path) -> None:
    sets = ("--set", "backbone={name: test_resnet, weights: none}", "--set", "train.epochs=1", "--quiet")
    out = tmp_path / "native"
    assert _run("run", workplace / "small.yaml", *sets, "--set", "transform.size=native", "--out", out) == 0
    assert "size: 160" in (out / "config.yaml").read_text()
    first = json.loads((out / "status.json").read_text())["id"]
    assert _run("run", out / "config.yaml", "--out", tmp_path / "again", "--quiet") == 0
    assert json.loads((tmp_path / "again" / "status.json").read_text())["id"] == first
