"""NNI's samples, the choices that make an architecture, as JSON text and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # NNI takes longer to import than all else that looks at a run
    from nni.mutable import Sample

__all__ = ['decode_sample', 'encode_sample']


def encode_sample(sample: Sample) -> str:
    """An NNI sample as JSON text that is the same for equal samples, and from which :func:`decode_sample` gets it back."""
    return json.dumps(_encoded(dict(sample)), sort_keys=True)


def decode_sample(text: str) -> Sample:
    """The sample that :func:`encode_sample` wrote."""
    return _decoded(json.loads(text))


def _encoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _encoded(v) for key, v in value.items()}
    if isinstance(value, tuple):  # JSON has lists only, and NNI tells them from tuples when it freezes a space
        return {'__tuple__': [_encoded(v) for v in value]}
    if isinstance(value, list):
        return [_encoded(v) for v in value]
    if hasattr(value, 'item') and getattr(value, 'ndim', None) == 0:  # numpy scalars
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f'a choice of the space is {value!r}: choices have to be numbers, strings, booleans, None, or lists '
        'and tuples of them'
    )


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if '__tuple__' in value:
            return tuple(_decoded(v) for v in value['__tuple__'])
        return {key: _decoded(v) for key, v in value.items()}
    return [_decoded(v) for v in value] if isinstance(value, list) else value
