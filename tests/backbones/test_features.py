from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from aimonk_bench.backbones import encoder as encoders
from aimonk_bench.backbones import features, weights
from aimonk_bench.backbones.encoder import EncoderSpec, Record
from aimonk_bench.backbones.features import CHUNK, Bank, FeatureStore
from aimonk_bench.config.fields import BackboneConfig, TransformConfig
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.images import decode
from aimonk_bench.data.transforms import UNAUGMENTED, render, views
from aimonk_bench.errors import RunFailed, UserError

SIZE = 32
FLIP = TransformConfig(size=SIZE)
BOTH = TransformConfig(size=SIZE, train=[{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}])
DRAWN = TransformConfig(size=SIZE, train=[{"RandomBrightnessContrast": {"p": 1.0}}], views=3)


def _picture(path: Path, data: bytes) -> ImageFile:
    path.write_bytes(data)
    return ImageFile(path.name, path, hashlib.sha256(data).hexdigest(), 1)


def _noise(seed: int) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    return cv2.imencode(".png", cv2.resize(small, (50, 40), interpolation=cv2.INTER_CUBIC))[1].tobytes()


@pytest.fixture
def pictures(tmp_path: Path) -> list[ImageFile]:
    return [_picture(tmp_path / f"{n}.png", _noise(n)) for n in range(100)]


@pytest.fixture
def spec() -> EncoderSpec:
    return EncoderSpec(weights.resolve(BackboneConfig(name="resnet18", weights="none")), SIZE)


def _corners(pictures: np.ndarray) -> np.ndarray:
    """What stands in for a network: features that tell pictures and flips apart, uint8 [B, H, W, 3] -> [B, 12]."""
    half = pictures.shape[1] // 2
    parts = [pictures[:, rows, cols] for rows in (np.s_[:half], np.s_[half:]) for cols in (np.s_[:half], np.s_[half:])]
    return np.concatenate([part.mean(axis=(1, 2)) for part in parts], axis=1).astype(np.float32)


class Counting:
    """Stands in for ``open_encoder`` and counts what it encodes."""

    def __init__(self) -> None:
        self.opened, self.batches = 0, []

    def __call__(self, spec: EncoderSpec, folder: Path, pictures: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        self.opened += 1
        record = Record(spec.identity, "onnxruntime", 12, 0.0, None)
        (folder / "encoder.json").write_text(json.dumps(vars(record)))
        return self.encode

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        self.batches.append(len(pictures))
        return _corners(pictures)

    @property
    def encoded(self) -> int:
        return sum(self.batches)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setattr(encoders, "open_encoder", counting)
    return counting


def _check(bank: Bank, pictures: list[ImageFile], transform: TransformConfig) -> None:
    """Every row is what a naive loop over pictures and views gives."""
    keys = views(transform).keys
    assert bank.index.shape == (len(keys), len(pictures))
    assert bank.index.dtype == np.int64
    assert bank.rows.dtype == np.float32
    bad = dict(bank.bad)
    for n, picture in enumerate(pictures):
        if n in bad:
            assert (bank.index[:, n] == -1).all()
            continue
        image = decode(picture.path.read_bytes(), SIZE, "bilinear")
        for v, key in enumerate(keys):
            wanted = _corners(render(image, picture.sha256, key, transform)[None])[0]
            np.testing.assert_array_equal(bank.rows[bank.index[v, n]], wanted)


@pytest.mark.parametrize("transform", [FLIP, BOTH, DRAWN], ids=["flip", "both flips", "drawn"])
def test_the_bank_is_what_a_naive_loop_gives(
    transform: TransformConfig, pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    bank = FeatureStore(tmp_path / "store").bank(pictures, views(transform), transform, spec)
    _check(bank, pictures, transform)
    assert (bank.bad, bank.engine) == ([], "onnxruntime")
    assert isinstance(bank.rows, np.memmap)
    assert not bank.rows.flags.writeable
    assert max(counting.batches) == spec.batch
    assert len(np.unique(bank.index)) == bank.index.size == counting.encoded


def test_only_what_is_new_is_encoded(pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path):
    store = FeatureStore(tmp_path / "store")
    first = store.bank(pictures[:60], views(FLIP), FLIP, spec)
    assert counting.encoded == 120
    again = store.bank(pictures[10:50], views(FLIP), FLIP, spec)
    assert (counting.encoded, counting.opened) == (120, 1)
    np.testing.assert_array_equal(again.index, first.index[:, 10:50])
    more = store.bank(pictures, views(FLIP), FLIP, spec)
    assert counting.encoded == 200
    np.testing.assert_array_equal(more.index[:, :60], first.index)
    four = store.bank(pictures, views(BOTH), BOTH, spec)  # two of its views are stored
    assert counting.encoded == 400
    _check(four, pictures, BOTH)
    _check(first, pictures[:60], FLIP)


def test_pictures_with_the_same_bytes_share_a_row(spec: EncoderSpec, counting: Counting, tmp_path: Path):
    twins = [_picture(tmp_path / f"{n}.png", _noise(n % 2)) for n in range(6)]
    bank = FeatureStore(tmp_path / "store").bank(twins, views(FLIP), FLIP, spec)
    assert counting.encoded == 4
    assert bank.index[:, 0].tolist() == bank.index[:, 2].tolist() == bank.index[:, 4].tolist()
    _check(bank, twins, FLIP)


def test_other_encoders_have_other_folders(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store = FeatureStore(tmp_path / "store")
    store.bank(pictures[:3], views(FLIP), FLIP, spec)
    store.bank(pictures[:3], views(FLIP), FLIP, EncoderSpec(spec.weights, SIZE, "torch"))
    assert counting.opened == len(list((tmp_path / "store" / "features").iterdir())) == 2


def test_what_cannot_be_decoded_is_reported_and_the_rest_stored(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store = FeatureStore(tmp_path / "store")
    broken = [_picture(tmp_path / "a", b"junk"), _picture(tmp_path / "b", b""), _picture(tmp_path / "c", b"junk")]
    mixed = [broken[0], *pictures[:5], broken[1], broken[2]]
    for _ in range(2):
        bank = store.bank(mixed, views(FLIP), FLIP, spec)
        assert [n for n, _ in bank.bad] == [0, 6, 7]
        assert dict(bank.bad)[6] == "the file is empty"
        _check(bank, mixed, FLIP)
    assert (counting.opened, counting.encoded) == (1, 10)


def test_nothing_but_undecodable_pictures(spec: EncoderSpec, counting: Counting, tmp_path: Path):
    bank = FeatureStore(tmp_path / "store").bank([_picture(tmp_path / "a", b"x")], views(FLIP), FLIP, spec)
    assert (bank.rows.shape, bank.index.tolist(), len(bank.bad)) == ((0, 0), [[-1], [-1]], 1)
    assert (counting.opened, bank.engine) == (0, "onnxruntime")


def test_progress_counts_the_pictures_to_do(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store, seen = FeatureStore(tmp_path / "store"), []
    store.bank(pictures[:20], views(FLIP), FLIP, spec)
    junk = _picture(tmp_path / "a", b"junk")
    counting.opened = 0
    store.bank([*pictures, junk], views(FLIP), FLIP, spec, lambda *step: seen.append((*step, counting.opened)))
    # one batch, of two views a picture, after the other; building the encoder is not in the pace
    assert seen == [("encode", done, 81, 1) for done in [*range(spec.batch // 2, 81, spec.batch // 2), 81]]
    other = _picture(tmp_path / "b", b"more junk")
    store.bank([other], views(FLIP), FLIP, spec, lambda *step: seen.append(step))
    assert seen[-1] == ("encode", 1, 1)


def test_a_picture_that_changed_meanwhile_is_not_stored(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    pictures[3].path.write_bytes(_noise(1000))
    store = FeatureStore(tmp_path / "store")
    with pytest.raises(RunFailed, match=r"3\.png changed while it was in use"):
        store.bank(pictures, views(FLIP), FLIP, spec)
    pictures[3].path.unlink()
    with pytest.raises(RunFailed, match=r"3\.png cannot be read any more: No such file"):
        store.bank(pictures, views(FLIP), FLIP, spec)


def test_a_death_between_rows_and_index_leaves_nothing_behind(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = FeatureStore(tmp_path / "store")

    synced = []

    def dies(file: int) -> None:
        synced.append(file)
        if len(synced) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(KeyboardInterrupt):
        store.bank(pictures, views(FLIP), FLIP, spec)
    monkeypatch.undo()
    monkeypatch.setattr(encoders, "open_encoder", counting)
    [rows] = tmp_path.glob("store/features/*/rows.f32")
    assert rows.stat().st_size == 2 * CHUNK * 12 * 4
    before = counting.encoded
    bank = store.bank(pictures, views(FLIP), FLIP, spec)
    _check(bank, pictures, FLIP)
    assert rows.stat().st_size == 200 * 12 * 4
    assert counting.encoded - before == 200 - CHUNK


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def _overwrite(file: Path) -> None:
    file.write_bytes(b"\xff" * file.stat().st_size)


def _lacks_a_field(file: Path) -> None:
    file.write_text('{"features": 12}')


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("rows.f32", _cut, "200 rows of 12 features are indexed, rows.f32 has 9599 bytes"),
        ("rows.f32", Path.unlink, "200 rows of 12 features are indexed, rows.f32 has 0 bytes"),
        ("encoder.json", Path.unlink, "200 rows of 0 features are indexed, rows.f32 has 9600 bytes"),
        ("encoder.json", _cut, "cannot be read as JSON"),
        ("encoder.json", _overwrite, "cannot be read as JSON"),
        ("encoder.json", _lacks_a_field, "encoder.json: identity: Field required"),
        ("index.sqlite", _overwrite, "index.sqlite: file is not a database"),
    ],
)
def test_a_damaged_store_is_not_used(
    name: str,
    damage: Callable[[Path], None],
    reason: str,
    pictures: list[ImageFile],
    spec: EncoderSpec,
    counting: Counting,
    tmp_path: Path,
):
    store = FeatureStore(tmp_path / "store")
    store.bank(pictures, views(FLIP), FLIP, spec)
    [file] = tmp_path.glob(f"store/features/*/{name}")
    damage(file)
    with pytest.raises(UserError, match=rf"is damaged; remove that folder, it will be made anew \(.*{reason}"):
        store.bank(pictures, views(FLIP), FLIP, spec)


def test_a_page_of_the_index_that_is_damaged_is_told_when_it_is_met(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store = FeatureStore(tmp_path / "store")
    store.bank(pictures, views(FLIP), FLIP, spec)
    [file] = tmp_path.glob("store/features/*/index.sqlite")
    content = file.read_bytes()
    page = int.from_bytes(content[16:18], "big")  # its first page names the tables, the others hold them
    file.write_bytes(content[:page] + b"\xff" * (len(content) - page))
    with pytest.raises(UserError, match=r"is damaged; remove that folder.*index\.sqlite: .*malformed"):
        store.bank(pictures, views(FLIP), FLIP, spec)


def test_an_index_that_stays_locked_is_not_called_damaged(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(features, "BUSY_SECONDS", 0.01)
    store = FeatureStore(tmp_path / "store")
    store.bank(pictures[:3], views(FLIP), FLIP, spec)
    [file] = tmp_path.glob("store/features/*/index.sqlite")
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"cannot be used: database is locked"):
            store.bank(pictures, views(FLIP), FLIP, spec)


def test_a_store_that_another_process_begins_meanwhile_is_not_called_damaged(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, honest = FeatureStore(tmp_path / "store"), features._Shelf._count

    def slow(shelf: features._Shelf) -> int:
        count = honest(shelf)
        monkeypatch.setattr(features._Shelf, "_count", honest)
        store.bank(pictures[:10], views(FLIP), FLIP, spec)  # the other process, which is quicker
        return count

    monkeypatch.setattr(features._Shelf, "_count", slow)
    _check(store.bank(pictures, views(FLIP), FLIP, spec), pictures, FLIP)
    assert counting.encoded == 200


def test_the_place_of_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: EncoderSpec):
    monkeypatch.delenv("AIMONK_BENCH_CACHE", raising=False)
    assert FeatureStore().root == Path.home() / ".cache" / "aimonk_bench"
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path / "file"))
    assert FeatureStore().root == tmp_path / "file"
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="AIMONK_BENCH_CACHE names another"):
        FeatureStore().bank([], views(FLIP), FLIP, spec)


def test_an_engine_given_up_once_is_refused_where_it_is_insisted_on(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    store = FeatureStore(tmp_path / "store")
    store.bank(pictures[:2], views(FLIP), FLIP, spec)
    [file] = tmp_path.glob("store/features/*/encoder.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "engine": "torch", "reason": "it differs"}))
    assert store.bank(pictures[:2], views(FLIP), FLIP, spec).engine == "torch"
    with pytest.raises(RunFailed, match="engine: onnxruntime: it differs"):
        store.bank(pictures, views(FLIP), FLIP, EncoderSpec(spec.weights, SIZE, "onnxruntime"))
    assert counting.encoded == 4


# A process without torch that encodes slowly, for the tests with several processes.
WORKER = """
    import hashlib, os, sys, time
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import test_features as t
    counting = t.Counting()
    def slowly(pictures, encode=counting.encode):
        os.write(1, b"encoding\\n")  # at once: two threads write
        time.sleep({seconds})
        return encode(pictures)
    counting.encode = slowly
    t.encoders.open_encoder = counting
    t.features.CHUNK, t.features.cores = 8, lambda: 2
    folder = Path({folder!r})
    found = t.weights.resolve(t.BackboneConfig(name="resnet18", weights="none"))
    files = sorted(folder.glob("*.png"), key=lambda path: int(path.stem))[{start}:{stop}]
    pictures = [t.ImageFile(p.name, p, hashlib.sha256(p.read_bytes()).hexdigest(), 1) for p in files]
    t.FeatureStore(folder / "store").bank(pictures, t.views(t.FLIP), t.FLIP, t.EncoderSpec(found, t.SIZE))
    print(counting.encoded)
    assert not {{"torch", "timm"}} & set(sys.modules)
"""


def _worker(folder: Path, start: int, stop: int, seconds: float) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parent)
    code = textwrap.dedent(WORKER).format(tests=tests, folder=str(folder), start=start, stop=stop, seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_kill_loses_at_most_a_chunk(pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path):
    worker = _worker(tmp_path, 0, 100, 0.02)
    for _ in range(12):
        assert worker.stdout.readline() == "encoding\n"
    worker.send_signal(signal.SIGKILL)
    worker.wait(30)
    worker.stdout.close()
    bank = FeatureStore(tmp_path / "store").bank(pictures, views(FLIP), FLIP, spec)
    _check(bank, pictures, FLIP)
    assert counting.encoded <= 200 - (12 - 2 * 2 - 3) * 8  # but for those in the hands of the threads or waiting


def test_two_processes_share_the_work_without_harm(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path
):
    workers = [_worker(tmp_path, start, stop, 0.01) for start, stop in ((0, 70), (30, 100))]
    outputs = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(int(output[-1]) for output in outputs) == 200  # nothing twice
    bank = FeatureStore(tmp_path / "store").bank(pictures, views(FLIP), FLIP, spec)
    _check(bank, pictures, FLIP)
    assert counting.opened == 0


def test_a_reader_need_not_wait_for_a_writer(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = FeatureStore(tmp_path / "store")
    store.bank(pictures[:10], views(FLIP), FLIP, spec)
    go_on, writing = threading.Event(), threading.Event()

    def waits(images: np.ndarray) -> np.ndarray:
        writing.set()
        assert go_on.wait(30)
        return _corners(images)

    monkeypatch.setattr(counting, "encode", waits)
    writer = threading.Thread(target=store.bank, args=(pictures, views(FLIP), FLIP, spec))
    writer.start()
    assert writing.wait(30)
    _check(store.bank(pictures[:10], views(FLIP), FLIP, spec), pictures[:10], FLIP)
    go_on.set()
    writer.join(30)
    _check(store.bank(pictures, views(FLIP), FLIP, spec), pictures, FLIP)


def test_rows_are_on_the_disk_before_the_index_names_them(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    FeatureStore(tmp_path / "store").bank(pictures, views(FLIP), FLIP, spec)
    assert synced == [(64, 0), (128, 64), (192, 128), (200, 192)]


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_the_whole_way_from_files_to_features(engine: str, pictures: list[ImageFile], tmp_path: Path):
    import timm
    import torch

    from aimonk_bench.backbones import network as networks

    found = weights.resolve(BackboneConfig(name="tf_efficientnet_lite0"))
    spec = EncoderSpec(found, SIZE, engine)
    bank = FeatureStore(tmp_path / "store").bank(pictures[:5], views(FLIP), FLIP, spec)
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    network.load_state_dict(networks.build(found, SIZE).network.state_dict())
    wanted = np.zeros((2, 5, 1280), np.float32)
    for n, picture in enumerate(pictures[:5]):
        image = decode(picture.path.read_bytes(), SIZE, "bicubic")
        for v, seen in enumerate([image, image[:, ::-1]]):
            normalised = (torch.from_numpy(seen.copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
            with torch.inference_mode():
                wanted[v, n] = network(normalised).numpy()
    difference = np.abs(bank.rows[bank.index] - wanted).max()
    assert difference <= 1e-5 * np.abs(wanted).max()
    assert bank.engine == engine
    assert not np.allclose(wanted[0], wanted[1], atol=1e-2)


def test_decoding_goes_on_while_the_encoder_works(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    monkeypatch.setattr(features, "decode", slow_decode)
    monkeypatch.setattr(counting, "encode", encode)
    FeatureStore(tmp_path / "store").bank(pictures, views(FLIP), FLIP, spec)
    assert len(decoded) == len(pictures)  # both views from one decode
    assert sum(during) > 0


def test_some_are_decoded_while_the_encoder_is_opened_but_not_all(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    decoded: list[object] = []

    def noted(*args: object, **options: bool) -> np.ndarray:
        decoded.append(args)
        return decode(*args, **options)

    def opening(*args: object) -> Callable[[np.ndarray], np.ndarray]:
        deadline = time.monotonic() + 20
        while len(decoded) < wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        seen.append(len(decoded))
        return counting(*args)

    monkeypatch.setattr(features, "decode", noted)
    monkeypatch.setattr(encoders, "open_encoder", opening)
    seen, wanted = [], features.AHEAD
    FeatureStore(tmp_path / "store").bank(pictures, views(FLIP), FLIP, spec)
    assert wanted <= seen[0] <= wanted + spec.batch < len(pictures)


def test_threads_add_up_to_the_cores(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    monkeypatch.setattr(features, "cores", lambda: 3)
    monkeypatch.setattr(features, "decode", busy(decode))
    monkeypatch.setattr(counting, "encode", busy(encode))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        FeatureStore(tmp_path / "store").bank(pictures, views(FLIP), FLIP, spec)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert max(most) == 3
    assert set(inside) == {1}


def test_features_can_be_stored_as_float16(
    pictures: list[ImageFile], spec: EncoderSpec, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, half = FeatureStore(tmp_path / "store"), dataclasses.replace(spec, dtype="float16")
    bank, full = (store.bank(pictures, views(FLIP), FLIP, own) for own in (half, spec))
    assert bank.rows.dtype == np.float16
    assert half.digest != spec.digest
    np.testing.assert_array_equal(bank.rows[bank.index], full.rows[full.index].astype(np.float16))
    again = store.bank(pictures[:50], views(FLIP), FLIP, half)
    np.testing.assert_array_equal(again.rows[again.index], bank.rows[bank.index[:, :50]])
    monkeypatch.setattr(counting, "encode", lambda images: _corners(images) * 1e4)
    with pytest.raises(RunFailed, match="float16 cannot hold features of resnet18"):
        store.bank([_picture(tmp_path / "new.png", _noise(500))], views(FLIP), FLIP, half)


def test_rows_that_would_not_fit_are_refused_before_one_is_stored(
    pictures: list[ImageFile], spec: EncoderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, cut = FeatureStore(tmp_path / "store"), dataclasses.replace(spec, freeze="layer4")
    size = 2 * 100 * 2 * 2 * 256 * 4  # two views of a hundred pictures, 2 x 2 maps of 256 channels in float32
    monkeypatch.setenv("AIMONK_BENCH_BUDGET_GB", str(0.5e-3))
    message = r"200 rows of 1024 \(before layer4, float32\) take 0\.8192 MB, AIMONK_BENCH_BUDGET_GB allows 0\.5 MB: use"
    with pytest.raises(RunFailed, match=message):
        store.bank(pictures, views(FLIP), FLIP, cut)
    assert (store.root / "features" / cut.digest / "rows.f32").stat().st_size == 0
    monkeypatch.setenv("AIMONK_BENCH_BUDGET_GB", str((size - 1) / 1e9))
    with pytest.raises(RunFailed, match="a larger AIMONK_BENCH_BUDGET_GB"):
        store.bank(pictures, views(FLIP), FLIP, cut)
    monkeypatch.setenv("AIMONK_BENCH_BUDGET_GB", str(size / 1e9))
    assert store.bank(pictures, views(FLIP), FLIP, cut).rows.shape == (200, 1024)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, features.SPARE_BYTES))
    with pytest.raises(
        RunFailed, match=r"take 0\.8192 MB, 0 MB are free: use a later stage or backbone.dtype float16 or"
    ):
        store.bank(pictures, views(BOTH), BOTH, cut)
    assert len(store.bank(pictures, views(FLIP), FLIP, cut).rows) == 200  # what is there needs no room


@pytest.mark.parametrize("budget", ["plenty", "-1", "nan", "inf", "-inf", ""])
def test_a_budget_that_is_none_is_refused_at_once(budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIMONK_BENCH_BUDGET_GB", budget)
    with pytest.raises(UserError, match=f"AIMONK_BENCH_BUDGET_GB: found '{budget}', expected a number of gigabytes"):
        FeatureStore(tmp_path)
    monkeypatch.setenv("AIMONK_BENCH_BUDGET_GB", "0")
    FeatureStore(tmp_path)


def test_pixels_are_stored_as_they_are_decoded(pictures: list[ImageFile], spec: EncoderSpec, tmp_path: Path):
    bank = FeatureStore(tmp_path / "store").bank(pictures, UNAUGMENTED, FLIP, dataclasses.replace(spec, freeze="none"))
    assert (bank.rows.dtype, bank.rows.shape) == (np.uint8, (100, SIZE * SIZE * 3))
    for n, picture in enumerate(pictures):
        image = decode(picture.path.read_bytes(), SIZE, "bilinear")
        np.testing.assert_array_equal(bank.rows[bank.index[0, n]].reshape(image.shape), image)
