"""The page of several runs, side by side."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nni_knas import plots
from nni_knas.report.page import Plot, plot, write_page
from nni_knas.report.single import scored
from nni_knas.runs import Run
from nni_knas.texts import NONE, one_line

__all__ = ['write_comparison']

_CAPTIONS: dict[plots.Comparison, str] = {'metric': 'The metrics of the candidates that were trained, a box a run.',
             'score': 'The scores of the candidates, a box a run.',
             'kwh': 'The energy of each run, by stage.',
             'seconds': 'The time of each run, by stage.'}


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
    opened, path = [Run.of(run) for run in runs], Path(path)
    folders = [run.folder.resolve() for run in opened]
    if len(opened) < 2:
        raise ValueError(f'there {"is one run" if opened else "is no run"} to compare: name two or more')
    if len(set(folders)) < len(folders):
        twice = next(folder for folder in folders if folders.count(folder) > 1)
        raise ValueError(f'the run {twice} is named twice: name different ones')
    names = _names(opened)
    rows = [_row(run, name) for run, name in zip(opened, names)]
    write_page(path, 'comparison.html', {
        'title': f'{len(opened)} KNAS runs', 'now': time.time(), 'rows': rows, 'plots': _plots(opened),
        'modes': {run.optimize_mode for run in opened}, 'metric_names': {run.metric_name for run in opened},
        'statements': {name: run.footprint().statement for name, run in zip(names, opened)}, 'names': names,
        'configurations': _configurations(opened), 'command': shlex.join(['nni-knas', 'compare', *map(str, folders)])})
    return path


def _names(runs: Sequence[Run]) -> list[str]:
    """The names of the runs, with NNI's id where several have the same."""
    names = [run.name for run in runs]
    return [f'{name} ({run.folder.name})' if names.count(name) > 1 and name != run.folder.name else name
            for name, run in zip(names, runs)]


def _row(run: Run, name: str) -> dict[str, Any]:
    frame, ranking, footprint, asked = run.scores(), run.ranking(), run.footprint(), run.configuration()
    better = -1 if run.optimize_mode == 'minimize' else 1
    scores = ranking.score if ranking.score.notna().all() else -ranking.index.to_series()
    correlation, _, said = plots.spearman(scores, better * ranking.metric)
    stages = footprint.stages.seconds
    return {
        'name': name, 'quoted': shlex.quote(str(run.folder)), 'status': run.status,
        'space': asked.get('network') or asked.get('space'),
        **{key: asked.get(key) for key in ('data', 'score', 'explorer', 'seed')}, 'candidates': len(frame),
        'scored': len(scored(frame)), 'trained': len(ranking), 'metric': run.metric if len(ranking) else None,
        'metric_name': run.metric_name, 'mode': run.optimize_mode, 'rank': int(ranking.index[0]) if len(ranking) else None,
        'scoring': float(stages['coarse']), 'training': float(stages['fine']), 'kwh': footprint.kwh,
        'co2_kg': footprint.co2_kg, 'spearman': correlation, 'said': said}


def _plots(runs: Sequence[Run]) -> list[Plot]:
    return [plot(what, plots.plot_comparison(runs, what), caption) for what, caption in _CAPTIONS.items()]


def _configurations(runs: Sequence[Run]) -> dict[str, tuple[list[str], bool]]:
    """By field: what each run was asked for, and whether the runs differ in it."""
    asked = [run.configuration() for run in runs]
    table = {key: [one_line(values[key]) if values.get(key) is not None else NONE for values in asked]
             for key in dict.fromkeys(key for values in asked for key in values)}
    lines = {key: (values, len(set(values)) > 1) for key, values in table.items()}
    return dict(sorted(lines.items(), key=lambda line: not line[1][1]))  # the differences first
