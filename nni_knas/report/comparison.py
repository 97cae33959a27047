"""The page of several runs, side by side."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nni_knas import plots
from nni_knas.basics.texts import NONE, one_line
from nni_knas.plots import run_names
from nni_knas.record import keys
from nni_knas.report.page import plot, write_page
from nni_knas.report.snapshot import Moment
from nni_knas.runs import Run

__all__ = ['write_comparison']

_PLOTS: list[tuple[plots.Comparison, str, str]] = [
    ('metric', 'Trained metrics', 'The metrics of the candidates that were trained, a box a run.'),
    ('score', 'Scores', 'The scores at full effort, a box a run.'),
    ('kwh', 'Energy', 'What each run used, by stage.'),
    ('seconds', 'Time', 'How long each run took by the clock, by stage.'),
]


def write_comparison(runs: Sequence[Any], path: str | Path) -> Path:
    """Write the page of several runs.

    Parameters
    ----------
    runs
        Two or more, each what :meth:`nni_knas.runs.Run.of` takes.
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
        If there are fewer than two runs, one is named twice, or plotly is not installed.
    """
    opened, path = [Moment(Run.of(run)) for run in runs], Path(path)
    folders = [run.folder.resolve() for run in opened]
    if len(opened) < 2:
        raise ValueError(f'there {"is one run" if opened else "is no run"} to compare: name two or more')
    if len(set(folders)) < len(folders):
        twice = next(folder for folder in folders if folders.count(folder) > 1)
        raise ValueError(f'the run {twice} is named twice: name different ones')
    names = run_names(opened)
    write_page(
        path,
        'comparison.html',
        {
            'title': f'{len(opened)} KNAS runs',
            'now': time.time(),
            'names': names,
            'rows': [_run_row(run, name) for run, name in zip(opened, names)],
            'plots': [plot(what, title, plots.plot_comparison(opened, what), caption) for what, title, caption in _PLOTS],
            'different_metrics': len({(run.metric_name, run.optimize_mode) for run in opened}) > 1,
            'configurations': _configurations(opened),
            'command': shlex.join(['nni-knas', 'compare', *map(str, folders)]),
        },
    )
    return path


def _run_row(run: Moment, name: str) -> dict[str, Any]:
    ranking, footprint, asked = run.ranking(all=True), run.footprint(), run.configuration()
    better = -1 if run.optimize_mode == 'minimize' else 1
    scores = ranking.score if ranking.score.notna().all() else -ranking.index.to_series()
    correlation, _, said = plots.spearman(scores, better * ranking.metric)
    metered = bool(footprint.statement)
    seconds = footprint.stages.seconds if metered else {'coarse': None, 'fine': None}
    return {
        'name': name,
        'quoted': shlex.quote(str(run.folder)),
        'status': run.status,
        'statement': footprint.statement,
        'asked': [
            _cell_text(asked.get('network') or asked.get('space')),
            *(_cell_text(asked.get(key)) for key in ('data', 'score', 'explorer', 'seed')),
        ],
        'scored': len(run.rated()),
        'trained': len(ranking),
        'metric': run.metric if len(ranking) else None,
        'metric_name': run.metric_name,
        'mode': run.optimize_mode,
        'rank': int(ranking.index[0]) if len(ranking) else None,
        'scoring': seconds['coarse'],
        'training': seconds['fine'],
        'kwh': footprint.kwh if metered else None,
        'co2_kg': footprint.co2_kg if metered else None,
        'spearman': correlation,
        'said': said,
    }


def _cell_text(value: Any) -> str:
    return NONE if value is None or value == {} else one_line(value)


def _configurations(runs: Sequence[Run]) -> dict[str, tuple[list[str], bool]]:
    """By field: what each run was asked for, and whether the runs differ in it."""
    asked = [run.configuration() for run in runs]
    fields = dict.fromkeys(key for values in asked for key in values)
    table = {key: [_cell_text(values.get(key)) for values in asked] for key in fields}
    alike = {'data'} if _have_equal_data(runs) else set()
    lines = {key: (values, key not in alike and len(set(values)) > 1) for key, values in table.items()}
    return dict(sorted(lines.items(), key=lambda line: not line[1][1]))  # the differences first


def _have_equal_data(runs: Sequence[Run]) -> bool:
    """Whether all runs have scored on the same samples, however their data are named."""
    digests = {json.loads(run.record.get_meta(keys.KERNEL) or '{}').get('minibatch') for run in runs}
    return len(digests) == 1 and None not in digests
