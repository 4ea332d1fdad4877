"""Networks are tried before an image is read: `validate` prints it, `run` stops, in a suite a run fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from small_suite import statuses

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
    workplace: Path, capsys: pytest.CaptureFixture[str]
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
    assert _run("suite", config, "--out", workplace / "sizes", "--quiet") == 3
    [failed] = [status for status in statuses(workplace / "sizes") if status["state"] == "failed"]
    assert "halonet26t cannot take images of 100 x 100 pixels" in failed["reason"]
    config.write_text(config.read_text().replace(fits, refuses, 1).replace(f"{fits}, ", ""))
    assert _run("validate", config) == 2
    assert "halonet26t cannot take images" in capsys.readouterr().err


def test_each_network_is_found_and_tried_once(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[object] = []
    real = networks.trial.attempt
    monkeypatch.setattr(networks.trial, "attempt", lambda *arguments: attempts.append(1) or real(*arguments))
    config = plan.load(workplace / "small.yaml", TABLES, ["backbone={name: test_resnet, weights: none}"]).base
    larger = config.model_copy(update={"transform": config.transform.model_copy(update={"size": 48})})
    prepared = networks.prepare([config, larger, config])
    assert [network.encoder.size for network in prepared] == [32, 48, 32]
    assert len(attempts) == 2


def test_a_native_size_is_a_number_in_the_config_of_a_run(workplace: Path, tmp_path: Path) -> None:
    sets = ("--set", "backbone={name: test_resnet, weights: none}", "--set", "train.epochs=1", "--quiet")
    out = tmp_path / "native"
    assert _run("run", workplace / "small.yaml", *sets, "--set", "transform.size=native", "--out", out) == 0
    assert "size: 160" in (out / "config.yaml").read_text()
    first = json.loads((out / "status.json").read_text())["id"]
    assert _run("run", out / "config.yaml", "--out", tmp_path / "again", "--quiet") == 0
    assert json.loads((tmp_path / "again" / "status.json").read_text())["id"] == first
