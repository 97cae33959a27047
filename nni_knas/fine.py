"""What runs in a trial of the fine stage: the user's own evaluator, and around it what a search wants kept.

The evaluator itself is not changed. Its reports to NNI get the candidate's score and rank beside its metric, so that the
web portal shows them; the weights that it trained are kept in the experiment's folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nni
import torch
from nni.nas.evaluator import Evaluator
from nni.nas.space import ExecutableModelSpace
from nni.runtime.trial_command_channel import (
    TrialCommandChannel, get_default_trial_command_channel, set_default_trial_command_channel,
)
from torch import nn

__all__ = ['RankedEvaluator', 'load_weights']

_logger = logging.getLogger(__name__)


@nni.trace
class RankedEvaluator(Evaluator):
    """Run an evaluator, and show the score and rank of its model beside the metrics that it reports.

    Parameters
    ----------
    evaluator
        The experiment's own evaluator, frozen where it was mutable.
    score
        The candidate's gradient-kernel score.
    rank
        The candidate's rank among all candidates by score; 1 is the best.
    weights
        File that the trained weights go to; ``None`` keeps none.
    """

    def __init__(self, evaluator: Evaluator, score: float, rank: int, weights: str | None = None) -> None:
        self.evaluator = evaluator
        self.kernel_score = score
        self.kernel_rank = rank
        self.weights = weights

    def extra_repr(self) -> str:
        return f'{self.evaluator!r}, score={self.kernel_score}, rank={self.kernel_rank}'

    def evaluate(self, model: Any) -> Any:
        with _beside_metrics(kernel_score=self.kernel_score, kernel_rank=self.kernel_rank):
            return self.evaluator.evaluate(model)

    def _execute(self, model: ExecutableModelSpace) -> Any:
        model.evaluator = self.evaluator  # what the evaluator sees as the current model is what it would see without us
        if type(self.evaluator)._execute is not Evaluator._execute:  # it makes its own use of the model
            with _beside_metrics(kernel_score=self.kernel_score, kernel_rank=self.kernel_rank):
                return self.evaluator._execute(model)
        network = model.executable_model()
        if self.weights is None or not isinstance(network, nn.Module):
            return self.evaluate(network)
        before = {name: value.clone() for name, value in network.state_dict().items() if torch.is_tensor(value)}
        result = self.evaluate(network)
        _save_weights(network, before, Path(self.weights))
        return result


def load_weights(network: nn.Module, path: Path) -> bool:
    """Give a network the trained weights in a file; ``False`` where there is none."""
    if not path.exists():
        return False
    network.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    return True


def _save_weights(network: nn.Module, before: dict[str, torch.Tensor], path: Path) -> None:
    """Keep the weights, if the evaluator has trained this network (and not, say, a copy of it)."""
    after = {name: value.cpu() if torch.is_tensor(value) else value for name, value in network.state_dict().items()}
    if all(torch.equal(value.cpu(), after[name]) for name, value in before.items() if name in after):
        _logger.info('The evaluator left the network as it was; no weights to keep.')
        return
    unfinished = path.with_name(f'{path.name}.{os.getpid()}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(after, unfinished)
        unfinished.replace(path)  # at once, so that a kill leaves the old file or the new one
    except OSError as error:
        _logger.warning('The trained weights could not be kept in %s: %s', path, error)


class _BesideMetrics(TrialCommandChannel):
    """Passes everything on, adding entries to each metric that is reported."""

    def __init__(self, channel: TrialCommandChannel, entries: dict[str, float]) -> None:
        self.channel = channel
        self.entries = entries

    def receive_parameter(self) -> Any:
        return self.channel.receive_parameter()

    def send_metric(self, type: Any, parameter_id: Any, trial_job_id: Any, sequence: Any, value: Any) -> None:
        if isinstance(value, dict):
            value = {**value, **self.entries}
        elif isinstance(value, (int, float)):
            value = {'default': value, **self.entries}
        self.channel.send_metric(type=type, parameter_id=parameter_id, trial_job_id=trial_job_id, sequence=sequence,
                                 value=value)


@contextlib.contextmanager
def _beside_metrics(**entries: float) -> Iterator[None]:
    channel = get_default_trial_command_channel()
    set_default_trial_command_channel(_BesideMetrics(channel, entries))
    try:
        yield
    finally:
        set_default_trial_command_channel(channel)
