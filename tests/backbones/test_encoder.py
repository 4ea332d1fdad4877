from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import timm
import torch

from aimonk_bench.backbones import catalog, weights
from aimonk_bench.backbones import encoder as encoders
from aimonk_bench.backbones import network as networks
from aimonk_bench.backbones.encoder import EncoderSpec, open_encoder, read_record
from aimonk_bench.config.fields import BackboneConfig
from aimonk_bench.errors import RunFailed, UserError

LITE0 = "tf_efficientnet_lite0"
SMALL = "test_resnet"  # timm has it for tests: quick to build and to export
SIZE = 64


def _spec(name: str = SMALL, **options: object) -> EncoderSpec:
    kind = "imagenet" if name == LITE0 else "none"
    return EncoderSpec(weights.resolve(BackboneConfig(name=name, weights=kind)), **{"size": SIZE, **options})


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, SIZE, SIZE, 3), np.uint8)


def _naive(spec: EncoderSpec, pictures: np.ndarray) -> np.ndarray:
    """One picture at a time, normalised as timm does it."""
    network = networks.build(spec.weights, spec.size).network
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.weights.entry.mean, spec.weights.entry.std))
    with torch.inference_mode():
        rows = [network(((torch.from_numpy(p).permute(2, 0, 1) / 255 - mean) / std)[None])[0] for p in pictures]
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
@pytest.mark.parametrize("name", [LITE0, "test_vit", "test_convnext"])
def test_features_are_those_of_the_network_alone(name: str, engine: str, pictures: np.ndarray, tmp_path: Path):
    spec = _spec(name, engine=engine)
    wanted = _naive(spec, pictures)
    found = open_encoder(spec, tmp_path, pictures)(pictures)
    assert found.dtype == np.float32
    assert encoders.disagreement(wanted, found) < 1e-5
    record = read_record(tmp_path)
    assert (record.engine, record.features, record.reason) == (engine, wanted.shape[1], None)
    again = open_encoder(spec, tmp_path, pictures)(pictures)
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_a_picture_has_the_same_bits_whatever_is_encoded_with_it(engine: str, pictures: np.ndarray, tmp_path: Path):
    encode = open_encoder(_spec(engine=engine), tmp_path, pictures)
    together = encode(pictures)
    np.testing.assert_array_equal(together, np.concatenate([encode(picture[None]) for picture in pictures]))
    np.testing.assert_array_equal(together[::-1], encode(pictures[::-1]))


def test_once_made_the_folder_needs_no_torch(pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wanted = open_encoder(_spec(), tmp_path, pictures)(pictures)
    monkeypatch.setattr(networks, "build", lambda *_: pytest.fail("built"))
    np.testing.assert_array_equal(open_encoder(_spec(), tmp_path, pictures)(pictures), wanted)


def test_a_removed_export_is_made_again(pictures: np.ndarray, tmp_path: Path):
    wanted = open_encoder(_spec(), tmp_path, pictures)(pictures)
    (tmp_path / "model.onnx").unlink()
    np.testing.assert_array_equal(open_encoder(_spec(), tmp_path, pictures)(pictures), wanted)


def test_a_damaged_export_is_made_again(pictures: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    wanted = open_encoder(_spec(), tmp_path, pictures)(pictures)
    model = tmp_path / "model.onnx"
    content = model.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"junk"):
        model.write_bytes(damaged)
        caplog.clear()
        np.testing.assert_array_equal(open_encoder(_spec(), tmp_path, pictures)(pictures), wanted)
        assert "model.onnx cannot be used and is made again: " in caplog.text
    assert len(model.read_bytes()) == len(content)


def _off_by(factor: float) -> Callable[[Path], encoders.Run]:
    honest = encoders.onnx_run

    def wrong(model: Path) -> encoders.Run:
        run = honest(model)
        return lambda pictures: run(pictures) * factor

    return wrong


def _broken(*_: object) -> None:
    raise ValueError("Unsupported:\noperator nonsense")


@pytest.mark.parametrize(
    ("module", "name", "fault", "reason"),
    [
        (encoders, "onnx_run", _off_by(1.002), "onnxruntime differs from torch by 2.0e-03 of the largest feature"),
        (encoders, "onnx_run", _off_by(float("nan")), "onnxruntime differs from torch by inf"),
        (networks, "export", _broken, "ValueError: Unsupported: operator nonsense"),
    ],
)
def test_an_engine_that_fails_is_replaced_or_refused(
    module: object,
    name: str,
    fault: object,
    reason: str,
    pictures: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(module, name, fault)
    with pytest.raises(RunFailed, match=f"engine: onnxruntime: {reason}"):
        open_encoder(_spec(engine="onnxruntime"), tmp_path, pictures)
    assert read_record(tmp_path) is None
    found = open_encoder(_spec(), tmp_path, pictures)(pictures)
    monkeypatch.undo()
    assert f"{SMALL}: encoding with torch, several times slower: {reason}" in caplog.text
    record = read_record(tmp_path)
    assert record.engine == "torch"
    assert reason in record.reason
    caplog.clear()
    np.testing.assert_array_equal(open_encoder(_spec(), tmp_path, pictures)(pictures), found)
    assert f"several times slower: {reason}" in caplog.text  # who adds pictures later is told too
    assert encoders.disagreement(_naive(_spec(), pictures), found) < 1e-5


def test_while_others_decode_the_first_batch_takes_one_thread_of_torch(
    pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    inside: list[int] = []
    real = encoders.torch_run

    def noted(*given: object) -> Callable[[np.ndarray], np.ndarray]:
        run = real(*given)
        return lambda images: inside.append(torch.get_num_threads()) or run(images)

    monkeypatch.setattr(encoders, "torch_run", noted)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        open_encoder(_spec(), tmp_path, pictures)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert inside == [1]


def test_a_small_difference_is_recorded(pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoders, "onnx_run", _off_by(1.0005))
    open_encoder(_spec(), tmp_path, pictures)
    assert read_record(tmp_path).parity == pytest.approx(5e-4, rel=0.1)


def test_features_that_are_not_finite_fail_the_run(
    pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        encoders, "torch_run", lambda *_: lambda pictures: np.full((len(pictures), 2), np.nan, np.float32)
    )
    with pytest.raises(RunFailed, match="not finite"):
        open_encoder(_spec(engine="torch"), tmp_path, pictures)


def test_the_digest_knows_what_changes_a_feature(monkeypatch: pytest.MonkeyPatch):
    spec = _spec(LITE0)
    entry, found = spec.weights.entry, spec.weights
    others = [
        replace(spec, size=96),
        replace(spec, engine="torch"),
        replace(spec, engine="torch", device="cuda"),
        replace(spec, weights=replace(found, sha256="unavailable")),
        *(
            replace(spec, weights=replace(found, entry=replace(entry, **{field: value})))
            for field, value in {
                "timm": "x",
                "mean": (0, 0, 0),
                "std": (1, 1, 1),
                "interpolation": "bilinear",
            }.items()
        ),
    ]
    others += [replace(spec, dtype="float16"), replace(spec, decode="fast")]
    digests = {other.digest for other in [spec, *others]}
    assert len(digests) == 1 + len(others)
    monkeypatch.setattr(encoders, "DECODE_REVISION", 10**6)
    assert replace(spec).digest not in digests


def test_the_digest_knows_nothing_else():
    spec = _spec()
    moved = replace(spec.weights, file=Path("elsewhere"), requested="resnet18", source="cache", licence=None)
    assert replace(spec, weights=moved).digest == spec.digest
    assert replace(spec, engine="onnxruntime").digest == spec.digest
    assert len(spec.digest) == 64
    json.dumps(spec.identity)


def test_auto_is_torch_where_there_is_a_graphics_card():
    assert [_spec(device=device).first for device in ("cpu", "cuda", "cuda:1")] == ["onnxruntime", "torch", "torch"]
    assert replace(_spec(), device="cuda").digest == replace(_spec(), device="cuda:1").digest
    assert encoders.pick_device("cpu") == "cpu"
    with pytest.raises(UserError, match=r"train\.device: found 'cuda:99', expected auto or a device of this machine"):
        encoders.pick_device("cuda:99")


@pytest.mark.parametrize(("driver", "card", "device"), [(None, True, "cpu"), ("x", False, "cpu"), ("x", True, "cuda")])
def test_the_device_is_cuda_where_driver_and_torch_say_so(
    driver: str | None, card: bool, device: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(encoders.ctypes.util, "find_library", lambda name: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    assert encoders.pick_device.__wrapped__("auto") == device  # it is asked once


def test_the_threads_of_onnxruntime_neither_multiply_nor_spin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    opened: list[onnxruntime.SessionOptions] = []
    session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name="pictures")])

    def open_session(model: str, options: onnxruntime.SessionOptions, providers: list[str]) -> SimpleNamespace:
        opened.append(options)
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    encoders.onnx_run(tmp_path / "model.onnx")
    assert (opened[0].intra_op_num_threads, opened[0].inter_op_num_threads) == (1, 1)
    for pool in ("intra_op", "inter_op"):
        assert opened[0].get_session_config_entry(f"session.{pool}.allow_spinning") == "0"


def test_disagreement_is_relative_to_the_largest_feature():
    a = np.array([[1.0, -4.0]], np.float32)
    assert encoders.disagreement(a, a + np.float32(0.5)) == 0.125
    assert encoders.disagreement(0 * a, 0 * a) == 0
    assert encoders.disagreement(0 * a, a) == encoders.disagreement(a, a[:, :1]) == float("inf")


def test_a_network_asked_for_a_size_gets_it(tmp_path: Path):
    spec = _spec("test_vit", size=96, engine="torch")
    pictures = np.zeros((1, 96, 96, 3), np.uint8)
    assert open_encoder(spec, tmp_path, pictures)(pictures).shape == (1, 64)


def _stages(name: str) -> list[str]:
    """Of the catalog's stages all in full, else the first, one between and the last."""
    stages = catalog.CATALOG[name].stages
    return list(stages if os.environ.get("AIMONK_BENCH_FULL") else stages[:: max(1, len(stages) - 1)])


SOME = ["resnet18", LITE0, "mobilenetv3_small", "convnext_atto", "regnety_004", "vit_tiny"]  # one of a family


@pytest.mark.parametrize("name", list(catalog.CATALOG) if os.environ.get("AIMONK_BENCH_FULL") else SOME)
def test_the_parts_of_a_network_give_what_the_whole_gives(name: str):
    entry = catalog.CATALOG[name]
    size = 16 * entry.multiple if entry.multiple > 4 else 224 if entry.fixed else SIZE
    found = weights.resolve(BackboneConfig(name=name, weights="none"))
    pixels = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        whole = networks.build(found, size)(pixels)
        for stage in _stages(name):
            lower, upper = networks.build(found, size, stage), networks.build_trainable(found, size, stage)
            rows = lower(pixels)
            assert rows.ndim == 2
            torch.testing.assert_close(upper.eval()(rows), whole, rtol=1e-4, atol=1e-5)
            assert all(parameter.requires_grad for parameter in upper.parameters())
            counts = [sum(p.numel() for p in part.parameters()) for part in (lower, upper)]
            assert min(counts) > 0  # nothing stands in both
            assert sum(counts) == sum(p.numel() for p in networks.build(found, size).parameters())
        everything = networks.build_trainable(found, size, "none").eval()
        torch.testing.assert_close(everything(pixels.flatten(1)), whole)


def test_the_stages_of_the_catalog_are_those_of_the_networks():
    for name in SOME:
        found = weights.resolve(BackboneConfig(name=name, weights="none"))
        stages = networks.stages(found.entry.timm)
        assert set(catalog.CATALOG[name].stages) <= set(stages), name


def test_a_network_that_cannot_be_split_there_says_so(monkeypatch: pytest.MonkeyPatch):
    found = weights.resolve(BackboneConfig(name="test_vit", weights="none"))
    with pytest.raises(UserError, match=r"backbone.freeze: found 'layer9', expected all, none or one of .*blocks\.1"):
        networks.build(found, 160, "layer9")
    forward = timm.models.VisionTransformer.forward
    monkeypatch.setattr(timm.models.VisionTransformer, "forward", lambda self, x: forward(self, x) + x.mean())
    message = r"test_vit cannot be cut before blocks\.1, because timm's network computes something outside its stages: "
    with pytest.raises(UserError, match=message + "use all, none or another stage"):
        networks.build(found, 160, "blocks.1")
    monkeypatch.setattr(
        timm.models.VisionTransformer, "forward", lambda self, x: (self.blocks[1].attn, forward(self, x))[1]
    )
    with pytest.raises(UserError, match=message):
        networks.build(found, 160, "blocks.1")


def test_nothing_in_a_tail_draws_random_numbers():
    found = weights.resolve(BackboneConfig(name="swin_tiny", weights="none"))
    tail = networks.build_trainable(found, 224, "layers.3").train()
    rows = torch.randn(2, 14 * 14 * 384)
    with torch.no_grad():
        assert torch.equal(tail(rows), tail(rows))


def test_pixels_are_shared_by_networks_and_runs_are_not():
    one, other = (_spec(name, freeze="none") for name in (SMALL, LITE0))
    shared = replace(other, weights=replace(other.weights, entry=replace(other.weights.entry, interpolation="bicubic")))
    assert one.identity.keys() == {"boundary", "size", "interpolation", "background", "decode", "dtype"}
    assert (one.digest == shared.digest) == (one.identity["interpolation"] == "bicubic")
    assert one.run_digest != shared.run_digest
    assert replace(one, device="cuda").run_digest != one.run_digest
    assert replace(one, device="cuda").digest == one.digest
    frozen = _spec()
    assert frozen.run_digest == frozen.digest


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_an_encoder_that_ends_before_a_stage(engine: str, pictures: np.ndarray, tmp_path: Path):
    spec = _spec("resnet18", engine=engine, freeze="layer4")
    rows = open_encoder(spec, tmp_path, pictures)(pictures)
    assert rows.shape == (11, 4 * 4 * 256)
    tail = networks.build_trainable(spec.weights, SIZE, "layer4").eval()
    with torch.inference_mode():
        found = tail(torch.from_numpy(rows)).numpy()
    assert encoders.disagreement(_naive(_spec("resnet18"), pictures), found) < 1e-4
    others = [_spec("resnet18", engine=engine, freeze=freeze).digest for freeze in ("all", "layer3", "none")]
    assert len({spec.digest, *others}) == 4


def test_where_nothing_is_frozen_pixels_are_stored(pictures: np.ndarray, tmp_path: Path):
    spec = _spec("resnet18", freeze="none", dtype="float32")
    rows = open_encoder(spec, tmp_path, pictures)(pictures)
    np.testing.assert_array_equal(rows, pictures.reshape(11, -1))
    assert rows.dtype == np.uint8
    assert spec.stored == "uint8"
    assert read_record(tmp_path).features == SIZE * SIZE * 3
