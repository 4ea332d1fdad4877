from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aimonk_bench.backbones import encoder as encoders
from aimonk_bench.backbones import network, weights
from aimonk_bench.backbones.encoder import EncoderSpec, open_encoder, read_record
from aimonk_bench.config.fields import BackboneConfig
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.records.files import write_json

LITE0 = "tf_efficientnet_lite0"
SMALL = "test_resnet"  # timm has it for tests: quick to build and to export
SIZE = 64


def _spec(name: str = SMALL, **options: object) -> EncoderSpec:
    kind = "imagenet" if name == LITE0 else "none"
    return EncoderSpec(weights.resolve(BackboneConfig(name=name, weights=kind)), **{"size": SIZE, **options})


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, SIZE, SIZE, 3), np.uint8)


def _naive(spec: EncoderSpec, images: np.ndarray) -> np.ndarray:
    """One image at a time, normalised as timm does it."""
    model = network.build(spec.weights, spec.size).network
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.weights.entry.mean, spec.weights.entry.std))
    with torch.inference_mode():
        rows = [model(((torch.from_numpy(p).permute(2, 0, 1) / 255 - mean) / std)[None])[0] for p in images]
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
@pytest.mark.parametrize("name", [LITE0, "test_vit", "test_convnext"])
def test_features_are_those_of_the_network_alone(name: str, engine: str, images: np.ndarray, tmp_path: Path):
    spec = _spec(name, engine=engine)
    expected = _naive(spec, images)
    features = open_encoder(spec, tmp_path, images)(images)
    assert features.dtype == np.float32
    assert encoders.disagreement(expected, features) < 1e-5
    record = read_record(tmp_path)
    assert (record.engine, record.features, record.reason) == (engine, expected.shape[1], None)
    again = open_encoder(spec, tmp_path, images)(images)
    np.testing.assert_array_equal(features, again)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_an_image_has_the_same_bits_whatever_is_encoded_with_it(engine: str, images: np.ndarray, tmp_path: Path):
    encode = open_encoder(_spec(engine=engine), tmp_path, images)
    together = encode(images)
    np.testing.assert_array_equal(together, np.concatenate([encode(image[None]) for image in images]))
    np.testing.assert_array_equal(together[::-1], encode(images[::-1]))


def test_an_exported_network_needs_no_torch(images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = open_encoder(_spec(), tmp_path, images)(images)
    monkeypatch.setattr(network, "build", lambda *_: pytest.fail("built"))
    np.testing.assert_array_equal(open_encoder(_spec(), tmp_path, images)(images), expected)


def test_a_removed_export_is_made_again(images: np.ndarray, tmp_path: Path):
    expected = open_encoder(_spec(), tmp_path, images)(images)
    (tmp_path / "model.onnx").unlink()
    np.testing.assert_array_equal(open_encoder(_spec(), tmp_path, images)(images), expected)


def test_a_damaged_export_is_made_again(images: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    expected = open_encoder(_spec(), tmp_path, images)(images)
    model = tmp_path / "model.onnx"
    content = model.read_bytes()
    middle = len(content) // 2  # of the weights: with one bit changed it loads, and gives other features
    flipped = content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :]
    for damaged in (content[:middle], b"", b"junk", flipped):
        model.write_bytes(damaged)
        caplog.clear()
        np.testing.assert_array_equal(open_encoder(_spec(), tmp_path, images)(images), expected)
        assert "model.onnx cannot be used and is made again: " in caplog.text
    assert len(model.read_bytes()) == len(content)


def test_an_export_without_its_checksum_is_made_again(
    images: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """As a kill leaves it that came after the model and before the record, and as earlier versions did."""
    expected = open_encoder(_spec(), tmp_path, images)(images)
    record, model = read_record(tmp_path), tmp_path / "model.onnx"
    assert record.model_sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    for other in (None, "0" * 64):
        write_json(tmp_path / "encoder.json", asdict(replace(record, model_sha256=other)))
        caplog.clear()
        np.testing.assert_array_equal(open_encoder(_spec(), tmp_path, images)(images), expected)
        assert "model.onnx cannot be used and is made again: " in caplog.text
        assert read_record(tmp_path).model_sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    caplog.clear()
    open_encoder(_spec(), tmp_path, images)
    assert caplog.text == ""


def _off_by(factor: float) -> Callable[[Path], encoders.Run]:
    honest = encoders.onnx_run

    def wrong(model: Path) -> encoders.Run:
        run = honest(model)
        return lambda images: run(images) * factor

    return wrong


def _broken(*_: object) -> None:
    raise ValueError("Unsupported:\noperator nonsense")


@pytest.mark.parametrize(
    ("module", "name", "fault", "reason"),
    [
        (encoders, "onnx_run", _off_by(1.002), "onnxruntime differs from torch by 2.0e-03 of the largest feature"),
        (encoders, "onnx_run", _off_by(float("nan")), "onnxruntime differs from torch by nan"),
        (network, "export", _broken, "ValueError: Unsupported: operator nonsense"),
    ],
)
def test_an_engine_that_fails_is_replaced_or_refused(
    module: object,
    name: str,
    fault: object,
    reason: str,
    images: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(module, name, fault)
    with pytest.raises(RunFailed, match=f"engine: onnxruntime: {reason}"):
        open_encoder(_spec(engine="onnxruntime"), tmp_path, images)
    assert read_record(tmp_path) is None
    features = open_encoder(_spec(), tmp_path, images)(images)
    monkeypatch.undo()
    assert f"{SMALL}: encoding with torch, several times slower: {reason}" in caplog.text
    record = read_record(tmp_path)
    assert record.engine == "torch"
    assert reason in record.reason
    caplog.clear()
    np.testing.assert_array_equal(open_encoder(_spec(), tmp_path, images)(images), features)
    assert f"several times slower: {reason}" in caplog.text  # also when images are added later
    assert encoders.disagreement(_naive(_spec(), images), features) < 1e-5


def test_a_small_difference_is_recorded(images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoders, "onnx_run", _off_by(1.0005))
    open_encoder(_spec(), tmp_path, images)
    assert read_record(tmp_path).parity == pytest.approx(5e-4, rel=0.1)


def test_features_that_are_not_finite_fail_the_run(images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoders, "torch_run", lambda *_: lambda images: np.full((len(images), 2), np.nan, np.float32))
    with pytest.raises(RunFailed, match=r"not finite with the weights .*; fix: other weights"):
        open_encoder(_spec(engine="torch"), tmp_path, images)


def test_the_digest_changes_with_whatever_changes_a_feature(monkeypatch: pytest.MonkeyPatch):
    spec = _spec(LITE0)
    entry = spec.weights.entry
    others = [
        replace(spec, size=96),
        replace(spec, engine="torch"),
        replace(spec, engine="torch", device="cuda"),
        replace(spec, weights=replace(spec.weights, sha256="unavailable")),
        *(
            replace(spec, weights=replace(spec.weights, entry=replace(entry, **{field: value})))
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


def test_the_digest_depends_on_nothing_else():
    spec = _spec()
    licensed = replace(spec.weights.entry, licence="other")
    moved = replace(spec.weights, file=Path("elsewhere"), requested="resnet18", source="cache", entry=licensed)
    assert replace(spec, weights=moved).digest == spec.digest
    assert replace(spec, engine="onnxruntime").digest == spec.digest
    assert len(spec.digest) == 64
    json.dumps(spec.identity)


def test_auto_prefers_torch_on_a_gpu():
    assert [_spec(device=device).preferred_engine for device in ("cpu", "cuda", "cuda:1")] == [
        "onnxruntime",
        "torch",
        "torch",
    ]
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


def test_disagreement_is_relative_to_the_largest_feature():
    a = np.array([[1.0, -4.0]], np.float32)
    assert encoders.disagreement(a, a + np.float32(0.5)) == 0.125
    assert encoders.disagreement(0 * a, 0 * a) == 0
    assert encoders.disagreement(0 * a, a) > 1e30
    assert np.isnan(encoders.disagreement(a, a * np.nan))
    with pytest.raises(ValueError, match="expected"):
        encoders.disagreement(a, a[:, :1])


def test_a_network_asked_for_a_size_gets_it(tmp_path: Path):
    spec = _spec("test_vit", size=96, engine="torch")
    images = np.zeros((1, 96, 96, 3), np.uint8)
    assert open_encoder(spec, tmp_path, images)(images).shape == (1, 64)


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
def test_an_encoder_that_ends_before_a_stage(engine: str, images: np.ndarray, tmp_path: Path):
    spec = _spec("resnet18", engine=engine, freeze="layer4")
    rows = open_encoder(spec, tmp_path, images)(images)
    assert rows.shape == (11, 4 * 4 * 256)
    trainable = network.build_trainable(spec.weights, SIZE, "layer4").eval()
    with torch.inference_mode():
        features = trainable(torch.from_numpy(rows)).numpy()
    assert encoders.disagreement(_naive(_spec("resnet18"), images), features) < 1e-4
    others = [_spec("resnet18", engine=engine, freeze=freeze).digest for freeze in ("all", "layer3", "none")]
    assert len({spec.digest, *others}) == 4


def test_pixels_are_stored_where_no_layer_is_frozen(images: np.ndarray, tmp_path: Path):
    spec = _spec("resnet18", freeze="none", dtype="float32")
    rows = open_encoder(spec, tmp_path, images)(images)
    np.testing.assert_array_equal(rows, images.reshape(11, -1))
    assert rows.dtype == np.uint8
    assert spec.stored_dtype == "uint8"
    assert read_record(tmp_path).features == SIZE * SIZE * 3


CHANGED = [
    (lambda rows: np.tile(rows, (1, 2)), "8 x 24576"),
    (lambda rows: np.tile(rows, (2, 1)), "16 x 12288"),
    (lambda rows: rows[:1], "1 x 12288"),
    (lambda rows: rows[:, :4], "8 x 4"),
    (lambda rows: rows[:, 0], "8"),
]


@pytest.mark.parametrize(("change", "found"), CHANGED)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_network_whose_output_changes_its_shape_fails(
    is_first: bool,
    change: Callable[[np.ndarray], np.ndarray],
    found: str,
    images: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    flat, layers = (lambda batch: batch.reshape(len(batch), -1).astype(np.float32)), iter([])
    monkeypatch.setattr(network, "build", lambda *_: None)
    monkeypatch.setattr(encoders, "torch_run", lambda *_: lambda batch: next(layers, flat)(batch))
    spec = _spec(engine="torch")
    open_encoder(spec, tmp_path, images)
    encode = open_encoder(spec, tmp_path, images)  # by the record, as of a second run
    layers = iter([flat] * (not is_first) + [lambda batch: change(flat(batch))])
    with pytest.raises(RunFailed, match=f"the network gave {found} features, expected 8 x 12288"):
        encode(images)


class _Hungry(torch.nn.Module):
    """Pixels summed by colour, with memory for some images at once."""

    def __init__(self, most: int, error: RuntimeError) -> None:
        super().__init__()
        self.most, self.error, self.calls = most, error, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(images))
        if len(images) > self.most:
            raise self.error
        return images.sum((1, 2), dtype=torch.float32)


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("error", [FULL, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `...`")])
def test_out_of_memory_halves_the_images_at_once_and_says_so(
    error: RuntimeError, images: np.ndarray, caplog: pytest.LogCaptureFixture
):
    layers = _Hungry(3, error)
    encode = encoders.Encoder(encoders.torch_run(layers, "cpu"), batch_size=8)
    np.testing.assert_array_equal(encode(images), images.sum((1, 2), dtype=np.float32))
    assert layers.calls == [8, 4, 2, 2, 2, 2, *[2] * 4], "it stays at what fits"
    assert caplog.messages == [
        "CUDA out of memory: encoding 4 instead of 8 images at once",
        "CUDA out of memory: encoding 2 instead of 4 images at once",
    ]


@pytest.mark.parametrize("error", [FULL, RuntimeError("CUDA error: an illegal memory access was encountered")])
def test_an_image_for_which_there_is_no_memory_and_other_errors_fail(error: RuntimeError, images: np.ndarray):
    layers = _Hungry(0, error)
    with pytest.raises(RuntimeError, match="CUDA"):
        encoders.torch_run(layers, "cpu")(images[:4])
    assert layers.calls == ([4, 2, 1] if error is FULL else [4])
