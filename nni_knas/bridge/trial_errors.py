"""What trials say last when they fail, as NNI's manager keeps it."""

from __future__ import annotations

import json
from typing import Any

import requests

from nni_knas.bridge import fields

__all__ = ['last_line', 'last_line_of_candidate', 'with_last_line']


def with_last_line(sentence: str, line: str) -> str:
    """A sentence about a trial that failed, with the last line that it wrote to its error output, where there is one."""
    return f'{sentence}: {line}' if line else sentence


def last_line(manager: str, trial: str) -> str:
    """The last line of a trial's error output; empty where there is none, or NNI's manager cannot show it.

    Parameters
    ----------
    manager
        Address of the manager's REST API.
    trial
        NNI's id of the trial.
    """
    try:
        answer = requests.get(f'{manager}/trial-file/{trial}/stderr', timeout=20)
    except requests.RequestException:
        return ''
    lines = answer.content.decode('utf-8', 'replace').splitlines() if answer.ok else []
    return next((line.strip() for line in reversed(lines) if line.strip()), '')


def last_line_of_candidate(manager: str, candidate: int) -> str:
    """The last line of the error output of the last trial that trained a candidate, where that failed by itself."""
    try:
        jobs = requests.get(f'{manager}/trial-jobs', timeout=20).json()
        trial, status = [(job['trialJobId'], job['status']) for job in jobs if candidate in _candidates_of(job)][-1]
    except (requests.RequestException, ValueError, LookupError, TypeError):
        return ''
    return last_line(manager, trial) if status == 'FAILED' else ''  # one that was cancelled has no error


def _candidates_of(job: dict[str, Any]) -> list[object]:
    contents = [json.loads(text).get('parameters') for text in job.get('hyperParameters') or ()]
    return [content.get(fields.KNAS_CANDIDATE) for content in contents if isinstance(content, dict)]
