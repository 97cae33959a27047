"""Searches for text classifiers from beginning to end: the command line with NNI's trials, and the example."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from places import EXAMPLES
from processes import run_code
from servers import free_port, wait_until
from text_encoders import save_encoder

from nni_knas import open_run

pytest.importorskip('transformers')

EXAMPLE = EXAMPLES / 'text' / 'search.py'

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp('bert'))


def write_task(folder, header, row):
    """A task in the format of GLUE."""
    folder.mkdir()
    for split, count in (('train', 120), ('dev', 30)):
        rows = [row(i, 'yes' if i % 2 else 'no') for i in range(count)]
        (folder / f'{split}.tsv').write_text('\n'.join([*header, *rows]) + '\n')
    return str(folder)


@pytest.fixture(scope='module')
def task(tmp_path_factory):
    """Whether the second sentence repeats a word of the first."""
    return write_task(
        tmp_path_factory.mktemp('glue') / 'TASK',
        ['index\tsentence1\tsentence2\tlabel'],
        lambda i, label: f'{i}\tw{i % 20} w{i % 7 + 20}\tw{i % 20 if i % 2 else (i + 3) % 20}\t{label}',
    )


@pytest.fixture(scope='module')
def sentences(tmp_path_factory):
    """Of one sentence, as CoLA has them, without a header."""
    folder = tmp_path_factory.mktemp('glue') / 'CoLA'
    return write_task(folder, [], lambda i, label: f'x\t{i % 2}\t{"*" if i % 2 else ""}\tw{i % 20 + 20 * (i % 2)} w{i % 7}')


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


SMALL = {
    '--candidates': ['4'],
    '--top-k': ['2'],
    '--seeds': ['2'],
    '--epochs': ['1'],
    '--precision': ['32-true'],
    '--max-length': ['32'],
    '--plain-learning-rates': ['1e-4'],
    '--plain-poolings': ['first', 'mean'],
    '--plain-epochs': ['2'],
}


def words(options):
    """A command line of options and their values."""
    return [word for option, values in options.items() for word in (option, *values)]


def check_table(lines, k):
    names = [line.split('|')[1].strip() for line in lines]
    assert names == ['', '---', 'searched', 'plain fine-tuned encoder', f'best of {k} random', 'floor']
    assert all(line.count('[') == 1 for line in lines[3:]) and all('±' in line for line in lines[2:5])


def test_the_example(sentences, encoder, tmp_path):
    given = [str(EXAMPLE), '--data', sentences, '--encoder', encoder, *words(SMALL), '--port', str(free_port())]
    first = run(*given, cwd=tmp_path)
    check_table(table := first.stdout.splitlines()[-6:], 2)
    (folder,) = (tmp_path / 'text-search').iterdir()
    done = [json.loads(line) for line in (folder / 'trainings.jsonl').read_text().splitlines()]
    assert len(done) == 2 + 2 + len({json.loads(each['key'])[0][0] for each in done if each['predicted']}) * 2
    again = run(*given, cwd=tmp_path)
    assert again.stdout.splitlines()[-6:] == table
    other = subprocess.run([sys.executable, *given, '--seeds', '3'], capture_output=True, text=True, cwd=tmp_path)
    assert other.returncode == 2 and 'was begun with other options' in other.stderr.splitlines()[-1]


def test_the_example_goes_on_where_it_was_killed(task, encoder, tmp_path):
    """While its search trains: what was scored and trained is there, and is not done again."""
    slower = words({**SMALL, '--top-k': ['3'], '--concurrency': ['1'], '--epochs': ['3']})
    given = [str(EXAMPLE), '--data', task, '--encoder', encoder, *slower]
    begun = tmp_path / 'text-search' / 'TASK' / 'experiment.txt'

    def record():
        return open_run(begun.read_text()).scores(all=True).set_index('candidate')

    def one_is_trained():
        assert process.poll() is None
        try:
            return (record().status == 'trained').any()
        except (FileNotFoundError, ValueError):  # nothing is there yet
            return False

    process = subprocess.Popen([sys.executable, *given, '--port', str(free_port())], stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        wait_until(one_is_trained)
    finally:
        process.kill()
        process.wait()
    before = record()
    check_table(run(*given, '--port', str(free_port()), cwd=tmp_path).stdout.splitlines()[-6:], 3)
    after = record()
    assert len(before) == len(after) == 4 and before.score.equals(after.score[before.index])
    assert (after.status == 'trained').sum() == 3
    trained = before[before.status == 'trained']
    assert after.loc[trained.index, ['metric', 'training_seconds']].equals(trained[['metric', 'training_seconds']])


AS_IT_STANDS = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


def test_a_mistake_gets_one_sentence_before_anything_is_trained(fork_server, task, encoder, tmp_path):
    for wrong, sentence in (
        (['--tuned', '9'], 'tuned is [9]'),
        (['--data', 'nowhere'], 'there is no folder nowhere'),
        (['--candidates', '3', '--top-k', '4'], 'top_k'),
    ):
        given = [str(EXAMPLE), '--data', task, '--encoder', encoder, '--max-length', '32', *wrong]
        result = run_code(tmp_path, AS_IT_STANDS, *given)
        assert result.returncode == 2 and sentence in result.stderr and 'Traceback' not in result.stderr
    assert not list(tmp_path.iterdir())
