"""Configuration files: what they may hold, what is said of mistakes, and that schema, reader and docs agree."""

from __future__ import annotations

import errno
import json
import math
import os
import runpy
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from config_models import SEARCH_SPACE
from hypothesis import given
from hypothesis import strategies as st
from nni.experiment.config import ExperimentConfig, LocalConfig, RemoteConfig
from nni.nas.experiment import NasExperimentConfig
from places import DOCS, EXAMPLES

from nni_knas.cli import main
from nni_knas.config import SearchOptions, default_config, enter, load_config, markdown, options, schema

SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MACHINE = {'host': '10.0.0.1', 'user': 'me', 'password': 'secret'}
REMOTE = {'platform': 'remote', 'machineList': [MACHINE]}


@pytest.fixture
def file(tmp_path):
    def write(content) -> Path:
        path = tmp_path / 'search.yml'
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def here():
    """The working directory and the module path are as they were, afterwards."""
    directory, paths = os.getcwd(), list(sys.path)
    yield
    os.chdir(directory)
    sys.path[:] = paths


class TestLoad:
    def test_nothing_but_defaults(self, file):
        loaded = load_config(file({'trialConcurrency': 1}))
        assert loaded.options == SearchOptions() and loaded.search_space is None
        assert isinstance(loaded.config, NasExperimentConfig)
        assert loaded.config.execution_engine.name == 'ts' and loaded.config.model_format.name == 'simplified'
        assert isinstance(loaded.config.training_service, LocalConfig)

    def test_the_sections_are_the_same(self, file):
        values = {'candidates': '1e3', 'topK': 2, 'space_args': {'width': 4}}
        loaded = [
            load_config(file(content)).options
            for content in (
                {'knas': values},
                {'tuner': {'name': 'KNAS', 'classArgs': values}},
                {'tuner': {'className': 'nni_knas.tuner.KNAS', 'codeDirectory': '.', 'classArgs': values}},
            )
        ]
        assert loaded == [SearchOptions(candidates=1000, top_k=2, space_args={'width': 4})] * 3

    def test_nni_fields(self, file):
        config = load_config(
            file(
                {
                    'experimentName': 'mine',
                    'trial_concurrency': 3,
                    'maxExperimentDuration': '2h',
                    'maxTrialNumber': 9,
                    'maxTrialDuration': 60,
                    'logLevel': 'debug',
                    'trialGpuNumber': 0,
                    'trainingService': REMOTE,
                }
            )
        ).config
        assert (
            config.experiment_name,
            config.trial_concurrency,
            config.max_experiment_duration,
            config.max_trial_number,
            config.max_trial_duration,
            config.log_level,
            config.trial_gpu_number,
        ) == ('mine', 3, '2h', 9, 60, 'debug', 0)
        assert isinstance(config.training_service, RemoteConfig)
        assert config.training_service.machine_list[0].host == '10.0.0.1'

    def test_keys_in_any_spelling(self, file):
        service = {'Platform': 'remote', 'machine_list': [{'HOST': '10.0.0.1', 'user': 'me', 'pass_word': 'secret'}]}
        config = load_config(file({'training_service': service, 'TRIALCONCURRENCY': 3})).config
        assert config.trial_concurrency == 3 and config.training_service.machine_list[0].password == 'secret'

    @pytest.mark.parametrize(
        'content',
        [
            {'knas': None, 'tuner': {'name': 'KNAS'}},
            {'tuner': None, 'knas': {}},
            {'searchSpace': None, 'searchSpaceFile': None},
        ],
    )
    def test_what_is_left_empty_is_not_there(self, content, file):
        loaded = load_config(file(content))
        assert loaded.options == SearchOptions() and loaded.search_space is None

    @pytest.mark.parametrize(
        'data, expected',
        [
            ('text:GLUE/RTE', 'text:{base}/GLUE/RTE'),
            ('text:GLUE/RTE@minilm', 'text:{base}/GLUE/RTE@minilm'),
            ('text:GLUE/RTE@encoder', 'text:{base}/GLUE/RTE@{base}/encoder'),
            ('text:/GLUE/RTE@some/hub-name', 'text:/GLUE/RTE@some/hub-name'),
            ('text:at@home', 'text:{base}/at@home'),
            ('text:hf:glue:rte', 'text:hf:glue:rte'),
            ('text:hf:glue:rte@encoder', 'text:hf:glue:rte@{base}/encoder'),
            ('digits', 'digits'),
            ('mine:data', 'mine:data'),
        ],
    )
    def test_texts_are_relative_to_the_file(self, data, expected, file):
        path = file({'knas': {'data': data}})
        for name in ('encoder', 'at@home'):
            (path.parent / name).mkdir()
        assert load_config(path).options.data == expected.format(base=path.parent)

    def test_paths_are_relative_to_the_file(self, file, here):
        path = file({'knas': {'data': 'folder:photos'}, 'experimentWorkingDirectory': 'runs'})
        (path.parent / 'models').mkdir()
        loaded = load_config(path)
        assert loaded.options.data == f'folder:{path.parent}/photos'
        assert loaded.config.trial_code_directory == str(path.parent)
        enter(loaded.config)
        assert Path(loaded.config.canonical_copy().experiment_working_directory) == path.parent / 'runs'
        enter(load_config(file({'trialCodeDirectory': 'models'})).config)
        assert Path.cwd() == path.parent / 'models' and sys.path[0] == str(path.parent / 'models')

    def test_modules_are_found_in_the_code_directory(self, file, here):
        path = file({'knas': {'space': 'module_of_the_file:Space'}})
        (path.parent / 'module_of_the_file.py').write_text('from spaces import TinySpace as Space')
        loaded = load_config(path)
        enter(loaded.config)
        assert type(loaded.options.make_space(3)).__name__ == 'TinySpace'

    @pytest.mark.parametrize('how', ['inside', 'file'])
    def test_search_space(self, file, tmp_path, how):
        space = {**SEARCH_SPACE, 'rate': {'_type': 'loguniform', '_value': [1e-5, 1e-1]}}
        (tmp_path / 'space.json').write_text(json.dumps(space, indent='\t'))
        there = {'searchSpace': space} if how == 'inside' else {'searchSpaceFile': 'space.json'}
        loaded = load_config(file({'knas': {'network': 'config_models:build'}, **there}))
        assert loaded.search_space == space

    def test_trial_command_of_the_tuner_is_ignored(self, file):
        config = load_config(file({'trialCommand': 'python3 -m nni_knas.trial --epochs 3'})).config
        assert config.trial_command == ''

    def test_overrides(self, file):
        path = file({'knas': {'candidates': 10, 'top_k': 20, 'batch_size': 4}})
        loaded = load_config(path, {'candidates': '50'})
        assert (loaded.options.candidates, loaded.options.top_k, loaded.options.batch_size) == (50, 20, 4)
        with pytest.raises(ValueError, match='top_k=20 is more than candidates=10'):
            load_config(path)

    def test_gpu(self, file, monkeypatch):
        monkeypatch.setattr('torch.cuda.is_available', lambda: True)
        for config in (load_config(file({'debug': False})).config, default_config()):
            assert (config.trial_gpu_number, config.trial_concurrency) == (1, 1)
            assert config.training_service.use_active_gpu is True
        without = load_config(file({'trialGpuNumber': 0})).config
        assert (without.trial_gpu_number, without.trial_concurrency) == (0, 2)
        remote = load_config(file({'trainingService': REMOTE})).config
        assert (remote.trial_gpu_number, remote.trial_concurrency) == (None, 2)

    def test_the_same_file_is_one_of_nni(self, file):
        """The tuner's form is what nnictl create takes."""
        path = file(
            {
                'searchSpace': SEARCH_SPACE,
                'trialCommand': 'python -m nni_knas.trial',
                'trialConcurrency': 2,
                'trainingService': {'platform': 'local'},
                'tuner': {
                    'className': 'nni_knas.tuner.KNAS',
                    'codeDirectory': '.',
                    'classArgs': {'network': 'config_models:build', 'candidates': 5, 'top_k': 1},
                },
            }
        )
        nni_config = ExperimentConfig.load(path)
        nni_config.validate()
        loaded = load_config(path)
        assert SearchOptions.from_mapping(nni_config.tuner.class_args) == loaded.options
        assert nni_config.search_space == loaded.search_space


MISTAKES = [
    ({'trialConcurency': 3}, ': unknown field "trialConcurency": did you mean "trialConcurrency"?'),
    ({'knas': {'candidats': 3}}, ', knas: unknown field "candidats": did you mean "candidates"?'),
    ({'tuner': {'name': 'KNAS', 'classArgs': {'topp_k': 3}}}, ', tuner, classArgs: unknown field "topp_k"'),
    (
        {'trainingService': {'platform': 'local', 'useActivGpu': True}},
        ', trainingService: unknown field "useActivGpu": did you mean "useActiveGpu"?',
    ),
    (
        {'trainingService': {'platform': 'remote', 'machineList': [{**MACHINE, 'hots': 'a'}]}},
        ', trainingService, machineList, machineList[0]: unknown field "hots": did you mean "host"?',
    ),
    (
        {'trainingService': {'platform': 'remote', 'machineList': [{'host': 'a'}]}},
        ', trainingService, machineList, machineList[0]: user is missing',
    ),
    (
        {'trainingService': {'platform': 'remote', 'machineList': [{'host': 'a', 'usr': 'me'}]}},
        ', trainingService, machineList, machineList[0]: unknown field "usr": did you mean "user"?',
    ),
    (
        {'trainingService': {'platform': 'remote', 'machineList': [{**MACHINE, 'port': 70000}]}},
        ', trainingService, machineList, machineList[0]: port is 70000: it has to be a whole number, 1 or more and at most '
        '65535',
    ),
    ({'trainingService': {'platform': 'lokal'}}, ", trainingService: platform is 'lokal': it has to be one of local,"),
    ({'trainingService': {}}, ', trainingService: platform is missing: it has to be one of local,'),
    (
        {'trainingService': 'local'},
        ": trainingService is 'local': it has to be a mapping of fields to values, among them platform",
    ),
    ({'trialConcurrency': 0}, ': trialConcurrency is 0: it has to be a whole number, 1 or more'),
    ({'trialConcurrency': 'two'}, ": trialConcurrency is 'two': it has to be a whole number, 1 or more"),
    ({'maxTrialDuration': '1 hour'}, ": maxTrialDuration is '1 hour': it has to be a duration such as 30m"),
    ({'logLevel': 'loud'}, ": logLevel is 'loud': it has to be one of trace, debug,"),
    ({'debug': 'yes'}, ": debug is 'yes': it has to be true or false"),
    ({'assessor': {'name': 'Medianstop'}}, ': assessor has no use in a search: leave it out'),
    ({'knas': {'candidates': -1}}, ', knas: candidates is -1: it has to be a whole number, 1 or more'),
    ({'knas': [3]}, ', knas: it is [3]: it has to be a mapping of options to values'),
    ({'knas': {}, 'tuner': {'name': 'KNAS'}}, ': there are both knas and tuner: give one of the two'),
    ({'searchSpace': {}, 'searchSpaceFile': 'a.json'}, ': there are both searchSpace and searchSpaceFile'),
    ({'tuner': {'name': 'TPE'}}, ', tuner: name is \'TPE\': it has to be "KNAS"'),
    ({'tuner': {'classArgs': {}}}, ', tuner: give either name: KNAS or className: nni_knas.tuner.KNAS'),
    ({'trialCommand': 'python train.py'}, ': trialCommand is \'python train.py\': it has to be "python -m nni_knas.trial"'),
    ({'sharedStorage': {'storageType': 'NFS'}}, ', sharedStorage: localMountPoint is missing'),
]


class TestMistakes:
    @pytest.mark.parametrize('content, sentence', MISTAKES)
    def test_one_sentence_that_names_file_and_field(self, content, sentence, file):
        path = file(content)
        with pytest.raises(ValueError) as error:
            load_config(path)
        assert str(error.value).startswith(f'{path}{sentence}') and '\n' not in str(error.value)

    @pytest.mark.parametrize('content, sentence', MISTAKES)
    def test_the_schema_refuses_them_too(self, content, sentence):
        assert not VALIDATOR.is_valid(content)

    def test_a_whole_number_is_written_as_one(self, file):
        with pytest.raises(ValueError, match=r'trialConcurrency is 2\.0: it has to be a whole number, 1 or more$'):
            load_config(file({'trialConcurrency': 2.0}))

    @pytest.mark.parametrize(
        'text, sentence',
        [
            ('knas:\n  candidates: [1', 'is no YAML: .* in line 2'),
            ('- 1\n', 'should hold a mapping'),
            ('', 'should hold a mapping'),
        ],
    )
    def test_no_configuration(self, text, sentence, file):
        with pytest.raises(ValueError, match=sentence):
            load_config(file(text))

    def test_no_file(self, tmp_path):
        why = os.strerror(errno.ENOENT)
        with pytest.raises(ValueError, match=rf'nowhere\.yml cannot be read: {why}'):
            load_config(tmp_path / 'nowhere.yml')
        path = tmp_path / 'search.yml'
        path.write_text('searchSpaceFile: nowhere.json')
        with pytest.raises(ValueError, match=rf'nowhere\.json cannot be read: {why}'):
            load_config(path)

    def test_no_code_directory(self, file, here):
        with pytest.raises(ValueError, match=r'trialCodeDirectory .*nowhere is no directory'):
            enter(load_config(file({'trialCodeDirectory': 'nowhere'})).config)

    def test_what_nni_refuses(self, file, here):
        loaded = load_config(file({'trainingService': {'platform': 'local', 'gpuIndices': [1, 1]}}))
        with pytest.raises(ValueError) as error:
            enter(loaded.config)
        with pytest.raises(Exception) as of_nni:
            loaded.config.canonical_copy()
        assert str(of_nni.value) and str(error.value) == f'NNI refuses the configuration: {of_nni.value}'

    def test_no_network(self, file, here, monkeypatch):
        def address():
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

        monkeypatch.setattr('nni.experiment.config.utils.get_ipv4_address', address)
        with pytest.raises(ValueError, match=r'this machine is not known \(Network is unreachable\): give nniManagerIp'):
            enter(load_config(file({'trainingService': REMOTE})).config)
        enter(load_config(file({'trainingService': REMOTE, 'nniManagerIp': '127.0.0.1'})).config)


def values_of(rules):
    """Values that keep the rules of an option in the schema."""
    if 'enum' in rules:
        return st.sampled_from(rules['enum'])
    kinds = [rules['type']] if isinstance(rules['type'], str) else rules['type']
    text = st.from_regex(rules['pattern'].strip('^$'), fullmatch=True) if 'pattern' in rules else st.text(max_size=9)
    most = rules.get('exclusiveMaximum')
    numbers = st.floats(
        0,
        most,
        allow_nan=False,
        allow_infinity=False,
        exclude_min='exclusiveMinimum' in rules,
        exclude_max=most is not None,
    )
    kinds_of = {
        'string': text,
        'boolean': st.booleans(),
        'null': st.none(),
        'number': numbers,
        'integer': st.integers(rules.get('minimum'), rules.get('maximum', 10**6)) | st.just(1.0),
        'object': st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
    }
    return st.one_of(*(kinds_of[kind] for kind in kinds))


SECTION = SCHEMA['$defs']['knas']
TOGETHER = {  # whose rules are about two options
    *('top_k', 'stop_when', 'near_best', 'workers', 'network', 'space', 'space_args', 'evaluator_args'),
}


class TestSchema:
    def test_is_one(self):
        jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def test_file_in_the_docs(self):
        assert json.loads((DOCS / 'nni-knas.schema.json').read_text()) == SCHEMA

    def test_command_prints_it(self, capsys):
        assert main(['schema']) == 0
        assert capsys.readouterr().out == (DOCS / 'nni-knas.schema.json').read_text()
        assert main(['schema', '--markdown']) == 0
        assert capsys.readouterr().out == markdown()
        runpy.run_module('nni_knas.config', run_name='__main__')
        assert capsys.readouterr().out == markdown()

    def test_example(self, here):
        path = EXAMPLES / 'search.yml'
        first, *_ = path.read_text().splitlines()
        assert first == '# yaml-language-server: $schema=../docs/nni-knas.schema.json'
        VALIDATOR.validate(yaml.safe_load(path.read_text()))
        enter(load_config(path).config)

    def test_defaults_are_those_of_the_options(self):
        assert {name: rules['default'] for name, rules in SECTION['properties'].items()} == SearchOptions().to_mapping()

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                **{name: values_of(rules) for name, rules in SECTION['properties'].items() if name not in TOGETHER},
                'country': st.sampled_from(['DEU', 'usa', None]),
            },
        )
    )  # the schema does not say which countries there are
    def test_what_it_accepts_is_accepted(self, section):
        VALIDATOR.validate({'knas': section})
        accepted = SearchOptions.from_mapping({'top_k': 0, **section})
        assert {name: getattr(accepted, name) for name in section} == section

    @pytest.mark.parametrize('name', sorted(TOGETHER))
    @given(data=st.data())
    def test_the_same_of_options_that_go_with_others(self, name, data):
        value = data.draw(values_of(SECTION['properties'][name]))
        VALIDATOR.validate({'knas': {name: value}})
        others = {
            'top_k': {'candidates': 10**6},
            'stop_when': {'choose': 'learn'},
            'near_best': {'choose': 'learn', 'candidates': 2 * 10**6, 'top_k': 4},
            'evaluator_args': {'evaluator': 'a:b'},
        }.get(name, {})
        assert getattr(SearchOptions.from_mapping({name: value, **others}), name) == value

    @given(
        st.sampled_from([option for option in options() if option.kind is not dict]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2),
    )
    def test_what_the_reader_refuses_it_refuses(self, option, value):
        """But for numbers as text, which a YAML 1.2 reader reads as numbers."""
        try:
            option.checked(value)
        except ValueError:
            no_json = isinstance(value, float) and not math.isfinite(value)
            assert no_json or not VALIDATOR.is_valid({'knas': {option.name: value}})

    @pytest.mark.parametrize(
        'content',
        [
            {'trainingService': REMOTE},
            {'trainingService': {'platform': 'local', 'gpuIndices': [0, 1]}},
            {'trainingService': {'platform': 'local', 'gpuIndices': '0,1'}},
            {'maxExperimentDuration': '1.5h'},
            {'maxExperimentDuration': 60},
            {'maxTrialNumber': None},
            {
                'sharedStorage': {
                    'storageType': 'NFS',
                    'localMountPoint': '/a',
                    'remoteMountPoint': '/b',
                    'localMounted': 'nomount',
                    'nfsServer': 's',
                    'exportedDirectory': '/c',
                }
            },
            {'tuner': {'name': 'KNAS', 'classArgs': {'top_k': 3}}},
        ],
    )
    def test_valid(self, content, file):
        VALIDATOR.validate(content)
        load_config(file(content))


def test_docs_have_the_tables():
    text = (DOCS / 'options.md').read_text()
    assert text.endswith(f'\n\n{markdown()}')
    assert all(f'| `{option.name}` |' in text for option in options())
