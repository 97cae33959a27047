"""How far a run is, written again and again to a file that the page in NNI's portal reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nni_knas.basics.files import atomic_write
from nni_knas.basics.periodic import repeated
from nni_knas.basics.texts import one_line
from nni_knas.bridge.portal import progress_path
from nni_knas.record import Candidate, Choice, Record, Status, keys, near_of
from nni_knas.runs.state import state_of

__all__ = ['progress_of', 'progress_shown']

_ROWS = 100  # the best by score, and the best that are trained, at most
_LONGEST = 300  # characters of an architecture


@contextlib.contextmanager
def progress_shown(record: Record, folder: Path | None, candidates: int, top_k: int) -> Iterator[None]:
    """Have the page of the experiment in a folder show how far the run is, while the context lasts and at its end.

    Parameters
    ----------
    record
        The run's record.
    folder
        The experiment's directory; where there is none, nothing is shown.
    candidates, top_k
        How many are to be scored, and how many of them to be trained.
    """
    if folder is None:
        yield
        return
    path = progress_path(folder)

    def write() -> None:
        text = json.dumps(progress_of(record, folder.name, candidates, top_k), allow_nan=False)
        with atomic_write(path) as unfinished:
            unfinished.write_text(text, 'utf-8')

    with repeated(write, 1.0, share=0.02, last=True):
        yield


def progress_of(record: Record, identity: str, candidates: int, top_k: int) -> dict[str, Any]:
    """How far a run is, as the page's script takes it.

    Parameters
    ----------
    record
        The run's record.
    identity
        NNI's id of the experiment.
    candidates
        How many are to be scored.
    top_k
        How many are to be trained at most.
    """
    sessions, state = record.sessions(), state_of(record)
    best, trained, near = record.best(_ROWS), record.trained(), near_of(record)
    choices = {choice.candidate: choice for choice in record.choices()}
    ranks = {candidate.id: rank for rank, candidate in enumerate(best, start=1)}
    shown = [*trained[:_ROWS], *(candidate for candidate in best if candidate.status != Status.TRAINED)]
    shown.sort(key=lambda candidate: _ORDER.get(candidate.status, 2))
    return {
        'id': identity,
        'name': (sessions[-1].about.get('name') if sessions else None) or identity,
        'status': state.status,
        'state': str(state),
        'metric_name': record.get_meta(keys.METRIC) or 'metric',
        'candidates': candidates,
        'top_k': top_k,
        'scored': record.scored(),
        'failed': record.count(Status.FAILED),
        'near_best': len(near.samples) if near is not None else 0,
        'to_come': near.asked if near is not None and not near.parents else 0,
        'left_out': record.count(Status.FILTERED, Status.OUTSIDE),
        'trained': record.count(Status.TRAINED),
        'in_training': record.count(Status.TRAINING),
        'training_failed': record.count(Status.TRAINING_FAILED),
        'best_score': _finite(best[0].rated if best else None),
        'best_metric': _finite(trained[0].metric if trained else None),
        'failures': _failures(record),
        'rows': [
            _row(candidate, ranks.get(candidate.id), choices.get(candidate.id))
            for candidate in shown[: max(10, min(top_k, _ROWS))]
        ],
    }


_ORDER = {Status.TRAINED: 0, Status.TRAINING: 1}


def _row(candidate: Candidate, rank: int | None, choice: Choice | None) -> dict[str, Any]:
    text = one_line(candidate.sample)
    return {
        'rank': rank if rank is not None or choice is None else choice.rank,
        'score': _finite(candidate.rated),
        'quick': candidate.score is None and candidate.quick is not None,
        'metric': _finite(candidate.metric),
        'predicted': _finite(choice.predicted if choice is not None else None),
        'chosen': choice.reason if choice is not None else None,
        'status': {Status.TRAINING: 'in training', Status.TRAINING_FAILED: 'training failed'}.get(
            candidate.status, candidate.status.value
        ),
        'architecture': text if len(text) <= _LONGEST else f'{text[: _LONGEST - 1]}…',
    }


def _failures(record: Record) -> list[str]:
    """The most frequent reason of failures in each stage, as sentences."""
    sentences = []
    for status, what in ((Status.FAILED, 'could not be scored'), (Status.TRAINING_FAILED, 'could not be trained')):
        said = record.frequent_reason(status)
        if said is not None:
            sentences.append(f'{record.count(status)} {what}; the most frequent reason ({said[1]} times): {said[0]}')
    return sentences


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and abs(value) < float('inf') else None
