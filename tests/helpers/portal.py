"""A headless browser, where this machine has one, and the tables of NNI's web portal in it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
NONE = f'there is no browser: it takes chromedriver and one of {", ".join(BROWSERS)}'

FLAGS = (
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--no-first-run',
    '--window-size=1500,1100',
    # A browser looks for news of its own: no name is resolved but this machine's.
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-quic',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
)


def executables() -> tuple[str, str] | None:
    """Paths of a browser and of its driver, where both are there."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which('chromedriver')
    return (browser, driver) if browser and driver else None


def open_browser() -> Chrome:
    """Open the browser. It writes down what it fetches, and what it complains of."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    found = executables()
    assert found, NONE
    options = webdriver.ChromeOptions()
    options.binary_location, driver = found  # so Selenium looks for neither, on this machine or elsewhere
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL', 'browser': 'ALL'})
    for flag in FLAGS:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.set_script_timeout(600)  # the end matters only where a test fails
    return browser


def tidy(browser: Chrome) -> None:
    """Leave a browser as it was opened: with one empty window, which is as large as it says."""
    first, *others = browser.window_handles
    for window in others:
        browser.switch_to.window(window)
        browser.close()
    browser.switch_to.window(first)
    browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': '', 'features': []})
    browser.get('about:blank')


def table(browser: Chrome) -> list[dict[str, str]]:
    """The trial table as a dict a row, by NNI's column names."""
    return browser.execute_script("""
        return [...document.querySelectorAll('#tableList [data-automationid="DetailsRow"]')].map(row => Object.fromEntries(
            [...row.querySelectorAll('[data-automationid="DetailsRowCell"]')].map(
                cell => [cell.getAttribute('data-automation-key'), cell.innerText])))""")
