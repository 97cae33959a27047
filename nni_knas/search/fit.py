"""Whether networks of a space take the data at all, before anything is scored."""

from __future__ import annotations

import numpy as np
from nni.nas.strategy.utils import RetrySamplingHelper

from nni_knas.engine import Scorer
from nni_knas.gradients import MisfitError

__all__ = ['check_fit']

TRIED = 50
"""So many networks are tried before the data is held to be at fault."""


def check_fit(scorer: Scorer) -> bool:
    """Networks of the space take the minibatch, and the targets fit.

    One network that takes it is enough. Only when all that are tried refuse is the data at fault, not the candidate.

    Returns
    -------
    bool
        Whether they take the minibatch of quick scores, too, as far as could be seen.

    Raises
    ------
    MisfitError
        If none takes it; the message is that of the last one.
    """
    _ = scorer.kernel.minibatch  # what is wrong with the data itself is said of the data, and not of a candidate
    sampling = RetrySamplingHelper()
    random_state = np.random.RandomState(scorer.kernel.seed)
    refusal: MisfitError | None = None
    for _ in range(TRIED):
        model = sampling.retry(scorer.space.random, random_state=random_state)
        if model is None:
            return True
        try:
            network = scorer.build(model.sample or {})
            scorer.kernel.check(network)
        except MisfitError as error:
            refusal = error
            continue
        except Exception:  # a fault of this candidate; the coarse stage records it
            return True
        try:
            scorer.quick.check(network)
        except Exception:  # small images may be too small
            return False
        return True
    assert refusal is not None
    raise refusal
