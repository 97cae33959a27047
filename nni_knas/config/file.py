"""A search in a YAML file: NNI's own experiment configuration, and a section of KNAS's options.

``python -m nni_knas.config.file`` prints the tables of ``docs/config.md``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
import yaml
from nni.experiment.config import training_services as services
from nni.experiment.config.base import ConfigBase
from nni.experiment.config.shared_storage import AzureBlobConfig, NfsConfig
from nni.experiment.config.training_service import TrainingServiceConfig
from nni.experiment.config.utils import case_insensitive, internal, is_missing
from nni.nas.experiment import NasExperimentConfig

from nni_knas.bridge.experiment import UNNAMED
from nni_knas.config.options import Option, SearchOptions, checked_values, nearest, options

__all__ = ['SearchConfig', 'absolute_data', 'default_config', 'enter', 'load_config', 'markdown',
           'read_search_space', 'schema', 'with_defaults']

TUNER = 'nni_knas.tuner.KNAS'
TRIAL_COMMAND = 'python -m nni_knas.trial'
SERVICES = (services.LocalConfig, services.RemoteConfig, services.OpenpaiConfig, services.KubeflowConfig,
            services.FrameworkControllerConfig, services.AmlConfig, services.DlcConfig)
REFERENCE = 'https://nni.readthedocs.io/en/stable/reference/experiment_config.html'


class SearchConfig(NamedTuple):
    """What a configuration file says."""

    options: SearchOptions
    search_space: dict[str, Any] | None
    """NNI's search space, where there is one"""
    config: NasExperimentConfig


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> SearchConfig:
    """Read a configuration file. All fields are checked; nothing of the user's is imported yet.

    Parameters
    ----------
    path
        The YAML (or JSON) file; ``docs/config.md`` describes its fields. Paths in it are relative to its folder.
    overrides
        Options that take the place of the file's, as :meth:`SearchOptions.from_mapping` takes them.

    Raises
    ------
    ValueError
        If the file cannot be read, a field is unknown, or a value cannot be; the message names the file and the field.
    """
    file = Path(path).expanduser().absolute()
    content = {key: value for key, value in _checked(_read(file), schema(), str(path)).items() if value is not None}
    section, where = _section(content, str(path))
    with _naming(where):
        values = checked_values(section)
    if 'data' in values:
        values['data'] = absolute_data(values['data'], file.parent)
    search_options = SearchOptions(**{**values, **checked_values(overrides or {})})
    with _naming(str(path)):
        search_options.check()
        return SearchConfig(search_options, _search_space(content, file), _experiment_config(content, file.parent))


def default_config() -> NasExperimentConfig:
    """NNI's configuration of a search of the command line without a file: the local training service."""
    config = NasExperimentConfig('ts', 'simplified', 'local')
    config.trial_code_directory = os.getcwd()
    return with_defaults(config)


def with_defaults(config: NasExperimentConfig) -> NasExperimentConfig:
    """Fill in what NNI asks for and a file need not say: a name, the concurrency, and the GPU of a local machine."""
    config.experiment_name = config.experiment_name or UNNAMED
    service = config.training_service
    if isinstance(service, services.LocalConfig):
        if config.trial_gpu_number is None and torch.cuda.is_available():
            config.trial_gpu_number = 1
        if config.trial_gpu_number and service.use_active_gpu is None:
            service.use_active_gpu = True
    if is_missing(config.trial_concurrency):
        config.trial_concurrency = 1 if config.trial_gpu_number else 2
    return config


def enter(config: NasExperimentConfig) -> None:
    """Go to the directory of the user's code, so that its modules are found here and in trials; then check all of NNI's.

    NNI runs the trials of a NAS experiment in the working directory of the process that searches.

    Raises
    ------
    ValueError
        If there is no such directory, or NNI refuses the configuration.
    """
    directory = Path(config.trial_code_directory)
    if not directory.is_dir():
        raise ValueError(f'trialCodeDirectory {directory} is no directory')
    os.chdir(directory)
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    try:
        config.canonical_copy()
    except (AssertionError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(f'NNI refuses the configuration: {error or type(error).__name__}') from error


def absolute_data(name: str, base: Path) -> str:
    """The name of data, with the path in ``folder:PATH`` made absolute."""
    kind, _, path = name.partition(':')
    return f'folder:{base / Path(path).expanduser()}' if kind == 'folder' else name


# The schema. Fields and their types, defaults and choices come from NNI's classes and from SearchOptions.


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a configuration file."""
    properties = {
        **_properties(NasExperimentConfig),
        'searchSpace': {'type': 'object', 'description': _TEXTS['search_space']},
        'trainingService': {'description': _TEXTS['training_service'], 'oneOf': [_object(service) for service in SERVICES],
                            'default': {'platform': 'local'}},
        'sharedStorage': {'description': _TEXTS['shared_storage'], 'oneOf': [_object(NfsConfig), _object(AzureBlobConfig)]},
        'knas': {'$ref': '#/$defs/knas'},
        'tuner': _tuner(),
    }
    return {
        '$schema': 'https://json-schema.org/draft/2020-12/schema',
        'title': 'A search of nni-knas',
        'description': f'NNI\'s experiment configuration ({REFERENCE}) with the options of KNAS: in the section knas, or as '
                       'the classArgs of the tuner, which works with nnictl, too.',
        'type': 'object',
        'properties': properties,
        'additionalProperties': False,
        'allOf': [{'not': {'required': pair}} for pair in _EITHER],
        '$defs': {'knas': {
            'type': 'object',
            'description': 'The options of KNAS.',
            'properties': {option.name: _option_schema(option) for option in options()},
            'additionalProperties': False,
        }},
    }


_EITHER = (['knas', 'tuner'], ['searchSpace', 'searchSpaceFile'])
_KINDS = ('platform', 'storage_type')
"""Fields that tell one kind of object from another."""

_OWN = {'search_space', 'training_service', 'shared_storage', 'tuner'}
"""Fields of NNI's that the schema describes by itself."""

_WITHOUT = {'experiment_type', 'use_annotation', 'tuner_gpu_indices', 'assessor', 'advisor', 'execution_engine',
            'model_format', '_trial_command_params'}
"""Fields of NNI's that a NAS experiment has no use for, or of one value here."""

_MORE: dict[str, dict[str, Any]] = {
    'trial_concurrency': {'minimum': 1},
    'trial_gpu_number': {'minimum': 0},
    'max_trial_number': {'minimum': 1},
    'max_experiment_duration': {'pattern': r'^[0-9]+(\.[0-9]+)? *[smhd]$', 'minimum': 1, 'examples': ['1h', '30m']},
    'max_trial_duration': {'pattern': r'^[0-9]+(\.[0-9]+)? *[smhd]$', 'minimum': 1, 'examples': ['1h', '30m']},
    'log_level': {'enum': ['trace', 'debug', 'info', 'warning', 'error', 'fatal', None]},
    'trial_command': {'pattern': rf'^{re.escape(TRIAL_COMMAND)}'.replace('python', 'python3?').replace('\\ ', ' ')},
    'max_trial_number_per_gpu': {'minimum': 1},
    'port': {'minimum': 1, 'maximum': 65535},
    'storage_type': {'enum': ['azureStorage', 'nfs']},
    'operator': {'enum': ['tf-operator', 'pytorch-operator']},
}
"""What NNI checks of a field beside its type."""

_TYPES = {str: 'string', int: 'integer', float: 'number', bool: 'boolean', dict: 'object', list: 'array', NoneType: 'null'}


def _option_schema(option: Option) -> dict[str, Any]:
    kind = _TYPES[option.kind]
    result: dict[str, Any] = {'type': [kind, 'null'] if option.optional else kind, 'description': option.help,
                              'default': option.default}
    if option.choices:
        result['enum'] = [*option.choices, None] if option.optional else list(option.choices)
    limits = {'minimum': option.least, 'maximum': option.most, 'exclusiveMinimum': option.above,
              'pattern': option.pattern and f'^{option.pattern}$', 'examples': option.examples and list(option.examples)}
    return result | {name: limit for name, limit in limits.items() if limit is not None}


def _tuner() -> dict[str, Any]:
    arguments = {'$ref': '#/$defs/knas'}
    names: dict[str, Any] = {
        'name': {'const': 'KNAS', 'description': 'KNAS, once it is registered with nnictl'},
        'className': {'const': TUNER, 'description': 'in place of name, where it is not registered'},
        'codeDirectory': {'type': 'string', 'description': 'goes with className; not used here', 'default': '.'},
    }
    return {'description': 'KNAS as a tuner, in place of the section knas: the same file then works with nnictl create.',
            'type': 'object', 'properties': {**names, 'classArgs': arguments}, 'additionalProperties': False,
            'oneOf': [{'required': ['name']}, {'required': ['className']}]}


def _object(kind: type[ConfigBase]) -> dict[str, Any]:
    return {'type': 'object', 'properties': _properties(kind), 'required': _required(kind), 'additionalProperties': False}


def _fields(kind: type[ConfigBase]) -> dict[str, tuple[Any, Any]]:
    """Type hint and default of each field that a file may have. What NNI takes from the top level is documented there."""
    without = _WITHOUT | _OWN if kind is NasExperimentConfig else set()
    if issubclass(kind, TrainingServiceConfig):
        without = {'trial_command', 'trial_code_directory', 'debug'}
    hints = get_type_hints(kind)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    return {field.name: (hints[field.name], field.default) for field in fields if field.name not in without}


def _required(kind: type[ConfigBase]) -> list[str]:
    shortcuts = {'trial_gpu_number', 'nni_manager_ip'}
    return [internal.camel_case(name) for name, (_, default) in _fields(kind).items()
            if name in _KINDS or (default is dataclasses.MISSING and name not in shortcuts)]


def _properties(kind: type[ConfigBase]) -> dict[str, Any]:
    return {internal.camel_case(name): _property(name, *field) for name, field in _fields(kind).items()}


def _property(name: str, hint: Any, default: Any) -> dict[str, Any]:
    result = {'description': _TEXTS[name], **_type_schema(hint)}
    if name in _KINDS and isinstance(default, str):
        return {'description': _TEXTS[name], 'const': default}
    if default not in (dataclasses.MISSING, None, ''):
        result['default'] = default
    return {**result, **_MORE.get(name, {})}


def _type_schema(hint: Any) -> dict[str, Any]:
    """Of a type hint as NNI's classes have them."""
    if get_origin(hint) is Literal:
        return {'type': 'string', 'enum': list(get_args(hint))}
    if isinstance(hint, type) and issubclass(hint, ConfigBase):
        return _object(hint)
    if get_origin(hint) is list:
        return {'type': 'array', 'items': _type_schema(get_args(hint)[0])}
    if get_origin(hint) is dict or hint in _TYPES:
        return {'type': _TYPES[get_origin(hint) or hint]}
    if hint is Path:
        return {'type': 'string'}
    parts = [_type_schema(part) for part in get_args(hint)]  # a union
    kinds = dict.fromkeys(part['type'] for part in parts if part)
    merged = {key: value for part in parts for key, value in part.items()}
    return {**merged, 'type': list(kinds) if len(kinds) > 1 else next(iter(kinds))} if kinds else {}


# Checking a file against it, in words.


def _checked(value: Any, rules: Mapping[str, Any], where: str, name: str = '') -> Any:
    """A value that keeps the rules, with NNI's spelling of all keys.

    NNI takes keys in any case, with or without underscores. The section of KNAS is left as it is: SearchOptions checks it.
    """
    if '$ref' in rules:
        return value
    if 'properties' not in rules and 'oneOf' in rules:
        rules = _alternative(value, rules['oneOf'], where, name)
    if not _fits(value, rules):
        raise ValueError(f'{where}: {name} is {value!r}: it has to be {_expected(rules)}')
    inner = f'{where}, {name}' if name else where
    if isinstance(value, list):
        return [_checked(item, rules['items'], inner, f'{name}[{number}]') for number, item in enumerate(value)]
    if isinstance(value, dict) and 'properties' in rules:
        return _checked_fields(value, rules, inner)
    return value


def _checked_fields(value: dict[str, Any], rules: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = {case_insensitive(key): key for key in rules['properties']}
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = known.get(case_insensitive(str(key)))
        if name is None:
            raise ValueError(f'{where}: {_unknown(str(key), rules["properties"])}')
        result[name] = _checked(item, rules['properties'][name], where, name)
    missing = [name for name in rules.get('required', []) if name not in result]
    if missing:
        raise ValueError(f'{where}: {missing[0]} is missing: {rules["properties"][missing[0]]["description"]}')
    return result


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    useless = {internal.camel_case(name) for name in _WITHOUT}
    if 'trainingService' in known and internal.camel_case(key) in useless:
        return f'{key} has no use in a search: leave it out'
    return f'unknown field "{key}": {nearest(key, known)}'


def _alternative(value: Any, choices: list[dict[str, Any]], where: str, name: str) -> Mapping[str, Any]:
    """The one among several kinds of objects, by its ``platform`` or ``storageType``."""
    key = 'platform' if 'platform' in choices[0]['properties'] else 'storageType'
    known = {choice['properties'][key]['const']: choice for choice in choices}
    if not isinstance(value, dict):
        raise ValueError(f'{where}: {name} is {value!r}: it has to be a mapping of fields to values, among them {key}')
    kind = next((item for other, item in value.items() if case_insensitive(str(other)) == case_insensitive(key)), None)
    if not isinstance(kind, str) or kind not in known:
        said = 'is missing' if kind is None else f'is {kind!r}'
        raise ValueError(f'{where}, {name}: {key} {said}: it has to be one of {", ".join(known)}')
    return known[kind]


def _fits(value: Any, rules: Mapping[str, Any]) -> bool:
    kinds = rules.get('type', list(_TYPES.values()))
    if not any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if isinstance(value, str) and not re.search(rules.get('pattern', ''), value):
        return False
    if isinstance(value, (int, float)) and not rules.get('minimum', value) <= value <= rules.get('maximum', value):
        return False
    return value in rules.get('enum', [value]) and value == rules.get('const', value)


def _is(value: Any, kind: str) -> bool:
    types = {name: python for python, name in _TYPES.items()}
    if isinstance(value, bool) or kind == 'boolean':
        return isinstance(value, bool) and kind == 'boolean'
    return isinstance(value, (int, float) if kind == 'number' else types[kind])


def _expected(rules: Mapping[str, Any]) -> str:
    if 'const' in rules:
        return f'"{rules["const"]}"'
    if 'enum' in rules:
        return f'one of {", ".join(str(choice) for choice in rules["enum"] if choice is not None)}'
    words = {'string': 'text', 'integer': 'a whole number', 'number': 'a number', 'boolean': 'true or false',
             'object': 'a mapping of fields to values', 'array': 'a list'}
    if rules.get('pattern') == _MORE['trial_command']['pattern']:
        return (f'"{TRIAL_COMMAND}" or left out, since a search trains with the evaluator (name your own in the options, or '
                'start trial commands of your own with nnictl create)')
    if rules.get('pattern') == _MORE['max_trial_duration']['pattern']:
        return 'a duration such as 30m, 1h or 2d, or a number of seconds'
    kinds = [rules['type']] if isinstance(rules['type'], str) else rules['type']
    text = ' or '.join(words[kind] for kind in kinds if kind != 'null')
    return text + (f', {rules["minimum"]} or more' if 'minimum' in rules else '')


# Reading.


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from error


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding='utf-8'))
    except OSError as error:
        raise ValueError(f'{file} cannot be read: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, 'problem_mark', None)
        line = f' in line {mark.line + 1}' if mark is not None else ''
        raise ValueError(f'{file} is no YAML: {getattr(error, "problem", None) or "it is no text"}{line}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{file} should hold a mapping of fields to values, such as trialConcurrency: 2')
    return content


def _section(content: Mapping[str, Any], path: str) -> tuple[Mapping[str, Any], str]:
    """The options of KNAS, and where they stand."""
    for pair in _EITHER:
        if all(key in content for key in pair):
            raise ValueError(f'{path}: there are both {pair[0]} and {pair[1]}: give one of the two')
    tuner = content.get('tuner')
    if tuner is not None and ('name' in tuner) == ('className' in tuner):
        raise ValueError(f'{path}, tuner: give either name: KNAS or className: {TUNER}')
    where = f'{path}, knas' if tuner is None else f'{path}, tuner, classArgs'
    section = content.get('knas') if tuner is None else tuner.get('classArgs')
    if not isinstance(section or {}, dict):
        raise ValueError(f'{where}: it is {section!r}: it has to be a mapping of options to values')
    return section or {}, where


def _search_space(content: Mapping[str, Any], file: Path) -> dict[str, Any] | None:
    if 'searchSpaceFile' in content:
        return read_search_space(file.parent / Path(content['searchSpaceFile']).expanduser())
    return content.get('searchSpace')


def read_search_space(file: Path) -> dict[str, Any]:
    """NNI's search space in a file, JSON or YAML.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    with contextlib.suppress(OSError, ValueError):  # JSON is no part of PyYAML's YAML: it reads 1e-3 as text
        content = json.loads(file.read_text(encoding='utf-8'))
        if isinstance(content, dict):
            return content
    return _read(file)


def _experiment_config(content: Mapping[str, Any], base: Path) -> NasExperimentConfig:
    own = ('knas', 'tuner', 'searchSpace', 'searchSpaceFile', 'trialCommand')
    fields = {key: value for key, value in content.items() if key not in own}
    fields['trialCodeDirectory'] = internal.resolve_path(fields.get('trialCodeDirectory', '.'), base)
    internal.set_base_path(base)
    try:
        platform = None if 'trainingService' in fields else 'local'
        return with_defaults(NasExperimentConfig('ts', 'simplified', platform, **fields))
    finally:
        internal.unset_base_path()


# The documentation.


def markdown() -> str:
    """The tables of ``docs/config.md``: all fields of a configuration file."""
    parts = []
    for section in dict.fromkeys(option.section for option in options()):
        rows = {option.name: _option_schema(option) for option in options() if option.section == section}
        parts.append(f'### Section knas: {section}\n\n{_table(rows, [])}')
    top = schema()['properties']
    parts.append(f'### Top level\n\n{_table(top, [])}')
    parts.append(f'### tuner\n\n{_table(top["tuner"]["properties"], [])}')
    for name, key in (('trainingService', 'platform'), ('sharedStorage', 'storageType')):
        for kind in top[name]['oneOf']:
            parts.append(_tables(f'{name}, {key}: {kind["properties"][key]["const"]}', kind))
    return '\n\n'.join(parts) + '\n'


def _tables(title: str, rules: Mapping[str, Any]) -> str:
    parts = [f'### {title}\n\n{_table(rules["properties"], rules["required"])}']
    for name, inner in rules['properties'].items():
        inner = inner.get('items', inner)
        if 'properties' in inner:
            parts.append(_tables(f'{title}, {name}', inner))
    return '\n\n'.join(parts)


def _table(rows: Mapping[str, Mapping[str, Any]], required: list[str]) -> str:
    lines = ['| field | value | default | what it is |', '| --- | --- | --- | --- |']
    for name, rules in rows.items():
        default = json.dumps(rules['default']) if 'default' in rules else 'required' if name in required else ''
        text = rules.get('description', 'the options of KNAS, as above')
        lines.append(f'| `{name}` | {_value(rules)} | {"" if default == "null" else default} | {text} |')
    return '\n'.join(lines)


def _value(rules: Mapping[str, Any]) -> str:
    if 'enum' in rules or 'const' in rules:
        choices = rules.get('enum') or [rules['const']]
        return ', '.join(f'`{choice}`' for choice in choices if choice is not None)
    if 'type' not in rules:
        return 'mapping'
    kinds = [rules['type']] if isinstance(rules['type'], str) else rules['type']
    words = {'string': 'text', 'integer': 'whole number', 'boolean': 'true or false', 'object': 'mapping', 'array': 'list'}
    text = ' or '.join(words.get(kind, kind) for kind in kinds if kind != 'null')
    limits = {'minimum': 'from {}', 'maximum': 'to {}', 'exclusiveMinimum': 'above {}'}
    return ' '.join([text, *(form.format(rules[key]) for key, form in limits.items() if key in rules)])


_TEXTS = {
    # Top level.
    'experiment_name': 'shown in the web portal; by default nni-knas search',
    'search_space_file': 'file of NNI\'s search space, JSON or YAML; goes with the option network',
    'search_space': 'NNI\'s search space itself, in place of a file: {label: {_type: ..., _value: [...]}}; goes with the '
                    'option network',
    'trial_command': f'{TRIAL_COMMAND} or left out: a search trains by itself; for nnictl create, which needs a command',
    'trial_code_directory': 'folder of your modules (module:Class in the options), the working directory of the search and '
                            'of its trials',
    'trial_concurrency': 'trials at the same time; by default 2, with a GPU 1',
    'trial_gpu_number': 'GPUs for each trial; by default 1 where this machine has one and trains by itself',
    'max_experiment_duration': 'how long the search may take: 30m, 1h, 2d, or a number of seconds',
    'max_trial_number': 'largest number of trials that train',
    'max_trial_duration': 'how long one trial may take: 30m, 1h, 2d, or a number of seconds',
    'nni_manager_ip': 'address of this machine that the training machines can reach',
    'debug': 'whether NNI logs debug messages',
    'log_level': 'of NNI\'s log; by default info',
    'experiment_working_directory': 'where runs are kept',
    'training_service': 'where trials run; its fields depend on its platform, below',
    'shared_storage': 'storage that all training machines see; its fields depend on its storageType, below',
    # Training services.
    'platform': 'which training service',
    'use_active_gpu': 'whether GPUs that other processes use may be used, too (a display is one)',
    'max_trial_number_per_gpu': 'trials that share a GPU',
    'gpu_indices': 'which GPUs may be used: an index, a list of them, or text such as "0,2"; by default all',
    'reuse_mode': 'whether several trials run in one job of the platform',
    'machine_list': 'the machines',
    'host': 'address of the machine or of the service',
    'port': 'of SSH',
    'user': 'user name for SSH',
    'password': 'for SSH; a key file is safer, since the portal shows the password',
    'ssh_key_file': 'private key for SSH',
    'ssh_passphrase': 'of the private key',
    'python_path': 'folder of the Python interpreter on the machine',
    'username': 'user name on the platform',
    'token': 'access token of the platform',
    'trial_cpu_number': 'CPU cores for each trial',
    'trial_memory_size': 'memory for each trial, such as 8gb, or a number of megabytes',
    'storage_config_name': 'name of the storage on the platform',
    'docker_image': 'image that trials run in',
    'virtual_cluster': 'virtual cluster of the platform',
    'local_storage_mount_point': 'where the shared storage is mounted on this machine',
    'container_storage_mount_point': 'where the shared storage is mounted in the trials',
    'openpai_config': 'the platform\'s own job configuration',
    'openpai_config_file': 'file of the platform\'s own job configuration',
    'operator': 'which operator of Kubeflow runs the jobs',
    'api_version': 'version of the operator\'s API',
    'storage': 'storage that this machine and the trials share',
    'worker': 'the worker role',
    'ps': 'the parameter server role',
    'master': 'the master role',
    'namespace': 'of Kubernetes',
    'replicas': 'how many of the role',
    'command': 'what the role runs',
    'gpu_number': 'GPUs of the role',
    'cpu_number': 'CPU cores of the role',
    'memory_size': 'memory of the role, such as 8gb, or a number of megabytes',
    'code_directory': 'folder of the role\'s code',
    'service_account_name': 'service account of the framework controller',
    'task_roles': 'the roles',
    'name': 'of the role',
    'task_number': 'how many of the role',
    'framework_attempt_completion_policy': 'when the job counts as done',
    'min_failed_task_count': 'it has failed when so many tasks have',
    'min_succeed_task_count': 'it has succeeded when so many tasks have',
    'subscription_id': 'subscription on Azure',
    'resource_group': 'resource group on Azure',
    'workspace_name': 'workspace of Azure Machine Learning',
    'compute_target': 'compute cluster of Azure Machine Learning',
    'type': 'of the job\'s pods',
    'image': 'image that trials run in',
    'job_type': 'kind of job',
    'pod_count': 'how many pods',
    'ecs_spec': 'kind of machine',
    'region': 'of the service',
    'workspace_id': 'workspace on the platform',
    'nas_data_source_id': 'data source of the file storage',
    'oss_data_source_id': 'data source of the object storage',
    'access_key_id': 'access key of the account',
    'access_key_secret': 'its secret',
    # Storage.
    'storage_type': 'which kind of storage',
    'azure_account': 'storage account on Azure',
    'azure_share': 'file share on Azure',
    'key_vault_name': 'key vault on Azure',
    'key_vault_key': 'key in the vault',
    'server': 'address of the NFS server',
    'path': 'exported path of the NFS server',
    'local_mount_point': 'where it is mounted on this machine',
    'remote_mount_point': 'where it is mounted on the training machines',
    'local_mounted': 'usermount, nnimount or nomount: who mounts it on this machine',
    'storage_account_name': 'storage account on Azure',
    'storage_account_key': 'its key',
    'container_name': 'container on Azure',
    'nfs_server': 'address of the NFS server',
    'exported_directory': 'what the NFS server exports',
}


if __name__ == '__main__':
    print(markdown(), end='')
