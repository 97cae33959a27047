"""A candidate: one architecture of an NNI model space, and its network at initialisation.

The initial weights of a candidate depend on the seed and on its architecture alone, so that its score is the same
whenever and wherever it is taken. A space makes its layers in one order, so candidates that have a layer in the same place
have the same weights there: what differs between their scores is their architecture rather than their luck.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from nni.common.serializer import is_traceable
from nni.mutable import Mutable, Sample
from nni.nas.space import ExecutableModelSpace, RawFormatModelSpace, model_context
from nni.nas.strategy.utils import RetrySamplingHelper
from torch import nn

from nni_knas.basics.samples import decode_sample, encode_sample
from nni_knas.gradients import seeded
from nni_knas.networks.pretrained import only_looked_at

__all__ = ['architecture_of', 'build_network', 'decode_sample', 'encode_sample', 'hyper_parameters_of', 'random_models']


def architecture_of(sample: Sample, hyper_parameters: Collection[str] = ()) -> Sample:
    """The part of a sample that shapes the network: all but the evaluator's hyper-parameters."""
    return {label: choice for label, choice in sample.items() if label not in hyper_parameters}


def hyper_parameters_of(space: ExecutableModelSpace) -> frozenset[str]:
    """Labels of the mutables of a space that belong to its evaluator."""
    return frozenset(space.evaluator.simplify()) if isinstance(space.evaluator, Mutable) else frozenset()


def build_network(model: ExecutableModelSpace, seed: int) -> nn.Module:
    """The freshly initialised network of a frozen model, to be scored or measured: pre-trained weights are not copied.

    Parameters
    ----------
    model
        A frozen NNI model, in any of NNI's formats.
    seed
        The run's seed.
    """
    with seeded(seed), only_looked_at():
        if isinstance(model, RawFormatModelSpace) and model.sample and is_traceable(model.model_space):
            # The raw format hands out copies of the space's own weights; a candidate has weights of its own.
            with model_context(model.sample):
                network: nn.Module = model.model_space.trace_copy().get(traceable=False)
        else:
            network = model.executable_model()
    return network


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
