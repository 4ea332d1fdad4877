"""timm and transformers load a bundle, and keep what it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

from aimonk_bench.backbones.weights import resolve
from aimonk_bench.config.fields import BackboneConfig
from aimonk_bench.data.images import decode
from aimonk_bench.evaluation.predictions import sigmoid
from aimonk_bench.records import run as runs
from aimonk_bench.records import weights
from aimonk_bench.serving import bundle, classifier, onnx_graph
from aimonk_bench.serving.choice import Choice
from aimonk_bench.serving.export import Exported, save
from aimonk_bench.serving.graph import open_classifier
from aimonk_bench.suite import tasks
from aimonk_bench.suite.plan import plan_run

BundleOf = Callable[..., Exported]
pytestmark = pytest.mark.filterwarnings("default")  # of other libraries


@pytest.fixture(scope="module")
def files(holdout: Path) -> list[Path]:
    folder = Path(yaml.safe_load((holdout / runs.CONFIG).read_text())["data"]["images"])
    return sorted(folder.iterdir())[:7]


def timm_logits(folder: Path, files: list[Path]) -> np.ndarray:
    """What timm's documentation says to do."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
        logits: np.ndarray = model(images).numpy()
    return logits


def test_timm_gives_the_logits_of_the_head_on_stored_features(holdout: Path, chosen: Choice, bundle_of: BundleOf):
    made = bundle_of(holdout, 1)
    block = made.bundle.aimonk_bench
    plan = plan_run(chosen.config)
    dataset = tasks.encode(plan.dataset, chosen.config, plan.baseline.encoder)
    heads = weights.read_heads(holdout)
    expected = dataset.features() @ heads.weight[1, 0].T + heads.bias[1, 0]
    pixels = np.stack(
        [decode(image.path.read_bytes(), block["size"], block["interpolation"]) for image in dataset.images]
    )
    model = timm.create_model(f"local-dir:{made.folder}", pretrained=True).eval()
    mean, std = (torch.tensor(made.bundle.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        logits = model((images - mean) / std).numpy()
    assert np.abs(logits - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())


def test_transformers_gives_equal_probabilities(holdout: Path, bundle_of: BundleOf, files: list[Path]):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    made = bundle_of(holdout)
    expected = timm_logits(made.folder, files)
    model = transformers.AutoModelForImageClassification.from_pretrained(made.folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(made.folder)
    with torch.inference_mode():
        batch = processor([Image.open(file).convert("RGB") for file in files], return_tensors="pt")
        # the same operations; their last bits depend on where the arrays lie in memory
        np.testing.assert_allclose(model(**batch).logits.numpy(), expected, rtol=1e-5, atol=1e-5)
    classify = transformers.pipeline("image-classification", str(made.folder), function_to_apply="sigmoid", top_k=None)
    for file, logits in zip(files, expected, strict=True):
        scores = {item["label"]: item["score"] for item in classify(str(file))}
        probabilities = dict(zip(made.bundle.label_names, sigmoid(logits).tolist(), strict=True))
        assert scores == pytest.approx(probabilities, abs=1e-5)


def test_what_a_bundle_says_survives_transformers(
    holdout: Path, bundle_of: BundleOf, files: list[Path], tmp_path: Path
):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    made, saved = bundle_of(holdout), tmp_path / "saved"
    transformers.AutoModelForImageClassification.from_pretrained(made.folder).save_pretrained(saved)
    before, after = (json.loads((folder / bundle.CONFIG).read_text()) for folder in (made.folder, saved))
    for key in ("label_names", "thresholds", "aimonk_bench", "architecture", "num_classes", "problem_type"):
        assert after[key] == before[key], key
    again = transformers.AutoConfig.from_pretrained(saved)
    assert list(again.id2label.values()) == list(made.bundle.label_names)
    assert again.thresholds == made.bundle.thresholds
    assert np.array_equal(timm_logits(saved, files), timm_logits(made.folder, files))
    shutil.copy(made.folder / bundle.MODEL, saved)  # as `predict` says of such a folder
    assert open_classifier(saved).attributes == made.bundle.label_names


def test_a_vision_transformer_survives_timm_and_transformers(files: list[Path], tmp_path: Path):
    """Its network has positions for one size of images, which is stated where it is built."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    resolved, saved, names = resolve(BackboneConfig(name="vit_tiny", weights="none")), tmp_path / "saved", ("a", "NA")
    network = classifier.untrained(resolved, 32, len(names))
    pretrained, model_args = classifier.facts(resolved, 32, len(names))
    thresholds = {"a": 0.25, "NA": 0.5}
    made = bundle.Bundle(
        architecture=pretrained["architecture"],
        label_names=names,
        thresholds=thresholds,
        num_features=192,
        pretrained_cfg=pretrained,
        model_args=model_args,
        aimonk_bench={"size": 32},
    )
    save(tmp_path, made, network.network.state_dict())
    expected = timm_logits(tmp_path, files)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=pretrained))
    with torch.inference_mode():
        images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
        assert np.array_equal(network.network(images).numpy(), expected)
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=True).patch_embed.img_size == (32, 32)
    transformers.AutoModelForImageClassification.from_pretrained(tmp_path).save_pretrained(saved)
    again = transformers.AutoModelForImageClassification.from_pretrained(saved).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    with torch.inference_mode():
        logits = again(**processor([Image.open(file).convert("RGB") for file in files], return_tensors="pt")).logits
    assert np.array_equal(logits.numpy(), expected)
    assert np.array_equal(timm_logits(saved, files), expected)
    config = transformers.AutoConfig.from_pretrained(saved)
    assert (config.thresholds, tuple(config.id2label.values())) == (thresholds, names)
    onnx_graph.attempt(tmp_path / bundle.MODEL, resolved, 32, np.array([0.25, 0.5]))
