"""What KNAS needs of an explorer, that is of an NNI multi-trial strategy that explores by scores."""

from __future__ import annotations

import contextlib
import logging
import math
import pickle
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import nni.nas.strategy.hpo as hpo
from nni.mutable import MutableAnnotation
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy import GridSearch, Random, RegularizedEvolution
from nni.nas.strategy.base import Strategy, StrategyStatus
from nni.nas.strategy.utils import _to_hashable

from nni_knas.engine import ScoringEngine
from nni_knas.networks import encode_sample
from nni_knas.record import Record, keys

__all__ = [
    'Checkpoints',
    'check_space',
    'check_unused',
    'checked_explorer',
    'explorer_state',
    'farthest_ahead',
    'learns',
    'no_pauses',
    'restore_explorer',
    'space_size',
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
        raise TypeError(
            f'explorer has to be an NNI multi-trial strategy such as nni.nas.strategy.Random(), not {explorer!r}'
        )
    if _is_one_shot(explorer):
        raise ValueError(
            f'{type(explorer).__name__} is a one-shot strategy and trains a supernet: the explorer has to be '
            'a multi-trial strategy such as Random() or RegularizedEvolution()'
        )
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
                raise ValueError(
                    f"{type(explorer).__name__} cannot explore this space: NNI's tuners do not know choices "
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


def learns(explorer: Strategy) -> bool:
    """Whether results steer the exploration."""
    return type(explorer) not in (Random, GridSearch)


def farthest_ahead(explorer: Strategy) -> float:
    """How many candidates an explorer can be ahead of their scores: evolution needs one in its population to choose from."""
    return explorer.population_size if isinstance(explorer, RegularizedEvolution) else math.inf


class Checkpoints:
    """Notes now and then where an exploration stands, so that it need not be gone through again after a restart.

    A checkpoint is taken between two submissions: the explorer's state, with the models whose results it does not know.
    What it knows of all others is in the record. The distance between two grows with the exploration, so that all of them
    together are not much larger than the last one, and with what they cost.

    Explorers other than NNI's ``Random`` and ``RegularizedEvolution`` do not tell all that they know; resumed, they explore
    again from the beginning, against the record; so do all in a space with choices that may be unused.

    Parameters
    ----------
    explorer
        The strategy that explores, initialised.
    engine
        Whose models it submits.
    record
        The record that keeps the checkpoints.
    """

    least = 100
    """Fewest candidates between two checkpoints."""

    growth = 1.1
    """Number of candidates at a checkpoint over that at the one before."""

    cost = 0.01
    """Largest share of the time that checkpoints take."""

    def __init__(self, explorer: Strategy, engine: ScoringEngine, record: Record) -> None:
        self.explorer = explorer
        self.engine = engine
        self.record = record
        self._identity = f'{keys.CHECKPOINT}{explorer!r}'
        # What an explorer has tried is taken from the record, which has no samples that differ in unused choices alone.
        told = type(explorer) in (Random, RegularizedEvolution) and not engine.scorer.leaves_out_unused
        self._next = self.least if told else math.inf
        self._not_before = 0.0

    def __call__(self) -> None:
        """Take a checkpoint if it is time to. To be called between two submissions."""
        if self.engine.number < self._next or time.monotonic() < self._not_before:
            return
        if isinstance(self.explorer, RegularizedEvolution):
            alive = len(self.explorer._population) + len(self.explorer._running_models)
            if alive < self.explorer.population_size:
                return  # from here it would go on with random ones, though it may be past that
        start = time.monotonic()
        state = self.engine.state_dict()
        if not state:
            self._next = math.inf
            return
        explorer = self.explorer.state_dict()
        explorer.pop('dedup_history', None)  # the record has it
        self.record.set_meta(self._identity, pickle.dumps((explorer, state)))
        end = time.monotonic()
        self._not_before = end + (end - start) / self.cost
        self._plan()

    def restore(self) -> None:
        """Take up the exploration at the newest checkpoint, if there is one."""
        content = self.record.get_meta(self._identity)
        if content is None:
            return
        state, engine_state = pickle.loads(content)
        self.engine.load_state_dict(engine_state)
        running = self.engine.running
        if getattr(self.explorer, '_dedup_helper', None) is not None:
            history = {_to_hashable(sample) for sample in self.record.samples(self.engine.number)}
            state['dedup_history'] = history | {_to_hashable(model.sample) for model in running}
        self.explorer.load_state_dict({**state, 'num_running_models': 0})  # NNI drops them, with a warning
        if isinstance(self.explorer, RegularizedEvolution):
            self.explorer._running_models = running
        self._plan()

    def _plan(self) -> None:
        self._next = max(self.engine.number * self.growth, self.engine.number + self.least)


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
    choices, mutables = 1.0, space.simplify().values()
    for mutable in mutables:
        try:
            coarse, finer = (len({repr(value) for value in mutable.grid(granularity=granularity)}) for granularity in (1, 4))
        except NotImplementedError:
            return math.inf
        choices *= coarse if coarse == finer else math.inf  # a continuous choice has more the closer one looks
        if choices > 100 * limit:
            return math.inf  # constraints may leave out some, hardly so many; and counting would take long
    if choices >= limit and not any(isinstance(mutable, MutableAnnotation) for mutable in mutables):
        return choices
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
