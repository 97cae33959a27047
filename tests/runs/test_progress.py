"""What our page in NNI's portal is fed: written while a run goes on, and in full at its end."""

from __future__ import annotations

import json
import re

import made_up_runs
from interrupted import make
from servers import wait_until

from nni_knas.bridge.portal import PORTAL_PAGE, progress_path, write_portal_page
from nni_knas.record import Near, Record, record_path, set_near
from nni_knas.runs import progress_of, progress_shown, session

HOSTILE = '</script><script>alert(1)</script>'


def test_says_what_the_record_has(tmp_path):
    run = made_up_runs.make(tmp_path / 'run', quick=True)
    frame, ranking = run.scores(all=True), run.ranking()
    said = progress_of(run.record, 'run', 300, 10)
    json.dumps(said, allow_nan=False)
    assert (said['scored'], said['candidates']) == (run.record.scored(), 300)
    assert said['failed'] == (frame.status == 'failed').sum() and said['trained'] == len(ranking)
    assert said['best_score'] == frame.score.max() and said['best_metric'] == ranking.metric.iloc[0]
    assert [(row['rank'], row['metric']) for row in said['rows'][: len(ranking)]] == [
        (rank, metric) for rank, metric in ranking.metric.items()
    ]
    assert any('the most frequent reason (6 times): ScoringError' in sentence for sentence in said['failures'])


def test_candidates_near_the_best(tmp_path):
    record = Record(record_path(tmp_path / 'run'))
    set_near(record, Near(20))
    said = progress_of(record, 'run', 60, 8)
    assert (said['near_best'], said['to_come']) == (0, 20)
    set_near(record, Near(20, 40, (1,), tuple('abc')))
    said = progress_of(record, 'run', 60, 8)
    assert (said['near_best'], said['to_come']) == (3, 0)


def test_nothing_is_there_yet(tmp_path):
    record = Record(record_path(tmp_path / 'run'))
    said = progress_of(record, 'run', 300, 10)
    assert said['rows'] == said['failures'] == [] and said['best_score'] is said['best_metric'] is None


def test_is_written_again_and_again(tmp_path):
    run = made_up_runs.make(tmp_path / 'run', candidates=10, trained=0)
    record, path = Record(record_path(run.folder)), progress_path(run.folder)
    with progress_shown(record, run.folder, 10, 3), session(record, {}):
        wait_until(path.exists)
        assert json.loads(path.read_text())['status'] == 'running'
    assert json.loads(path.read_text())['status'] == 'interrupted'


def test_of_a_search(tmp_path):
    experiment = make('sequential', 'search', tmp_path)
    experiment.run()
    experiment.stop()
    said = json.loads(progress_path(tmp_path / 'search').read_text())
    assert (said['state'], said['scored'], said['trained']) == ('finished', 15, 3)
    assert (tmp_path / 'search' / 'log' / PORTAL_PAGE).exists()


def test_why_a_candidate_was_chosen_and_what_was_expected_of_it(tmp_path):
    run = made_up_runs.make(tmp_path / 'run', trained=4, learnt=True)
    rows = [row for row in progress_of(run.record, 'run', 120, 4)['rows'] if row['chosen'] is not None]
    expected = {(choice.rank, choice.reason, choice.predicted) for choice in run.record.choices()}
    assert {(row['rank'], row['chosen'], row['predicted']) for row in rows} <= expected and len(rows) >= 3


def test_page_cannot_be_broken_by_an_id(tmp_path):
    write_portal_page(tmp_path / HOSTILE.replace('/', ' '))
    [page] = tmp_path.glob(f'*/log/{PORTAL_PAGE}')
    text = page.read_text()
    assert text.count('<script>') == 1 and 'KNAS_KEY' not in text and 'KNAS_COLUMNS' not in text
    assert 'innerHTML' not in text and not re.search(r'(src|href)="https?:', text)  # texts stay texts; nothing is fetched
