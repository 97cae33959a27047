"""Classifiers against each other on the same texts: what each has, and how sure it is which is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import f1_score

__all__ = ['Contender', 'Difference', 'comparison_table', 'paired_difference']

DRAWS = 10_000


class Contender(NamedTuple):
    """What a classifier made of the texts.

    Attributes
    ----------
    predicted
        For each seed that it was trained with, the class that each text is given, ``seeds x texts``; of one that does not
        depend on a seed a single row.
    seconds
        What a training took, where that is known.
    """

    predicted: Sequence[Sequence[int]]
    seconds: float | None = None


class Difference(NamedTuple):
    """How much more texts a classifier gets right than another, in shares of them, with the interval of 95 %."""

    mean: float
    low: float
    high: float


def paired_difference(
    one: Sequence[Sequence[int]], other: Sequence[Sequence[int]], targets: Sequence[int], seed: int = 0
) -> Difference:
    """The difference of two classifiers' accuracies, paired by texts and seeds, with a bootstrap interval.

    For each seed and text: whether ``one`` gets it right, minus whether ``other`` does. Of this table seeds and texts are
    drawn with replacement, both at a time (the pigeonhole bootstrap of Owen 2007), 10,000 times; the interval holds the
    middle 95 % of the means. So it is about other seeds **and** other texts of the task, and rather wide than narrow.

    Parameters
    ----------
    one, other
        The predicted classes, ``seeds x texts``, the same seed in the same row; a single row goes with each of the other's.
    targets
        The true classes of the texts.
    seed
        Of the draws.

    Raises
    ------
    ValueError
        If numbers of seeds or texts do not go together.
    """
    right = [np.atleast_2d(np.asarray(each)) for each in (one, other)]
    seeds = {len(each) for each in right} - {1}
    if len(seeds) > 1 or any(each.shape[1] != len(targets) for each in right):
        shapes = ' and '.join(f'{len(each)} x {each.shape[1]}' for each in right)
        raise ValueError(
            f'predictions of {shapes} (seeds x texts) for {len(targets)} targets: they have to be of the same seeds and '
            'texts'
        )
    first, second = ((each == np.asarray(targets)).astype(float) for each in right)
    table = first - second
    random = np.random.default_rng(seed)
    drawn = [random.multinomial(size, np.full(size, 1 / size), DRAWS) / size for size in table.shape]
    means = np.einsum('ds,ds->d', drawn[0], drawn[1] @ table.T)
    return Difference(float(table.mean()), *(float(bound) for bound in np.quantile(means, [0.025, 0.975])))


def comparison_table(contenders: Mapping[str, Contender], targets: Sequence[int]) -> str:
    """Contenders in Markdown: accuracy and F1 in percent, mean ± deviation over the seeds, and what the first is better by.

    Parameters
    ----------
    contenders
        By name; the first one is compared with each of the others: see :func:`paired_difference`.
    targets
        The true classes of the texts.
    """
    names = list(contenders)
    lines = [f'| | accuracy | F1 | {names[0]} is better by | seconds a training |', '| --- | --- | --- | --- | --- |']
    for name, contender in contenders.items():
        rows = np.atleast_2d(np.asarray(contender.predicted))
        accuracies = [float(np.mean(row == np.asarray(targets))) for row in rows]
        f1 = [float(f1_score(targets, row, average='binary' if max(targets) < 2 else 'macro')) for row in rows]
        better = ''
        if name != names[0]:
            mean, low, high = paired_difference(contenders[names[0]].predicted, contender.predicted, targets)
            better = f'{100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]'
        seconds = '' if contender.seconds is None else f'{contender.seconds:.0f}'
        lines.append(f'| {name} | {_in_percent(accuracies)} | {_in_percent(f1)} | {better} | {seconds} |')
    return '\n'.join(lines)


def _in_percent(shares: Sequence[float]) -> str:
    mean = f'{100 * np.mean(shares):.2f}'
    return f'{mean} ± {100 * np.std(shares, ddof=1):.2f}' if len(shares) > 1 else mean
