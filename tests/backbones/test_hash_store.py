"""Perceptual hashes are computed once for each image, whatever happens in between."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from aimonk_bench.backbones import hash_store
from aimonk_bench.backbones.hash_store import ENTRY, perceptual_hashes, stored_hashes
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.near_duplicates import perceptual_hash
from aimonk_bench.errors import RunFailed, UserError


def written(folder: Path, *, count: int) -> list[ImageFile]:
    """Random images, and last a white one."""
    files = []
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8) if number < count - 1 else np.full((40, 40, 3), 255)
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), pixels)
        files.append(ImageFile(path.name, path, hashlib.sha256(path.read_bytes()).hexdigest(), number + 1))
    return files


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that are hashed."""
    hashed: list[bytes] = []

    def count(data: bytes, white: int | None) -> int | None:
        hashed.append(data)
        return perceptual_hash(data, white)

    monkeypatch.setattr(hash_store, "perceptual_hash", count)
    return hashed


def test_hashes_are_those_of_the_files_in_their_order_and_kept(tmp_path: Path, counted: list[bytes]) -> None:
    files = written(tmp_path, count=6)
    told: list[tuple[str, int, int]] = []
    expected = [perceptual_hash(file.path.read_bytes()) for file in files]
    hashes = perceptual_hashes([*files[:4], files[0]], tmp_path / "store", lambda *step: told.append(step))
    assert hashes.bits.tolist() == [*expected[:4], expected[0]]
    stored = stored_hashes(tmp_path / "store")
    assert [stored[file.sha256] for file in files[:4]] == expected[:4]
    assert stored_hashes(tmp_path / "store", white=4095) == stored_hashes(tmp_path / "nowhere") == {}
    assert (len(counted), told) == (4, [("hash", 4, 4)])
    later = perceptual_hashes(files[::-1], tmp_path / "store")
    assert len(counted) == 6
    assert later.usable.tolist() == [False, *[True] * 5]
    assert later.bits.tolist() == [0, *expected[4::-1]]
    perceptual_hashes(files, tmp_path / "store")
    assert len(counted) == 6


def test_an_entry_that_a_killed_process_cut_off_is_written_again(tmp_path: Path, counted: list[bytes]) -> None:
    files = written(tmp_path, count=4)
    before = perceptual_hashes(files, tmp_path)
    (file,) = (tmp_path / "hashes").glob("*.bin")
    file.write_bytes(file.read_bytes()[:-5])
    assert perceptual_hashes(files, tmp_path).bits.tolist() == before.bits.tolist()
    assert len(counted) == 5
    assert file.stat().st_size == 4 * ENTRY.itemsize
    perceptual_hashes(files, tmp_path)
    assert len(counted) == 5


def test_a_damaged_entry_is_made_again(tmp_path: Path, counted: list[bytes]) -> None:
    files = written(tmp_path, count=4)
    before = perceptual_hashes(files, tmp_path)
    (file,) = (tmp_path / "hashes").glob("*.bin")
    content = bytearray(file.read_bytes())
    content[ENTRY.itemsize + 70] ^= 1  # a bit of the second hash
    file.write_bytes(content)
    assert files[1].sha256 not in stored_hashes(tmp_path)
    assert perceptual_hashes(files, tmp_path).bits.tolist() == before.bits.tolist()
    assert len(counted) == 5


def test_what_was_hashed_before_an_image_changed_stays(
    tmp_path: Path, counted: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_store, "CHUNK", 2)
    files = written(tmp_path, count=5)
    files[3].path.write_bytes(files[2].path.read_bytes())
    with pytest.raises(RunFailed, match=r"3\.png changed"):
        perceptual_hashes(files, tmp_path)
    counted.clear()
    perceptual_hashes(files[:3], tmp_path)
    assert len(counted) == 1


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "hashes").write_text("a file")
    with pytest.raises(UserError, match="AIMONK_BENCH_CACHE"):
        perceptual_hashes(written(tmp_path, count=2), tmp_path)


def test_a_folder_in_place_of_the_hashes_is_named(tmp_path: Path) -> None:
    files = written(tmp_path, count=2)
    perceptual_hashes(files, tmp_path)
    [file] = (tmp_path / "hashes").glob("*.bin")
    file.unlink()
    file.mkdir()
    for read in (lambda: perceptual_hashes(files, tmp_path), lambda: stored_hashes(tmp_path)):
        with pytest.raises(UserError, match=rf"{file}: cannot be read \(Is a directory\); fix: remove it"):
            read()
