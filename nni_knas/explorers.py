"""What KNAS needs of an explorer, that is of an NNI multi-trial strategy that explores by scores."""

from __future__ import annotations

import contextlib
import logging
import math
import pickle
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import nni.nas.strategy.hpo as hpo
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy.base import Strategy, StrategyStatus

from nni_knas.candidates import encode_sample

__all__ = [
    'check_space', 'check_unused', 'checked_explorer', 'explorer_state', 'no_pauses', 'restore_explorer', 'space_size',
]

_logger = logging.getLogger(__name__)


def checked_explorer(explorer: Any) -> Strategy:
    """The explorer, if it can explore by scores: a new multi-trial strategy. A tuner in it is set to maximise.

    Raises
    ------
    ValueError, TypeError
        If it cannot; the message says what would be right.
    """
    if not isinstance(explorer, Strategy):
        raise TypeError(f'explorer has to be an NNI multi-trial strategy such as nni.nas.strategy.Random(), not '
                        f'{explorer!r}')
    if _is_one_shot(explorer):
        raise ValueError(f'{type(explorer).__name__} is a one-shot strategy and trains a supernet: the explorer has to be '
                         'a multi-trial strategy such as Random() or RegularizedEvolution()')
    check_unused(explorer)
    if isinstance(explorer, hpo.HPOTunerStrategy):
        mode = getattr(explorer.tuner, 'optimize_mode', None)
        if mode is not None:  # NNI's tuners minimise unless told otherwise
            explorer.tuner.optimize_mode = type(mode)('maximize')
    return explorer


def check_unused(explorer: Strategy) -> None:
    """Raise ``ValueError`` for an explorer that has explored before."""
    if explorer._status != StrategyStatus.EMPTY:
        raise ValueError('this explorer has explored before, and an NNI strategy runs once: create a new one for each KNAS')


def check_space(explorer: Strategy, space: ExecutableModelSpace) -> None:
    """Raise ``ValueError`` where an explorer does not know the kind of choices in a space."""
    if isinstance(explorer, hpo.HPOTunerStrategy):
        for label, mutable in space.simplify().items():
            try:
                mutable.as_legacy_dict()
            except NotImplementedError:
                raise ValueError(f'{type(explorer).__name__} cannot explore this space: NNI\'s tuners do not know choices '
                                 f'like {label} ({type(mutable).__name__}); take Random() or RegularizedEvolution()'
                                 ) from None


def explorer_state(explorer: Strategy) -> bytes | None:
    """The state of an explorer, from which :func:`restore_explorer` makes another one explore in the same way.

    ``None`` for an explorer that does not tell its state; resumed, it explores anew.
    """
    try:
        # A tuner strategy's state_dict leaves out the tuner.
        return pickle.dumps(explorer.tuner if isinstance(explorer, hpo.HPOTunerStrategy) else explorer.state_dict())
    except (NotImplementedError, pickle.PicklingError, TypeError, AttributeError) as error:
        _logger.info('%s does not tell its state, it would explore anew after a restart: %r', explorer, error)
        return None


def restore_explorer(explorer: Strategy, state: bytes) -> None:
    """Put an initialised explorer into a state that :func:`explorer_state` gave."""
    if isinstance(explorer, hpo.HPOTunerStrategy):
        explorer.tuner = pickle.loads(state)
    else:
        explorer.load_state_dict(pickle.loads(state))


@contextlib.contextmanager
def no_pauses() -> Iterator[None]:
    """NNI's tuner strategies pause for a second after each model, to let trials start; scoring starts none."""
    clock = hpo.time
    hpo.time = SimpleNamespace(sleep=lambda seconds: None)
    try:
        yield
    finally:
        hpo.time = clock


def space_size(space: ExecutableModelSpace, limit: int) -> float:
    """Number of candidates in a space, where it is below ``limit``; else some number that is not."""
    choices = 1.0
    for mutable in space.simplify().values():
        try:
            coarse, finer = (sum(1 for _ in mutable.grid(granularity=granularity)) for granularity in (1, 4))
        except NotImplementedError:
            return math.inf
        choices *= coarse if coarse == finer else math.inf  # a continuous choice has more the closer one looks
        if choices > 100 * limit:
            return math.inf  # constraints may leave out some, hardly so many; and counting would take long
    seen: set[str] = set()
    for model in space.grid(granularity=1):
        seen.add(encode_sample(model.sample or {}))
        if len(seen) >= limit:
            break
    return len(seen)


def _is_one_shot(explorer: Strategy) -> bool:
    try:
        from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
    except ImportError:  # without pytorch-lightning there are no one-shot strategies
        return False
    return isinstance(explorer, OneShotStrategy)
