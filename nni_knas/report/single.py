"""The page of one run."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from nni_knas import plots
from nni_knas.export import example_inputs
from nni_knas.report.page import json_script, plot, write_page
from nni_knas.report.table import STATUSES, candidate_data, columns
from nni_knas.runs import Run
from nni_knas.texts import count, duration, energy, known, mass, number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

__all__ = ['scored', 'write_report']

_PLOTS: list[tuple[str, Callable[[Any], Figure], str]] = [
    ('scores', plots.plot_scores, 'How the scores are distributed, and where the candidates lie that were chosen to be '
                                  'trained.'),
    ('progress', plots.plot_progress, 'The scores in the order in which the space was explored: a best score that still '
                                      'rises at the end says that more candidates may be worth their while.'),
    ('costs', plots.plot_costs, 'What a good score costs. The line is the Pareto front: no other candidate has a higher '
                                'score at a lower cost. The menu chooses the cost.'),
    ('curves', plots.plot_curves, 'How the chosen candidates learnt. A click on a name in the legend hides its curve, a '
                                  'double click shows it alone.'),
    ('ranks', plots.plot_ranks, 'Whether a better score meant a better network after training: the closer to the line, the '
                                'better the score has ranked them.'),
    ('footprint', plots.plot_footprint, 'The energy of this run by stage and component, and what training every candidate '
                                        'would have taken, with its interval.'),
]


class Tile(NamedTuple):
    """A number of the summary."""

    key: str
    label: str
    value: Any
    """In full"""
    text: str
    note: str = ''


def write_report(run: Any, path: str | Path) -> Path:
    """Write the page of a run: running, finished or killed.

    Parameters
    ----------
    run
        What :meth:`nni_knas.runs.Run.of` takes: a run, a strategy, an experiment's id, or its folder.
    path
        The HTML file, written whole or not at all.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    FileNotFoundError
        If there is no such run.
    ValueError
        If plotly is not installed.

    Examples
    --------
    >>> nni_knas.write_report('k3vn8qyz', 'report.html')
    """
    run, path = Run.of(run), Path(path)
    run.measured()  # kept in the record, from where all that follows has it
    with run.record.transaction():  # of a run that goes on, every part of the page shows the same moment
        values = _values(run)
    write_page(path, 'single.html', values)
    return path


def _values(run: Run) -> dict[str, Any]:
    frame = run.scores()
    shown = columns(frame, run.metric_name, run.optimize_mode == 'minimize')
    footprint, sessions = run.footprint(), run.sessions()
    return {
        'title': f'{run.name}: a KNAS run', 'run': run, 'quoted': shlex.quote(str(run.folder)),
        'python': f'import nni_knas\nrun = nni_knas.open_run({str(run.folder)!r})\nrun.scores(), run.metric, run.network()',
        'status': run.status, 'now': time.time(), 'sessions': sessions, 'started': sessions[0].started if sessions else None,
        'heard': sessions[-1].heard if sessions else None, 'tiles': _tiles(run, frame), 'footprint': footprint,
        'stages': footprint.stages.to_dict('index'), 'winner': _winner(run, frame),
        'plots': [plot(name, draw(run), caption) for name, draw, caption in _PLOTS],
        'counts': frame.status.value_counts().to_dict(), 'statuses': STATUSES, 'columns': shown,
        'candidates': json_script(candidate_data(frame, shown)), 'failures': _failures(frame),
        'configuration': run.configuration(), 'seed': run.configuration().get('seed'),
    }


def scored(frame: pd.DataFrame) -> pd.DataFrame:
    """The candidates that have a score, be it a quick one."""
    return frame[frame.score.notna() | frame.quick.notna()]


def _tiles(run: Run, frame: pd.DataFrame) -> list[Tile]:
    rated = scored(frame)
    quick = int(rated.score.isna().sum())
    failed = {status: int((frame.status == status).sum()) for status in ('failed', 'training-failed')}
    footprint, ranking = run.footprint(), run.ranking()
    scoring, training = run.record.scoring_seconds(), float(frame.training_seconds.sum())
    name, rank = run.metric_name, None
    if len(ranking):
        rank = int(ranking.index[0])
    excluded = int(frame.status.isin(['filtered', 'outside']).sum())
    return [
        Tile('scored', 'candidates scored', len(rated), count(len(rated)), f'{count(quick)} of them quickly' if quick else
             f'of {count(len(frame))} explored'),
        Tile('trained', 'trained', len(ranking), count(len(ranking)),
             '' if run.top_k is None else f'of the top {run.top_k}'),
        Tile('failed', 'failed', sum(failed.values()), count(sum(failed.values())),
             f'{count(failed["training-failed"])} in training' + (f'; {count(excluded)} left out' if excluded else '')),
        Tile('metric', f'best {name}', run.metric if rank else None, number(run.metric if rank else None, '.5g'),
             f'rank {count(rank)} by score' if rank else 'nothing is trained yet'),
        Tile('seconds', 'time', footprint.seconds, duration(footprint.seconds),
             f'scoring {duration(scoring)}, trials {duration(training)}'),
        Tile('kwh', 'energy', footprint.kwh, energy(footprint.kwh), 'of both stages'),
        Tile('co2_kg', 'CO₂ equivalent', footprint.co2_kg, mass(footprint.co2_kg), 'of this energy'),
    ]


def _winner(run: Run, frame: pd.DataFrame) -> dict[str, Any] | None:
    """What the page says of the winner; ``None`` where no candidate has a score."""
    try:
        row: Any = run.winner
    except LookupError:
        return None
    facts: list[tuple[str, Any, str]] = [
        (run.metric_name, row.metric, number(row.metric, '.5g')),
        *((name, value, number(value, '.5g')) for name, value in run.metrics(int(row.name)).items()),
        ('rank by score', int(row.name), f'{count(int(row.name))} of {count(len(frame))}'),
        ('score', row.score, number(row.score, '.5g')), ('quick score', row.quick, number(row.quick, '.5g')),
        ('parameters', row.parameters, number(row.parameters, ',.0f')), ('FLOPs', row.flops, number(row.flops, ',.0f')),
        ('memory (bytes)', row.memory, number(row.memory, ',.0f')), ('latency (s)', row.latency, number(row.latency, '.3g')),
        ('training', row.training_seconds, duration(row.training_seconds)),
        ('energy of training', row.training_kwh, energy(row.training_kwh))]
    drawing, why_not = _drawing(run, int(row.name))
    return {'facts': [fact for fact in facts if known(fact[1])], 'architecture': row.architecture, 'drawing': drawing,
            'why_not': why_not, 'trained': row.status == 'trained' and known(row.metric), 'candidate': int(row.candidate)}


def _drawing(run: Run, rank: int) -> tuple[dict[str, Any] | None, str]:
    """The drawing of a network, or why there is none."""
    from nni_knas.drawing import draw_network

    example = run.record.get_meta('example')
    if not example:
        return None, "There is no drawing, since the run does not know the shape of its networks' inputs."
    try:
        drawing = draw_network(run.network(rank), example_inputs(example))
    except (ValueError, LookupError) as error:
        return None, f'There is no drawing: {error}'
    return {'whole': Markup(drawing.svg), 'block': Markup(drawing.block_svg or ''), 'name': drawing.block_name}, ''


def _failures(frame: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Status, reason and number of what failed or was left out, the most frequent first."""
    gone = frame[frame.status.isin(['failed', 'training-failed', 'filtered', 'outside'])]
    counted = gone.assign(reason=gone.reason.fillna('')).groupby(['status', 'reason']).size().sort_values(ascending=False)
    return [(STATUSES[status], reason, int(size)) for (status, reason), size in counted.items()]
