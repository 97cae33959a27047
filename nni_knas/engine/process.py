"""Score in this process: one candidate after the other, or several together where the kernel says so."""

from __future__ import annotations

from collections import deque

from nni.nas.execution import ExecutionEngine

from nni_knas.engine.placement import Placement, Task
from nni_knas.engine.scorer import Scorer, Verdict

__all__ = ['InProcess']


class InProcess(Placement):
    """Score in this process, in the order in which candidates come."""

    def __init__(self) -> None:
        self._scorer: Scorer | None = None
        self._waiting: deque[Task] = deque()

    def __repr__(self) -> str:
        return 'InProcess()'

    def start(self, scorer: Scorer, engine: ExecutionEngine) -> None:
        self._scorer = scorer

    def put(self, task: Task) -> None:
        self._waiting.append(task)

    def get(self) -> list[tuple[Task, Verdict]]:
        assert self._scorer is not None
        tasks = [self._waiting.popleft()]
        while self._waiting and len(tasks) < self._scorer.kernel.together and self._waiting[0].quick == tasks[0].quick:
            tasks.append(self._waiting.popleft())
        samples, measured = [task.sample for task in tasks], [task.measured for task in tasks]
        return list(zip(tasks, self._scorer.score_many(samples, tasks[0].quick, measured)))

    def stop(self) -> None:
        self._waiting.clear()
