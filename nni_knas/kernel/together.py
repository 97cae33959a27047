"""Judge candidates of a space, those of one skeleton in one pass."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from nni.mutable import Sample

from nni_knas.gradients import Apart, is_out_of_memory, pass_together
from nni_knas.kernel.evaluator import GradientKernelEvaluator, Judgement
from nni_knas.networks import NetworkBuilder, Skeleton

__all__ = ['Together']

_logger = logging.getLogger(__name__)


@dataclass
class _Proof:
    """What is known of a skeleton: options that bear company, and how many candidates were others in it."""

    options: set[tuple[str, Any]]
    doubts: int = 0


class Together:
    """Judges candidates as :meth:`~nni_knas.GradientKernelEvaluator.judge` does, to rounding, several at a time.

    A candidate that cannot be judged with others is judged by itself. That networks do bear it is checked, since a network
    may do anything: until an option of a choice was seen to bear it, candidates that have it are judged by themselves, too,
    and that is what counts where the two differ.

    Parameters
    ----------
    kernel
        The kernel that judges.
    builder
        Builds the candidates' networks.

    Attributes
    ----------
    most
        How many candidates go through a pass at most: the kernel's ``together``, and fewer from when memory runs out.
    """

    tolerance = 1e-3
    """By how much a number may differ, relative, from that of the candidate by itself, when this is looked at."""

    patience = 8
    """How many candidates may differ from themselves in company, as one does that blows rounding up, before all go alone."""

    def __init__(self, kernel: GradientKernelEvaluator, builder: NetworkBuilder) -> None:
        self.kernel = kernel
        self.builder = builder
        self.most = kernel.together
        self._proofs: WeakKeyDictionary[Skeleton, _Proof] = WeakKeyDictionary()

    def judge(self, samples: Sequence[Sample]) -> list[Judgement]:
        """The judgements of candidates, in their order. Their networks were built before, with success."""
        groups: dict[Skeleton | None, list[int]] = {}
        for place, sample in enumerate(samples):
            groups.setdefault(self.builder.skeleton(sample), []).append(place)
        found: dict[int, Judgement] = {}
        for skeleton, places in groups.items():
            while places:
                now, places = places[: self.most], places[self.most :]
                found.update(zip(now, self._judge_group(skeleton, [samples[place] for place in now])))
        return [found[place] for place in range(len(samples))]

    def _judge_group(self, skeleton: Skeleton | None, samples: list[Sample]) -> list[Judgement]:
        """Those of one skeleton. Where something goes wrong, each half by itself."""
        if skeleton is None or len(samples) == 1 or self._proof_of(skeleton).doubts > self.patience:
            return [self._judge_alone(sample) for sample in samples]
        try:
            return self._checked(skeleton, samples, self._judge_in_one_pass(skeleton, samples))
        except Apart as reason:
            _logger.info('Candidates are scored one by one: %s.', reason)
            self._proof_of(skeleton).doubts = self.patience + 1
        except Exception as error:
            if is_out_of_memory(error):
                self.most = len(samples) // 2
        if self.kernel.device.type == 'cuda':  # outside of the handler, which keeps the failed pass alive
            torch.cuda.empty_cache()
        half = len(samples) // 2
        return [*self._judge_group(skeleton, samples[:half]), *self._judge_group(skeleton, samples[half:])]

    def _judge_alone(self, sample: Sample) -> Judgement:
        return self.kernel.judge(self.builder.network(sample))

    def _judge_in_one_pass(self, skeleton: Skeleton, samples: list[Sample]) -> list[Judgement]:
        with skeleton.forked(samples) as network, self.kernel.gradients(network) as gradients:
            shares = pass_together(gradients, len(samples))
        judged = self.kernel.judge_shares((skeleton.set(sample), share) for sample, share in zip(samples, shares))
        if all(isinstance(judgement.score, Apart) for judgement in judged):
            raise Apart(str(judged[0].score))
        return [each if _is_whole(each) else self._judge_alone(sample) for each, sample in zip(judged, samples)]

    def _checked(self, skeleton: Skeleton, samples: list[Sample], judged: list[Judgement]) -> list[Judgement]:
        """The judgements; where an option was not seen to bear company yet, compared with those of candidates alone."""
        proof, checked = self._proof_of(skeleton), list(judged)
        for place, sample in enumerate(samples):
            options = {(label, sample[label]) for label in skeleton.labels}
            if options <= proof.options:
                continue
            alone = self._judge_alone(sample)
            if self._are_close(judged[place], alone):
                proof.options |= options
            else:
                checked[place] = alone
                proof.doubts += 1
                if proof.doubts > self.patience:
                    raise Apart('networks are others in company')
        return checked

    def _proof_of(self, skeleton: Skeleton) -> _Proof:
        return self._proofs.setdefault(skeleton, _Proof(set()))

    def _are_close(self, one: Judgement, other: Judgement) -> bool:
        if not _is_whole(one) or not _is_whole(other):
            return str(one) == str(other)
        a, b = _numbers_of(one), _numbers_of(other)
        return a.keys() == b.keys() and all(math.isclose(a[k], b[k], rel_tol=self.tolerance, abs_tol=1e-6) for k in a)


def _numbers_of(judgement: Judgement) -> dict[str, float]:
    score, panel = judgement
    assert not isinstance(score, Exception) and not isinstance(panel, Exception)
    return {'': score, **panel}


def _is_whole(judgement: Judgement) -> bool:
    score, panel = judgement
    return not isinstance(score, Exception) and math.isfinite(score) and not isinstance(panel, Exception)
