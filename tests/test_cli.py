"""The verbs: what they print, where, and the exit codes."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aimonk_bench
from aimonk_bench import cli, console, doctor
from aimonk_bench.api import work
from aimonk_bench.backbones import weights
from aimonk_bench.backbones.catalog import CATALOG
from aimonk_bench.config import loader
from aimonk_bench.config.jsonschema import json_schema
from aimonk_bench.suite import runner
from aimonk_bench.tables import TABLES

ROOT = Path(__file__).parent.parent
SHIPPED = sorted(path for path in (ROOT / "configs").rglob("*.yaml"))


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def finished(workplace: Path) -> Path:
    assert run("run", workplace / "small.yaml", "--out", workplace / "finished", "--quiet") == 0
    return workplace / "finished"


def test_run_prints_the_table_to_stdout_and_the_rest_to_stderr(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", workplace / "small.yaml", "--out", workplace / "printed") == 0
    captured = capsys.readouterr()
    items = json.loads((workplace / "printed" / "seconds.json").read_text())
    phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in items.items() if phase != "total")
    assert captured.err.splitlines()[-2:] == [
        f"results in {workplace / 'printed'}",
        f"{items['total']:.1f} s: {phases}",
    ]
    assert "all positive" in captured.out
    assert "importer: labels_txt" in captured.err
    assert "importer" not in captured.out


def test_table_in_every_format(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("table", finished) == 0
    assert "all positive" in capsys.readouterr().out
    assert run("table", finished, finished, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["attribute"] for row in rows] == ["attr1", "attr2", "attr3", "attr4", "macro"] * 2
    assert run("table", finished, "--format", "json") == 0
    decoded = json.loads(capsys.readouterr().out)
    assert decoded[0]["f1_tuned"] == float(rows[0]["f1_tuned"])


def test_table_and_help_start_without_torch(finished: Path) -> None:
    code = "import sys; from aimonk_bench import cli; cli.main({argv}); print([m for m in {heavy} if m in sys.modules])"
    heavy = ["torch", "timm", "pandas", "sklearn", "matplotlib", "albumentations"]
    assert python(code.format(argv=["table", str(finished)], heavy=heavy)).endswith("[]")
    assert python(code.format(argv=["--help"], heavy=[*heavy, "numpy", "pydantic"])).endswith("[]")


# Says after each step which heavy packages are loaded; a new run comes as far as its first batch of decoded images.
TORCHLESS = """
import sys
from aimonk_bench import cli
from aimonk_bench.backbones import encoder

def loaded(step):
    heavy = ("torch", "timm", "albumentations", "matplotlib", "onnxruntime")
    print("loaded after", step, [name for name in heavy if name in sys.modules])

def opened(spec, folder, images):
    loaded(f"{len(images)} images")
    sys.exit()

encoder.open_encoder = opened
config, suite, done, new = sys.argv[1:]
for argv in (["list"], ["schema"], ["validate", suite], ["run", config, "--out", done], ["run", config, "--out", new]):
    cli.main(argv)
    loaded(argv[0])
"""


def test_listing_planning_decoding_and_what_is_done_need_no_torch_once_the_network_was_tried(
    workplace: Path, finished: Path, feature_store: Path, tmp_path: Path
) -> None:
    config, suite = workplace / "small.yaml", tmp_path / "suite.yaml"
    shutil.copytree(feature_store / "networks", tmp_path / "networks")
    suite.write_text(f"extends: {config}\nsuite: {{baseline: {{loss: hill}}, axes: {{loss: [hill, zlpr]}}}}\n")
    done = subprocess.run(
        [sys.executable, "-c", TORCHLESS, config, suite, finished, tmp_path / "new"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "AIMONK_BENCH_CACHE": str(tmp_path)},
    )
    steps = [line.removeprefix("loaded after ") for line in done.stdout.splitlines() if line.startswith("loaded")]
    assert steps == ["list []", "schema []", "validate []", "run []", "8 images []", "run []"]


def test_validate_says_what_would_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "valid.yaml").write_text(
        "extends: small.yaml\nsuite: {baseline: {loss: hill}, axes: {loss: [hill, focal]}}\n"
    )
    assert run("validate", workplace / "valid.yaml") == 0
    printed = capsys.readouterr().out
    assert "80 listed images, attributes attr1, attr2, attr3, attr4" in printed
    assert "2 runs, 8 heads" in printed
    assert run("validate", workplace / "valid.yaml", "--set", "tune={train.lr: [0.1, 0.01, 1]}") == 0
    assert "2 runs, 24 heads" in capsys.readouterr().out
    (workplace / "empty").mkdir(exist_ok=True)
    assert run("validate", workplace / "small.yaml", "--set", f"data.images={workplace / 'empty'}") == 2
    assert "labels.txt:1: none of the 80 images can be read" in capsys.readouterr().err
    assert run("validate", workplace / "small.yaml", "--set", f"data.images={workplace}") == 0
    assert "80 in folder (image_0.jpg is synthetic/images/image_0.jpg)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sampler={name: coverage, c: 3}", "24"),  # 2 c A > 16
        ("train.device=cuda:99", "train.device"),
        ("backbone.name=resnet81", "did you mean resnet18"),
        ("loss.gama=1", "gama"),
    ],
)
def test_wrong_options_stop_everything_before_an_image_is_read(
    workplace: Path, capsys: pytest.CaptureFixture[str], override: str, expected: str
) -> None:
    out = workplace / "never"
    for verb in ("run", "validate"):
        where = ("--out", out) if verb == "run" else ()
        assert run(verb, workplace / "small.yaml", "--set", override, *where) == 2
        assert expected in capsys.readouterr().err
    assert not out.exists()


def test_wrong_usage(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run") == 2
    assert run("frobnicate") == 2
    assert run("table", workplace) == 2
    assert run("run", workplace / "absent.yaml") == 2
    assert run("suite", workplace / "small.yaml") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_an_interrupt_leaves_with_130(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loader, "load", interrupt)
    assert run("run", workplace / "small.yaml") == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "left", "then"),
    [
        ("run", "config.yaml", "does it again"),
        ("run", "checkpoints/0.pt", "again goes on where this one stopped"),
        ("suite", "suite.json", "does it again"),
        ("suite", "runs/a/status.json", "again goes on where this one stopped"),
    ],
)
def test_an_interrupt_says_whether_the_same_command_goes_on(
    verb: str, left: str, then: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def interrupt(*arguments: object) -> None:
        (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / left).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, f"execute_{verb}", interrupt)
    (tmp_path / "s.yaml").write_text(
        f"extends: {workplace / 'small.yaml'}\nsuite: {{baseline: {{loss: hill}}, axes: {{loss: [hill]}}}}\n"
    )
    config = workplace / "small.yaml" if verb == "run" else tmp_path / "s.yaml"
    assert run(verb, config, "--out", tmp_path) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted; the same command {then}"


# A command that gets SIGTERM while a file is half written.
TERMINATED = """
import signal, sys
from aimonk_bench import __main__
from aimonk_bench.data import synthetic
from aimonk_bench.records.files import atomic

def write(out, **options):
    with atomic(out / "half.npz") as partial:
        partial.touch()
        print([path.name for path in out.iterdir()])
        signal.raise_signal(signal.SIGTERM)

synthetic.write = write
sys.argv[1:] = ["data", "synthetic", *sys.argv[1:]]
__main__.main()
"""


def test_a_terminated_command_clears_up_and_leaves_with_130(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TERMINATED, tmp_path], capture_output=True, text=True)
    assert done.returncode == 130
    assert "half.npz" in done.stdout
    assert done.stderr.splitlines()[-1] == "interrupted; the same command does it again"
    assert list(tmp_path.iterdir()) == []


AGAIN = {  # where a second SIGTERM comes
    "while a thread still runs": """
def later():
    threading.main_thread().join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

threading.Thread(target=later).start()
""",
    "before the exit code is known": """
@contextlib.contextmanager
def terminated():
    yield
    signal.raise_signal(signal.SIGTERM)

console.standard_streams = terminated
""",
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_a_second_signal_changes_no_exit_code(again: str, tmp_path: Path) -> None:
    imports = "import contextlib, os, signal, threading, time\nfrom aimonk_bench import console\n"
    done = subprocess.run(
        [sys.executable, "-c", imports + again + TERMINATED, tmp_path], capture_output=True, text=True
    )
    assert (done.returncode, "Traceback" in done.stderr) == (130, False)
    assert "interrupted" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", cli.KINDS)
def test_list_names_every_entry(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", kind) == 0
    words = set(capsys.readouterr().out.split())
    assert set(getattr(TABLES, kind)) <= words


def test_the_script_shows_its_help_before_it_installs_anything(tmp_path: Path) -> None:
    shutil.copy(ROOT / "run_all.sh", tmp_path)
    done = subprocess.run(["bash", tmp_path / "run_all.sh", "--help"], capture_output=True, text=True, check=True)
    assert "./run_all.sh [OPTION...]" in done.stdout
    assert "PYTHON names the interpreter" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["run_all.sh"]


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"aimonk-bench {aimonk_bench.__version__}\n"


def test_executor_and_workers_are_overrides_that_win(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read: list[object] = []
    monkeypatch.setattr(work, "run", lambda config, overrides, **options: read.append(overrides) or 1 / 0)
    words = ["run", str(workplace / "small.yaml"), "--set", "run.workers=3", "--executor", "processes"]
    assert run(*words, "--workers", "2") == 1
    assert run(*words[:2]) == 1
    assert read == [["run.workers=3", "run.executor=processes", "run.workers=2"], []]
    monkeypatch.undo()
    assert run(*words[:2], "--out", tmp_path, "--executor", "theads", "--workers", "[1]") == 2
    problems = capsys.readouterr().err
    assert "--set run.executor: found 'theads', expected one of auto, serial, processes, ray" in problems
    assert "--set run.workers: found '[1]', expected auto or a whole number of at least 1" in problems


def test_list_suggests_the_nearest_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "schedules") == 0
    lines = capsys.readouterr().out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("warmup_cosine  A linear rise"))
    assert "    options: warmup=0.1" in lines[place:], "below the entry, whose description is as wide as the terminal"
    assert len(lines[place]) > 60
    assert run("list", "losess") == 2
    error = capsys.readouterr().err
    assert error.startswith("list: found 'losess', expected one of backbones, losses, missing, samplers, thresholds,")
    assert error.endswith("importers (did you mean losses?)\n")


def test_list_breaks_no_name_at_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run("list") == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    assert {entry.timm for entry in CATALOG.values()} <= {line.split()[0] for line in lines if line}
    assert "Any other timm name works too." in lines
    assert [lines[lines.index(kind) - 1] for kind in cli.KINDS[1:]] == [""] * (len(cli.KINDS) - 1)


def test_the_schema_is_printed_and_knows_every_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(json_schema(TABLES)))
    assert all(f'"{name}"' in json.dumps(json_schema(TABLES)) for name in TABLES.losses)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_config_is_valid_and_opens_with_its_question(path: Path) -> None:
    head = path.read_text().split("\n\n")[0]
    if path.parent.name == "datasets" or path.name == "base.yaml":
        return
    assert re.search(r"^# .*\?", head, re.MULTILINE)
    for part in ("Command:", "Run time:", "Result:"):
        assert f"# {part}" in head
    load = loader.load_suite if loader.is_suite(path) else loader.load
    assert load(path, TABLES, check_paths=False).name == path.stem


def test_a_config_ships_for_every_loss() -> None:
    assert {path.stem for path in (ROOT / "configs" / "losses").glob("*.yaml")} == set(TABLES.losses)


def test_doctor_finds_opencv_packages_that_overwrote_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = {"opencv-python": "5.0.0.93", "opencv-python-headless": "4.13.0.92", "timm": None, "pandas": None}
    real = doctor.version
    monkeypatch.setattr(
        doctor, "version", lambda name: versions.get(name, real(name)) if name in versions else real(name)
    )
    assert run("doctor") == 1
    printed = capsys.readouterr().out
    assert "pip install opencv-python==5.0.0.93 opencv-python-headless==5.0.0.93" in printed
    assert "problem  timm is not installed" in printed
    assert "problem  pandas is not installed" in printed


@pytest.mark.parametrize("broken", ["cv2", "torch"])
def test_doctor_reports_a_package_that_cannot_be_imported_and_goes_on(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, broken, None)
    monkeypatch.delitem(sys.modules, "aimonk_bench.backbones.features", raising=False)  # it imports cv2
    monkeypatch.delattr("aimonk_bench.backbones.features", raising=False)
    findings = list(doctor.examine())
    problems = [finding.text for finding in findings if finding.state == "problem"]
    assert problems
    assert all(f"import of {broken} halted" in text for text in problems)
    subjects = {"cv2": ["cv2 cannot", "the feature store cannot"], "torch": ["the devices cannot"]}
    assert all(any(text.startswith(start) for text in problems) for start in subjects[broken])
    assert findings[-1].text.startswith(("weights of resnet18", "the weights of resnet18 cannot be had"))
    assert any(finding.text.startswith("backbone tf_efficientnet_lite0: package, ") for finding in findings)


def test_doctor_finds_nothing_wrong_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor") == 0
    assert "feature store" in capsys.readouterr().out


def test_doctor_says_why_the_weights_of_a_backbone_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "_sources", lambda kind, entry: {"package": lambda: weights._packaged(None, entry)})
    assert run("doctor", "resnet34") == 0
    note = capsys.readouterr().out.partition("the weights of resnet34 cannot be had here")[2].splitlines()
    assert " " * 11 + "tried resnet34, package: no weight package is known for this backbone" in note


def test_doctor_names_the_file_of_weights_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "tf_efficientnet_lite0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(".pth" in line and "lite0" in line for line in lines) == 1
    assert lines[-1] == "ok       weights of tf_efficientnet_lite0: package, the file above"


def test_list_marks_the_backbones_whose_weights_are_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("resnet34", "vit_tiny")
    monkeypatch.setattr(weights, "local", lambda entry: "x" if entry in map(CATALOG.get, here) else None)
    assert run("list", "backbones") == 0
    lines = capsys.readouterr().out.splitlines()
    assert tuple(line.split()[0] for line in lines if line.split()[1:2] == ["*"]) == here
    assert any(line.startswith("*: weights on this machine") for line in lines)


def test_doctor_suggests_the_nearest_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "resnet81") == 2
    assert capsys.readouterr().err.endswith("(did you mean resnet18?)\n")


def test_doctor_lists_every_backbone_that_can_be_used_and_where_its_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = {"resnet26.bt_in1k": "resnet26.bt_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k": "vit_tiny"}
    for name in cached:
        folder = tmp_path / f"models--timm--{name}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
        (folder / "snapshots" / ("0" * 40) / "model.safetensors").touch()
    monkeypatch.setattr(weights, "_ask", lambda url, seconds: "no answer within 5 s")
    assert run("doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    usable = {line.split()[2].rstrip(":"): line for line in lines if line.startswith("ok       backbone ")}
    installed = {re.sub("[-_.]+", "-", each.name).lower() for each in importlib.metadata.distributions()}
    packaged = {name for name, entry in CATALOG.items() if entry.package in installed}
    assert usable.keys() == {*cached.values(), *packaged}
    assert "tf_efficientnet_lite0" in packaged
    assert all(str(tmp_path) in usable[name] for name in cached.values())
    [reason] = [number for number, line in enumerate(lines) if "backbones whose weights cannot be had here" in line]
    assert lines[reason].endswith("no answer within 5 s):")
    others = list(itertools.takewhile(lambda line: line.startswith(" " * 11), lines[reason + 1 :]))
    assert set(re.split(r",\s+", " ".join(others).strip())) == CATALOG.keys() - usable.keys()
    assert max(map(len, others)) <= 111
    monkeypatch.setattr(weights, "_ask", lambda url, seconds: 200)
    assert run("doctor") == 0
    printed = capsys.readouterr().out
    assert "backbone resnet18: hub, timm/resnet18.tv_in1k, not downloaded yet" in printed
    assert "weights of resnet18: hub, https://huggingface.co/timm/resnet18.tv_in1k, not downloaded yet" in printed
    assert all(f"backbone {name}: " in printed for name in CATALOG)


def test_doctor_counts_the_cores_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cores", lambda: 3)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 64)
    assert next(doctor.examine()).text.endswith(", 3 of 64 cores usable")


def test_synthetic_writes_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "synthetic", tmp_path / "set", "--images", 12, "--size", 32, "--missing", 0.5) == 0
    assert len((tmp_path / "set" / "labels.txt").read_text().splitlines()) == 12
    assert capsys.readouterr() == ("", f"wrote 12 images, labels.txt and truth.csv to {tmp_path / 'set'}\n")
    assert run("data", "synthetic", tmp_path / "set", "--images", 12, "--size", 32, "--missing", 0.5) == 0
    assert capsys.readouterr() == ("", f"{tmp_path / 'set'} holds this data set already\n")
    assert run("data", "synthetic", tmp_path / "set", "--images", 3) == 2
    assert "images: found 3" in capsys.readouterr().err


def test_progress_off_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    console.set_up_logging(quiet=False)
    with console.ProgressBar() as progress:
        for done in range(1, 31):
            now += 1.0
            progress("encode", done * 50, 1500)
    assert capsys.readouterr().err.splitlines() == [
        "encode: 500 of 1500 images, 50/s, 20 s left",
        "encode: 1000 of 1500 images, 50/s, 10 s left",
        "encode: 1500 of 1500 images, 50/s, 0 s left",
    ]
    with console.ProgressBar() as progress:
        for done in range(3):
            now += 45.0
            progress("train", done, 96)
    assert capsys.readouterr().err.splitlines() == [
        "train: 0 of 96 epochs",
        "train: 1 of 96 epochs",
        "train: 2 of 96 epochs, 0.022/s, 4230 s left",
    ]
    with console.ProgressBar() as progress:  # of names that arrive nobody knows how many there will be
        for done in range(1, 4):
            now += 5.0
            progress("predict", done * 100, None)
        progress("predict", 300, 300)
    assert capsys.readouterr().err.splitlines() == ["predict: 200 images, 20/s"]
    console.set_up_logging(quiet=True)
    with console.ProgressBar() as progress:
        now += 100.0
        progress("encode", 1, 2)
    assert capsys.readouterr().err == ""


def test_progress_in_a_notebook_is_a_line_that_goes_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts: list[str] = []

    class Cell:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            texts.append(data["text/plain"])

    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, **options: Cell())
    console.set_up_logging(quiet=True)  # the functions of the package log nothing
    with console.ProgressBar(lines=False) as progress:
        for done in range(1, 5):
            now += 0.3
            progress("encode", done * 25, 100)
    assert texts == ["encode: 50 of 100 images, 83/s, 1 s left", "encode: 100 of 100 images, 83/s, 0 s left", ""]
    with console.ProgressBar(lines=False) as progress:
        now += 1.0
        progress("predict", 3, None)
    assert texts[-2] == "predict: 3 images"
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    console.set_up_logging(quiet=False)
    with console.ProgressBar() as progress:
        for phase in ("encode", "train"):
            for done in range(3):
                progress(phase, done, 2)
                tasks = progress._bars.tasks
                assert [task.description for task in tasks] == ([f"{phase} {console.UNITS[phase]}"] if done < 2 else [])
