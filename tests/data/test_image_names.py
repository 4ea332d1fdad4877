"""Names of images: which file each one means, and what is said about those that are not written as their files."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from label_files import problems, read

from aimonk_bench.data import image_files, image_names
from aimonk_bench.data.image_names import ImagePaths, resolve

NFC, NFD = (unicodedata.normalize(form, "größe é.png") for form in ("NFC", "NFD"))


def folder(place: Path, *files: str) -> Path:
    root = place / "pics"
    root.mkdir(exist_ok=True)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def resolved(root: Path, *names: str, suffix: str | None = None) -> ImagePaths:
    return resolve(names, [*range(1, len(names) + 1)], root, suffix)


@pytest.mark.parametrize(
    ("files", "name", "path", "difference"),
    [
        (["a.png"], "a.png", "a.png", None),
        (["a.png"], "  a.png ", "a.png", None),
        (["a.png"], "./a.png", "a.png", None),
        (["a.png"], "x/../a.png", "a.png", None),
        (["a.png"], "../pics/a.png", "a.png", None),
        (["my cat.png"], "my cat.png", "my cat.png", None),
        (["s/a.png"], "s//a.png", "s/a.png", None),
        (["a.PNG"], "a.png", "a.PNG", "letter case"),
        (["Train/a.png"], "train/A.png", "Train/a.png", "letter case"),
        (["STRASSE.png"], "straße.png", "STRASSE.png", "letter case"),
        ([NFD], NFC, NFD, "Unicode form"),
        ([NFC], NFD, NFC, "Unicode form"),
        (["s/a.png"], "s\\a.png", "s/a.png", "backslashes"),
        (["s/a.png"], ".\\s\\a.png", "s/a.png", "backslashes"),
        (["a.png"], "pics/a.png", "a.png", "folder"),
        (["a.png"], "data/pics/a.png", "a.png", "folder"),
        (["s/a.png"], "pics/s/a.png", "s/a.png", "folder"),
        (["s/a.png"], "a.png", "s/a.png", "folder"),
        (["images_001/images/a.png", "images_002/images/b.png"], "b.png", "images_002/images/b.png", "folder"),
        (["x/s/a.png", "x/t/a.png"], "t/a.png", "x/t/a.png", "folder"),
        (["s/a.png"], "elsewhere/a.png", "s/a.png", "folder"),
        (["a.png"], "/elsewhere/pics/a.png", "a.png", "an absolute path and folder"),
        (["a.png"], "C:\\data\\pics\\a.png", "a.png", "backslashes and an absolute path and folder"),
        (["a.png"], "/a.png", "a.png", "an absolute path"),
        (["a.png"], "https://example.org/pics/a.png", "a.png", "folder"),
        (["a.jpg"], "a", "a.jpg", "a missing suffix"),
        (["a.jpg", "a.txt"], "a", "a.jpg", "a missing suffix"),
        (["a.b.jpg", "a.c.jpg"], "a.b", "a.b.jpg", "a missing suffix"),
        (["1/x.png", "1.png"], "1", "1.png", "a missing suffix"),
        (["A.JPG"], "pics/a", "A.JPG", "a missing suffix and letter case and folder"),
        (["a.PNG", "s/a.png"], "a.png", "a.PNG", "letter case"),  # the whole path before its end
        (["s/a.PNG", "t/a.png"], "a.png", "t/a.png", "folder"),  # as written before other case
    ],
)
def test_a_name_that_is_not_there_is_looked_up(
    tmp_path: Path, files: list[str], name: str, path: str, difference: str | None
) -> None:
    result = resolved(folder(tmp_path, *files), name)
    assert (result.paths, result.problems) == ([path], [])
    assert len(result.notes) == (difference is not None)
    if difference:
        assert result.notes[0].endswith(f"1 in {difference} ({name} is {path})")


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ([], "a.png"),
        (["a.png"], "b.png"),
        (["a.png"], "a.jpg"),  # perhaps its mask
        (["a.txt"], "a"),
        (["cat/2.png", "dog/1.png"], "cat/1.png"),  # the folder is there, and has no such file
        (["s/x.png", "t/s/a.png"], "s/a.png"),
    ],
)
def test_a_missing_image_stays_missing(tmp_path: Path, files: list[str], name: str) -> None:
    result = resolved(folder(tmp_path, *files), name)
    assert result == ImagePaths([name], [], [])


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["a.jpg", "a.png"], "a"),
        (["s/a.png", "t/a.png"], "a.png"),
        (["s/a.png", "t/a.png"], "pics/a.png"),
        (["a.PNG", "A.png"], "a.png"),
        (["s/a.png", "t/a.png"], "C:\\x\\a.png"),
    ],
)
def test_a_name_that_fits_two_files_is_an_error_that_names_both(tmp_path: Path, files: list[str], name: str) -> None:
    result = resolved(folder(tmp_path, *files, "other.png"), "other.png", name)
    assert result.paths == ["other.png", None]
    ((line, text),) = result.problems
    assert line == 2
    assert all(file in text for file in (*files, name))
    assert ("data: {suffix:" in text) == (name == "a")


def test_many_ambiguous_names_are_one_problem(tmp_path: Path) -> None:
    names = [str(n) for n in range(50)]
    root = folder(tmp_path, *(f"{name}.{kind}" for name in names for kind in ("jpg", "png")))
    ((line, text),) = resolved(root, *names).problems
    assert line == 1
    assert "50 names fit several files" in text
    assert 'data: {suffix: ".jpg"}' in text
    for kind in ("jpg", "png"):
        result = resolved(root, *names, suffix=f".{kind}")
        assert result == ImagePaths([f"{name}.{kind}" for name in names], [], [])


def test_the_suffix_completes_names_and_no_others(tmp_path: Path) -> None:
    root = folder(tmp_path, "a.jpg", "b.jpg", "s/c.jpg", "d.png")
    result = resolved(root, "a", "b.jpg", "C", "d", suffix=".jpg")
    assert result.paths == ["a.jpg", "b.jpg", "s/c.jpg", "d"]
    result = resolved(root, "b.png", "d.png", "s/C.tif", "e.png", "b.txt", suffix=".jpg")
    assert result.paths == ["b.jpg", "d.png", "s/c.jpg", "e.png", "b.txt"]
    assert "1 in suffix (b.png is b.jpg)" in result.notes[0]
    assert "data.suffix" in resolved(root, "a.jpg", suffix=".jpg").notes[0]


def test_names_of_one_file_are_one_image(tmp_path: Path) -> None:
    root = folder(tmp_path, "a.png", "s/b.png")
    names = ["a.png", "A.PNG", "./a.png", str(root / "a.png"), "pics\\a.png", "a"]
    assert set(resolved(root, *names).paths) == {"a.png"}
    loaded = read(tmp_path, "".join(f"{name} 1\n" for name in names), images=root)
    assert (loaded.ids, loaded.paths, loaded.lines.tolist()) == (("a.png",), ("a.png",), [1])
    (contradiction,) = problems(tmp_path, "A.png 1\na.png 0\n", images=root)
    assert contradiction.startswith("labels.txt:2: image a.png contradicts line 1: attr1 is negative, there positive")


def test_names_that_merely_resemble_a_file_do_not_become_one_image(tmp_path: Path) -> None:
    root = folder(tmp_path, "all/1.png", "all/2.png")
    result = resolved(root, "train/1.png", "test/1.png", "train/2.png")
    assert result.paths == [None, None, "all/2.png"]
    ((line, text),) = result.problems
    assert line == 1
    assert all(part in text for part in ("train/1.png", "test/1.png", "line 2", "all/1.png"))
    # another name states the file: the one that only resembles it is missing
    assert resolved(root, "all/1.png", "train/1.png").paths == ["all/1.png", "train/1.png"]


def test_absolute_paths(tmp_path: Path) -> None:
    root = folder(tmp_path, "s/a.png")
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "outside.png").touch()
    for place in (root, tmp_path / "link"):
        for images in (root, tmp_path / "link"):
            assert resolved(images, str(place / "s" / "a.png")) == ImagePaths(["s/a.png"], [], [])
    outside, nowhere, below = resolved(root, str(tmp_path / "outside.png"), "/none/x.png", "../outside.png").problems
    assert (outside[0], nowhere[0], below[0]) == (1, 2, 3)
    assert "data.images" in outside[1]
    assert "absolute" in nowhere[1]
    assert "leaves" in below[1]
    ((line, text),) = resolved(root, *(f"/none/{n}.png" for n in range(100))).problems
    assert line == 1
    assert "in 100 rows" in text


@pytest.mark.parametrize("name", ["", "a\tb.png", ".", "a/..", "..", "/", "\x00"])
def test_names_that_are_no_path(tmp_path: Path, name: str) -> None:
    result = resolved(folder(tmp_path, "a.png"), "a.png", name)
    assert result.paths == ["a.png", None]
    assert [line for line, _ in result.problems] == [2]


def test_the_folder_is_walked_once_and_only_where_a_name_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, walks = folder(tmp_path, "a.png", "B.png", "s/c.png"), []
    walk = image_names.files_below
    monkeypatch.setattr(image_names, "files_below", lambda place: walks.append(place) or walk(place))
    assert resolved(root, "a.png", "./a.png", "s\\c.png").paths == ["a.png", "a.png", "s/c.png"]
    assert not walks
    assert resolved(root, "A.png", "b.png", "c", "d.png").paths == ["a.png", "B.png", "s/c.png", "d.png"]
    assert len(walks) == 1


def test_a_folder_with_a_link_to_itself_is_walked_once(tmp_path: Path) -> None:
    root = folder(tmp_path, "s/a.png")
    (root / "s" / "loop").symlink_to(root, target_is_directory=True)
    assert resolved(root, "a.png").paths == ["s/a.png"]
    assert sorted(image_names.files_below(root)).count("s/a.png") == 1


def test_without_a_folder_every_name_states_its_path(tmp_path: Path) -> None:
    assert resolved(tmp_path / "none", "a.png", "./b.png", "s\\c.png").paths == ["a.png", "b.png", "s/c.png"]


def test_one_note_counts_the_names_by_what_differs(tmp_path: Path) -> None:
    root = folder(tmp_path, *(f"{n}.JPG" for n in range(30)))
    names = [f"{n}.jpg" for n in range(20)] + [f"pics/{n}.JPG" for n in range(20, 30)]
    (note,) = resolved(root, *names, *names).notes  # a file may have several rows for an image
    assert note.startswith("30 of 30 image names differ")
    assert "20 in letter case (0.jpg is 0.JPG), 10 in folder (pics/20.JPG is 20.JPG)" in note


def test_the_image_id_stays_as_the_label_file_writes_it(tmp_path: Path) -> None:
    root = folder(tmp_path, "a.PNG")
    loaded = read(tmp_path, "image,x\n a.png ,1\n", "l.csv", images=root)
    assert (loaded.ids, loaded.paths) == (("a.png",), ("a.PNG",))
    (file,), _ = image_files.locate(loaded, root, "error")
    assert file is not None
    assert (file.image_id, file.path) == ("a.png", root / "a.PNG")
    assert any("a.png is a.PNG" in note for note in loaded.notes)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_a_file_name_may_hold_a_backslash(tmp_path: Path) -> None:
    assert resolved(folder(tmp_path, "s\\a.png"), "s\\a.png") == ImagePaths(["s\\a.png"], [], [])
