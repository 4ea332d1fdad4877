"""Images and labels at URLs of fsspec: the same run as from a folder."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from small_suite import planned

from aimonk_bench import cli
from aimonk_bench.errors import UserError
from aimonk_bench.remote import RemotePath, path_of


@pytest.fixture(scope="module")
def bucket(workplace: Path) -> Iterator[str]:
    """The URL of a copy of the synthetic data set, in the memory of this process."""
    memory = fsspec.filesystem("memory")
    for file in (workplace / "synthetic").rglob("*.*"):
        memory.pipe_file(f"/bucket/{file.relative_to(workplace)}", file.read_bytes())
    yield "memory://bucket/synthetic"
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("images/a", Path, "images/a"),
        ("C:/images", Path, "C:/images"),
        ("file:///images", Path, "/images"),
        ("s3://bucket/images/", RemotePath, "s3://bucket/images"),
    ],
)
def test_a_url_is_a_remote_path_and_any_other_text_a_local_one(text: str, kind: type[Path], shown: str) -> None:
    path = path_of(text)
    assert isinstance(path, RemotePath) == (kind is RemotePath)
    assert str(path) == shown
    below = pickle.loads(pickle.dumps(path / "b.jpg"))
    assert (str(below), type(below)) == (f"{shown}/b.jpg", type(path))


@pytest.mark.parametrize("url", ["hdfs:///user/images", "zip://a.zip::s3://bucket", "s3://bucket//images"])
def test_a_url_that_a_path_would_change_is_refused(
    workplace: Path, tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(workplace / "small.yaml"), "--set", f"data.images={url}", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in ("data.images", url, "one file system", "s3://bucket/images"))


def test_a_file_url_is_the_local_path(workplace: Path) -> None:
    place = (workplace / "synthetic").as_uri()
    words = ["validate", str(workplace / "small.yaml"), "--set", f"data.images={place}/images"]
    assert cli.main([*words, "--set", f"data.labels={place}/labels.txt"]) == 0
    assert cli.main([*words, "--set", f"data.labels={place}/nowhere.txt"]) == 2


def test_a_file_system_that_cannot_be_opened_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> None:
        raise TypeError("it lacks an argument")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(OSError, match="TypeError: it lacks an argument"):
        RemotePath("odd://bucket/a.jpg").read_bytes()


def test_whatever_a_file_system_raises_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def cat_file(self, path: str) -> bytes:
            raise RuntimeError("no credentials")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (Refusing(), "bucket/a.jpg"))
    with pytest.raises(OSError, match="RuntimeError: no credentials"):
        RemotePath("s3://bucket/a.jpg").read_bytes()


def test_a_folder_is_found_where_everything_is_called_a_file(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As over HTTP."""
    memory = type(fsspec.filesystem("memory"))
    real = memory.info
    monkeypatch.setattr(memory, "isdir", lambda self, path: real(self, path)["type"] == "directory")
    monkeypatch.setattr(memory, "info", lambda self, path: real(self, path) | {"type": "file"})
    folder = RemotePath(f"{bucket}/images")
    assert folder.is_dir()
    assert not (folder / "image_0.jpg").is_dir()
    assert not (folder / "nowhere").is_dir()


def test_what_cannot_be_reached_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP fsspec says of everything that goes wrong that a file is not found."""

    class Unreached:
        def info(self, path: str) -> None:
            raise FileNotFoundError(path) from self.cause

    system = Unreached()
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (system, "host/a.jpg"))
    system.cause = ConnectionError("refused")
    with pytest.raises(OSError, match="ConnectionError: refused"):
        RemotePath("http://host/a.jpg").exists()
    for system.cause in (None, ValueError("404"), FileNotFoundError()):
        assert not RemotePath("http://host/a.jpg").exists()


def test_a_run_on_urls_is_the_run_on_the_same_files(bucket: str, workplace: Path, tmp_path: Path) -> None:
    """The same id, as its data has the same fingerprint, and the same predictions; its config can be run again."""
    sets = [
        f"data={{labels: {bucket}/labels.txt, images: {bucket}/images, truth: {bucket}/truth.csv}}",
        *("train.epochs=1", "train.seeds=1"),
    ]
    words = ["run", str(workplace / "small.yaml"), "--quiet", *(word for text in sets[1:] for word in ("--set", text))]
    assert cli.main([*words, "--out", str(tmp_path / "local")]) == 0
    assert cli.main([*words, "--set", sets[0], "--out", str(tmp_path / "remote")]) == 0
    assert (
        planned(tmp_path / "remote" / "config.yaml").baseline.id
        == planned(tmp_path / "local" / "config.yaml").baseline.id
    )
    local, remote = (tmp_path / name / "predictions.npz" for name in ("local", "remote"))
    assert remote.read_bytes() == local.read_bytes()
    assert f"images: {bucket}/images" in (tmp_path / "remote" / "config.yaml").read_text()


def test_names_are_resolved_below_a_url(bucket: str, workplace: Path) -> None:
    memory = fsspec.filesystem("memory")
    labels = memory.cat_file("/bucket/synthetic/labels.txt").replace(b"image_0.jpg", b"images/IMAGE_0.JPG")
    memory.pipe_file("/bucket/other.txt", labels + b"nowhere.jpg 1 0 1 0\n")
    data = f"data={{labels: memory://bucket/other.txt, images: {bucket}/images}}"
    with pytest.raises(UserError) as caught:
        planned(workplace / "small.yaml", data)
    [line] = caught.value.problems
    assert line.startswith("memory://bucket/other.txt:81: image nowhere.jpg is missing (looked in memory://bucket/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory://bucket/nothing", "expected a folder that exists"),
        ("nonsense://bucket/images", "expected a folder that can be reached (Protocol not known: nonsense)"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_at_its_place(
    url: str, expected: str, bucket: str, workplace: Path
) -> None:
    with pytest.raises(UserError) as caught:
        planned(workplace / "small.yaml", f"data.images={url}")
    assert f"--set data.images: found {url}, {expected}" in str(caught.value)
