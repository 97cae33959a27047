"""What the accuracies of the table of text classifiers, and the scores, go along with: the choices of the space.

    nni-knas benchmark --benchmark text-rte --data text:GLUE/RTE --cost-architectures 0
    python measurements/text_choices.py nni-knas-benchmark/text-rte/scores.csv

For every choice: the mean rank (0 to 1, 1 is the best) by accuracy, and by each of a few scores, of the architectures with
each option.
"""

import argparse
import json

import pandas as pd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('scores', help='scores.csv of nni-knas benchmark')
    parser.add_argument('--metric', default='valtest_acc')
    parser.add_argument('--columns', default='steady-rank,mgm,label-alignment,parameters')
    options = parser.parse_args()

    table = pd.read_csv(options.scores)
    columns = [options.metric, *(name for name in options.columns.split(',') if name in table)]
    ranks = table[columns].rank(pct=True)
    choices = pd.DataFrame([json.loads(text) for text in table.architecture])
    edges = choices.filter(like='edge_')
    for operation in sorted(set(edges.to_numpy().ravel())):
        choices[f'has {operation}'] = (edges == operation).any(axis=1)
    for label in [name for name in map(str, choices) if not name.startswith('edge_')]:
        means = ranks.groupby(choices[label]).mean()
        means.insert(0, 'networks', choices[label].value_counts())
        spread = means[options.metric].max() - means[options.metric].min()
        print(f'\n{label} (spread of the mean rank by accuracy {spread:.2f})')
        print(means.round(2).to_string())
    print('\nSpearman among them')
    print(ranks.corr(method='spearman').round(2).to_string())


if __name__ == '__main__':
    main()
