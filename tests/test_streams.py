"""The standard streams of whole commands: terminals that cannot encode, readers that leave, no home folder."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fake_suite
import pytest

from aimonk_bench import cli, console
from aimonk_bench.config import loader
from aimonk_bench.errors import UserError
from aimonk_bench.records import suite

NAMES = ("Größe", "裂缝", "attr3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of two runs with attributes whose names are not ASCII."""
    folder = tmp_path_factory.mktemp("suites") / "Prüfung"
    for place, name in zip(fake_suite.write_suite(folder, ["a", "b"], name="Prüfung"), "ab", strict=True):
        fake_suite.write_run(place, name, fake_suite.predictions(NAMES))
    return folder


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own; options are those of `subprocess.run`, ``env`` is added to the environment."""
    environment = {**os.environ, **options.pop("env", {})}  # type: ignore[dict-item]  # a map of texts
    words = [sys.executable, "-m", "aimonk_bench", *map(str, arguments)]
    made: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, **options}
    return subprocess.run(words, check=False, **made)  # type: ignore[call-overload]  # keywords


@pytest.mark.parametrize(
    ("encoding", "name"), [("ascii", r"Gr\xf6\xdfe"), ("latin-1", "Größe"), ("utf-8", "Größe"), ("cp1252", "Größe")]
)
def test_a_table_is_printed_in_any_encoding(finished: Path, encoding: str, name: str) -> None:
    done = command("table", finished, env={"PYTHONIOENCODING": encoding, "COLUMNS": "160"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert name in done.stdout.decode(encoding)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_data_are_utf_8_in_any_encoding(finished: Path, form: str) -> None:
    done = command("table", finished, "--format", form, env={"PYTHONIOENCODING": "ascii"})
    text = done.stdout.decode()
    rows = json.loads(text) if form == "json" else list(csv.DictReader(io.StringIO(text)))
    assert [row["attribute"] for row in rows] == [*NAMES, "macro"] * 2


def test_a_message_is_printed_in_any_encoding(tmp_path: Path) -> None:
    done = command("table", tmp_path / "Prüfung", env={"PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 2
    assert rb"Pr\xfcfung: expected a folder with suite.json" in done.stderr


@pytest.mark.parametrize("arguments", [("table",), ("table", "--format", "csv"), ("list",), ("--help",)], ids=" ".join)
def test_a_reader_that_leaves_is_no_failure(finished: Path, arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # before anything is printed
    folders = [finished] if arguments[0] == "table" else []
    done = command(*arguments, *folders, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_run_whose_messages_nobody_reads_is_done(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", unread)
        assert cli.main(["run", str(workplace / "small.yaml"), "--out", str(workplace / "unread")]) == 0
    assert json.loads((workplace / "unread" / "status.json").read_text())["state"] == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device without room")
@pytest.mark.parametrize("form", ["rich", "csv"])
def test_results_that_have_no_room_are_a_failure_and_messages_are_not(finished: Path, form: str) -> None:
    with open("/dev/full", "w") as full:
        done = command("table", finished, "--format", form, stdout=full)
        assert done.returncode == 1
        assert b"No space left on device (fix: " in done.stderr
        assert b"Traceback" not in done.stderr
        assert command("table", finished / "nothing", stderr=full).returncode == 2


def test_streams_that_are_closed_take_nothing(finished: Path) -> None:
    words = [sys.executable, "-m", "aimonk_bench", "table", str(finished)]
    done = subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", *words], check=False)
    assert done.returncode == 0


def test_a_table_needs_no_home(finished: Path) -> None:
    home = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "/nonexistent")
    assert command("table", finished, env=home).returncode == 0


def test_a_user_without_a_home_is_asked_for_a_folder(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert cli.main(["run", str(workplace / "small.yaml"), "--out", str(workplace / "homeless")]) == 2
    assert "AIMONK_BENCH_CACHE" in capsys.readouterr().err


def test_no_traceback_is_printed_it_stands_in_a_file(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for module, verb, name in ((loader, "run", "load"), (suite, "table", "collect")):
        monkeypatch.setattr(module, name, fail)
        assert cli.main([verb, str(workplace / "small.yaml")]) == 1
        sentence, place = capsys.readouterr().err.splitlines()
        assert sentence == "failed: ZeroDivisionError: planted"
        log = Path(place.removeprefix("traceback: "))
        assert "in fail\n" in log.read_text()
        log.unlink()


def test_the_streams_are_as_before_afterwards() -> None:
    before = sys.stdout, sys.stderr, sys.stdout.encoding, sys.stdout.errors
    with console.standard_streams():
        console.write_data("")
    assert (sys.stdout, sys.stderr, sys.stdout.encoding, sys.stdout.errors) == before


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("before")

    def interrupted() -> None:
        with console.output(out) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"out.csv": "before"}
    with console.output(out) as file:
        file.write("whole\n")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.csv": b"whole\n"}


def test_a_link_and_a_device_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    with console.output(tmp_path / "link.csv") as file:
        file.write("x")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "x"
    reader, writer = os.pipe()
    with console.output(Path(f"/dev/fd/{writer}")) as file:
        file.write("y")
    assert os.read(reader, 10) == b"y"
    os.close(reader)
    os.close(writer)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="-o: found the folder"), console.output(tmp_path):
        pass
    with pytest.raises(UserError, match="-o: found no folder"), console.output(tmp_path / "absent" / "x.csv"):
        pass


def test_standard_output_is_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with console.output(None) as file:
        file.write("größe.jpg")
        file.flush()
    assert "größe.jpg" in raw.getvalue().decode("utf-8")


def test_control_characters_do_not_reach_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Of file names, and of messages of plug-ins; data that goes into a pipe stays as it is."""
    hostile = "a\x1b[31m\x07.jpg"
    console.set_up_logging(quiet=True)
    logging.getLogger("aimonk_bench.x").warning("%s: missing\nsecond line", hostile)
    assert capsys.readouterr().err == "warning: a\\x1b[31m\\x07.jpg: missing\nsecond line\n"
    assert cli.main(["table", hostile]) == 2
    assert "a\\x1b[31m\\x07.jpg" in capsys.readouterr().err
    monkeypatch.setattr(loader, "load", lambda *a, **b: (_ for _ in ()).throw(ImportError(hostile)))
    assert cli.main(["run", "x.yaml"]) == 1
    assert "\x1b" not in capsys.readouterr().err
    for is_terminal, expected in ((True, "a\\x1b[31m\\x07.jpg,1\n"), (False, f"{hostile},1\n")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda is_terminal=is_terminal: is_terminal)
        console.write_data(f"{hostile},1\n")
        assert capsys.readouterr().out == expected
