"""The tuner in NNI's own dispatcher, without a manager."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from nni.runtime.msg_dispatcher import MsgDispatcher
from nni.runtime.tuner_command_channel import CommandType
from servers import wait_until

from nni_knas import open_run
from nni_knas.record import Choice
from nni_knas.tuner import KNAS

ARGUMENTS = {
    'space': 'spaces:TinySpace',
    'data': 'nnictl_models:data',
    'candidates': 10,
    'top_k': 3,
    'choose': 'rank',
    'batch_size': 8,
}

LEARN = {'candidates': 27, 'top_k': 6, 'choose': 'learn'}


class Experiment:
    """A tuner in NNI's dispatcher; what the dispatcher sends to its manager is noted instead."""

    def __init__(self, folder: Path, **arguments) -> None:
        self.folder = folder
        self.sent: list[tuple[CommandType, str]] = []
        self.tuner = KNAS(**{**ARGUMENTS, **arguments})
        self.dispatcher = MsgDispatcher('ws://_unittest_tuner', self.tuner)
        self.dispatcher.send = lambda command, data: self.sent.append((command, data))

    def trials(self) -> list[dict]:
        return [json.loads(data) for command, data in self.sent if command is CommandType.NewTrialJob]

    def ended(self) -> bool:
        return any(command is CommandType.NoMoreTrialJobs for command, _ in self.sent)

    def errors(self) -> list[str]:
        return [data for command, data in self.sent if command is CommandType.Error]

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait for something that comes about unless there is an error."""
        wait_until(lambda: self.errors() or condition())
        assert not self.errors()

    def request(self, count: int) -> None:
        self.dispatcher.handle_request_trial_jobs(count)

    def finish(self, trial: dict, metric: float | None) -> None:
        number = trial['parameter_id']
        if metric is not None:
            self.dispatcher.handle_report_metric_data({'parameter_id': number, 'type': 'FINAL', 'value': json.dumps(metric)})
        self.dispatcher.handle_trial_end(
            {
                'trial_job_id': f'trial{number}',
                'hyper_params': json.dumps(trial),
                'event': 'SUCCEEDED' if metric is not None else 'FAILED',
            }
        )

    def exit(self) -> None:
        self.tuner._on_exit()
        self.tuner._thread.join()

    def scores(self):
        return open_run(self.folder).scores(all=True)


def size_of(trial: dict) -> float:
    """As a metric: the smallest networks are the best, which the recommended score has last."""
    return -float(trial['parameters']['width'])


def learn(experiment: Experiment, until: int, metric: Callable[[dict], float] = size_of) -> list[int]:
    """Ask for one trial after the other, until so many were given out or there are no more; gives their candidates."""
    for count in range(len(experiment.trials()), until):
        experiment.request(1)
        experiment.wait(lambda count=count: experiment.ended() or len(experiment.trials()) > count)
        if experiment.ended():
            break
        experiment.finish(experiment.trials()[-1], metric(experiment.trials()[-1]))
    return [trial['parameters']['knas_candidate'] for trial in experiment.trials()]


def choices(experiment: Experiment) -> list[Choice]:
    return open_run(experiment.folder).record.choices()
