"""``nni-knas score``: scores of given or random architectures as a table."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from nni.mutable import Sample
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from tqdm import tqdm

from nni_knas.basics.failures import failure
from nni_knas.basics.files import check_place
from nni_knas.basics.names import PANEL, TARGETS
from nni_knas.basics.texts import known, number, one_line
from nni_knas.cli.given import given_options
from nni_knas.cli.machine import print_json, records, stdout_kept
from nni_knas.config import SearchOptions, read_search_space
from nni_knas.engine import Scorer
from nni_knas.gradients import ScoringError
from nni_knas.kernel import GradientKernelEvaluator, Judgement
from nni_knas.networks import encode_sample, random_models

__all__ = ['run']

_COLUMNS = ('score', 'seconds', 'parameters', 'reason', 'architecture')


def run(parsed: argparse.Namespace) -> None:
    """Score architectures without a search, and print them."""
    with stdout_kept(parsed.json):
        table = _score_table(parsed)
    if parsed.csv is not None:
        table.to_csv(parsed.csv, index=False)
    if parsed.json:
        print_json([{**row, 'architecture': json.loads(row['architecture'])} for row in records(table)])
        return
    print(f'{"score":>10}  {"parameters":>10}  {"seconds":>7}  architecture')
    for row in table.to_dict('records'):
        _print_row(row)


def _score_table(parsed: argparse.Namespace) -> pd.DataFrame:
    """A row an architecture, the best first."""
    if parsed.samples < 1:
        raise ValueError(f'--samples is {parsed.samples}: it has to be 1 or more')
    if parsed.csv is not None:
        check_place(parsed.csv)
    score_options = SearchOptions.from_mapping(given_options(parsed))
    search_space = read_search_space(parsed.search_space) if parsed.search_space is not None else None
    _find_modules_here()
    data = score_options.load_data()
    kernel = score_options.make_kernel(data)
    _ = kernel.minibatch  # what is wrong with the data is said once, and not of each candidate
    candidates = SimplifiedModelSpace.from_model(score_options.make_space(data.classes, search_space))
    scorer = Scorer(kernel, candidates)
    rows = []
    models = list(_chosen_models(parsed, candidates, score_options.seed))
    for model in tqdm(models, desc='Scoring', unit='candidate', disable=None):
        rows.append(_scored(scorer, kernel, model.sample or {}, parsed.panel))
    panel = [*PANEL, *(name for name in TARGETS if any(name in row for row in rows))] if parsed.panel else []
    table = pd.DataFrame(rows, columns=[*_COLUMNS, *panel])
    return table.sort_values('score', ascending=False, kind='stable')


def _print_row(row: Mapping[Any, Any]) -> None:
    parameters, architecture = number(row['parameters'], '.0f'), one_line(json.loads(row['architecture']))
    reason = f'  ({row["reason"]})' if row['reason'] else ''
    print(f'{row["score"]:>10.4g}  {parameters:>10}  {row["seconds"]:>7.2f}  {architecture}{reason}')
    panel = ', '.join(f'{name}={row[name]:.4g}' for name in (*PANEL, *TARGETS) if known(row.get(name)))
    if panel:
        width = max(shutil.get_terminal_size().columns, 60)
        print(textwrap.fill(panel, width, initial_indent=' ' * 12, subsequent_indent=' ' * 12, break_on_hyphens=False))


def _scored(scorer: Scorer, kernel: GradientKernelEvaluator, sample: Sample, panel: bool) -> dict[str, Any]:
    """A row of the table for an architecture, which may not even be built; and its panel, where that is asked for."""
    parameters, start = math.nan, time.perf_counter()
    try:
        network = scorer.build(sample)
        parameters, start = sum(p.numel() for p in network.parameters()), time.perf_counter()
        judgement = kernel.judge(network) if panel else Judgement(kernel.score(network), {})
    except Exception as error:
        judgement = Judgement(error, {})
    seconds, (score, statistics) = time.perf_counter() - start, judgement
    reason = _said(score) if isinstance(score, Exception) else ''
    if isinstance(statistics, Exception):
        reason = reason or f'no panel: {_said(statistics)}'
        statistics = {}
    values = (math.nan if isinstance(score, Exception) else score, seconds, parameters, reason, encode_sample(sample))
    return {**dict(zip(_COLUMNS, values)), **statistics}


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, ScoringError) else failure(error)


def _chosen_models(parsed: argparse.Namespace, space: ExecutableModelSpace, seed: int) -> list[ExecutableModelSpace]:
    """The models to score: those of the file, or different random ones."""
    if parsed.architectures is not None:
        return [_freeze(space, sample) for sample in _read_samples(parsed.architectures)]
    return random_models(space, parsed.samples, seed)


def _freeze(space: ExecutableModelSpace, sample: Sample) -> ExecutableModelSpace:
    try:
        return space.freeze(sample)
    except Exception as error:
        raise ValueError(f'{json.dumps(sample)} is no architecture of the space: {failure(error)}') from error


def _read_samples(path: Path) -> list[Sample]:
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no text: {error}') from error
    try:
        samples = json.loads(text)
    except json.JSONDecodeError:
        try:
            samples = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise ValueError(f'{path} is neither a JSON list of architectures nor one a line: {error}') from error
    samples = [samples] if isinstance(samples, dict) else samples
    if not isinstance(samples, list) or not samples or not all(isinstance(sample, dict) for sample in samples):
        raise ValueError(
            f'{path} should hold architectures, each a mapping of labels to choices: a list of them, or one a line'
        )
    return samples


def _find_modules_here() -> None:
    """Modules of the user's are found in the working directory, as with ``python -m``."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
