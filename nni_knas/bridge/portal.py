"""A page of our own in NNI's web portal, which shows how far a search is and the scores of its trials.

NNI's portal is empty while candidates are scored, and has a trial's score and rank only when the trial has ended. Its
manager serves what is in an experiment's log folder under ``/logs``, whatever it is.
"""

from __future__ import annotations

import json
from pathlib import Path

from nni_knas.basics.files import atomic_write
from nni_knas.bridge import fields

__all__ = ['PORTAL_PAGE', 'portal_address', 'progress_path', 'write_portal_page']

PORTAL_PAGE = 'knas.html'
"""Name of the page in an experiment's log folder."""

# Of NNI's table of trials. What a trial has not, it shows empty; a column that no trial has is not shown.
_COLUMNS = (
    'sequenceId',
    'id',
    'space/scoring',
    'duration',
    'status',
    'latestAccuracy',
    f'metric/{fields.KERNEL_SCORE}',
    f'metric/{fields.KERNEL_RANK}',
    f'metric/{fields.PREDICTED_METRIC}',
)


def portal_address(port: int, prefix: str = '') -> str:
    """The address of the page while an experiment runs on this machine."""
    return f'http://127.0.0.1:{port}/{f"{prefix}/" if prefix else ""}logs/{PORTAL_PAGE}'


def progress_path(folder: Path) -> Path:
    """The file that the page of the experiment in a folder is fed by."""
    return folder / 'log' / 'knas.json'


def write_portal_page(folder: Path) -> None:
    """Write the page of the experiment in a folder; with ``#trials`` it goes on to NNI's table of trials."""
    page = Path(__file__).with_suffix('.html').read_text('utf-8')
    for name, value in (('KNAS_COLUMNS', list(_COLUMNS)), ('KNAS_KEY', f'{folder.name}_columns')):
        page = page.replace(name, json.dumps(value).replace('<', r'\u003c'))
    with atomic_write(folder / 'log' / PORTAL_PAGE) as unfinished:
        unfinished.write_text(page, 'utf-8')
