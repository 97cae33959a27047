"""A configuration file checked against its schema: jsonschema finds the errors, and here they get words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

from jsonschema import Draft4Validator, Draft202012Validator
from jsonschema.validators import extend
from nni.experiment.config.utils import case_insensitive, internal

from nni_knas.basics.spelling import nearest, quoted
from nni_knas.config.json_schema import DURATION, EITHER, TRIAL, TRIAL_COMMAND, WITHOUT

__all__ = ['checked']

_Error: TypeAlias = Any  # jsonschema's ValidationError, by whose types any attribute might be unset

_Checker = extend(Draft202012Validator, type_checker=Draft4Validator.TYPE_CHECKER)
"""Until draft 4, 2.0 was no whole number; for NNI it is none, either."""


_PATTERNS = {
    DURATION: 'a duration such as 30m, 1h or 2d, or a number of seconds',
    TRIAL: f'"{TRIAL_COMMAND}" or left out, since a search trains with the evaluator (name your own in the options, or '
    'start trial commands of your own with nnictl create)',
}
_WORDS = {
    'string': 'text',
    'integer': 'a whole number',
    'number': 'a number',
    'boolean': 'true or false',
    'object': 'a mapping of fields to values',
    'array': 'a list',
}


def checked(content: Mapping[str, Any], rules: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The content of a file that keeps the rules, with NNI's spelling of all keys.

    The options of KNAS are left as they are: SearchOptions checks them, since it takes numbers as text, too.

    Parameters
    ----------
    content
        What the file holds.
    rules
        The schema, as :func:`nni_knas.config.schema` gives it.
    where
        How the file is called in an error's sentence.

    Raises
    ------
    ValueError
        If it does not keep them; the message names the field and says what would be right.
    """
    either = {name for pair in EITHER for name in pair}  # of these, what is left empty does not count as given
    try:
        spelled = _spelled(content, rules)
    except ValueError as twice:
        raise ValueError(f'{where}: {twice}') from None
    result = {key: value for key, value in spelled.items() if value is not None or key not in either}
    error = min(_Checker(_to_check(rules)).iter_errors(result), key=_weight, default=None)
    if error is not None:
        raise ValueError(_sentence(error, where))
    return result


def _spelled(value: Any, rules: Mapping[str, Any]) -> Any:
    """A value with NNI's spelling of the keys it knows: NNI takes them in any case, with or without underscores."""
    for alternative in rules.get('oneOf', []):
        value = _spelled(value, alternative)
    if isinstance(value, list) and 'items' in rules:
        return [_spelled(item, rules['items']) for item in value]
    if not isinstance(value, dict) or 'properties' not in rules:
        return value
    known = {case_insensitive(name): name for name in rules['properties']}
    names = {key: known.get(case_insensitive(str(key)), str(key)) for key in value}
    twice = next((name for name, times in Counter(names.values()).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f'the field {twice} is given twice')
    return {names[key]: _spelled(item, rules['properties'].get(names[key], {})) for key, item in value.items()}


def _to_check(rules: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, so that of several kinds of objects only the errors in the one that is named are found."""
    kinds = {
        name: _by_kind(field['oneOf'])
        for name, field in rules['properties'].items()
        if 'oneOf' in field and 'properties' not in field
    }
    return {**rules, 'properties': {**rules['properties'], **kinds}, '$defs': {'knas': {}}}


def _by_kind(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """Kinds of objects told apart by a constant field, ``platform`` or ``storageType``."""
    key = next(name for name, field in choices[0]['properties'].items() if 'const' in field)
    kinds = {choice['properties'][key]['const']: choice for choice in choices}
    field = {'enum': list(kinds), 'description': f'it has to be one of {", ".join(kinds)}'}
    branches = [{'if': {'properties': {key: {'const': kind}}}, 'then': choice} for kind, choice in kinds.items()]
    return {
        'type': 'object',
        'required': [key],
        'properties': {key: field},
        'if': {'required': [key]},
        'then': {'allOf': branches},
    }


def _weight(error: _Error) -> tuple[int, bool]:
    """The least is told: nearest to the top, and rather of what is there, since it may be what is missing misspelled."""
    return len(error.absolute_path), error.validator in ('required', 'oneOf', 'not')


# Words.


def _sentence(error: _Error, where: str) -> str:
    of_fields = {'additionalProperties': _unknown, 'required': _missing, 'oneOf': _either, 'not': _both}
    steps = [where]
    for step in error.absolute_path:
        steps.append(f'{steps[-1]}[{step}]' if isinstance(step, int) else step)
    if error.validator in of_fields and isinstance(error.instance, dict):
        return f'{", ".join(steps)}: {of_fields[error.validator](error)}'
    *outer, name = steps
    return f'{", ".join(outer)}: {name} is {error.instance!r}: it has to be {_expected(error.schema)}'


def _unknown(error: _Error) -> str:
    known = error.schema['properties']
    key = next(key for key in error.instance if key not in known)
    if not error.absolute_path and internal.camel_case(key) in map(internal.camel_case, WITHOUT):
        return f'{key} has no use in a search: leave it out'
    return f'unknown field {quoted(key)}: {nearest(key, known)}'


def _missing(error: _Error) -> str:
    name = next(name for name in error.validator_value if name not in error.instance)
    return f'{name} is missing: {error.schema["properties"][name]["description"]}'


def _both(error: _Error) -> str:
    one, other = error.validator_value['required']
    return f'there are both {one} and {other}: give one of the two'


def _either(error: _Error) -> str:
    names = [name for choice in error.validator_value for name in choice['required']]
    fields = [f'{name}: {error.schema["properties"][name]["const"]}' for name in names]
    return f'give either {" or ".join(fields)}'


def _expected(rules: Mapping[str, Any]) -> str:
    if 'const' in rules:
        return f'"{rules["const"]}"'
    if 'enum' in rules:
        return f'one of {", ".join(str(choice) for choice in rules["enum"] if choice is not None)}'
    if rules.get('pattern') in _PATTERNS:
        return _PATTERNS[rules['pattern']]
    kinds = [rules['type']] if isinstance(rules['type'], str) else rules['type']
    text = ' or '.join(_WORDS[kind] for kind in kinds if kind != 'null')
    text += f', among them {", ".join(rules["required"])}' if rules.get('required') else ''
    text += f', {rules["minimum"]} or more' if 'minimum' in rules else ''
    text += f' of {rules["minItems"]} or more' if 'minItems' in rules else ''
    return text + (f' and at most {rules["maximum"]}' if 'maximum' in rules else '')
