"""Build candidates of one space and score them with one kernel: what is done in every placement."""

from __future__ import annotations

import functools
import math
import pickle
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import cloudpickle  # type: ignore[import-untyped]
import torch
from nni.mutable import Sample
from nni.nas.space import ExecutableModelSpace, RawFormatModelSpace, SimplifiedModelSpace
from torch import nn

from nni_knas.gradients import cpu_threads
from nni_knas.kernel import GradientKernelEvaluator, Judgement, Together
from nni_knas.networks import (
    COSTS,
    Canonical,
    Identity,
    NetworkBuilder,
    architecture_of,
    check_constraints,
    check_costs,
    encode_sample,
    measure,
)
from nni_knas.record import Panel, reason_of

__all__ = ['Scorer', 'Verdict']


class Verdict(NamedTuple):
    """What became of a candidate.

    Attributes
    ----------
    score
        Higher is better; ``None`` where it failed or was filtered.
    reason
        Why it failed, or which constraint it breaks.
    seconds
        Time spent on building, measuring and scoring.
    costs
        What was measured of its costs, by name; see :mod:`nni_knas.networks.costs`.
    filtered
        Whether it breaks a constraint, and so was not scored.
    panel
        The statistics of its network by name, or why one that has a score has none.
    """

    score: float | None
    reason: str | None
    seconds: float
    costs: Mapping[str, float] = {}
    filtered: bool = False
    panel: Panel = None

    @property
    def is_open(self) -> bool:
        """Whether nothing was found yet."""
        return self.score is None and self.reason is None


class _Broken(Exception):
    """A candidate breaks a constraint."""


class Scorer:
    """Scores candidates; the same candidate gets the same verdict wherever it is scored.

    Parameters
    ----------
    kernel
        The kernel that scores the networks.
    space
        The space that the candidates are of.
    hyper_parameters
        Labels in the samples that belong to the evaluator and do not shape the network.
    merge_identical
        Whether :meth:`identity` recognises networks that compute the same.
    constraints
        Upper bounds of costs, by name: a candidate that breaks one is filtered, that is, not scored. Bounds are looked at in
        the order of :data:`nni_knas.networks.COSTS`, and when one is broken nothing more is measured.
    costs
        Names of further costs to measure. Costs are those of one sample of the kernel's minibatch,
        so that of images they are for the kernel's ``resolution``.

    Raises
    ------
    ValueError, TypeError
        If a constraint cannot be.
    """

    def __init__(
        self,
        kernel: GradientKernelEvaluator,
        space: ExecutableModelSpace,
        hyper_parameters: Collection[str] = (),
        *,
        merge_identical: bool = False,
        constraints: Mapping[str, float] | None = None,
        costs: Collection[str] = (),
    ) -> None:
        self.kernel = kernel
        self.space = space
        self.hyper_parameters = frozenset(hyper_parameters)
        self.constraints = check_constraints(constraints)
        check_costs(costs)
        self.costs = tuple(name for name in COSTS if name in costs or name in self.constraints)
        device = kernel.device if kernel.device.type != 'cpu' else None  # on the CPU networks are built anyway
        self._builder = NetworkBuilder(space, kernel.seed, device)
        self._canonical = Canonical(space)
        self._identity = Identity(space, kernel.minibatch) if merge_identical else None

    @functools.cached_property
    def quick(self) -> GradientKernelEvaluator:
        """The kernel that scores quickly."""
        return self.kernel.quick() or self.kernel

    @functools.cached_property
    def _together(self) -> dict[bool, Together]:
        """What judges several candidates at a time, in full and quickly."""
        return {quick: Together(self.quick if quick else self.kernel, self._builder) for quick in (False, True)}

    def score(self, sample: Sample, quick: bool = False, measured: bool = False) -> Verdict:
        """Score a candidate; whatever goes wrong with it is the verdict's reason.

        Parameters
        ----------
        sample
            The candidate, as NNI's sample.
        quick
            Whether to score it quickly.
        measured
            Whether its costs are known, and keep to the constraints.
        """
        start = time.perf_counter()
        verdict = self._scored(sample, quick, measured)
        return verdict._replace(seconds=time.perf_counter() - start)

    def score_many(self, samples: Sequence[Sample], quick: bool, measured: Sequence[bool]) -> list[Verdict]:
        """Score candidates as :meth:`score` does, as many in one pass as the kernel takes together.

        Parameters
        ----------
        samples
            The candidates, as NNI's samples.
        quick
            Whether to score them quickly.
        measured
            Of each, whether its costs are known, and keep to the constraints.
        """
        if self.kernel.together == 1:
            return [self.score(sample, quick, known) for sample, known in zip(samples, measured)]
        start = time.perf_counter()
        verdicts = [self._scored(sample, quick, known, later=True) for sample, known in zip(samples, measured)]
        left = [place for place, verdict in enumerate(verdicts) if verdict.is_open]
        for place, judgement in zip(left, self._together[quick].judge([samples[place] for place in left])):
            verdicts[place] = _verdict_of(judgement)._replace(costs=verdicts[place].costs)
        seconds = (time.perf_counter() - start) / len(samples)
        return [verdict._replace(seconds=seconds) for verdict in verdicts]

    def _scored(self, sample: Sample, quick: bool, measured: bool, later: bool = False) -> Verdict:
        """The verdict on a candidate, without the time; with ``later`` an open one where it can be scored with others."""
        costs: dict[str, float] = {}
        try:
            network = self.build(sample)
            if not measured:
                self._measure_within_constraints(network, costs)
            if later and self._builder.skeleton(sample) is not None:
                verdict = Verdict(None, None, 0.0)
            else:
                verdict = _verdict_of((self.quick if quick else self.kernel).judge(network))
        except _Broken as constraint:
            verdict = Verdict(None, str(constraint), 0.0, filtered=True)
        except Exception as error:
            verdict = Verdict(None, reason_of(error), 0.0)
        return verdict._replace(costs=costs)

    def settings(self) -> dict[str, Any]:
        """What verdicts depend on besides the candidate."""
        costs = {'constraints': self.constraints, 'costs': self.costs} if self.costs else {}
        return {**self.kernel.settings(), **costs}

    def build(self, sample: Sample) -> nn.Module:
        """The freshly initialised network of a candidate, until the next one is asked for."""
        return self._builder.network(sample)

    def architecture(self, sample: Sample) -> Sample:
        """The part of a sample that shapes the network."""
        return architecture_of(sample, self.hyper_parameters)

    def canonical(self, sample: Sample) -> Sample:
        """The sample by which its network is known: unused choices are as they are by default."""
        return self._canonical.sample(sample)

    @property
    def leaves_out_unused(self) -> bool:
        """Whether the space has choices that may be unused, and different samples so may be one candidate."""
        return self._canonical.has_unused

    @property
    def has_twins(self) -> bool:
        """Whether different samples may be one network."""
        return bool(self.hyper_parameters) or self._identity is not None

    def identity(self, sample: Sample) -> str:
        """Text that is the same for candidates that are one network, and so have one score and the same costs."""
        # NNI builds no network from a part of a sample, be it the part that shapes the network.
        fingerprint = self._identity.fingerprint(sample) if self._identity is not None else None
        if fingerprint is not None and self.costs:
            # Networks that compute the same may still differ in what they compute for nothing.
            costs = self._exact_costs(sample)
            fingerprint = f'{fingerprint} {costs}' if costs is not None else None
        return fingerprint or encode_sample(self.architecture(sample))

    def _measure_within_constraints(self, network: nn.Module, costs: dict[str, float]) -> None:
        """Measure costs, into a dict; ends with :class:`_Broken` when a constraint is broken."""
        for name in self.costs:
            costs.update(self._measured_costs(network, name))
            bound = self.constraints.get(name)
            if bound is not None and costs[name] > bound:
                raise _Broken(f'{name} {costs[name]:.10g} is above {bound:.10g}')

    def _measured_costs(self, network: nn.Module, *names: str) -> dict[str, float]:
        with cpu_threads(self.kernel.threads):
            return measure(network, self.kernel.minibatch.part(0, 1).inputs, names, self.kernel.device)

    def _exact_costs(self, sample: Sample) -> dict[str, float] | None:
        try:
            return self._measured_costs(self.build(sample), *[name for name in self.costs if name != 'latency'])
        except Exception:  # what is wrong with it will be said when the candidate is scored
            return None

    # To other processes.

    def dumps(self) -> bytes:
        """The scorer as bytes, from which :meth:`loads` makes one of equal scores in another process.

        What is defined in the script that runs travels as a whole. The kernel travels with its minibatch, without the
        dataset that it was drawn from; the space without weights and evaluator.

        Raises
        ------
        ValueError
            If something in the kernel or in the space cannot travel.
        """
        parts = {
            'kernel': _kernel_parts(self.kernel),
            'space': _portable_space(self.space),
            'hyper_parameters': self.hyper_parameters,
            'numerics': _numerics(),
            'costs': {'constraints': self.constraints, 'costs': self.costs},
        }
        for name, part in parts.items():
            try:
                parts[name] = cloudpickle.dumps(part)
            except Exception as error:
                raise ValueError(
                    f'the {name} cannot be sent to another process, score in this one with '
                    f'placement="process": {reason_of(error)}'
                ) from error
        return pickle.dumps(parts)

    @classmethod
    def loads(cls, data: bytes, device: str | torch.device | None = None, *, elsewhere: bool = False) -> Scorer:
        """The scorer that :meth:`dumps` gave, in a process that computes as that of :meth:`dumps` did from now on.

        Parameters
        ----------
        data
            The bytes that :meth:`dumps` gave.
        device
            The device to score on, in the place of the kernel's.
        elsewhere
            This may be another machine: where the user chose no device for the kernel, this machine's is taken.
        """
        parts: dict[str, Any] = {name: pickle.loads(part) for name, part in pickle.loads(data).items()}
        _set_numerics(parts['numerics'])
        kernel_class, attributes = parts['kernel']
        kernel = object.__new__(kernel_class)
        kernel.__dict__.update(attributes)
        if elsewhere and not kernel.device_is_chosen:
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if device is not None:
            kernel.device = torch.device(device)
        if kernel.device.type == 'cuda':
            torch.cuda.set_device(kernel.device.index or 0)  # where networks put what they make while they run
        kernel._minibatch = kernel._minibatch.to(kernel.device)
        return cls(kernel, parts['space'], parts['hyper_parameters'], **parts['costs'])


def _verdict_of(judgement: Judgement) -> Verdict:
    score, panel = judgement
    if isinstance(score, Exception):
        verdict = Verdict(None, reason_of(score), 0.0)
    elif math.isfinite(score):
        verdict = Verdict(score, None, 0.0)
    else:
        verdict = Verdict(None, f'the score is {score}', 0.0)
    if not isinstance(panel, Exception):
        return verdict._replace(panel=panel)
    return verdict if verdict.score is None else verdict._replace(panel=reason_of(panel))


def _kernel_parts(kernel: GradientKernelEvaluator) -> tuple[type, dict[str, Any]]:
    """Class and attributes of a kernel, but for its dataset."""
    minibatch = kernel.minibatch.to(torch.device('cpu'))  # which may have to be drawn yet, and then suggests a loss
    attributes = {name: value for name, value in vars(kernel).items() if not name.startswith('_nni_')}  # nni.trace's notes
    attributes.update(dataset=None, _minibatch=minibatch)
    cls = type(kernel)
    if getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is not cls or cls.__module__ == '__main__':
        cls = vars(cls).get('__wrapped__', cls)  # what nni.trace wraps a class in can only be imported
    return cls, attributes


def _portable_space(space: ExecutableModelSpace) -> ExecutableModelSpace:
    if isinstance(space, RawFormatModelSpace):
        space = SimplifiedModelSpace.from_model(space.model_space)
    if isinstance(space, SimplifiedModelSpace):
        return SimplifiedModelSpace(space.model, space.mutables, None)
    return space


_BACKENDS = (('cudnn', 'deterministic'), ('cudnn', 'benchmark'), ('cudnn', 'allow_tf32'), ('cuda.matmul', 'allow_tf32'))


def _numerics() -> dict[str, Any]:
    """The settings of torch that scores depend on."""
    return {
        'dtype': torch.get_default_dtype(),
        'precision': torch.get_float32_matmul_precision(),
        'deterministic': torch.are_deterministic_algorithms_enabled(),
        'backends': [getattr(_backend(name), setting) for name, setting in _BACKENDS],
    }


def _set_numerics(numerics: dict[str, Any]) -> None:
    torch.set_default_dtype(numerics['dtype'])
    torch.set_float32_matmul_precision(numerics['precision'])
    torch.use_deterministic_algorithms(numerics['deterministic'])
    for (name, setting), value in zip(_BACKENDS, numerics['backends']):
        setattr(_backend(name), setting, value)


def _backend(name: str) -> Any:
    backend: Any = torch.backends
    for part in name.split('.'):
        backend = getattr(backend, part)
    return backend
