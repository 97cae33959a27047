"""The page of one run."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup
from tqdm import tqdm

from nni_knas import plots
from nni_knas.basics.texts import count, duration, energy, known, mass, number
from nni_knas.bridge.registry import manager_lives
from nni_knas.footprint import Footprint
from nni_knas.networks import COSTS
from nni_knas.plots import ENERGIES, number_text, unit_of
from nni_knas.record import Status, keys, near_of
from nni_knas.report.page import Plot, packed_json, plot, write_page
from nni_knas.report.snapshot import Moment
from nni_knas.report.table import STATUS_TEXTS, candidate_data, columns
from nni_knas.runs import REASONS, Run

__all__ = ['write_report']

_COSTS = {
    'parameters': 'parameters',
    'flops': 'FLOPs',
    'memory': 'memory',
    'latency': 'latency',
    'seconds': 'scoring time',
    'training_seconds': 'training time',
}
_CAPTIONS = {
    'scores': 'How the scores are distributed, and where the candidates lie that were chosen to be trained. Drag to zoom, '
    'double click to see all again.',
    'progress': 'The scores in the order in which the space was explored: a best score that still rises at the end says '
    'that more candidates may be worth their while.',
    'curves': 'How the chosen candidates learnt, named by their ranks by score. A click on a name hides its curve, a double '
    'click shows it alone.',
    'ranks': 'Whether a better score meant a better network after training: the closer to the line, the better the score '
    'has ranked them.',
    'choices': 'What was trained, in the order in which it was chosen, and what was expected of it then: with each metric '
    'more is known of the space.',
    'footprint': 'What each stage used, by component; and what training every candidate would have taken, with its '
    'interval.',
}


class Tile(NamedTuple):
    """A number of the summary."""

    key: str
    label: str
    value: Any
    """In full; ``None`` where it is not known"""
    text: str
    note: str = ''


def write_report(run: Any, path: str | Path) -> Path:
    """Write the page of a run: running, finished or killed. Nothing of the run is executed; see :meth:`Run.prepare_report`.

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
    opened, path = Run.of(run), Path(path)
    with opened.record.transaction():  # of a run that goes on, every part of the page shows the same moment
        values = _template_values(Moment(opened))
    write_page(path, 'single.html', values)
    return path


def _template_values(run: Moment) -> dict[str, Any]:
    frame = run.frame()
    shown = columns(frame, run.metric_name, run.optimize_mode == 'minimize')
    footprint, sessions, state = run.footprint(), run.sessions(), run.state
    return {
        'title': ': '.join(filter(None, (run.name, _searched(run)))),
        'searched': _searched(run),
        'run': run,
        'quoted': shlex.quote(str(run.folder)),
        'python': f'import nni_knas\nrun = nni_knas.open_run({str(run.folder)!r})\nrun.scores(), run.metric, run.network()',
        'state': state,
        'manager': state.status != 'running' and manager_lives(run.folder.name),
        'resume': run.how_to_resume(),
        'now': time.time(),
        'sessions': sessions,
        'tiles': _tiles_of(run),
        'footprint': footprint,
        'energy_unit': unit_of(footprint.kwh, ENERGIES),
        'stages': {
            'coarse: scoring': footprint.stages.loc['coarse'],
            'fine: training': footprint.stages.loc['fine'],
            'both': footprint.stages.sum(),
        },
        'winner': _winner_values(run),
        'lessons': run.lessons(),
        'reasons': REASONS,
        'plots': list(tqdm(_plots_of(run), 'Plots', unit=' plots', disable=None, leave=False)),
        'counts': frame.status.value_counts().to_dict(),
        'statuses': STATUS_TEXTS,
        'columns': shown,
        'candidates': packed_json(candidate_data(frame, shown)),
        'failures': _failures(frame),
        'configuration': run.configuration(),
    }


def _searched(run: Moment) -> str:
    """What was searched, on which data, by which score, in short; empty where the run does not know."""
    asked = run.configuration()
    space, data, score = (
        str(value).split('(')[0] if value else ''
        for value in (asked.get('network') or asked.get('space'), asked.get('data'), asked.get('score'))
    )
    return ' '.join(filter(None, (space, data and f'on {data}', score and f'by {score}')))


def _tiles_of(run: Moment) -> list[Tile]:
    frame, ranking, footprint = run.frame(), run.ranking(all=True), run.footprint()
    scored, metered, near = run.rated(), bool(footprint.statement), _near_the_best(run)
    quick = int(scored.score.isna().sum())
    in_scoring, in_training = (int((frame.status == status).sum()) for status in (Status.FAILED, Status.TRAINING_FAILED))
    left_out = int(frame.status.isin([Status.FILTERED, Status.OUTSIDE]).sum())
    seconds, kwh, co2_kg = (value if metered else None for value in (footprint.seconds, footprint.kwh, footprint.co2_kg))
    better = 'the lowest' if run.optimize_mode == 'minimize' else 'the highest'
    metric, note = None, 'nothing is trained yet'
    if len(ranking):
        rank = int(ranking.index[0])
        metric, note = run.metric, f'{better} of {count(len(ranking))}; rank {count(rank)} of {count(len(scored))} by score'
    return [
        Tile('metric', f'best {run.metric_name}', metric, number(metric, '.5g'), note),
        Tile(
            'scored',
            'candidates scored',
            len(scored),
            count(len(scored)),
            (f'{count(len(scored) - quick)} of them in full' if quick else f'of {count(len(frame))} explored')
            + (f', {count(near)} near the best' if near else ''),
        ),
        Tile('trained', 'trained', len(ranking), count(len(ranking)), _note_on_trained(run, footprint)),
        Tile(
            'failed',
            'failed',
            in_scoring + in_training,
            count(in_scoring + in_training),
            f'{count(in_scoring)} in scoring, {count(in_training)} in training'
            + (f'; {count(left_out)} more left out' if left_out else ''),
        ),
        Tile(
            'seconds',
            'time',
            seconds,
            duration(seconds),
            f'scoring {duration(run.record.scoring_seconds())}, trials {duration(float(frame.training_seconds.sum()))}',
        ),
        Tile('kwh', 'energy', kwh, energy(kwh), 'in both stages' if metered else 'not recorded'),
        Tile('co2_kg', 'CO₂ equivalent', co2_kg, mass(co2_kg), 'of this energy' if metered else 'not recorded'),
    ]


def _near_the_best(run: Moment) -> int:
    """How many of those that were scored were drawn near the best."""
    near = near_of(run.record)
    return near.scored(run.record) if near is not None else 0


def _note_on_trained(run: Moment, footprint: Footprint) -> str:
    if not run.top_k:
        return ''
    learnt = any(choice.reason != 'score' for choice in run.record.choices())
    note = f'of {run.top_k:,}, chosen by what was learnt' if learnt else f'of the top {run.top_k}'
    return f'{note}; {footprint.saved.trainings:,} were saved' if footprint.saved is not None else note


def _plots_of(run: Moment) -> Iterator[Plot]:
    yield plot('scores', 'Scores', plots.plot_scores(run), _CAPTIONS['scores'], wide=True)
    yield plot('progress', 'Progress', plots.plot_progress(run), _CAPTIONS['progress'], wide=True)
    yield from _cost_plots(run)
    yield plot('curves', 'Learning curves', plots.plot_curves(run), _CAPTIONS['curves'])
    yield plot('ranks', 'Score and training', plots.plot_ranks(run), _CAPTIONS['ranks'])
    yield plot('choices', 'Expected and trained', plots.plot_choices(run), _CAPTIONS['choices'])
    used = plot('footprint', 'Energy', plots.plot_footprint(run), _CAPTIONS['footprint'], wide=True)
    yield used._replace(note='')  # which the page says at its beginning


def _cost_plots(run: Moment) -> Iterator[Plot]:
    """The score against each cost; of those that need not be known, where they are."""
    frame = run.frame()
    for cost, name in _COSTS.items():
        if cost in ('parameters', 'flops', 'seconds') or frame[cost].notna().any():
            front = ' The line is the Pareto front: no other candidate has a higher score at a lower cost.'
            yield plot(
                cost,
                f'Score and {name}',
                plots.plot_costs(run, cost),
                f'What a good score costs in {name}.{front if cost in COSTS else ""}',
            )


def _winner_values(run: Moment) -> dict[str, Any] | None:
    """What the page says of the winner; ``None`` where no candidate has a score."""
    try:
        row: Any = run.winner
    except LookupError:
        return None
    rank = int(row.name)
    facts: list[tuple[str, Any, str]] = [
        (run.metric_name, row.metric, number(row.metric, '.5g')),
        *((name, value, number(value, '.5g')) for name, value in run.metrics(rank).items()),
        ('rank by score', rank, f'{count(rank)} of {count(len(run.rated()))}'),
        ('score', row.score, number_text(row.score)),
        ('quick score', row.quick, number_text(row.quick)),
        ('parameters', row.parameters, number(row.parameters, ',.0f')),
        ('FLOPs', row.flops, number(row.flops, ',.0f')),
        ('memory (bytes)', row.memory, number(row.memory, ',.0f')),
        ('latency (s)', row.latency, number(row.latency, '.3g')),
        ('training time', row.training_seconds, duration(row.training_seconds)),
        ('training energy', row.training_kwh, energy(row.training_kwh)),
    ]
    drawing, why_not = _network_drawings(run)
    return {
        'facts': [fact for fact in facts if known(fact[1])],
        'architecture': row.architecture,
        'drawing': drawing,
        'why_not': why_not,
        'trained': row.status == Status.TRAINED and known(row.metric),
        'candidate': int(row.candidate),
    }


def _network_drawings(run: Moment) -> tuple[list[tuple[str, Markup]], str]:
    """The drawings that the run has kept of the winner's network, with their captions; or why there are none.

    None is made here: somebody else's run may be looked at, and to build its network would execute what it brings along.
    """
    if not run.record.get_meta(keys.EXAMPLE):
        return [], "There is no drawing, since the run does not know the shape of its networks' inputs."
    kept = run.drawing()
    if kept is None:
        return [], (
            'There is no drawing: a search keeps one at its end. nni-knas report --trust makes it, which executes what the '
            "run's networks are made of."
        )
    if not kept.drawings:
        return [], f'There is no drawing: {kept.why_not}'
    return [(caption, Markup(svg)) for caption, svg in kept.drawings], ''


def _failures(frame: pd.DataFrame) -> list[tuple[str, str, int, list[int]]]:
    """Status, reason, number and first candidates of what failed or was left out, the most frequent first."""
    gone = frame[frame.status.isin([Status.FAILED, Status.TRAINING_FAILED, Status.FILTERED, Status.OUTSIDE])]
    groups = gone.assign(reason=gone.reason.fillna('')).groupby(['status', 'reason']).candidate
    found = [
        (STATUS_TEXTS[Status(status)], str(reason), len(numbers), sorted(numbers)[:5])
        for (status, reason), numbers in groups
    ]
    return sorted(found, key=lambda failure: -failure[2])
