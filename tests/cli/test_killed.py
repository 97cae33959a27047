"""Searches of the command line that are killed, and resumed."""

from __future__ import annotations

import re
import stat

import psutil
import pytest
import torch
from commands import Started, successful
from config_models import config_file
from nni.tools.nnictl.config_utils import Experiments
from servers import free_port, wait_until
from spaces import lines

from nni_knas import open_run
from nni_knas.bridge.leftovers import leftovers, managers
from nni_knas.cli import main


def listed_status(identity, capsys):
    successful('list')
    [status] = re.findall(rf'^{identity} +from a file +(\w+) ', capsys.readouterr().out, re.MULTILINE)
    return status


@pytest.mark.slow
def test_killed_and_resumed(tmp_path, capsys):
    path = config_file(tmp_path, evaluator_args={'log': str(tmp_path / 'log'), 'gate': str(tmp_path / 'gate')})
    search = Started(tmp_path, 'search', '--config', str(path), '--port', str(free_port()))
    try:
        wait_until(lambda: lines(tmp_path / 'log').count('end') == 1 and lines(tmp_path / 'log').count('start') == 2)
        identity = search.stdout.split()[1]
        folder = tmp_path / 'runs' / identity
        assert listed_status(identity, capsys) == 'running'
        assert main(['resume', identity]) == 2
        assert f'the run {identity} is being searched by process {search.process.pid}' in capsys.readouterr().err
    finally:
        search.process.kill()
    manager = psutil.Process(Experiments().get_all_experiments()[identity]['pid'])
    family = [manager, *manager.children(recursive=True)]
    try:
        assert listed_status(identity, capsys) == 'killed'  # though the manager and its trial live on
    finally:
        for member in family:
            member.kill()
        psutil.wait_procs(family)
    assert listed_status(identity, capsys) == 'killed'
    successful('show', identity)
    shown = capsys.readouterr().out
    assert 'Status: killed; started ' in shown and 'Candidates: 6 (' in shown and '1 training' in shown
    before = open_run(folder).scores(all=True)

    (tmp_path / 'gate').touch()
    resumed = Started(tmp_path, 'resume', identity, '--port', str(free_port())).succeed()
    assert resumed.splitlines()[0] == f'Run {identity} in {folder}'
    assert 'Scored 6 candidates' in resumed and 'trained 3 in' in resumed
    after = open_run(folder).scores(all=True)
    assert list(after.score) == list(before.score)
    assert lines(tmp_path / 'log').count('start') == 4  # the one that was killed began again, nothing else
    assert listed_status(identity, capsys) == 'finished'

    successful('export', identity, '--to', str(tmp_path / 'best'), '--formats', 'state-dict')
    weights = torch.load(tmp_path / 'best' / 'winner.pt')
    sizes = after.metric.dropna()
    assert sum(value.numel() for value in weights.values()) == sizes.min()


@pytest.mark.slow
def test_killed_again_and_again_on_one_port(tmp_path, capsys):
    """The manager of each outlives it, and holds the port; one is left that NNI's registry no longer knows."""
    path = config_file(tmp_path, evaluator_args={'log': str(tmp_path / 'log'), 'gate': str(tmp_path / 'gate')})
    port = str(free_port())
    search = Started(tmp_path, 'search', '--config', str(path), '--port', port)
    try:
        wait_until(lambda: lines(tmp_path / 'log').count('start') == 2)
        identity = search.stdout.split()[1]
        folder = tmp_path / 'runs' / identity
        for begun in (3, 4):
            search.process.kill()
            [manager] = managers(folder)
            search = Started(tmp_path, 'resume', identity, *(('--port', port) if begun < 4 else ()))
            wait_until(lambda begun=begun: lines(tmp_path / 'log').count('start') == begun)
            assert f'http://127.0.0.1:{port} ' in search.stdout  # where none is given, too
            assert not manager.is_running()
            [now] = managers(folder)
            sockets = [each for each in psutil.net_connections('inet') if each.pid == now.pid]
            assert {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN} == {'127.0.0.1'}
        (tmp_path / 'gate').touch()
        assert search.process.wait() == 0
    finally:
        search.process.kill()
        for process in leftovers(tmp_path / 'runs' / search.stdout.split()[1]):
            process.kill()
    assert leftovers(folder) == []
    secret = [folder / 'knas' / 'config.json', folder / 'db', folder / 'checkpoint']  # they may hold passwords
    assert [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in secret] == [0, 0, 0]
    assert open_run(folder).scores().status.value_counts().to_dict() == {'trained': 3, 'scored': 3}
    assert lines(tmp_path / 'log').count('end') == 3
