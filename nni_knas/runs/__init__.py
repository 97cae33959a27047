"""Runs opened again: what was scored and trained, by whom, and what is kept of it."""

from nni_knas.runs.ranked import RankedEvaluator, energy_of, kept_result, ranked_model
from nni_knas.runs.run import Run, dump_space, open_run, restore_model
from nni_knas.runs.scalars import search_scalars
from nni_knas.runs.score_table import score_table
from nni_knas.runs.selection import Ranked, chosen, pareto_front, rated_among
from nni_knas.runs.sessions import check_idle, session, worked_seconds
from nni_knas.runs.state import State, failures_recorded

__all__ = [
    'Ranked',
    'RankedEvaluator',
    'Run',
    'State',
    'check_idle',
    'chosen',
    'dump_space',
    'energy_of',
    'failures_recorded',
    'kept_result',
    'open_run',
    'pareto_front',
    'ranked_model',
    'rated_among',
    'restore_model',
    'score_table',
    'search_scalars',
    'session',
    'worked_seconds',
]
