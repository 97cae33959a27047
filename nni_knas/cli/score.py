"""``nni-knas score``: scores of given or random architectures as a table."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import pandas as pd
from nni.mutable import Sample
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from tqdm import tqdm

from nni_knas.basics.failures import failure
from nni_knas.basics.files import check_place
from nni_knas.basics.texts import number, one_line
from nni_knas.cli.given import given_options
from nni_knas.config import SearchOptions, read_search_space
from nni_knas.engine import Scorer
from nni_knas.gradients import ScoringError
from nni_knas.kernel import GradientKernelEvaluator
from nni_knas.networks import encode_sample, random_models

__all__ = ['run']


def run(parsed: argparse.Namespace) -> None:
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
        rows.append((*_scored(scorer, kernel, model.sample or {}), encode_sample(model.sample or {})))
    table = pd.DataFrame(rows, columns=['score', 'seconds', 'parameters', 'reason', 'architecture'])
    table = table.sort_values('score', ascending=False, kind='stable')
    if parsed.csv is not None:
        table.to_csv(parsed.csv, index=False)
    print(f'{"score":>10}  {"parameters":>10}  {"seconds":>7}  architecture')
    for row in table.itertuples():
        parameters, architecture = number(row.parameters, '.0f'), one_line(json.loads(row.architecture))
        reason = f'  ({row.reason})' if row.reason else ''
        print(f'{row.score:>10.4g}  {parameters:>10}  {row.seconds:>7.2f}  {architecture}{reason}')


def _scored(scorer: Scorer, kernel: GradientKernelEvaluator, sample: Sample) -> tuple[float, float, float, str]:
    """Score, seconds, parameters and the reason why there is no score, of an architecture that may not even be built."""
    parameters, start = math.nan, time.perf_counter()
    try:
        network = scorer.build(sample)
        parameters, start = sum(p.numel() for p in network.parameters()), time.perf_counter()
        score, reason = kernel.score(network), ''
    except ScoringError as error:
        score, reason = math.nan, str(error)
    except Exception as error:
        score, reason = math.nan, failure(error)
    return score, time.perf_counter() - start, parameters, reason


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
