"""The report page: its numbers are those of the files, no name is markup, and nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
import html
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import fake_suite
import numpy as np
import oracles
import pytest
from fake_pages import HOSTILE, run_folder

import aimonk_bench
from aimonk_bench import cli
from aimonk_bench.errors import UserError, printable
from aimonk_bench.evaluation.comparison import MARGIN
from aimonk_bench.evaluation.plain_words import USEFUL_AUC, Word
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.verdict import Doubts, detectable_auc
from aimonk_bench.records import run as runs
from aimonk_bench.records import suite as suites
from aimonk_bench.report import advice, curves, galleries, page, thumbnails
from aimonk_bench.report.data_facts import data_lines
from aimonk_bench.report.document import BEST, Document, document
from aimonk_bench.report.shortened import shortened
from aimonk_bench.report.thumbnails import EDGE, ImageFolder, thumbnail
from aimonk_bench.reporting import summary
from aimonk_bench.reporting.cells import interval
from aimonk_bench.reporting.frames import ErrorKind
from aimonk_bench.reporting.summary import NUMERIC
from aimonk_bench.reporting.words import number

OXLINT = shutil.which("oxlint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
ELSEWHERE = re.compile(r"(?:src|href|action|data|poster)\s*=\s*[\"']?(?!#|data:)[^\s\"'>]+|url\(|@import|https?:", re.I)


class Elements(html.parser.HTMLParser):
    """The elements of a page, as a browser finds them: (name, attributes), and the texts of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts.append(data)


def documents_in(text: str) -> list[dict[str, Any]]:
    """The JSON of a page."""
    found: list[dict[str, Any]] = json.loads(Elements(text).scripts[0])
    return found


@pytest.fixture(scope="module")
def doc(written: str) -> dict[str, Any]:
    """The only document of the page."""
    [found] = documents_in(written)
    return found


def test_every_figure_of_the_page_equals_the_summary(suite_folder: Path, doc: dict[str, Any]) -> None:
    table = aimonk_bench.load(suite_folder).summary
    rows = [*HOSTILE, "macro"]
    compared = 0
    for run in doc["runs"]:
        of_run = table[table["run"] == run["id"]].set_index("attribute").loc[rows]
        assert run["state"] == of_run["state"].iloc[0]
        assert set(run["figures"]) >= {name for name in NUMERIC if of_run[name].notna().any()}
        for name, values in run["figures"].items():
            expected = [None if np.isnan(value) else value for value in of_run[name].astype(float)]
            assert (values * len(rows) if len(values) == 1 else values) == expected, name
            compared += len(expected)
    assert compared > 3 * 6 * 25


def test_differences_words_and_bounds_equal_the_files(suite_folder: Path, doc: dict[str, Any]) -> None:
    stored = json.loads((suite_folder / suites.STATISTICS).read_text())
    assert (doc["selected"], doc["simplest"]) == (stored["winner"], stored["simplest"])
    marked = {run["id"]: [mark["word"] for mark in run["marks"]] for run in doc["runs"]}
    for word, expected in {
        "selected": [stored["winner"]],
        "simplest": [stored["simplest"]],
        "baseline": [doc["baseline"]],
        "tie": stored["indistinguishable"],
    }.items():
        assert {run_id for run_id, words in marked.items() if word in words} == set(expected)
    for run in doc["runs"]:
        delta = stored["baseline"].get(run["id"])
        stated = run["versus_baseline"] and dict(run["versus_baseline"])
        assert (stated is None) == (delta is None)
        if stated is not None:
            shown = stated.pop("interval")
            assert stated == {field: delta[field] for field in stated}
            bounds = delta["simultaneous_low"], delta["simultaneous_high"]
            assert shown == (interval(*bounds, MARGIN) if delta["mark"] else "")
        if run["figures"]:
            metrics = json.loads((suite_folder / "runs" / run["id"] / runs.METRICS).read_text())
            columns = list(metrics["attribute"].values())
            assert run["figures"]["f1_default"][:-1] == [column["f1_default"]["value"] for column in columns]
            assert run["na_low"] == metrics["na_bounds"]["f1_low"]
            assert run["calibration"] == metrics["calibration"]
    signal = stored["signal"]
    for name in ("gain", "gain_low"):
        assert [attribute[name] for attribute in doc["attributes"]] == signal[name]
    for a, attribute in enumerate(doc["attributes"]):
        figures = (signal["adjusted"], signal["gain_adjusted"], signal["detectable_auc"])
        p_signal, p_gain, auc = (np.nan if values[a] is None else values[a] for values in figures)
        expected = f"signal {number(p_signal, places=3)}, gain {number(p_gain, places=3)}; detectable AUC {number(auc)}"
        assert attribute["tests"].endswith(expected)


def test_a_run_that_only_the_tests_against_the_baseline_find_worse_is_marked(suite_folder: Path) -> None:
    stats = summary.summarize(suites.collect(suite_folder)).statistics
    tied = next(run_id for run_id, delta in stats.against_winner.items() if delta.mark != "worse")
    without = replace(stats.verdict, indistinguishable=[], worse=[])
    for verdict, expected in ((without, []), (replace(without, worse=[tied]), ["worse"])):
        words = [mark["word"] for mark in advice.marks(replace(stats, verdict=verdict), tied, baseline=None)]
        assert [word for word in words if word.startswith("worse")] == expected


def test_the_cards_show_the_figures_of_the_files(suite_folder: Path, written: str) -> None:
    stored = json.loads((suite_folder / suites.STATISTICS).read_text())
    summarized = summary.summarize(suites.collect(suite_folder))
    cards = advice.cards(summarized)
    table = aimonk_bench.load(suite_folder).pivot()
    runs_shown = [stored["simplest"], *[stored["winner"]] * (stored["winner"] != stored["simplest"])]
    assert [card["value"] for card in cards[:-1]] == [table.loc[run_id, "macro"] for run_id in runs_shown]
    covered = summarized.covered["f1_tuned"]
    nested = np.array(stored["chosen"]["value"]["f1_tuned"], float)[covered].mean()
    assert (cards[-1]["name"], cards[-1]["value"]) == ("selected per fold", pytest.approx(nested))
    for card in cards:
        assert f'title="exactly {card["value"]}">{card["figure"]}<' in written
        assert all(printable(line) in html.unescape(written) for line in card["lines"])


def test_a_run_with_other_seeds_is_marked_and_ranked_last(tmp_path: Path) -> None:
    names = ["masked_bce", "other seeds", "focal"]
    places = fake_suite.write_suite(tmp_path, names)
    for i, place in enumerate(places):
        made = fake_suite.predictions(["a", "b"], signal=1 + i % 2, noise=i, seeds=3 if i == 1 else 2)
        run_folder(place, names[i], made)
    doc = document(summary.summarize(suites.collect(tmp_path)))
    marked = {run["name"]: [mark["word"] for mark in run["marks"]] for run in doc["runs"]}
    assert [name for name, words in marked.items() if "not selected from" in words] == ["other seeds"]
    assert doc["ranking"][-1] == places[1].name


@pytest.mark.parametrize(
    ("word", "more", "expected"),
    [
        ("cannot be told", 17, "17 more"),
        ("cannot be told", 0, "enough"),
        ("cannot be told", None, "no number would do"),
        ("works", 17, ""),
    ],
)
def test_what_would_settle_an_attribute_is_said_where_it_cannot_be_told(
    word: Word, more: int | None, expected: str
) -> None:
    assert advice.needed(word, more) == expected
    assert any(column == "positives to tell" for column, _ in advice.meanings(["works", word])) == bool(expected)


def test_as_many_more_positives_as_are_said_make_a_useful_auc_detectable() -> None:
    """And one fewer does not."""
    for positives, negatives, attributes in ((5, 815, 4), (1, 40, 40), (0, 300, 2), (3, 3_000, 10)):
        more = advice.more_positives(positives, negatives, attributes)
        assert more
        with_them, without_one = detectable_auc(
            np.array([positives + more, positives + more - 1]), np.array([negatives] * 2), attributes
        )
        assert with_them <= USEFUL_AUC < without_one
    assert advice.more_positives(5, 0, 4) is None


def test_hostile_names_are_text(written: str, doc: dict[str, Any]) -> None:
    elements = Elements(written)
    assert [tag for tag, _ in elements.found].count("script") == 2
    assert not [names for _, names in elements.found if any(name.startswith("on") for name in names)]
    assert "</script><script>alert" not in written.replace("</script>\n<script>", "")
    assert "\u2028" not in "".join(elements.scripts)
    shown = written.replace(elements.scripts[0], "")
    assert "\u202e" not in shown
    assert "\\u202eright" in shown
    assert [attribute["name"] for attribute in doc["attributes"]] == list(HOSTILE)


def test_the_page_loads_nothing_and_names_no_path(written: str, suite_folder: Path) -> None:
    elements = Elements(written)
    policy = next(names["content"] for tag, names in elements.found if tag == "meta" and "http-equiv" in names)
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    markup = written.replace(elements.scripts[0], "").replace(elements.scripts[1], "")
    assert ELSEWHERE.findall(markup) == []
    assert "style=" not in markup
    assert str(suite_folder.parent) not in written
    assert "x.png cannot be decoded" in written


def test_without_a_script_the_answer_the_table_a_chart_and_the_making_show(
    suite_folder: Path, written: str, doc: dict[str, Any]
) -> None:
    markup = written.partition('<script type="application/json"')[0]
    shown = html.unescape(markup)
    assert printable(str(aimonk_bench.load(suite_folder).verdict)) in shown
    assert "aimonk-bench report suite" in shown
    assert shown.count("<h3>Config</h3>") == len(doc["curves"])
    assert markup.count('class="dot"') == 3
    assert markup.count('<th scope="row">') == 4
    assert "(failed: x.png cannot be decoded" in markup


def test_curves_agree_with_the_figures() -> None:
    made = oracles.predictions(3, images=300, folds=2, signal=1.0)
    rows = made.part("test")
    f1 = curves.f1_at_threshold(made)
    half = oracles.metric("f1", rows.probabilities, rows.labels)
    np.testing.assert_array_equal(f1[:, 50], half)
    precision = curves.precision_at_recall(made)
    folds = [made.part("test", fold) for fold in range(2)]
    average = [oracles.metric("average_precision", fold.probabilities, fold.labels) for fold in folds]
    np.testing.assert_allclose(precision.mean(axis=1), np.mean(average, axis=0), atol=0.02)


def test_an_attribute_without_positives_has_no_curves() -> None:
    made = oracles.predictions(0, without_positives=oracles.NAMES[1:2])
    for values in (curves.f1_at_threshold(made), curves.precision_at_recall(made)):
        assert np.isnan(values[..., 1]).all()
        assert np.isfinite(values[..., 0]).all()


def test_the_default_suite_stays_under_2_mb(written: str, suite_folder: Path) -> None:
    """24 runs x 4 attributes: of these the page has at most 23 with curves, and all thumbnails that it may have."""
    record = suites.collect(suite_folder).finished[0]
    of_run = curves.curves(record)
    of_attribute = max(len(page.embedded(one)) for one in of_run["attributes"])
    rest = len(page.embedded(of_run["loss"])) + curves.LOSS_POINTS * 40 + 5000  # config and environment
    without_data = len(written) - len(Elements(written).scripts[0])
    assert without_data + (BEST + 3) * (4 * of_attribute + rest) + galleries.MOST_BYTES + 300_000 < 2_000_000


def test_confusion_counts_and_histograms_count_every_test_row(suite_folder: Path, doc: dict[str, Any]) -> None:
    for run_id, of_run in doc["curves"].items():
        made = Predictions.load(suite_folder / "runs" / run_id / runs.PREDICTIONS).part("test")
        for a, of_attribute in enumerate(of_run["attributes"]):
            assert sum(of_attribute["confusion"].values()) == pytest.approx(made.labels.observed[:, a].sum())
            assert sum(map(sum, of_attribute["histogram"].values())) == pytest.approx(len(made.fold), abs=0.1)


@pytest.mark.parametrize(
    ("n_groups", "doubts", "expected"),
    [
        (None, None, []),
        (8, None, ["Images that have the bytes or the group of an earlier one: 1."]),
        (
            9,
            Doubts(25, {}, {"hat": ["size", "missing"]}),
            [
                "Images that have the bytes or the group of an earlier one: none.",
                "Pairs of near duplicates that the split separates: 25.",
                "Missing labels of hat depend on the size of the image and the NA of other attributes.",
            ],
        ),
    ],
)
def test_duplicates_and_what_missing_labels_depend_on_are_said(
    n_groups: int | None, doubts: Doubts | None, expected: list[str]
) -> None:
    data = {"n_used": 9, "n_listed": 1_000, "skipped": [{}]} | ({} if n_groups is None else {"n_groups": n_groups})
    assert list(data_lines(data, doubts)) == ["Used 9 of 1000 listed images; skipped: 1.", *expected]


def test_galleries_show_what_is_wrong(suite_folder: Path, doc: dict[str, Any]) -> None:
    shown = doc["galleries"]
    run = aimonk_bench.load(suite_folder)[doc["simplest"]]
    for gallery in shown["galleries"]:
        items = [[shown["images"][i] for i in item["images"]] for item in gallery["items"]]
        a = gallery["attribute"]
        if gallery["kind"] in ("false_positive", "false_negative"):
            errors = run.errors(HOSTILE[a], gallery["kind"], n=None)
            assert gallery["total"] == len(errors)
            assert [image["id"] for [image] in items] == errors["image"].head(len(items)).tolist()
            assert {image["labels"][a] for [image] in items} == {int(gallery["kind"] == "false_negative")}
        if gallery["kind"] == "unknown":
            assert {image["labels"][a] for [image] in items} == {None}
        if gallery["kind"] == "near_duplicates":
            assert all(differing(one, other) for one, other in items)
    kinds = {gallery["kind"] for gallery in shown["galleries"]}
    assert kinds == {*get_args(ErrorKind), "suspected", "unknown", "disagreement", "near_duplicates"}
    assert "image files could not be read" in doc["no_images"]


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[int]:
    """The attributes in which two images have opposite labels."""
    return [i for i, pair in enumerate(zip(one["labels"], other["labels"], strict=True)) if set(pair) == {0, 1}]


def test_pages_without_images(suite_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "page.html"
    assert cli.main(["report", str(suite_folder), str(suite_folder), "-o", str(out), "--no-images"]) == 0
    assert str(out) in capsys.readouterr().err
    pages = documents_in(out.read_text())
    assert [doc["galleries"] for doc in pages] == [None, None]
    assert "base64" not in json.dumps(pages)
    moved = suite_folder.parent / "images"
    moved.rename(tmp_path / "elsewhere")
    try:
        assert cli.main(["report", str(suite_folder), "-o", str(out)]) == 0
        [doc] = documents_in(out.read_text())
        assert doc["galleries"] is None
        assert "expected a folder that exists" in doc["no_images"]
        assert str(tmp_path) not in doc["no_images"]
        assert f"found {moved}" in capsys.readouterr().err
    finally:
        (tmp_path / "elsewhere").rename(moved)


@pytest.mark.parametrize("name", ["folder", "labels.csv"])
def test_a_page_replaces_no_other_file(name: str, suite_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "labels.csv").write_text("image,attr\n")
    with pytest.raises(UserError, match=name):
        aimonk_bench.report(suite_folder, tmp_path / name)
    assert (tmp_path / "labels.csv").read_text() == "image,attr\n"


def test_a_single_run_without_a_baseline_has_a_page(suite_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(next(path for path in (suite_folder / "runs").iterdir() if (path / runs.METRICS).exists()), folder)
    assert aimonk_bench.report(folder, images=False) == folder / "report.html"
    [doc] = documents_in((folder / "report.html").read_text())
    assert [run["marks"] for run in doc["runs"]] == [[]]
    assert "nested model selection" not in (folder / "report.html").read_text()
    assert aimonk_bench.load(folder).failure is None


def test_thumbnails_are_small_and_keep_their_proportions(suite_folder: Path) -> None:
    folder = ImageFolder(suite_folder.parent / "images")
    [name] = [path.name for path in folder.path.iterdir()][:1]
    small = thumbnail((folder.path / sorted(os.listdir(folder.path))[0]).read_bytes())
    assert (small.width, small.height) == (EDGE, EDGE // 2)
    assert len(small.webp) < 8000
    assert folder.files([name, "nowhere.png"]) == [folder.path / name, None]


def test_only_images_whose_hash_is_not_stored_are_decoded(suite_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ImageFolder(suite_folder.parent / "images")
    names = sorted(os.listdir(folder.path))[:5]
    computed = folder.hashes([*names, "nowhere.png"], lambda white: {}, lambda *step: None)
    assert computed.usable[-1] == np.False_
    contents = [(folder.path / name).read_bytes() for name in names]
    stored = {hashlib.sha256(content).hexdigest(): place for place, content in enumerate(contents[:4])}
    monkeypatch.setattr(thumbnails, "perceptual_hash", lambda data, white: contents.index(data) * 100)
    assert folder.hashes(names, {None: stored}.__getitem__, lambda *step: None).bits.tolist() == [
        *(stored[hashlib.sha256(content).hexdigest()] for content in contents[:4]),
        400,
    ]


def test_galleries_fill_up_in_turn_until_the_budget_is_spent() -> None:
    many = galleries.Candidates("a", None, 9, [([i], "") for i in range(9)])
    others = galleries.Candidates("b", None, 2, [([0, 20], ""), ([21], "")])
    within = galleries._within([many, others], 5)
    assert [[rows for rows, _ in one.items] for one in within] == [[[0], [1], [2]], [[0, 20], [21]]]
    assert [one.total for one in within] == [9, 2]
    heavy = galleries._within([many], 5, dict.fromkeys(range(9), 2))
    assert len(heavy[0].items) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/anna/x/labels.txt:3: found", "labels.txt:3: found"),
        ("in C:\\Users\\anna\\x.png", "in x.png"),
        ("~/data/x.png", "x.png"),
        ("found:/home/anna/x.png", "found:x.png"),
        ("file:///home/anna/x.png", "x.png"),
        ("n/a, 1/2, a//b", "n/a, 1/2, a//b"),
        ("runs/focal/x.png", "runs/focal/x.png"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ({"file": ["/a/b/c"]}, {"file": ["c"]}),
        (None, None),
    ],
)
def test_paths_are_shortened(text: object, expected: object) -> None:
    assert shortened(text) == expected


def test_a_suite_without_a_finished_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    [place, _] = fake_suite.write_suite(tmp_path, ["hill", "focal"])
    fake_suite.write_failed(place, "hill", "loss is not finite")
    text = aimonk_bench.report(tmp_path, images=False).read_text()
    assert "No run finished." in text.partition('<script type="application/json"')[0]
    [doc] = documents_in(text)
    assert [(run["state"], run["reason"]) for run in doc["runs"]] == [
        ("failed", "loss is not finite"),
        ("not run", None),
    ]


def test_many_runs_have_rows_and_the_best_have_curves(tmp_path: Path) -> None:
    names = [f"loss{i}" for i in range(BEST + 3)]
    made = fake_suite.predictions(["a"])
    places = fake_suite.write_suite(tmp_path, names, baseline=1)
    run_folder(places[0], names[0], made)
    for place, name in zip(places[1:], names[1:], strict=True):
        shutil.copytree(places[0], place)
        status = json.loads((place / runs.STATUS).read_text()) | {"id": place.name, "name": [name]}
        (place / runs.STATUS).write_text(json.dumps(status))
    doc = document(summary.summarize(suites.collect(tmp_path)))
    assert len(doc["runs"]) == len(names)
    assert set(doc["curves"]) >= {*doc["ranking"][:BEST], doc["selected"], doc["simplest"], doc["baseline"]}
    assert len(doc["curves"]) <= BEST + 3
    assert doc["making"].keys() == doc["curves"].keys()


def test_the_page_shows_every_part_of_its_document(written: str) -> None:
    assets = Path(page.__file__).parent / "assets"
    used = "".join((assets / name).read_text() for name in (*page.SCRIPTS, "page.html.jinja"))
    assert [key for key in Document.__annotations__ if f"doc.{key}" not in used and f"document.{key}" not in used] == []
    defined = re.findall(r"^(?:async )?function (\w+)|^const (\w+)", used, re.M)
    assert [name for name in map("".join, defined) if len(re.findall(rf"\b{name}\b", used)) < 2] == []


@pytest.mark.skipif(OXLINT is None, reason="oxlint, of the dev extra, is not here")
def test_the_script_has_no_errors_and_no_unused_or_undefined_names(written: str, tmp_path: Path) -> None:
    script, config = tmp_path / "page.js", tmp_path / "oxlint.json"
    rules = ("eqeqeq", "no-shadow", "no-undef", "no-var", "prefer-const")
    config.write_text(
        json.dumps(
            {
                "env": {"browser": True, "es2022": True},
                "categories": {"correctness": "error"},
                "rules": dict.fromkeys(rules, "error"),
            }
        )
    )

    def problems(text: str) -> str:
        script.write_text(text)
        command = [str(OXLINT), "--deny-warnings", "--config", str(config), str(script)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else done.stdout

    assert problems(Elements(written).scripts[1]) == ""
    wrong = {"const unused = 1;": "no-unused-vars", "f(1);": "no-undef", "f(;": "Unexpected token"}
    assert [text for text, problem in wrong.items() if problem not in problems(text)] == []
