"""Kernels whose panels are counted or refused, and how panels are compared."""

from __future__ import annotations

import os

from nni.nas.space import SimplifiedModelSpace
from spaces import vectors, write_line
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.engine import Scorer
from nni_knas.gradients import ScoringError


class Choosy(GradientKernelEvaluator):
    """Writes a line for each panel, and refuses those of networks with a sigmoid."""

    log = os.devnull

    def statistics(self, network: nn.Module) -> dict[str, float]:
        write_line(self.log, 'panel')
        if any(isinstance(module, nn.Sigmoid) for module in network.modules()):
            raise ScoringError('no sigmoids, please')
        return super().statistics(network)


def choosy(log: str = os.devnull, **options) -> Choosy:
    kernel = Choosy(vectors(), **options)
    kernel.log = log
    return kernel


def check_panels(strategy, kernel, space) -> None:
    """Each candidate with a score has the panel that the kernel gives its network, that of the quick kernel where it was
    not scored in full; to the last bit."""
    table = strategy.scores(all=True, panel=True)
    names = list(table.columns[len(strategy.scores(all=True).columns) : -1])
    scorer = Scorer(kernel, SimplifiedModelSpace.from_model(space))
    for row in table[table.score.notna() | table.quick.notna()].to_dict('records'):
        used = kernel if row['score'] == row['score'] else kernel.quick()
        expected = used.statistics(scorer.build(row['architecture']))
        assert list(expected) == names and {name: row[name] for name in names} == expected
