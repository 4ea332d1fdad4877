"""Weight files: read by what they hold, whatever their names end in, and unwrapped from the code that trained them.

Training code saves a network inside other things: in a dict beside an optimizer (``{"model": ...}``), inside a module
(``module.conv1.weight``), compiled (``_orig_mod.``), with a head of its own. All of that is undone and noted. The names
of the network's own tensors decide which part of a file is the network, not a list of such wrappers.
This module imports torch.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aimonk_bench.data.foreign import placeholder
from aimonk_bench.errors import count

EXAMPLES = 3  # names that a message shows
INSIDE = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # may stand anywhere in a name
# Modules around a network whose tensors have other names than timm's, which timm converts later.
WRAPPERS = ("module", "model", "backbone", "encoder", "network", "net")
AVERAGED = re.compile("ema|teacher|averaged", re.IGNORECASE)
HEAD = re.compile(
    r"(?!conv)(\w*_)?(fc|heads?|classifiers?|linear|logits|predictor|projector|projection|aux)(_\w+|\d+)?",
    re.IGNORECASE,
)
FOREIGN = {  # first bytes -> what the file is, and what to do
    b"<": "XML, such as the error of a failed download; fix: download the file again",
    b"\x89HDF": "an HDF5 file, such as Keras writes; expected tensors of torch or safetensors",
    b"\x1f\x8b": "compressed by gzip; fix: gunzip it",
    b"{": "JSON, such as the index of a file in several parts; expected tensors of torch or safetensors",
    b"GGUF": "a GGUF file; expected tensors of torch or safetensors",
}
# What training scripts store beside tensors and no code needs to be executed for: arguments, paths, figures of NumPy.
# A path of another system cannot be made here, but a pure one can; NumPy 2 and Python 3.13 renamed modules.
HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    *(
        (getattr(pathlib, f"Pure{kind}"), f"{module}.{kind}")
        for kind in ("PosixPath", "WindowsPath")
        for module in ("pathlib", "pathlib._local")
    ),
    *(
        (cast(Any, value.__reduce__()[0]), f"numpy.{core}.multiarray.{name}")
        for value, name in ((np.float64(0), "scalar"), (np.zeros(1), "_reconstruct"))
        for core in ("core", "_core")
    ),
    *(np.ndarray, np.dtype),
    *(type(np.dtype(name)) for name in ("?", "i1", "u1", "i2", "i4", "i8", "f2", "f4", "f8", "U1")),
]
INCOMPLETE = "the file is incomplete, such as a download that broke off; fix: download or copy it again"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a network from a weight file.

    Attributes:
        tensors: by name, without prefixes; without a head if the rest is the whole network.
        complete: every tensor of the network is there under the network's own name.
        notes: what was undone, and what was left out; one sentence each.
    """

    tensors: dict[str, Tensor]
    complete: bool
    notes: tuple[str, ...]


def read(file: Path) -> object:
    """The content of a weight file: nested dicts of tensors. Nothing in the file is executed.

    Raises:
        ValueError: the file is of another kind, or holds objects that would have to be executed.
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        start = opened.read(512)
    if not start:
        raise ValueError("the file is empty")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size:
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{INCOMPLETE} ({error})") from error
    if (kind_and_fix := placeholder(start)) is not None:
        raise ValueError(kind_and_fix)
    for signature, kind in FOREIGN.items():
        if start.lstrip().startswith(signature):
            raise ValueError(kind)
    if start[257:262] == b"ustar":
        raise ValueError("a tar archive; fix: unpack it, and name the weight file in it")
    if start.startswith(b"PK") and not zipfile.is_zipfile(file):
        raise ValueError(INCOMPLETE)
    names = zipfile.ZipFile(file).namelist() if zipfile.is_zipfile(file) else []
    if names and not any(name.endswith("/data.pkl") for name in names):
        raise ValueError(f"a ZIP archive of {listed(names)}; fix: unpack it, and name the weight file in it")
    if any(name.endswith("/constants.pkl") for name in names):
        raise ValueError("a TorchScript archive; fix: torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)")
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not names:
            raise ValueError("it is neither a safetensors file nor one that torch saved as tensors") from error
        blocked = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(file)))
        whole = any(name.startswith("torch.nn.modules.") for name in blocked)
        tensors = "MODEL.state_dict()" if whole else "torch.load(FILE, weights_only=False)[KEY]"
        key = ", in the code that made it" if whole else ", where KEY is the key under which the tensors stand"
        raise ValueError(
            f"beside tensors it holds Python objects ({listed(blocked)}), which are never executed; "
            f"fix, if you trust the file: torch.save({tensors}, NEW_FILE){key}"
        ) from error


def unwrap(content: object, shapes: Shapes) -> Checkpoint:
    """Find a network in the content of a weight file.

    Of several copies of the network an average (EMA, teacher) is taken, else the first.

    Args:
        content: as :func:`read` returns it.
        shapes: of the network's tensors by name, without its classifier.

    Raises:
        ValueError: there is no tensor, or one of the network holds values that are not finite.
    """
    candidates = [(place, *_strip(tensors, shapes)) for place, tensors in _state_dicts(content)]
    if not candidates:
        raise ValueError("the file holds no tensors")

    def rank(candidate: tuple[str, str, dict[str, Tensor]]) -> tuple[int, bool, int]:
        place, prefix, tensors = candidate
        averaged = AVERAGED.search(f"{place}.{prefix}") is not None
        return len(tensors.keys() & shapes.keys()), averaged, len(tensors)

    place, prefix, tensors = max(candidates, key=rank)  # the first of several that are equal
    broken = [name for name in shapes if name in tensors and not tensors[name].isfinite().all()]
    if broken:
        raise ValueError(
            f"{count(len(broken), 'tensor')} with NaN or infinite values ({listed(broken)}), as of a training that "
            "diverged; fix: an earlier checkpoint, or backbone: {weights: imagenet}"
        )
    names = list(dict(_state_dicts(content))[place])
    inside = sorted({match.group() for name in names for match in INSIDE.finditer(name)})
    notes = [f"took the tensors under {place!r}"] if place else []
    others = _others(place, [other for other, *_ in candidates])
    notes += [f"left out the tensors under {listed(others)}"] if others else []
    notes += [f"removed {part!r} from the names of the tensors" for part in inside]
    notes += [f"removed the prefix {prefix!r} from the names of the tensors"] if prefix else []
    left_out = [name for name in map(_clean, names) if not name.startswith(prefix)]
    tracked = {name for name in shapes if name.endswith("num_batches_tracked")}  # torch fills these in
    complete = shapes.keys() - tracked <= tensors.keys()
    if complete:
        heads = [name for name in tensors if name not in shapes and HEAD.fullmatch(name.split(".")[0])]
        left_out += heads
        tensors = {name: tensor for name, tensor in tensors.items() if name not in heads}
    noun = "tensor" if len(left_out) == 1 else "tensors"
    notes += [f"left out {len(left_out)} {noun} beside the network: {listed(left_out)}"] if left_out else []
    return Checkpoint(tensors, complete, tuple(notes))


def differences(tensors: Mapping[str, Tensor], shapes: Shapes) -> str:
    """How tensors differ from those of a network: counts and examples of three kinds; empty if they do not."""
    missing = [name for name in shapes if name not in tensors and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in shapes and not HEAD.fullmatch(name.split(".")[0])]
    misshapen = [
        f"{name} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in shapes.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    return "; ".join(f"{len(names)} {kind} ({listed(names)})" for kind, names in kinds.items() if names)


def _state_dicts(content: object, place: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dict that holds tensors under names, with the dotted keys that lead to it."""
    if isinstance(content, list | tuple):  # as of a script that saves (model, epoch)
        content = dict(enumerate(content))
    if not isinstance(content, Mapping):
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for key, value in content.items():
        yield from _state_dicts(value, f"{place}.{key}".removeprefix("."))


def _others(place: str, places: Sequence[str]) -> list[str]:
    """The other places, as short as they differ from ``place``: an optimizer has a dict for each tensor."""
    shortened = (other if place.startswith(first) else first for other in places for first in [other.partition(".")[0]])
    return [other for other in dict.fromkeys(shortened) if other != place]


def _clean(name: str) -> str:
    return INSIDE.sub("", name)


def _strip(tensors: Mapping[str, Tensor], shapes: Shapes) -> tuple[str, dict[str, Tensor]]:
    """The prefix behind which most names are the network's, and the tensors that have it, without it."""
    cleaned = {_clean(name): tensor for name, tensor in tensors.items()}
    prefixes: collections.Counter[str] = collections.Counter()
    for name in cleaned:
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        prefixes.update(name[:start] for start in starts if name[start:] in shapes)
    prefix = max(prefixes, key=lambda prefix: (prefixes[prefix], AVERAGED.search(prefix) is not None), default="")
    if prefixes[prefix] < len(shapes) / 2:  # another layout, which timm may know once the wrappers are off
        prefix = ""
        while (first := next(iter(cleaned))[len(prefix) :].partition(".")[0]) in WRAPPERS and all(
            name.startswith(f"{prefix}{first}.") for name in cleaned
        ):
            prefix += f"{first}."
    return prefix, {name[len(prefix) :]: tensor for name, tensor in cleaned.items() if name.startswith(prefix)}


def listed(names: list[str]) -> str:
    """The first `EXAMPLES` names."""
    return ", ".join([*names[:EXAMPLES], *(["..."] if len(names) > EXAMPLES else [])])
