"""``nni-knas doctor``: whether this installation can do what it should, and what to do where it cannot.

Nothing is taken to be in order that can be wrong: what a check imports, it imports itself.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.specifiers import SpecifierSet

from nni_knas import __version__
from nni_knas.basics.extras import DISTRIBUTION, how_to_install, installed, misfits, pip_install, required
from nni_knas.basics.failures import told
from nni_knas.basics.files import CACHE, check_writable
from nni_knas.bridge.registry import NNI_HOME
from nni_knas.cli.ports import USUAL, free_port

__all__ = ['CHECKS', 'Finding', 'run', 'writable']

_SHOWN = ('nni', 'torch', 'torchvision', 'pytorch-lightning', 'numpy', 'pandas')
_NOT_FOR_USERS = ('test', 'docs')
"""Extras that this project alone needs."""


class Finding(NamedTuple):
    """What a check has found.

    Attributes
    ----------
    mark
        ``'ok'``; ``'-'`` where something optional is not there; ``'WRONG'``.
    said
        What was found.
    advice
        What to do about it.
    """

    mark: Literal['ok', '-', 'WRONG']
    said: str
    advice: str = ''


def run(parsed: argparse.Namespace) -> int:
    """Print a line a check.

    Returns
    -------
    int
        Exit status: 1 where something is wrong.
    """
    print(f'nni-knas {__version__} in {Path(__file__).parent.parent}')
    wrong = 0
    for name, check in CHECKS.items():
        finding = _finding(check)
        wrong += finding.mark == 'WRONG'
        advice = f'; {finding.advice}' if finding.advice else ''
        print(f'{finding.mark:<5}  {name:<8}  {finding.said}{advice}', flush=True)
    print(
        'This installation can do what it should.'
        if not wrong
        else f'{wrong} of {len(CHECKS)} checks found something wrong.'
    )
    return int(wrong > 0)


def _finding(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        return Finding('WRONG', told(error))


def _python() -> Finding:
    version = platform.python_version()
    supported = importlib.metadata.metadata(DISTRIBUTION)['Requires-Python'] if installed(DISTRIBUTION) else ''
    if not SpecifierSet(supported or '').contains(version, prereleases=True):
        return Finding('WRONG', f'{version} in {sys.prefix}', f'nni-knas needs {supported}: make an environment with that')
    return Finding('ok', f'{version} in {sys.prefix}')


def _packages() -> Finding:
    """Of those that nni-knas needs, and that NNI does, which says itself in what versions."""
    if not installed(DISTRIBUTION):
        return Finding(
            'WRONG', f'{DISTRIBUTION} is not installed, so its trials would not find it', 'pip install -e CHECKOUT'
        )
    wrong = misfits([*required(), *required(distribution='nni')])
    if wrong:
        found = ', '.join(f'{each.name} is {installed(each.name) or "missing"}' for each in wrong)
        return Finding('WRONG', found, pip_install(wrong))
    return Finding('ok', ', '.join(f'{name} {installed(name)}' for name in _SHOWN))


def _nnictl() -> Finding:
    """NNI 3.0's command imports ``pkg_resources``, which setuptools has no more from 82 on, and 81 warns of."""
    if importlib.util.find_spec('pkg_resources') is None:
        needed = [each for each in required() if each.name == 'setuptools']
        advice = pip_install(needed) if needed else 'pip install "setuptools<81"'
        return Finding('WRONG', f'setuptools {installed("setuptools")} is without pkg_resources, which nnictl needs', advice)
    return Finding('ok', f'setuptools {installed("setuptools")} has pkg_resources, which it needs')


def _manager_folder() -> Path:
    found = importlib.util.find_spec('nni_node')
    if found is None or not found.submodule_search_locations:
        raise ValueError("NNI's manager, the package nni_node, is not installed; pip install --force-reinstall nni==3.0")
    return Path(found.submodule_search_locations[0])


def _manager() -> Finding:
    """Whether its Node.js runs here, with the binary module that it keeps its database with."""
    folder = _manager_folder()
    node = folder / ('node.exe' if sys.platform == 'win32' else 'node')
    command = [str(node), '-e', "require('sqlite3'); console.log(process.version)"]
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    except OSError as error:
        return Finding('WRONG', f'{node} cannot be run: {error.strerror}', 'pip install --force-reinstall nni==3.0')
    if ended.returncode:
        said = next((line.strip() for line in ended.stderr.splitlines() if 'rror' in line), f'status {ended.returncode}')
        return Finding('WRONG', f"NNI's Node.js does not run here: {said}", 'NNI has to fit the system: see its wheels')
    return Finding('ok', f"NNI's Node.js {ended.stdout.strip()} runs")


def _portal() -> Finding:
    page = _manager_folder() / 'static' / 'index.html'
    if not page.is_file():
        return Finding('WRONG', f'{page} is missing', 'pip install --force-reinstall nni==3.0')
    return Finding('ok', 'its files are there')


def _port() -> Finding:
    port = free_port(None)
    return Finding('ok', f'{port} is free' if port == USUAL else f'{USUAL} is taken: searches take a free one by themselves')


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = ', '.join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        return Finding('ok', names)
    if Path('/dev/nvidia0').exists():
        return Finding('-', f'there is one that torch {torch.__version__} cannot use', 'install a torch for its driver')
    return Finding('-', 'none: searches run on the CPU')


def _energy() -> Finding:
    from nni_knas.footprint import power_source

    source = power_source()
    try:
        return Finding('ok' if installed('codecarbon') else '-', f'of the CPU {source.methods()["cpu"]}')
    finally:
        source.close()


def _extras() -> Finding:
    names = importlib.metadata.metadata(DISTRIBUTION).get_all('Provides-Extra') or [] if installed(DISTRIBUTION) else []
    users = [name for name in names if name not in _NOT_FOR_USERS]
    lacking = [name for name in users if misfits(required(name))]
    there = ', '.join(name for name in users if name not in lacking) or 'none'
    advice = '; '.join(f'{name}: {how_to_install(name)}' for name in lacking)
    return Finding('-', f'{there}; without {advice}') if lacking else Finding('ok', there)


def writable(folder: Path, what: str) -> Callable[[], Finding]:
    """Whether a folder can be written to."""

    def check() -> Finding:
        try:
            check_writable(folder, what)
        except ValueError as error:
            return Finding('WRONG', str(error), 'make it writable')
        return Finding('ok', f'{folder} can be written to')

    return check


CHECKS: dict[str, Callable[[], Finding]] = {
    'Python': _python,
    'packages': _packages,
    'nnictl': _nnictl,
    'manager': _manager,
    'portal': _portal,
    'port': _port,
    'GPU': _gpu,
    'energy': _energy,
    'extras': _extras,
    'runs': writable(NNI_HOME, 'runs'),
    'caches': writable(CACHE, 'downloads'),
}
"""What is looked at, by name."""
