"""What a score is, and the registry that finds scores by name."""

from __future__ import annotations

import difflib
from typing import ClassVar, TypeVar

from nni_knas.basics.names import RECOMMENDED
from nni_knas.gradients import Gradients


class Score:
    """Gradients to one number. Subclasses say their formula, source and assumptions in their docstring.

    Attributes
    ----------
    name
        Name in the registry.
    passes
        What it costs: the number of forward-backward passes over the minibatch, or a sentence where it is not one number.
    least_samples
        How many samples it has to be given: 1, unless it compares samples.
    traces
        Whether it reads what passes through each layer, which the pass of a mean gradient has to watch then.
    """

    name: ClassVar[str]
    passes: ClassVar[str]
    least_samples: ClassVar[int] = 1
    traces: ClassVar[bool] = False

    def __call__(self, gradients: Gradients) -> float:
        """The score of the network that ``gradients`` belongs to; higher is better.

        Raises
        ------
        ScoringError
            If the network cannot be scored, with the reason.
        """
        raise NotImplementedError(f'{type(self).__name__} does not say how it scores: define __call__(gradients)')

    def check(self, samples: int) -> None:
        """Raise ``ValueError`` where a minibatch of this many samples cannot be scored."""
        if samples < self.least_samples:
            raise ValueError(f'{self.name} compares samples: batch_size is {samples}, take {self.least_samples} or more')

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


_REGISTRY: dict[str, type[Score]] = {}
S = TypeVar('S', bound=type[Score])


def register(score: S) -> S:
    """Class decorator: make a score known under its name."""
    _REGISTRY[score.name] = score
    return score


def score_names() -> list[str]:
    """The names that :func:`get_score` knows."""
    return sorted(_REGISTRY)


def get_score(score: str | Score | None = None) -> Score:
    """A score by its name; a :class:`Score` object is returned as it is, ``None`` gives the recommended one.

    Raises
    ------
    ValueError
        If there is no score of this name; the message names those there are.
    TypeError
        If it is something else.
    """
    if isinstance(score, Score):
        return score
    if score is None:
        score = RECOMMENDED
    if not isinstance(score, str):
        raise TypeError(f'score must be a name ({", ".join(score_names())}) or a Score object, not {score!r}')
    if score not in _REGISTRY:
        near = difflib.get_close_matches(score, _REGISTRY, n=1)
        hint = f' (did you mean {near[0]!r}?)' if near else ''
        raise ValueError(f'unknown score {score!r}{hint}: the known scores are {", ".join(score_names())}')
    return _REGISTRY[score]()
