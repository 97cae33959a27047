"""Training-free neural architecture search for NNI.

Examples
--------
>>> from nni_knas import KNAS, GradientKernelEvaluator
>>> kernel = GradientKernelEvaluator(dataset)
>>> experiment = NasExperiment(space, evaluator, KNAS(kernel, candidates=300, top_k=20))
>>> experiment.run(port=8080)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nni_knas.basics.faces import opened_later
from nni_knas.bridge.arrivals import await_nni

if TYPE_CHECKING:
    from nni_knas.kernel import GradientKernelEvaluator
    from nni_knas.learner import Learner
    from nni_knas.plots import (
        plot_choices,
        plot_comparison,
        plot_costs,
        plot_curves,
        plot_footprint,
        plot_progress,
        plot_ranks,
        plot_scores,
    )
    from nni_knas.report import write_comparison, write_report
    from nni_knas.runs import Run, open_run
    from nni_knas.search import KNAS

__version__ = '0.1.0'
__all__ = [
    'KNAS',
    'GradientKernelEvaluator',
    'Learner',
    'Run',
    'open_run',
    'plot_choices',
    'plot_comparison',
    'plot_costs',
    'plot_curves',
    'plot_footprint',
    'plot_progress',
    'plot_ranks',
    'plot_scores',
    'write_comparison',
    'write_report',
]

_PLACES = {
    **dict.fromkeys((name for name in __all__ if name.startswith('plot_')), 'plots'),
    'KNAS': 'search',
    'GradientKernelEvaluator': 'kernel',
    'Learner': 'learner',
    'Run': 'runs',
    'open_run': 'runs',
    'write_report': 'report',
    'write_comparison': 'report',
}

__getattr__ = opened_later(__name__, _PLACES)

await_nni()
