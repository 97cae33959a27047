"""Makes the screenshots of docs/nnictl.md: python docs/screenshots.py [--candidates N]
or that of docs/report.md: python docs/screenshots.py --run RUN

With a run it shows the beginning of its report. Else it registers the tuner, starts examples/nnictl/config.yml with nnictl
as a user does, looks at the portal in headless Chromium (chromium, chromedriver and the package selenium are needed), and
stops the experiment.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

ROOT = Path(__file__).parents[1]
IMAGES = Path(__file__).with_name('images')
BIN = Path(sys.executable).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--candidates', type=int, default=300)
    parser.add_argument('--run', help="NNI's id of a run, or its folder")
    arguments = parser.parse_args()
    candidates = arguments.candidates
    IMAGES.mkdir(exist_ok=True)
    if arguments.run is not None:
        photograph_report(arguments.run)
        return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {
            **os.environ,
            'PATH': f'{BIN}:{os.environ["PATH"]}',
            'NNI_CONFIG_DIR': f'{folder}/nni',
            'OMP_NUM_THREADS': '1',
        }

        def nnictl(*arguments: str) -> str:
            return subprocess.run(
                [BIN / 'nnictl', *arguments], env=environment, check=True, capture_output=True, text=True
            ).stdout

        nnictl('algo', 'register', '--meta', str(ROOT / 'nni_knas' / 'tuner.yml'))
        output = nnictl('create', '--config', str(config(Path(folder), candidates)), '--port', str(port))
        [identity] = re.findall(r'Experiment ID: (?:\x1b\[\d+m)*(\w+)', output)
        try:
            photograph(f'http://127.0.0.1:{port}')
        finally:
            nnictl('stop', identity)


def config(folder: Path, candidates: int) -> Path:
    """The example's configuration with a folder and a number of candidates of its own."""
    content = yaml.safe_load((ROOT / 'examples' / 'nnictl' / 'config.yml').read_text())
    content.update(
        experimentWorkingDirectory=str(folder / 'experiments'), trialCodeDirectory=str(ROOT / 'examples' / 'nnictl')
    )
    content['tuner']['classArgs']['candidates'] = candidates
    path = folder / 'config.yml'
    path.write_text(yaml.safe_dump(content))
    return path


def photograph_report(run: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / 'report.html'
        subprocess.run([BIN / 'nni-knas', 'report', run, '--to', page], check=True, capture_output=True)
        browser = open_browser()
        try:
            browser.set_window_size(1200, 843)  # which leaves 700 for the page
            browser.get(page.as_uri())
            time.sleep(3)  # the plots are drawn
            browser.save_screenshot(str(IMAGES / 'report.png'))
        finally:
            browser.quit()


def photograph(address: str) -> None:
    browser = open_browser()
    try:
        wait_until(
            lambda: (
                get(address, 'check-status')['status'] == 'TUNER_NO_MORE_TRIAL'
                and all(job['status'] == 'SUCCEEDED' for job in get(address, 'trial-jobs'))
            )
        )
        browser.get(f'{address}/oview')
        wait_until(lambda: 'SUCCEEDED' in browser.find_element('tag name', 'body').text)
        time.sleep(3)  # the plots are drawn
        browser.save_screenshot(str(IMAGES / 'overview.png'))
        browser.find_element('xpath', '//div[text()="Search-space"]/..').click()
        wait_until(lambda: 'conv_3x3' in browser.find_element('tag name', 'body').text)
        time.sleep(2)
        browser.save_screenshot(str(IMAGES / 'search-space.png'))
        browser.get(f'{address}/logs/knas.html#trials')
        wait_until(lambda: 'kernel_rank' in browser.find_element('tag name', 'body').text)
        time.sleep(3)
        browser.save_screenshot(str(IMAGES / 'trials.png'))
    finally:
        browser.quit()


def open_browser() -> Any:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium') or ''
    for flag in ('--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--window-size=1600,1150'):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))


def get(address: str, path: str) -> Any:
    with urlopen(f'{address}/api/v1/nni/{path}') as answer:
        return json.load(answer)


def wait_until(condition: Callable[[], object], seconds: float = 1200) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError('it took too long')
        time.sleep(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('', 0))
        return probe.getsockname()[1]


if __name__ == '__main__':
    main()
