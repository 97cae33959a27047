"""The state of a run: whether it goes on, and how it has ended where it does not. Nothing heavy is imported for it."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import NamedTuple

from nni_knas.record import Record, Session, Status, keys, reason_of

__all__ = ['State', 'failures_recorded', 'is_alive', 'state_of']

_LATE = 15.0  # seconds between the last sign of life of a process and its end, at most


class State(NamedTuple):
    """The state of a run.

    Attributes
    ----------
    status
        ``'running'``: its process is at work. ``'finished'``: it has come to its end, or to a limit of the experiment.
        ``'failed'``: it ended by an error. ``'interrupted'``: its process gave it up before the end, as after Ctrl-C.
        ``'killed'``: its process is gone, and had no time to say so.
    reason
        The error, or the limit; empty where there is none to tell.
    """

    status: str
    reason: str = ''

    @property
    def stopped(self) -> bool:
        """Whether it goes on no longer, and has not come to its end: it can be taken up."""
        return self.status in ('failed', 'interrupted', 'killed')

    def __str__(self) -> str:
        return f'{self.status}: {self.reason}' if self.reason else self.status


def state_of(record: Record) -> State:
    """The state of the run of a record. The process that searches decides, not NNI's manager, which may outlive it."""
    sessions = record.sessions()
    failure = record.get_meta(keys.FAILURE)
    if failure:
        return State('failed', failure)
    if any(map(is_alive, sessions)):
        return State('running')
    limit = _limit_of(record)
    if limit:
        return State('finished', f'{limit} was reached')
    if record.get_meta(keys.COMPLETE) and not record.count(Status.TRAINING):
        return State('finished')
    return State('killed' if sessions and not sessions[-1].ended else 'interrupted')


def is_alive(session: Session) -> bool:
    """Whether a session's process, on this machine, is still at work on the run."""
    import psutil

    about = session.about
    if session.ended or about.get('host') != platform.node():
        return False
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(about['pid'])
        is_same = abs(process.create_time() - about['created']) < 1
        return is_same and process.status() != psutil.STATUS_ZOMBIE  # killed, and its parent has not asked for it yet
    return False


def _limit_of(record: Record) -> str:
    """The limit of the experiment that ended the run. NNI ends one whose time is over without a word to its strategy."""
    deadline, sessions = record.get_meta(keys.DEADLINE), record.sessions()
    if deadline and sessions and not record.get_meta(keys.COMPLETE) and sessions[-1].heard > deadline - _LATE:
        return 'max_experiment_duration'
    return record.get_meta(keys.LIMIT) or ''


@contextlib.contextmanager
def failures_recorded(record: Record) -> Iterator[None]:
    """Have the record say by which error the run has ended, if one ends the context."""
    try:
        yield
    except Exception as error:
        record.set_meta(keys.FAILURE, reason_of(error))
        raise
