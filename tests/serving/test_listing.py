"""Which images a command line means, and in which order."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from aimonk_bench.errors import UserError
from aimonk_bench.serving.images import Listing, number_of_images

FILES = [
    "b.jpg",
    "a/2.png",
    "a/10.png",
    "a-b/1.jpg",
    "a/deep/x.JPEG",
    "a/notes.txt",
    "a/labels.csv",
    "README",
    ".hidden.png",
    ".cache/y.png",
    "c[1].jpg",
]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tree"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return folder


def names(*words: str, stdin: bytes = b"") -> list[str | None]:
    return [None if item is None else item.name for item in Listing(words, io.BytesIO(stdin))]


SORTED = ["tree/a/10.png", "tree/a/2.png", "tree/a/deep/x.JPEG", "tree/a-b/1.jpg", "tree/b.jpg", "tree/c[1].jpg"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tree"], SORTED),
        (["tree/b.jpg", "tree/a/notes.txt"], ["tree/b.jpg", "tree/a/notes.txt"]),
        (["tree/b.jpg", "tree/b.jpg"], ["tree/b.jpg", "tree/b.jpg"]),
        (["tree/*.jpg"], ["tree/b.jpg", "tree/c[1].jpg"]),
        (["tree/**/*.png"], ["tree/a/10.png", "tree/a/2.png"]),
        (["tree/c[1].jpg"], ["tree/c[1].jpg"]),
        (["tree/[ab]"], SORTED[:3]),
        (
            ["tree/a/**"],
            ["tree/a/10.png", "tree/a/2.png", "tree/a/deep/x.JPEG", "tree/a/labels.csv", "tree/a/notes.txt"],
        ),
        (["**/*.png"], ["tree/a/10.png", "tree/a/2.png"]),
        (["tree/**/deep"], ["tree/a/deep/x.JPEG"]),
        (["tree/**/**/x*"], ["tree/a/deep/x.JPEG"]),
        (["tr*/**/a/**/*.JPEG"], ["tree/a/deep/x.JPEG"]),
        (["tree/.cache/**"], ["tree/.cache/y.png"]),
        (["tree/**.jpg"], ["tree/b.jpg", "tree/c[1].jpg"]),
        (["absent.jpg", "tree/b.jpg"], ["absent.jpg", "tree/b.jpg"]),
        (["tree/.cache"], ["tree/.cache/y.png"]),
        ([""], [""]),
    ],
    ids=str,
)
def test_words_and_the_images_that_they_mean(tree: Path, words: list[str], expected: list[str]) -> None:
    assert names(*words) == expected
    assert number_of_images(words) == len(expected)


def test_the_order_of_a_folder_is_that_of_sorted_paths(tree: Path) -> None:
    images = [path for path in Path("tree").rglob("*") if path.suffix.lower() in (".jpg", ".png", ".jpeg")]
    visible = [path for path in images if not any(part.startswith(".") for part in path.parts)]
    assert names("tree") == [str(path) for path in sorted(visible)]


def test_files_that_are_no_images_are_counted(tree: Path) -> None:
    listing = Listing(["tree"])
    assert len([*listing]) == listing.total == 6
    assert dict(listing.ignored) == {".txt": 1, ".csv": 1, "no suffix": 1, "hidden": 2}
    assert listing.note is not None
    assert listing.note.startswith("5 files in folders ignored")


def test_what_means_no_image_is_named(tree: Path) -> None:
    (tree / "empty").mkdir()
    (tree / "texts").mkdir()
    (tree / "texts" / "a.txt").write_text("")
    listing = Listing(["tree/empty", "tree/texts", "x*.jpg", "tree/b.jpg", "-"], io.BytesIO(b"\n\n"))
    assert [item.name for item in listing if item] == ["tree/b.jpg"]
    starts = ["tree/empty: found 0 files", "tree/texts: found 1 file,", "x*.jpg: found no file", "standard input"]
    assert [text.startswith(start) for text, start in zip(listing.empty, starts, strict=True)] == [True] * 4


def test_a_link_back_to_a_folder_above_ends(tree: Path) -> None:
    (tree / "a" / "again").symlink_to(tree)
    assert names("tree") == SORTED
    (tree / "z.jpg").symlink_to(tree / "gone")  # its row says that it is missing
    assert names("tree") == [*SORTED, "tree/z.jpg"]


@pytest.mark.parametrize("pattern", ["tree/**/*.png", "tree/a/**/*.png", "**/*.png", "tree/a/**", "tree/**"])
def test_a_glob_with_links_to_folders_above_ends(tree: Path, pattern: str) -> None:
    """Three such links: `glob` follows them 40 levels deep, which are 3 to the power of 40 folders."""
    for name in ("x", "y", "z"):
        (tree / "a" / name).symlink_to(tree)
    found = names(pattern)
    assert {"tree/a/10.png", "tree/a/2.png"} <= {*found}
    assert len(found) == len({*found}) <= 4 * 11


def test_every_path_of_a_glob_is_one_image(tree: Path) -> None:
    assert names("tree/**/*") == names("tree/**")
    assert len(names("tree/**")) == 9
    assert names("tree/**/*e[ep]*") == ["tree/a/deep/x.JPEG"]  # the folder and its file
    listing = Listing(["tree/**/*"])
    assert len([*listing]) == 9
    assert not listing.ignored
    assert names("tree/*", "tree/b.jpg").count("tree/b.jpg") == 2  # of another word


def test_a_folder_that_cannot_be_read_is_a_row(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(folder: str) -> object:
        if folder == os.path.join("tree", "a", "deep"):  # root may read any folder
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    items = [item for item in Listing(["tree"]) if item]
    [bad] = [item for item in items if item.error]
    assert (bad.name, bad.path) == ("tree/a/deep", None)
    assert "Permission denied" in str(bad.error)
    assert len(items) == 6


def test_names_on_standard_input(tree: Path) -> None:
    lines = b"tree/b.jpg\r\n\ntree/ with blanks .png \nab\xffsent\nlast"
    assert [name for name in names("-", stdin=lines) if name is not None] == [
        "tree/b.jpg",
        "tree/ with blanks .png ",
        os.fsdecode(b"ab\xffsent"),
        "last",
    ]
    assert number_of_images(["tree", "-"]) is None
    with pytest.raises(UserError, match="found - twice"):
        Listing(["-", "tree", "-"])


def test_a_pause_comes_where_the_next_name_does_not() -> None:
    """So that what has come can be predicted, however long the next name takes."""
    reader, writer = os.pipe()
    paused = threading.Event()

    def write() -> None:
        os.write(writer, b"a.jpg\nb.jpg\n")
        paused.wait(60)
        os.write(writer, b"c.jpg\n")
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    arrived: list[str | None] = []
    with open(reader, "rb") as stdin:
        for item in Listing(["-"], stdin):
            arrived.append(item.name if item else None)
            if item is None:
                paused.set()
    thread.join()
    assert [name for name in arrived if name] == ["a.jpg", "b.jpg", "c.jpg"]
    assert None in arrived[: arrived.index("c.jpg")]


def test_standard_input_that_breaks_off(tree: Path) -> None:
    class Broken(io.BytesIO):
        def __next__(self) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(UserError, match="-: standard input cannot be read: Input/output error"):
        list(Listing(["-"], Broken()))
