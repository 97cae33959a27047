"""NNI's web portal in headless Chromium."""

from __future__ import annotations

import shutil


def open_browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium')
    for flag in ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
                 '--disable-background-networking', '--disable-component-update', '--window-size=1500,1100'):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))


def table(browser):
    """The trial table as a dict a row, by NNI's column names."""
    return browser.execute_script('''
        return [...document.querySelectorAll('#tableList [data-automationid="DetailsRow"]')].map(row => Object.fromEntries(
            [...row.querySelectorAll('[data-automationid="DetailsRowCell"]')].map(
                cell => [cell.getAttribute('data-automation-key'), cell.innerText])))''')
