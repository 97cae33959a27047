"""A model space made of NNI's search space JSON and a function that builds the network, and the way back."""

from __future__ import annotations

import copy
import functools
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from nni.mutable import (
    Categorical,
    Mutable,
    MutableAnnotation,
    MutableSymbol,
    Numerical,
    Sample,
    ensure_frozen,
    frozen_context,
)
from nni.mutable.exception import SampleValidationError
from nni.mutable.mutable import MISSING
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import ExecutableModelSpace, RawFormatModelSpace, SimplifiedModelSpace, model_context
from torch import nn

from nni_knas.basics.failures import failure
from nni_knas.basics.spelling import nearest
from nni_knas.data import load_object
from nni_knas.gradients import seeded
from nni_knas.networks import past_the_watch, watched_parameters

__all__ = ['FunctionSpace', 'contains', 'narrowed', 'search_space_of']

LARGEST_RANGE = 1000  # NNI compares each choice with each other one, whenever a network is built
TYPES = {
    'choice': 'a list of different numbers, strings, booleans, nulls, or lists of them',
    'randint': f'[lower, upper] of integers, lower < upper, at most {LARGEST_RANGE} apart (upper itself is left out)',
    'uniform': '[low, high] with low < high',
    'quniform': '[low, high, q] with low < high and q > 0',
    'loguniform': '[low, high] with 0 < low < high',
    'qloguniform': '[low, high, q] with 0 < low < high and q > 0',
    'normal': '[mu, sigma] with sigma > 0',
    'qnormal': '[mu, sigma, q] with sigma > 0 and q > 0',
    'lognormal': '[mu, sigma] with sigma > 0',
    'qlognormal': '[mu, sigma, q] with sigma > 0 and q > 0',
}


class FunctionSpace(ModelSpace):
    """The networks that a function builds from the parameters of an NNI search space.

    It is a model space like any other of NNI's, and travels to trials where the function can be imported.

    Parameters
    ----------
    network
        The function, as ``module:function``. It is called with one dict ``{label: value}`` and returns an ``nn.Module``.
    search_space
        What NNI's ``search_space.json`` holds: ``{label: {'_type': ..., '_value': [...]}}``, with any of NNI's types.
        Values of ``quniform`` and its like are floats, as everywhere in NNI.

    Raises
    ------
    ValueError
        If the search space is empty, has nested choices, or types or values that NNI does not know; or if there is no
        such function.
    TypeError
        If the function returns anything but an ``nn.Module``.

    Examples
    --------
    >>> space = FunctionSpace('my_module:build', {'width': {'_type': 'choice', '_value': [16, 32]}})
    """

    def __init__(self, network: str, search_space: Mapping[str, Any]) -> None:
        super().__init__()
        parameters = {}
        with past_the_watch():  # what counts is what the function looks at
            for label, mutable in mutables_of(search_space).items():
                value = ensure_frozen(self.add_mutable(mutable))
                parameters[label] = value.item() if isinstance(value, np.generic) else value
        self.network = _build_network(network, watched_parameters(parameters))

    @property
    def forward(self) -> Callable[..., Any]:
        """Passes everything on to the network; it has the signature of the network's own ``forward``."""
        network = self.network

        @functools.wraps(network.forward)
        def forward(*args: Any, **kwargs: Any) -> Any:
            return network(*args, **kwargs)

        return forward

    def freeze(self, sample: Sample) -> nn.Module:
        """The network of a sample, newly initialised."""
        with model_context(sample):
            return type(self)(**self.trace_kwargs)


def _build_network(network: str, parameters: dict[str, Any]) -> nn.Module:
    with frozen_context.bypass(), seeded(0):  # a module may define spaces, and draw weights, when it is imported
        function = load_object(network)
    if not callable(function):
        raise TypeError(f'{network} is no function, but {function!r}: it should build a network from a dict of parameters')
    try:
        built = function(parameters)
    except Exception as error:
        raise ValueError(f'{network} cannot build a network of {parameters}: {failure(error)}') from error
    if not isinstance(built, nn.Module):
        raise TypeError(f'{network} returned {built!r:.80} for {parameters}: it should return a torch.nn.Module')
    return built


def mutables_of(search_space: Any) -> dict[str, MutableSymbol]:
    """The mutables of an NNI search space, by label; see :class:`FunctionSpace`."""
    if not isinstance(search_space, Mapping) or not search_space:
        raise ValueError(
            'the search space has to be a dict with an entry a parameter, {label: {"_type": ..., "_value": '
            f'[...]}}}}, not {search_space!r:.80}'
        )
    return {label: mutable_of(label, specification) for label, specification in search_space.items()}


def mutable_of(label: str, specification: Any) -> MutableSymbol:
    """The mutable of one entry of an NNI search space."""
    if not isinstance(label, str) or not label or '/' in label:
        raise ValueError(f'{label!r} cannot be the name of a parameter: NNI takes any string without a slash')
    if not isinstance(specification, dict) or not {'_type', '_value'} <= specification.keys():
        raise ValueError(
            f'parameter {label!r} is {specification!r:.80}: it should be {{"_type": ..., "_value": [...]}} '
            f'with one of the types {", ".join(TYPES)}'
        )
    kind, value = specification['_type'], specification['_value']
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(f'parameter {label!r} is of the unknown type {kind!r}: {nearest(str(kind), TYPES)}')
    if kind == 'choice' and isinstance(value, (list, tuple)) and any(isinstance(each, dict) for each in value):
        raise ValueError(
            f'parameter {label!r} has nested choices, which a model space cannot hold: give each a parameter '
            f'of its own, of the types {", ".join(TYPES)}'
        )
    mutable = None
    if isinstance(value, (list, tuple)):
        make = {'choice': _choice_of, 'randint': _randint_of}.get(kind) or functools.partial(_number_of, kind)
        mutable = make(label, [*value])
    if mutable is None:
        raise ValueError(f'parameter {label!r} is of the type {kind} with {value!r:.80}: that takes {TYPES[kind]}')
    return mutable


def _choice_of(label: str, values: list[Any]) -> MutableSymbol | None:
    values = [_jsonable(value) for value in values]
    different = all(value not in values[:i] for i, value in enumerate(values))
    return Categorical(values, label=label) if values and different and all(map(_is_plain, values)) else None


def _randint_of(label: str, values: list[Any]) -> MutableSymbol | None:
    if len(values) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        return None
    choices = range(*values)
    return Categorical(choices, label=label) if 0 < len(choices) <= LARGEST_RANGE else None


def _number_of(kind: str, label: str, values: list[Any]) -> MutableSymbol | None:
    quantized = kind.startswith('q')
    if len(values) != 2 + quantized or not all(_is_number(value) for value in values):
        return None
    first, second = map(float, values[:2])
    quantum = float(values[2]) if quantized else None
    if quantum is not None and quantum <= 0:
        return None
    log = 'log' in kind
    if kind.endswith('normal'):
        return _Number(mu=first, sigma=second, log_distributed=log, quantize=quantum, label=label) if second > 0 else None
    if first >= second or (log and first <= 0):
        return None
    return _Number(first, second, log_distributed=log, quantize=quantum, label=label)


class _Number(Numerical):
    """A number that NNI's tuners and its portal know, too."""

    def as_legacy_dict(self) -> dict[str, Any]:
        return _specification_of(self)

    def check_contains(self, sample: Sample) -> SampleValidationError | None:
        error = super().check_contains(sample)
        if error is None or self.quantize is None or self.label not in sample:
            return error
        # NNI asks the distribution about the rounded value, where it may have none: a lognormal one has no zero.
        value = sample[self.label]
        rounded = abs(self.qclip(value) - value) <= 1e-6 * self.quantize and not (self.log_distributed and value < 0)
        return None if rounded else error

    def __reduce__(self) -> tuple[Any, ...]:  # scipy's distributions are too large for NNI's serializer
        return mutable_of, (str(self.label), self.as_legacy_dict())


def search_space_of(space: Mutable) -> dict[str, dict[str, Any]]:
    """NNI's search space JSON of a model space.

    Parameters
    ----------
    space
        Any model space, as it was defined or in one of NNI's formats.

    Returns
    -------
    dict
        ``{label: {'_type': ..., '_value': [...]}}``, which can be written as JSON. A choice of several is shown as the
        choice of one, bounds of a normal distribution and constraints among parameters are left out, and a distribution
        that NNI's JSON does not have is shown as the uniform one of the same bounds, or the normal one of the same mean and
        deviation.
    """
    return {
        str(label): _specification_of(mutable)
        for label, mutable in space.simplify().items()
        if not isinstance(mutable, MutableAnnotation)
    }


def _specification_of(mutable: Any) -> dict[str, Any]:
    if not isinstance(mutable, Numerical):
        values = getattr(mutable, 'values', None) or [repr(mutable)]
        return {'_type': 'choice', '_value': [value if _is_plain(value) else str(value) for value in map(_jsonable, values)]}
    log, normal = mutable.log_distributed, mutable.mu is not None and mutable.sigma is not None
    if normal:
        first, second = mutable.mu, mutable.sigma
    else:
        first, second = mutable.low, mutable.high
        if not (math.isfinite(first) and math.isfinite(second)):  # a distribution of the user's
            first, second = mutable.distribution.support()
        if not (math.isfinite(first) and math.isfinite(second)):
            normal, first, second = True, mutable.distribution.mean(), mutable.distribution.std()
    quantum = [] if mutable.quantize is None else [mutable.quantize]
    kind = ('q' if quantum else '') + ('log' if log else '') + ('normal' if normal else 'uniform')
    return {'_type': kind, '_value': [_plain_number(value) for value in (first, second, *quantum)]}


def narrowed(space: ExecutableModelSpace, search_space: dict[str, Any]) -> ExecutableModelSpace:
    """A model space with fewer choices.

    Parameters
    ----------
    space
        The space, in NNI's simplified or raw format.
    search_space
        NNI's search space JSON with the choices that are to be kept of each parameter, as :func:`search_space_of` writes it.
        Parameters that it does not name keep all.

    Returns
    -------
    ExecutableModelSpace
        The narrowed space, in NNI's simplified format, with the same evaluator.

    Raises
    ------
    ValueError
        If a parameter, or a choice, is not in the space, or if no choice is left; or if a parameter that is no choice of the
        model, such as a number or a hyper-parameter of the evaluator, differs from the space's.
    TypeError
        If the space is in another format.
    """
    if isinstance(space, RawFormatModelSpace):
        space = SimplifiedModelSpace.from_model(space.model_space, space.evaluator)
    if not isinstance(space, SimplifiedModelSpace):
        raise TypeError(f"a space can be narrowed in NNI's simplified or raw format, not as a {type(space).__name__}")
    if not isinstance(search_space, dict):
        raise ValueError(
            f'the search space has to be a dict {{label: {{"_type": ..., "_value": [...]}}}}, not {search_space!r:.80}'
        )
    mutables, present = space.mutables.simplify(), search_space_of(space)
    replaced: dict[str, Categorical] = {}
    for label, specification in search_space.items():
        if label not in present:
            raise ValueError(f'the space has no parameter {label!r}: it has {", ".join(present)}')
        if specification == present[label]:
            continue
        mutable = mutables.get(label)
        if not isinstance(mutable, Categorical):
            raise ValueError(
                f'parameter {label!r} cannot be narrowed, since it is no choice of one among several in the '
                f'model: leave it out, or as it is, {present[label]}'
            )
        replaced[label] = _restrict(mutable, specification)
    # Constraints hold the mutables that they are about; copies of them should hold the new ones.
    memo: dict[int, Any] = {
        id(symbol): replaced[symbol.label]
        for mutable in mutables.values()
        for symbol in _symbols_of(mutable)
        if symbol.label in replaced
    }
    return SimplifiedModelSpace(space.model, copy.deepcopy(mutables, memo), space.evaluator)


def _symbols_of(mutable: Any) -> list[Any]:
    if isinstance(mutable, MutableAnnotation):
        return list(mutable.expression.leaf_symbols()) if hasattr(mutable, 'expression') else []
    return [mutable]


def _restrict(mutable: Categorical, specification: Any) -> Categorical:
    """A choice with the given values only, in the order and with the relative weights that it has."""
    label = str(mutable.label)
    shown = _specification_of(mutable)['_value']  # choices that JSON does not have are known by their text
    wanted = specification.get('_value') if isinstance(specification, dict) else None
    if not isinstance(wanted, (list, tuple)) or specification.get('_type') != 'choice':
        raise ValueError(
            f'parameter {label!r} is {specification!r:.80}: it should be {{"_type": "choice", "_value": '
            f'[...]}} with some of {shown}'
        )
    if not wanted:
        raise ValueError(f'parameter {label!r} is left without a choice: keep some of {shown}')
    wanted = [_jsonable(value) for value in wanted]
    for value in wanted:
        if value not in shown:
            raise ValueError(f'{value!r} is no choice of parameter {label!r}: it has {shown}')
    kept = [i for i, value in enumerate(shown) if value in wanted]
    total = sum(mutable.weights[i] for i in kept)
    result = copy.copy(mutable)
    result.values = [mutable.values[i] for i in kept]
    result.weights = [mutable.weights[i] / total if total else 1 / len(kept) for i in kept]
    if result.default_value not in result.values:
        result.default_value = MISSING
    return result


def contains(space: Mutable, sample: Any) -> bool:
    """Whether a sample is one of a model space, with a valid choice for each of its parameters."""
    try:
        return isinstance(sample, dict) and space.contains(sample)
    except (SampleValidationError, TypeError):  # NNI raises for values that are of another type than the choices
        return False


def _jsonable(value: Any) -> Any:
    """A choice as JSON gives it back: with lists in the place of tuples, and plain numbers in that of numpy's."""
    if isinstance(value, (list, tuple)):
        return [_jsonable(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, str)) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _plain_number(value: Any) -> int | float:
    return value if isinstance(value, int) else float(value)
