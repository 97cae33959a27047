"""The kernel: an NNI evaluator that judges a network at initialisation by its gradients, without training it."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar, get_args

import nni
import numpy as np
import torch
from nni.nas.evaluator import Evaluator
from nni.nas.space import ExecutableModelSpace
from numpy.typing import NDArray
from torch import nn

from nni_knas.basics.checks import check_count, check_seed
from nni_knas.gradients import (
    Gradients,
    Loss,
    Minibatch,
    MisfitError,
    Normalization,
    ScoringError,
    Share,
    cpu_threads,
    seeded,
    undisturbed,
)
from nni_knas.kernel.identity import name_of_loss
from nni_knas.kernel.losses import criterion_of, is_plain_cross_entropy, loss_in_words, needs_all_targets, suggested_loss
from nni_knas.kernel.minibatch import check_data, check_samples, draw_minibatch
from nni_knas.networks import build_network
from nni_knas.scores import Score, get_score, prepare_statistics, statistics

__all__ = ['GradientKernelEvaluator', 'Judgement']

_logger = logging.getLogger(__name__)

T = TypeVar('T')
A = TypeVar('A')

_shared: contextvars.ContextVar[tuple[Any, Gradients] | None] = contextvars.ContextVar('shared', default=None)
"""A kernel and the gradients by which it judges a network; of this thread alone, so kernels can be copied and shared."""


class Judgement(NamedTuple):
    """What a kernel says of a network; in the place of what there is not, the error that says why.

    Attributes
    ----------
    score
        Higher is better; it need not be finite.
    panel
        The statistics by name.
    """

    score: float | Exception
    panel: dict[str, float] | Exception


@nni.trace
class GradientKernelEvaluator(Evaluator):
    """Score networks at initialisation by the gradients on one minibatch.

    It is the kernel of :class:`~nni_knas.KNAS`, and by itself the evaluator of any NNI experiment: a trial then builds
    the network, scores it and reports the score as its result.

    Parameters
    ----------
    dataset
        What the minibatch is drawn from, once: a torch ``Dataset`` or ``DataLoader``, or a pair ``(inputs, targets)`` of
        tensors (or tuples or dicts of them), samples along the first dimension. Where the kernel has to travel to NNI's
        trials, use what is created with :func:`nni.trace`.
    score
        Name of a score (see :func:`nni_knas.scores.score_names`) or a :class:`~nni_knas.scores.Score`. Default: the
        recommended one.
    batch_size
        Number of samples ``n`` in the minibatch; all samples where there are fewer. Default 16: what the recommended
        score needs; the paper's MGM takes 50.
    seed
        Seed of the minibatch and of the initial weights. The same seed, candidate and minibatch give the same score.
    normalization
        Whose statistics a BatchNorm uses: ``'sample'`` (each sample's own) or ``'batch'`` (the minibatch's).
    loss
        ``loss(outputs, targets)``; see :class:`~nni_knas.gradients.Gradients`. Default: within :class:`~nni_knas.KNAS` the
        criterion of the experiment's evaluator, where that is one of NNI's Lightning evaluators. Else the mean squared error
        for floating-point targets, and cross-entropy for classes (for their probabilities, too; binary, where a network has
        one output and the classes are 0 and 1).
    device
        The device to score on: cuda where there is one, else cpu, by default.
    micro_batch
        Number of samples that go through a network at once, to save memory; the score is the same to rounding.
        Default: all, halved whenever memory runs out.
    resolution
        Pixels that images are reduced to before they are scored on, along their longer side; as they are by default, and
        where they are no larger. Fewer pixels cost less: a coarse ranking needs no more than 16.
    threads
        CPU threads that scoring uses. Sums are rounded differently with another number of them, so that one thread, the
        default, is what makes a score the same in this process and in one of many.
    together
        Number of candidates that go through one pass where a search scores them, if they differ in chosen layers alone:
        for a GPU, which waits for a small network's operations to be launched. Scores are the same to rounding. Default 1:
        each by itself.

    Raises
    ------
    ValueError, TypeError
        If there is no data, or another argument cannot be; the message says what would be right.

    Examples
    --------
    >>> kernel = GradientKernelEvaluator((images, labels), score='mgm', batch_size=32)
    >>> kernel.score(network)
    1.3174
    """

    def __init__(
        self,
        dataset: Any,
        score: str | Score | None = None,
        batch_size: int = 16,
        seed: int = 0,
        normalization: Normalization = 'sample',
        loss: Loss | None = None,
        device: str | torch.device | None = None,
        micro_batch: int | None = None,
        *,
        resolution: int | None = None,
        threads: int = 1,
        together: int = 1,
    ) -> None:
        check_data(dataset)
        for name, value, unit in (
            ('batch_size', batch_size, 'samples'),
            ('micro_batch', micro_batch, 'samples'),
            ('resolution', resolution, 'pixels'),
            ('threads', threads, 'CPU threads'),
            ('together', together, 'candidates'),
        ):
            if value is not None:
                check_count(name, value, what=f'a number of {unit}')
        check_seed(seed)
        if normalization not in get_args(Normalization):
            raise ValueError(f'unknown normalization {normalization!r}: it is "sample" or "batch"')
        if loss is not None and not callable(loss):
            raise TypeError(f'loss is {loss!r}: it has to be a callable loss(outputs, targets)')
        self.dataset = dataset
        self.score_function = get_score(score)
        self.score_function.check(batch_size)
        self.batch_size = batch_size
        self.seed = seed
        self.normalization: Normalization = normalization
        self.loss = loss
        self.device = _checked_device(device)
        self.device_is_chosen = device is not None
        self.micro_batch = micro_batch
        self.resolution = resolution
        self.threads = threads
        self.together = together
        self._criterion: nn.Module | None = None  # the evaluator's
        self._is_told = False  # an evaluator has said what the loss is
        self._suggested: Loss | None = None  # what the targets suggest
        self._minibatch: Minibatch | None = None

    def extra_repr(self) -> str:
        """What is said of it where NNI prints it."""
        return (
            f'score={self.score_function.name!r}, batch_size={self.batch_size}, seed={self.seed}, '
            f'normalization={self.normalization!r}, device={str(self.device)!r}'
        )

    def settings(self) -> dict[str, Any]:
        """What a score depends on besides the network; two kernels of equal settings give comparable scores."""
        return {
            'score': self.score_function.name,
            'seed': self.seed,
            'normalization': self.normalization,
            'loss': name_of_loss(self.used_loss),
            'minibatch': self.minibatch.digest(),
            **({'together': self.together} if self.together > 1 else {}),
        }

    @property
    def minibatch(self) -> Minibatch:
        """The samples that every network is scored on, drawn when first asked for."""
        if self._minibatch is None:
            with torch.inference_mode(False):  # gradients cannot be taken on what is made in inference mode
                minibatch = draw_minibatch(self.dataset, self.batch_size, self.seed)
                check_samples(self.dataset, minibatch, self.seed, targets=needs_all_targets(self.loss or self._criterion))
                if minibatch.size < self.batch_size:
                    _logger.warning(
                        'batch_size is %d, but the data have %d samples: networks are scored on all of these.',
                        self.batch_size,
                        minibatch.size,
                    )
                self._suggest_loss(minibatch)
                self.score_function.check(minibatch.size)
                self._minibatch = minibatch.reduced(self.resolution).to(self.device)
        return self._minibatch

    @property
    def used_loss(self) -> Loss | None:
        """The loss that networks are scored by: the one given, else the evaluator's, else what the targets suggest.

        ``None`` is cross-entropy.
        """
        if self.loss is not None or self._criterion is not None:
            return self.loss or self._criterion
        _ = self.minibatch  # whose targets suggest one
        return self._suggested

    def for_evaluator(self, evaluator: Any) -> GradientKernelEvaluator:
        """The kernel itself; where it was given no loss, and an evaluator has another criterion, a copy that takes it."""
        criterion = criterion_of(evaluator) if self.loss is None else None
        if criterion is None:
            return self
        kernel = copy.copy(self)
        kernel._is_told, kernel._suggested = True, None
        if not is_plain_cross_entropy(criterion):
            kernel._criterion = criterion
        return kernel

    def _suggest_loss(self, minibatch: Minibatch) -> None:
        if self.loss is None and not self._is_told:
            self._suggested = suggested_loss(minibatch.targets)
            if self._suggested is not None:
                _logger.warning(
                    'The targets are numbers, not classes, and no loss was given: networks are scored by the %s.',
                    loss_in_words(self._suggested),
                )

    def example(self) -> Any:
        """Inputs as networks take them: those of the minibatch, of their full resolution."""
        if self.resolution is None:
            return self.minibatch.inputs
        return draw_minibatch(self.dataset, self.batch_size, self.seed).inputs

    def quick(self) -> GradientKernelEvaluator | None:
        """A kernel of much less effort, for a first ranking: two samples, images of half the size but of 16 pixels at least.

        Returns
        -------
        GradientKernelEvaluator or None
            ``None`` where that is no less than half of what this one computes.
        """
        samples = max(2, self.score_function.least_samples)
        if 2 * samples > self.minibatch.size:
            return None
        kernel = copy.copy(self)
        kernel.batch_size, kernel._minibatch = samples, self.minibatch.part(0, samples).halved(16)
        return kernel

    def score(self, network: nn.Module) -> float:
        """The score of a network at its present weights; higher is better.

        The network is left as it was found: weights, buffers, training mode, gradients, ``requires_grad``, device, and the
        global random state.

        Raises
        ------
        MisfitError
            A ``ValueError``: the network cannot take the minibatch, or the targets do not fit its outputs.
        ScoringError
            A ``ValueError``: no parameter receives a gradient.
        """
        _check_network('score', network)
        with self.gradients(network) as gradients:
            return self._score_of(gradients)

    def statistics(self, network: nn.Module) -> dict[str, float]:
        """The panel of a network at its present weights, from one forward-backward pass: see :mod:`nni_knas.scores.panel`.

        The network is left as it was found, as by :meth:`score`.

        Returns
        -------
        dict of str to float
            Finite numbers by name, of the same names in the same order for every network.

        Raises
        ------
        ScoringError
            A ``ValueError``: the network has no panel, since it cannot be scored, or a statistic would not be finite.
        """
        _check_network('statistics', network)
        with self.gradients(network) as gradients:
            return statistics(gradients)

    def judge(self, network: nn.Module) -> Judgement:
        """Score and panel of a network, by :meth:`score` and :meth:`statistics`, which share their pass.

        Whatever goes wrong with one of them is given in its place. Where the network itself fails there is neither.
        """
        _check_network('judge', network)
        with self.gradients(network) as gradients, _sharing(self, gradients):
            gradients.tracing = True
            score = _result_or_error(self.score, network)
            if isinstance(score, Exception) and (isinstance(score, MisfitError) or not isinstance(score, ScoringError)):
                return Judgement(score, score)  # a second pass would come to the same
            if gradients.began_with_mean:
                return Judgement(score, _result_or_error(self.statistics, network))
        del gradients  # those of each sample may be large
        return Judgement(score, _result_or_error(self.statistics, network))  # of the network as it was found

    def judge_shares(self, shares: Iterable[tuple[nn.Module, Share]]) -> list[Judgement]:
        """Score and panel of networks that went through a pass together: see :func:`nni_knas.gradients.pass_together`.

        Parameters
        ----------
        shares
            Each network with its share. They are gone through once, so that one module may become the next network.
        """
        every = []
        for network, share in shares:
            every.append(self._gradients_of(network))
            every[-1].adopt(share)
        with cpu_threads(self.threads):
            prepare_statistics(every)
            return [
                Judgement(_result_or_error(self._score_of, gradients), _result_or_error(statistics, gradients))
                for gradients in every
            ]

    def _score_of(self, gradients: Gradients) -> float:
        return float(self.score_function(gradients))

    @contextlib.contextmanager
    def gradients(self, network: nn.Module) -> Iterator[Gradients]:
        """The gradients of a network on the kernel's minibatch, as scores see them, while the context lasts.

        The network is left as it was found, as by :meth:`score`.
        """
        kernel, shared = _shared.get() or (None, None)
        if kernel is self and shared is not None and shared.network is network:
            yield shared
            return
        with cpu_threads(self.threads), undisturbed(network, seed=self.seed, device=self.device):
            yield self._gradients_of(network)

    def score_many(self, networks: Iterable[nn.Module | Callable[[], nn.Module]]) -> NDArray[Any]:
        """The scores of several networks.

        Parameters
        ----------
        networks
            Networks, or callables that build one each (one is held at a time; each is built under the kernel's seed).

        Returns
        -------
        numpy.ndarray of float64
            A score a network, comparable among themselves, higher is better; ``nan``, with a warning that says why, for
            a network that cannot be scored.
        """
        scores = []
        for i, item in enumerate(networks):
            try:
                scores.append(self.score(item if isinstance(item, nn.Module) else self._build_seeded(item)))
            except Exception as error:
                warnings.warn(f'network {i} has no score: {error}', stacklevel=2)
                scores.append(math.nan)
        return np.array(scores, dtype=np.float64)

    def check(self, network: nn.Module) -> None:
        """Raise :class:`~nni_knas.gradients.MisfitError` where network and minibatch do not fit, for one forward pass."""
        with self.gradients(network) as gradients:
            gradients.check()

    def evaluate(self, model: nn.Module) -> float:
        """Score a network and report the score to NNI as the trial's result.

        Raises
        ------
        ScoringError
            If the network has no finite score.
        """
        score = self.score(model)
        if not math.isfinite(score):
            raise ScoringError(f'the score is {score}')
        if nni.get_current_parameter() is not None:
            nni.report_final_result(score)
        return score

    def _execute(self, model: ExecutableModelSpace) -> float:
        # As in the strategy's own engine, the initial weights depend on seed and architecture alone.
        return self.evaluate(build_network(model, self.seed))

    def _build_seeded(self, factory: Callable[[], nn.Module]) -> nn.Module:
        with seeded(self.seed):
            return factory()

    def _gradients_of(self, network: nn.Module) -> Gradients:
        first = next(network.parameters(), None)
        dtype = first.dtype if first is not None and first.is_floating_point() else None
        return Gradients(
            network,
            self.minibatch.to(self.device, dtype),
            loss=self.used_loss if self._criterion is None else self._criterion.to(self.device),
            normalization=self.normalization,
            micro_batch=self.micro_batch,
            seed=self.seed,
        )


@contextlib.contextmanager
def _sharing(kernel: GradientKernelEvaluator, gradients: Gradients) -> Iterator[None]:
    """Inside, the kernel gives these gradients whenever those of their network are asked for."""
    token = _shared.set((kernel, gradients))
    try:
        yield
    finally:
        _shared.reset(token)


def _check_network(method: str, network: Any) -> None:
    if not isinstance(network, nn.Module):
        raise TypeError(f'{method} takes a torch.nn.Module, not {type(network).__name__}')


def _result_or_error(method: Callable[[A], T], argument: A) -> T | Exception:
    try:
        return method(argument)
    except Exception as error:
        return error


def _checked_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        checked = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f'unknown device {device!r}: it is "cpu", "cuda" or "cuda:N"') from None
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if checked.type == 'cuda' and (checked.index or 0) >= there:
        raise ValueError(f'there is no device {str(checked)!r}: torch sees {there or "no"} CUDA device{"s" * (there > 1)}')
    return checked
