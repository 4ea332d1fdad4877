"""One run in full and two runs side by side: which runs are meant, and that figures are those of the files."""

from __future__ import annotations

import io
import re
from pathlib import Path

import fake_suite
import pytest
from rich.console import Console

import aimonk_bench as ab
from aimonk_bench.cli import main
from aimonk_bench.records import run as runs
from aimonk_bench.reporting.words import number

NAMES = ["masked_bce + uniform", "hill + uniform", "hill + uniform"]
CONFIG = "name: {name}\nthreshold: per_attribute_f1\nloss: {loss}\nplot: {{title: {name}}}\nhide: null\n"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> ab.Suite:
    """Two runs, one of the same name that failed, in experiments/ of a folder; and another suite beside."""
    folder = tmp_path_factory.mktemp("place") / "experiments" / "one"
    places = fake_suite.write_suite(folder, NAMES)
    for number_, place in enumerate(places[:2]):
        fake_suite.write_run(place, NAMES[number_], fake_suite.predictions(signal=0.5 + number_, noise=number_))
    (places[0] / runs.CONFIG).write_text(CONFIG.format(name="a", loss="{name: masked_bce}"))
    (places[1] / runs.CONFIG).write_text(CONFIG.format(name="b", loss="{name: hill, lam: 1.5}") + "plugins: []\n")
    fake_suite.write_failed(places[2], NAMES[2], "it broke\nwith a second line")
    [other] = fake_suite.write_suite(folder.parent / "two", ["zlpr"])
    fake_suite.write_run(other, "zlpr", fake_suite.predictions(signal=0.2, noise=5))
    return ab.Suite(folder)


def printed(show: object, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), no_color=True)
    show(console)  # type: ignore[operator]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_two_runs_side_by_side_are_those_of_the_suite(suite: ab.Suite) -> None:
    a, b = suite.finished
    made = ab.compare(a, b)
    assert made.figures.equals(suite.compare(a, b))
    assert made.disagreements.equals(suite.disagreements(a, b))
    assert made.settings.to_numpy().tolist() == [["loss.name", "masked_bce", "hill"], ["loss.lam", "(not set)", "1.5"]]
    text = printed(lambda console: made.render(console, images=3))
    assert max(map(len, text.splitlines())) <= 80
    assert f"A: {a.name} ({a.id})" in text
    for row in made.figures.to_dict("records"):
        line = next(line for line in text.splitlines() if line.startswith(row["attribute"] + " "))
        difference, low, high = (
            number(row[key], signed=True, places=3) for key in ("delta", "delta_low", "delta_high")
        )
        figures = [number(row["f1_a"]), number(row["f1_b"]), difference, f"{low} to {high}"]
        assert re.split(r"\s{2,}", line.strip())[1:5] == figures
    assert f"{len(made.disagreements)} of 240 decisions on test images differ" in text
    shown = made.disagreements["image"].head(3).tolist()
    assert re.findall(r"^(\S+) +attr\d +(?:positive|negative|NA)", text, re.MULTILINE) == shown
    assert "loss.lam" in text
    assert "title" not in text


def test_runs_of_two_folders_are_compared_by_what_both_define(suite: ab.Suite, tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path / "c", "c", fake_suite.predictions(signal=0.1, noise=3))
    made = ab.compare(suite.finished[0], str(tmp_path / "c"))
    assert made.suite is None
    macro = made.figures.set_index("attribute").loc["macro"]
    assert macro["f1_a"] == pytest.approx(made.figures["f1_a"][:4].mean())
    assert macro["mark"] in ("better", "worse", "equivalent", "unresolved")
    fake_suite.write_run(tmp_path / "d", "d", fake_suite.predictions(folds=2))
    text = printed(ab.compare(suite.finished[0], str(tmp_path / "d")).render)
    assert "A and B were not tested: their test rows differ" in text
    fake_suite.write_run(tmp_path / "e", "e", fake_suite.predictions(seeds=1))
    assert "not tested: one seed" in printed(ab.compare(suite.finished[0], str(tmp_path / "e")).render)
    fake_suite.write_run(tmp_path / "f", "f", fake_suite.predictions(["x"]))
    with pytest.raises(ab.UserError, match=r"attributes attr1, .* and x"):
        printed(ab.compare(suite.finished[0], str(tmp_path / "f")).render)


def test_a_run_is_found_by_folder_id_or_name(
    suite: ab.Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(suite.folder.parent.parent)
    first, second = suite.finished
    for name in (first.name, first.id, f"experiments/one/runs/{first.id}", first):
        for within in (suite.folder, None):
            made = ab.compare(name, second.id, within)
            assert (made.a.id, made.b.id) == (first.id, second.id)
            assert made.suite is not None
    assert main(["compare", first.id, second.id, "--images", "1"]) == 0
    assert f"A: {first.name} ({first.id})\nB: {second.name} ({second.id})" in capsys.readouterr().out
    assert main(["show", "zlpr", "--in", "experiments/two"]) == 0
    assert capsys.readouterr().out.startswith("zlpr: 60 images")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["masked_bce", "zlpr"], ["'masked_bce'", "folder, id or name of a run", "did you mean masked_bce + uniform?"]),
        (["quite other", "zlpr"], ["such as ", "masked_bce + uniform"]),
        (["hill + uniform", "zlpr"], ["found 2 runs called 'hill + uniform'", "use an id"]),
        (["zlpr", "zlpr"], ["found 0-zlpr twice"]),
        (["experiments/one", "zlpr"], ["experiments/one: found a suite, expected a run", "--in experiments/one"]),
        (["1-hill---uniform", "2-hill---uniform"], ["the run failed", "it broke"]),
    ],
)
def test_what_is_no_run_is_said(
    suite: ab.Suite,
    names: list[str],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(suite.folder.parent.parent)
    assert main(["compare", *names]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(word in captured.err for word in words), captured.err


def test_without_a_suite_the_way_to_name_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", "hill"]) == 2
    assert "--in DIR" in capsys.readouterr().err


def test_one_run_in_full(suite: ab.Suite) -> None:
    run = suite.finished[1]
    text = printed(lambda console: ab.show(run, images=2, console=console))
    assert max(map(len, text.splitlines())) <= 80
    rows = run.summary.set_index("attribute")
    for figures in (["f1_default", "f1_tuned"], ["threshold", "precision", "recall", "average_precision", "roc_auc"]):
        for name in ("attr1", "attr4", "macro"):
            lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
            shown = [number(rows.loc[name, figure]) for figure in figures]
            assert any(" ".join(shown) in " ".join(line.split()) for line in lines)
    assert str(run.verdict) in " ".join(text.split())
    assert re.search(r"^loss\.lam +1\.5", text, re.MULTILINE)
    assert f"{len(run.errors(n=None))} wrong decisions" in text
    assert all(image in text for image in run.errors(n=2)["image"])
    assert run.id in text


def test_a_failed_run_shows_its_whole_reason(suite: ab.Suite) -> None:
    [failed] = suite.unfinished
    text = printed(lambda console: ab.show(failed, suite.folder, console=console))
    assert "failed: it broke\nfailed: with a second line" in text
    assert "threshold" in text


def test_a_damaged_run_is_named_as_in_a_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        fake_suite.write_run(tmp_path / name, name, fake_suite.predictions())
    (tmp_path / "b" / runs.PREDICTIONS).write_bytes(b"junk")
    messages = []
    for words in (["compare", str(tmp_path / "a"), str(tmp_path / "b")], ["show", str(tmp_path / "b")]):
        assert main(words) == 2
        messages.append(capsys.readouterr().err)
    assert messages[0] == messages[1]
    assert messages[1].startswith(f"{tmp_path / 'b' / runs.PREDICTIONS}: found a file that cannot be used")
