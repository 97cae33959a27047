"""Which status follows which: what is heard too late of a candidate takes nothing back that is known."""

from __future__ import annotations

import pytest
from nni.nas.space import SimplifiedModelSpace
from spaces import TinySpace

from nni_knas.record import Record, Status
from nni_knas.runs import restore_model


def of_status(status: Status) -> tuple[Record, int]:
    """A record of a candidate of a status."""
    record, sample = Record(None), {'width': 4, 'inner': 'relu', 'outer': 'relu'}
    if status == Status.FAILED:
        record.add_failed(sample, 'x', 'broken', 0.1)
    elif status == Status.FILTERED:
        record.add_filtered(sample, 'x', 'too large', 0.1)
    elif status == Status.SCREENED:
        record.add_screened(sample, 'x', 1.0, 0.1)
    else:
        record.add_scored(sample, 'x', 1.0, 0.1)
    if status == Status.OUTSIDE:
        record.exclude([1])
    if status in (Status.TRAINING, Status.TRAINED, Status.TRAINING_FAILED):
        record.start_training(1)
        record.set_metric(1, 0.5)
        record.add_step(1, 0.25)
    if status == Status.TRAINED:
        record.end_training(1, 3.0, kwh=0.5)
    if status == Status.TRAINING_FAILED:
        record.end_training(1, 3.0, 'no luck', kwh=0.5)
    assert record.get(1).status == status
    return record, 1


EVENTS = {
    'given up': lambda record, number: record.stop_training(number),
    'metric': lambda record, number: record.set_metric(number, 0.75),
    'end': lambda record, number: record.end_training(number, 9.0),
    'energy': lambda record, number: record.set_training_energy(number, 0.25),
    'start': lambda record, number: record.start_training(number),
    'step': lambda record, number: record.add_step(number, 0.75),
    'score': lambda record, number: record.rate(number, 2.0, None, 0.0),
    'exclusion': lambda record, number: record.exclude([number]),
    'return': lambda record, number: record.readmit(),
}
BEGUN = {Status.TRAINING, Status.TRAINED, Status.TRAINING_FAILED}
USABLE = {*BEGUN, Status.SCREENED, Status.SCORED}
CHANGES = {
    'given up': {Status.TRAINING},
    'metric': {Status.TRAINING},
    'end': BEGUN,
    'energy': BEGUN,
    'start': USABLE,
    'step': BEGUN,
    'score': {Status.SCREENED, Status.OUTSIDE},
    'exclusion': {Status.SCREENED, Status.SCORED, Status.FAILED},
    'return': {Status.OUTSIDE},
}


@pytest.mark.parametrize('event', EVENTS)
@pytest.mark.parametrize('status', Status)
def test_events(status, event):
    record, number = of_status(status)
    before, steps = record.get(number), record.steps().metric.tolist()
    if (event, status) == ('score', Status.OUTSIDE):  # it has a score, of before
        return
    EVENTS[event](record, number)
    assert ((record.get(number), record.steps().metric.tolist()) != (before, steps)) == (status in CHANGES[event])


def test_given_up():
    for status, expected in ((Status.SCORED, Status.SCORED), (Status.SCREENED, Status.SCREENED)):
        record, number = of_status(status)
        record.start_training(number)
        record.stop_training(number)
        assert record.get(number).status == expected


def test_late_metric_of_a_training_that_ended_without():
    record, number = of_status(Status.SCORED)
    record.start_training(number)
    record.end_training(number, 1.0)
    record.set_metric(number, 0.5)
    record.set_metric(number, 0.75)
    assert record.get(number).metric == 0.5


@pytest.mark.parametrize('status', Status)
def test_results_from_elsewhere(status):
    record, number = of_status(status)
    record.add_result(number, 0.75, 2.0)
    row, aside = record.get(number), status in (Status.FILTERED, Status.OUTSIDE)
    assert (row.metric, row.training_seconds) == (0.75, 2.0)
    assert row.status == (status if aside else Status.TRAINED) and bool(row.reason) == (status == Status.FILTERED)
    assert len(record.trained()) == (not aside)


@pytest.mark.parametrize('status', Status)
def test_models_of_every_status(status):
    record, number = of_status(status)
    model = restore_model(SimplifiedModelSpace.from_model(TinySpace()), record.get(number), None)
    assert model.sample == record.get(number).sample
