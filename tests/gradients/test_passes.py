"""What gradients cost, and how they fit into memory."""

from __future__ import annotations

import pytest
import torch
from layers import NORMALIZATIONS, SCORES, Limited, batch_of, convolutional, kernel_of, recurrent
from torch import nn

from nni_knas.gradients import ScoringError


class Counted(nn.Module):
    """Counts the forward and the backward passes through a network."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.forwards = self.backwards = 0

    def forward(self, x):
        self.forwards += 1
        out = self.network(x)
        if out.requires_grad:
            out.register_hook(self.count_backward)
        return out

    def count_backward(self, gradient):
        self.backwards += 1


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
@pytest.mark.parametrize('score', ['mgm', 'mgm-sampled'])
@pytest.mark.parametrize('n', [2, 5, 40])
def test_mgm_takes_one_forward_and_one_backward(score, n, normalization):
    network = Counted(convolutional())
    kernel_of(*batch_of(n, 3, 4, 4), score, normalization=normalization).score(network)
    assert (network.forwards, network.backwards) == (1, 1)


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_half_covariance_does_not_loop_over_samples(normalization):
    def forwards(n):
        network = convolutional()
        seen = []
        network.register_forward_hook(lambda *_: seen.append(1))
        kernel_of(*batch_of(n, 3, 4, 4), 'half-covariance', normalization=normalization).score(network)
        return len(seen)

    assert forwards(4) == forwards(24) <= 2


def test_half_covariance_of_a_recurrent_network_loops_over_samples():
    network = recurrent(nn.LSTM).double()
    seen = []
    network.register_forward_hook(lambda *_: seen.append(1))
    kernel_of(*batch_of(12, 5, 8), 'half-covariance').score(network)
    assert len(seen) >= 12


# Micro-batches and memory.


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('micro_batch', range(1, 9))
def test_micro_batch_changes_nothing(score, micro_batch):
    network = convolutional()
    x, y = batch_of(7, 3, 4, 4)
    whole = kernel_of(x, y, score).score(network)
    assert kernel_of(x, y, score, micro_batch=micro_batch).score(network) == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize('micro_batch', [1, 2, 5])
def test_micro_batch_with_coupled_normalization_but_no_batch_norm(micro_batch):
    network = convolutional(lambda channels: nn.GroupNorm(2, channels))
    x, y = batch_of(7, 3, 4, 4)
    for score in SCORES:
        whole = kernel_of(x, y, score, normalization='batch').score(network)
        parts = kernel_of(x, y, score, normalization='batch', micro_batch=micro_batch).score(network)
        assert parts == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize('score', SCORES)
def test_batch_normalization_with_micro_batch_is_refused(score):
    kernel = kernel_of(*batch_of(7, 3, 4, 4), score, normalization='batch', micro_batch=3)
    with pytest.raises(ScoringError, match='needs the whole minibatch at once'):
        kernel.score(convolutional())


def refusal(allocate):
    """What is raised where so much memory is asked for that there is no address for it."""
    with pytest.raises(Exception) as caught:
        allocate(2**50)
    return caught.value


OUT_OF_MEMORY = {
    'CUDA': torch.OutOfMemoryError('CUDA out of memory.'),
    'MPS': RuntimeError('MPS backend out of memory'),
    'torch': refusal(lambda size: torch.empty(size, dtype=torch.uint8)),
    'python': refusal(bytearray),
}


@pytest.mark.parametrize('error', OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
@pytest.mark.parametrize('score', SCORES)
def test_out_of_memory_halves_the_part(score, error):
    network = Limited(convolutional(), 3, error)
    kernel = kernel_of(*batch_of(13, 3, 4, 4), score)
    whole = kernel.score(network.network)
    assert kernel.score(network) == pytest.approx(whole, rel=1e-10)
    assert max(network.sizes) == 13
    assert sum(size for size in network.sizes if 1 < size <= 3) >= 12  # parts, not a loop over single samples


def test_halving_goes_on_from_where_it_was():
    network = Limited(convolutional(), 3, MemoryError())
    kernel_of(*batch_of(13, 3, 4, 4)).score(network)
    assert network.sizes == [13, 6, 3, 3, 3, 3, 1]


def test_out_of_memory_with_a_single_sample_is_passed_on():
    error = torch.OutOfMemoryError('CUDA out of memory.')
    with pytest.raises(torch.OutOfMemoryError) as caught:
        kernel_of(*batch_of(5, 3, 4, 4)).score(Limited(convolutional(), 0, error))
    assert caught.value is error


def test_out_of_memory_with_coupled_samples_says_what_to_do():
    with pytest.raises(ScoringError, match='take a smaller batch_size'):
        kernel_of(*batch_of(8, 3, 4, 4), normalization='batch').score(Limited(convolutional(), 4, MemoryError()))
