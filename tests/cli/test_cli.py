"""The commands, as a user types them."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pandas as pd
import pytest
import torch
from commands import Started, successful
from config_models import config_file
from interrupted import make
from places import HELPERS
from servers import free_port

from nni_knas import GradientKernelEvaluator, open_run
from nni_knas.basics.names import PANEL
from nni_knas.cli import main
from nni_knas.config.file import load_config
from nni_knas.config.settings import Settings
from nni_knas.gradients import ScoringError

SMALL = ['--space-args', '{"num_modules_per_stack": 1, "stem_out_channels": 4}', '--image-size', '16', '--batch-size', '4']


HALF_BROKEN = """
from torch import nn
def build(parameters):
    if not parameters['width']:
        raise ZeroDivisionError('no width')
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
"""


def command(*arguments):
    return subprocess.run([sys.executable, '-m', 'nni_knas', *arguments], capture_output=True, text=True)


class TestScore:
    def test_random_sample(self, capsys):
        assert main(['score', '--samples', '4', *SMALL]) == 0
        header, *rows = capsys.readouterr().out.splitlines()
        assert header.split() == ['score', 'parameters', 'seconds', 'architecture']
        scores = [float(row.split()[0]) for row in rows]
        assert len(scores) == 4 and scores == sorted(scores, reverse=True)

    @pytest.mark.parametrize('form', ['list', 'lines'])
    def test_given_architectures(self, form, tmp_path, capsys):
        samples = [
            {f'cell/{edge}': operation for edge in ('0_1', '0_2', '1_2', '0_3', '1_3', '2_3')}
            for operation in ('skip_connect', 'conv_3x3')
        ]
        file, csv = tmp_path / 'mine.json', tmp_path / 'scores.csv'
        file.write_text(json.dumps(samples) if form == 'list' else '\n'.join(map(json.dumps, samples)))
        assert main(['score', '--architectures', str(file), '--csv', str(csv), *SMALL]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 3
        assert csv.read_text().count('conv_3x3') == 6

    def test_panel(self, tmp_path, capsys):
        """Below each architecture, and a column each in the file."""
        table = []
        for panel in ([], ['--panel']):
            assert main(['score', '--samples', '2', '--csv', str(tmp_path / 'scores.csv'), *panel, *SMALL]) == 0
            table.append(pd.read_csv(tmp_path / 'scores.csv'))
        assert list(table[1].columns) == [*table[0].columns, *PANEL] and table[1][list(PANEL)].notna().all(axis=None)
        assert table[0].score.equals(table[1].score)
        _, *rows = capsys.readouterr().out.splitlines()[3:]
        shown = [
            f'{name}={value:.4g}' for row in table[1].to_dict('records') for name, value in row.items() if name in PANEL
        ]
        assert ' '.join(row for row in rows if row.startswith(' ' * 12)).replace(',', '').split() == shown

    def test_a_panel_that_fails(self, monkeypatch, capsys):
        def fails(kernel, network):
            raise ScoringError('no luck')

        monkeypatch.setattr(GradientKernelEvaluator, 'statistics', fails)
        assert main(['score', '--samples', '1', '--panel', *SMALL]) == 0
        _, row = capsys.readouterr().out.splitlines()
        assert 'nan' not in row and row.endswith('  (no panel: no luck)')

    def test_same_seed_same_scores(self, capsys):
        outputs = []
        for seed in ('1', '1', '2'):
            main(['score', '--samples', '2', '--seed', seed, *SMALL])
            outputs.append([row.split()[0] for row in capsys.readouterr().out.splitlines()[1:]])
        assert outputs[0] == outputs[1] != outputs[2]

    def test_one_that_cannot_be_built(self, tmp_path, monkeypatch, capsys):
        """Its row has the reason, and where; the others have their scores."""
        (tmp_path / 'half_broken.py').write_text(HALF_BROKEN)
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / 'space.json').write_text('{"width": {"_type": "choice", "_value": [4, 0]}}')
        network = ['--network', 'half_broken:build', '--search-space', 'space.json']
        assert main(['score', *network, '--samples', '2', '--image-size', '16']) == 0
        _, good, bad = capsys.readouterr().out.splitlines()
        assert 'nan' not in good and 'width: 4' in good
        assert 'nan' in bad and 'ZeroDivisionError: no width in half_broken.py, line 5' in bad


class TestMistakes:
    @pytest.mark.parametrize(
        'arguments, sentence',
        [
            (['score', '--data', 'digit'], 'unknown data'),
            (['score', '--data', 'folder:nowhere'], 'there is no folder'),
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
            (['search', '--epochs', '0'], 'epochs is 0'),
            (['search', '--port', '99999'], 'port 99999 cannot be used'),
            (['search', '--resume', 'nowhere'], "there is no run 'nowhere'"),
            (['search', '--concurrency', '0'], '--concurrency is 0'),
            (['search', '--candidates', 'many'], "candidates is 'many': it has to be a whole number, 1 or more"),
            (['search', '--max-flops', '0'], 'max_flops is 0.0: it has to be a number above 0'),
            (['search', '--evaluator-args', '{}x'], "--evaluator-args '{}x' is no JSON object"),
            (['search', '--network', 'config_models:build'], 'the network config_models:build goes with a search space'),
            (['search', '--network', 'config_models:build', '--space', 'DARTS'], 'both a network'),
            (['search', '--search-space', 'nowhere.json'], 'nowhere.json cannot be read'),
            (['search', '--config', 'nowhere.yml'], 'nowhere.yml cannot be read'),
            (['show', 'nowhere'], "there is no experiment 'nowhere'"),
            (['resume', 'nowhere'], "there is no experiment 'nowhere'"),
            (['export', 'nowhere', '--to', 'folder'], "there is no experiment 'nowhere'"),
            (['show', '.'], 'is no KNAS run'),
        ],
    )
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


class TestHelp:
    @pytest.mark.parametrize('arguments', [[], ['search'], ['score'], ['list'], ['show'], ['resume'], ['export']])
    def test_teaches(self, arguments, capsys):
        with pytest.raises(SystemExit) as error:
            main([*arguments, '--help'])
        assert error.value.code == 0
        text = capsys.readouterr().out
        if not arguments:
            assert all(name in text for name in ('search', 'score', 'list', 'show', 'resume', 'export', 'schema'))
        elif arguments[0] in ('search', 'score'):
            assert 'examples:' in text and 'digits' in text and 'module:Class' in text


def test_is_quiet():
    """A user sees the answer, and nothing of the libraries' noise."""
    result = command('score', '--samples', '1', *SMALL)
    assert result.returncode == 0
    assert result.stderr == ''
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.slow
def test_search(tmp_path):
    result = command(
        'search',
        '--candidates',
        '8',
        '--top-k',
        '2',
        '--epochs',
        '1',
        '--images',
        '100',
        *SMALL,
        '--port',
        str(free_port()),
        '--directory',
        str(tmp_path),
    )
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

    again = Started(
        tmp_path,
        'search',
        '--resume',
        run.folder.name,
        '--candidates',
        '8',
        '--top-k',
        '2',
        '--epochs',
        '1',
        '--images',
        '100',
        *SMALL,
        '--port',
        str(free_port()),
        '--directory',
        str(tmp_path),
    )
    assert again.succeed().splitlines()[3:6] == result.stdout.splitlines()[3:6]


class TestScoreOfNetworks:
    def test_network_and_search_space(self, tmp_path, capsys):
        file = tmp_path / 'space.json'
        file.write_text(
            json.dumps(
                {'width': {'_type': 'choice', '_value': [4, 8]}, 'bias': {'_type': 'choice', '_value': [True, False]}}
            )
        )
        assert (
            main(
                [
                    'score',
                    '--network',
                    'config_models:build',
                    '--search-space',
                    str(file),
                    '--data',
                    'config_models:data',
                    '--score',
                    'mgm',
                    '--samples',
                    '4',
                ]
            )
            == 0
        )
        rows = capsys.readouterr().out.splitlines()[1:]
        assert {row.split('  ')[-1] for row in rows} == {
            f'{{bias: {bias}, width: {width}}}' for width in (4, 8) for bias in ('true', 'false')
        }


@pytest.fixture(scope='module')
def script_run(tmp_path_factory):
    """A run of a user's own script, in this process."""
    folder = tmp_path_factory.mktemp('script')
    experiment = make('sequential', 'script', folder)
    experiment.run()
    experiment.stop()
    return folder / 'script'


class TestRunOfAScript:
    def test_list(self, script_run, capsys):
        assert main(['list', '--directory', str(script_run.parent)]) == 0
        header, *rows = capsys.readouterr().out.splitlines()
        assert header.split() == ['run', 'name', 'status', 'started', 'scored', 'trained', 'best', 'folder']
        [row] = [row for row in rows if row.endswith(str(script_run))]
        assert row.startswith('script ') and row.split()[-4:-2] == ['15', '3'] and ' finished ' in row

    def test_show(self, script_run, capsys):
        assert main(['show', str(script_run), '--top', '4']) == 0
        output = capsys.readouterr().out
        assert 'Candidates: 15 (12 scored, 3 trained)' in output and 'by a script of your own' in output
        table = output.split('\n\n')[1].splitlines()
        assert table[0].split() == ['rank', 'score', 'parameters', 'flops', 'metric', 'architecture'] and len(table) == 5
        run = open_run(script_run)
        assert [int(row.split()[0]) for row in table[1:4]] == list(run.ranking(all=True).index)
        assert float(table[1].split()[4]) == pytest.approx(run.metric, abs=1e-4)

    def test_resume_is_up_to_the_script(self, script_run, capsys):
        assert main(['resume', str(script_run)]) == 2
        assert 'call experiment.resume() there' in capsys.readouterr().err

    def test_export(self, script_run, tmp_path, capsys):
        assert main(['export', str(script_run), '--to', str(tmp_path / 'best'), '--formats', 'state-dict']) == 0
        files = dict(line.split(': ') for line in capsys.readouterr().out.splitlines())
        weights = torch.load(files['state-dict'])
        for name, value in open_run(script_run).network().state_dict().items():
            assert torch.equal(weights[name], value)

    def test_export_of_another_rank(self, script_run, tmp_path, capsys):
        last = ['export', str(script_run), '--to', str(tmp_path), '--rank', '15', '--formats', 'state-dict']
        assert main(last) == 2
        assert 'has no trained weights' in capsys.readouterr().err
        assert main([*last, '--untrained']) == 0
        assert json.loads((tmp_path / 'winner.json').read_text())['rank'] == 15
        assert main(['export', str(script_run), '--to', str(tmp_path), '--formats', 'gif']) == 2
        assert 'gif' in capsys.readouterr().err

    def test_interrupted(self, tmp_path, capsys):
        """In the middle of training, and nobody there."""
        experiment = make('sequential', 'half', tmp_path)
        experiment.run()
        experiment.stop()
        experiment.strategy._record.start_training(experiment.strategy._record.trained()[0].id)
        experiment.strategy._record.close()
        main(['list', '--directory', str(tmp_path)])
        [row] = [row for row in capsys.readouterr().out.splitlines() if row.startswith('half ')]
        assert ' interrupted ' in row and ' 2 ' in row


@pytest.mark.slow
def test_search_from_a_file(tmp_path, capsys):
    path = config_file(tmp_path, front='parameters', max_parameters=300)
    printed = Started(tmp_path, 'search', '--config', str(path), '--top-k', '2', '--port', str(free_port())).succeed()
    header, best, second = printed.splitlines()[3:6]
    assert header.split() == ['rank', 'score', 'metric', 'architecture']
    assert float(best.split()[2]) <= float(second.split()[2])
    [folder] = [folder for folder in (tmp_path / 'runs').iterdir() if not folder.is_symlink()]
    stored = Settings.read(folder)
    loaded = load_config(path, {'top_k': 2})
    assert stored.options == loaded.options
    assert stored.config['trialCodeDirectory'] == str(HELPERS)
    assert stored.config['experimentName'] == 'from a file'

    successful('show', str(folder))
    shown = capsys.readouterr().out
    assert 'front parameters' in shown and 'top_k 2' in shown
    [front] = re.findall(r'Pareto front of score against parameters, cheapest first:\n(.*?)\n\n', shown, re.DOTALL)
    header, *rows = front.splitlines()
    assert header.split()[:3] == ['rank', 'score', 'parameters']
    costs = [int(row.split()[2]) for row in rows]
    assert costs == sorted(costs) and all(cost <= 300 for cost in costs)
