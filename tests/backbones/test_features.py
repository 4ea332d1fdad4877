from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import errno
import fcntl
import functools
import hashlib
import itertools
import json
import math
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from aimonk_bench.backbones import batches, feature_table, features, shards, weights
from aimonk_bench.backbones import encoder as encoders
from aimonk_bench.backbones.encoder import EncoderSpec, Record
from aimonk_bench.backbones.encoder_record import read_record, write_record
from aimonk_bench.backbones.feature_table import open_table
from aimonk_bench.backbones.features import CHUNK, FeatureMatrix, FeatureStore
from aimonk_bench.backbones.store import damage
from aimonk_bench.config.fields import BackboneConfig, TransformConfig
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.images import decode
from aimonk_bench.data.transforms import UNAUGMENTED, render, views
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.records import claims
from aimonk_bench.records.claims import ClaimLost

SIZE = 32
FLIP = TransformConfig(size=SIZE)
BOTH = TransformConfig(size=SIZE, train=[{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}])
DRAWN = TransformConfig(size=SIZE, train=[{"RandomBrightnessContrast": {"p": 1.0}}], views=3)


def _image(path: Path, data: bytes) -> ImageFile:
    path.write_bytes(data)
    return ImageFile(path.name, path, hashlib.sha256(data).hexdigest(), 1)


def _noise(seed: int) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    return cv2.imencode(".png", cv2.resize(small, (50, 40), interpolation=cv2.INTER_CUBIC))[1].tobytes()


@pytest.fixture
def images(tmp_path: Path) -> list[ImageFile]:
    return [_image(tmp_path / f"{n}.png", _noise(n)) for n in range(100)]


@pytest.fixture
def spec() -> EncoderSpec:
    return EncoderSpec(weights.resolve(BackboneConfig(name="resnet18", weights="none")), SIZE)


def _corners(images: np.ndarray) -> np.ndarray:
    """Stands in for a network: features that differ between images and flips, uint8 [B, H, W, 3] -> [B, 12]."""
    half = images.shape[1] // 2
    parts = [images[:, rows, cols] for rows in (np.s_[:half], np.s_[half:]) for cols in (np.s_[:half], np.s_[half:])]
    return np.concatenate([part.mean(axis=(1, 2)) for part in parts], axis=1).astype(np.float32)


class Counting:
    """Stands in for ``open_encoder`` and counts what it encodes."""

    def __init__(self) -> None:
        self.opened, self.batches = 0, []

    def __call__(self, spec: EncoderSpec, folder: Path, images: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        self.opened += 1
        record = Record(spec.identity, "onnxruntime", 12, 0.0, None)
        (folder / "encoder.json").write_text(json.dumps(vars(record)))
        return self.encode

    def encode(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(len(images))
        return _corners(images)

    @property
    def encoded(self) -> int:
        return sum(self.batches)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setattr(encoders, "open_encoder", counting)
    return counting


@pytest.fixture
def filled(images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path) -> FeatureStore:
    """The store ``store`` with the views of `FLIP`."""
    store = FeatureStore(tmp_path / "store")
    store.features(images, views(FLIP), FLIP, spec)
    return store


def _check(matrix: FeatureMatrix, images: list[ImageFile], transform: TransformConfig) -> None:
    """Every row is what a naive loop over images and views gives."""
    keys = views(transform).keys
    assert matrix.index.shape == (len(keys), len(images))
    assert matrix.index.dtype == np.int64
    assert matrix.rows.dtype == np.float32
    bad = dict(matrix.bad)
    for n, image in enumerate(images):
        if n in bad:
            assert (matrix.index[:, n] == -1).all()
            continue
        pixels = decode(image.path.read_bytes(), SIZE, "bilinear")
        for v, key in enumerate(keys):
            expected = _corners(render(pixels, image.sha256, key, transform)[None])[0]
            np.testing.assert_array_equal(matrix.rows[matrix.index[v, n]], expected)


@pytest.mark.parametrize("transform", [FLIP, BOTH, DRAWN], ids=["flip", "both flips", "drawn"])
def test_the_matrix_is_what_a_naive_loop_gives(
    transform: TransformConfig, images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    matrix = FeatureStore(tmp_path / "store").features(images, views(transform), transform, spec)
    _check(matrix, images, transform)
    assert (matrix.bad, matrix.engine) == ([], "onnxruntime")
    assert isinstance(matrix.rows, np.memmap)
    assert not matrix.rows.flags.writeable
    assert max(counting.batches) == spec.batch_size
    assert len(np.unique(matrix.index)) == matrix.index.size == counting.encoded


def test_only_new_images_and_views_are_encoded(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store = FeatureStore(tmp_path / "store")
    first = store.features(images[:60], views(FLIP), FLIP, spec)
    assert counting.encoded == 120
    again = store.features(images[10:50], views(FLIP), FLIP, spec)
    assert (counting.encoded, counting.opened) == (120, 1)
    np.testing.assert_array_equal(again.index, first.index[:, 10:50])
    more = store.features(images, views(FLIP), FLIP, spec)
    assert counting.encoded == 200
    np.testing.assert_array_equal(more.index[:, :60], first.index)
    four = store.features(images, views(BOTH), BOTH, spec)  # two of its views are stored
    assert counting.encoded == 400
    _check(four, images, BOTH)
    _check(first, images[:60], FLIP)


def test_images_with_the_same_bytes_share_a_row(spec: EncoderSpec, counting: Counting, tmp_path: Path):
    twins = [_image(tmp_path / f"{n}.png", _noise(n % 2)) for n in range(6)]
    matrix = FeatureStore(tmp_path / "store").features(twins, views(FLIP), FLIP, spec)
    assert counting.encoded == 4
    assert matrix.index[:, 0].tolist() == matrix.index[:, 2].tolist() == matrix.index[:, 4].tolist()
    _check(matrix, twins, FLIP)


def test_images_that_others_encode_in_shards_give_the_same_rows(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    """The first batch decides the engine; a bad image is reported from wherever it is."""
    sizes = []

    def in_shards(todo, request, messages):
        record = encoders.read_record(request.folder)
        for part in request.batches(todo):
            sizes.append(len(part))
            task = pickle.loads(pickle.dumps(([part], request.transform, request.spec, record, b"model", 2)))
            encoded = shards.encode_shard(*task).batches
            assert all(math.isnan(batch.seconds) for batch in encoded), "they say nothing of this machine"
            yield from encoded

    def elsewhere(request, progress):
        first = functools.partial(features.encoded, only_first=True)
        features.encode_missing(request, encode=first)
        return features.encode_missing(request, progress, encode=in_shards)

    mixed = [*images[:30], _image(tmp_path / "bad", b"junk")]
    matrix = FeatureStore(tmp_path / "store", elsewhere).features(mixed, views(FLIP), FLIP, spec)
    _check(matrix, mixed, FLIP)
    assert [n for n, _ in matrix.bad] == [30]
    assert len(sizes) == 7
    assert counting.opened == 2
    record = encoders.read_record(tmp_path / "store" / "features" / spec.digest)
    other = dataclasses.replace(record, identity={**record.identity, "network": "resnet18, timm 0"})
    with pytest.raises(
        RunFailed, match=r"network \(found resnet18.* expected resnet18, timm 0\); fix: the same packages"
    ):
        shards.encode_shard([], FLIP, spec, other, b"", 1)


def test_other_encoders_have_other_folders(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store = FeatureStore(tmp_path / "store")
    store.features(images[:3], views(FLIP), FLIP, spec)
    store.features(images[:3], views(FLIP), FLIP, EncoderSpec(spec.weights, SIZE, "torch"))
    assert counting.opened == len(list((tmp_path / "store" / "features").iterdir())) == 2


def test_undecodable_images_are_reported_and_the_others_stored(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store = FeatureStore(tmp_path / "store")
    broken = [_image(tmp_path / "a", b"junk"), _image(tmp_path / "b", b""), _image(tmp_path / "c", b"junk")]
    mixed = [broken[0], *images[:5], broken[1], broken[2]]
    for _ in range(2):
        matrix = store.features(mixed, views(FLIP), FLIP, spec)
        assert [n for n, _ in matrix.bad] == [0, 6, 7]
        assert dict(matrix.bad)[6].startswith("the file is empty")
        _check(matrix, mixed, FLIP)
    assert (counting.opened, counting.encoded) == (1, 10)


def test_nothing_but_undecodable_images(spec: EncoderSpec, counting: Counting, tmp_path: Path):
    matrix = FeatureStore(tmp_path / "store").features([_image(tmp_path / "a", b"x")], views(FLIP), FLIP, spec)
    assert (matrix.rows.shape, matrix.index.tolist(), len(matrix.bad)) == ((0, 0), [[-1], [-1]], 1)
    assert (counting.opened, matrix.engine) == (0, "onnxruntime")


def test_progress_counts_the_images_to_do(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store, seen = FeatureStore(tmp_path / "store"), []
    store.features(images[:20], views(FLIP), FLIP, spec)
    junk = _image(tmp_path / "a", b"junk")
    counting.opened = 0
    store.features([*images, junk], views(FLIP), FLIP, spec, lambda *step: seen.append((*step, counting.opened)))
    # one batch, of two views per image, after the other; building the encoder is not counted
    assert seen == [("encode", done, 81, 1) for done in [*range(spec.batch_size // 2, 81, spec.batch_size // 2), 81]]
    other = _image(tmp_path / "b", b"more junk")
    store.features([other], views(FLIP), FLIP, spec, lambda *step: seen.append(step))
    assert seen[-1] == ("encode", 1, 1)


def test_an_image_that_changed_meanwhile_is_not_stored(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    images[3].path.write_bytes(_noise(1000))
    store = FeatureStore(tmp_path / "store")
    with pytest.raises(RunFailed, match=r"3\.png changed while it was in use"):
        store.features(images, views(FLIP), FLIP, spec)
    images[3].path.unlink()
    with pytest.raises(RunFailed, match=r"3\.png cannot be read any more: No such file"):
        store.features(images, views(FLIP), FLIP, spec)


def test_an_interruption_between_rows_and_index_leaves_nothing_behind(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = FeatureStore(tmp_path / "store")

    synced = []

    def dies(file: int) -> None:
        synced.append(file)
        if len(synced) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(KeyboardInterrupt):
        store.features(images, views(FLIP), FLIP, spec)
    monkeypatch.undo()
    monkeypatch.setattr(encoders, "open_encoder", counting)
    [rows] = tmp_path.glob("store/features/*/rows.f32")
    assert rows.stat().st_size == 2 * CHUNK * 12 * 4
    before = counting.encoded
    matrix = store.features(images, views(FLIP), FLIP, spec)
    _check(matrix, images, FLIP)
    assert rows.stat().st_size == 200 * 12 * 4
    assert counting.encoded - before == 200 - CHUNK


@pytest.mark.parametrize("change", [lambda rows: rows[:, :4], lambda rows: np.tile(rows, 2), lambda rows: rows[1:]])
def test_rows_of_another_shape_are_not_stored(
    change: Callable[[np.ndarray], np.ndarray],
    images: list[ImageFile],
    spec: EncoderSpec,
    counting: Counting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(counting, "encode", lambda images: change(_corners(images)))
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"the network gave \d+ x \d+ features, expected 64 x 12"):
            FeatureStore(tmp_path / "store").features(images, views(FLIP), FLIP, spec)
    [rows] = tmp_path.glob("store/features/*/rows.f32")
    assert rows.stat().st_size == 0


def _halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def _overwrite(file: Path) -> None:
    file.write_bytes(b"\xff" * file.stat().st_size)


def _lacks_a_field(file: Path) -> None:
    file.write_text('{"features": 12}')


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("encoder.json", Path.unlink, "200 rows of 0 features are indexed"),
        ("encoder.json", _halve, "encoder.json is not one of this version"),
        ("encoder.json", _overwrite, "encoder.json is not one of this version"),
        ("encoder.json", _lacks_a_field, "encoder.json is not one of this version"),
        ("index.sqlite", _overwrite, "index.sqlite: file is not a database"),
    ],
)
def test_a_folder_with_a_damaged_record_or_index_is_made_anew(
    name: str,
    damage: Callable[[Path], None],
    reason: str,
    images: list[ImageFile],
    spec: EncoderSpec,
    counting: Counting,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    store = FeatureStore(tmp_path / "store")
    before = store.features(images, views(FLIP), FLIP, spec)
    [file] = tmp_path.glob(f"store/features/*/{name}")
    damage(file)
    _check(store.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert f"is damaged ({reason}): its images are encoded again" in caplog.text
    _check(before, images, FLIP)  # who has mapped the rows keeps them,
    with pytest.raises(RunFailed, match="another process has made this file anew"):
        pickle.loads(pickle.dumps(before))  # and nobody maps others in their place
    caplog.clear()
    _check(store.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert (counting.encoded, caplog.text) == (400, "")


@pytest.mark.parametrize("name", ["rows.f32", "model.onnx"])
def test_a_folder_in_place_of_a_file_is_removed(
    name: str, images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store = FeatureStore(tmp_path / "store")
    store.features(images[:2], views(FLIP), FLIP, spec)
    file = tmp_path / "store" / "features" / spec.digest / name
    file.unlink(missing_ok=True)
    file.mkdir()
    _check(store.features(images[:2], views(FLIP), FLIP, spec), images[:2], FLIP)
    assert not file.is_dir()


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[70 * 12 * 4] ^= 1  # in row 70, which is in the second block
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "rows"), [(_flip_a_bit, 64), (_cut, 8), (_halve, 136), (Path.unlink, 200), (_overwrite, 200)]
)
def test_only_damaged_blocks_of_rows_are_encoded_again(
    damage: Callable[[Path], None],
    rows: int,
    images: list[ImageFile],
    spec: EncoderSpec,
    counting: Counting,
    filled: FeatureStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    [file] = tmp_path.glob("store/features/*/rows.f32")
    damage(file)
    _check(filled.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert counting.encoded == 200 + rows
    assert f"{rows} rows are damaged and encoded again" in caplog.text
    caplog.clear()
    _check(filled.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert (counting.encoded, caplog.text) == (200 + rows, "")


def test_rows_of_images_that_lack_another_view_are_verified(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store = FeatureStore(tmp_path / "store")
    store.features(images, UNAUGMENTED, FLIP, spec)
    [file] = tmp_path.glob("store/features/*/rows.f32")
    _flip_a_bit(file)
    _check(store.features(images, views(FLIP), FLIP, spec), images, FLIP)


def test_rows_that_are_not_in_the_file_any_more_are_missing(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    FeatureStore(tmp_path / "store").features(images, views(FLIP), FLIP, spec)
    [file] = tmp_path.glob("store/features/*/rows.f32")
    _halve(file)
    with open_table(file.parent, spec.stored_dtype) as table:
        todo = table.missing(images, views(FLIP).keys)
        assert sum(len(keys) for _, keys in todo) == 100


def test_a_record_that_does_not_fit_its_checksum_is_damage(
    images: list[ImageFile],
    spec: EncoderSpec,
    counting: Counting,
    filled: FeatureStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    [file] = tmp_path.glob("store/features/*/encoder.json")
    record = read_record(file.parent)
    write_record(file.parent, record)
    assert read_record(file.parent) == record
    file.write_text(file.read_text().replace('"features": 12', '"features": 13'))
    _check(filled.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert "encoder.json does not fit its checksum" in caplog.text
    assert counting.encoded == 400


def test_a_store_that_is_only_read_gives_what_it_has(
    images: list[ImageFile], spec: EncoderSpec, filled: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    [folder] = tmp_path.glob("store/features/*")
    before = {file.name: file.stat().st_mtime_ns for file in [folder, *folder.iterdir()]}
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))  # root may always write
    _check(filled.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert before == {file.name: file.stat().st_mtime_ns for file in [folder, *folder.iterdir()]}
    with pytest.raises(UserError, match="cannot be written"):
        filled.features(images, views(BOTH), BOTH, spec)


def test_an_image_that_cannot_be_decoded_is_no_missing_one_in_a_store_that_is_only_read(
    images: list[ImageFile], spec: EncoderSpec, filled: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    listed = [*images, ImageFile(broken.name, broken, hashlib.sha256(b"no image").hexdigest(), 9)]
    expected = filled.features(listed, views(FLIP), FLIP, spec)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))  # root may always write
    read = filled.features(listed, views(FLIP), FLIP, spec)
    assert read.bad == expected.bad != []
    assert (read.index == expected.index).all()


def test_rows_that_another_process_wrote_meanwhile_are_not_misread(
    images: list[ImageFile], spec: EncoderSpec, filled: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As after this process stood still and another one took over."""
    [folder] = tmp_path.glob("store/features/*")
    with open_table(folder, spec.stored_dtype) as table:
        rows = table.rows()[:2].copy()
        with table.file.open("ab") as file:
            file.write(rows.tobytes())
        with pytest.raises(ClaimLost, match="another process has written rows to it"):
            table.append([("f" * 64, "x"), ("f" * 64, "y")], rows)
        table.cut_off_unindexed()

        def index_others(_: int) -> None:
            with contextlib.closing(sqlite3.connect(folder / "index.sqlite")) as connection, connection:
                connection.execute("INSERT INTO blocks VALUES (?, 1, 0)", (table._count(),))

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(os, "fsync", index_others)
            with pytest.raises(ClaimLost, match="another process has written rows to it"):
                table.append([("f" * 64, "x"), ("f" * 64, "y")], rows)
    _check(filled.features(images, views(FLIP), FLIP, spec), images, FLIP)


@pytest.mark.parametrize(
    ("options", "locks"),
    [("rw,relatime", True), ("rw,nolock,vers=3", False), ("rw,local_lock=all", False), ("rw,localflock", False)],
)
def test_locks_that_other_machines_do_not_see_are_no_locks(
    options: str, locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place = tmp_path / "a folder"
    place.mkdir()
    escaped = str(place).replace(" ", "\\040")
    (tmp_path / "mounts").write_text(f"disk / ext4 rw,nolock 0 0\nserver:/x {escaped} nfs {options} 0 0\n")
    monkeypatch.setattr(feature_table, "MOUNTS", tmp_path / "mounts")
    feature_table.has_locks.cache_clear()
    assert feature_table.has_locks(place) is locks
    feature_table.has_locks.cache_clear()


def test_a_store_gives_signs_of_life_while_its_rows_are_verified(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, signs = FeatureStore(tmp_path / "store"), []
    store.features(images, views(FLIP), FLIP, spec)
    monkeypatch.setattr(feature_table, "BLOCKS_PER_SIGN", 2)
    with open_table(next(tmp_path.glob("store/features/*")), spec.stored_dtype) as table:
        assert table.damaged_blocks(alive=lambda: signs.append("alive")) == []
        assert len(signs) == math.ceil(table.blocks / 2) > 1


@pytest.mark.parametrize(
    ("change", "blocks"),
    [
        ("row = row - 8 WHERE row = 44", 1),
        ("row = row + 64 WHERE row = 44", 2),
        ("row = -3 WHERE row = 44", 1),
        ("row = 1000 WHERE row = 44", 1),
        ("row = 'x' WHERE row = 44", 1),
        ("view = CAST(x'ff' AS TEXT) WHERE row = 44", 1),
    ],
)
def test_rows_that_the_index_confuses_are_encoded_again(
    change: str,
    blocks: int,
    images: list[ImageFile],
    spec: EncoderSpec,
    counting: Counting,
    filled: FeatureStore,
    tmp_path: Path,
):
    [index] = tmp_path.glob("store/features/*/index.sqlite")
    with contextlib.closing(sqlite3.connect(index)) as connection, connection:
        connection.execute(f"UPDATE rows SET {change}")
    before = damage(tmp_path / "store", index.parent.name)
    _check(filled.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert before[0] == blocks
    assert 200 < counting.encoded < 400
    assert damage(tmp_path / "store", index.parent.name)[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        "count = -5 WHERE first = 64",
        "count = 0 WHERE first = 192",
        "count = count + 1 WHERE first = 64",
        f"count = {2**62} WHERE first = 192",
        f"count = {2**63 - 1} WHERE first = 64",
        "count = 1000000000 WHERE first = 192",
        "count = 'many' WHERE first = 64",
        "first = -64 WHERE first = 0",
        f"first = {2**63 - 1} WHERE first = 192",
    ],
)
def test_an_index_whose_blocks_do_not_follow_one_another_is_made_anew(
    change: str, images: list[ImageFile], spec: EncoderSpec, counting: Counting, filled: FeatureStore, tmp_path: Path
):
    [index] = tmp_path.glob("store/features/*/index.sqlite")
    with contextlib.closing(sqlite3.connect(index)) as connection, connection:
        connection.execute(f"UPDATE blocks SET {change}")
    assert damage(tmp_path / "store", index.parent.name) is None
    _check(filled.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert counting.encoded == 400
    assert damage(tmp_path / "store", index.parent.name) == (0, 4)


def test_rows_of_an_index_without_checksums_are_encoded_again(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, filled: FeatureStore, tmp_path: Path
):
    [index] = tmp_path.glob("store/features/*/index.sqlite")
    with contextlib.closing(sqlite3.connect(index)) as connection, connection:
        connection.execute("DROP TABLE blocks")
    _check(filled.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert counting.encoded == 400


def test_an_index_with_a_damaged_page_is_made_anew(
    images: list[ImageFile],
    spec: EncoderSpec,
    counting: Counting,
    filled: FeatureStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    [file] = tmp_path.glob("store/features/*/index.sqlite")
    content = file.read_bytes()
    page = int.from_bytes(content[16:18], "big")  # its first page names the tables, the others hold them
    file.write_bytes(content[:page] + b"\xff" * (len(content) - page))
    _check(filled.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert counting.encoded == 400
    assert "index.sqlite: database disk image is malformed" in caplog.text


def test_an_index_that_stays_locked_is_not_called_damaged(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feature_table, "BUSY_SECONDS", 0.01)
    store = FeatureStore(tmp_path / "store")
    store.features(images[:3], views(FLIP), FLIP, spec)
    [file] = tmp_path.glob("store/features/*/index.sqlite")
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"cannot be used: database is locked"):
            store.features(images, views(FLIP), FLIP, spec)


def test_a_table_that_another_process_creates_meanwhile_is_not_called_damaged(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, honest = FeatureStore(tmp_path / "store"), feature_table.FeatureTable._count

    def slow(table: feature_table.FeatureTable) -> int:
        count = honest(table)
        monkeypatch.setattr(feature_table.FeatureTable, "_count", honest)
        store.features(images[:10], views(FLIP), FLIP, spec)  # the other process, which is quicker
        return count

    monkeypatch.setattr(feature_table.FeatureTable, "_count", slow)
    _check(store.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert counting.encoded == 200


def test_the_folder_of_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: EncoderSpec):
    monkeypatch.delenv("AIMONK_BENCH_CACHE", raising=False)
    assert FeatureStore().root == Path.home() / ".cache" / "aimonk_bench"
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path / "file"))
    assert FeatureStore().root == tmp_path / "file"
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="AIMONK_BENCH_CACHE names another"):
        FeatureStore().features([], views(FLIP), FLIP, spec)


def test_an_engine_that_failed_once_is_refused_where_the_config_names_it(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store = FeatureStore(tmp_path / "store")
    store.features(images[:2], views(FLIP), FLIP, spec)
    [file] = tmp_path.glob("store/features/*/encoder.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "engine": "torch", "reason": "it differs"}))
    assert store.features(images[:2], views(FLIP), FLIP, spec).engine == "torch"
    with pytest.raises(RunFailed, match="engine: onnxruntime: it differs"):
        store.features(images, views(FLIP), FLIP, EncoderSpec(spec.weights, SIZE, "onnxruntime"))
    assert counting.encoded == 4


# A process without torch that encodes slowly, for the tests with several processes.
WORKER = """
    import hashlib, os, sys, time
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import test_features as t
    counting = t.Counting()
    def slowly(images, encode=counting.encode):
        os.write(1, b"encoding\\n")  # at once: two threads write
        time.sleep({seconds})
        return encode(images)
    counting.encode = slowly
    t.encoders.open_encoder = counting
    t.features.CHUNK, t.batches.threads.cores = 8, lambda: 2
    folder = Path({folder!r})
    resolved = t.weights.resolve(t.BackboneConfig(name="resnet18", weights="none"))
    files = sorted(folder.glob("*.png"), key=lambda path: int(path.stem))[{start}:{stop}]
    images = [t.ImageFile(p.name, p, hashlib.sha256(p.read_bytes()).hexdigest(), 1) for p in files]
    t.FeatureStore(folder / "store").features(images, t.views(t.FLIP), t.FLIP, t.EncoderSpec(resolved, t.SIZE))
    print(counting.encoded)
    assert not {{"torch", "timm"}} & set(sys.modules)
"""


def _worker(folder: Path, start: int, stop: int, seconds: float) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parent)
    code = textwrap.dedent(WORKER).format(tests=tests, folder=str(folder), start=start, stop=stop, seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_kill_loses_at_most_a_chunk(images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path):
    worker = _worker(tmp_path, 0, 100, 0.02)
    for _ in range(12):
        assert worker.stdout.readline() == "encoding\n"
    worker.send_signal(signal.SIGKILL)
    worker.wait(30)
    worker.stdout.close()
    matrix = FeatureStore(tmp_path / "store").features(images, views(FLIP), FLIP, spec)
    _check(matrix, images, FLIP)
    assert counting.encoded <= 200 - (12 - 2 * 2 - 3) * 8  # less what threads worked on and what waited


def test_two_processes_share_the_work_without_harm(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    workers = [_worker(tmp_path, start, stop, 0.01) for start, stop in ((0, 70), (30, 100))]
    outputs = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(int(output[-1]) for output in outputs) == 200  # nothing twice
    matrix = FeatureStore(tmp_path / "store").features(images, views(FLIP), FLIP, spec)
    _check(matrix, images, FLIP)
    assert counting.opened == 0


def test_a_process_that_lost_its_claim_stores_nothing_more_until_it_has_it_again(
    images: list[ImageFile],
    spec: EncoderSpec,
    counting: Counting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """It was suspended, and who took over was killed."""
    honest, blocks = feature_table.FeatureTable.append, []

    def append(table: feature_table.FeatureTable, names: list[tuple[str, str]], rows: np.ndarray) -> None:
        honest(table, names, rows)
        blocks.append(len(names))
        if len(blocks) == 1:
            claim = claims.of_folder(table.folder)
            holder = json.loads(claim.read_text().splitlines()[0]) | {"started": "1", "token": "another"}
            claim.write_text(f"{json.dumps(holder)}\n{0:012}\n")

    monkeypatch.setattr(feature_table.FeatureTable, "append", append)
    store = FeatureStore(tmp_path / "store")
    _check(store.features(images, views(FLIP), FLIP, spec), images, FLIP)
    assert counting.opened == 2
    assert sum(blocks) == 2 * len(images)
    [message] = [message for message in caplog.messages if "given up here" in message]
    assert f"process {os.getpid()} on " in message
    assert not list((tmp_path / "store").rglob(".*"))


def test_without_locks_the_claim_keeps_readers_from_the_writer(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    store = FeatureStore(tmp_path / "store")
    _check(store.features(images, views(FLIP), FLIP, spec), images, FLIP)
    [folder] = (tmp_path / "store" / "features").iterdir()
    with contextlib.closing(sqlite3.connect(folder / "index.sqlite")) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN EXCLUSIVE")  # which only locks would show
        with claims.hold(claims.of_folder(folder), "encodes"):
            reading = pool.submit(store.features, images, views(FLIP), FLIP, spec)
            assert not concurrent.futures.wait([reading], timeout=0.1).done
        _check(reading.result(), images, FLIP)
    assert counting.encoded == 2 * len(images)


def test_a_reader_need_not_wait_for_a_writer(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = FeatureStore(tmp_path / "store")
    store.features(images[:10], views(FLIP), FLIP, spec)
    go_on, writing = threading.Event(), threading.Event()

    def waits(images: np.ndarray) -> np.ndarray:
        writing.set()
        assert go_on.wait(30)
        return _corners(images)

    monkeypatch.setattr(counting, "encode", waits)
    writer = threading.Thread(target=store.features, args=(images, views(FLIP), FLIP, spec))
    writer.start()
    assert writing.wait(30)
    _check(store.features(images[:10], views(FLIP), FLIP, spec), images[:10], FLIP)
    go_on.set()
    writer.join(30)
    _check(store.features(images, views(FLIP), FLIP, spec), images, FLIP)


def test_rows_are_on_the_disk_before_the_index_names_them(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced, honest = [], os.fsync

    def looks(file: int) -> None:
        honest(file)
        [index] = tmp_path.glob("store/features/*/index.sqlite")
        with sqlite3.connect(index) as connection:
            [(indexed,)] = connection.execute("SELECT COUNT(*) FROM rows")
        connection.close()
        synced.append((os.fstat(file).st_size // (12 * 4), indexed))

    monkeypatch.setattr(os, "fsync", looks)
    FeatureStore(tmp_path / "store").features(images, views(FLIP), FLIP, spec)
    assert synced == [(64, 0), (128, 64), (192, 128), (200, 192)]


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_the_whole_way_from_files_to_features(engine: str, images: list[ImageFile], tmp_path: Path):
    import timm
    import torch

    from aimonk_bench.backbones import network

    resolved = weights.resolve(BackboneConfig(name="tf_efficientnet_lite0"))
    spec = EncoderSpec(resolved, SIZE, engine)
    matrix = FeatureStore(tmp_path / "store").features(images[:5], views(FLIP), FLIP, spec)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    model.load_state_dict(network.build(resolved, SIZE).network.state_dict())
    expected = np.zeros((2, 5, 1280), np.float32)
    for n, image in enumerate(images[:5]):
        pixels = decode(image.path.read_bytes(), SIZE, "bicubic")
        for v, view in enumerate([pixels, pixels[:, ::-1]]):
            normalised = (torch.from_numpy(view.copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
            with torch.inference_mode():
                expected[v, n] = model(normalised).numpy()
    difference = np.abs(matrix.rows[matrix.index] - expected).max()
    assert difference <= 1e-5 * np.abs(expected).max()
    assert matrix.engine == engine
    assert not np.allclose(expected[0], expected[1], atol=1e-2)


def test_other_threads_decode_while_one_encodes(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    decoded, during = [], []

    def slow_decode(*args: object, **options: bool) -> np.ndarray:
        time.sleep(0.002)
        decoded.append(args)
        return decode(*args, **options)

    def encode(images: np.ndarray) -> np.ndarray:
        before = len(decoded)
        time.sleep(0.1)
        during.append(len(decoded) - before)
        return _corners(images)

    monkeypatch.setattr(batches, "decode", slow_decode)
    monkeypatch.setattr(counting, "encode", encode)
    FeatureStore(tmp_path / "store").features(images, views(FLIP), FLIP, spec)
    assert len(decoded) == len(images)  # both views from one decode
    assert sum(during) > 0


def test_batches_that_no_thread_has_begun_are_dropped_when_encoding_ends_early(
    images: list[ImageFile], spec: EncoderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As Ctrl-C ends it: the first batch is taken, the second is being encoded, the third is queued."""
    calls, ending = [], threading.Event()

    class Pool(concurrent.futures.ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            ending.set()  # what is queued is cancelled by now, or will be encoded
            super().shutdown(wait=wait)

    def encode(batch):
        calls.append(len(batch))
        if len(calls) > 1:
            ending.wait()
        return np.ones((len(batch), 3), np.float32)

    monkeypatch.setattr(batches.threads, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(batches.threads, "cores", lambda: 1)
    monkeypatch.setattr(features.encoders, "open_encoder", lambda *_: encode)
    monkeypatch.setattr(features, "_check_room", lambda *_: None)
    monkeypatch.setattr(
        features, "decoded_batch", lambda part, **_: features.Batch(1, [("a", "b")], [np.zeros((2, 2, 3))])
    )
    todo = [(images[0], ["b"])] * spec.batch_size * 4
    request = features.Request(images, views(FLIP), TransformConfig(), spec, tmp_path)
    encoded = features.encoded(todo, request, features.LibraryMessages())
    next(encoded)
    encoded.close()
    assert len(calls) <= 2


def test_there_are_as_many_threads_as_cores(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import torch

    at_work, most, inside = [], [], []

    def busy(function):
        def wrapped(*args: object, **options: bool) -> np.ndarray:
            at_work.append(1)
            most.append(len(at_work))
            time.sleep(0.001)
            try:
                return function(*args, **options)
            finally:
                at_work.pop()

        return wrapped

    def encode(images: np.ndarray) -> np.ndarray:
        inside.append(torch.get_num_threads())
        return _corners(images)

    monkeypatch.setattr(batches.threads, "cores", lambda: 3)
    monkeypatch.setattr(batches, "decode", busy(decode))
    monkeypatch.setattr(counting, "encode", busy(encode))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        FeatureStore(tmp_path / "store").features(images, views(FLIP), FLIP, spec)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert max(most) == 3
    assert set(inside) == {1}


def test_features_can_be_stored_as_float16(
    images: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, half = FeatureStore(tmp_path / "store"), dataclasses.replace(spec, dtype="float16")
    matrix, full = (store.features(images, views(FLIP), FLIP, encoder) for encoder in (half, spec))
    assert matrix.rows.dtype == np.float16
    assert half.digest != spec.digest
    np.testing.assert_array_equal(matrix.rows[matrix.index], full.rows[full.index].astype(np.float16))
    again = store.features(images[:50], views(FLIP), FLIP, half)
    np.testing.assert_array_equal(again.rows[again.index], matrix.rows[matrix.index[:, :50]])
    monkeypatch.setattr(counting, "encode", lambda images: _corners(images) * 1e4)
    with pytest.raises(RunFailed, match=r"resnet18: features are not finite as float16: use backbone\.dtype float32"):
        store.features([_image(tmp_path / "new.png", _noise(500))], views(FLIP), FLIP, half)
    monkeypatch.setattr(counting, "encode", lambda images: _corners(images) * np.nan)
    with pytest.raises(RunFailed, match=r"features are not finite as float16$"):  # float32 would not help
        store.features([_image(tmp_path / "other.png", _noise(501))], views(FLIP), FLIP, half)


def test_rows_that_would_not_fit_are_refused_before_one_is_stored(
    images: list[ImageFile], spec: EncoderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, cut = FeatureStore(tmp_path / "store"), dataclasses.replace(spec, freeze="layer4")
    size = 2 * 100 * 2 * 2 * 256 * 4  # two views of a hundred images, 2 x 2 maps of 256 channels in float32
    monkeypatch.setenv("AIMONK_BENCH_BUDGET_GB", str(0.5e-3))
    message = r"200 rows of 1024 \(before layer4, float32\) take 819 kB, AIMONK_BENCH_BUDGET_GB allows 500 kB"
    with pytest.raises(RunFailed, match=message):
        store.features(images, views(FLIP), FLIP, cut)
    assert (store.root / "features" / cut.digest / "rows.f32").stat().st_size == 0
    monkeypatch.setenv("AIMONK_BENCH_BUDGET_GB", str((size - 1) / 1e9))
    with pytest.raises(RunFailed, match="a larger AIMONK_BENCH_BUDGET_GB"):
        store.features(images, views(FLIP), FLIP, cut)
    monkeypatch.setenv("AIMONK_BENCH_BUDGET_GB", str(size / 1e9))
    assert store.features(images, views(FLIP), FLIP, cut).rows.shape == (200, 1024)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, features.SPARE_BYTES))
    with pytest.raises(
        RunFailed,
        match=r"take 819 kB, 1.07 GB are free, of which 1.07 GB stay free: use a later stage or",
    ):
        store.features(images, views(BOTH), BOTH, cut)
    assert len(store.features(images, views(FLIP), FLIP, cut).rows) == 200  # stored rows need no room


@pytest.mark.parametrize("budget", ["plenty", "-1", "nan", "inf", "-inf", ""])
def test_an_invalid_budget_is_refused_at_once(budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIMONK_BENCH_BUDGET_GB", budget)
    with pytest.raises(UserError, match=f"AIMONK_BENCH_BUDGET_GB: found '{budget}', expected a number of gigabytes"):
        FeatureStore(tmp_path)
    monkeypatch.setenv("AIMONK_BENCH_BUDGET_GB", "0")
    FeatureStore(tmp_path)


def test_pixels_are_stored_as_they_are_decoded(images: list[ImageFile], spec: EncoderSpec, tmp_path: Path):
    matrix = FeatureStore(tmp_path / "store").features(
        images, UNAUGMENTED, FLIP, dataclasses.replace(spec, freeze="none")
    )
    assert (matrix.rows.dtype, matrix.rows.shape) == (np.uint8, (100, SIZE * SIZE * 3))
    for n, image in enumerate(images):
        pixels = decode(image.path.read_bytes(), SIZE, "bilinear")
        np.testing.assert_array_equal(matrix.rows[matrix.index[0, n]].reshape(pixels.shape), pixels)


def test_a_long_encoding_measures_the_encoder_once(
    spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(features.speed, "cores", lambda: 2)
    ticks = itertools.count()
    monkeypatch.setattr(features.speed, "clock", lambda spec: lambda: float(next(ticks)))
    many = [_image(tmp_path / f"{n}.png", _noise(n)) for n in range(44)]
    store = FeatureStore(tmp_path / "store")
    few = store.features(many[:32], views(FLIP), FLIP, spec)  # eight batches, of which one warms up
    assert few.images_per_second is None
    monkeypatch.setattr(batches.threads, "cores", lambda: 1)  # every batch takes a tick
    [folder] = (tmp_path / "store" / "features").iterdir()
    shutil.rmtree(folder)
    first = store.features(many, views(FLIP), FLIP, spec)
    assert first.images_per_second == 2 * spec.batch_size
    again = store.features(many, UNAUGMENTED, FLIP, spec)
    assert again.images_per_second == first.images_per_second
    assert pickle.loads(pickle.dumps(again)).images_per_second == first.images_per_second
