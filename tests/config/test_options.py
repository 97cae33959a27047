"""The one description of a search's options."""

from __future__ import annotations

import dataclasses

import pytest
from config_models import SEARCH_SPACE, report_size
from hypothesis import given
from hypothesis import strategies as st
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.evaluator.pytorch import Classification
from nni.nas.hub.pytorch import NasBench201
from nni.nas.strategy import RegularizedEvolution
from spaces import TinySpace
from torch import nn

from nni_knas.config.options import SearchOptions, options

NAMES = [option.name for option in options()]


def camel_case(name):
    first, *others = name.split('_')
    return first + ''.join(word.title() for word in others)


class TestFromMapping:
    def test_nothing_gives_the_defaults(self):
        assert SearchOptions.from_mapping({}) == SearchOptions()

    def test_defaults_are_valid(self):
        assert SearchOptions.from_mapping(SearchOptions().to_mapping()) == SearchOptions()

    def test_both_spellings(self):
        values = SearchOptions(candidates=7, top_k=2, batch_size=4, max_flops=1e9, merge_identical=True).to_mapping()
        spelled = {camel_case(name): value for name, value in values.items()}
        assert 'maxFlops' in spelled
        assert SearchOptions.from_mapping(spelled) == SearchOptions.from_mapping(values)

    @pytest.mark.parametrize(
        'given, expected',
        [
            ('1e3', 1000),
            ('300', 300),
            (1e3, 1000),
            (' 12 ', 12),
            ('+5', 5),
            ('5.0', 5),
        ],
    )
    def test_numbers_as_yaml_reads_them(self, given, expected):
        value = SearchOptions.from_mapping({'candidates': given, 'top_k': 0}).candidates
        assert value == expected and type(value) is int

    @given(st.integers(1, 2**60))
    def test_no_digit_of_a_number_is_lost(self, number):
        assert SearchOptions.from_mapping({'max_memory': str(number)}).max_memory == number

    def test_floats(self):
        result = SearchOptions.from_mapping({'learning_rate': '1e-3', 'max_flops': 10})
        assert (result.learning_rate, result.max_flops) == (0.001, 10.0) and isinstance(result.max_flops, float)

    @pytest.mark.parametrize(
        'mapping, sentence',
        [
            ({'candidats': 3}, 'unknown field "candidats": did you mean "candidates"?'),
            ({'maxFlop': 3}, 'unknown field "maxFlop": did you mean "max_flops"?'),
            ({'zzz': 3}, f'unknown field "zzz": there are {", ".join(NAMES)}'),
            ({'top_k': 1, 'topK': 2}, 'the field top_k is given twice'),
            ({'candidates': 0}, 'candidates is 0: it has to be a whole number, 1 or more'),
            ({'candidates': 'many'}, "candidates is 'many': it has to be a whole number, 1 or more"),
            ({'candidates': True}, 'candidates is True: it has to be a whole number, 1 or more'),
            ({'candidates': 2.5}, 'candidates is 2.5: it has to be a whole number, 1 or more'),
            ({'candidates': None}, 'candidates is None: it has to be a whole number, 1 or more'),
            ({'seed': 2**32}, 'seed is 4294967296: it has to be a whole number, 0 or more and at most 4294967295'),
            ({'learning_rate': 0}, 'learning_rate is 0.0: it has to be a number above 0'),
            ({'max_flops': float('inf')}, 'max_flops is inf: it has to be a number above 0'),
            ({'merge_identical': 'yes'}, "merge_identical is 'yes': it has to be true or false"),
            ({'front': 'accuracy'}, "front is 'accuracy': it has to be one of parameters, flops, memory, latency"),
            ({'effort': ['full']}, "effort is ['full']: it has to be one of adaptive, full"),
            ({'network': 'build'}, "network is 'build': it has to be of the form module:function"),
            ({'space_args': [1]}, 'space_args is [1]: it has to be a mapping of names to values'),
            ({'data': 3}, 'data is 3: it has to be text'),
            ({'top_k': 5, 'candidates': 2}, 'top_k=5 is more than candidates=2'),
            ({'workers': 2, 'placement': 'gpus'}, 'workers=2 goes with placement="workers", not with \'gpus\''),
            ({'network': 'a:b', 'space': 'DARTS'}, 'there are both a network (a:b) and a space (DARTS)'),
            ({'network': 'a:b', 'space_args': {'a': 1}}, 'space_args goes with a space'),
            ({'evaluator_args': {'a': 1}}, 'evaluator_args goes with an evaluator of your own'),
        ],
    )
    def test_mistakes(self, mapping, sentence):
        with pytest.raises(ValueError) as error:
            SearchOptions.from_mapping(mapping)
        assert str(error.value).startswith(sentence) and '\n' not in str(error.value)


class TestDescription:
    def test_every_field_is_described(self):
        assert [field.name for field in dataclasses.fields(SearchOptions)] == NAMES
        assert all(option.help for option in options())

    def test_defaults_keep_their_own_rules(self):
        for option in options():
            assert option.checked(option.default) == option.default

    def test_score_choices_are_those_of_the_registry(self):
        from nni_knas.scores import score_names

        [score] = [option for option in options() if option.name == 'score']
        assert list(score.choices) == list(score_names())


class TestMaking:
    def test_constraints(self):
        assert SearchOptions().constraints() == {}
        assert SearchOptions(max_parameters=10, max_latency=0.5).constraints() == {'parameters': 10, 'latency': 0.5}

    @pytest.mark.parametrize('name', ['NasBench201', 'nasbench201'])
    def test_space_of_the_hub_has_the_classes(self, name):
        space = SearchOptions(space=name, space_args={'num_modules_per_stack': 1}).make_space(7)
        assert isinstance(space, NasBench201)
        assert any(isinstance(m, nn.Linear) and m.out_features == 7 for m in space.modules())

    def test_own_space_that_takes_no_classes(self):
        assert isinstance(SearchOptions(space='spaces:TinySpace').make_space(3), TinySpace)

    def test_network(self):
        space = SearchOptions(network='config_models:build').make_space(3, SEARCH_SPACE)
        assert set(space.simplify()) == set(SEARCH_SPACE)

    @pytest.mark.parametrize(
        'search_options, search_space, sentence',
        [
            (SearchOptions(space='NasBench202'), None, 'unknown space \'NasBench202\': did you mean "NasBench201"?'),
            (SearchOptions(space='spaces:Nothing'), None, "there is no 'Nothing' in module 'spaces'"),
            (
                SearchOptions(space='config_models:SEARCH_SPACE'),
                None,
                'the space config_models:SEARCH_SPACE cannot be built',
            ),
            (
                SearchOptions(space='config_models:build', space_args={'parameters': {'width': 4, 'bias': True}}),
                None,
                'config_models:build is no NNI model space',
            ),
            (SearchOptions(space_args={'depth': 3}), None, 'the space NasBench201 cannot be built, see space_args:'),
            (SearchOptions(network='config_models:build'), None, 'the network config_models:build goes with a search space'),
            (SearchOptions(), SEARCH_SPACE, "a search space in NNI's JSON format goes with a network"),
        ],
    )
    def test_no_space(self, search_options, search_space, sentence):
        with pytest.raises(ValueError) as error:
            search_options.make_space(3, search_space)
        assert str(error.value).startswith(sentence)

    def test_kernel_and_strategy(self):
        given = SearchOptions(
            data='config_models:data',
            score='mgm',
            batch_size=3,
            seed=5,
            candidates=90,
            top_k=2,
            explorer='evolution',
            optimize_mode='minimize',
            max_parameters=100,
            front='flops',
            placement='workers',
            effort='full',
        )
        kernel = given.make_kernel(given.load_data())
        assert (kernel.batch_size, kernel.seed, kernel.score_function.name) == (3, 5, 'mgm')
        strategy = given.make_strategy(kernel, keep_weights=False)
        asked = strategy.request
        assert (asked.candidates, asked.top_k, asked.effort, asked.placement) == (90, 2, 'full', 'workers')
        assert isinstance(strategy.explorer, RegularizedEvolution) and not asked.keep_weights
        assert (asked.optimize_mode, asked.front, asked.constraints) == ('minimize', 'flops', {'parameters': 100})

    def test_evaluators(self):
        data = SearchOptions(data='config_models:data').load_data()
        default = SearchOptions(epochs=7, learning_rate=0.5).make_evaluator(data)
        assert isinstance(default, Classification)
        assert default.trainer.max_epochs == 7
        own = SearchOptions(
            evaluator='config_models:evaluator', evaluator_args={'gate': 'here'}, optimize_mode='minimize'
        ).make_evaluator(data)
        assert isinstance(own, FunctionalEvaluator)
        assert own.function is report_size and own.arguments['gate'] == 'here'

    @pytest.mark.parametrize(
        'search_options, sentence',
        [
            (SearchOptions(optimize_mode='minimize'), 'optimize_mode "minimize" goes with an evaluator of your own'),
            (SearchOptions(evaluator='config_models:no_evaluator'), 'config_models:no_evaluator returned int'),
            (
                SearchOptions(evaluator='config_models:evaluator', evaluator_args={'epoch': 1}),
                'the evaluator config_models:evaluator cannot be made, see evaluator_args',
            ),
            (SearchOptions(evaluator='config_models:nothing'), "there is no 'nothing'"),
        ],
    )
    def test_no_evaluator(self, search_options, sentence):
        data = SearchOptions(data='config_models:data').load_data()
        with pytest.raises(ValueError) as error:
            search_options.make_evaluator(data)
        assert str(error.value).startswith(sentence)
