"""Runs with plug-ins: the example of configs/README.md, ids, executors, going on, tables without the plug-in."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_suite import files_of_runs, planned, rows_of, statuses

import aimonk_bench as ab
from aimonk_bench import cli, registry
from aimonk_bench.config import loader
from aimonk_bench.errors import UserError
from aimonk_bench.suite import plan
from aimonk_bench.tables import RECORDED, tables

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "configs" / "README.md").read_text("utf-8").partition("## Plug-ins")[2].partition("\n## ")[0]
EXAMPLE = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
SUITE = """\
extends: ../small.yaml
plugins: [my_losses.py]
tune: {}
suite: {baseline: {loss: masked_bce}, axes: {loss: [masked_bce, focal, brier, {name: brier, power: 1.5}]}}
"""
TWICE = '    return factor * binary_cross_entropy_with_logits(logits, targets, reduction="none")'
EVERYTHING = '''\
"""An entry of every kind but a backbone."""

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from aimonk_bench.training.entries import declares
from aimonk_bench.training.losses import derivative_of, masked_bce, masked_bce_grad


def twice(logits, targets, *, factor: float = 2.0):
    """Cross-entropy times a factor, by a function that takes tensors of one shape alone."""
    return factor * binary_cross_entropy_with_logits(logits, targets, reduction="none")


@derivative_of(twice)
def twice_grad(logits, targets, *, factor):
    return factor * masked_bce_grad(logits, targets)


def total(logits, targets, weights):
    """The weighted sum."""
    return (masked_bce(logits, torch.where(weights > 0, targets, 0.0)) * weights).sum((-2, -1))


@declares(labels_only=True)
def negatives(labels, logits, epoch):
    """A missing label is a negative."""
    return torch.where(labels.observed, labels.targets, 0.0), torch.ones_like(labels.targets), None


def in_order(labels, batch_size, steps, rng):
    """The rows in order."""
    return np.arange(steps * batch_size).reshape(steps, batch_size) % len(labels)


def constant(scores, labels, *, at: float = 0.4):
    """The same threshold everywhere."""
    return np.full(scores.shape[1], at), ["told"] + [""] * (scores.shape[1] - 1)


LOSSES = {"twice": twice}
SET_LOSSES = {"total": total}
MISSING = {"mine": negatives}
SAMPLERS = {"mine": in_order}
THRESHOLDS = {"constant": constant}
'''


@pytest.fixture(scope="session")
def place(workplace: Path) -> Path:
    """A folder with the example, its suite, and `everything.yaml`, a run with an entry of every kind."""
    folder = workplace / "plugged"
    folder.mkdir()
    (folder / "my_losses.py").write_text(EXAMPLE)
    (folder / "mine.yaml").write_text(SUITE)
    (folder / "everything.py").write_text(EVERYTHING)
    text = "extends: ../small.yaml\nplugins: [everything.py]\ntune: {}\nloss: twice\nmissing: mine\nsampler: mine\n"
    (folder / "everything.yaml").write_text(text + "threshold: {name: constant, at: 0.3, for: {attr2: constant}}\n")
    return folder


@pytest.fixture(scope="session")
def plugged(place: Path) -> Path:
    """The folder of the example's suite, executed."""
    out = place / "mine"
    assert cli.main(["suite", str(place / "mine.yaml"), "--out", str(out), "--quiet", "--allow-plugins"]) == 0
    return out


@pytest.fixture(scope="session")
def everything(place: Path) -> Path:
    """The folder of `everything.yaml`, executed."""
    out = place / "everything"
    assert cli.main(["run", str(place / "everything.yaml"), "--out", str(out), "--quiet", "--allow-plugins"]) == 0
    return out


def ids(config: Path, *overrides: str) -> list[str]:
    names = tables(allow_plugins=True)
    if loader.is_suite(config):
        return [run.id for run in plan.plan_suite(loader.load_suite(config, names, overrides)).runs]
    return [run.id for run in plan.plan_run(loader.load(config, names, overrides)).runs]


def test_the_example_has_fifteen_lines_of_code() -> None:
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 15


def test_the_example_is_compared_beside_focal(plugged: Path) -> None:
    rows = rows_of(plugged / "summary.csv")
    assert {row["loss"] for row in rows} == {"masked_bce", "focal", "brier", "brier(power=1.5)"}
    assert {status["state"] for status in statuses(plugged)} == {"done"}
    logits = {
        json.loads((path / "status.json").read_text())["columns"]["loss"]: np.load(path / "predictions.npz")["logits"]
        for path in (plugged / "runs").iterdir()
    }
    assert not np.allclose(logits["brier"], logits["masked_bce"])
    assert not np.allclose(logits["brier"], logits["brier(power=1.5)"])


@pytest.mark.parametrize("verb", ["run", "suite", "validate", "audit"])
def test_every_verb_that_loads_a_config_wants_the_flag(
    place: Path, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    out = ["--out", str(tmp_path / "out")] if verb in ("run", "suite") else []
    config = "mine.yaml" if verb == "suite" else "everything.yaml"
    assert cli.main([verb, config, *out]) == 2
    printed = capsys.readouterr()
    assert f"{config}:2:1: plugins: found code that would be executed: " in printed.err
    assert "--allow-plugins" in printed.err
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


def test_validate_with_the_flag_knows_the_entries(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(place / "mine.yaml"), "--allow-plugins"]) == 0
    assert "  brier(power=1.5)" in capsys.readouterr().out.splitlines()


def test_the_list_and_the_schema_take_a_plug_in_that_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "losses", "--plugin", str(place / "my_losses.py")]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert listed.endswith("(plug-in my_losses.py) options: power=2.0")
    assert "my_losses.py" in listed
    assert cli.main(["schema", "--plugin", str(place / "my_losses.py")]) == 0
    assert '"brier"' in capsys.readouterr().out
    assert cli.main(["list", "losses"]) == 0
    assert "brier" not in capsys.readouterr().out


def test_ids_depend_on_what_plug_ins_hold_and_not_on_where_they_lie(place: Path, tmp_path: Path) -> None:
    before = ids(place / "mine.yaml")
    (tmp_path / "other.py").write_text(EXAMPLE)
    assert ids(place / "mine.yaml", f"plugins=[{tmp_path / 'other.py'}]") == before
    (tmp_path / "other.py").write_text(EXAMPLE + "# a remark\n")
    changed = ids(place / "mine.yaml", f"plugins=[{tmp_path / 'other.py'}]")
    assert not set(changed) & set(before)
    assert [name.rpartition("-")[0] for name in changed] == [name.rpartition("-")[0] for name in before]
    (tmp_path / "third.py").write_text("def f(z, y): ...\n\n\nLOSSES = {'f': f}\n")
    both = [place / "my_losses.py", tmp_path / "third.py"]
    forward, backward = (
        ids(place / "mine.yaml", f"plugins={[str(path) for path in order]}") for order in (both, both[::-1])
    )
    assert forward == backward
    assert not set(forward) & set(before)


def test_the_program_alone_gives_the_same_run_under_another_id(place: Path, everything: Path, workplace: Path) -> None:
    run = planned(workplace / "small.yaml").runs[0]
    config = loader.load(everything / "config.yaml", tables(allow_plugins=True), ())
    assert {spec.origin.table for spec in (config.loss, config.missing, config.sampler)} == {
        "LOSSES",
        "MISSING",
        "SAMPLERS",
    }
    assert run.config.plugins == []
    assert ids(everything / "config.yaml") == ids(place / "everything.yaml")


def test_entries_of_every_kind_decide(everything: Path) -> None:
    tuned = json.loads((everything / "thresholds.json").read_text())
    assert np.unique(tuned["thresholds"]).tolist() == [0.3, 0.4]
    assert {note["reason"] for note in tuned["notes"]} == {"told"}
    assert tuned["policy"] == "constant(at=0.3; attr2: constant)"
    columns = json.loads((everything / "status.json").read_text())["columns"]
    assert (columns["loss"], columns["missing"], columns["sampler"]) == ("twice", "mine", "mine")


def test_worker_processes_give_the_same_bytes(place: Path, plugged: Path, everything: Path, tmp_path: Path) -> None:
    words = ["--quiet", "--allow-plugins", "--set", "run.executor=processes", "--set", "run.workers=1", "--out"]
    assert cli.main(["suite", str(place / "mine.yaml"), *words, str(tmp_path / "out")]) == 0
    assert files_of_runs(tmp_path / "out") == files_of_runs(plugged)
    assert cli.main(["run", str(place / "everything.yaml"), *words, str(tmp_path / "run")]) == 0
    for name in ("predictions.npz", "thresholds.json", "metrics.json"):
        assert (tmp_path / "run" / name).read_bytes() == (everything / name).read_bytes()


def test_the_environment_says_which_code_it_was(place: Path, plugged: Path) -> None:
    for path in plugged.rglob("environment.json"):
        [plugin] = json.loads(path.read_text())["plugins"]
        assert plugin["source"] == str(place / "my_losses.py")
        assert plugin["sha256"] == hashlib.sha256(EXAMPLE.encode()).hexdigest()


def test_finished_runs_are_taken_up_and_read_without_the_plug_in(
    place: Path, plugged: Path, everything: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "plugged"
    shutil.copytree(place, moved)
    words = ["suite", str(moved / "mine.yaml"), "--out", str(moved / "mine"), "--allow-plugins"]
    for file in ("small.yaml", "synthetic"):
        (tmp_path / file).symlink_to(place.parent / file)
    assert cli.main(words) == 0
    assert "4 of 4 runs were already done" in capsys.readouterr().err
    for file in (*moved.glob("*.py"), *moved.glob("*.yaml")):
        file.unlink()
    for folder, name in ((moved / "mine", "brier(power=1.5)"), (moved / "everything", "everything")):
        assert cli.main(["table", str(folder)]) == 0
        printed = capsys.readouterr()
        assert name in printed.out
        assert "damaged" not in printed.out + printed.err


def test_the_config_of_a_run_is_read_without_executing_its_plug_ins(
    place: Path, everything: Path, tmp_path: Path
) -> None:
    executed = loader.load(everything / "config.yaml", tables(allow_plugins=True))
    shutil.copytree(everything, tmp_path / "run")
    text = (tmp_path / "run" / "config.yaml").read_text()
    gone = str(tmp_path / "gone.py")
    (tmp_path / "run" / "config.yaml").write_text(text.replace(str(place / "everything.py"), gone))
    config = ab.Run(tmp_path / "run").config
    for key in ("loss", "missing", "sampler", "threshold"):
        assert getattr(config, key).plain() == getattr(executed, key).plain(), key
        with pytest.raises(UserError, match=r"gone\.py: a plug-in, which is executed only with --allow-plugins"):
            registry.entry({}, getattr(config, key))
    assert [plugin.source for plugin in config.plugins] == [gone]
    assert loader.plain(config) == loader.plain(executed) | {"plugins": [gone]}
    assert ab.Run(everything).config.train == executed.train
    with pytest.raises(UserError, match="plugins: found code that would be executed"):
        ab.run(ab.Run(everything).config, out=str(tmp_path / "again"))
    text = text.replace("tune: {}", "tune:\n  loss.factor: [3.0, 4.0]")
    (tmp_path / "run" / "config.yaml").write_text(text.replace("  factor: 2.0\n", "").replace(", factor: 2.0", ""))
    tuned = ab.Run(tmp_path / "run").config
    assert tuned.loss.options == {"factor": 3.0}
    assert loader.load(tmp_path / "run" / "config.yaml", RECORDED, {"backbone.name": "mine"}).backbone.name == "mine"


def test_what_a_policy_of_a_plug_in_decides_is_computed_again_only_where_it_may_be_executed(
    place: Path, everything: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    shutil.copytree(everything, out)
    (out / "thresholds.json").unlink()
    (out / "metrics.json").unlink()
    assert cli.main(["table", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "everything.py: a plug-in, which is executed only with --allow-plugins" in printed
    assert cli.main(["run", str(place / "everything.yaml"), "--out", str(out), "--quiet", "--allow-plugins"]) == 0
    for name in ("thresholds.json", "metrics.json"):
        assert (out / name).read_bytes() == (everything / name).read_bytes()


@pytest.mark.parametrize(
    ("code", "override", "reason"),
    [
        (
            "    return masked_bce(logits, targets).mean()",
            "loss=twice",
            "loss twice: found shape [], expected a tensor",
        ),
        ("    return factor / 0", "loss=twice", "ZeroDivisionError: float division by zero, in the plug-in {file}:"),
        ("    return None", "loss=twice", "loss twice: found a NoneType, expected a tensor of shape"),
    ],
)
def test_a_run_whose_plug_in_fails_says_where(
    place: Path, tmp_path: Path, code: str, override: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = EVERYTHING.replace(TWICE, code)
    file = tmp_path / "broken.py"
    file.write_text(broken)
    words = ["run", str(place / "everything.yaml"), "--out", str(tmp_path / "out"), "--allow-plugins"]
    assert cli.main([*words, "--set", f"plugins=[{file}]", "--set", override]) == 1
    assert reason.format(file=file) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("% len(labels)", "- 1", "sampler: found rows -1 to "),
        (".reshape(steps, batch_size) %", "%", "of shape ("),
        (
            "return torch.where(labels.observed, labels.targets, 0.0), torch",
            "return torch.zeros(1), torch",
            "targets of missing mine",
        ),
        ("torch.ones_like(labels.targets), None", "torch.ones_like(labels.targets)", "missing mine: found a tuple"),
    ],
)
def test_results_of_another_shape_are_refused_where_they_would_be_broadcast(
    place: Path, tmp_path: Path, old: str, new: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text(EVERYTHING.replace(old, new))
    words = ["run", str(place / "everything.yaml"), "--out", str(tmp_path / "out"), "--allow-plugins"]
    assert cli.main([*words, "--set", f"plugins=[{tmp_path / 'broken.py'}]"]) == 1
    assert reason in capsys.readouterr().err


def test_a_set_loss_of_a_plug_in_is_combined_like_one_of_the_program(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(place / "everything.yaml"), "--out", str(tmp_path / "out"), "--quiet", "--allow-plugins"]
    assert cli.main([*words, "--set", "loss=total", "--set", "missing=entropy"]) == 2
    assert "which the set loss total cannot use" in capsys.readouterr().err
    assert cli.main([*words, "--set", "loss=total", "--set", "sampler=uniform"]) == 0


NETWORK = '''\
"""A network of two convolutions."""

import timm
import torch
from torch import nn

from aimonk_bench.backbones.catalog import Entry


class Tiny(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem, self.top = nn.Conv2d(3, width, 3, stride=2, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, images):
        return self.top(self.stem(images).relu()).relu().mean((2, 3))


@timm.models.register_model
def aimonk_test_tiny(pretrained=False, num_classes=0, **options):
    return Tiny(WIDTH)


CATALOG = {"tiny": Entry(timm="aimonk_test_tiny", features=WIDTH, licence=None, hub=None, size=32, multiple=1)}
'''


def test_a_backbone_of_a_plug_in_is_encoded_and_its_code_is_part_of_the_features(
    place: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    folders = []
    for width in (6, 5):
        file = tmp_path / f"network{width}.py"
        file.write_text(NETWORK.replace("WIDTH", str(width)))
        folders.append(tmp_path / f"out{width}")
        words = ["run", str(place.parent / "small.yaml"), "--out", str(folders[-1]), "--quiet", "--allow-plugins"]
        words += ["--set", f"plugins=[{file}]", "--set", "backbone={name: tiny, weights: none}", "--set", "tune={}"]
        assert cli.main([*words, "--set", "run.executor=serial"]) == 0  # for speed
    features = [json.loads((folder / "status.json").read_text())["complexity"]["features"] for folder in folders]
    assert features == [6, 5]
    config = loader.load(
        folders[0] / "config.yaml", tables(allow_plugins=True), ["backbone.freeze=top", "train.averaging=auto"]
    )
    assert config.backbone.freeze == "top"  # the network says which stages there are


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (
            "raise ZeroDivisionError('no channels')",
            "tiny cannot be built (ZeroDivisionError: no channels); fix: the plug-in that has it",
        ),
        ("raise SystemExit(1)", "cannot be built: found sys.exit(1)"),
    ],
)
def test_a_network_of_a_plug_in_that_cannot_be_built_is_named(
    failure: str, expected: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "network.py"
    code = NETWORK.replace("return Tiny(WIDTH)", failure).replace("WIDTH", "6")
    code = code.replace("aimonk_test_tiny", f"aimonk_test_{len(failure)}")  # timm warns of a name that it has
    file.write_text(code.replace(", multiple=1", ""))  # only the network knows it, and where it can be cut
    words = ["validate", str(place.parent / "small.yaml"), "--allow-plugins", "--set", f"plugins=[{file}]"]
    words += ["--set", "run.executor=serial"]  # for speed; other executors are in test_lost_workers
    for freeze, tune in [("all", "default"), ("top", "{}")]:
        backbone = f"backbone={{name: tiny, weights: none, freeze: {freeze}}}"
        assert cli.main([*words, "--set", backbone, "--set", f"tune={tune}"]) == 2
        assert expected in capsys.readouterr().err


def test_what_the_entry_of_a_plug_in_does_not_state_is_found_when_its_network_is_tried(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "network.py"
    code = NETWORK.replace("WIDTH", "6").replace("aimonk_test_tiny", "aimonk_test_patches").replace(", multiple=1", "")
    file.write_text(code.replace("width, 3, stride=2, padding=1", "width, 5, stride=5"))
    words = ["validate", str(place.parent / "small.yaml"), "--allow-plugins", "--set", f"plugins=[{file}]"]
    words += ["--set", "tune={}"]
    for size, backbone, expected in [
        (32, "{name: tiny, weights: none}", "transform.size: found 32, expected a multiple of 5 for tiny, because"),
        (30, "{name: tiny, weights: none, freeze: peak}", "backbone.freeze: found 'peak'"),
    ]:
        assert cli.main([*words, "--set", f"backbone={backbone}", "--set", f"transform.size={size}"]) == 2
        assert expected in capsys.readouterr().err


def test_a_plug_in_stays_with_its_config(place: Path, workplace: Path) -> None:
    names = tables(allow_plugins=True)
    config = loader.load(place / "everything.yaml", names, ())
    assert "twice" not in names.losses
    assert replace(names, allow_plugins=False) == tables()
    assert config.loss.origin is not None
    assert loader.load(workplace / "small.yaml", names, ()).plugins == []


ODD = '''\
"""Losses that raise what is hard to handle."""


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")


class Incomparable(Exception):
    def __eq__(self, other):
        raise ValueError("no equality")


class Base(BaseException):
    pass


def raiser(kind):
    def loss(logits, targets):
        raise kind("odd")

    return loss


LOSSES = {kind.__name__.lower(): raiser(kind) for kind in (Unprintable, Incomparable, Base)}
'''


def test_an_odd_exception_ends_its_run_alone(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "odd.py").write_text(ODD)
    (workplace / "odd.yaml").write_text(
        "extends: small.yaml\nplugins: [odd.py]\nrun: {executor: serial}\n"
        "suite: {baseline: {loss: masked_bce}, axes: {loss: [unprintable, incomparable, base, masked_bce]}}\n"
    )
    words = ["suite", str(workplace / "odd.yaml"), "--out", str(workplace / "odd"), "--allow-plugins"]
    assert cli.main(words) == 3
    reasons = {status["columns"]["loss"]: status["reason"] for status in statuses(workplace / "odd")}
    assert reasons["masked_bce"] is None
    assert "cannot be formatted" in reasons["unprintable"]
    assert reasons["incomparable"].startswith("Incomparable: odd")
    assert reasons["base"].startswith("found Base: odd in the plug-in ")
