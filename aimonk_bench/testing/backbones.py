"""The contract of the catalog's entries."""

from __future__ import annotations

from dataclasses import replace

from aimonk_bench.backbones import catalog, examination, network
from aimonk_bench.backbones.catalog import Entry
from aimonk_bench.backbones.weights import Weights


def check_backbone(entry: Entry) -> None:
    """Check that an entry of `CATALOG` describes its network, which timm builds without pretrained weights.

    The network gives one vector of ``features`` numbers for images of the native ``size``, at the stated ``cost``; it
    reads every pixel of sizes that are a ``multiple``; its layers have the names of its ``stages``. Facts that are None
    are not checked. A network of the plug-in's own is registered with timm beforehand.

    Raises:
        AssertionError: what is violated, in a sentence.
    """
    if (problem := catalog.problem(entry)) is not None:
        raise AssertionError(f"found {problem}, expected an Entry of aimonk_bench.backbones.catalog")
    try:
        size = entry.size or 2 * max(entry.multiple or 1, 112)
        weights = Weights(entry.timm, entry.timm, "none", None, "none, seed 0", replace(entry, licence=None))
        features, cost = examination.examine(weights, size)
        stated = [
            ("features", entry.features, features),
            ("cost", entry.cost if entry.size else None, cost),
            ("multiple", entry.multiple, network.multiple(entry.timm)),
        ]
        stages = set(network.stages(entry.timm)) if entry.stages else set()
    except Exception as error:
        raise AssertionError(f"{entry.timm}: {type(error).__name__}: {error}") from error
    for name, value, actual in stated:
        if actual is not None and value not in (None, actual):
            raise AssertionError(f"{entry.timm}: {name}: found {value}, but the network says {actual}")
    if strange := [stage for stage in entry.stages or () if stage not in stages]:
        raise AssertionError(f"{entry.timm}: stages: found {', '.join(strange)}, which the network does not have")
