"""Why two-way-rank is what it is: products of statistics of the panel, chosen by leaving one space out.

    python measurements/two_way.py --tables FOLDER --data folder:CIFAR10 --text text:GLUE/RTE --output DIR

Takes the options of ``nni-knas benchmark``, which ranks by each statistic on every space. The tables at the end are of
products of powers of these: two-way-rank, and what becomes of it without each of its factors or with others; the best of
all; and for each space what is best on the others (mean plus half the worst of the rank correlations), and what that has on
the space itself.
"""

import itertools
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nni_knas.basics.names import PANEL, SCORES
from nni_knas.cli import main
from registering import register_functions
from nni_knas.scores import TwoWayRank, statistics

import numpy as np
import pandas as pd

Powers = dict[str, float]
FACTORS = TwoWayRank.factors
CHOICES: tuple[tuple[Powers, ...], ...] = (
    (
        {'participation': 1},
        {'participation': 0.5, 'participation-roots': 1},
        {'participation-roots': 2},
        {'log-participation': 4},
    ),
    ({}, {'weight-rank': 0.5}, {'weight-rank': 1}, {'weight-rank-share': 0.5}, {'weight-rank-share': 1}),
    ({}, {'feature-rank': 1}, {'feature-rank-squares': 0.5}, {'feature-rank-squares': 1}),
    ({}, {'backward-rank': 1}),
    ({}, {'feature-survival': 0.5}, {'feature-survival': 1}, {'sample-rank-late': 0.5}),
    ({}, {'gradient-size': 0.5}, {'gradient-size': 1}),
)
NEIGHBOURS = (
    [FACTORS]
    + [{name: power for name, power in FACTORS.items() if name != left} for left in FACTORS]
    + [FACTORS | {more: power} for more in ('backward-rank', 'feature-survival', 'sample-rank-late') for power in (0.5, 1)]
    + [FACTORS | {name: 2 * power} for name, power in FACTORS.items()]
)
USED = sorted({name for choice in CHOICES for powers in choice for name in powers})
OTHERS = ['two-way-rank', 'steady-rank', 'gradient-norm', 'log-l1', 'log-mgm', 'mgm', 'snip']

register_functions(
    {
        name: partial(lambda gradients, name: statistics(gradients)[name], name=name)
        for name in PANEL
        if name not in (*SCORES, 'layers')
    }
)


def tables(folder: Path) -> Iterator[tuple[str, pd.DataFrame, pd.Series]]:
    """Of each space its name, the logarithms of the statistics, a row an architecture, and the accuracies."""
    witnesses = pd.read_csv(folder / 'all.csv').query('witness').groupby('benchmark', sort=False).metric.first()
    for space, witness in zip(witnesses.index.astype(str), witnesses):
        table = pd.read_csv(folder / space / 'scores.csv')
        least = TwoWayRank.least
        yield space, table[USED].clip(lower=least).transform(np.log).fillna(np.log(least)), table[witness]


def correlations(folder: Path, products: list[Powers]) -> pd.DataFrame:
    """Spearman's correlation of each product with each space's witness; a row a product, a column a space."""
    columns = {}
    for space, logs, accuracies in tables(folder):
        scores = pd.DataFrame({i: sum(power * logs[name] for name, power in p.items()) for i, p in enumerate(products)})
        columns[space] = scores.corrwith(accuracies, method='spearman')
    found = pd.DataFrame(columns)
    found.index = [' '.join(f'{name}^{power:g}' for name, power in p.items()) for p in products]
    return found


def rank_sums(folder: Path) -> pd.DataFrame:
    """The same of the sum of the ranks by each factor among the candidates, in the place of the product."""
    found = {
        space: (logs[list(FACTORS)].rank() * pd.Series(FACTORS)).sum(axis=1).corr(accuracies, method='spearman')
        for space, logs, accuracies in tables(folder)
    }
    return pd.DataFrame(found, index=['sum of ranks by the same factors'])


def deviations(folder: Path) -> pd.DataFrame:
    """How much the logarithm of each factor varies among the candidates: what it weighs in a product."""
    return pd.DataFrame({space: logs[list(FACTORS)].std() for space, logs, _ in tables(folder)})


def goodness(found: pd.DataFrame) -> pd.Series:
    return found.mean(axis=1) + found.min(axis=1) / 2


def leave_one_out(found: pd.DataFrame) -> pd.DataFrame:
    """A row a space: what is chosen on the others, and what it has there and here."""
    rows = []
    for space in found.columns:
        others = found.drop(columns=space)
        best = str(goodness(others).idxmax())
        rows.append((space, best, others.loc[best].mean(), found.loc[best, space], found[space].max()))
    return pd.DataFrame(rows, columns=['left out', 'chosen on the others', 'mean there', 'here', 'best here']).set_index(
        'left out'
    )


def show(title: str, found: pd.DataFrame) -> None:
    if 'chosen on the others' not in found:
        found = found.assign(mean=found.mean(axis=1), worst=found.min(axis=1))
    print(f'\n{title}\n{found.round(2).to_string()}')


if __name__ == '__main__':
    options = sys.argv[1:]
    names = [name for name in PANEL if name not in (*OTHERS, 'layers')]
    status = main(['benchmark', '--benchmark', 'all', '--scores', ','.join(OTHERS + names), *options])
    if not status:
        folder = Path(options[options.index('--output') + 1])
        found = correlations(
            folder, [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*CHOICES)]
        )
        show('two-way-rank, without each factor, and with others', correlations(folder, NEIGHBOURS))
        show('in the place of the product', rank_sums(folder))
        print(f'\ndeviation of the logarithm of each factor among the candidates\n{deviations(folder).round(2).to_string()}')
        show(f'the best of {len(found)} products', found.loc[goodness(found).sort_values(ascending=False).index[:10]])
        show('leaving one space out', leave_one_out(found))
    sys.exit(status)
