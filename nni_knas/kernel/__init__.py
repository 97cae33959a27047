"""The kernel: what scores a network at initialisation, on one minibatch."""

from nni_knas.kernel.evaluator import GradientKernelEvaluator, Judgement
from nni_knas.kernel.losses import loss_in_words
from nni_knas.kernel.minibatch import draw_minibatch
from nni_knas.kernel.together import Together

__all__ = ['GradientKernelEvaluator', 'Judgement', 'Together', 'draw_minibatch', 'loss_in_words']
