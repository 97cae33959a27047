"""What nni_knas needs to know of an NNI experiment: its folder, its limits, and where past ones are."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sqlite3
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import psutil
import requests
from nni.experiment import rest
from nni.experiment.config.utils import parse_time
from nni.nas.execution import ExecutionEngine, TrainingServiceExecutionEngine
from nni.nas.experiment import NasExperiment

from nni_knas.bridge import fields
from nni_knas.bridge.callers import caller
from nni_knas.bridge.registry import known_experiments, manager_lives
from nni_knas.bridge.trial_errors import last_line, last_line_of_candidate

__all__ = [
    'UNNAMED',
    'UNSUCCESSFUL',
    'ChunkTrial',
    'Trial',
    'TrialLimits',
    'allow_another_trial',
    'answer_of',
    'calling_experiment',
    'cancel_trials',
    'chunk_trials',
    'experiment_folder',
    'has_checkpoint',
    'is_local',
    'known_port',
    'last_line_of_chunk',
    'last_words',
    'last_words_of_training',
    'max_duration',
    'max_trials',
    'reported_steps',
    'trial_limits',
    'trials',
]

_logger = logging.getLogger(__name__)

UNSUCCESSFUL = ('FAILED', 'USER_CANCELED', 'SYS_CANCELED', 'EARLY_STOPPED')
"""NNI's statuses of trials that have ended without success."""


Answer = TypeVar('Answer')

UNNAMED = 'nni-knas search'
"""The name of experiments of the command line to which the user has given none."""


def calling_experiment() -> NasExperiment | None:
    """The experiment on whose behalf the calling function runs.

    NNI tells its strategies the space and the engine, but not the experiment, and the experiment's folder is known to it
    alone. So the experiment is looked up on the call stack, where it is calling its strategy.
    """
    return caller(NasExperiment)


def experiment_folder(experiment: NasExperiment) -> Path:
    """The experiment's own directory."""
    return Path(experiment.config.canonical_copy().experiment_working_directory, experiment.id)


def has_checkpoint(experiment: NasExperiment) -> bool:
    """Whether NNI can resume an experiment. One that was killed while it was coming up has to be run again, under its id."""
    with contextlib.suppress(OSError, ValueError):
        json.loads((experiment_folder(experiment) / 'checkpoint' / 'config.json').read_text())
        return bool(experiment.has_checkpoint())
    return False


def known_port(identity: str) -> int | None:
    """The port that the manager of an experiment had last."""
    port = known_experiments().get(identity, {}).get('port')
    return port if isinstance(port, int) else None


def is_local(experiment: NasExperiment | None) -> bool:
    """Whether the trials of the experiment run on this machine."""
    service = getattr(experiment.config, 'training_service', None) if experiment is not None else None
    return getattr(service, 'platform', 'local') == 'local'


def max_trials(experiment: NasExperiment | None) -> float:
    """``max_trial_number`` of the experiment, infinite where there is none."""
    number = experiment.config.canonical_copy().max_trial_number if experiment is not None else None
    return math.inf if number is None else number


def max_duration(experiment: NasExperiment | None) -> float:
    """``max_experiment_duration`` in seconds, infinite where there is none."""
    duration = experiment.config.canonical_copy().max_experiment_duration if experiment is not None else None
    return math.inf if duration is None else parse_time(duration)


def answer_of(source: Any, ask: Callable[[], Answer], pause: float = 1.0) -> Answer:
    """What NNI's manager answers: it is asked again for as long as its process lives, since one that is busy may be late.

    Parameters
    ----------
    source
        The experiment of the manager, or an engine on its training service. Any other engine is just asked.
    ask
        Asks it.
    pause
        Seconds between two attempts.

    Raises
    ------
    RuntimeError
        If the manager is gone.
    """
    experiment, said = getattr(source, 'nodejs_binding', source), False
    while True:
        try:
            return ask()
        except requests.RequestException as error:
            if error.response is not None and error.response.status_code < 500:  # it has answered: it will not be otherwise
                raise
            if not _manager_runs(experiment):
                raise RuntimeError(
                    f"NNI's manager of the experiment {experiment.id} has ended, and its trials with it; the log is "
                    'log/nnimanager.log in the folder of the run, and what is recorded is kept: resume the run'
                ) from error
            if not said:
                _logger.warning("NNI's manager does not answer, it is asked again: %s", error)
                said = True
            time.sleep(pause)


def _manager_runs(experiment: Any) -> bool:
    """Whether the process of an experiment's manager is there."""
    process = getattr(experiment, '_proc', None)
    if isinstance(process, subprocess.Popen):
        return process.poll() is None
    if isinstance(process, psutil.Process):
        with contextlib.suppress(psutil.Error):
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return False
    return manager_lives(experiment.id)


class Trial(NamedTuple):
    """A trial of the fine stage, as NNI's manager knows it."""

    candidate: int
    status: str
    metric: float | None


def trials(engine: ExecutionEngine) -> Iterator[Trial]:
    """The trials that were ever submitted, in this process or before a restart; only NNI's training service keeps them."""
    if isinstance(engine, TrainingServiceExecutionEngine):
        for job in answer_of(engine, engine.nodejs_binding.list_trial_jobs):
            for parameters in job.hyperParameters:
                candidate = parameters.parameters.get(fields.KNAS_CANDIDATE)
                if candidate is not None:
                    final = job.finalMetricData[-1].data if job.finalMetricData else None
                    yield Trial(candidate, job.status, fields.number_of(final))


class ChunkTrial(NamedTuple):
    """A trial of the coarse stage, as NNI's manager knows it: it scores a chunk of candidates."""

    number: int
    id: str
    status: str
    content: dict[str, Any]
    folder: str


def chunk_trials(experiment: NasExperiment) -> Iterator[ChunkTrial]:
    """The trials of the coarse stage that were ever started, in this process or before a restart."""
    for job in experiment.list_trial_jobs():
        for parameters in job.hyperParameters:
            content = parameters.parameters
            if isinstance(content, dict) and fields.CHUNK in content:
                yield ChunkTrial(content[fields.CHUNK], job.trialJobId, job.status, content, job.logPath)


class TrialLimits(NamedTuple):
    """What an experiment allows its trials: how many at a time, and the seconds that one may take."""

    concurrency: int
    seconds: float


def trial_limits(experiment: NasExperiment) -> TrialLimits:
    """The limits of an experiment that runs; a person may have changed them in the portal."""
    duration = experiment.config.canonical_copy().max_trial_duration
    return TrialLimits(
        experiment.get_experiment_profile()['params']['trialConcurrency'],
        math.inf if duration is None else parse_time(duration),
    )


def allow_another_trial(experiment: NasExperiment) -> int:
    """Raise ``max_trial_number`` of a running experiment by one, if it has one; gives the present ``trial_concurrency``.

    NNI's manager counts all trials. It must never reach the number between two trials of the coarse stage: it would not
    offer workers again.
    """
    profile = experiment.get_experiment_profile()
    if profile['params'].get('maxTrialNumber') is not None:
        profile['params']['maxTrialNumber'] += 1
        rest.put(experiment.port, '/experiment?update_type=MAX_TRIAL_NUM', profile, experiment.url_prefix)
    concurrency: int = profile['params']['trialConcurrency']
    return concurrency


def cancel_trials(experiment: NasExperiment, numbers: Collection[int], patience: float = 20.0) -> None:
    """Cancel these trials of the coarse stage, as far as the manager is there; one that it has still to start, too."""
    start = time.monotonic()
    try:
        while experiment.port is not None and time.monotonic() - start < patience:
            known = {trial.number: trial for trial in chunk_trials(experiment)}
            alive = [known[n] for n in numbers if n in known and known[n].status in ('WAITING', 'RUNNING', 'UNKNOWN')]
            if not alive and (all(n in known for n in numbers) or time.monotonic() - start > patience / 3):
                return
            for trial in alive:
                with contextlib.suppress(requests.HTTPError):  # it may have ended by itself meanwhile
                    experiment.kill_trial_job(trial.id)
            time.sleep(0.5)
    except (requests.RequestException, RuntimeError) as error:
        _logger.debug('The manager cancels no more trials: %s', error)


def last_line_of_chunk(experiment: NasExperiment, number: int) -> str:
    """The last line of the error output of a trial of the coarse stage; empty where there is none."""
    trial = _chunk_trial(experiment, number)
    return last_line(_manager_address(experiment), trial.id) if trial is not None else ''


def _chunk_trial(experiment: NasExperiment, number: int) -> ChunkTrial | None:
    with contextlib.suppress(requests.RequestException):
        return next((trial for trial in chunk_trials(experiment) if trial.number == number), None)
    return None


def last_words(experiment: NasExperiment, number: int) -> str:
    """Why a trial of the coarse stage failed: the last line of its error output, and where to find all of it."""
    trial = _chunk_trial(experiment, number)
    if trial is None:
        return "NNI's manager did not start it; see log/nnimanager.log in the experiment's folder"
    where, said = f'its output is in {trial.folder}', last_line(_manager_address(experiment), trial.id)
    return f'{said} ({where})' if said else where


def last_words_of_training(engine: ExecutionEngine, candidate: int) -> str:
    """The last line of the error output of the trial that trained a candidate; empty where there is no such trial."""
    if not isinstance(engine, TrainingServiceExecutionEngine):
        return ''
    return last_line_of_candidate(_manager_address(engine.nodejs_binding), candidate)


def _manager_address(experiment: Any) -> str:
    """Address of the REST API of an experiment's manager."""
    prefix = f'{experiment.url_prefix}/' if experiment.url_prefix else ''
    return f'http://localhost:{experiment.port}/{prefix}api/v1/nni'


def reported_steps(folder: Path) -> pd.DataFrame:
    """The intermediate metrics that the trials of the experiment in a folder have reported, from its manager's database.

    Returns
    -------
    pandas.DataFrame
        ``candidate`` (number in the record), ``step`` (of its last trial, from 1) and ``metric``.
    """
    database, rows = folder / 'db' / 'nni.sqlite', []
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f'{database.absolute().as_uri()}?mode=ro', uri=True, timeout=20)) as connection,
    ):
        rows = connection.execute(
            'SELECT trialJobId, sequence, MetricData.data, event.data FROM MetricData JOIN (SELECT trialJobId, data FROM '
            'TrialJobEvent WHERE data IS NOT NULL GROUP BY trialJobId) AS event USING (trialJobId) '
            "WHERE type = 'PERIODICAL' ORDER BY MetricData.timestamp, MetricData.rowid"
        ).fetchall()
    steps: dict[int, tuple[str, dict[int, float]]] = {}
    for job, sequence, data, parameters in rows:
        candidate, metric = _candidate_of(parameters), fields.number_of(fields.decoded(data))
        if candidate is not None and metric is not None:
            if candidate not in steps or steps[candidate][0] != job or sequence == 0:  # a trial that began anew
                steps[candidate] = job, {}
            steps[candidate][1][sequence] = metric
    return pd.DataFrame(
        [
            (candidate, sequence + 1, metric)
            for candidate, (_, metrics) in steps.items()
            for sequence, metric in metrics.items()
        ],
        columns=['candidate', 'step', 'metric'],
    )


def _candidate_of(text: str) -> int | None:
    """The candidate's number in what NNI keeps of a trial's parameters."""
    content = fields.decoded(text)
    parameters = content.get('parameters') if isinstance(content, dict) else None
    parameters = fields.decoded(parameters) if isinstance(parameters, str) else parameters
    number = parameters.get(fields.KNAS_CANDIDATE) if isinstance(parameters, dict) else None
    return number if isinstance(number, int) else None
