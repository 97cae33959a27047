"""Searches in this process."""

from __future__ import annotations

import nni
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.space import SimplifiedModelSpace
from spaces import Digits, Many, TinySpace, prefer_small, tiny_kernel, train

from nni_knas import KNAS
from nni_knas.record import record_path
from nni_knas.runs import Run


def search(strategy, tmp_path, space=None, evaluator=None, **config):
    """As an experiment, which has a folder."""
    experiment = NasExperiment(
        space or TinySpace(),
        evaluator or FunctionalEvaluator(train),
        strategy,
        NasExperimentConfig('sequential', config.pop('format', 'simplified')),
    )
    experiment.config.experiment_working_directory = str(tmp_path)
    for name, value in config.items():
        setattr(experiment.config, name, value)
    try:
        experiment.run()
    finally:
        experiment.stop()
    return experiment


def report(network, learning_rate=0.1):
    nni.report_final_result(learning_rate)


def run(space, kernel, candidates=120, top_k=5, *, evaluator=None, **options):
    """Without an experiment; gives the strategy."""
    strategy = KNAS(kernel, candidates, top_k, **options)
    strategy(SimplifiedModelSpace.from_model(space, evaluator or FunctionalEvaluator(report)), SequentialExecutionEngine())
    return strategy


def learnt_run(folder):
    """Of 27 candidates 14 are trained, on a space that the score ranks the wrong way round."""
    evaluator = FunctionalEvaluator(prefer_small)
    run(TinySpace(), tiny_kernel(), 27, 14, choose='learn', evaluator=evaluator, record=record_path(folder))
    return Run(folder)


def near_run(folder):
    """Of 60 candidates 8 are trained, and 20 are drawn near the best."""
    options = {'choose': 'learn', 'near_best': 20, 'effort': 'full', 'evaluator': FunctionalEvaluator(prefer_small)}
    run(Many(), tiny_kernel(), 60, 8, record=record_path(folder), **options)
    return Run(folder)


def explore(placement, record=None, candidates=150, top_k=10, explorer=None, **options):
    """Many candidates with the scores of a placement, the best of which are trained; gives the strategy."""
    kernel = tiny_kernel()
    options.setdefault('choose', 'rank')
    kernel.check = lambda network: None
    return run(Digits(), kernel, candidates, top_k, record=record, placement=placement, explorer=explorer, **options)
