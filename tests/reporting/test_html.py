"""A run and a suite in a notebook."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

import fake_suite
import pytest

from aimonk_bench.records import suite
from aimonk_bench.reporting import html as pages
from aimonk_bench.reporting import summary
from aimonk_bench.reporting.cells import versus
from aimonk_bench.reporting.words import number

HOSTILE = ["<script>alert(1)</script>", "a & b", '"x"', "'y'"]


class Page(html.parser.HTMLParser):
    """The tags, texts and rows of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.styles: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.styles += [str(value) for name, value in attrs if name == "style"]
        assert {name for name, _ in attrs} <= {"style"}
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> summary.Summary:
    folder = tmp_path_factory.mktemp("suites") / "comparison"
    fake_suite.comparison(folder)
    return summary.summarize(suite.collect(folder))


def test_a_suite_shows_its_verdict_and_the_ten_best_runs_with_intervals(comparison: summary.Summary) -> None:
    page = Page(pages.fragment(comparison))
    head, *rows = page.rows
    assert head == ["run", "macro F1", "95 % interval", "gain", "vs baseline"]
    best = comparison.ranking[:10]
    assert comparison.statistics
    for run_id, (name, f1, interval, gain, mark) in zip(best, rows, strict=False):
        values = {key: column[-1] for key, column in comparison.values[run_id].items()}
        assert name.startswith(" + ".join(comparison.collection.names[run_id]))
        assert f1 == number(values["f1_tuned"])
        assert interval == f"{number(values['f1_tuned_low'])} to {number(values['f1_tuned_high'])}"
        assert gain == number(values["f1_tuned"] - values["floor_f1"], signed=True)
        assert mark == versus(comparison.statistics.baseline[run_id], beside=True).text.plain
    names = [row[0] for row in rows]
    assert len(names) == len(best) + (comparison.collection.baseline not in best) + 3
    assert names[-3:] == ["selected per fold", "all positive", "prevalence"]
    assert sum("(base)" in name for name in names) == 1
    assert "1 run failed: class_balanced + repeat_factor (loss is not finite at epoch 3)" in page.text
    assert "1 run not run: class_balanced + class_aware" in page.text
    assert "more run" in page.text
    assert "all-positive baseline" in page.text
    assert "warning: 13 of 15 runs finished (1 failed, 1 not run)" in page.text


def test_a_run_shows_ten_attributes_and_their_macro_average(tmp_path: Path) -> None:
    names = [f"attr{number}" for number in range(12)]
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions(names))
    page = Page(pages.fragment(summary.summarize(suite.collect(tmp_path))))
    assert [row[0] for row in page.rows] == ["attribute", *names[:10], "macro"]
    assert "2 more attributes" in page.text


def test_names_are_escaped_and_there_is_nothing_but_text(tmp_path: Path) -> None:
    runs = ["<b>bold</b>", "plain"]
    for place, name in zip(fake_suite.write_suite(tmp_path, runs, name="<i>s</i>"), runs, strict=True):
        fake_suite.write_run(place, name, fake_suite.predictions(HOSTILE))
    of_suite = summary.summarize(suite.collect(tmp_path))
    of_run = summary.summarize(suite.collect(tmp_path / "runs" / of_suite.ranking[0]))
    texts = {page: Page(pages.fragment(made)) for page, made in (("suite", of_suite), ("run", of_run))}
    for page in texts.values():
        assert set(page.tags) <= {"div", "p", "strong", "br", "table", "tr", "th", "td"}
    assert "<b>bold</b>" in texts["suite"].text
    assert set(HOSTILE) <= {row[0] for row in texts["run"].rows}


def test_colours_are_those_of_the_page_around(comparison: summary.Summary) -> None:
    page = Page(pages.fragment(comparison))
    assert len(page.styles) == sum(tag in ("div", "table", "tr", "th", "td") for tag in page.tags)
    for style in page.styles:
        assert style.startswith("color: inherit; background: transparent")
        assert re.search(r"#[0-9a-f]{3}|rgb|hsl|white|black|gr[ae]y", style, re.IGNORECASE) is None


def test_a_suite_without_a_finished_run_says_so(tmp_path: Path) -> None:
    first, _, _ = fake_suite.write_suite(tmp_path, ["a", "b", "c"], skipped=[2])
    fake_suite.write_failed(first, "a", "it <broke>\nat line 3")
    page = Page(pages.fragment(summary.summarize(suite.collect(tmp_path))))
    assert page.rows == []
    assert "No run finished." in page.text
    assert "1 run failed: a (base) (it <broke>)" in page.text
    assert "1 run skipped: c (the weights cannot be had)" in page.text
