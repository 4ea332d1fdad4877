"""The network that is built, the weights that fit it, and the cut between frozen and trainable layers."""

from __future__ import annotations

import gc
import os
import pickle
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from aimonk_bench.backbones import catalog, loading, network, weights
from aimonk_bench.backbones.catalog import CATALOG
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.config.fields import BackboneConfig
from aimonk_bench.errors import UserError

LITE0 = "tf_efficientnet_lite0"
SMALL = "test_resnet"  # a network of timm for tests, 1.9 MB
FULL = bool(os.environ.get("AIMONK_BENCH_FULL"))
ONE_OF_A_FAMILY = ["resnet18", LITE0, "mobilenetv3_small", "convnext_atto", "regnety_004", "vit_tiny"]


def _resolved(name: str, kind: object = "none") -> Weights:
    return weights.resolve(BackboneConfig(name=name, weights=str(kind)))


def _timm(name: str, seed: int = 1, **options: object) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return timm.create_model(name, pretrained=False, **options).eval()


def _features(model: torch.nn.Module, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        return model(torch.rand(2, 3, size, size, generator=generator))


def test_every_tensor_of_a_weight_package_is_used():
    resolved = _resolved(LITE0, "imagenet")
    theirs = torch.load(resolved.file, weights_only=True)
    theirs = {key: value for key, value in theirs.items() if "num_batches" not in key}
    ours = network.build(resolved, 64).network.state_dict()
    ours = {key: value for key, value in ours.items() if "num_batches" not in key}
    assert (len(theirs), len(ours)) == (247, 245)  # the classifier has two
    assert all(torch.equal(a, b) for a, b in zip(ours.values(), theirs.values(), strict=False))


def test_the_weight_package_recognises_a_photograph():
    cbook = pytest.importorskip("matplotlib.cbook")
    cv2 = pytest.importorskip("cv2")
    resolved = _resolved(LITE0, "imagenet")
    state = loading._renamed(LITE0, timm.models.load_state_dict(resolved.file, weights_only=True))
    model = timm.create_model(LITE0).eval()
    model.load_state_dict(state, strict=True)
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        data = file.read()
    image = cv2.imdecode(torch.frombuffer(bytearray(data), dtype=torch.uint8).numpy(), cv2.IMREAD_COLOR_RGB)
    image = cv2.resize(image[40:552], (224, 224), interpolation=cv2.INTER_AREA)
    normalise = network.Normalise(resolved.entry.mean, resolved.entry.std)
    logits = network.FrozenLayers(normalise, model)(torch.from_numpy(image)[None])
    assert logits.argmax().item() == 652  # "military uniform"


def test_weights_none_are_timms_initialisation_under_seed_0_and_leave_the_global_generator_alone():
    resolved = _resolved(SMALL)
    state = torch.get_rng_state()
    first = _features(network.build(resolved, 64).network)
    torch.testing.assert_close(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert torch.equal(first, _features(network.build(resolved, 64).network))
    assert torch.equal(first, _features(_timm(SMALL, seed=0, num_classes=0)))


@pytest.mark.parametrize("layout", ["safetensors", "pth", "no classifier", "seven classes", "training checkpoint"])
def test_a_file_fits_if_all_but_the_classifier_does(layout: str, tmp_path: Path):
    model = _timm(SMALL, num_classes=7 if layout == "seven classes" else 1000)
    file = tmp_path / f"mine.{'safetensors' if layout == 'safetensors' else 'pth'}"
    state = model.state_dict()
    model.reset_classifier(0)
    if layout == "safetensors":
        save_file(state, file)
    elif layout == "training checkpoint":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, file)
    else:
        torch.save(model.state_dict() if layout == "no classifier" else state, file)
    assert torch.equal(_features(network.build(_resolved(SMALL, file), 64).network), _features(model))


def test_a_transformer_is_built_for_the_requested_size(tmp_path: Path):
    model = _timm("test_vit")  # for 160 x 160
    file = tmp_path / "vit.safetensors"
    save_file(model.state_dict(), file)
    model.reset_classifier(0)
    resolved = _resolved("test_vit", file)
    assert torch.equal(_features(network.build(resolved, 160).network, 160), _features(model, 160))
    smaller = network.build(resolved, 96).network
    assert _features(smaller, 96).shape == (2, model.num_features)
    assert torch.equal(smaller.blocks[0].mlp.fc1.weight, model.blocks[0].mlp.fc1.weight)


def test_tensors_that_timm_converts_are_said(tmp_path: Path):
    file = tmp_path / "vit.pth"
    torch.save(_timm("test_vit", img_size=96).state_dict(), file)  # the network's own size is 160
    [head, converted] = network.build(_resolved("test_vit", file), 160).notes
    assert head == "left out 2 tensors beside the network: head.weight, head.bias"
    assert "1 of another shape (pos_embed (1, 37, 64) instead of (1, 101, 64))" in converted


def _without_a_tensor(state: dict[str, torch.Tensor]) -> object:
    state.pop("layer1.0.conv1.weight")
    return state


def _with_one_more(state: dict[str, torch.Tensor]) -> object:
    return {**state, "layer9.weight": torch.zeros(3)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_a_tensor, r": 1 missing \(layer1.0.conv1.weight\)$"),
        (_with_one_more, r": 1 unexpected \(layer9.weight\)$"),
        (
            lambda state: {**state, "layer1.0.conv1.weight": torch.zeros(2, 3)},
            r": 1 of another shape \(layer1.0.conv1.weight \(2, 3\) instead of \(32, 32, 3, 3\)\)$",
        ),
        (
            lambda state: _timm("test_vit").state_dict(),
            r": \d+ missing \(\S+, \S+, \S+, \.\.\.\); \d+ unexpected \(cls_token, \S+, \S+, \.\.\.\)$",
        ),
        (lambda state: {}, "holds no tensors"),
        (lambda state: [1, 2], "not weights of"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error(spoil: Callable[[Any], object], message: str, tmp_path: Path):
    file = tmp_path / "mine.pth"
    torch.save(spoil(_timm(SMALL).state_dict()), file)
    with pytest.raises(UserError, match=f"mine.pth: these are not weights of {SMALL}.*") as error:
        network.build(_resolved(SMALL, file), 64)
    assert error.match(message)


def test_a_package_with_another_network_is_an_error():
    lite1 = replace(_resolved(LITE0, "imagenet"), entry=CATALOG["tf_efficientnet_lite1"])
    with pytest.raises(UserError, match="of 322 tensors agree with the 247 of the package"):
        network.build(lite1, 64)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("bomb"),)


def test_a_pickle_is_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.pth").write_bytes(pickle.dumps({"fc.weight": _Bomb()}))
    with pytest.raises(UserError, match="not weights of"):
        network.build(_resolved(SMALL, "./mine.pth"), 64)
    assert not Path("bomb").exists()


@pytest.mark.parametrize("name", list(CATALOG) if FULL else ["resnet18", LITE0, "vit_tiny"])
def test_frozen_and_trainable_layers_together_give_what_the_whole_network_gives(name: str):
    entry = CATALOG[name]
    size = 16 * entry.multiple if entry.multiple > 4 else 224 if entry.fixed else 64
    resolved = _resolved(name)
    pixels = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8)
    stages = entry.stages if FULL else entry.stages[:: max(1, len(entry.stages) - 1)]  # else the first and the last
    with torch.inference_mode():
        whole = network.build(resolved, size)
        expected = whole(pixels)
        for stage in stages:
            frozen, trainable = network.build(resolved, size, stage), network.build_trainable(resolved, size, stage)
            rows = frozen(pixels)
            assert rows.ndim == 2
            torch.testing.assert_close(trainable.eval()(rows), expected, rtol=1e-4, atol=1e-5)
            assert all(parameter.requires_grad for parameter in trainable.parameters())
            counts = [sum(p.numel() for p in layers.parameters()) for layers in (frozen, trainable)]
            assert min(counts) > 0
            assert sum(counts) == sum(p.numel() for p in whole.parameters())  # no parameter is in both
        everything = network.build_trainable(resolved, size, "none").eval()
        torch.testing.assert_close(everything(pixels.flatten(1)), expected)


def test_a_network_that_was_cut_is_freed():
    resolved = _resolved(SMALL)
    built = [network.build(resolved, 64, "layer4"), network.build_trainable(resolved, 64, "layer4")]
    alive = [weakref.ref(layers) for layers in built]
    built.clear()
    gc.collect()
    assert [layers() for layers in alive] == [None, None]


def test_the_stages_of_the_catalog_are_those_of_the_networks():
    for name in ONE_OF_A_FAMILY:
        assert set(CATALOG[name].stages) <= set(network.stages(CATALOG[name].timm)), name


def test_a_network_that_cannot_be_cut_there_says_so(monkeypatch: pytest.MonkeyPatch):
    resolved = _resolved("test_vit")
    with pytest.raises(UserError, match=r"backbone.freeze: found 'layer9', expected all, none or one of .*blocks\.1"):
        network.build(resolved, 160, "layer9")
    forward = timm.models.VisionTransformer.forward
    outside = lambda self, images: forward(self, images) + images.mean()  # noqa: E731
    untouchable = lambda self, images: (self.blocks[1].attn, forward(self, images))[1]  # noqa: E731
    for patched in (outside, untouchable):
        monkeypatch.setattr(timm.models.VisionTransformer, "forward", patched)
        with pytest.raises(UserError, match=r"test_vit cannot be cut before blocks\.1, .* use all, none or another"):
            network.build(resolved, 160, "blocks.1")


def test_trainable_layers_draw_no_random_numbers():
    layers = network.build_trainable(_resolved("swin_tiny"), 224, "layers.3").train()
    rows = torch.randn(2, 14 * 14 * 384)
    with torch.no_grad():
        assert torch.equal(layers(rows), layers(rows))


# One network for each way to read an image, and how many pixels it needs.
READERS = {
    "test_resnet": 64,
    "test_vit": 64,
    "test_convnext": 64,
    "convmixer_768_32": 35,
    "pit_ti_224": 224,
    "swin_tiny_patch4_window7_224": 224,
    "inception_next_atto": 64,
    "mobilevit_xxs": 64,
    "pvt_v2_b0": 64,
    "vgg11": 64,
}


@pytest.mark.parametrize("name", READERS if FULL else list(READERS)[:3])
def test_a_multiple_is_a_size_of_which_every_pixel_is_read(name: str):
    multiple, size = network.multiple(name), READERS[name]
    assert size % multiple == 0
    for pixels in (size, size + 1):
        images = torch.zeros(2, 3, pixels, pixels)  # NaN in the last row of the first, in the last column of the second
        images[0, :, -1], images[1, :, :, -1] = torch.nan, torch.nan
        fixed = {"img_size": pixels} if catalog.entry(name).fixed else {}
        try:
            with torch.inference_mode():
                read = _timm(name, num_classes=0, **fixed)(images).flatten(1).isnan().any(dim=1)
        except AssertionError:  # timm refuses some such sizes itself
            assert pixels % multiple
            continue
        assert read.tolist() == [pixels % multiple == 0] * 2


def test_stages_of_a_network_outside_the_catalog():
    assert network.stages("resnet26") == ("bn1", *catalog.RESNET)
    assert network.stages("test_vit") == (*(f"blocks.{number}" for number in range(6)), "norm")
    assert "features.denseblock2" in network.stages("densenet121")  # all its stages are in one child
    assert network.stages("vgg11")[:2] == ("features.1", "features.2")


@pytest.mark.parametrize("name", ONE_OF_A_FAMILY)
def test_the_classifier_has_the_name_that_timm_gives_it(name: str):
    timm_name = CATALOG[name].timm
    with torch.device("meta"):
        features = timm.create_model(timm_name, num_classes=0).num_features
        tensors = timm.create_model(timm_name, num_classes=7).state_dict()
    head = tensors[f"{network.classifier(timm_name)}.weight"]
    assert head.shape[0] == 7
    assert head.shape[1] >= features  # some networks widen their features before the classifier


@pytest.mark.parametrize("freeze", ["layer4", "none"])
def test_trainable_layers_weigh_what_their_tensors_do_under_names_of_timm(freeze: str):
    resolved = _resolved(SMALL)
    layers = network.build_trainable(resolved, 64, freeze).state_dict()
    assert network.trainable_bytes(resolved, 64, freeze) == sum(tensor.nbytes for tensor in layers.values())
    names = {f"network.{name}" for name in _timm(SMALL, num_classes=0).state_dict()}
    assert layers.keys() == (names if freeze == "none" else {name for name in names if "layer4" in name})
