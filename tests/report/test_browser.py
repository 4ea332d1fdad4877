"""The report page in a browser. Needs chromium, its driver and selenium; axe-core too for the check of access."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_suite
import pandas as pd
import pytest
from fake_pages import HOSTILE

import aimonk_bench
from aimonk_bench.errors import printable
from aimonk_bench.reporting.summary import NUMERIC

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not here")
if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
    pytest.skip("chromium and its driver are not here", allow_module_level=True)

from selenium.webdriver.common.by import By  # noqa: E402  # where it is there
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, page_file: Path) -> Any:
    """The page, just opened; nothing may have been written to the console."""
    browser.get(page_file.as_uri())
    assert browser.get_log("browser") == []
    return browser


def texts(page: Any, selector: str) -> list[str]:
    return [element.text for element in page.find_elements(By.CSS_SELECTOR, selector)]


def board(page: Any) -> list[str]:
    return texts(page, "#runs .board:not(.heat) tbody tr")


def test_every_section_is_there_and_nothing_is_asked_of_the_network(page: Any) -> None:
    headings = [
        *("What should I use?", "How do the runs compare?", "Which attributes work?", "How does this run behave?"),
        *("Where is it wrong?", "What is in the data?", "How was it made?"),
    ]
    assert [text for text in texts(page, "main h2") if text] == headings  # those of the static part do not show
    assert page.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)") == []
    assert page.switch_to.active_element.tag_name == "body"
    assert HOSTILE[0] in page.find_element(By.ID, "attributes").text
    assert "\\u202eright" in page.find_element(By.ID, "attributes").text
    assert "\u202e" not in page.execute_script("return document.body.innerText")


def test_a_suite_without_a_finished_run_and_a_single_run(browser: Any, suite_folder: Path, tmp_path: Path) -> None:
    [place] = fake_suite.write_suite(tmp_path / "failed", ["hill"])
    fake_suite.write_failed(place, "hill", "loss is not finite")
    run = aimonk_bench.load(suite_folder).baseline.folder
    page = aimonk_bench.report([tmp_path / "failed", run], tmp_path / "page.html", images=False)
    browser.get(page.as_uri())
    assert "loss is not finite" in browser.find_element(By.CSS_SELECTOR, "#live #runs").text
    assert [text for text in texts(browser, ".verdict") if text] == ["No run finished."]
    Select(browser.find_element(By.CSS_SELECTOR, "#folders select")).select_by_index(1)
    assert len(board(browser)) == 1
    [verdict] = [text for text in texts(browser, ".verdict") if text]
    assert verdict == printable(str(aimonk_bench.load(run).verdict))
    assert len([text for text in texts(browser, "#making pre") if text]) == 2  # commands and config of this one alone
    assert browser.get_log("browser") == []


def test_without_javascript_the_answer_and_the_chart_show(browser: Any, page_file: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page_file.as_uri())
        for selector in (
            ".verdict",
            ".cards",
            ".static svg.chart",
            ".static table",
            ".static > p",
            "#making details[open] dl",
        ):
            assert browser.find_element(By.CSS_SELECTOR, selector).is_displayed(), selector
        assert not browser.find_element(By.CSS_SELECTOR, "[data-download]").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_summary_is_downloaded_as_it_stands_in_the_folder(
    page: Any, page_file: Path, suite_folder: Path, tmp_path: Path
) -> None:
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for button in page.find_elements(By.CSS_SELECTOR, "[data-download]"):
        button.click()
    files = [tmp_path / f"comparison-summary.{form}" for form in ("csv", "json")]
    WebDriverWait(page, 20).until(lambda _: all(file.exists() and file.stat().st_size for file in files))
    expected = aimonk_bench.load(suite_folder).summary.astype(
        {"seeds": float, "n_observed": float, "n_positive": float}
    )
    texts = {"run": str, "attribute": str}
    from_csv = pd.read_csv(files[0], dtype=texts, keep_default_na=False, na_values="")
    from_json = pd.DataFrame(json.loads(files[1].read_text()))
    assert from_csv["attribute"].tolist()[3] == "'=1+1"  # no formula of a spreadsheet
    for made in (from_csv, from_json):
        pd.testing.assert_frame_equal(
            made[[*NUMERIC]].astype(float), expected[[*NUMERIC]].astype(float), check_exact=True
        )
        assert made["run"].tolist() == expected["run"].tolist()


def test_what_is_copied_says_so(page: Any) -> None:
    page.execute_script("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
    button = page.find_element(By.CSS_SELECTOR, "#making details[open] button")
    button.click()
    WebDriverWait(page, 5).until(lambda _: button.text == "copied")
    assert "name: fake" in page.execute_script("return window.copied")
    page.execute_script("navigator.clipboard.writeText = () => Promise.reject()")
    WebDriverWait(page, 5).until(lambda _: button.text == "copy")
    button.click()
    WebDriverWait(page, 5).until(lambda _: "select the text" in button.text)


def test_on_paper_there_are_no_controls(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert [text for text in texts(page, "header, .tools, figcaption button") if text] == []
        assert page.find_element(By.CSS_SELECTOR, "#live .board").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_leaderboard_sorts_and_filters(page: Any) -> None:
    assert len(board(page)) == 3
    validation = [float(text) for text in texts(page, "#runs .board:not(.heat) tbody tr td:nth-of-type(5)")]
    assert validation == sorted(validation, reverse=True)
    button = next(b for b in page.find_elements(By.CSS_SELECTOR, "#runs thead button") if b.text.startswith("gain"))
    button.click()
    gains = [float(text) for text in texts(page, "#runs .board:not(.heat) tbody tr td:nth-of-type(3)")]
    assert gains == sorted(gains, reverse=True)
    assert page.find_element(By.CSS_SELECTOR, "th[aria-sort=descending]").text.startswith("gain")
    page.switch_to.active_element.send_keys(Keys.ENTER)  # the same button, by the keyboard
    assert page.find_element(By.CSS_SELECTOR, "th[aria-sort=ascending]").text.startswith("gain")
    field = page.find_element(By.CSS_SELECTOR, "#runs input")
    field.send_keys("focal")
    assert [text.split()[0] for text in board(page)] == ["focal"]
    assert page.switch_to.active_element.get_attribute("value") == "focal"


def test_a_chart_shows_as_a_table(page: Any) -> None:
    figure = page.find_element(By.CSS_SELECTOR, "#behaviour figure")
    figure.find_element(By.CSS_SELECTOR, "figcaption button").click()
    assert len(figure.find_elements(By.CSS_SELECTOR, "tbody tr")) == 100
    assert figure.find_elements(By.CSS_SELECTOR, "svg") == []


def test_an_image_is_enlarged_and_the_keyboard_goes_on_and_back(page: Any) -> None:
    page.find_element(By.CSS_SELECTOR, ".gallery button:not(:only-child)").send_keys(Keys.ENTER)
    dialog = page.find_element(By.ID, "enlarged")
    assert dialog.is_displayed()
    assert len(dialog.find_elements(By.CSS_SELECTOR, "tbody tr")) == len(HOSTILE)
    first = dialog.text
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert dialog.text != first
    page.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert dialog.text == first
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()


def test_a_phone_scrolls_tables_and_not_the_page(page: Any) -> None:
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible_in_both_themes(theme: str, page: Any) -> None:
    axe = pytest.importorskip("axe_selenium_python", reason="axe-selenium-python is not here").Axe(page)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
    colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (int(colour.strip("rgb()").split(",")[0]) > 128) == (theme == "light")
    axe.inject()
    result = axe.run()
    assert len(result["passes"]) > 10
    problems = result["violations"]
    grave = {one["id"]: one["nodes"][0]["html"][:200] for one in problems if one["impact"] in ("serious", "critical")}
    assert grave == {}
