"""The report page in a browser. Needs chromium, its driver and selenium; axe-core too for the check of access."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_suite
import pytest
from fake_pages import HOSTILE

import aimonk_bench

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not here")
if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
    pytest.skip("chromium and its driver are not here", allow_module_level=True)

from selenium.webdriver.common.by import By  # noqa: E402  # where it is there
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402


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
    assert texts(page, "#live h2") == headings
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
    Select(browser.find_element(By.CSS_SELECTOR, "#folders select")).select_by_index(1)
    assert len(board(browser)) == 1
    assert browser.get_log("browser") == []


def test_the_leaderboard_sorts_and_filters(page: Any) -> None:
    assert len(board(page)) == 3
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
