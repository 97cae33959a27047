"""The parameters of a trial: an architecture and what goes with it, made on one side of NNI and read on the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nni.mutable import Sample
from nni.nas.space import ExecutableModelSpace

from nni_knas.bridge import fields
from nni_knas.record import Candidate, Choice
from nni_knas.spaces.function import search_space_of

__all__ = ['sample_of', 'trial_parameters']


def trial_parameters(candidate: Candidate, choice: Choice) -> dict[str, Any]:
    """The parameters of a candidate's trial: its architecture, why it was chosen, and its number in the record."""
    return {
        **candidate.sample,
        **fields.about_candidate(candidate.rated, choice.rank, choice.reason, choice.predicted),
        fields.KNAS_CANDIDATE: candidate.id,
    }


def sample_of(parameters: Mapping[str, Any], space: ExecutableModelSpace) -> Sample:
    """NNI's sample of an architecture that was JSON on its way.

    Parameters
    ----------
    parameters
        A choice for each label of the space; what :func:`trial_parameters` adds may be among them.
    space
        The space.

    Raises
    ------
    ValueError
        If it is no architecture of the space; the message says which label is at fault.
    """
    mutables = space.simplify()
    labels = search_space_of(space)
    unknown = [label for label in parameters if label not in labels and label not in fields.EXTRAS]
    if unknown:
        raise ValueError(f'{unknown[0]!r} is no parameter of the space: it has {", ".join(sorted(labels))}')
    sample = {}
    for label, mutable in mutables.items():
        if label in parameters:
            sample[label] = _choice_of(parameters[label], getattr(mutable, 'values', None), label)
    if not space.contains(sample):
        missing = sorted(set(labels) - set(sample))
        raise ValueError(
            f'{json.dumps(dict(parameters))} is no architecture of the space'
            + (f': it has no {missing[0]!r}' if missing else '')
        )
    return sample


def _choice_of(value: Any, choices: Sequence[Any] | None, label: str) -> Any:
    """The choice that is this value in JSON."""
    if choices is None:
        return value
    for choice in choices:
        if choice == value or _in_json(choice) == value:
            return choice
    if isinstance(value, list):
        return [_choice_of(each, choices, label) for each in value]
    raise ValueError(f'{value!r} is no choice of {label!r}: it has {list(choices)}')


def _in_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
