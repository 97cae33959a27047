"""``nni-knas show --json``: a run for other programs."""

from __future__ import annotations

import contextlib
from typing import Any

import pandas as pd

from nni_knas.bridge.registry import known_experiments
from nni_knas.cli.listing import shown_name, start_time
from nni_knas.cli.machine import records
from nni_knas.cli.watch import best_so_far
from nni_knas.config import Settings
from nni_knas.runs import Run

__all__ = ['run_as_json']


def run_as_json(run: Run, top: int) -> dict[str, Any]:
    """What is known of a run, and its ``top`` best candidates."""
    entry, frame, state = known_experiments().get(run.folder.name, {}), run.frame(), run.state
    return {
        'run': run.folder.name,
        'name': shown_name(run.folder, run.record, entry),
        'folder': str(run.folder),
        'status': state.status,
        'reason': state.reason,
        'started': start_time(run.folder, run.record, entry),
        'options': _options(run),
        'metric_name': run.metric_name,
        'counts': {str(status): int(count) for status, count in frame.status.value_counts().items()},
        'scoring_seconds': run.record.scoring_seconds(),
        'training_seconds': float(frame.training_seconds.sum()),
        'energy': _energy(run),
        'candidates': _ranked(best_so_far(run, top)),
        'lessons': _lessons(run),
    }


def _options(run: Run) -> dict[str, Any] | None:
    """What the command line or a file asked for; ``None`` where it was a script."""
    with contextlib.suppress(OSError, ValueError):
        return Settings.read(run.folder).options.to_mapping()
    return None


def _ranked(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return records(frame.rename_axis('rank').reset_index())


def _energy(run: Run) -> dict[str, Any] | None:
    """``None`` where nothing was recorded."""
    footprint = run.footprint()
    if not footprint.statement:
        return None
    known = {'seconds': footprint.seconds, 'kwh': footprint.kwh, 'co2_kg': footprint.co2_kg}
    return {**known, 'methods': footprint.methods, 'statement': footprint.statement}


def _lessons(run: Run) -> dict[str, Any] | None:
    """``None`` where nothing is trained."""
    lessons = run.lessons()
    if lessons is None:
        return None
    weights = records(lessons.weights.rename_axis('statistic').reset_index())
    choices = records(lessons.choices.rename_axis('order').reset_index())
    return {'sentence': lessons.sentence, 'warning': lessons.warning, 'weights': weights, 'choices': choices}
