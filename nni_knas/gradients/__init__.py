"""Gradients of a network at initialisation, on one minibatch.

This module knows torch only: a network, a minibatch, a loss. It answers with the mean gradient (one forward-backward
pass, whatever the minibatch) or with per-sample gradients (one vectorised pass), and leaves the network as it found it.
What is made of the gradients is the business of :mod:`nni_knas.scores`.
"""

from __future__ import annotations

from nni_knas.gradients.activations import first_embedding, input_jacobian, module_outputs, rectifier_patterns
from nni_knas.gradients.errors import Apart, MisfitError, NotApplicable, ScoringError, first_line, is_out_of_memory
from nni_knas.gradients.gradients import Gradients, Share, arguments_of
from nni_knas.gradients.losses import Loss, main_output
from nni_knas.gradients.samples import Minibatch
from nni_knas.gradients.scoring_mode import (
    Normalization,
    cpu_threads,
    evaluating,
    is_scoring,
    modules_of,
    seeded,
    undisturbed,
    wait_for_device,
)
from nni_knas.gradients.together import Fork, pass_together
from nni_knas.gradients.traces import Trace, has_weights

__all__ = [
    'Apart',
    'Fork',
    'Gradients',
    'Loss',
    'Minibatch',
    'MisfitError',
    'Normalization',
    'NotApplicable',
    'ScoringError',
    'Share',
    'Trace',
    'arguments_of',
    'cpu_threads',
    'evaluating',
    'first_embedding',
    'first_line',
    'has_weights',
    'input_jacobian',
    'is_out_of_memory',
    'is_scoring',
    'main_output',
    'module_outputs',
    'modules_of',
    'pass_together',
    'rectifier_patterns',
    'seeded',
    'undisturbed',
    'wait_for_device',
]
