"""What runs in a trial of the fine stage: the user's own evaluator, and around it what a search wants kept.

The evaluator itself is not changed. Its reports to NNI get the candidate's score and rank beside its metric, so that the
web portal shows them; its result, and the weights that it trained, are kept in the experiment's folder, so that they are
there after the experiment, and a trial that had finished is never trained again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nni
import psutil
import torch
from nni.nas.evaluator import Evaluator
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from nni.runtime.env_vars import trial_env_vars
from nni.runtime.trial_command_channel import (
    TrialCommandChannel,
    get_default_trial_command_channel,
    set_default_trial_command_channel,
)
from torch import nn

from nni_knas.basics.files import atomic_write
from nni_knas.bridge import fields
from nni_knas.bridge.machines import trial_folder
from nni_knas.data import check_same_data
from nni_knas.footprint import cpu_seconds, energy_within
from nni_knas.record import Candidate, Choice, Record, result_path, weights_path
from nni_knas.runs.lightning import quiet_lightning
from nni_knas.runs.scalars import trial_scalars

__all__ = ['RankedEvaluator', 'Result', 'collect_kept', 'energy_of', 'kept_result', 'load_weights', 'ranked_model']

_logger = logging.getLogger(__name__)


class Result(NamedTuple):
    """What is kept of a training.

    Attributes
    ----------
    metric
        The final metric.
    seconds
        The time that it took, without waiting and start-up.
    metrics
        The numbers that were reported with the final metric, by name.
    started, ended
        When its process began, or its training where that has no process of its own, and when it had ended, in seconds
        since the epoch.
    cpu
        CPU time in seconds in between.
    host
        Name of the machine.
    """

    metric: float
    seconds: float
    metrics: dict[str, float] | None = None
    started: float | None = None
    ended: float | None = None
    cpu: float | None = None
    host: str | None = None


@nni.trace
class RankedEvaluator(Evaluator):
    """Run an evaluator, and show the score and rank of its model beside the metrics that it reports.

    Parameters
    ----------
    evaluator
        The experiment's own evaluator, frozen where it was mutable.
    candidate
        The candidate's number in the record.
    score
        The candidate's gradient-kernel score.
    rank
        The candidate's rank among all candidates by score; 1 is the best.
    folder
        The experiment's directory, for result and weights; ``None`` keeps nothing.
    keep_weights
        Whether trained weights are kept.
    data
        The digests of the evaluator's data when the search began; with others it does not train.
    predicted
        The metric that was expected of the candidate, where one was.
    fetched
        Whether a trial keeps result and weights in its own folder instead, from where they are fetched when it ends.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        candidate: int,
        score: float,
        rank: int,
        folder: str | None = None,
        keep_weights: bool = True,
        data: dict[str, str] | None = None,
        predicted: float | None = None,
        fetched: bool = False,
    ) -> None:
        self.data = data or {}
        self.evaluator = evaluator
        self.candidate = candidate
        self.kernel_score = score
        self.kernel_rank = rank
        self.folder = Path(folder) if folder is not None else None
        self.keep_weights = keep_weights
        self.predicted = predicted
        self.fetched = fetched

    def extra_repr(self) -> str:
        """What is said of it where NNI prints it."""
        return f'{self.evaluator!r}, score={self.kernel_score}, rank={self.kernel_rank}'

    def evaluate(self, model: Any) -> Any:
        return self.evaluator.evaluate(model)

    def _execute(self, model: ExecutableModelSpace) -> Any:
        if self.fetched:  # on another machine: the experiment's folder is not there, or is another's of the same name
            self.folder = trial_folder()
        with _beside_metrics(self._about()) as channel:
            before = kept_result(self.folder, self.candidate)
            if before is not None:  # NNI takes up trials whose end it did not see, though they had finished
                metrics = before.metrics
                return nni.report_final_result({fields.METRIC: before.metric, **metrics} if metrics else before.metric)
            check_same_data(self.data, self.evaluator)
            start, used = time.monotonic(), _begin_counting_usage()
            with (
                quiet_lightning(self.evaluator),
                trial_scalars(self.folder, self.candidate, **channel.entries) as channel.listener,
            ):
                returned = self._train_and_keep_weights(model)
            if self.folder is not None and channel.reported:
                metrics = dict(channel.reported[-1])
                result = Result(metrics.pop(fields.METRIC), time.monotonic() - start, metrics or None, **used())
                _write_if_reachable(
                    result_path(self.folder, self.candidate), lambda path: path.write_text(json.dumps(result._asdict()))
                )
            return returned

    def _about(self) -> dict[str, float]:
        about = {fields.KERNEL_SCORE: self.kernel_score, fields.KERNEL_RANK: self.kernel_rank}
        return about if self.predicted is None else {**about, fields.PREDICTED_METRIC: self.predicted}

    def _train_and_keep_weights(self, model: ExecutableModelSpace) -> Any:
        self.evaluator = _fresh_evaluator(self.evaluator)
        model.evaluator = self.evaluator  # what the evaluator sees as the current model is what it would see without us
        if type(self.evaluator)._execute is not Evaluator._execute:  # it makes its own use of the model
            return self.evaluator._execute(model)
        network = model.executable_model()
        if self.folder is None or not self.keep_weights or not isinstance(network, nn.Module):
            return self.evaluate(network)
        before = {name: value.cpu().clone() for name, value in network.state_dict().items() if torch.is_tensor(value)}
        result = self.evaluate(network)
        after = {name: value.cpu() if torch.is_tensor(value) else value for name, value in network.state_dict().items()}
        if any(name not in after or not torch.equal(value, after[name]) for name, value in before.items()):
            _write_if_reachable(weights_path(self.folder, self.candidate), lambda path: torch.save(after, path))
        else:
            _logger.info('The evaluator left the network as it was (it may have trained a copy): no weights to keep.')
        return result


def _begin_counting_usage() -> Callable[[], dict[str, Any]]:
    """Begin to count what a training uses; the function that is given tells it.

    The start of a trial's own process counts, too, since each training has it.
    """
    process = psutil.Process()
    alone = trial_env_vars.NNI_TRIAL_JOB_ID is not None
    started, before = (process.create_time(), 0.0) if alone else (time.time(), cpu_seconds(process))
    return lambda: {'started': started, 'ended': time.time(), 'cpu': cpu_seconds(process) - before, 'host': platform.node()}


def _fresh_evaluator(evaluator: Evaluator) -> Evaluator:
    """The evaluator, created anew if it is one of NNI's Lightning evaluators that has trained before.

    Their trainer counts its epochs on from one network to the next, so in one process it trains the first network only.
    """
    import pytorch_lightning
    from nni.nas.evaluator.pytorch import Lightning

    if not isinstance(evaluator, Lightning) or evaluator.trainer.state.fn is None:
        return evaluator

    def create(traced: Any) -> Any:
        copy = traced.trace_copy()
        copy.trace_kwargs.update(
            {
                name: create(value)
                for name, value in copy.trace_kwargs.items()
                if isinstance(value, (pytorch_lightning.LightningModule, pytorch_lightning.Trainer))
            }
        )
        return copy.get()

    return create(evaluator)


def ranked_model(
    model: ExecutableModelSpace,
    candidate: Candidate,
    choice: Choice,
    folder: Path | None,
    keep_weights: bool,
    data: dict[str, str] | None = None,
    fetched: bool = False,
) -> ExecutableModelSpace:
    """Prepare a frozen model for its trial: NNI runs it and shows it with its score, its rank and why it was chosen.

    Parameters
    ----------
    model
        The frozen model, which is changed.
    candidate
        The candidate that it is of.
    choice
        How the candidate was chosen.
    folder
        The experiment's directory, for result and weights; ``None`` keeps nothing.
    keep_weights
        Whether trained weights are kept.
    data
        The digests of the evaluator's data when the search began; with others it does not train. Default: any will do.
    fetched
        Whether the trial keeps result and weights in its own folder, from where they are fetched.
    """
    score, where = candidate.rated, str(folder) if folder is not None else None
    assert model.evaluator is not None and score is not None
    model.evaluator = RankedEvaluator(
        model.evaluator, candidate.id, score, choice.rank, where, keep_weights, data, choice.predicted, fetched
    )
    if isinstance(model, SimplifiedModelSpace):
        dump = model._dump
        # The portal shows a "mutation_summary" as the trial's parameters, in place of the model's inner workings.
        about = fields.about_candidate(score, choice.rank, choice.reason, choice.predicted)
        summary = {**candidate.sample, **about}
        model._dump = lambda: {**dump(), fields.MUTATION_SUMMARY: summary, fields.KNAS_CANDIDATE: candidate.id}
    return model


def kept_result(folder: Path | None, candidate: int) -> Result | None:
    """The result of a candidate whose training has finished, from the experiment's folder; ``None`` for a broken one."""
    try:
        return Result(**json.loads(result_path(folder, candidate).read_text())) if folder is not None else None
    except (OSError, ValueError, TypeError):
        return None


def collect_kept(shared: Path, folder: Path, candidate: int) -> None:
    """Copy the result and the weights of a candidate from NNI's shared storage into the experiment's folder.

    Parameters
    ----------
    shared
        The folder of the trials' folders.
    folder
        The experiment's directory.
    candidate
        The candidate's number in the record.
    """
    for here in (weights_path(folder, candidate), result_path(folder, candidate)):
        found = shared.glob(f'*/nnioutput/{here.relative_to(folder)}')
        latest = max(found, key=lambda path: path.stat().st_mtime, default=None)
        if latest is not None:
            with atomic_write(here) as unfinished:
                shutil.copyfile(latest, unfinished)


def energy_of(record: Record, result: Result | None, seconds: float | None) -> float | None:
    """The energy in kWh of a training that has just ended on this machine; ``None`` where it is not known.

    Parameters
    ----------
    record
        The record with the energy that was metered.
    result
        What was kept of the training, if anything was.
    seconds
        How long it has taken, where nothing was kept; ``None`` where that is not known, or it was on another machine.
    """
    if result is not None and result.started is not None and result.ended is not None:
        if result.host != platform.node():
            return None
        start, end, cpu = result.started, result.ended, result.cpu or None  # too little for the system to tell
    elif seconds is not None:
        end, cpu = time.time(), None
        start = end - seconds
    else:
        return None
    return energy_within(record.energies(start, end), start, end, cpu) or None  # it took too little to be told


def load_weights(network: nn.Module, path: Path) -> bool:
    """Give a network the trained weights in a file; ``False`` where there is none."""
    if not path.exists():
        return False
    network.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    return True


def _write_if_reachable(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file at once, so that a kill leaves the whole file or none."""
    try:
        with atomic_write(path) as unfinished:
            write(unfinished)
    except OSError as error:  # on a remote machine the experiment's folder may be out of reach
        _logger.warning('%s could not be kept: %s', path, error)


class _BesideMetrics(TrialCommandChannel):
    """Passes everything on, adding entries to each metric that is reported."""

    def __init__(self, channel: TrialCommandChannel, entries: dict[str, float]) -> None:
        self.channel = channel
        self.entries = entries
        self.reported: list[dict[str, float]] = []  # the final ones
        self.listener: Callable[[bool, Any], None] | None = None
        self._said = False

    def receive_parameter(self) -> Any:
        return self.channel.receive_parameter()

    def send_metric(self, type: Any, parameter_id: Any, trial_job_id: Any, sequence: Any, value: Any) -> None:
        metric = fields.number_of(value)
        if metric is None:
            self._refuse(type, fields.why_no_number(value))
            return
        value = {**_plain(value), fields.METRIC: metric} if isinstance(value, Mapping) else {fields.METRIC: metric}
        if self.listener is not None:
            self.listener(type == 'FINAL', value)
        if type == 'FINAL':
            self.reported.append({name: each for name, each in value.items() if isinstance(each, (int, float))})
        value = {**value, **self.entries}
        self.channel.send_metric(
            type=type, parameter_id=parameter_id, trial_job_id=trial_job_id, sequence=sequence, value=value
        )

    def _refuse(self, type: str, why: str) -> None:
        """A training that ends without a metric has failed; one intermediate metric less is no harm."""
        if type == 'FINAL':
            raise ValueError(why)
        if not self._said:
            self._said = True
            _logger.warning('%s; such intermediate metrics are left out.', why)


def _plain(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report whose numbers, of NumPy's and in tensors, too, are Python's, which NNI can write down."""
    return {
        name: each if isinstance(each, str) or (n := fields.number_of(each)) is None else n for name, each in report.items()
    }


@contextlib.contextmanager
def _beside_metrics(entries: dict[str, float]) -> Iterator[_BesideMetrics]:
    """Add entries to the metrics that are reported within."""
    channel = get_default_trial_command_channel()
    beside = _BesideMetrics(channel, entries)
    set_default_trial_command_channel(beside)
    try:
        yield beside
    finally:
        set_default_trial_command_channel(channel)
