"""Training-free neural architecture search for NNI.

>>> from nni_knas import KNAS, GradientKernelEvaluator
>>> kernel = GradientKernelEvaluator(dataset)
>>> experiment = NasExperiment(space, evaluator, KNAS(kernel, candidates=300, top_k=20))
>>> experiment.run(port=8080)
"""

from __future__ import annotations

from nni_knas.compat import quiet_imports, repair

with quiet_imports():
    from nni_knas.evaluator import GradientKernelEvaluator
    from nni_knas.runs import Run, open_run
    from nni_knas.strategy import KNAS

repair()

__version__ = '0.1.0'
__all__ = ['KNAS', 'GradientKernelEvaluator', 'Run', 'open_run']
