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

from nni_knas.compat import quiet_imports, repair

if TYPE_CHECKING:
    from nni_knas.evaluator import GradientKernelEvaluator
    from nni_knas.runs import Run, open_run
    from nni_knas.strategy import KNAS

__version__ = '0.1.0'
__all__ = ['KNAS', 'GradientKernelEvaluator', 'Run', 'open_run']

_MODULES = {'KNAS': 'strategy', 'GradientKernelEvaluator': 'evaluator', 'Run': 'runs', 'open_run': 'runs'}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    with quiet_imports():
        value = getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)
    globals()[name] = value
    return value


# NNI's manager gives a tuner ten seconds to come up: there, torch is imported later, by the thread that needs it.
if os.environ.get('SDK_PROCESS') != 'dispatcher':
    for _name in __all__:
        __getattr__(_name)
    repair()
