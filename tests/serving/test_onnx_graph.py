from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from aimonk_bench.backbones import catalog
from aimonk_bench.backbones.network import Normalise
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.errors import RunFailed
from aimonk_bench.serving import onnx_graph
from aimonk_bench.serving.classifier import TorchClassifier

SIZE = 9  # odd, so that the padding of a stride of 2 is uneven
WEIGHTS = Weights("a_net", "a_net", "none", None, "none, seed 0", catalog.entry("resnet18"))
THRESHOLDS = np.array([0.3, 0.5, 0.999_999_9])
IMAGES = np.random.default_rng(1).integers(0, 256, (7, SIZE, SIZE, 3), np.uint8)


def classifier(*layers: nn.Module) -> TorchClassifier:
    """A small network with a padding as TensorFlow has it, and further layers before the head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            Conv2dSame(3, 8, 3, stride=2), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(8, 3)
        )
    return TorchClassifier(Normalise((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), network)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TorchClassifier]:
    file, network = tmp_path_factory.mktemp("onnx") / "model.onnx", classifier()
    onnx_graph.write(file, network, WEIGHTS, SIZE, THRESHOLDS)
    return file, network


def run(file: Path, images: np.ndarray, **further: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(file))
    inputs = {"images": onnx_graph.planes(images), **further}
    return dict(zip(onnx_graph.OUTPUTS, session.run(list(onnx_graph.OUTPUTS), inputs), strict=True))


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_graph_gives_what_torch_gives(batch: int, made: tuple[Path, TorchClassifier]):
    file, network = made
    outputs = run(file, IMAGES[:batch])
    with torch.inference_mode():
        expected = network(torch.from_numpy(onnx_graph.planes(IMAGES[:batch]))).numpy()
    assert outputs["logits"] == pytest.approx(expected, abs=1e-5)
    assert outputs["probabilities"] == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-6)
    assert outputs["decisions"].tolist() == (outputs["probabilities"] > THRESHOLDS).tolist()
    onnx_graph.check(file, network, WEIGHTS, IMAGES, THRESHOLDS)


def test_a_caller_may_override_the_thresholds(made: tuple[Path, TorchClassifier]):
    file, _ = made
    for threshold in (0.0, 0.45, 1.0):
        outputs = run(file, IMAGES, thresholds=np.full(3, threshold, np.float32))
        assert outputs["decisions"].tolist() == (outputs["probabilities"] > threshold).tolist()


@pytest.mark.parametrize("logit", [25.0, -25.0, 2.0])
def test_thresholds_that_float32_rounds_decide_all_the_same(logit: float, tmp_path: Path):
    network = classifier()
    nn.init.zeros_(network.network[-1].weight)
    nn.init.constant_(network.network[-1].bias, logit)
    thresholds = 1 / (1 + np.exp(-np.array([logit - 1e-3, logit + 1e-3, logit - 2e-3])))
    onnx_graph.write(tmp_path / "m.onnx", network, WEIGHTS, SIZE, thresholds)
    assert run(tmp_path / "m.onnx", IMAGES)["decisions"].tolist() == [[True, False, True]] * len(IMAGES)
    onnx_graph.check(tmp_path / "m.onnx", network, WEIGHTS, IMAGES, thresholds)


def test_a_probability_at_its_threshold_is_no_decision(tmp_path: Path):
    network = classifier()
    nn.init.zeros_(network.network[-1].weight)
    nn.init.zeros_(network.network[-1].bias)
    onnx_graph.write(tmp_path / "m.onnx", network, WEIGHTS, SIZE, np.full(3, 0.5))
    assert not run(tmp_path / "m.onnx", IMAGES)["decisions"].any()


def test_inputs_outputs_and_metadata(made: tuple[Path, TorchClassifier], tmp_path: Path):
    file = tmp_path / "m.onnx"
    file.write_bytes(made[0].read_bytes())
    onnx_graph.describe(file, {"label_names": '["ä|b"]'})
    session = onnxruntime.InferenceSession(str(file))
    assert session.get_modelmeta().custom_metadata_map == {"label_names": '["ä|b"]'}
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(float)", ["B", 3, SIZE, SIZE])
    assert [item.name for item in session.get_overridable_initializers()] == ["thresholds"]
    kinds = {item.name: (item.type, item.shape) for item in session.get_outputs()}
    floats = ("tensor(float)", ["B", 3])
    assert kinds == {"logits": floats, "probabilities": floats, "decisions": ("tensor(bool)", ["B", 3])}


def test_paddings_are_constants(made: tuple[Path, TorchClassifier]):
    graph = onnx.load(made[0]).graph
    constants = {item.name for item in graph.initializer}
    assert [node.input[1] in constants for node in graph.node if node.op_type == "Pad"] == [True]
    assert not [node for node in graph.node if node.op_type in ("Shape", "Ceil")]


class OfOneBatch(nn.Module):
    """Adds the number of images, which a tracer takes for a constant."""

    def forward(self, images: Tensor) -> Tensor:
        return images + int(images.shape[0])


class Sorts(nn.Module):
    """An operation that ONNX does not have."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.special.bessel_j0(images)


def test_a_network_that_the_exporter_cannot_do(tmp_path: Path):
    with pytest.raises(RunFailed, match=r"a_net cannot be exported to ONNX by torch .*bessel_j0.*another backbone"):
        onnx_graph.write(tmp_path / "m.onnx", classifier(Sorts()), WEIGHTS, SIZE, THRESHOLDS)


def test_a_graph_that_does_not_do_as_torch(tmp_path: Path):
    network = classifier(OfOneBatch())
    onnx_graph.write(tmp_path / "m.onnx", network, WEIGHTS, SIZE, THRESHOLDS)
    with pytest.raises(RunFailed, match=r"a_net cannot be exported to ONNX: for a batch of 1.*logits differ by"):
        onnx_graph.check(tmp_path / "m.onnx", network, WEIGHTS, IMAGES, THRESHOLDS)


def test_decisions_that_differ(made: tuple[Path, TorchClassifier]):
    """The file decides by its own thresholds, not by these."""
    file, network = made
    decided = run(file, IMAGES)["decisions"].any(axis=0)
    with pytest.raises(RunFailed, match="decisions differ"):
        onnx_graph.check(file, network, WEIGHTS, IMAGES, np.where(decided, 1 - 1e-9, 1e-9))
