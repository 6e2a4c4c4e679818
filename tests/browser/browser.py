"""A real browser without a window, and what stands on the pages that it opens."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars")
_WAIT = 60.0

# TensorBoard's pages are trees of shadow roots, which no CSS selector crosses.
_IN_ALL_ROOTS = """
const found = [];
(function search(root) {
  found.push(...root.querySelectorAll(arguments_[0]));
  for (const element of root.querySelectorAll('*')) if (element.shadowRoot) search(element.shadowRoot);
})(document);
"""
_TEXT = """
const lines = [];
(function walk(node) {
  if (node.nodeType === Node.TEXT_NODE) { const line = node.textContent.trim(); if (line) lines.push(line); return; }
  if (node.nodeType === Node.ELEMENT_NODE) {
    if (['SCRIPT', 'STYLE', 'TEMPLATE', 'NOSCRIPT'].includes(node.tagName)) return;
    if (node.shadowRoot) walk(node.shadowRoot);
  }
  for (const child of node.childNodes) walk(child);
})(document.body);
return lines.join('\\n');
"""
_TABLE = """
return found.map(grid => [...grid.shadowRoot.querySelectorAll('thead tr, #items tr')].filter(row => !row.hidden).map(
  row => [...row.querySelectorAll('th, td')].map(cell => {
    const slot = cell.querySelector('slot');
    return slot ? slot.assignedNodes().map(node => node.innerText).join(' ').trim() : '';
  })
));
"""


def programs() -> tuple[str, str] | None:
    """The paths of a browser and of its driver; None where one of them is not installed."""
    browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Browser:
    """One window.

    Args:
        browser: the program.
        driver: the program that remote-controls it.
        screenshots: where pictures are put; None for none.
    """

    def __init__(self, browser: str, driver: str, screenshots: Path | None) -> None:
        os.environ["SE_OFFLINE"] = os.environ["SE_AVOID_STATS"] = "true"
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for option in _OPTIONS:
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._screenshots = screenshots
        self._driver = webdriver.Chrome(options=options, service=Service(driver))

    def close(self) -> None:
        self._driver.quit()

    def open(self, address: str, *, width: int = 1200, height: int = 800) -> None:
        """Opens a page from nothing: a change behind the # alone would load nothing."""
        self._driver.set_window_size(width, height)
        self._driver.get("about:blank")
        self._driver.get(address)

    @property
    def text(self) -> str:
        """All that is written on the page, a line for each piece."""
        return str(self._driver.execute_script(_TEXT))

    def wait_for(self, *texts: str) -> str:
        """Waits until all of these stand on the page, and gives all that is written there."""
        return str(self.wait_until(lambda: self.text if all(text in self.text for text in texts) else None, texts))

    def wait_until(self, look: Callable[[], Any], what: object) -> Any:
        """Waits until ``look`` gives something."""
        end = time.monotonic() + _WAIT
        while not (found := look()):
            assert time.monotonic() < end, f"{what} not on the page, which says:\n{self.text[:3000]}"
            time.sleep(0.3)
        return found

    def tables(self) -> list[list[list[str]]]:
        """The rows of each of TensorBoard's tables, the heads first."""
        found: list[list[list[str]]] = self._ask("vaadin-grid", _TABLE)
        return found

    def evaluate(self, selector: str, expression: str) -> list[Any]:
        """``expression`` of each ``element`` of the page that ``selector`` selects, also in shadow roots."""
        found: list[Any] = self._ask(selector, f"return found.map(element => {expression});")
        return found

    def errors(self) -> list[str]:
        """What the console of the page calls an error, since the last call."""
        return [entry["message"] for entry in self._driver.get_log("browser") if entry["level"] == "SEVERE"]

    def screenshot(self, name: str) -> None:
        """Puts a picture of the window into the folder of screenshots, if there is one."""
        if self._screenshots is not None:
            self._driver.save_screenshot(str(self._screenshots / f"{name}.png"))

    def _ask(self, selector: str, script: str) -> Any:
        return self._driver.execute_script(f"const arguments_ = arguments;{_IN_ALL_ROOTS}{script}", selector)
