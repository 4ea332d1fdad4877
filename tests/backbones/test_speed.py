"""The speed of an encoder: what is measured, once, and where it is read back."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import pytest

from aimonk_bench.backbones import speed, weights
from aimonk_bench.backbones.encoder import EncoderSpec, Record, read_record
from aimonk_bench.config.fields import BackboneConfig
from aimonk_bench.records.files import write_json

BATCH = 8  # images, on a CPU


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "cores", lambda: 2)


def _spec(name: str = "resnet18", size: int = 32, freeze: str = "all") -> EncoderSpec:
    return EncoderSpec(weights.resolve(BackboneConfig(name=name, weights="none")), size, freeze=freeze)


def _store(root: Path, spec: EncoderSpec, measured: float | None = None) -> Path:
    folder = root / "features" / spec.digest
    folder.mkdir(parents=True)
    write_json(folder / "encoder.json", asdict(Record(spec.identity, "onnxruntime", 512, 0.0, None, measured)))
    return folder


@pytest.mark.parametrize(
    ("timed", "expected"),
    [
        ([(BATCH, 9.0)] + [(BATCH, 0.5)] * 8, 2 * 8 / 0.5),  # two threads; the first batch warms up
        ([(BATCH, 9.0)] + [(BATCH, 0.5)] * 7, None),  # too few for two threads
        ([(BATCH, 0.5)] * 8, None),
        ([(2 * BATCH, 9.0)] + [(2 * BATCH, 0.5)] * 8, 2 * 16 / 0.5),  # several views of an image
        ([(BATCH, 9.0)] + [(BATCH, 0.5)] * 8 + [(3, 0.5)], 2 * 8 / 0.5),  # a padded batch costs as much as a full one
        ([], None),
        ([(BATCH, 9.0)] + [(BATCH, math.nan)] * 8, None),  # encoded on other machines
    ],
)
def test_full_batches_after_the_first_are_measured(
    timed: list[speed.Timed], expected: float | None, tmp_path: Path
) -> None:
    folder = _store(tmp_path, _spec())
    speed.keep(folder, _spec(), timed)
    record = read_record(folder)
    assert record is not None
    assert (record.images_per_second, record.engine, record.features) == (expected, "onnxruntime", 512)
    assert record.identity["network"] == _spec().identity["network"]


def test_an_encoder_is_measured_once_and_pixels_never(tmp_path: Path) -> None:
    folder = _store(tmp_path / "a", _spec(), 7.0)
    speed.keep(folder, _spec(), [(BATCH, 1.0)] * 20)
    assert read_record(folder).images_per_second == 7.0
    pixels = _spec(freeze="none")
    folder = _store(tmp_path / "b", pixels)
    speed.keep(folder, pixels, [(BATCH, 1.0)] * 20)
    assert read_record(folder).images_per_second is None
    speed.keep(tmp_path, _spec(), [(BATCH, 1.0)] * 20)  # nothing could be decoded, so there is no record
    assert not (tmp_path / "encoder.json").exists()


def test_on_a_gpu_one_thread_encodes_at_a_time(tmp_path: Path) -> None:
    spec = replace(_spec(), device="cuda:0")
    folder = _store(tmp_path, spec)
    speed.keep(folder, spec, [(spec.batch_size, 0.5)] * 5)
    assert read_record(folder).images_per_second == spec.batch_size / 0.5


def test_on_a_cpu_other_processes_do_not_count() -> None:
    assert speed.clock(_spec()) is time.thread_time
    assert speed.clock(replace(_spec(), device="cuda:0")) is time.perf_counter
    assert speed.clock(replace(_spec(), engine="torch")) is time.thread_time


def test_the_store_knows_the_speed_of_whole_networks_at_each_size(tmp_path: Path) -> None:
    assert speed.speeds(tmp_path) == {}
    _store(tmp_path, _spec(), 30.0)
    _store(tmp_path, replace(_spec(), white=4095), 40.0)
    _store(tmp_path, replace(_spec(), decode="fast"))
    _store(tmp_path, _spec(size=64), 10.0)
    _store(tmp_path, _spec(freeze="layer4"), 90.0)
    _store(tmp_path, _spec("resnet34"), 20.0)
    older = _store(tmp_path, _spec("resnet50"), 99.0) / "encoder.json"
    older.write_text(older.read_text().replace(f"timm {version('timm')}", "timm 0.1"))
    (_store(tmp_path, _spec("resnet50", 64), 99.0) / "encoder.json").write_text("{")
    assert speed.speeds(tmp_path) == {
        ("resnet18.tv_in1k", 32): 40.0,
        ("resnet18.tv_in1k", 64): 10.0,
        ("resnet34.tv_in1k", 32): 20.0,
    }


def test_encoders_that_do_the_same_work_tell_its_speed_and_width(tmp_path: Path) -> None:
    assert speed.measured(tmp_path, _spec()) == speed.Measured(None, None)
    _store(tmp_path, replace(_spec(), white=4095))
    assert speed.measured(tmp_path, _spec()) == speed.Measured(512, None)
    _store(tmp_path, _spec(), 30.0)
    _store(tmp_path, replace(_spec(), decode="fast"), 40.0)
    _store(tmp_path, _spec(size=64), 90.0)
    _store(tmp_path, _spec(freeze="layer4"), 91.0)
    _store(tmp_path, replace(_spec(), engine="torch"), 92.0)
    (_store(tmp_path, _spec("resnet34"), 93.0) / "encoder.json").write_text("{")
    assert speed.measured(tmp_path, _spec()) == speed.Measured(512, 40.0)
    assert speed.measured(tmp_path, _spec("resnet34")) == speed.Measured(None, None), "damaged"
