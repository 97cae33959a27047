"""Why two-way-rank is what it is: its factors and their powers, chosen by leaving one space out.

    python measurements/two_way.py --tables FOLDER --data folder:CIFAR10 --text text:GLUE/RTE --output DIR

Takes the options of ``nni-knas benchmark``, which ranks by the variants on every space; the last table says for each space
which variant is best on the others (mean plus half the worst of the rank correlations), and what it has on the space itself.
"""

import math
import sys
from functools import partial
from pathlib import Path

from nni_knas.cli import main
from registering import register_functions
from nni_knas.scores import TwoWayRank, statistics

import pandas as pd

FACTORS = TwoWayRank.factors
VARIANTS = {
    'participation': {'participation': 1.0},
    'features': {'feature-rank-squares': 1.0},
    'size': {'gradient-size': 1.0},
    'survival': {'feature-survival': 1.0},
    'participation-features': {'participation': 1.0, 'feature-rank-squares': 1.0},
    'without-size': FACTORS | {'gradient-size': 0.0},
    'without-features': FACTORS | {'feature-rank-squares': 0.0},
    'without-participation': FACTORS | {'participation': 0.0},
    'survival-0': FACTORS | {'feature-survival': 0.0},
    'survival-half': FACTORS,
    'survival-1': FACTORS | {'feature-survival': 1.0},
    'survival-2': FACTORS | {'feature-survival': 2.0},
    'with-backward-survival': FACTORS | {'backward-survival': 0.5},
    'with-sample-rank': FACTORS | {'sample-rank-late': 0.5},
    'with-weight-rank-share': FACTORS | {'weight-rank-share': 1.0},
}


def product(gradients, powers):
    panel = statistics(gradients)
    return math.fsum(power * math.log(max(panel[name], TwoWayRank.least)) for name, power in powers.items() if power)


register_functions({name: partial(product, powers=powers) for name, powers in VARIANTS.items()})


def leave_one_out(correlations: pd.DataFrame) -> pd.DataFrame:
    """A row a space: what is chosen on the others, and what it has there and here."""
    rows = []
    for space in correlations.columns:
        others = correlations.drop(columns=space)
        best = (others.mean(axis=1) + others.min(axis=1) / 2).idxmax()
        rows.append((space, best, others.loc[best].mean(), correlations.loc[best, space], correlations[space].max()))
    return pd.DataFrame(rows, columns=['left out', 'chosen on the others', 'mean there', 'here', 'best here'])


if __name__ == '__main__':
    options = sys.argv[1:]
    folder = Path(options[options.index('--output') + 1])
    status = main(['benchmark', '--benchmark', 'all', '--scores', ','.join(VARIANTS), *options])
    if not status:
        table = pd.read_csv(folder / 'all.csv')
        table = table[table.witness & table.score.isin(list(VARIANTS))]
        print(
            leave_one_out(table.pivot(index='score', columns='benchmark', values='spearman')).round(2).to_string(index=False)
        )
    sys.exit(status)
