"""Find the weights that a config names: on this machine, in an installed package, on the model hub."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from aimonk_bench.backbones import catalog
from aimonk_bench.backbones.catalog import Entry
from aimonk_bench.config.fields import WEIGHT_SUFFIXES, BackboneConfig
from aimonk_bench.errors import UserError

logger = logging.getLogger(__name__)

REACH_SECONDS = 5.0  # to reach a server, in all; timm and huggingface_hub alone would try for about 50
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order of preference
PACKAGED = (*WEIGHT_SUFFIXES, ".bin")

Source = Literal["cache", "package", "hub", "path", "none", "unavailable"]


@dataclass(frozen=True)
class Weights:
    """Weights that can be loaded, and what has to be recorded of them.

    Attributes:
        name: the backbone they belong to.
        requested: the backbone that was asked for; another one if a declared fallback was taken.
        source: where they were found; ``none`` stands for timm's own initialisation under seed 0.
        file: None without a source.
        sha256: of the file (hex), else ``none, seed 0`` or ``unavailable``.
        licence: None where nobody states one.
        entry: facts on the backbone ``name``.
    """

    name: str
    requested: str
    source: Source
    file: Path | None
    sha256: str
    licence: str | None
    entry: Entry

    @property
    def non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return replace(self.entry, licence=self.licence).non_commercial


class WeightsUnavailable(UserError):
    """The weights cannot be had; the message lists what was tried and the choices.

    Attributes:
        weights: stands for them in the digest of an encoder that cannot be built.
    """

    def __init__(self, problems: list[str], weights: Weights) -> None:
        super().__init__(problems)
        self.weights = weights


class _Absent(Exception):
    """Not to be had from this source, for this reason."""


def resolve(backbone: BackboneConfig) -> Weights:
    """Find the weights of ``backbone``, or of the fallback it declares.

    ``imagenet`` looks in the local caches of the hub and of torch, then in an installed weight package, then on the
    hub, where it downloads.

    Raises:
        WeightsUnavailable: neither can be had.
        UserError: a backbone that does not exist.
    """
    tried: list[str] = []
    found = _find(backbone.name, backbone.weights, tried)
    if found is None and backbone.fallback is not None:
        reason = tried[0] if len(tried) == 1 else f"`aimonk-bench doctor {backbone.name}` says why"
        found = _find(backbone.fallback, "imagenet", tried)
        if found is not None:
            found = replace(found, requested=backbone.name)
            logger.warning("using the declared fallback %s instead of %s (%s)", found.name, backbone.name, reason)
    if found is None:
        raise _unavailable(backbone, tried)
    if found.non_commercial:
        logger.warning("%s: the licence of these weights, %s, forbids commercial use", found.name, found.licence)
    return found


def _unavailable(backbone: BackboneConfig, tried: list[str]) -> WeightsUnavailable:
    entry = catalog.entry(backbone.name)
    fallback = "another backbone.fallback" if backbone.fallback else "`--set backbone.fallback=tf_efficientnet_lite0`"
    download = f"`hf download {entry.hub}` where the hub can be reached, " if entry.hub else ""
    choices = (
        f"choices: {download}{fallback}, or for backbone.weights a file ({', '.join(WEIGHT_SUFFIXES)}), "
        "package:NAME, or none (untrained)"
    )
    head = f"backbone.weights: {backbone.weights} cannot be had for {backbone.name}"
    nothing = Weights(backbone.name, backbone.name, "unavailable", None, "unavailable", None, entry)
    return WeightsUnavailable([head, *(f"tried {line}" for line in tried), choices], nothing)


def _find(name: str, kind: str, tried: list[str]) -> Weights | None:
    """The weights ``kind`` of backbone ``name``, or None after adding to ``tried`` what was tried and why it failed."""
    entry = catalog.entry(name)
    if kind == "none":
        return Weights(name, name, "none", None, "none, seed 0", None, entry)
    for source, search in _sources(kind, entry):
        try:
            file, licence = search()
            return Weights(name, name, source, file, _sha256(file), licence, entry)
        except (_Absent, OSError) as error:
            tried.append(f"{name}, {source}: {error}")
    return None


def _sources(kind: str, entry: Entry) -> list[tuple[Source, Callable[[], tuple[Path, str | None]]]]:
    """Where to look, in order; each search gives a file and its licence or raises ``_Absent``."""
    if kind == "imagenet":
        return [
            ("cache", lambda: (_cached(entry), entry.licence)),
            ("package", lambda: _packaged(entry.package, entry)),
            ("hub", lambda: (_downloaded(entry), entry.licence)),
        ]
    if kind.startswith("package:"):
        return [("package", lambda: _packaged(kind.removeprefix("package:"), entry))]
    return [("path", lambda: (Path(kind), None))]


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _torch_cache() -> Path:
    """The folder of torch.hub, found without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"


def _cached(entry: Entry) -> Path:
    """The file in the cache of the hub, else in the one of torch and torchvision."""
    from huggingface_hub import constants, try_to_load_from_cache

    places = []
    if entry.hub:
        for name in HUB_FILES:
            found = try_to_load_from_cache(entry.hub, name)
            if isinstance(found, str):
                return Path(found)
        places.append(f"{entry.hub} is not in {constants.HF_HUB_CACHE}")
    if entry.url:
        file = _torch_cache() / _file_name(entry.url)
        if file.is_file():
            return file
        places.append(f"there is no {file}")
    raise _Absent(" and ".join(places) or f"timm knows of no weights for {entry.timm}")


def _file_name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name


def _packaged(package: str | None, entry: Entry) -> tuple[Path, str | None]:
    """The one weight file of an installed distribution; its code is not imported."""
    if package is None:
        raise _Absent("no weight package is known for this backbone")
    try:
        distribution = importlib.metadata.distribution(package)
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        raise _Absent(f"{package} is not installed") from error
    files = [file for file in distribution.files or () if file.suffix in PACKAGED]
    if len(files) != 1:
        listed = ", ".join(map(str, files)) or "none"
        raise _Absent(f"{package} must hold one weight file ({', '.join(PACKAGED)}), found {listed}")
    stated = distribution.metadata.json
    own = stated.get("license_expression") or stated.get("license")
    return Path(str(files[0].locate())), entry.licence if package == entry.package else str(own) if own else None


def _downloaded(entry: Entry) -> Path:
    """The file, downloaded into the cache; the server must answer within REACH_SECONDS, the download takes its time."""
    from huggingface_hub import constants, errors, hf_hub_download

    if constants.HF_HUB_OFFLINE:
        raise _Absent("HF_HUB_OFFLINE is set")
    if not entry.hub:
        return _downloaded_from(entry.url)
    _reach(constants.ENDPOINT)
    for name in HUB_FILES:
        try:
            return Path(hf_hub_download(entry.hub, name))
        except Exception as error:  # of huggingface_hub, of its HTTP library (which differs by version) and of the disk
            other_name = isinstance(error, errors.EntryNotFoundError)
            broken_off = isinstance(error, errors.LocalEntryNotFoundError)  # a subclass of it that means something else
            if broken_off or not other_name:
                raise _Absent(f"{constants.ENDPOINT}/{entry.hub}: {type(error).__name__}: {error}") from error
    raise _Absent(f"{constants.ENDPOINT}/{entry.hub} holds neither {' nor '.join(HUB_FILES)}")


def _downloaded_from(url: str | None) -> Path:
    if not url:
        raise _Absent("timm knows of no weights to download")
    _reach(url)
    import torch

    file = _torch_cache() / _file_name(url)
    file.parent.mkdir(parents=True, exist_ok=True)
    named = torch.hub.HASH_REGEX.search(file.name)  # such names end in the beginning of the file's SHA-256
    try:
        torch.hub.download_url_to_file(url, str(file), named.group(1) if named else None, progress=False)
    except (OSError, RuntimeError) as error:
        raise _Absent(f"{url}: {error}") from error
    return file


def _reach(url: str) -> None:
    reason = _unreachable(url, REACH_SECONDS)
    if reason:
        raise _Absent(f"{url}: {reason}")


@functools.cache  # a suite of many backbones waits for a silent server once
def _unreachable(url: str, seconds: float) -> str | None:
    """Why the server does not answer a single request, or None if it does.

    The request has a thread of its own because looking up a name may outlast the limit of the socket.
    """
    from huggingface_hub import get_session

    answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            status = get_session().head(url, timeout=seconds).status_code
            answer.put(f"it answers {status}" if status >= 500 else None)
        except Exception as error:  # the HTTP library of huggingface_hub differs by version, and so do its errors
            answer.put(f"{type(error).__name__}: {error}")

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        return f"no answer within {seconds:g} s"
