"""The tuner behind NNI's own dispatcher, without a manager: what it sends, and that nothing waits for scoring."""

from __future__ import annotations

import json
import threading

import pytest
from clocks import Clock, Constant
from hypothesis import given
from hypothesis import strategies as st
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace
from nni.runtime.tuner_command_channel import CommandType
from panels import check_panels
from searches import run
from servers import wait_until
from spaces import TinySpace, vector_dataset
from tuners import LEARN, choices, learn

from nni_knas import GradientKernelEvaluator, open_run
from nni_knas.footprint import meter
from nni_knas.networks.candidates import encode_sample, random_models
from nni_knas.record import Choice, Record, record_path, stop_of
from nni_knas.runs import ranked
from nni_knas.spaces import sample_of, search_space_of, trial_parameters
from nni_knas.tuner import background, tuner


def test_best_become_trials(start):
    experiment = start()
    experiment.request(2)
    experiment.wait(lambda: len(experiment.trials()) == 2)
    scores = experiment.scores()
    for rank, trial in enumerate(experiment.trials(), start=1):
        row = scores.loc[rank]
        assert trial['parameters'] == {
            **row.architecture,
            'kernel_score': row.score,
            'kernel_rank': rank,
            'knas_reason': 'score',
            'knas_candidate': row.candidate,
        }
    assert not experiment.ended()
    experiment.finish(experiment.trials()[0], 0.5)
    experiment.request(1)
    assert len(experiment.trials()) == 3 and not experiment.ended()
    experiment.finish(experiment.trials()[1], None)
    experiment.finish(experiment.trials()[2], 0.75)
    experiment.request(2)
    assert len(experiment.trials()) == 3 and experiment.ended()
    scores = experiment.scores()
    assert list(scores.status[:4]) == ['trained', 'training-failed', 'trained', 'scored']
    assert open_run(experiment.folder).metric == 0.75


def test_panels_are_those_of_the_strategy(start):
    """To the last bit, that of an imported candidate among them."""
    experiment = start()
    experiment.request(1)
    experiment.wait(lambda: len(experiment.trials()) == 1)
    known = experiment.scores().architecture.tolist()
    new = next(
        each.sample
        for each in random_models(SimplifiedModelSpace.from_model(TinySpace()), 27, 0)
        if each.sample not in known
    )
    experiment.dispatcher.handle_import_data([{'parameter': new, 'value': 0.25}])
    experiment.wait(lambda: len(experiment.scores()) == 11)
    kernel = GradientKernelEvaluator(vector_dataset(), batch_size=8)
    check_panels(open_run(experiment.folder), kernel, TinySpace())
    strategy = run(TinySpace(), kernel, 10, 0)
    names = list(strategy.scores(panel=True).columns[4:])
    here, there = (
        each.scores(all=True, panel=True).set_index('candidate') for each in (strategy, open_run(experiment.folder))
    )
    assert here.sort_index()[names].equals(there.sort_index()[names].loc[:10])


def test_energy(start, monkeypatch):
    clock = Clock().rules(monkeypatch, background, meter, ranked)
    monkeypatch.setattr(meter, 'power_source', lambda country: Constant(clock))
    monkeypatch.setattr(meter, 'busy_seconds', clock.time)
    monkeypatch.setattr(meter, 'cpu_seconds', lambda root: clock.now)
    monkeypatch.setattr(tuner, 'experiment_config', lambda: {'experimentName': 'mine', 'trialCommand': 'python train.py'})
    score = background.CoarseStage.run
    monkeypatch.setattr(background.CoarseStage, 'run', lambda stage: (score(stage), clock.sleep(7)))
    experiment = start()
    experiment.request(1)
    experiment.wait(lambda: len(experiment.trials()) == 1)
    clock.sleep(30)
    run = open_run(experiment.folder)
    assert (run.name, run.status, run.metric_name) == ('mine', 'running', 'metric')
    experiment.finish(experiment.trials()[0], 0.5)
    clock.sleep(200)  # no trial is under way: nobody's
    experiment.request(2)
    clock.sleep(20)
    for trial in experiment.trials()[1:]:
        experiment.finish(trial, 0.25)
    experiment.request(1)
    assert experiment.ended()
    footprint, ranking = run.footprint(), run.ranking(all=True)
    assert footprint.stages.seconds['fine'] == pytest.approx(50)
    assert footprint.stages.seconds['coarse'] == pytest.approx(7, abs=2 * meter.Meter.least_covered)
    assert footprint.stages.kwh['fine'] == pytest.approx(0.05)
    assert ranking.training_kwh.tolist() == pytest.approx([0.03, 0.01, 0.01])
    assert footprint.statement.startswith('scored 10 candidates and trained 3 for ')
    assert run.record.get_meta('statement') == footprint.statement
    experiment.exit()
    assert run.status == 'finished'
    [session] = run.sessions()
    assert session.ended and session.about['command'] == f'nnictl create --config {run.folder}/knas/experiment.yml'


def test_more_requests_than_trials(start):
    """The manager learns by itself that there are no more, where all that it asked for came before they were known."""
    experiment = start(top_k=1)
    experiment.request(4)
    experiment.wait(experiment.ended)
    assert len(experiment.trials()) == 1


def test_nothing_waits_for_scoring(start, monkeypatch):
    going_on = threading.Event()
    run = background.CoarseStage.run
    monkeypatch.setattr(background.CoarseStage, 'run', lambda stage: (going_on.wait(300), run(stage)))
    experiment = start()
    experiment.request(2)
    experiment.dispatcher.handle_import_data([])
    assert experiment.sent == [(CommandType.Initialized, '')]
    going_on.set()
    experiment.wait(lambda: len(experiment.trials()) == 2)


def test_resume(start):
    experiment = start()
    experiment.request(2)
    experiment.wait(lambda: len(experiment.trials()) == 2)
    experiment.finish(experiment.trials()[0], 0.5)
    before = experiment.scores()
    experiment.exit()

    # The manager has lost the second trial, and imports the first.
    resumed = start(resumed=True)
    resumed.dispatcher.handle_import_data([{'parameter': experiment.trials()[0]['parameters'], 'value': '0.5'}])
    resumed.request(3)
    resumed.wait(resumed.ended)
    assert [trial['parameters']['kernel_rank'] for trial in resumed.trials()] == [2, 3]
    assert resumed.scores().seconds.equals(before.seconds)  # nothing was scored again


def test_resumed_trial_of_the_manager(start, monkeypatch):
    """A trial that NNI takes up by itself is not given out again; that it has failed is found out."""
    experiment = start()
    experiment.request(1)
    experiment.wait(lambda: len(experiment.trials()) == 1)
    experiment.exit()
    number = experiment.trials()[0]['parameters']['knas_candidate']
    status = {number: 'RUNNING'}
    monkeypatch.setattr(background, 'unfinished_trials', lambda: status)
    resumed = start(resumed=True)
    resumed.request(3)
    resumed.wait(lambda: len(resumed.trials()) == 2)
    assert [trial['parameters']['kernel_rank'] for trial in resumed.trials()] == [2, 3]
    status[number] = 'FAILED'
    monkeypatch.setattr(background, 'last_words_of_training', lambda candidate: f'ValueError: {candidate} is broken')
    resumed.request(1)
    assert resumed.scores().status[1] == 'training-failed'
    assert resumed.scores().reason[1].endswith(f': ValueError: {number} is broken')


def test_import(start):
    """An imported result counts, whether its architecture was scored before or not; one of another space is ignored."""
    experiment = start(candidates=5, top_k=1)
    experiment.request(1)
    experiment.wait(lambda: len(experiment.trials()) == 1)
    known = experiment.scores().architecture.tolist()
    space = SimplifiedModelSpace.from_model(TinySpace())
    new = next(model.sample for model in random_models(space, 27, 0) if model.sample not in known)
    experiment.dispatcher.handle_import_data(
        [
            {'parameter': new, 'value': 0.25},
            {'parameter': known[2], 'value': '{"default": 0.125}'},
            {'parameter': {'depth': 3}, 'value': 1.0},
            {'parameter': known[3], 'value': 'null'},
        ]
    )
    experiment.wait(lambda: experiment.scores().metric.notna().sum() == 2)
    scores = experiment.scores()
    assert len(scores) == 6 and scores.score.notna().all()
    metrics = {encode_sample(row.architecture): row.metric for row in scores[scores.status == 'trained'].itertuples()}
    assert metrics == {encode_sample(new): 0.25, encode_sample(known[2]): 0.125}


def test_import_before_the_search_is_prepared(start):
    """Which is when a resumed experiment's manager tells what its trials have reported."""
    sample = {'width': 4, 'inner': 'relu', 'outer': 'tanh'}
    experiment = start(top_k=1)
    experiment.dispatcher.handle_import_data([{'parameter': sample, 'value': 0.25}])
    experiment.request(1)
    experiment.wait(lambda: experiment.trials() or experiment.ended())
    assert open_run(experiment.folder).metric == 0.25 and open_run(experiment.folder).architecture == sample


def test_new_search_space(start):
    experiment = start(candidates=27, top_k=2)
    experiment.request(1)
    experiment.wait(lambda: len(experiment.trials()) == 1)
    narrow = {'inner': {'_type': 'choice', '_value': ['tanh']}, 'width': {'_type': 'choice', '_value': [4]}}
    experiment.request(4)
    experiment.dispatcher.handle_update_search_space(narrow)
    experiment.wait(
        lambda: sum(t['parameters']['inner'] == 'tanh' and t['parameters']['width'] == 4 for t in experiment.trials()) == 2
    )
    scores = experiment.scores()
    assert len(scores) == 27 and (scores.status == 'outside').sum() > 20
    assert [t['parameters']['kernel_rank'] for t in experiment.trials()[-2:]] == [1, 2]
    experiment.dispatcher.handle_update_search_space({})
    experiment.wait(lambda: (experiment.scores().status == 'outside').sum() == 0)


def test_what_the_portal_is_to_show_is_no_new_search_space(start, monkeypatch):
    """The manager passes it on at once."""
    shown, prepared, begun = [], [], threading.Event()

    def show(space):
        shown.append(space)
        begun.wait(300)
        experiment.dispatcher.handle_update_search_space(space)

    monkeypatch.setattr(background, 'show_search_space', show)
    prepare = background.BackgroundSearch.prepare
    monkeypatch.setattr(background.BackgroundSearch, 'prepare', lambda *search: prepared.append(1) or prepare(*search))
    experiment = start()
    begun.set()
    experiment.request(1)
    experiment.wait(lambda: len(experiment.trials()) == 1)
    assert set(shown[0]) == {'width', 'inner', 'outer'} and len(shown) == len(prepared) == 1


def test_limits_and_front(start):
    experiment = start(candidates=27, top_k=3, max_parameters=100, front='parameters')
    experiment.request(3)
    experiment.wait(lambda: len(experiment.trials()) == 3)
    scores = experiment.scores()
    assert set(scores.status) == {'scored', 'filtered', 'training'}
    assert scores.parameters[scores.status == 'training'].max() <= 100


class TestLearning:
    def test_trials_say_why_they_were_chosen(self, start):
        experiment = start(**LEARN)
        assert learn(experiment, 6) == [choice.candidate for choice in choices(experiment)]
        experiment.request(1)
        assert experiment.ended() and len(experiment.trials()) == 6
        for trial, choice in zip(experiment.trials(), choices(experiment), strict=True):
            about = {'kernel_rank': choice.rank, 'knas_reason': choice.reason, 'predicted_metric': choice.predicted}
            assert {name: trial['parameters'].get(name) for name in about} == about
        assert {choice.reason for choice in choices(experiment)} > {'score'}
        assert open_run(experiment.folder).metric == -4

    def test_resumed_it_chooses_the_same(self, start, tmp_path):
        whole = start(**LEARN)
        learn(whole, 6)
        expected = choices(whole)
        whole.exit()
        record_path(tmp_path).unlink()
        first = start(**LEARN)
        learn(first, 3)
        first.request(1)  # given out, and lost by the manager
        first.exit()
        second = start(**LEARN, resumed=True)
        assert learn(second, 3) == [choice.candidate for choice in expected[3:]]
        assert choices(second) == expected

    def test_several_at_a_time_and_failures(self, start):
        experiment = start(**LEARN)
        experiment.request(2)
        experiment.wait(lambda: len(experiment.trials()) == 2)
        for metric in (-8.0, None, -16.0, None):
            experiment.finish(experiment.trials()[-1], metric)  # the first one goes on
            experiment.request(1)
        numbers = [trial['parameters']['knas_candidate'] for trial in experiment.trials()]
        assert len(set(numbers)) == 6 == len(numbers)
        assert open_run(experiment.folder).record.endings() == [*zip(numbers[1:5], [-8.0, None, -16.0, None], strict=True)]

    def test_imported_results_are_learnt_from(self, start):
        experiment = start(**LEARN)
        learn(experiment, 1)
        frame = experiment.scores()
        new = [row.architecture for row in frame[frame.status == 'scored'].itertuples()][-2:]
        experiment.dispatcher.handle_import_data(
            [{'parameter': sample, 'value': float(value)} for value, sample in enumerate(new)]
        )
        experiment.wait(lambda: (experiment.scores().status == 'trained').sum() == 3)
        learn(experiment, 2)
        assert choices(experiment)[1].predicted is not None

    def test_an_end_that_is_still_to_be_told_is_waited_for(self, start, monkeypatch):
        """NNI's dispatcher tells the end of a trial in another thread than it asks for the next one."""
        monkeypatch.setattr(tuner, 'experiment_config', lambda: {'trialConcurrency': 1})
        live = []
        monkeypatch.setattr(background, 'trial_concurrency', lambda: live[-1] if live else None)
        experiment = start(**LEARN)
        experiment.request(1)
        experiment.wait(lambda: len(experiment.trials()) == 1)
        experiment.request(1)
        assert len(experiment.trials()) == 1
        experiment.finish(experiment.trials()[0], None)
        assert len(experiment.trials()) == 2
        live.append(2)  # a person has raised it in the portal
        experiment.request(1)
        assert len(experiment.trials()) == 3

    def test_stops_when_little_is_left_to_find(self, start):
        experiment = start(**{**LEARN, 'top_k': 27}, stop_when=0.9)
        learn(experiment, 27)
        assert 2 <= len(experiment.trials()) < 27 and stop_of(open_run(experiment.folder).record).chance < 0.9
        wait_until(lambda: open_run(experiment.folder).record.get_meta('complete'))


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        ({'choose': 'rank', 'stop_when': 0.5}, 'stop_when=0.5 goes with choose="learn"'),
        ({'candidats': 10}, 'unknown field "candidats": did you mean "candidates"?'),
        ({'candidates': 0}, 'candidates is 0'),
        ({'optimize_mode': 'best'}, "optimize_mode is 'best'"),
        ({'space': 'NasBench202'}, "unknown space 'NasBench202'"),
        ({'data': 'folder:nowhere'}, 'there is no folder'),
        ({'placement': 'trials'}, 'the trials of this experiment train'),
        ({'network': 'spaces:train', 'space': 'NasBench201'}, 'search space'),
        ({'max_parameters': 1}, 'none of the'),
    ],
)
def test_mistakes(start, arguments, sentence):
    experiment = start(**arguments)
    experiment.request(1)
    wait_until(experiment.errors)
    assert sentence in experiment.errors()[0] and experiment.trials() == []


def test_wrong_search_space(start):
    experiment = start({'depth': {'_type': 'choice', '_value': [1]}})
    wait_until(experiment.errors)
    assert "the space has no parameter 'depth'" in experiment.errors()[0]


@pytest.fixture(scope='module')
def nasbench():
    return SimplifiedModelSpace.from_model(NasBench201())


@given(st.integers(0, 1000))
def test_parameters_and_back(nasbench, seed):
    space = nasbench
    model = random_models(space, 1, seed)[0]
    candidate = Record(None).add_scored(model.sample, '', 1.5, 0.1, 7)
    parameters = json.loads(json.dumps(trial_parameters(candidate, Choice(7, 3, 'learned', 0.25))))
    assert sample_of(parameters, space) == model.sample
    about = {'kernel_score': 1.5, 'kernel_rank': 3, 'knas_reason': 'learned', 'predicted_metric': 0.25, 'knas_candidate': 7}
    assert parameters.items() >= about.items() and set(parameters) == {*search_space_of(space), *about}


@pytest.mark.parametrize(
    'change, sentence',
    [
        ({'depth': 3}, "'depth' is no parameter"),
        ({'inner': 'gelu'}, "'gelu' is no choice of 'inner'"),
    ],
)
def test_parameters_that_are_no_architecture(change, sentence):
    space = SimplifiedModelSpace.from_model(TinySpace())
    with pytest.raises(ValueError, match=sentence):
        sample_of({'width': 4, 'inner': 'relu', 'outer': 'tanh', **change}, space)
    with pytest.raises(ValueError, match="it has no 'outer'"):
        sample_of({'width': 4, 'inner': 'relu'}, space)
