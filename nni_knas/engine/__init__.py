"""Scoring in the place of training: an NNI execution engine, and the places where candidates are scored.

The engine knows what is asked for and what is known already; a placement knows where the work is done: in this process, in
worker processes, or in trials of NNI's training service. A candidate's score is the same in all of them.
"""

from __future__ import annotations

from nni_knas.engine.engine import ScoringEngine
from nni_knas.engine.placement import Placement, Task
from nni_knas.engine.process import InProcess
from nni_knas.engine.race import Race
from nni_knas.engine.scorer import Scorer, Verdict
from nni_knas.engine.trials import Trials
from nni_knas.engine.workers import Workers, gpus

__all__ = ['InProcess', 'Placement', 'Race', 'Scorer', 'ScoringEngine', 'Task', 'Trials', 'Verdict', 'Workers', 'gpus']
