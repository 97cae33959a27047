"""The last line of a failed trial's own error, as the manager's REST API gives it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nni_knas.bridge.trial_errors import last_line, last_line_of_candidate, with_last_line

OUTPUTS = {
    'broken': 'Epoch 1\rEpoch 2\nTraceback (most recent call last):\n  File "a.py"\nOSError: größer\n\n',
    'silent': '\n',
    'cancelled': 'a warning\n',
}
JOBS = [
    ('first', 'FAILED', {'knas_candidate': 3}),
    ('broken', 'FAILED', {'knas_candidate': 3}),
    ('cancelled', 'USER_CANCELED', {'knas_candidate': 4}),
    ('scoring', 'SUCCEEDED', 'no trial that trains'),
]


class Manager(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/trial-jobs':
            answer = [
                {'trialJobId': trial, 'status': status, 'hyperParameters': [json.dumps({'parameters': content})]}
                for trial, status, content in JOBS
            ]
            self._answer(json.dumps([{'trialJobId': 'waiting', 'status': 'WAITING'}, *answer]))
        else:
            trial = self.path.removeprefix('/trial-file/').removesuffix('/stderr')
            self._answer(OUTPUTS.get(trial))

    def _answer(self, text):
        self.send_response(200 if text is not None else 404)
        self.send_header('Content-Type', 'text/plain')
        self.end_headers()
        self.wfile.write((text or 'not found').encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope='module')
def manager():
    server = HTTPServer(('127.0.0.1', 0), Manager)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize('trial, line', [('broken', 'OSError: größer'), ('silent', ''), ('unknown', '')])
def test_last_line(manager, trial, line):
    assert last_line(manager, trial) == line


@pytest.mark.parametrize('candidate, line', [(3, 'OSError: größer'), (4, ''), (5, '')])
def test_of_the_last_trial_of_a_candidate(manager, candidate, line):
    assert last_line_of_candidate(manager, candidate) == line


def test_without_a_manager():
    assert last_line('http://127.0.0.1:9', 'broken') == last_line_of_candidate('http://127.0.0.1:9', 3) == ''


def test_in_a_sentence():
    assert with_last_line('it failed', 'OSError: full') == 'it failed: OSError: full'
    assert with_last_line('it failed', '') == 'it failed'
