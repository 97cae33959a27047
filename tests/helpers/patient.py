"""NNI's ``nnictl`` with the patience that a busy machine takes, and otherwise as it is: python patient.py ARGUMENTS."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import requests

ENVIRONMENT = {'NODE_OPTIONS': f'--require "{Path(__file__).with_suffix(".js")}"'}
"""For the same of the managers that it starts."""


def _patient(request):
    @functools.wraps(request)
    def with_patience(*arguments, timeout=None, **keywords):
        return request(*arguments, timeout=None if timeout is None else 600, **keywords)

    return with_patience


if __name__ == '__main__':
    os.environ.update(ENVIRONMENT)
    from nni.experiment import launcher
    from nni.tools.nnictl.nnictl import parse_args

    launcher._check_rest_server = functools.partial(launcher._check_rest_server, retry=600)
    requests.Session.request = _patient(requests.Session.request)
    parse_args()
