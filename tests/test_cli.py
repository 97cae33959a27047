"""The commands, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from servers import free_port

from nni_knas import open_run
from nni_knas.cli import main

SMALL = ['--space-args', '{"num_modules_per_stack": 1, "stem_out_channels": 4}', '--image-size', '16', '--batch-size', '4']


def command(*arguments, cwd=None):
    return subprocess.run([sys.executable, '-m', 'nni_knas', *arguments], capture_output=True, text=True, cwd=cwd)


class TestScore:
    def test_random_sample(self, capsys):
        assert main(['score', '--samples', '4', *SMALL]) == 0
        header, *rows = capsys.readouterr().out.splitlines()
        assert header.split() == ['score', 'parameters', 'seconds', 'architecture']
        scores = [float(row.split()[0]) for row in rows]
        assert len(scores) == 4 and scores == sorted(scores, reverse=True)

    @pytest.mark.parametrize('form', ['list', 'lines'])
    def test_given_architectures(self, form, tmp_path, capsys):
        samples = [{f'cell/{edge}': operation for edge in ('0_1', '0_2', '1_2', '0_3', '1_3', '2_3')}
                   for operation in ('skip_connect', 'conv_3x3')]
        file, csv = tmp_path / 'mine.json', tmp_path / 'scores.csv'
        file.write_text(json.dumps(samples) if form == 'list' else '\n'.join(map(json.dumps, samples)))
        assert main(['score', '--architectures', str(file), '--csv', str(csv), *SMALL]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 3
        assert csv.read_text().count('conv_3x3') == 6

    def test_same_seed_same_scores(self, capsys):
        outputs = []
        for seed in ('1', '1', '2'):
            main(['score', '--samples', '2', '--seed', seed, *SMALL])
            outputs.append([row.split()[0] for row in capsys.readouterr().out.splitlines()[1:]])
        assert outputs[0] == outputs[1] != outputs[2]


class TestMistakes:
    @pytest.mark.parametrize('arguments, sentence', [
        (['score', '--data', 'digit'], 'unknown data'),
        (['score', '--data', 'folder:nowhere'], 'there is no folder nowhere'),
        (['score', '--data', 'nowhere:load'], 'cannot be imported'),
        (['score', '--space', 'NasBench202'], 'unknown space'),
        (['score', '--space', 'spaces:Nothing'], "there is no 'Nothing'"),
        (['score', '--space-args', '[1]'], 'no JSON object'),
        (['score', '--space-args', '{"depth": 3}'], 'cannot be built'),
        (['score', '--samples', '0'], '--samples is 0'),
        (['score', '--batch-size', '0'], 'batch_size is 0'),
        (['score', '--architectures', 'nowhere.json'], 'cannot be read'),
        (['score', '--device', 'tpu0'], 'device'),
        (['search', '--candidates', '2', '--top-k', '5'], 'top_k=5 is more than candidates=2'),
        (['search', '--epochs', '0'], '--epochs is 0'),
        (['search', '--port', '99999'], 'port 99999 cannot be used'),
        (['search', '--resume', 'nowhere'], "there is no run 'nowhere'"),
    ])
    def test_one_sentence_and_no_traceback(self, arguments, sentence, capsys):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ''
        [line] = captured.err.splitlines()
        assert line.startswith('nni-knas: ') and sentence in line

    def test_wrong_architecture(self, tmp_path, capsys):
        file = tmp_path / 'mine.json'
        file.write_text('{"cell/0_1": "conv_9x9"}')
        assert main(['score', '--architectures', str(file), *SMALL]) == 2
        assert 'is no architecture of the space' in capsys.readouterr().err

    @pytest.mark.parametrize('arguments', [[], ['score', '--score', 'mgn'], ['search', '--explorer', 'luck']])
    def test_usage(self, arguments):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 2


class TestHelp:
    @pytest.mark.parametrize('arguments', [[], ['search'], ['score']])
    def test_teaches(self, arguments, capsys):
        with pytest.raises(SystemExit) as error:
            main([*arguments, '--help'])
        assert error.value.code == 0
        text = capsys.readouterr().out
        if not arguments:
            assert 'search' in text and 'score' in text
        else:
            assert 'examples:' in text and 'digits' in text and 'module:Class' in text


def test_is_quiet():
    """A user sees the answer, and nothing of the libraries' noise."""
    result = command('score', '--samples', '1', *SMALL)
    assert result.returncode == 0
    assert result.stderr == ''
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.slow
def test_search(tmp_path):
    result = command('search', '--candidates', '8', '--top-k', '2', '--epochs', '1', '--images', '100', *SMALL,
                     '--port', str(free_port()), '--directory', str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''
    first, portal, _, header, best, second, *_ = result.stdout.splitlines()
    assert header.split() == ['rank', 'score', 'accuracy', 'architecture']
    assert 'Web portal while it runs: http://127.0.0.1:' in portal
    assert float(best.split()[2]) >= float(second.split()[2])
    assert 'Scored 8 candidates in' in result.stdout and 'trained 2 in' in result.stdout

    run = open_run(tmp_path / first.split()[1])
    assert run.metric == pytest.approx(float(best.split()[2]), abs=1e-4)
    assert sum(p.numel() for p in run.network().parameters()) > 0

    again = command('search', '--resume', run.folder.name, '--candidates', '8', '--top-k', '2', '--epochs', '1',
                    '--images', '100', *SMALL, '--port', str(free_port()), '--directory', str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[3:6] == result.stdout.splitlines()[3:6]
