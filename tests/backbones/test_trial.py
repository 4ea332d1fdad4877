"""A network is tried once: at its size, with its weights, at its cut."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision

from aimonk_bench.backbones import examination, network, trial, weights
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.config.fields import BackboneConfig
from aimonk_bench.errors import UserError
from aimonk_bench.suite import networks

SMALL = "test_resnet"


def _spec(name: str = SMALL, kind: object = "none", size: int = 64, freeze: str = "all") -> EncoderSpec:
    return EncoderSpec(weights.resolve(BackboneConfig(name=name, weights=str(kind))), size, freeze=freeze)


@pytest.mark.parametrize(("name", "size", "features"), [(SMALL, 64, 96), ("test_vit", 64, 64), ("resnet18", 33, 512)])
def test_a_network_without_tensors_tells_the_number_of_features(
    name: str, size: int, features: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(network, "_whole", lambda *_: pytest.fail("built with tensors"))
    assert trial.attempt(_spec(name, size=size), tmp_path).features == features


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet18", "ResNet18_Weights"),
        ("resnet34", "ResNet34_Weights"),
        ("resnet50", "ResNet50_Weights"),
        ("efficientnet_b0", "EfficientNet_B0_Weights"),
        ("mobilenetv3_small", "MobileNet_V3_Small_Weights"),
        ("convnext_tiny", "ConvNeXt_Tiny_Weights"),
        ("regnety_004", "RegNet_Y_400MF_Weights"),
        ("regnety_016", "RegNet_Y_1_6GF_Weights"),
        ("vit_base_patch16_224", "ViT_B_16_Weights"),
    ],
)
def test_cost_is_what_torchvision_publishes_without_the_classifier(name: str, published: str):
    features, cost = examination.examine(_spec(name, size=224).weights, 224)
    meta = getattr(torchvision.models, published).IMAGENET1K_V1.meta
    assert cost.parameters + 1000 * (features + 1) == pytest.approx(meta["num_params"], rel=0.001)
    assert (cost.macs + 1000 * features) / 1e9 == pytest.approx(meta["_ops"], rel=0.01)


def test_a_larger_image_costs_more_operations_and_the_same_parameters():
    small, large = (examination.examine(_spec(size=size).weights, size)[1] for size in (64, 128))
    assert small.parameters == large.parameters
    assert large.macs == 4 * small.macs


def test_a_network_that_needs_tensors_is_built_with_them(monkeypatch: pytest.MonkeyPatch):
    forward = timm.models.ResNet.forward

    def reads_a_value(self, images):
        return forward(self, images) * (1 if images.sum().item() < 1e9 else 0)  # tensors without values have no item

    expected = examination.examine(_spec().weights, 64)
    monkeypatch.setattr(timm.models.ResNet, "forward", reads_a_value)
    assert examination.examine(_spec().weights, 64) == expected
    assert expected[0] == 96


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [("maxvit_tiny_tf_224", 225, "divisible"), ("vgg11", 16, "RuntimeError"), ("halonet26t", 100, "AssertionError")],
)
def test_a_size_that_a_network_cannot_take_is_said_with_the_fix(name: str, size: int, reason: str, tmp_path: Path):
    with pytest.raises(
        UserError, match=rf"transform.size: {name} cannot take images of {size} x {size} pixels"
    ) as error:
        trial.attempt(_spec(name, size=size), tmp_path)
    assert error.match(reason)
    assert error.match(r"fix: `transform: \{size: native\}` \(\d+ pixels\)")
    assert not list(tmp_path.rglob("*.json"))  # a failure is not kept


def test_weights_are_compared_and_the_notes_are_kept(tmp_path: Path):
    file = tmp_path / "mine.pth"
    model = timm.create_model(SMALL, pretrained=False, num_classes=0)
    torch.save({"net": model.state_dict()}, file)
    first = trial.attempt(_spec(kind=file), tmp_path)
    assert first.notes == ("took the tensors under 'net'",)
    assert trial.stored(_spec(kind=file), tmp_path) == first
    torch.save({"net": {**model.state_dict(), "layer9": torch.ones(1)}}, file)
    with pytest.raises(UserError, match="1 unexpected"):
        trial.attempt(_spec(kind=file), tmp_path)


def test_a_network_is_cut_where_the_config_says(tmp_path: Path):
    assert trial.attempt(_spec(freeze="layer4"), tmp_path).features == 96
    with pytest.raises(UserError, match=r"backbone\.freeze: found 'layer9'"):
        trial.attempt(_spec(freeze="layer9"), tmp_path)


def test_what_was_found_is_kept_where_it_can_be(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    expected = trial.attempt(_spec(), tmp_path)
    [kept] = tmp_path.rglob("*.json")
    kept.write_text("{")
    assert trial.stored(_spec(), tmp_path) is None
    assert "the network is tried again" in caplog.text
    assert trial.attempt(_spec(), tmp_path) == expected
    assert trial.stored(_spec(), tmp_path) == expected
    (tmp_path / "file").touch()
    assert trial.attempt(_spec(), tmp_path / "file") == expected
    assert "cannot be written" in caplog.text


def test_a_network_whose_constructor_reads_values_is_not_checked_for_whole_patches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On torch's meta device there are none; the user is told, and how the check can be had."""

    def reads_a_value(*_: object, **options: object):
        torch.zeros(1).item()

    with monkeypatch.context() as patched:
        patched.setattr(network.timm, "create_model", reads_a_value)
        assert network.multiple("reads_a_value") is None
    spec = _spec()
    entry = dataclasses.replace(spec.weights.entry, code="0" * 64, multiple=None)
    spec = dataclasses.replace(spec, weights=dataclasses.replace(spec.weights, entry=entry))
    monkeypatch.setattr(network, "multiple", lambda name: None)
    result = trial.attempt(spec, tmp_path)
    assert result.features == trial.attempt(_spec(), tmp_path).features
    assert not result.patches_checked
    [warning] = networks.Network(spec, result).warnings
    assert re.search("not checked that transform.size 64 holds whole patches; fix: `multiple` of its Entry", warning)
