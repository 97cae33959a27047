"""Training-free neural architecture search for NNI.

>>> from nni_knas import KNAS, GradientKernelEvaluator
>>> kernel = GradientKernelEvaluator(dataset)
>>> experiment = NasExperiment(space, evaluator, KNAS(kernel, candidates=300, top_k=20))
>>> experiment.run(port=8080)
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from nni_knas.bridge.repairs import quiet_imports, repair

if TYPE_CHECKING:
    from nni_knas.kernel import GradientKernelEvaluator
    from nni_knas.plots import (
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
    'Run',
    'open_run',
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

_MODULES = {'KNAS': 'search', 'GradientKernelEvaluator': 'kernel', 'Run': 'runs', 'open_run': 'runs'}
_LATER = {
    **dict.fromkeys((name for name in __all__ if name.startswith('plot_')), 'plots'),
    'write_report': 'report',
    'write_comparison': 'report',
}  # imported when they are asked for


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name) or _LATER.get(name)
    if module is None:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    with quiet_imports():
        value = getattr(importlib.import_module(f'{__name__}.{module}'), name)
    globals()[name] = value
    return value


# NNI's manager gives a tuner ten seconds to come up: there, torch is imported later, by the thread that needs it.
if os.environ.get('SDK_PROCESS') != 'dispatcher':
    for _name in _MODULES:
        __getattr__(_name)
    repair()
