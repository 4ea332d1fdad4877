"""The check for a graphics card, executed on the CPU with tiny sizes; and what it says where there is no card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.benchmarks import __main__ as command
from experiments.benchmarks import gpu

TIMED = ("encoding", "all")  # what depends on how busy the machine is


def test_every_check_runs_and_its_figures_are_written(tmp_path: Path) -> None:
    figures = gpu.check(tmp_path, "cpu", gpu.QUICK)
    table = pd.read_csv(tmp_path / "gpu.csv")
    assert set(table["check"]) == {
        "encoding",
        "heads",
        "fine-tuning",
        "resume",
        "processes",
        "processes against serial",
        "suite against the CPU",
        "all",
    }
    assert np.isfinite(table["value"]).all()
    exact = table[table["check"].isin(["heads", "resume", "processes against serial", "suite against the CPU"])]
    differences = exact[exact["figure"] == "largest difference of the logits"].set_index("check")["value"]
    assert differences.drop("suite against the CPU").eq(0).all(), "one device, the same bits"
    assert all(figure.passed for figure in figures if figure.passed is not None and figure.check not in TIMED)
    page = (tmp_path / "README.md").read_text()
    assert "requirements are met" in page
    assert gpu.COMMAND in page


@pytest.mark.parametrize(
    ("logits", "differing"),
    [([2.0, -0.05, -3.0], 0), ([2.0, 0.05, -3.0], 0), ([-2.0, -0.05, 3.0], 2)],
)
def test_decisions_count_outside_the_band(logits: list[float], differing: int) -> None:
    *_, last = gpu._agreement("x", np.array([2.0, -0.05, -3.0]), np.array(logits))
    assert (last.value, last.passed) == (differing, differing == 0)


def test_without_a_card_the_page_says_so_and_results_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command.main(["gpu", "--out", str(tmp_path)])
    assert "Not run" in (tmp_path / "README.md").read_text()
    assert "no card on this machine" in capsys.readouterr().out
    (tmp_path / "gpu.csv").touch()
    (tmp_path / "README.md").write_text("measured")
    command.main(["gpu", "--out", str(tmp_path)])
    assert (tmp_path / "README.md").read_text() == "measured"


def test_a_requirement_that_is_not_met_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = gpu.at_least("encoding", "share", 0.5, 0.7)
    (tmp_path / "README.md").touch()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "check", lambda *_: [figure, replace(figure, passed=True)])
    with pytest.raises(SystemExit, match=r"encoding: share 0\.5, at least 0\.7"):
        gpu.main(tmp_path, quick=True)


def test_the_published_page_is_what_the_command_wrote(tmp_path: Path) -> None:
    """Not run, or with the figures of a card."""
    published = Path(__file__).parents[2] / "experiments" / "published" / "gpu"
    if (published / "gpu.csv").exists():
        assert set(pd.read_csv(published / "gpu.csv")["check"]) >= {"encoding", "heads", "resume"}
        return
    gpu.write_not_run(tmp_path)
    assert (published / "README.md").read_text("utf-8") == (tmp_path / "README.md").read_text("utf-8")
