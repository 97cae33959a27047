"""Small model spaces, evaluators and a kernel for the tests, importable in trials and in other processes."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import nni
import torch
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableLinear
from servers import wait_until
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.scores import MGM


class TinySpace(ModelSpace):
    """27 architectures of a few weights, on vectors of 6 numbers."""

    def __init__(self) -> None:
        super().__init__()
        width = nni.choice('width', [4, 8, 16])
        self.first = MutableLinear(6, width)
        self.inner = LayerChoice({'relu': nn.ReLU(), 'tanh': nn.Tanh(), 'sigmoid': nn.Sigmoid()}, label='inner')
        self.outer = LayerChoice({'relu': nn.ReLU(), 'tanh': nn.Tanh(), 'sigmoid': nn.Sigmoid()}, label='outer')
        self.last = MutableLinear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.outer(self.inner(self.first(x))))


class Many(ModelSpace):
    """625 networks, enough for quick scores."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.layers = nn.ModuleList(
            LayerChoice(
                {'relu': nn.ReLU(), 'tanh': nn.Tanh(), 'elu': nn.ELU(), 'linear': nn.Linear(6, 6), 'sigmoid': nn.Sigmoid()},
                label=f'layer{i}',
            )
            for i in range(4)
        )
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = layer(x)
        return self.last(x)


class BadLayer(nn.Module):
    """A layer that fails in the way it is told to."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == 'raises':
            raise RuntimeError('this layer is broken')
        if self.how == 'nan':
            return x * float('nan')
        return x @ torch.zeros(7, 7)  # does not fit


class FaultySpace(ModelSpace):
    """Some of its architectures cannot be scored."""

    def __init__(self, good: bool = True) -> None:
        super().__init__()
        choices: dict[str, nn.Module] = {how: BadLayer(how) for how in ('raises', 'nan', 'misfit')}
        if good:
            choices.update(identity=nn.Identity(), relu=nn.ReLU())
        self.first = nn.Linear(6, 6)
        self.middle = LayerChoice(choices, label='middle')
        self.last = LayerChoice([nn.Linear(6, 3) for _ in range(3)], label='last')

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.middle(self.first(x)))


class Digits(ModelSpace):
    """So many candidates that an explorer hardly meets one twice."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(LayerChoice([nn.Identity() for _ in range(10)], label=f'digit{9 - i}') for i in range(6))

    def forward(self, x):
        return x


class LoggedMGM(MGM):
    """Writes a line for each network that it scores, to count them over processes; the others wait at the gate."""

    def __init__(self, log: str, seconds: float = 0.0, gate: str | Path | None = None) -> None:
        self.log, self.seconds, self.gate = log, seconds, gate

    def __call__(self, gradients) -> float:
        wait_at(self.gate, len(lines(self.log)))
        time.sleep(self.seconds)
        score = super().__call__(gradients)
        write_line(self.log, f'{score!r}')
        return score


def write_line(path: str, line: str) -> None:
    with open(path, 'a') as file:
        file.write(line + '\n')


def lines(path: str | Path) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def wait_at(gate: str | Path | None, number: int) -> None:
    """Wait until a gate is open for this number, from 0 on."""
    wait_until(lambda: number < let_through(gate), 3600)


def let_through(gate: str | Path | None) -> float:
    """How many a gate lets through: what the file says, none while it is being written, all where there is none."""
    try:
        return int(Path(gate).read_text() or 0) if gate is not None else math.inf
    except FileNotFoundError:
        return math.inf


def vectors(samples: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, 6, generator=generator), torch.randint(0, 3, (samples,), generator=generator)


def vector_dataset(samples: int = 20) -> torch.utils.data.TensorDataset:
    return torch.utils.data.TensorDataset(*vectors(samples))


def tiny_kernel(**options) -> GradientKernelEvaluator:
    return GradientKernelEvaluator(vectors(), **options)


def train(
    network: nn.Module,
    log: str = os.devnull,
    seconds: float = 0.0,
    learning_rate: float = 0.1,
    fails: bool = False,
    gate: str | None = None,
) -> None:
    """Train a network for five steps, and report minus its loss; a gate is for the trainings in the order of the log."""
    write_line(log, f'start {os.getpid()}')
    if gate is not None:
        started = [line for line in lines(log) if line.startswith('start')]
        wait_at(gate, len(started) - 1 - started[::-1].index(f'start {os.getpid()}'))
    if fails:
        raise RuntimeError('training is broken')
    inputs, targets = vectors()
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(inputs), targets)
        loss.backward()
        optimizer.step()
        time.sleep(seconds / 5)
    nni.report_intermediate_result(-loss.item())
    nni.report_final_result(-loss.item())
    write_line(log, f'end {os.getpid()}')


def size_of(network):
    return sum(each.numel() for each in network.parameters())


def prefer_small(network, sign=-1.0, log=None, dies_at=(), fails=False):
    """Of TinySpace the smallest networks are the best, which the recommended score has last."""
    if log is not None:
        if len(lines(log)) in dies_at:
            write_line(log, 'dies')
            raise KeyboardInterrupt
        write_line(log, 'trained')
    if fails and any(isinstance(module, nn.Sigmoid) for module in network.modules()):
        raise RuntimeError('it is broken')
    nni.report_final_result(sign * size_of(network))
