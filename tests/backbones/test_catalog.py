from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aimonk_bench.backbones import catalog
from aimonk_bench.backbones.catalog import CATALOG, Entry
from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.config.reader import check
from aimonk_bench.errors import UserError
from aimonk_bench.tables import TABLES

FAMILIES = ("resnet18", "resnet34", "resnet50", "efficientnet", "lite0", "mobilenetv3", "convnext", "regnet", "vit_")
FAMILIES += ("deit", "swin", "dinov2", "dinov3", "pe_core", "siglip2", "mobilenetv4_conv_small")

FULL = bool(os.environ.get("AIMONK_BENCH_FULL"))
SMALL = ("resnet18", "tf_efficientnet_lite0", "mobilenetv3_small", "convnext_atto", "vit_tiny", "pe_core_tiny")


def test_the_catalog_has_every_family_and_resnet18_first():
    assert len(CATALOG) >= 12
    assert next(iter(CATALOG)) == "resnet18"
    assert not [family for family in FAMILIES if not any(family in name for name in CATALOG)]


@pytest.mark.parametrize("name", CATALOG)
def test_an_entry_says_what_timm_says(name: str):
    import timm
    import torch

    entry = CATALOG[name]
    facts = timm.get_pretrained_cfg(entry.timm, allow_unregistered=False)
    timms_entry = catalog._ask_timm(entry.timm)
    assert "." in entry.timm
    for field in ("timm", "licence", "hub", "mean", "std", "interpolation", "fixed", "size"):
        assert getattr(entry, field) == getattr(timms_entry, field), field
    assert entry.url in (None, facts.url)
    size = 2 * max(entry.multiple, 32)
    with torch.device("meta"):
        model = timm.create_model(entry.timm, num_classes=0, **({"img_size": size} if entry.fixed else {}))
        assert model.eval()(torch.zeros(1, 3, size, size)).shape == (1, entry.features)
    patches = getattr(model, "patch_embed", None)  # timm leaves out the pixels beyond the last whole patch
    assert patches is None or entry.multiple == patches.patch_size[0]


@pytest.mark.parametrize("name", CATALOG if FULL else SMALL)
def test_an_entry_describes_its_network(name: str):
    from aimonk_bench.testing import check_backbone

    check_backbone(CATALOG[name])


def test_names_of_timm_are_accepted_with_and_without_tag():
    assert catalog.entry("resnet18.tv_in1k") is CATALOG["resnet18"]
    assert catalog.entry("resnet26").timm == "resnet26.bt_in1k"
    assert catalog.entry("test_vit").fixed
    assert catalog.exists("resnet18.a1_in1k")


def test_the_config_checks_stages_of_any_network():
    assert TABLES.stages("resnet18") == TABLES.stages("resnet18.tv_in1k") == catalog.RESNET
    assert TABLES.stages("resnet26") == ("bn1", *catalog.RESNET)  # timm builds it


@pytest.mark.parametrize(("name", "near"), [("resnet81", "resnet18"), ("resnet18.tv_in2k", "resnet18.tv_in1k")])
def test_an_unknown_name_gets_the_nearest(name: str, near: str):
    assert not catalog.exists(name)
    with pytest.raises(UserError, match=rf"found '{name}', .*did you mean {near}\?"):
        catalog.entry(name)


def test_the_nearest_of_thousands_of_names_is_looked_for_once(monkeypatch: pytest.MonkeyPatch):
    looked: list[object] = []
    monkeypatch.setattr(catalog, "nearest", lambda name, choices: looked.append(name))
    assert not any(catalog.exists("resnet_of_a_typing_error") for _ in range(91))
    assert looked == ["resnet_of_a_typing_error"]


def test_weights_that_forbid_commercial_use_are_flagged():
    assert catalog.entry("resnet18.fb_ssl_yfcc100m_ft_in1k").non_commercial
    assert catalog.entry("resnet50.fb_swsl_ig1b_ft_in1k").non_commercial
    assert not any(entry.non_commercial for entry in CATALOG.values())
    assert not Entry("x", None, None, None).non_commercial


def test_weights_with_terms_of_their_own_are_flagged():
    flagged = {name for name, entry in CATALOG.items() if entry.own_terms}
    assert flagged == {name for name in CATALOG if name.startswith("dinov3")} != set()
    assert catalog.entry("vit_7b_patch16_dinov3.sat493m").own_terms
    assert not Entry("x", None, None, None).own_terms


def test_a_network_that_cannot_be_cut_has_no_stages():
    data = {"name": "x", "data": {"labels": "/l.txt", "images": "/i"}}
    [problem] = check({**data, "backbone": {"name": "pe_core_tiny", "freeze": "blocks.3"}}, TABLES)[1]
    assert str(problem) == "found 'blocks.3', expected all or none, because pe_core_tiny has no stages"


def test_planning_imports_neither_torch_nor_timm():
    code = (
        "import sys\n"
        "from aimonk_bench.backbones import catalog, features, weights\n"
        "from aimonk_bench.backbones.encoder import EncoderSpec\n"
        "from aimonk_bench.config.fields import BackboneConfig\n"
        "resolved = weights.resolve(BackboneConfig(name='tf_efficientnet_lite0', weights='none'))\n"
        "assert EncoderSpec(resolved, 224).digest and catalog.exists('resnet18')\n"
        "assert not {'torch', 'timm', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_native_size_is_that_of_the_named_network():
    assert catalog.entry("test_vit").size == 160
    assert TABLES.native_size("vit_small_patch14_dinov2") == TABLES.native_size("dinov2_small") == 518
    assert TABLES.native_size("vit_base_patch16_sapiens2") is None  # 1024 x 768
    assert all(entry.size % entry.multiple == 0 for entry in CATALOG.values())


def test_the_multiple_of_any_network_is_read_from_it():
    assert TABLES.multiple("vit_tiny_patch16_224") == TABLES.multiple("vit_tiny") == 16
    assert (TABLES.multiple("convnextv2_atto"), TABLES.multiple("resnet26")) == (4, 1)


def test_the_usual_size_suits_every_backbone_of_the_catalog():
    assert all(TransformConfig().size % entry.multiple == 0 for entry in CATALOG.values())


@pytest.mark.parametrize(
    ("size", "messages"),
    [
        (224, []),
        (
            225,
            ["found 225, expected a multiple of 14 for dinov2_small, because it reads whole patches only: 224 or 238"],
        ),
        (4096, ["found 4096, expected a multiple of 14 for dinov2_small, because it reads whole patches only: 4088"]),
        (3, ["found 3, expected a multiple of 14 for dinov2_small, because it reads whole patches only: 14"]),
        (5000, ["found 5000, expected a number of at most 4096"]),
    ],
)
def test_a_size_that_cuts_a_patch_is_refused(size, messages):
    data = {"name": "x", "data": {"labels": "/l.txt", "images": "/i"}}
    config, problems = check({**data, "backbone": {"name": "dinov2_small"}, "transform": {"size": size}}, TABLES)
    assert [(problem.path, str(problem)) for problem in problems] == [
        (("transform", "size"), message) for message in messages
    ]
    assert (config is None) == bool(messages)
