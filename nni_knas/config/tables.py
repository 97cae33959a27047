"""The tables of ``docs/options.md``: all fields of a configuration file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nni_knas.config.json_schema import schema
from nni_knas.config.options import options

__all__ = ['markdown']


def markdown() -> str:
    """The tables of ``docs/options.md``: all fields of a configuration file."""
    parts = []
    rules = schema()
    top, knas = rules['properties'], rules['$defs']['knas']['properties']
    for section in dict.fromkeys(option.section for option in options()):
        rows = {option.name: knas[option.name] for option in options() if option.section == section}
        parts.append(f'### Section knas: {section}\n\n{_table(rows, [])}')
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
    limits = {'minimum': 'from {}', 'maximum': 'to {}', 'exclusiveMinimum': 'above {}', 'exclusiveMaximum': 'and below {}'}
    return ' '.join([text, *(form.format(rules[key]) for key, form in limits.items() if key in rules)])
