"""Weight files as training code writes them: every wrapper is undone and said, and every misfit is counted."""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import re
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save, save_file

from aimonk_bench.backbones import catalog, checkpoint, network, weights
from aimonk_bench.backbones.catalog import Entry
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.config.fields import BackboneConfig
from aimonk_bench.errors import UserError

SMALL = "test_resnet"  # a network of timm for tests, 1.9 MB
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """The tensors of a network with a classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return timm.create_model(SMALL, pretrained=False).state_dict()


def _at(file: Path) -> Weights:
    return weights.resolve(BackboneConfig(name=SMALL, weights=str(file)))


def _body(tensors: State) -> State:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}


def _prefixed(prefix: str, tensors: State) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _zeros(tensors: State) -> State:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


HEAD = {"head.0.weight": torch.ones(8, 4), "head.0.bias": torch.ones(8), "head.2.weight": torch.ones(3, 8)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}

WRAPPED: dict[str, tuple[Callable[[State], object], list[str]]] = {
    "ordered": (lambda s: collections.OrderedDict(s), ["left out 2 tensors"]),
    "no classifier": (_body, []),
    "seven classes": (lambda s: {**_body(s), "fc.weight": torch.ones(7, 5), "fc.bias": torch.ones(7)}, ["fc.bias"]),
    "two layers for a classifier": (
        lambda s: {**_body(s), "fc.0.weight": torch.ones(9, 5), "fc.2.weight": torch.ones(7, 9)},
        ["left out 2 tensors beside the network: fc.0.weight, fc.2.weight"],
    ),
    "one more tensor": (lambda s: {**_body(s), "fc.weight": torch.ones(7, 5)}, ["left out 1 tensor beside"]),
    "another head": (
        lambda s: {**s, "attr_head.1.weight": torch.ones(2)},
        ["left out 3 tensors", "attr_head.1.weight"],
    ),
    **{
        prefix: (lambda s, prefix=prefix: _prefixed(prefix, _body(s)), [f"removed the prefix '{prefix}'"])
        for prefix in ("module.", "model.", "backbone.", "encoder.", "module.net.feature_extractor.")
    },
    "compiled": (lambda s: _prefixed("_orig_mod.", _body(s)), ["removed '_orig_mod.' from the names"]),
    "compiled in parallel": (lambda s: _prefixed("module._orig_mod.", _body(s)), ["removed the prefix 'module.'"]),
    "compiled inside": (
        lambda s: {name.replace("layer1.", "layer1._orig_mod."): tensor for name, tensor in _body(s).items()},
        ["removed '_orig_mod.' from the names"],
    ),
    "a head beside it in a dict": (
        lambda s: {"backbone": _body(s), "head": HEAD, "optimizer": OPTIMIZER},
        ["took the tensors under 'backbone'", "left out the tensors under head, optimizer"],
    ),
    "a head beside it": (
        lambda s: {"state_dict": {**_prefixed("backbone.", _body(s)), **HEAD}, "epoch": 3},
        [
            "took the tensors under 'state_dict'",
            "prefix 'backbone.'",
            "left out 3 tensors",
            "head.0.weight, head.0.bias",
        ],
    ),
    **{
        key: (lambda s, key=key: {key: _body(s), "optimizer": OPTIMIZER}, [f"took the tensors under '{key}'"])
        for key in ("net", "model", "state_dict", "model_state_dict", "params")
    },
    "nested twice": (lambda s: {"model": {"net": _body(s)}}, ["took the tensors under 'model.net'"]),
    "an average beside it": (
        lambda s: {"state_dict": _zeros(_body(s)), "state_dict_ema": _body(s)},
        ["took the tensors under 'state_dict_ema'", "left out the tensors under state_dict"],
    ),
    "a teacher": (
        lambda s: {"student": _zeros(_prefixed("backbone.", _body(s))), "teacher": _prefixed("backbone.", _body(s))},
        ["took the tensors under 'teacher'", "left out the tensors under student"],
    ),
    "two encoders": (
        lambda s: {**_prefixed("encoder_q.", _body(s)), **_prefixed("encoder_k.", _zeros(_body(s)))},
        ["prefix 'encoder_q.'", "encoder_k."],
    ),
    "arguments of a script": (lambda s: {"model": _body(s), "args": argparse.Namespace(lr=0.1)}, ["under 'model'"]),
    "paths and figures of a script": (
        lambda s: {"model": _body(s), "args": argparse.Namespace(out=Path("/x")), "best": np.float64(0.3)},
        ["under 'model'"],
    ),
    "arrays of a script": (lambda s: {"model": _body(s), "weights": np.ones(4)}, ["under 'model'"]),
    "a list of network and optimizer": (lambda s: [_body(s), OPTIMIZER], ["under '0'", "left out the tensors under 1"]),
    "a tuple of network and epoch": (lambda s: (_body(s), 3), ["under '0'"]),
    "compiled after parallel": (lambda s: _prefixed("_orig_mod.module.", _body(s)), ["removed the prefix 'module.'"]),
    "averaged by torch": (
        lambda s: {**_prefixed("module.", _body(s)), "n_averaged": torch.tensor(3)},
        ["removed the prefix 'module.'", "n_averaged"],
    ),
    "old batch normalisation": (
        lambda s: {name: tensor for name, tensor in _body(s).items() if "num_batches_tracked" not in name},
        [],
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_a_network_is_found_in_what_training_code_saves(wrapper: str, state: State, tmp_path: Path):
    wrap, notes = WRAPPED[wrapper]
    file = tmp_path / "mine.ckpt"
    torch.save(wrap(state), file)
    built = network.build(_at(file), 64)
    loaded = built.network.state_dict()
    assert loaded.keys() == _body(state).keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in _body(state).items() if "num_batches" not in name)
    text = "\n".join(built.notes)
    assert all(note in text for note in notes)
    assert bool(built.notes) == bool(notes)


@pytest.mark.parametrize("name", ["mine.pth.tar", "mine.ckpt", "mine.bin", "mine.weights", "./mine"])
@pytest.mark.parametrize("kind", ["torch", "legacy", "safetensors"])
def test_what_a_file_holds_decides_how_it_is_read(
    kind: str, name: str, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    if kind == "safetensors":
        save_file(state, name)
    else:
        torch.save(state, name, _use_new_zipfile_serialization=kind == "torch")
    assert weights.resolve(BackboneConfig(name=SMALL, weights=name)).source == "path"
    content = checkpoint.read(Path(name))
    assert isinstance(content, dict)
    assert all(torch.equal(content[key], tensor) for key, tensor in state.items())


class _Setting:
    """An object of a training script, which torch would have to execute."""


def _script(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"mine/{name}", b"")


def _arrays(file: Path) -> None:
    with file.open("wb") as opened:
        np.savez(opened, a=np.ones(2))


def _tar(file: Path) -> None:
    with tarfile.open(file, "w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))


def _diverged(file: Path) -> None:
    state = timm.create_model(SMALL, num_classes=0).state_dict()
    torch.save({name: torch.full_like(t, np.nan) if "conv1.0" in name else t for name, t in state.items()}, file)


FOREIGN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda file: file.touch(), "the file is empty"),
    "pointer": (lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "page": (lambda file: file.write_text("<!doctype html>"), "HTML"),
    "keras": (lambda file: file.write_bytes(b"\x89HDF\r\n\x1a\n"), "HDF5"),
    "page after blank lines": (lambda file: file.write_text("\n\n<html>"), "HTML"),
    "index": (lambda file: file.write_text('{"weight_map": {}}'), "JSON"),
    "tar": (_tar, "a tar archive; fix: unpack"),
    "zip": (_arrays, "a ZIP archive of a.npy; fix: unpack"),
    "half a safetensors file": (
        lambda file: file.write_bytes(save({"fc.weight": torch.ones(99)})[:-4]),
        "incomplete.*download or copy",
    ),
    "a whole network": (lambda file: torch.save({"model": torch.nn.Linear(2, 2)}, file), r"fix.*MODEL.state_dict\(\)"),
    "gzip": (lambda file: file.write_bytes(gzip.compress(b"tensors")), "gunzip"),
    "text": (lambda file: file.write_text("image_0.jpg 1 0 NA 1\n" * 9), "neither a safetensors file nor"),
    "half a file": (lambda file: file.write_bytes(_half()), "incomplete, such as a download"),
    "objects": (lambda file: torch.save({"model": {}, "config": _Setting()}, file), r"_Setting\), which are never"),
    "script": (_script, "TorchScript"),
    "numbers": (lambda file: torch.save({"epoch": 3}, file), "holds no tensors"),
    "diverged": (_diverged, r"\d+ tensors? with NaN or infinite values \(conv1.*fix: an earlier checkpoint"),
    "list": (lambda file: torch.save([torch.ones(2)], file), "holds no tensors"),
}


def _half() -> bytes:
    buffer = io.BytesIO()
    torch.save({"fc.weight": torch.ones(99)}, buffer)
    return buffer.getvalue()[: buffer.tell() // 2]


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_file_is_named_for_what_it_is(kind: str, tmp_path: Path):
    write, message = FOREIGN[kind]
    file = tmp_path / "mine.pth"
    write(file)
    with pytest.raises(UserError, match=rf"mine.pth: these are not weights of {SMALL}.*{message}"):
        network.build(_at(file), 64)


def test_what_does_not_fit_is_counted_with_examples():
    shapes = {"a.weight": (2, 3), "b.weight": (4,), "b.num_batches_tracked": (), "c": (1,), "d": (1,), "e": (1,)}
    tensors = {"a.weight": torch.ones(3, 2), "z": torch.ones(1), "fc.weight": torch.ones(1)}
    assert checkpoint.differences(tensors, shapes) == (
        "4 missing (b.weight, c, d, ...); 1 unexpected (z); 1 of another shape (a.weight (3, 2) instead of (2, 3))"
    )
    assert checkpoint.differences({name: torch.ones(shape) for name, shape in shapes.items()}, shapes) == ""


@pytest.mark.parametrize("change", [lambda s: {"a": torch.ones(2)}, lambda s: dict([*s.items()][2:])])
def test_a_family_that_timm_does_not_load_strictly_is_no_random_network(
    change: Callable[[State], State], tmp_path: Path
):
    torch.save(change(_body(timm.create_model("dla46_c", pretrained=False).state_dict())), tmp_path / "mine.pt")
    with pytest.raises(UserError, match=r"these are not weights of dla46_c.in1k: \d+ missing \(base_layer.0.weight"):
        network.build(weights.resolve(BackboneConfig(name="dla46_c", weights=str(tmp_path / "mine.pt"))), 64)


class Plain(torch.nn.Module):
    """A network as a plug-in may register it: its function loads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 4
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 4]."""
        return self.layers(images).mean((2, 3))

    def reset_classifier(self, classes: int) -> None:
        """There is none."""


default_cfgs = timm.models.generate_default_cfgs({"plain_configured": {}})  # timm looks for it beside the functions


@timm.models.register_model
def plain_registered(pretrained: bool = False, **options: object) -> Plain:
    """Of which timm has no facts."""
    return Plain()


@timm.models.register_model
def plain_configured(pretrained: bool = False, **options: object) -> Plain:
    """Of which timm has facts, as if it loaded its tensors."""
    return Plain()


def _of_plugin(name: str, file: Path) -> Weights:
    entry = Entry(timm=name, features=4, licence=None, hub=None, size=8, multiple=1, code="0" * 64)
    return replace(_at(file), name=name, entry=entry)


def test_tensors_of_a_network_of_a_plug_in_are_loaded(tmp_path: Path):
    trained = {name: tensor + 1 for name, tensor in Plain().state_dict().items()}
    file = tmp_path / "mine.pt"
    torch.save({"model": _prefixed("module.", {**trained, "head.weight": torch.ones(2, 4)})}, file)
    built = network.build(_of_plugin("plain_registered", file), 8)
    loaded = built.network.state_dict()
    assert loaded.keys() == trained.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in trained.items())
    assert any("removed the prefix 'module.'" in note for note in built.notes)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("plain_registered", lambda s: {"layers.0.bias": s["layers.0.bias"]}, "5 missing (layers.0.weight"),
        ("plain_registered", lambda s: s | {"layers.0.bias": torch.ones(5)}, "layers.0.bias (5,) instead of (4,)"),
        ("plain_configured", dict, "4 tensors of the network not taken from it"),
    ],
)
def test_tensors_that_a_network_of_a_plug_in_does_not_take_are_an_error(
    name: str, change: Callable[[State], State], words: str, tmp_path: Path
):
    file = tmp_path / "mine.pt"
    torch.save(change({key: tensor + 1 for key, tensor in Plain().state_dict().items()}), file)
    with pytest.raises(UserError, match=re.escape(words)):
        network.build(_of_plugin(name, file), 8)


def test_a_network_of_a_plug_in_has_its_name_in_a_catalog():
    assert not catalog.exists("plain_configured")
    with pytest.raises(
        UserError, match=r"found 'plain_configured', a network that .*test_checkpoint registers with timm"
    ):
        catalog.entry("plain_configured")
