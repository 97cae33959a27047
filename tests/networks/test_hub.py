"""Every space of NNI's model space hub can be scored, and gets the score of the reference."""

from __future__ import annotations

import nni
import pytest
import reference
from hub import SPACES, built, images
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.space import SimplifiedModelSpace
from nni.nas.strategy import TPE

from nni_knas import KNAS, GradientKernelEvaluator, open_run


def count_parameters(network):
    count = sum(p.numel() for p in network.parameters())
    nni.report_final_result(count)
    return count


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
    strategy = KNAS(
        GradientKernelEvaluator(tuple(part.float() if part.is_floating_point() else part for part in images(space))),
        candidates=2,
        top_k=1,
    )
    experiment = NasExperiment(build(**arguments), FunctionalEvaluator(count_parameters), strategy, config)
    experiment.run()
    experiment.stop()
    assert list(strategy.scores(all=True).status) == ['trained', 'scored']
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
