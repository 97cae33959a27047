"""More candidates near the best, once trained ones have shown what counts: drawn, and scored as those of the explorer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from nni.mutable import Mutable, MutableAnnotation, Sample
from nni.nas.space import ExecutableModelSpace

from nni_knas.engine import ScoringEngine
from nni_knas.networks import decode_sample, encode_sample
from nni_knas.record import Near, Record, Status, near_of, set_near
from nni_knas.search.request import SearchRequest
from nni_knas.spaces import contains

__all__ = ['PARENTS', 'draw_near', 'is_to_come', 'near_is_due', 'outstanding', 'plan_near', 'score_near']

_said = logging.getLogger('nni.knas')

PARENTS = 10
"""Near so many of the best, those of which most is expected, candidates are drawn. Near fewer they would stand and fall with
what only seems good; on tables 3 did no better than 10 (``measurements/near_best.py``)."""

TRIES = 50
"""So many in a row may be known already, or be none of the space, before one choice more is changed: where one in fifty is
new, most of what is so near is known."""

MOST = 5
"""At most so many are drawn for each that is asked for, where constraints leave some out."""


def plan_near(record: Record, asked: int) -> None:
    """Note that so many candidates are to be drawn near the best. What was drawn before a restart stays as it is."""
    before = near_of(record)
    if before is None or not before.parents:
        set_near(record, Near(asked) if asked else None)
        return
    if asked != before.asked:
        _said.warning(
            'near_best=%d changes nothing in this run: its %d candidates near the best are drawn already.',
            asked,
            len(before.samples),
        )
    if not asked:
        set_near(record, before._replace(asked=_counted(record, before), over=True))


def outstanding(record: Record) -> int:
    """How many candidates the explorer leaves to be drawn near the best, beside those that were drawn there already."""
    near = near_of(record)
    return 0 if near is None else max(near.asked - _counted(record, near), 0)


def is_to_come(record: Record) -> bool:
    """Whether candidates near the best are still to be drawn or scored."""
    near = near_of(record)
    return near is not None and not near.over


def near_is_due(record: Record, request: SearchRequest, metrics: Sequence[float | None]) -> bool:
    """Whether candidates are to be scored near the best before the next is trained.

    Parameters
    ----------
    record, request
        Of the search.
    metrics
        What came of those that were trained; ``None`` where it failed. There have to be two that differ, since before that a
        learner does not know what is good.
    """
    near, known = near_of(record), [metric for metric in metrics if metric is not None]
    if near is None or near.over:
        return False
    return bool(near.parents) or (len(known) >= request.trained_before_near and len(set(known)) > 1)


def score_near(engine: ScoringEngine, candidates: int, seed: int) -> None:
    """Draw candidates near the parents that the record names, and have them scored; what is drawn is in the record first.

    Parameters
    ----------
    engine
        Scores them, opened, in the order in which they are drawn. What the record has already it does not score again.
    candidates
        How many there are to be in the record, of the explorer and these.
    seed
        The same seed draws the same.
    """
    record, scorer = engine.record, engine.scorer
    near = near_of(record)
    assert near is not None
    engine.load_state_dict({'number': near.first, 'known_in_a_row': 0, 'window': []})

    def is_known(sample: Sample) -> bool:
        return record.find(scorer.canonical(sample)) is not None or record.find(sample) is not None

    scored = 0
    while True:
        for sample in near.samples[scored:]:
            if engine.over:
                return
            engine.submit_models(scorer.space.freeze(decode_sample(sample)))
        engine.wait_models()
        if engine.over:
            return
        scored = len(near.samples)
        missing = min(near.asked - _counted(record, near), candidates - record.counted(), MOST * near.asked - scored)
        parents = [record.get(number).sample for number in near.parents]
        drawn = draw_near(scorer.space, parents, missing, is_known, scorer.canonical, _generator(seed, scored))
        if not drawn:
            return
        near = near._replace(samples=(*near.samples, *map(encode_sample, drawn)))
        set_near(record, near)


def _counted(record: Record, near: Near) -> int:
    """How many of those that were drawn count against the number of candidates: all but those over the limits."""
    uncounted = (Status.FILTERED, Status.OUTSIDE)
    return sum(record.get(number).status not in uncounted for number in near.numbers(record))


def _generator(seed: int, drawn: int) -> np.random.RandomState:
    """What those after the first so many are drawn by, whether the run was interrupted there or not."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, drawn])))


def draw_near(
    space: ExecutableModelSpace,
    parents: Sequence[Sample],
    count: int,
    is_known: Callable[[Sample], bool],
    canonical: Callable[[Sample], Sample],
    random_state: np.random.RandomState,
) -> list[Sample]:
    """Draw new samples, each by changing one choice of one of the parents; more, where that gives hardly any new ones.

    Parameters
    ----------
    space
        Their model space.
    parents
        Samples of it.
    count
        How many to draw.
    is_known
        Says which are not new.
    canonical
        Gives those that are one candidate the same sample.
    random_state
        By which they are drawn.

    Returns
    -------
    list of Sample
        Different ones; fewer where there are no more, as far as could be seen.
    """
    mutables = {label: each for label, each in space.simplify().items() if not isinstance(each, MutableAnnotation)}
    drawn: dict[str, Sample] = {}

    def attempts() -> Iterator[Sample]:
        for number in range(1, len(mutables) + 1):
            for _ in range(TRIES):
                yield _changed(parents[random_state.randint(len(parents))], mutables, number, random_state)

    def is_new(sample: Sample) -> bool:
        return contains(space, sample) and not is_known(sample) and encode_sample(canonical(sample)) not in drawn

    while len(drawn) < count and (sample := next(filter(is_new, attempts()), None)) is not None:
        drawn[encode_sample(canonical(sample))] = canonical(sample)
    return list(drawn.values())


def _changed(parent: Sample, mutables: Mapping[str, Mutable], number: int, random_state: np.random.RandomState) -> Sample:
    """The parent with so many of its choices drawn anew, each of which may be what it was, as in NNI's evolution."""
    labels = list(mutables)
    places = random_state.permutation(len(labels))[:number]
    return {**parent, **{labels[place]: mutables[labels[place]].random(random_state=random_state) for place in places}}
