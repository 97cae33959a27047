"""What a placement is: a place where candidates are scored."""

from __future__ import annotations

from typing import NamedTuple

from nni.mutable import Sample
from nni.nas.execution import ExecutionEngine

from nni_knas.engine.scorer import Scorer, Verdict

__all__ = ['Placement', 'Task', 'check_scored_alone']


class Task(NamedTuple):
    """A candidate to score.

    Attributes
    ----------
    number
        The candidate's number in the order of exploration.
    sample
        The candidate, as NNI's sample.
    quick
        Whether to score it quickly, as :meth:`~nni_knas.GradientKernelEvaluator.quick` does.
    measured
        Whether its costs are known already.
    """

    number: int
    sample: Sample
    quick: bool = False
    measured: bool = False


class Placement:
    """A place where candidates are scored. It is used by one thread, the explorer's.

    Attributes
    ----------
    ahead
        How many candidates it has to hold at a time in order to be busy.
    """

    ahead: int = 1

    def start(self, scorer: Scorer, engine: ExecutionEngine) -> None:
        """Make ready, before the first :meth:`put`.

        Parameters
        ----------
        scorer
            Scores the candidates; a placement outside of this process sends it there.
        engine
            The experiment's own engine, for placements that run on it.

        Raises
        ------
        ValueError
            If candidates of this experiment cannot be scored there.
        """

    def put(self, task: Task) -> None:
        """Take a candidate in; returns soon."""
        raise NotImplementedError

    def get(self) -> list[tuple[Task, Verdict]]:
        """Verdicts that were not given out yet, in any order, at least one: waits for it where there is none.

        It is called only while it holds candidates, and each of them gets exactly one verdict. An empty list says that
        there will be no more.
        """
        raise NotImplementedError

    def poll(self) -> list[tuple[Task, Verdict]]:
        """As :meth:`get`, without waiting: what is there already, if anything is."""
        return []

    def flush(self) -> None:
        """No more candidates will come for now: start on those that wait for company."""

    def stop(self) -> None:
        """Give up what is under way, and leave nothing running. It may be called twice, or without :meth:`start`."""


def check_scored_alone(scorer: Scorer) -> None:
    """Raise ``ValueError`` where candidates are to be scored together: which ones would depend on what is free when."""
    together = scorer.kernel.together
    if together > 1:
        raise ValueError(f'together={together} is for scoring in the searching process: take placement="process"')
