"""Every space of NNI's model space hub can be scored, and gets the score of the reference."""

from __future__ import annotations

import functools

import nni
import numpy as np
import pytest
import reference
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.hub.pytorch import (
    DARTS,
    ENAS,
    PNAS,
    AmoebaNet,
    AutoformerSpace,
    MobileNetV3Space,
    NasBench101,
    NasBench201,
    NASNet,
    ProxylessNAS,
    ShuffleNetSpace,
)
from nni.nas.space import SimplifiedModelSpace
from nni.nas.strategy import TPE

from nni_knas import KNAS, GradientKernelEvaluator, open_run
from nni_knas.gradients import seeded

CELLS = {'width': 4, 'num_cells': 3}
AUTOFORMER = {'search_embed_dim': (16, 32), 'search_mlp_ratio': (2.0, 3.0), 'search_num_heads': (2, 4),
              'search_depth': (2, 3), 'img_size': 16, 'patch_size': 8, 'num_labels': 10, 'qkv_bias': True}

# space, arguments, size of the images
SPACES = {
    'NasBench101': (NasBench101, {'stem_out_channels': 8, 'num_modules_per_stack': 1}, 12),
    'NasBench201': (NasBench201, {'stem_out_channels': 4, 'num_modules_per_stack': 1}, 12),
    'DARTS': (DARTS, CELLS, 12),
    'ENAS': (ENAS, CELLS, 12),
    'PNAS': (PNAS, CELLS, 12),
    'AmoebaNet': (AmoebaNet, CELLS, 12),
    'NASNet': (NASNet, CELLS, 12),
    'MobileNetV3Space': (MobileNetV3Space, {'num_labels': 10, 'base_widths': (8, 8, 8, 8, 16, 16, 16, 16, 32)}, 32),
    'ProxylessNAS': (ProxylessNAS, {'num_labels': 10, 'width_mult': 0.25}, 32),
    'ShuffleNetSpace': (ShuffleNetSpace, {'num_labels': 10}, 32),
    'AutoformerSpace': (AutoformerSpace, AUTOFORMER, 16),
}
SAMPLES = 3


def count_parameters(network):
    count = sum(p.numel() for p in network.parameters())
    nni.report_final_result(count)
    return count


def random_network(space):
    build, arguments, _ = SPACES[space]
    with seeded(1):
        return build(**arguments).random({}, random_state=np.random.RandomState(1)).double()


built = functools.cache(random_network)
"""For tests that leave the network as it was: building one takes longer than scoring it."""


def images(space, n=SAMPLES):
    generator = torch.Generator().manual_seed(5)
    size = SPACES[space][2]
    return (torch.randn(n, 3, size, size, generator=generator, dtype=torch.float64),
            torch.randint(0, 10, (n,), generator=generator))


@pytest.mark.parametrize('normalization', ['sample', 'batch'])
@pytest.mark.parametrize('space', SPACES)
def test_random_architecture_gets_the_reference_score(space, normalization):
    network, (x, y) = built(space), images(space)
    score = GradientKernelEvaluator((x, y), 'mgm', normalization=normalization).score(network)
    assert score > 0
    assert score == pytest.approx(reference.mgm(network, x, y, normalization=normalization), rel=1e-6)


@pytest.mark.parametrize('space', SPACES)
def test_search(space, tmp_path):
    """Whatever kinds of choices a space has, they go through explorer, record and training."""
    build, arguments, _ = SPACES[space]
    config = NasExperimentConfig('sequential', 'simplified')
    config.experiment_working_directory = str(tmp_path)
    strategy = KNAS(GradientKernelEvaluator(tuple(part.float() if part.is_floating_point() else part
                                                  for part in images(space))), candidates=2, top_k=1)
    experiment = NasExperiment(build(**arguments), FunctionalEvaluator(count_parameters), strategy, config)
    experiment.run()
    experiment.stop()
    assert list(strategy.scores().status) == ['trained', 'scored']
    run = open_run(experiment.id)
    assert run.architecture == experiment.export_top_models(1)[0].sample
    assert count_parameters(run.network()) == run.metric


def test_tpe_on_choices_it_does_not_know(tmp_path):
    build, arguments, _ = SPACES['DARTS']
    strategy = KNAS(GradientKernelEvaluator(images('DARTS')), candidates=2, top_k=1, explorer=TPE())
    with pytest.raises(ValueError, match='TPE cannot explore this space'):
        strategy(SimplifiedModelSpace.from_model(build(**arguments)), SequentialExecutionEngine())


@pytest.mark.parametrize('normalization', ['sample', 'batch'])
@pytest.mark.parametrize('space', ['NasBench201', 'DARTS'])
def test_per_sample_scores_on_cells(space, normalization):
    network, (x, y) = built(space), images(space, 4)
    score = GradientKernelEvaluator((x, y), 'half-covariance', normalization=normalization).score(network)
    expected = reference.half_covariance(network, x, y, normalization=normalization)
    assert score == pytest.approx(expected, rel=1e-6)
