"""A candidate: one architecture of an NNI model space."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from nni.mutable import Mutable, Sample
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy.utils import RetrySamplingHelper

from nni_knas.basics.samples import decode_sample, encode_sample

__all__ = ['architecture_of', 'decode_sample', 'encode_sample', 'hyper_parameters_of', 'random_models']


def architecture_of(sample: Sample, hyper_parameters: Collection[str] = ()) -> Sample:
    """The part of a sample that shapes the network: all but the evaluator's hyper-parameters."""
    return {label: choice for label, choice in sample.items() if label not in hyper_parameters}


def hyper_parameters_of(space: ExecutableModelSpace) -> frozenset[str]:
    """Labels of the mutables of a space that belong to its evaluator."""
    return frozenset(space.evaluator.simplify()) if isinstance(space.evaluator, Mutable) else frozenset()


def random_models(space: ExecutableModelSpace, count: int, seed: int) -> list[ExecutableModelSpace]:
    """Different random models of a space, fewer than ``count`` where it does not have that many.

    The same seed draws the same ones, in the same order.
    """
    random_state, sampling = np.random.RandomState(seed), RetrySamplingHelper()
    models: dict[str, ExecutableModelSpace] = {}
    for _ in range(100 * count):
        model = sampling.retry(space.random, random_state=random_state)
        if model is None or len(models) == count:
            break
        models.setdefault(encode_sample(model.sample or {}), model)
    return list(models.values())
