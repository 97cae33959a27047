"""What nni_knas needs to know of an NNI experiment: its folder, its limits, and where past ones are."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nni.experiment.config.utils import parse_time
from nni.nas.execution import ExecutionEngine, TrainingServiceExecutionEngine
from nni.nas.experiment import NasExperiment
from nni.tools.nnictl.config_utils import Experiments
from nni.tools.nnictl.constants import NNI_HOME_DIR

__all__ = ['Trial', 'calling_experiment', 'experiment_folder', 'find_folder', 'max_duration', 'max_trials', 'trials']


def calling_experiment() -> NasExperiment | None:
    """The experiment on whose behalf the calling function runs.

    NNI tells its strategies the space and the engine, but not the experiment, and the experiment's folder is known to it
    alone. So the experiment is looked up on the call stack, where it is calling its strategy.
    """
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get('self')
        if isinstance(owner, NasExperiment):
            return owner
        frame = frame.f_back
    return None


def experiment_folder(experiment: NasExperiment) -> Path:
    """The experiment's own directory."""
    return Path(experiment.config.canonical_copy().experiment_working_directory) / experiment.id


def max_trials(experiment: NasExperiment | None) -> float:
    """``max_trial_number`` of the experiment, infinite where there is none."""
    number = experiment.config.canonical_copy().max_trial_number if experiment is not None else None
    return math.inf if number is None else number


def max_duration(experiment: NasExperiment | None) -> float:
    """``max_experiment_duration`` in seconds, infinite where there is none."""
    duration = experiment.config.canonical_copy().max_experiment_duration if experiment is not None else None
    return math.inf if duration is None else parse_time(duration)


class Trial(NamedTuple):
    """A trial of the fine stage, as NNI's manager knows it."""

    candidate: int
    status: str
    metric: float | None


def trials(engine: ExecutionEngine) -> Iterator[Trial]:
    """The trials that were ever submitted, in this process or before a restart; only NNI's training service keeps them."""
    if isinstance(engine, TrainingServiceExecutionEngine):
        for job in engine.nodejs_binding.list_trial_jobs():
            for parameters in job.hyperParameters:
                candidate = parameters.parameters.get('knas_candidate')
                if candidate is not None:
                    final = job.finalMetricData[-1].data if job.finalMetricData else None
                    metric = final.get('default') if isinstance(final, dict) else final
                    yield Trial(candidate, job.status, metric)


def find_folder(run: str | Path) -> Path:
    """The directory of an experiment, by the directory itself or by the experiment's id.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    folder = Path(run).expanduser()
    if folder.is_dir():
        return folder
    known = Experiments().get_all_experiments().get(str(run))
    homes = [Path(known['logDir'])] if known else []
    for home in [*homes, Path(NNI_HOME_DIR)]:
        if (home / str(run)).is_dir():
            return home / str(run)
    raise FileNotFoundError(f'there is no experiment {str(run)!r}: give the id that NNI printed, or the experiment\'s '
                            'folder')
