"""What a bundle says of itself: ``config.json``, which timm and transformers read, and the metadata of ``model.onnx``.

timm fails at an unknown key inside ``pretrained_cfg``; transformers fails at ``num_classes`` inside ``model_args``, and
saves what timm cannot read where there are no ``model_args`` at all. What is ours therefore stands at the root.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aimonk_bench.records.files import dumps

CONFIG, WEIGHTS, MODEL, CARD = "config.json", "model.safetensors", "model.onnx", "README.md"
BLOCK, NAMES, THRESHOLDS = "aimonk_bench", "label_names", "thresholds"  # keys of our own part, attributes, thresholds
TRAINING_IMAGES = "training_images"  # a key of the metadata of `model.onnx`
IMAGES, LOGITS = "images", "logits"  # an input and an output of `model.onnx`
SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class Bundle:
    """A classifier as its files describe it.

    Attributes:
        architecture: name of the network in timm, without a tag.
        label_names: [A] attributes.
        thresholds: attribute -> probability above which it is present.
        num_features: D.
        pretrained_cfg: how timm prepares images, and what its layers are called.
        model_args: what ``timm.create_model`` is given beside the name.
        aimonk_bench: run, head, how images are decoded, calibration, figures, licence and more; plain data.
        training_images: `TrainingImages` as text; None where they are not here.
    """

    architecture: str
    label_names: tuple[str, ...]
    thresholds: dict[str, float]
    num_features: int
    pretrained_cfg: dict[str, Any]
    model_args: dict[str, Any]
    aimonk_bench: dict[str, Any]
    training_images: str | None = None

    def config(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        numbered = dict(enumerate(self.label_names))
        return {
            "architecture": self.architecture,
            "num_classes": len(self.label_names),
            "num_features": self.num_features,
            NAMES: list(self.label_names),
            "model_args": self.model_args,
            "pretrained_cfg": self.pretrained_cfg,
            "problem_type": "multi_label_classification",  # otherwise transformers takes a softmax
            "id2label": {str(number): name for number, name in numbered.items()},
            "label2id": {name: number for number, name in numbered.items()},
            THRESHOLDS: self.thresholds,
            BLOCK: self.aimonk_bench,
        }

    def metadata(self) -> dict[str, str]:
        """The metadata of ``model.onnx``, JSON texts: all that predicting needs stands in them."""
        content: dict[str, Any] = {
            BLOCK: self.aimonk_bench,
            NAMES: list(self.label_names),
            THRESHOLDS: self.thresholds,
        }
        if self.training_images is not None:
            content[TRAINING_IMAGES] = self.training_images
        return {name: dumps(value) for name, value in content.items()}
