"""Searches for text classifiers from beginning to end: the command line with NNI's trials, and the example."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from places import EXAMPLES
from servers import free_port
from text_encoders import save_encoder

from nni_knas import open_run

pytest.importorskip('transformers')

EXAMPLE = EXAMPLES / 'text' / 'search.py'

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp('bert'))


@pytest.fixture(scope='module')
def task(tmp_path_factory):
    """Whether the second sentence repeats a word of the first."""
    folder = tmp_path_factory.mktemp('glue') / 'TASK'
    folder.mkdir()
    for split, count in (('train', 120), ('dev', 30)):
        rows = [
            f'{i}\tw{i % 20} w{i % 7 + 20}\tw{i % 20 if i % 2 else (i + 3) % 20}\t{"yes" if i % 2 else "no"}'
            for i in range(count)
        ]
        (folder / f'{split}.tsv').write_text('\n'.join(['index\tsentence1\tsentence2\tlabel', *rows]) + '\n')
    return str(folder)


def run(*arguments, cwd=None):
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result


def test_the_command_line_searches_in_trials(task, encoder, tmp_path):
    result = run(
        '-m',
        'nni_knas',
        'search',
        '--data',
        f'text:{task}@{encoder}',
        '--space',
        'nni_knas.spaces:TextClassifierSpace',
        '--space-args',
        json.dumps({'encoder': encoder}),
        '--evaluator',
        'nni_knas.text:classifier',
        '--evaluator-args',
        json.dumps({'max_epochs': 2, 'seeds': 2, 'accelerator': 'cpu'}),
        '--candidates',
        '6',
        '--top-k',
        '2',
        '--concurrency',
        '2',
        '--port',
        str(free_port()),
        '--directory',
        str(tmp_path),
    )
    assert result.stderr == ''
    found = open_run(tmp_path / result.stdout.splitlines()[0].split()[1])
    assert found.scores(all=True).metric.notna().sum() == 2
    assert found.metrics()['accuracy'] == pytest.approx(found.metric) and 'f1_deviation' in found.metrics()
    assert found.network().encoder.model.config.model_type == 'bert'


def test_the_example(task, encoder, tmp_path):
    small = [
        '--data',
        task,
        '--encoder',
        encoder,
        '--candidates',
        '4',
        '--top-k',
        '2',
        '--seeds',
        '2',
        '--epochs',
        '1',
        '--precision',
        '32-true',
        '--port',
        str(free_port()),
    ]
    first = run(str(EXAMPLE), *small, cwd=tmp_path)
    lines = first.stdout.splitlines()[-3:]
    assert [line.split('  ')[0] for line in lines] == ['searched (KNAS)', 'best of 2 random', 'plain fine-tuned encoder']
    assert all('accuracy' in line and 'f1' in line and '±' in line for line in lines)
    results = json.loads((tmp_path / 'text-search' / 'TASK' / 'results.json').read_text())
    assert all(len(runs) == 2 and all('accuracy' in each['test'] for each in runs) for runs in results['results'].values())
