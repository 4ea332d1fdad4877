"""``README.md`` of a bundle: the model card, with the front matter of the Hugging Face hub."""

from __future__ import annotations

import html
import math
import re
import shlex
from typing import Any

import yaml

from aimonk_bench.backbones.catalog import Entry
from aimonk_bench.config.plugins import FLAG
from aimonk_bench.errors import count, printable
from aimonk_bench.evaluation.plain_words import MEANING
from aimonk_bench.reporting.words import DEPENDS_ON, number, run_name
from aimonk_bench.serving.bundle import TRAINING_IMAGES, Bundle
from aimonk_bench.serving.choice import Choice
from aimonk_bench.serving.heads import NO_MEAN
from aimonk_bench.serving.training_images import TrainingImages

PREVALENCE = "Prevalence is the share of positives among the observed labels of the test images."
NO_GAIN = "no attribute is shown to do better than calling every image positive, which needs no model"
# Licences by which the hub knows the weights of backbones; it calls the others "other".
ON_HUB = ("apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc0-1.0", "mit")

ONNX = """\
import onnxruntime
session = onnxruntime.InferenceSession("BUNDLE/model.onnx")  # logits, probabilities, decisions
"""
LOAD = """\
import timm
model = timm.create_model("local-dir:BUNDLE", pretrained=True).eval()  # logits

from transformers import pipeline
classify = pipeline("image-classification", "BUNDLE", function_to_apply="sigmoid", top_k=None)  # probabilities
"""
LOAD_PLUGIN = """\
import timm
from safetensors.torch import load_file
model = timm.create_model({name!r}, {arguments})  # after the import of the plug-in, which registers this network
model.reset_classifier({attributes})
model.load_state_dict(load_file("BUNDLE/model.safetensors"))
model.eval()  # logits
"""


def text(made: Bundle, chosen: Choice, folder: str, backbone: Entry) -> str:
    """The card.

    Args:
        made: the bundle.
        chosen: its run.
        folder: name of the folder that was exported.
        backbone: the facts about its backbone.
    """
    block = made.aimonk_bench
    parts = [
        _front_matter(block, backbone.hub),
        f"# {escaped(run_name(chosen.record.status.name))}: {count(len(made.label_names), 'attribute')} of an image",
        "" if chosen.better_than_guessing else f"**Warning: {NO_GAIN}.**",
        _what(block, chosen),
        f"Made by\n\n```\n{_command(block, folder, plugins=bool(chosen.config.plugins))}\n```",
        "## How to load it\n\nPut the path of this folder in the place of `BUNDLE`.\n\n" + _load(made, backbone),
        f"The graph takes `images`, float32 [B, 3, {block['size']}, {block['size']}], RGB from 0 to 255. "
        f"`aimonk-bench predict BUNDLE IMAGE...` decodes images as training did. {_decisions(block)}",
        "\n".join(f"- {escaped(note)}." for note in block["threshold_notes"]),
        "## How good it is\n\n" + _measured_on(block),
        _learned_from(made),
        _table(made),
        "\n".join(f"- *{word}*: {meaning}." for word, meaning in MEANING.items()),
        _evidence(chosen),
        "## Missing labels\n\n" + _missing(chosen),
        "## Differences between libraries\n\n" + _flips(made),
        "## What was not measured\n\n" + _not_measured(block),
        "## Licences\n\n" + _licences(block, chosen.record.environment["weights"]["source"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _load(made: Bundle, backbone: Entry) -> str:
    """Python that loads the bundle."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in ({"num_classes": 0} | made.model_args).items())
    of_plugin = LOAD_PLUGIN.format(name=made.architecture, arguments=arguments, attributes=len(made.label_names))
    return f"```python\n{of_plugin if backbone.code else LOAD}\n{ONNX}```"


def escaped(name: str) -> str:
    """A name of a user as plain text in Markdown, also in a table: no markup, no HTML, no invisible signs.

    >>> escaped("a|b <i>*x*"), escaped("wearing_hat"), escaped("a\\u202eb")
    ('a&#124;b &lt;i&gt;\\\\*x\\\\*', 'wearing\\\\_hat', 'a\\\\\\\\u202eb')
    """
    return re.sub(r"([\\`*_\[\]~])", r"\\\1", html.escape(printable(name), quote=False)).replace("|", "&#124;")


def _front_matter(block: dict[str, Any], hub: str | None) -> str:
    licence = block["licence"]
    content: dict[str, Any] = {"license": licence if licence in ON_HUB else "other" if licence else "unknown"}
    if content["license"] == "other":
        content["license_name"] = licence
    content |= {"library_name": "timm", "pipeline_tag": "image-classification", "metrics": ["f1"]}
    content["tags"] = ["image-classification", "multi-label", "timm", "transformers", "onnx", "aimonk_bench"]
    if hub:
        content["base_model"] = hub
    return f"---\n{yaml.safe_dump(content, sort_keys=False)}---"


def _command(block: dict[str, Any], folder: str, *, plugins: bool) -> str:
    """The command, with permission where code of plug-ins was executed."""
    head = block["head"]
    which = head["seeds"][0] if head["kind"] == "seed" else head["kind"]
    words = ["aimonk-bench", "export", folder, "-o", "BUNDLE", "--run", block["run"], "--head", str(which)]
    return shlex.join([*words, *([FLAG] if plugins else [])])


def _what(block: dict[str, Any], chosen: Choice) -> str:
    """The network, its recipe and its head."""
    columns, head, config = chosen.record.status.columns, block["head"], chosen.config
    trained = "frozen" if config.backbone.freeze == "all" else f"trained from {config.backbone.freeze} on"
    trained = "trained as a whole" if config.backbone.freeze == "none" else trained
    reasons = {
        "only": "the only run of its folder",
        "named": "named by the user",
        "selected": "the run of its suite that was selected on validation rows",
        "simplest": "the simplest run of its suite that is not distinguishable from the selected one",
    }
    seeds = f"{'seeds' if len(head['seeds']) > 1 else 'seed'} {', '.join(map(str, head['seeds']))}"
    others = config.train.seeds
    first = (
        f"; it is the first of the seeds {', '.join(map(str, others))}, because {NO_MEAN}"
        if (head["default"] and len(others) > 1)
        else ""
    )
    heads = {
        "seed": f"the head of {seeds}, as it was trained and measured{first}",
        "mean": f"the mean of the heads of {seeds}, which is one linear head again",
        "refit": f"trained again on all {head.get('images')} images for {count(head.get('epochs', 0), 'epoch')} "
        f"({seeds}{', averaged over seeds' if len(head['seeds']) > 1 else ''})",
    }
    tuned = "".join(f", {key} {value:g}" for key, value in head.get("setting", {}).items())
    return (
        f"Which of {count(len(block['figures']), 'attribute')} an image has: {escaped(columns['backbone'])}, "
        f"{trained}, with a linear head, on images of {block['size']} x {block['size']} pixels (the whole image, "
        f"squashed). Loss {escaped(columns['loss'])}, missing labels {escaped(columns['missing'])}, sampler "
        f"{escaped(columns['sampler'])}{tuned}.\n\n"
        f"The run is `{block['run']}`, {reasons[block['choice']]}. Its head is {heads[head['kind']]}."
    )


def _decisions(block: dict[str, Any]) -> str:
    """Thresholds and calibration."""
    kinds = {
        "seed": "tuned for this head on the validation rows",
        "mean": "tuned on the validation rows for the averaged logits",
        "refit": "the mean over folds and seeds of the run's thresholds, on the logit scale",
    }
    decided = (
        "An attribute is present where its probability is above its threshold. The thresholds stand in `config.json`; "
        f"they are {kinds[block['head']['kind']]} (`{block['thresholds_chosen']}`). timm and transformers do not apply "
        "them; `model.onnx` does, and takes others as the input `thresholds`."
    )
    if block["calibration"] is None:
        return decided
    return decided + (
        " Probabilities are those of the raw logits, which thresholds compare with. Platt scaling was fitted on "
        "validation rows: with `slope` and `intercept` of `aimonk_bench.calibration` in `config.json`, "
        "1 / (1 + exp(-(slope x logit + intercept))) is the calibrated probability; an attribute without a number "
        "there had too few validation labels."
    )


def _measured_on(block: dict[str, Any]) -> str:
    if block["figures_of"] == "head":
        return (
            "Figures of these very weights on test images that no training and no threshold has seen, with 95 % "
            f"confidence intervals. {PREVALENCE} Precision and recall are at the threshold. {_compared(block)}"
        )
    how = f"{block['folds']}-fold cross-validation" if block["folds"] > 1 else "the hold-out"
    return (
        f"**The figures are those of the recipe by {how}, not of these weights.** The weights were trained on all "
        "images, so none is left to measure them on. Heads that were trained in the same way on fewer images reached "
        f"the figures below, each on images that it had not seen (95 % confidence intervals). {PREVALENCE} Precision "
        "and recall are at the thresholds of those heads."
    )


def _learned_from(made: Bundle) -> str:
    """Which images must not be used to measure these weights again, and where that stands."""
    if made.training_images is None:
        return (
            "The bundle does not say which images the weights have learned from: labels and images were not those of "
            "the run any more when it was exported. Measure it on other images only."
        )
    images = TrainingImages.of_text(made.training_images)
    least = "at least " if images.is_sample else ""
    return (
        f"`{TRAINING_IMAGES}` in the metadata of `model.onnx` has the hashes of {least}{len(images.prefixes)} distinct "
        "image files that the weights were trained on or the thresholds tuned on. `aimonk-bench predict --labels` "
        "warns where it is measured on them."
    )


def _compared(block: dict[str, Any]) -> str:
    """Whether the saved weights are those that were measured."""
    compared = block["head"]["compared"]
    if not compared["images"]:
        return "Whether the saved weights give the logits of the run was not checked: its images could not be read."
    return (
        f"On {count(compared['images'], 'image')} the saved weights give the logits that the run predicted, to "
        f"{compared['largest']:.1g}."
    )


def _table(made: Bundle) -> str:
    """A row for each attribute."""
    head = ["attribute", "prevalence", "F1", "precision", "recall", "threshold", "F1 of all positive", "verdict"]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 2)} --- |"]
    block = made.aimonk_bench
    for name, row in block["figures"].items():
        n, positive = row["n_observed"], row["n_positive"]
        cells = [
            escaped(name),
            f"{number(positive / n)} ({positive} of {n})" if n else "-",
            f"{_written(row['f1_tuned']['value'])} [{_written(row['f1_tuned']['low'])}, "
            f"{_written(row['f1_tuned']['high'])}]",
            _written(row["precision"]["value"]),
            _written(row["recall"]["value"]),
            f"{made.thresholds[name]:.3g}",
            _written(block["all_positive"][name]),
            row["word"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _written(value: float | None) -> str:
    return number(math.nan if value is None else value)


def _evidence(chosen: Choice) -> str:
    """On which runs the words of the table rest."""
    if not chosen.of_suite:
        return "The words rest on the tests of this run over all its seeds, adjusted for the number of attributes."
    return (
        "The words rest on the tests of the suite, adjusted for the number of attributes, on the runs that the "
        "validation rows of each fold select: this run is one of them or not distinguishable from them."
    )


def _missing(chosen: Choice) -> str:
    """How missing labels were treated, and how many there are."""
    data, config = chosen.record.data, chosen.config
    policy = escaped(chosen.record.status.columns["missing"])
    lines = [
        f"Training treated missing labels by the policy *{policy}*. Figures are over observed labels; thresholds were "
        "tuned on observed labels."
    ]
    absent = {name: 1 - observed / data["n_used"] for name, observed in data["n_observed"].items()}
    depends = chosen.record.doubts.missing_depends if chosen.record.doubts else {}
    for name, share in absent.items():
        if share > 0:
            on = [DEPENDS_ON[family] for family in depends.get(name, [])]
            lines.append(
                f"- {escaped(name)}: {100 * share:.3g} % missing{', depending on ' + ' and '.join(on) if on else ''}"
            )
    if config.hide is not None:
        lines.append(f"\nOf the observed labels, `hide` kept some from training: {config.hide}.")
    return "\n".join([lines[0], "", *lines[1:]]) if len(lines) > 1 else f"{lines[0]} None is missing."


def _flips(made: Bundle) -> str:
    """What timm's transform changes."""
    block = made.aimonk_bench
    flips = block["timm_transform"]
    start = (
        f"timm and transformers resize images with Pillow ({made.pretrained_cfg['interpolation']}), training and "
        f"`aimonk-bench predict` with OpenCV (by area where an image shrinks, {block['interpolation']} where it grows)."
    )
    compared = (
        "`model.onnx` was compared with torch for batches of 1 and 7: logits agree within 1e-4 (relative to the "
        "largest where that is above 1), decisions wherever a logit is not that close to its threshold."
    )
    if not flips["images"]:
        missing = "How many decisions that changes was not measured, because the images of the run could not be read."
        return f"{start} {missing} {compared}"
    unreadable = f" Pillow cannot read {flips['unreadable']} further images." if flips["unreadable"] else ""
    white = (
        f" Images of more than 8 bits are scaled so that {block['white']} is white, which timm and transformers do not "
        "do."
        if block["white"] is not None
        else ""
    )
    others = flips["images"] - flips["test_images"]
    which = f" ({flips['test_images']} test images and {others} others)" if others else ""
    return (
        f"{start} On {flips['images']} images of the data set{which} that changes {flips['flipped']} of "
        f"{flips['decisions']} decisions; a probability changes by at most {flips['largest']:.2g}, in the median by "
        f"{flips['median']:.2g}.{unreadable}{white} {compared}"
    )


def _not_measured(block: dict[str, Any]) -> str:
    lines = [
        "Images from other cameras, places, times or people than those of the data set.",
        "Subgroups of the images.",
        "Images whose label is missing: whether they are as easy as the labelled ones is unknown.",
    ]
    if block["calibration"] is None:
        lines.append("Whether probabilities are calibrated: no calibrator was fitted.")
    if block["head"]["kind"] == "refit":
        lines.append("These very weights: see above.")
    return "\n".join(f"- {line}" for line in lines)


def _licences(block: dict[str, Any], source: str) -> str:
    licence = block["licence"]
    stated = f"licence {escaped(licence)}" if licence else "no licence is stated"
    terms = ""
    if block["non_commercial"]:
        terms = " **It forbids commercial use.**"
    elif block["own_terms"]:
        terms = " It is the publisher's own: read its terms."
    pretrained = f"The pretrained weights of {escaped(block['backbone'])}: {stated}.{terms}"
    if source == "none":
        pretrained = f"{escaped(block['backbone'])} has no pretrained weights."
    return (
        f"- {pretrained}\n"
        "- The images and labels that the head was trained on: theirs is not known to this program, and may bind the "
        "head too."
    )
