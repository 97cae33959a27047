"""Mistakes in Python: the kernel's and the strategy's arguments."""

from __future__ import annotations

from mistakes.attempts import Mistake, python

BEGIN = """
import numpy as np
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.strategy import DARTS, Random, RegularizedEvolution
from spaces import tiny_kernel, vectors
from torch import nn
from torch.utils.data import Dataset

from nni_knas import KNAS, GradientKernelEvaluator, open_run
from nni_knas.engine import Workers

inputs, targets = vectors()
data, kernel = (inputs, targets), tiny_kernel()
network = nn.Linear(6, 3)


class List(list, Dataset):
    pass
"""


def line(text: str, says: str) -> Mistake:
    return python(f'{BEGIN}\n{text}', says)


MISTAKES = [
    # The kernel.
    line('GradientKernelEvaluator(None)', 'the kernel has no data'),
    line('GradientKernelEvaluator([])', 'was given 0 things as data'),
    line('GradientKernelEvaluator((inputs, targets, targets))', 'was given 3 things as data'),
    line("GradientKernelEvaluator('digits')", 'cannot draw data from str'),
    line('GradientKernelEvaluator((inputs, targets[:5]))', 'the same number of samples'),
    line('GradientKernelEvaluator((inputs[:0], targets[:0]))', 'is empty'),
    line('GradientKernelEvaluator((3, 4))', 'have to be tensors'),
    line('GradientKernelEvaluator(inputs.numpy())', 'cannot draw data from ndarray'),
    line('GradientKernelEvaluator((inputs.tolist(), targets.tolist()))', 'have to be tensors'),
    line('GradientKernelEvaluator((inputs.numpy().astype(object), targets))', 'an array of object'),
    line("GradientKernelEvaluator((inputs, np.array(['cat'] * len(inputs))))", 'an array of <U3'),
    line('GradientKernelEvaluator((inputs.to_sparse(), targets))', 'to_dense()'),
    line('GradientKernelEvaluator([(inputs[0], targets[0]), (inputs[1], targets[1])])', 'a tensor of all samples'),
    line("GradientKernelEvaluator(data, score='mgn')", "did you mean 'mgm'"),
    line('GradientKernelEvaluator(data, score=3)', 'score must be a name'),
    line('GradientKernelEvaluator(data, score=nn.Linear)', 'score must be a name'),
    line('GradientKernelEvaluator(data, batch_size=0)', 'batch_size is 0'),
    line('GradientKernelEvaluator(data, batch_size=2.5)', 'batch_size is 2.5'),
    line("GradientKernelEvaluator(data, batch_size='16')", "batch_size is '16'"),
    line('GradientKernelEvaluator(data, batch_size=True)', 'batch_size is True'),
    line('GradientKernelEvaluator(data, batch_size=float("nan"))', 'batch_size is nan'),
    line("GradientKernelEvaluator(data, 'ntk-condition', batch_size=1)", 'take 2 or more'),
    line('GradientKernelEvaluator(data, seed=-1)', 'seed is -1'),
    line('GradientKernelEvaluator(data, seed=2**32)', 'seed is 4294967296'),
    line('GradientKernelEvaluator(data, seed=0.5)', 'seed is 0.5'),
    line("GradientKernelEvaluator(data, normalization='layer')", "unknown normalization 'layer'"),
    line("GradientKernelEvaluator(data, loss='mse')", "loss is 'mse'"),
    line("GradientKernelEvaluator(data, device='gpu')", "unknown device 'gpu'"),
    line('GradientKernelEvaluator(data, device=[])', 'device'),
    line('GradientKernelEvaluator(data, threads=0)', 'threads is 0'),
    line('GradientKernelEvaluator(data, resolution=-4)', 'resolution is -4'),
    line('GradientKernelEvaluator(data, micro_batch=0)', 'micro_batch is 0'),
    line('GradientKernelEvaluator(data, together=0)', 'together is 0'),
    # What it scores.
    line("kernel.score('network')", 'score takes a torch.nn.Module'),
    line("kernel.statistics('network')", 'statistics takes a torch.nn.Module'),
    line('kernel.score(nn.Linear(9, 3))', 'cannot take inputs of shape'),
    line('kernel.score(nn.Linear(6, 2))', 'the network has 2 outputs'),
    line('kernel.score(nn.Identity())', 'parameter'),
    line('kernel.score(nn.Linear(6, 3).requires_grad_(False))', 'gradient'),
    line('GradientKernelEvaluator((inputs, targets - 1)).score(network)', 'classes must be 0 to 2'),
    line('GradientKernelEvaluator((inputs / 0, targets)).score(network)', 'in its inputs'),
    line(
        'holes = inputs.repeat(20, 1).index_fill_(0, torch.tensor([0]), float("nan"))\n'
        'GradientKernelEvaluator((holes, targets.repeat(20))).score(network)',
        'samples, spread over the data, were looked at',
    ),
    line('GradientKernelEvaluator((inputs, inputs[:, :1].log())).score(nn.Linear(6, 1))', 'in its targets'),
    line("GradientKernelEvaluator(List([('a text', 1)] * 9)).score(network)", 'they should be tensors'),
    line("GradientKernelEvaluator(List([(inputs[0], 'cat')] * 9)).score(network)", 'such as 0, 1, ... for classes'),
    line('GradientKernelEvaluator(List([(inputs[0], None)] * 9)).score(network)', 'sample 0 of the data cannot be put'),
    line('GradientKernelEvaluator(List([(inputs[0], 1), (inputs[0, :3], 1)])).score(network)', 'sample 1 of the data'),
    # The strategy.
    line('KNAS(FunctionalEvaluator(print))', 'kernel has to be a GradientKernelEvaluator'),
    line('KNAS(None)', 'kernel has to be a GradientKernelEvaluator'),
    line('KNAS(kernel, candidates=0)', 'candidates is 0'),
    line('KNAS(kernel, candidates=2.5)', 'candidates is 2.5'),
    line("KNAS(kernel, candidates='many')", "candidates is 'many'"),
    line('KNAS(kernel, candidates=True)', 'candidates is True'),
    line('KNAS(kernel, candidates=3, top_k=5)', 'top_k=5 is more than candidates=3'),
    line('KNAS(kernel, top_k=-1)', 'top_k is -1'),
    line('KNAS(kernel, top_k=None)', 'top_k is None'),
    line("KNAS(kernel, choose='guess')", "unknown choose 'guess'"),
    line("KNAS(kernel, choose='learn', stop_when=1)", 'stop_when is 1'),
    line("KNAS(kernel, choose='learn', stop_when='soon')", "stop_when is 'soon'"),
    line("KNAS(kernel, choose='rank', stop_when=0.1)", 'stop_when=0.1 goes with choose="learn"'),
    line("KNAS(kernel, choose='learn', near_best=-1)", 'near_best is -1'),
    line("KNAS(kernel, choose='learn', near_best=0.5)", 'near_best is 0.5: it has to be a whole number, 0 or more'),
    line("KNAS(kernel, choose='learn', near_best=None)", 'near_best is None'),
    line("KNAS(kernel, choose='rank', near_best=100)", 'near_best=100 goes with choose="learn"'),
    line("KNAS(kernel, choose='learn', top_k=0, near_best=100)", 'near_best=100 goes with a top_k of at least 4, not 0'),
    line("KNAS(kernel, choose='learn', near_best=300)", 'so near_best can be 280 at most'),
    line("KNAS(kernel, explorer='random')", 'has to be an NNI multi-trial strategy'),
    line('KNAS(kernel, explorer=Random)', 'has to be an NNI multi-trial strategy'),
    line('KNAS(kernel, explorer=DARTS())', 'DARTS is a one-shot strategy'),
    line('KNAS(kernel, explorer=KNAS(kernel))', 'KNAS cannot explore for KNAS'),
    line('KNAS(kernel, explorer=RegularizedEvolution(population_size=5, sample_size=3), ahead=9)', 'ahead=9 is more than'),
    line("KNAS(kernel, placement='moon')", "unknown placement 'moon'"),
    line('KNAS(kernel, placement=3)', 'placement is 3'),
    line('KNAS(kernel, placement=Workers)', 'placement is'),
    line('KNAS(kernel, workers=0)', 'workers is 0'),
    line("KNAS(kernel, workers=2, placement='trials')", 'workers=2 goes with placement="workers"'),
    line("KNAS(kernel, effort='little')", "unknown effort 'little'"),
    line("KNAS(kernel, front='size')", "unknown front 'size'"),
    line("KNAS(kernel, optimize_mode='best')", "unknown optimize_mode 'best'"),
    line("KNAS(kernel, constraints={'size': 5})", 'size'),
    line("KNAS(kernel, constraints={'flops': -5})", 'flops'),
    line("KNAS(kernel, constraints={'flops': 'few'})", 'flops'),
    line('KNAS(kernel, constraints=5)', 'constraints'),
    line("KNAS(kernel, country='Germany')", "country is 'Germany'"),
    line('KNAS(kernel, country=49)', 'country is 49'),
    line('KNAS(kernel).scores()', 'has not run'),
    line('Workers(0)', 'workers is 0'),
    line('Workers(devices=[])', 'devices is empty'),
    # Runs.
    line("open_run('nowhere')", "there is no experiment 'nowhere'"),
    line("open_run('.')", 'is no KNAS run'),
    line('open_run(None)', 'None'),
]
