"""The model card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from aimonk_bench.backbones import catalog
from aimonk_bench.evaluation.plain_words import MEANING
from aimonk_bench.serving import bundle, card
from aimonk_bench.serving.choice import Choice
from aimonk_bench.serving.export import Exported

BundleOf = Callable[..., Exported]
LITE0 = replace(catalog.entry("tf_efficientnet_lite0"), hub=None)
HOSTILE = "a|b <script>x</script> *bold* `code` [l](u) \u202e"


def front_matter(text: str) -> dict[str, object]:
    _, matter, _ = text.split("---\n", 2)
    content: dict[str, object] = yaml.safe_load(matter)
    return content


def rows_of(text: str) -> list[list[str]]:
    """The cells of the table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_card_of_a_bundle(holdout: Path, bundle_of: BundleOf):
    made = bundle_of(holdout)
    text = (made.folder / bundle.CARD).read_text()
    matter = front_matter(text)
    assert (matter["license"], matter["library_name"], matter["pipeline_tag"]) == (
        "apache-2.0",
        "timm",
        "image-classification",
    )
    assert matter["base_model"] == "timm/tf_efficientnet_lite0.in1k"
    block, rows = made.bundle.aimonk_bench, rows_of(text)
    assert [row[0] for row in rows] == list(made.bundle.label_names)
    for name, row in zip(made.bundle.label_names, rows, strict=True):
        figures = block["figures"][name]
        assert f"({figures['n_positive']} of {figures['n_observed']})" in row[1]
        for place, figure in ((3, "precision"), (4, "recall")):
            value = figures[figure]["value"]
            assert row[place] == "-" if value is None else float(row[place]) == pytest.approx(value, abs=0.0051)
        assert float(row[5]) == pytest.approx(made.bundle.thresholds[name], rel=0.01)
        assert row[-1] == figures["word"]
        assert row[-1] in MEANING
    assert f"--run {made.run} --head mean" in text
    assert str(holdout.parent) not in text
    assert "slope x logit + intercept" in text  # it is calibrated
    flips = block["timm_transform"]
    assert (flips["images"], flips["test_images"]) == (80, 24)  # all images, as there are fewer than 100
    assert f"On 80 images of the data set (24 test images and 56 others) that changes {flips['flipped']} of" in text
    assert 0 < flips["median"] < flips["largest"] < 1
    assert f"by at most {flips['largest']:.2g}, in the median by {flips['median']:.2g}" in text
    assert "Pillow (bilinear)" in text
    assert "bicubic where it grows" in text
    assert card.PREVALENCE in text
    assert "has the hashes of 56 distinct image files that the weights were trained on or" in text  # 80 without 24
    compared = block["head"]["compared"]
    assert (compared["images"], compared["largest"] < 1e-3) == (48, True)  # validation and test images
    assert (
        f"On 48 images the saved weights give the logits that the run predicted, to {compared['largest']:.1g}" in text
    )


def test_python_of_the_card_loads_the_bundle(holdout: Path, bundle_of: BundleOf):
    made = bundle_of(holdout)
    text = (made.folder / bundle.CARD).read_text()
    code = text.split("```python\n")[1].split("```")[0]
    timm_part, transformers_part, onnx_part = code.replace("BUNDLE", str(made.folder)).strip().split("\n\n")
    scope: dict[str, object] = {}
    exec(timm_part, scope)
    exec(onnx_part, scope)
    assert {"model", "session"} <= set(scope)
    assert "AutoModel" in transformers_part or "pipeline(" in transformers_part


def renamed(made: bundle.Bundle, name: str) -> bundle.Bundle:
    """The bundle with another name of its first attribute."""
    first, block = made.label_names[0], made.aimonk_bench
    changed = {key: {name: block[key][first], **block[key]} for key in ("figures", "all_positive")}
    for names in changed.values():
        del names[first]
    thresholds = {name: made.thresholds[first], **made.thresholds}
    return replace(made, thresholds=thresholds, aimonk_bench={**block, **changed})


def test_names_of_a_user_are_plain_text(chosen: Choice, holdout: Path, bundle_of: BundleOf):
    made = renamed(bundle_of(holdout).bundle, HOSTILE)
    text = card.text(made, chosen, "a folder; `x`", LITE0)
    rows = rows_of(text)
    assert [len(row) for row in rows] == [8] * 4
    assert "<script>" not in text
    assert "\u202e" not in text
    assert rows[0][0].startswith("a&#124;b &lt;script&gt;")
    assert "\\*bold\\*" in rows[0][0]
    assert "export 'a folder; `x`' -o BUNDLE" in text
    assert "base_model" not in front_matter(text)


@pytest.mark.parametrize(
    ("licence", "non_commercial", "own_terms", "matter", "words"),
    [
        ("mit", False, False, {"license": "mit"}, "licence mit"),
        ("cc-by-nc-4.0", True, False, {"license": "cc-by-nc-4.0"}, "**It forbids commercial use.**"),
        (
            "dinov3-license",
            False,
            True,
            {"license": "other", "license_name": "dinov3-license"},
            "read its terms",
        ),
        (None, False, False, {"license": "unknown"}, "no licence is stated"),
    ],
)
def test_licences(
    licence: str | None,
    non_commercial: bool,
    own_terms: bool,
    matter: dict[str, str],
    words: str,
    chosen: Choice,
    holdout: Path,
    bundle_of: BundleOf,
):
    made = bundle_of(holdout).bundle
    changed = {"licence": licence, "non_commercial": non_commercial, "own_terms": own_terms}
    block = {**made.aimonk_bench, **changed}
    text = card.text(replace(made, aimonk_bench=block), chosen, "run", LITE0)
    stated = front_matter(text)
    assert {key: stated[key] for key in ("license", "license_name") if key in stated} == matter
    assert words in text


@pytest.mark.parametrize("gains", [True, False])
def test_the_card_begins_with_a_warning_where_nothing_beats_guessing(
    gains: bool, chosen: Choice, holdout: Path, bundle_of: BundleOf
):
    signal = replace(chosen.statistics.signal, gains=[gains] * 4, has_signal=[gains] * 4)
    chosen = replace(chosen, statistics=replace(chosen.statistics, signal=signal))
    text = card.text(bundle_of(holdout).bundle, chosen, "run", LITE0)
    first = text.split("\n\n")[2]
    assert (first == f"**Warning: {card.NO_GAIN}.**") == (not gains)


def test_an_undefined_figure_is_a_dash(chosen: Choice, holdout: Path, bundle_of: BundleOf):
    made = bundle_of(holdout).bundle
    name, figures = made.label_names[0], made.aimonk_bench["figures"]
    undefined = dict.fromkeys(("value", "low", "high"))
    row = {**figures[name], "n_observed": 0, "n_positive": 0, "f1_tuned": undefined, "precision": undefined}
    block = {**made.aimonk_bench, "figures": {**figures, name: row}}
    cells = rows_of(card.text(replace(made, aimonk_bench=block), chosen, "run", LITE0))[0]
    assert cells[1:4] == ["-", "- [-, -]", "-"]
