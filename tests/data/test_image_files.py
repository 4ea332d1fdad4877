"""Image files: where they are, their hashes, and the fingerprint of a data set."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_files import config, read

from aimonk_bench.data import image_files, label_file
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.errors import UserError

AIMONK = Path(os.environ.get("AIMONK_DATA", Path(__file__).parents[2] / ".data" / "aimonk"))


@pytest.fixture
def listed(tmp_path: Path) -> LabelFile:
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(name[-5:].encode())
    (tmp_path / "images" / "folder").mkdir()
    text = f"a.jpg 1\nsub/../b.jpg 0\nsub/c.jpg NA\nfolder 1\nnone.jpg 1\n{'n' * 300}.jpg 1\na.jpg/x 0\n"
    return read(tmp_path, text, images=tmp_path / "images")


def test_images_are_hashed_and_unreadable_ones_skipped_with_a_reason(listed: LabelFile, tmp_path: Path) -> None:
    files, skipped = image_files.locate(listed, tmp_path / "images", "skip")
    assert [image and image.sha256 for image in files] == [
        *(hashlib.sha256(name).hexdigest() for name in (b"a.jpg", b"b.jpg", b"c.jpg")),
        *(None,) * 4,
    ]
    assert files[1] is not None
    assert (files[1].image_id, files[1].path, files[1].line) == ("sub/../b.jpg", tmp_path / "images" / "b.jpg", 2)
    reasons = ["not a regular file", "missing", "unreadable: File name too long", "unreadable: Not a directory"]
    assert [item.reason for item in skipped] == reasons
    assert [item.line for item in skipped] == [4, 5, 6, 7]


def test_unreadable_images_are_an_error_with_their_lines(listed: LabelFile, tmp_path: Path) -> None:
    images = tmp_path / "images"
    with pytest.raises(UserError) as caught:
        image_files.locate(listed, images, "error")
    assert caught.value.limit == 20
    assert caught.value.problems[1] == f"{listed.path}:5: image none.jpg is missing (looked in {images})"
    rows = [*zip(listed.ids, listed.paths, listed.lines.tolist(), strict=True)]
    unreadable = image_files.unreadable(rows, images, skip=False)
    assert [f"{listed.path}:{line}: {text}" for line, text in unreadable] == caught.value.problems
    assert ["on_bad_image" in text for _, text in unreadable] == [True, False, False, False]
    assert not any("on_bad_image" in text for _, text in image_files.unreadable(rows, images, skip=True))
    assert image_files.unreadable(rows[:3], images, skip=False) == []


def test_a_missing_folder_and_no_readable_image_are_errors(listed: LabelFile, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a folder that exists"):
        image_files.locate(listed, tmp_path / "nowhere", "skip")
    with pytest.raises(UserError, match="none of the 7 images"):
        image_files.locate(listed, tmp_path / "images" / "folder", "skip")


def test_the_fingerprint_covers_observed_labels_and_nothing_under_na(listed: LabelFile, tmp_path: Path) -> None:
    files, _ = image_files.locate(listed, tmp_path / "images", "skip")

    def changed(**fields: Any) -> str:
        inner = {name: fields.pop(name) for name in ("targets", "observed", "attributes") if name in fields}
        labels = Labels(**{**vars(listed.labels), **inner})
        return image_files.fingerprint(replace(listed, labels=labels, **fields), files)

    original = image_files.fingerprint(listed, files)
    assert changed(targets=np.where(listed.labels.observed, listed.labels.targets, 1)) == original
    assert changed(path=tmp_path, lines=listed.lines + 1, notes=()) == original
    others = [
        changed(targets=1 - listed.labels.targets),
        changed(observed=np.ones_like(listed.labels.observed)),
        changed(attributes=("other",)),
        changed(ids=("other.jpg", *listed.ids[1:])),
        changed(groups=("g",) * 7),
        image_files.fingerprint(listed, [None, *files[1:]]),
        image_files.fingerprint(listed.subset([1, 0]), [files[1], files[0]]),
    ]
    assert len({original, *others}) == 1 + len(others)


def test_images_that_are_all_missing_are_one_problem(tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for n in range(50):
        (tmp_path / "images" / "deep" / f"IMG{n}.jpg").touch()
    listed = read(tmp_path, "".join(f"{n}.png 1\n" for n in range(100)), images=tmp_path / "images")
    for policy in ("skip", "error"):
        with pytest.raises(UserError) as caught:
            image_files.locate(listed, tmp_path / "images", policy)
        (problem,) = caught.value.problems
        assert problem.startswith(f"{listed.path}:1: none of the 100 images")
        assert all(part in problem for part in ("0.png, 1.png, 2.png", "deep/IMG", str(tmp_path), "data.images"))
    (tmp_path / "empty").mkdir()
    rows = [*zip(listed.ids, listed.paths, listed.lines.tolist(), strict=True)]
    ((line, text),) = image_files.unreadable(rows, tmp_path / "empty", skip=False)
    assert line == 1
    assert "the folder holds no file" in text


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["a.jpg", "b.jpg"], 1),
        (["c.png", "s\\a.jpg"], 2),
        (["x.png", "a.jpeg", "c.png"], 1),
    ],
)
def test_images_that_are_there_under_another_suffix_are_named(tmp_path: Path, names: list[str], line: int) -> None:
    for name in ("a.png", "b.png", "c.png", "b.txt"):
        (tmp_path / name).touch()
    listed = read(tmp_path, "".join(f"{name} 1\n" for name in names))
    with pytest.raises(UserError) as caught:
        image_files.locate(listed, tmp_path, "error")
    (problem,) = (text for text in caught.value.problems if "suffix" in text)
    assert problem.startswith(f"{listed.path}:{line}: ")
    assert problem.endswith('write `data: {suffix: ".png"}`')
    assert image_files.locate(read(tmp_path, f"{names[-1]} 1\n", suffix=".png"), tmp_path, "error")[1] == []


def test_many_missing_images_are_one_problem_with_examples(tmp_path: Path) -> None:
    (tmp_path / "a0.jpg").touch()
    listed = read(tmp_path, "".join(f"a{n}.jpg 1\n" for n in range(31)))
    with pytest.raises(UserError) as caught:
        image_files.locate(listed, tmp_path, "error")
    [problem] = caught.value.problems
    assert problem.startswith(f"{listed.path}:2: image a1.jpg is missing (looked in {tmp_path}) (and 29 further images")
    for part in ("line 3 (a2.jpg)", "`on_bad_image: skip`"):
        assert part in problem


def test_reasons_that_differ_in_numbers_are_one_message() -> None:
    reasons = [f"the value {value} is above data.white" for value in range(995, 1000)] + ["missing", "missing"]
    items = [image_files.Skipped(f"{line}.png", line, reason) for line, reason in enumerate(reasons)]
    assert image_files.by_reason(items) == [items[:5], items[5:6], items[6:]]


def test_names_that_are_all_refused_name_no_missing_image(tmp_path: Path) -> None:
    for name in ("s/a.png", "t/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(UserError) as caught:
        read(tmp_path, "a.png 1\n")
    (problem,) = caught.value.problems
    assert all(part in problem for part in ("labels.txt:1:", "s/a.png", "t/a.png"))


@pytest.mark.skipif(not (AIMONK / "labels.txt").exists(), reason="the Aimonk set is not here")
def test_the_aimonk_set() -> None:
    loaded = label_file.load(config(AIMONK / "labels.txt", images=AIMONK / "images"))
    assert len(loaded.ids) == 975
    assert loaded.labels.attributes == ("attr1", "attr2", "attr3", "attr4")
    assert (~loaded.labels.observed).sum() == 358
    located, skipped = image_files.locate(loaded, AIMONK / "images", "skip")
    assert len(skipped) == 3
    assert {item.reason for item in skipped} == {"missing"}
    hashes = [image.sha256 for image in located if image]
    assert len(hashes) - len(set(hashes)) == 7
