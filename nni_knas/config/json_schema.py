"""The JSON Schema of a configuration file: fields, types, defaults and choices of NNI's classes and of SearchOptions."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nni.experiment.config import training_services as services
from nni.experiment.config.base import ConfigBase
from nni.experiment.config.shared_storage import AzureBlobConfig, NfsConfig
from nni.experiment.config.training_service import TrainingServiceConfig
from nni.experiment.config.utils import internal
from nni.nas.experiment import NasExperimentConfig

from nni_knas.config.options import Option, options
from nni_knas.config.texts import TEXTS

__all__ = ['DURATION', 'EITHER', 'TRIAL', 'TRIAL_COMMAND', 'WITHOUT', 'schema']

TUNER = 'nni_knas.tuner.KNAS'
TRIAL_COMMAND = 'python -m nni_knas.trial'
SERVICES = (
    services.LocalConfig,
    services.RemoteConfig,
    services.OpenpaiConfig,
    services.KubeflowConfig,
    services.FrameworkControllerConfig,
    services.AmlConfig,
    services.DlcConfig,
)
REFERENCE = 'https://nni.readthedocs.io/en/stable/reference/experiment_config.html'

TRIAL = rf'^{re.escape(TRIAL_COMMAND)}'.replace('python', 'python3?').replace('\\ ', ' ')
DURATION = r'^[0-9]+(\.[0-9]+)? *[smhd]$'
"""Patterns of trial commands and of durations."""

EITHER = (['knas', 'tuner'], ['searchSpace', 'searchSpaceFile'])
"""Fields of which there is one at most."""

_KINDS = ('platform', 'storage_type')
"""Fields that tell one kind of object from another."""

_OWN = {'search_space', 'training_service', 'shared_storage', 'tuner'}
"""Fields of NNI's that the schema describes by itself."""

WITHOUT = {
    'experiment_type',
    'use_annotation',
    'tuner_gpu_indices',
    'assessor',
    'advisor',
    'execution_engine',
    'model_format',
    '_trial_command_params',
}
"""Fields of NNI's that a NAS experiment has no use for, or of one value here."""

_MORE: dict[str, dict[str, Any]] = {
    'trial_concurrency': {'minimum': 1},
    'trial_gpu_number': {'minimum': 0},
    'max_trial_number': {'minimum': 1},
    'max_experiment_duration': {'pattern': DURATION, 'minimum': 1, 'examples': ['1h', '30m']},
    'max_trial_duration': {'pattern': DURATION, 'minimum': 1, 'examples': ['1h', '30m']},
    'log_level': {'enum': ['trace', 'debug', 'info', 'warning', 'error', 'fatal', None]},
    'trial_command': {'pattern': TRIAL},
    'max_trial_number_per_gpu': {'minimum': 1},
    'port': {'minimum': 1, 'maximum': 65535},
    'machine_list': {'minItems': 1},
    'storage_type': {'enum': ['azureStorage', 'nfs']},
    'operator': {'enum': ['tf-operator', 'pytorch-operator']},
}
"""What NNI checks of a field beside its type."""

_TYPES = {str: 'string', int: 'integer', float: 'number', bool: 'boolean', dict: 'object', list: 'array', NoneType: 'null'}


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a configuration file."""
    properties = {
        **_properties(NasExperimentConfig),
        'searchSpace': {'type': 'object', 'description': TEXTS['search_space']},
        'trainingService': {
            'description': TEXTS['training_service'],
            'oneOf': [_object(service) for service in SERVICES],
            'default': {'platform': 'local'},
        },
        'sharedStorage': {'description': TEXTS['shared_storage'], 'oneOf': [_object(NfsConfig), _object(AzureBlobConfig)]},
        'knas': {'$ref': '#/$defs/knas'},
        'tuner': _tuner(),
    }
    return {
        '$schema': 'https://json-schema.org/draft/2020-12/schema',
        'title': 'A search of nni-knas',
        'description': f"NNI's experiment configuration ({REFERENCE}) with the options of KNAS: in the section knas, or as "
        'the classArgs of the tuner, which works with nnictl, too.',
        'type': 'object',
        'properties': properties,
        'additionalProperties': False,
        'allOf': [{'not': {'required': pair}} for pair in EITHER],
        '$defs': {'knas': _knas()},
    }


def _knas() -> dict[str, Any]:
    return {
        'type': 'object',
        'description': 'The options of KNAS.',
        'properties': {option.name: _option_schema(option) for option in options()},
        'additionalProperties': False,
    }


def _option_schema(option: Option) -> dict[str, Any]:
    kind = _TYPES[option.kind]
    result: dict[str, Any] = {
        'type': [kind, 'null'] if option.optional else kind,
        'description': option.help,
        'default': option.default,
    }
    if option.choices:
        result['enum'] = [*option.choices, None] if option.optional else list(option.choices)
    limits = {
        'minimum': option.least,
        'maximum': option.most,
        'exclusiveMinimum': option.above,
        'exclusiveMaximum': option.below,
        'pattern': option.pattern and f'^{option.pattern}$',
        'examples': option.examples and list(option.examples),
    }
    return result | {name: limit for name, limit in limits.items() if limit is not None}


def _tuner() -> dict[str, Any]:
    arguments = {'$ref': '#/$defs/knas'}
    names: dict[str, Any] = {
        'name': {'const': 'KNAS', 'description': 'KNAS, once it is registered with nnictl'},
        'className': {'const': TUNER, 'description': 'in place of name, where it is not registered'},
        'codeDirectory': {'type': 'string', 'description': 'goes with className; not used here', 'default': '.'},
    }
    return {
        'description': 'KNAS as a tuner, in place of the section knas: the same file then works with nnictl create.',
        'type': 'object',
        'properties': {**names, 'classArgs': arguments},
        'additionalProperties': False,
        'oneOf': [{'required': ['name']}, {'required': ['className']}],
    }


def _object(kind: type[ConfigBase]) -> dict[str, Any]:
    return {'type': 'object', 'properties': _properties(kind), 'required': _required(kind), 'additionalProperties': False}


def _fields(kind: type[ConfigBase]) -> dict[str, tuple[Any, Any]]:
    """Type hint and default of each field that a file may have. What NNI takes from the top level is documented there."""
    without = WITHOUT | _OWN if kind is NasExperimentConfig else set()
    if issubclass(kind, TrainingServiceConfig):
        without = {'trial_command', 'trial_code_directory', 'debug'}
    hints = get_type_hints(kind)
    fields = dataclasses.fields(kind)
    return {field.name: (hints[field.name], field.default) for field in fields if field.name not in without}


def _required(kind: type[ConfigBase]) -> list[str]:
    shortcuts = {'trial_gpu_number', 'nni_manager_ip'}
    return [
        internal.camel_case(name)
        for name, (_, default) in _fields(kind).items()
        if name in _KINDS or (default is dataclasses.MISSING and name not in shortcuts)
    ]


def _properties(kind: type[ConfigBase]) -> dict[str, Any]:
    return {internal.camel_case(name): _property(name, *field) for name, field in _fields(kind).items()}


def _property(name: str, hint: Any, default: Any) -> dict[str, Any]:
    result = {'description': TEXTS[name], **_type_schema(hint)}
    if name in _KINDS and isinstance(default, str):
        return {'description': TEXTS[name], 'const': default}
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
