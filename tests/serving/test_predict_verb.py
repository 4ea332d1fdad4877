"""The verb `predict`: what it prints, where, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import bundles
import numpy as np
import pytest

from aimonk_bench import cli
from aimonk_bench.api import bundles as api
from aimonk_bench.serving.predict import predict


def run(*arguments: object) -> int:
    return cli.main(["predict", *map(str, arguments)])


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "aimonk_bench", "predict", *map(str, arguments)]


def table(text: str) -> list[list[str]]:
    return [*csv.reader(io.StringIO(text, newline=""))]


def test_a_folder_as_csv(bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, photos) == 0
    captured = capsys.readouterr()
    head, *rows = table(captured.out)
    expected = [*predict(bundle, sorted(photos.glob("*.png")))]
    assert head == [
        "image",
        "error",
        *(f"{name}_{what}" for name in bundles.NAMES for what in ("probability", "decision")),
    ]
    assert [row[0] for row in rows] == [prediction.image for prediction in expected]
    assert [[float(cell) for cell in row[2::2]] for row in rows] == [p.probabilities.tolist() for p in expected]
    assert [[cell == "true" for cell in row[3::2]] for row in rows] == [p.decisions.tolist() for p in expected]
    assert captured.err == ""


def test_json_lines_with_other_thresholds(bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--format", "jsonl", "--threshold", "NA=0", "--threshold", "hat, red=1", "--batch", 3]
    assert run(bundle / "model.onnx", photos / "00.png", photos / "*.png", *options) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 41
    assert rows[0] == rows[1]
    assert {row["attributes"]["NA"]["decision"] for row in rows} == {True}
    assert {row["attributes"]["hat, red"]["decision"] for row in rows} == {False}
    assert [item["threshold"] for item in rows[0]["attributes"].values()] == [0.5, 1.0, 0.0]


def test_bad_files_are_rows_and_exit_code_3(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"hello")
    (tmp_path / "notes.txt").write_bytes(b"hello")
    shutil.copy(photos / "00.png", tmp_path / "good.png")
    assert run(bundle, tmp_path, tmp_path / "absent.jpg", tmp_path / "x*.png") == 3
    captured = capsys.readouterr()
    rows = {Path(row[0]).name: row[1:] for row in table(captured.out)[1:]}
    assert rows["broken.jpg"][1:] == [""] * 6
    assert "text that begins with 'hello'" in rows["broken.jpg"][0]
    assert rows["absent.jpg"][0] == "missing"
    assert rows["good.png"][0] == ""
    assert "1 file in folders ignored, as no image files: .txt 1" in captured.err
    assert "x*.png: found no file" in captured.err
    assert "2 of 3 images without a prediction" in captured.err


def test_one_missing_file_is_a_row(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, tmp_path / "absent.jpg", "--format", "jsonl") == 3
    assert json.loads(capsys.readouterr().out)["error"] == "missing"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_nothing_matched_is_exit_code_2(
    bundle: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    assert run(bundle, tmp_path / "*.jpg", tmp_path / "texts", "--format", form, "-o", tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threshold", "animl=0.5"], "did you mean animal?"),
        (["--threshold", "NA=1.5"], "found 1.5"),
        (["--threshold", "NA"], "expected NAME=VALUE"),
        (["--batch", "0"], "batch"),
        (["-"], "found - twice"),
        (["-o", "no/such/folder/x.csv"], "found no folder"),
        (["--labels", "absent.csv"], "expected one folder"),
    ],
)
def test_wrong_options_are_exit_code_2(
    bundle: Path, photos: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, "-" if "-" in options else photos / "00.png", *options) == 2
    assert words in capsys.readouterr().err


def test_rows_in_a_file(bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, photos) == 0
    printed = capsys.readouterr().out
    assert run(bundle, photos, "-o", tmp_path / "rows.csv") == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "rows.csv").read_text("utf-8") == printed
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_rows_of_names_on_standard_input_come_as_the_names_arrive(bundle: Path, photos: Path) -> None:
    process = subprocess.Popen(command(bundle, "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    watchdog = threading.Timer(120, process.kill)  # else a row that never comes would hang the test
    watchdog.start()
    names = [f"{photos / name}.png" for name in ("07", "03", "11")]
    lines = []
    for name in names:
        process.stdin.write(f"{name}\n")
        process.stdin.flush()
        lines += [process.stdout.readline() for _ in range(1 if lines else 2)]  # the header, too
    process.stdin.close()
    assert [line.partition(",")[0] for line in lines[1:]] == names
    assert process.stdout.read() == ""
    assert process.wait() == 0
    process.stdout.close()
    watchdog.cancel()


def test_a_reader_that_leaves_ends_the_command(bundle: Path, photos: Path) -> None:
    """Names go on for ever: the command can only end because nobody reads its rows."""
    script = 'yes "$0" | "$@" - | head -2'
    words = [
        "bash",
        "-o",
        "pipefail",
        "-c",
        f"{script}; echo ${{PIPESTATUS[1]}}",
        str(photos / "00.png"),
        *command(bundle),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    *rows, code = done.stdout.splitlines()
    assert len(rows) == 2
    assert code == "0"
    assert done.stderr == ""


def test_no_torch_is_imported(bundle: Path, photos: Path, tmp_path: Path) -> None:
    """Nor pandas, unless labels are scored."""
    lines = [f"{path.name},{n % 2},{n % 3 % 2},{n % 5 % 2}" for n, path in enumerate(sorted(photos.glob("*.png")))]
    (tmp_path / "new.csv").write_text("\n".join(['image,animal,"hat, red",NA', *lines]))
    code = """
import sys
from aimonk_bench import cli
heavy = lambda: [m for m in ("torch", "timm", "pandas", "sklearn", "matplotlib", "albumentations") if m in sys.modules]
bundle, photos, labels = sys.argv[1:]
assert cli.main(["predict", bundle, photos]) == 0
print(heavy(), file=sys.stderr)
assert cli.main(["predict", bundle, photos, "--labels", labels]) == 0
print("torch" in sys.modules, file=sys.stderr)
"""
    words = [sys.executable, "-c", code, bundle, photos, tmp_path / "new.csv"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=True)
    printed = done.stderr.splitlines()
    assert (printed[0], printed[-1]) == ("[]", "False")


def test_rows_and_the_bar_do_not_mix(bundle: Path, photos: Path, tmp_path: Path) -> None:
    """Rows go to the file that stdout is, the bar to the terminal that stderr is."""
    main, terminal = pty.openpty()
    with (tmp_path / "rows.csv").open("wb") as out:
        environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
        done = subprocess.run(command(bundle, photos), stdout=out, stderr=terminal, env=environment, check=True)
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux ends a terminal so
            break
        if not part:
            break
        shown += part
    os.close(main)
    assert done.returncode == 0
    assert len(table((tmp_path / "rows.csv").read_text())) == 41
    assert b"predict images" in shown
    assert b"00.png" not in shown


def test_an_interrupted_command_leaves_no_file(
    bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "lines", interrupted)
    assert run(bundle, photos, "-o", tmp_path / "rows.csv") == 130
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("source", "words"), [("&-", "it is closed"), ("/dev/null", "found no name")])
def test_standard_input_without_names(bundle: Path, source: str, words: str) -> None:
    script = f'"$@" <{source}'
    done = subprocess.run(["sh", "-c", script, "sh", *command(bundle, "-")], capture_output=True, text=True)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def labels(photos: Path, tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    lines = [f"{path.name},{','.join(map(str, rng.integers(0, 2, 3)))}" for path in sorted(photos.glob("*.png"))]
    (tmp_path / "new.csv").write_text("\n".join(['image,animal,"hat, red",NA', *lines]))
    return tmp_path / "new.csv"


def test_scores_for_reading(
    bundle: Path, photos: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(bundle, photos, "--labels", labels) == 0
    printed = capsys.readouterr().out
    assert "40 images in 40 groups of equal images" in printed
    assert {"animal", "hat, red", "NA", "macro"} <= {line[:10].strip() for line in printed.splitlines()}
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed


def test_scores_as_data(
    bundle: Path, photos: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, photos, "--labels", labels, "--format", "csv") == 0
    text = capsys.readouterr().out
    rows = [*csv.DictReader(io.StringIO(text))]
    assert [row["attribute"] for row in rows] == [*bundles.NAMES, "macro"]
    assert run(bundle, photos, "--labels", labels, "--format", "jsonl", "--threshold", "NA=0.6") == 0
    read = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [float(row["f1"]) for row in rows] == [row["f1"] for row in read]
    assert read[-1]["threshold"] is None
    assert run(bundle, photos, "--labels", labels, "-o", tmp_path / "scores.csv") == 0
    assert (tmp_path / "scores.csv").read_text() == text


def test_a_yaml_says_how_labels_are_read(
    bundle: Path, photos: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be guessed: here that 0 is positive."""
    values = "{positive: ['0'], negative: ['1'], missing: ['NA']}"
    (tmp_path / "new.yaml").write_text(f"data: {{labels: {labels.name}, images: absent, values: {values}}}\n")
    assert run(bundle, photos, "--labels", labels, "--format", "csv") == 0
    plain = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert run(bundle, photos, "--labels", tmp_path / "new.yaml", "--format", "csv") == 0
    turned = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert [int(a["n_positive"]) + int(b["n_positive"]) for a, b in zip(plain, turned, strict=True)] == [40] * 3 + [120]
    (tmp_path / "new.yaml").write_text("data: {labels: new.csv, images: ., valus: {}}\n")
    assert run(bundle, photos, "--labels", tmp_path / "new.yaml") == 2
    assert "new.yaml:1:36: data.valus: found unknown key 'valus'" in capsys.readouterr().err


def test_rows_on_a_terminal_have_no_control_characters(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / "a\x1bc.jpg"
    for is_terminal in (True, False):
        monkeypatch.setattr(sys.stdout, "isatty", lambda is_terminal=is_terminal: is_terminal)
        assert run(bundle, name) == 3
        assert ("\x1b" in capsys.readouterr().out) != is_terminal


def test_scores_of_images_that_are_not_all_there(
    bundle: Path, photos: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels.write_text(labels.read_text() + "\nabsent.png,1,1,1\n")
    assert run(bundle, photos, "--labels", labels) == 3
    captured = capsys.readouterr()
    assert "1 skipped" in captured.out
    assert f"{labels}:42: skipped absent.png: missing" in captured.err


def test_labels_need_one_folder(bundle: Path, photos: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, photos, photos, "--labels", labels) == 2
    assert "expected one folder" in capsys.readouterr().err
