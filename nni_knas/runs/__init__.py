"""Runs opened again: what was scored and trained, by whom, and what is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nni_knas.basics.faces import opened_later

if TYPE_CHECKING:
    from nni_knas.runs.columns import score_table
    from nni_knas.runs.fine_stage_scalars import fine_scalars
    from nni_knas.runs.learning import learner_of, pool_of, tell
    from nni_knas.runs.lessons import REASONS, Lessons
    from nni_knas.runs.progress import progress_of, progress_shown
    from nni_knas.runs.ranked import RankedEvaluator, collect_kept, energy_of, kept_result, ranked_model
    from nni_knas.runs.run import Run, dump_space, open_run, report_seconds, restore_model
    from nni_knas.runs.scalars import search_scalars
    from nni_knas.runs.selection import Ranked, chosen, pareto_front, rated_among
    from nni_knas.runs.sessions import check_idle, session, worked_seconds
    from nni_knas.runs.state import State, failures_recorded, state_of

__all__ = [
    'REASONS',
    'Lessons',
    'Ranked',
    'RankedEvaluator',
    'Run',
    'State',
    'check_idle',
    'chosen',
    'collect_kept',
    'dump_space',
    'energy_of',
    'failures_recorded',
    'fine_scalars',
    'kept_result',
    'learner_of',
    'open_run',
    'pareto_front',
    'pool_of',
    'progress_of',
    'progress_shown',
    'ranked_model',
    'rated_among',
    'report_seconds',
    'restore_model',
    'score_table',
    'search_scalars',
    'session',
    'state_of',
    'tell',
    'worked_seconds',
]

_PLACES = {
    **dict.fromkeys(('State', 'failures_recorded', 'state_of'), 'state'),
    **dict.fromkeys(('RankedEvaluator', 'collect_kept', 'energy_of', 'kept_result', 'ranked_model'), 'ranked'),
    **dict.fromkeys(('Run', 'dump_space', 'open_run', 'report_seconds', 'restore_model'), 'run'),
    **dict.fromkeys(('learner_of', 'pool_of', 'tell'), 'learning'),
    **dict.fromkeys(('REASONS', 'Lessons'), 'lessons'),
    **dict.fromkeys(('progress_of', 'progress_shown'), 'progress'),
    'search_scalars': 'scalars',
    'fine_scalars': 'fine_stage_scalars',
    'score_table': 'columns',
    **dict.fromkeys(('Ranked', 'chosen', 'pareto_front', 'rated_among'), 'selection'),
    **dict.fromkeys(('check_idle', 'session', 'worked_seconds'), 'sessions'),
}

__getattr__ = opened_later(__name__, _PLACES)
