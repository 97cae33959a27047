"""Spaces made of NNI's search space JSON and a function; the JSON of any space, and spaces with fewer choices."""

from __future__ import annotations

import json
import math

import nni
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nni.mutable import Categorical, CategoricalMultiple, ExpressionConstraint, Numerical
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.hub.pytorch import DARTS, AutoFormer, MobileNetV3Space, NasBench201
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import ModelStatus, RawFormatModelSpace, SimplifiedModelSpace
from nni.nas.strategy import TPE, GridSearch, Random, RegularizedEvolution
from nni.nas.strategy.utils import RetrySamplingHelper
from scipy.stats import beta, t
from spaces import TinySpace, tiny_kernel, train
from torch import nn

from nni_knas import KNAS, GradientKernelEvaluator
from nni_knas.networks.candidates import encode_sample, random_models
from nni_knas.networks.construction import build_network
from nni_knas.spaces import FunctionSpace, contains, narrowed, search_space_of

SEARCH_SPACE = {
    'width': {'_type': 'choice', '_value': [4, 8, 16]},
    'activation': {'_type': 'choice', '_value': ['ReLU', 'Tanh', 'Sigmoid']},
    'depth': {'_type': 'randint', '_value': [1, 4]},
    'dropout': {'_type': 'quniform', '_value': [0.0, 0.5, 0.125]},
}
KINDS = {
    'randint': [1, 5],
    'uniform': [0.5, 2],
    'quniform': [0, 10, 2.5],
    'loguniform': [1e-5, 1e-1],
    'qloguniform': [1, 100, 8],
    'normal': [0, 2],
    'qnormal': [1, 3, 0.5],
    'lognormal': [0, 1],
    'qlognormal': [0, 1, 2],
}


def build(parameters):
    layers, width = [], 6
    for _ in range(parameters['depth']):
        layers += [nn.Linear(width, parameters['width']), getattr(nn, parameters['activation'])()]
        width = parameters['width']
    return nn.Sequential(*layers, nn.Dropout(parameters['dropout']), nn.Linear(width, 3))


class Noted(nn.Module):
    """A network that does nothing but know its parameters."""

    def __init__(self, parameters):
        super().__init__()
        self.parameters_given = parameters
        self.layer = nn.Linear(2, 2)

    def forward(self, first, second=None):
        return self.layer(first if second is None else first + second)


def noted(parameters):
    return Noted(parameters)


def nothing(parameters):
    return [nn.Linear(2, 2)]


def simplified(search_space=SEARCH_SPACE, function='build'):
    return SimplifiedModelSpace.from_model(FunctionSpace(f'{__name__}:{function}', search_space), FunctionalEvaluator(train))


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_network_is_built_from_the_sample():
    for model in random_models(simplified(), 20, seed=0):
        network = model.executable_model().network
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        assert len(linear) == model.sample['depth'] + 1
        assert linear[0].out_features == model.sample['width']
        assert type(network[1]).__name__ == model.sample['activation']
        assert network[-2].p == model.sample['dropout']
        assert network(torch.zeros(2, 6)).shape == (2, 3)


def test_formats_build_the_same_network():
    space = FunctionSpace(f'{__name__}:build', SEARCH_SPACE)
    [model] = random_models(simplified(), 1, seed=0)
    raw = RawFormatModelSpace.from_model(space, None).freeze(model.sample)
    torch.manual_seed(0)
    frozen = space.freeze(model.sample)
    assert same_weights(build_network(model, 0), build_network(raw, 0))
    assert same_weights(build_network(model, 0), frozen)


def test_travels_in_nnis_serializer():
    [model] = random_models(simplified(), 1, seed=3)
    copy = nni.load(nni.dump(model))
    assert copy.sample == model.sample
    assert same_weights(build_network(copy, 0), build_network(model, 0))
    space = nni.load(nni.dump(simplified()))
    assert {label: mutable.extra_repr() for label, mutable in space.simplify().items()} == {
        label: mutable.extra_repr() for label, mutable in simplified().simplify().items()
    }


def test_forward_passes_all_arguments_on():
    space = FunctionSpace(f'{__name__}:noted', {'x': {'_type': 'choice', '_value': [1]}})
    one = torch.ones(1, 2)
    assert torch.equal(space(one, second=one), space.network.layer(one + one))
    inputs, targets = {'first': torch.randn(8, 2), 'second': torch.ones(8, 2)}, torch.arange(8) % 2
    assert GradientKernelEvaluator((inputs, targets)).score(space) == GradientKernelEvaluator((inputs, targets)).score(
        space.network
    )


@pytest.mark.parametrize(('kind', 'value'), KINDS.items())
def test_each_type_draws_what_nni_says(kind, value):
    space = simplified({'x': {'_type': kind, '_value': value}}, 'noted')
    drawn = [space.random(random_state=np.random.RandomState(seed)) for seed in range(100)]
    given = [model.executable_model().network.parameters_given['x'] for model in drawn]
    assert given == [model.sample['x'] for model in drawn]
    assert all(type(x) is (int if kind == 'randint' else float) for x in given)
    if kind == 'randint':
        assert set(given) == {1, 2, 3, 4}
    if kind.startswith('q'):
        assert all(x in value[:2] or abs(x / value[2] - round(x / value[2])) < 1e-9 for x in given)
        assert kind != 'qlognormal' or 0 in given
    if kind.endswith('uniform'):
        assert value[0] <= min(given) and max(given) <= value[1]
        middle = math.sqrt(value[0] * value[1]) if 'log' in kind else sum(value[:2]) / 2
        assert 0.25 < np.mean(np.array(given) < middle) < 0.75
    if kind in ('normal', 'lognormal'):
        logs = np.log(given) if kind == 'lognormal' else np.array(given)
        assert abs(logs.mean() - value[0]) < value[1] / 3 and abs(logs.std() - value[1]) < value[1] / 3


@pytest.mark.parametrize(
    ('search_space', 'message'),
    [
        ({}, 'the search space has to be a dict with an entry a parameter'),
        ([1], 'the search space has to be a dict with an entry a parameter'),
        ({'a/b': {'_type': 'choice', '_value': [1]}}, "'a/b' cannot be the name of a parameter"),
        ({'x': [1, 2]}, r"parameter 'x' is \[1, 2\]: it should be"),
        (
            {'x': {'_type': 'choices', '_value': [1]}},
            "parameter 'x' is of the unknown type 'choices': did you mean \"choice\"?",
        ),
        ({'x': {'_type': ['choice'], '_value': [1]}}, 'unknown type'),
        (
            {'x': {'_type': 'choice', '_value': [{'_name': 'a', 'y': {}}, {'_name': 'b'}]}},
            "parameter 'x' has nested choices",
        ),
        ({'x': {'_type': 'choice', '_value': []}}, "parameter 'x' is of the type choice with .*: that takes a list"),
        ({'x': {'_type': 'choice', '_value': [1, 2, 1]}}, 'that takes a list of different'),
        ({'x': {'_type': 'choice', '_value': 'abc'}}, 'that takes a list of different'),
        ({'x': {'_type': 'choice', '_value': [print]}}, 'that takes a list of different'),
        ({'x': {'_type': 'randint', '_value': [3, 3]}}, r'that takes \[lower, upper\]'),
        ({'x': {'_type': 'randint', '_value': [0.5, 3]}}, r'that takes \[lower, upper\]'),
        ({'x': {'_type': 'randint', '_value': [0, 10**9]}}, 'at most 1000 apart'),
        ({'x': {'_type': 'uniform', '_value': [2, 1]}}, 'low < high'),
        ({'x': {'_type': 'uniform', '_value': [0, 1, 2]}}, 'low < high'),
        ({'x': {'_type': 'uniform', '_value': [0, math.inf]}}, 'low < high'),
        ({'x': {'_type': 'quniform', '_value': [0, 1, 0]}}, 'q > 0'),
        ({'x': {'_type': 'loguniform', '_value': [0, 1]}}, '0 < low < high'),
        ({'x': {'_type': 'qlognormal', '_value': [0, 0, 1]}}, 'sigma > 0'),
    ],
)
def test_wrong_search_spaces(search_space, message):
    with pytest.raises(ValueError, match=message) as caught:
        FunctionSpace(f'{__name__}:noted', search_space)
    assert '\n' not in str(caught.value)


def test_wrong_functions():
    search_space = {'x': {'_type': 'choice', '_value': [1]}}
    with pytest.raises(ValueError, match='is not of the form module:name'):
        FunctionSpace('build', search_space)
    with pytest.raises(ValueError, match="there is no 'absent'"):
        FunctionSpace(f'{__name__}:absent', search_space)
    with pytest.raises(TypeError, match=f'{__name__}:SEARCH_SPACE is no function'):
        FunctionSpace(f'{__name__}:SEARCH_SPACE', search_space)
    with pytest.raises(TypeError, match=f'{__name__}:nothing returned .* should return a torch.nn.Module'):
        FunctionSpace(f'{__name__}:nothing', search_space)


@pytest.mark.parametrize(
    'explorer', [Random, lambda: RegularizedEvolution(population_size=6, sample_size=3), TPE, GridSearch]
)
@pytest.mark.parametrize(
    'search_space',
    [SEARCH_SPACE, {**SEARCH_SPACE, **{kind: {'_type': kind, '_value': value} for kind, value in KINDS.items()}}],
    ids=['discrete', 'all types'],
)
def test_explorers(explorer, search_space):
    strategy = KNAS(tiny_kernel(), 12, 0, explorer=explorer(), placement='process')
    strategy(simplified(search_space), SequentialExecutionEngine())
    scores = strategy.scores(all=True)
    assert len(scores) == 12 and scores.score.notna().all()
    assert all(contains(simplified(search_space), sample) for sample in scores.architecture)


def test_workers_give_the_same_scores(forked_workers):
    def run(**options):
        strategy = KNAS(tiny_kernel(), 8, 0, explorer=Random(seed=0), **options)
        strategy(simplified(), SequentialExecutionEngine())
        return {encode_sample(row.architecture): row.score for row in strategy.scores(all=True).itertuples()}

    assert run(workers=2) == run(placement='process')


numbers = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda x: round(x, 3))
positive = st.floats(1e-3, 1e3).map(lambda x: round(x, 3))
plain = st.one_of(st.integers(-99, 99), st.text(max_size=4), st.none(), st.lists(st.integers(0, 9), max_size=3))
specifications = st.one_of(
    st.lists(plain, min_size=1, max_size=5, unique_by=repr).map(lambda v: ('choice', v)),
    st.tuples(numbers, positive).map(lambda v: ('uniform', [v[0], v[0] + v[1]])),
    st.tuples(numbers, positive, positive).map(lambda v: ('quniform', [v[0], v[0] + v[1], v[2]])),
    st.tuples(positive, positive).map(lambda v: ('loguniform', [v[0], v[0] + v[1]])),
    st.tuples(positive, positive, positive).map(lambda v: ('qloguniform', [v[0], v[0] + v[1], v[2]])),
    st.tuples(numbers, positive).map(lambda v: ('normal', [*v])),
    st.tuples(numbers, positive, positive).map(lambda v: ('qnormal', [*v])),
    st.tuples(st.floats(-3, 3), st.floats(0.1, 2)).map(lambda v: ('lognormal', [*v])),
    st.tuples(st.floats(-3, 3), st.floats(0.1, 2), positive).map(lambda v: ('qlognormal', [*v])),
).map(lambda v: {'_type': v[0], '_value': v[1]})
search_spaces = st.dictionaries(st.text('abcdefg_.-', min_size=1, max_size=5), specifications, min_size=1, max_size=4)


@given(search_spaces, st.integers(0, 2**32 - 1))
def test_there_and_back(search_space, seed):
    space = simplified(search_space, 'noted')
    assert search_space_of(space) == search_space
    assert json.loads(json.dumps(search_space_of(space))) == search_space
    model = space.random(random_state=np.random.RandomState(seed))
    assert contains(space, model.sample)
    assert model.executable_model().network.parameters_given == model.sample
    assert contains(space, {label: mutable.default() for label, mutable in space.simplify().items()})


@given(search_spaces, st.data())
def test_narrowed_holds_what_is_kept_and_nothing_else(search_space, data):
    space = simplified(search_space, 'noted')
    kept = {
        label: {'_type': 'choice', '_value': data.draw(st.lists(st.sampled_from(each['_value']), min_size=1))}
        for label, each in search_space.items()
        if each['_type'] == 'choice'
    }
    small = narrowed(space, kept)
    for seed in range(5):
        sample = space.random(random_state=np.random.RandomState(seed)).sample
        inside = all(sample[label] in each['_value'] for label, each in kept.items())
        assert contains(small, sample) == inside
        narrow = small.random(random_state=np.random.RandomState(seed))
        assert contains(space, narrow.sample) and contains(small, narrow.sample)
        assert narrow.executable_model().network.parameters_given == narrow.sample
    assert search_space_of(space) == search_space


@pytest.mark.parametrize(
    'space',
    [NasBench201(), DARTS(8, 3, 'cifar'), MobileNetV3Space(), AutoFormer(), TinySpace()],
    ids=lambda space: type(space).__name__,
)
def test_search_space_of_nnis_spaces(space):
    found = search_space_of(space)
    assert json.loads(json.dumps(found)) == found
    assert found == search_space_of(SimplifiedModelSpace.from_model(space))
    assert found == search_space_of(RawFormatModelSpace.from_model(space))
    for label, mutable in space.simplify().items():
        if isinstance(mutable, Categorical):
            assert found[label] == {'_type': 'choice', '_value': [*mutable.values]}
        elif isinstance(mutable, CategoricalMultiple):
            assert found[label]['_value'] == [*mutable.values]
    simple = SimplifiedModelSpace.from_model(space)
    again = narrowed(simple, json.loads(json.dumps(found)))
    assert {label: mutable.extra_repr() for label, mutable in again.simplify().items()} == {
        label: mutable.extra_repr() for label, mutable in simple.simplify().items()
    }


class OddSpace(ModelSpace):
    """Choices that JSON does not have, distributions that NNI's JSON does not have, and a constraint."""

    def __init__(self):
        super().__init__()
        mutables = [
            Categorical([(1, 2), (3, 4)], label='pair'),
            Categorical([np.float32(0.5), 2], label='numpy'),
            Categorical([torch.float32, torch.float64], label='dtype'),
            Categorical(['a', 'b', 'c'], weights=[0.5, 0.25, 0.25], default='a', label='weighted'),
            CategoricalMultiple([1, 2, 3], n_chosen=2, label='several'),
            Numerical(distribution=beta(2, 5), label='beta'),
            Numerical(distribution=t(5, loc=3), label='t'),
            Numerical(low=-1, high=1, mu=0, sigma=2, label='clipped'),
        ]
        self.a, self.b = Categorical([1, 2, 3], label='a'), Categorical([1, 2, 3], default=3, label='b')
        for mutable in [*mutables, self.a, self.b, ExpressionConstraint(self.a + self.b == 4, label='sum')]:
            self.add_mutable(mutable)
        self.layer = nn.Linear(2, 2)


def test_search_space_of_odd_choices():
    found = search_space_of(OddSpace())
    assert json.loads(json.dumps(found)) == found
    assert found['pair']['_value'] == [[1, 2], [3, 4]]
    assert found['numpy']['_value'] == [0.5, 2]
    assert found['dtype']['_value'] == [str(torch.float32), str(torch.float64)]
    assert found['several'] == {'_type': 'choice', '_value': [1, 2, 3]}
    assert found['beta'] == {'_type': 'uniform', '_value': [0.0, 1.0]}
    assert found['t']['_type'] == 'normal' and found['t']['_value'] == pytest.approx([3, math.sqrt(5 / 3)])
    assert found['clipped'] == {'_type': 'normal', '_value': [0, 2]}
    assert 'sum' not in found


def choice(*values):
    return {'_type': 'choice', '_value': [*values]}


def test_narrowed_odd_choices():
    space = SimplifiedModelSpace.from_model(OddSpace())
    small = narrowed(
        space, {'pair': choice([3, 4]), 'dtype': choice(str(torch.float64)), 'weighted': choice('c', 'b'), 'a': choice(1)}
    )
    mutables = small.simplify()
    assert mutables['pair'].values == [(3, 4)] and mutables['dtype'].values == [torch.float64]
    assert mutables['weighted'].values == ['b', 'c'] and mutables['weighted'].weights == [0.5, 0.5]
    assert mutables['weighted'].default() == 'b'
    samples = [RetrySamplingHelper().retry(small.random).sample for _ in range(5)]
    assert samples and all(sample['a'] == 1 and sample['b'] == 3 for sample in samples)  # the constraint still holds
    assert space.simplify()['weighted'].default() == 'a' and space.simplify()['a'].values == [1, 2, 3]


def test_narrowed_by_formats_and_evaluator():
    space = simplified()
    raw = RawFormatModelSpace.from_model(FunctionSpace(f'{__name__}:build', SEARCH_SPACE), space.evaluator)
    small = narrowed(raw, {'depth': choice(2), 'width': {'_type': 'choice', '_value': [8, 4]}})
    assert small.evaluator is space.evaluator and small.status == ModelStatus.Initialized
    assert small.simplify()['depth'].values == [2] and small.simplify()['width'].values == [4, 8]
    assert narrowed(space, {}).simplify().keys() == space.simplify().keys()
    strategy = KNAS(tiny_kernel(), 12, 0, placement='process')
    strategy(small, SequentialExecutionEngine())
    assert {sample['depth'] for sample in strategy.scores(all=True).architecture} == {2}
    tuned = SimplifiedModelSpace.from_model(
        TinySpace(), FunctionalEvaluator(train, learning_rate=Categorical([0.1, 0.2], label='learning_rate'))
    )
    with pytest.raises(ValueError, match="parameter 'learning_rate' cannot be narrowed"):
        narrowed(tuned, {'learning_rate': choice(0.1)})
    assert contains(
        narrowed(tuned, {'learning_rate': choice(0.1, 0.2)}),
        {'width': 4, 'inner': 'relu', 'outer': 'relu', 'learning_rate': 0.2},
    )


@pytest.mark.parametrize(
    ('search_space', 'message'),
    [
        ({'widht': choice(4)}, "the space has no parameter 'widht': it has width, activation, depth, dropout"),
        ({'width': choice(4, 5)}, r"5 is no choice of parameter 'width': it has \[4, 8, 16\]"),
        ({'width': choice()}, r"parameter 'width' is left without a choice: keep some of \[4, 8, 16\]"),
        ({'width': [4]}, r"parameter 'width' is \[4\]: it should be"),
        ({'width': {'_type': 'uniform', '_value': [4, 8]}}, 'it should be {"_type": "choice"'),
        ({'dropout': {'_type': 'quniform', '_value': [0.0, 0.25, 0.125]}}, "parameter 'dropout' cannot be narrowed"),
        ([4], 'the search space has to be a dict'),
    ],
)
def test_wrong_narrowings(search_space, message):
    with pytest.raises(ValueError, match=message):
        narrowed(simplified(), search_space)


@given(
    st.dictionaries(
        st.sampled_from([*SEARCH_SPACE, 'other']),
        st.one_of(st.sampled_from([4, 8, 16, 'ReLU', 'Tanh', 1, 2, 0.125, 0.25, 0.3]), plain),
    )
)
def test_contains(sample):
    valid = SEARCH_SPACE.keys() <= sample.keys() and (
        sample['width'] in [4, 8, 16]
        and sample['activation'] in ['ReLU', 'Tanh', 'Sigmoid']
        and sample['depth'] in [1, 2, 3]
        and sample['dropout'] in [0, 0.125, 0.25, 0.375, 0.5]
    )
    assert contains(simplified(), sample) is bool(valid)


def test_contains_other_things():
    space = SimplifiedModelSpace.from_model(OddSpace())
    model = RetrySamplingHelper().retry(space.random)
    assert contains(space, model.sample)
    assert not contains(space, {**model.sample, 'several': 3})
    assert not contains(space, {**model.sample, 'beta': 'high'})
    assert not contains(space, {**model.sample, 'a': 3, 'b': 3})
    assert not contains(space, None) and not contains(space, [])
