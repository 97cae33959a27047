"""Candidates near the best, of the tuner: nothing waits for them, and an interruption changes nothing of them."""

from __future__ import annotations

import json
import threading

from tuners import LEARN, choices, learn

from nni_knas import open_run
from nni_knas.record import Record, near_of, record_path
from nni_knas.tuner import background

NEAR = {**LEARN, 'space': 'spaces:Many', 'candidates': 40, 'near_best': 15, 'effort': 'full'}


def best_by_score(trial: dict) -> float:
    return float(trial['parameters']['kernel_score'])


def test_as_many_are_scored_and_what_was_asked_meanwhile_is_sent_then(start, monkeypatch):
    """Nothing waits: neither the request for a trial, nor the end of one that goes on meanwhile."""
    let, begun, score_near = threading.Event(), threading.Event(), background.CoarseStage.score_near

    def slow(stage, parents):
        begun.set()
        assert let.wait(60)
        score_near(stage, parents)

    monkeypatch.setattr(background.CoarseStage, 'score_near', slow)
    experiment = start(**NEAR)
    experiment.request(2)
    experiment.wait(lambda: len(experiment.trials()) == 2)
    for place in (1, 2, 3):
        experiment.finish(experiment.trials()[place], best_by_score(experiment.trials()[place]))
        experiment.request(1)
    experiment.wait(begun.is_set)
    assert len(experiment.trials()) == 4 and not experiment.ended()
    experiment.finish(experiment.trials()[0], 0.5)
    experiment.request(1)
    assert len(experiment.trials()) == 4 and len(experiment.scores()) == 25
    let.set()
    experiment.wait(lambda: len(experiment.trials()) == 6)
    record = open_run(experiment.folder).record
    assert len(record) == 40 and near_of(record).numbers(record) == list(range(26, 41))


def test_interrupted_and_resumed_it_is_the_same(start, tmp_path, monkeypatch):
    whole = start(**NEAR)
    learn(whole, 6, best_by_score)
    expected = choices(whole), near_of(open_run(tmp_path).record), whole.scores().score.tolist()
    whole.exit()
    record_path(tmp_path).unlink()
    first, add_scored, added = start(**NEAR), Record.add_scored, []

    def exits(record, *arguments):
        added.append(arguments)
        if len(added) == 5:
            first.tuner._exiting = True
            first.tuner._search.interrupt()
        return add_scored(record, *arguments)

    learn(first, 3, best_by_score)
    with monkeypatch.context() as patched:
        patched.setattr(Record, 'add_scored', exits)
        first.request(1)
        first.wait(lambda: len(added) > 4)
        first.exit()
    assert 25 < len(first.scores()) < 40 and len(first.trials()) == 3
    second = start(**NEAR, resumed=True)
    learn(second, 3, best_by_score)
    assert (choices(second), near_of(open_run(tmp_path).record), second.scores().score.tolist()) == expected


def test_in_another_space_they_are_drawn_anew(start):
    experiment = start(**NEAR)
    learn(experiment, 4, best_by_score)
    before = near_of(open_run(experiment.folder).record)
    narrow = {f'layer{place}': {'_type': 'choice', '_value': ['relu', 'tanh', 'elu']} for place in range(4)}
    experiment.dispatcher.handle_update_search_space(narrow)
    learn(experiment, 6, best_by_score)
    record = open_run(experiment.folder).record
    near = near_of(record)
    assert near.over and near.samples != before.samples and record.counted() == 40
    assert all(set(json.loads(sample).values()) <= {'relu', 'tanh', 'elu'} for sample in near.samples)
