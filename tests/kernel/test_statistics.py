"""The panel of a network: one pass with the score, and neither is lost by the other's failure."""

from __future__ import annotations

import math
import threading
import weakref

import pytest
import torch
from torch import nn
from undisturbed import X, Y, assert_undisturbed, everything, small_network

from nni_knas import GradientKernelEvaluator
from nni_knas.basics.names import PANEL, SCORES, TARGETS
from nni_knas.gradients import MisfitError, ScoringError
from nni_knas.kernel import Judgement, evaluator
from nni_knas.scores import MGM, Score


def kernel_of(score=None, **options):
    return GradientKernelEvaluator((X, Y), score, **options)


@pytest.fixture
def passes():
    """A network that notes its passes, forward and backward."""
    network, seen = small_network(), []

    def note(module, inputs, output):
        seen.append('forward')
        if output.requires_grad:
            output.register_hook(lambda gradient: seen.append('backward'))

    network.register_forward_hook(note)
    return network, seen


class Noisy(nn.Sequential):
    def forward(self, x):
        return super().forward(x) * (1 + torch.rand(()))


def noisy():
    return Noisy(*small_network())


class Broken(Score):
    """Fails in its own way, before or after it has asked for gradients."""

    name = 'broken'
    passes = '1'

    def __init__(self, outcome):
        self.outcome = outcome

    def __call__(self, gradients):
        gradients.mean()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Interrupted(Score):
    name = 'interrupted'
    passes = '1'

    def __call__(self, gradients):
        raise KeyboardInterrupt


class TestStatistics:
    def test_are_finite_numbers_by_name(self):
        panel = kernel_of().statistics(small_network())
        assert tuple(panel) == PANEL
        assert all(type(value) is float and math.isfinite(value) for value in panel.values())

    @pytest.mark.parametrize('normalization', ['sample', 'batch'])
    def test_the_network_is_left_as_it_was(self, normalization):
        network, kernel = everything(), kernel_of(normalization=normalization)
        with assert_undisturbed(network):
            first = kernel.statistics(network)
        with assert_undisturbed(network):
            assert kernel.judge(network) == (kernel.score(network), first)

    def test_are_those_of_the_first_time(self):
        """Whatever has been scored since, with whatever random numbers, and in another thread."""
        kernel, panels = kernel_of(), []
        for seed in range(3):
            torch.manual_seed(seed)
            panels.append(kernel.statistics(small_network()))
            kernel.judge(everything())
        thread = threading.Thread(target=lambda: panels.append(kernel.statistics(small_network())))
        thread.start()
        thread.join()
        assert all(panel == panels[0] for panel in panels)

    def test_are_of_the_loss_and_the_minibatch(self):
        panel = kernel_of().statistics(small_network())
        assert kernel_of(loss=nn.CrossEntropyLoss(label_smoothing=0.5)).statistics(small_network()) != panel
        assert kernel_of(batch_size=3).statistics(small_network()) != panel
        assert kernel_of().quick().statistics(small_network()) != panel

    def test_need_a_network(self):
        for method in (kernel_of().statistics, kernel_of().judge):
            with pytest.raises(TypeError, match=r'takes a torch\.nn\.Module, not str'):
                method('network')
        with pytest.raises(ScoringError, match='no parameter of the network receives a gradient'):
            kernel_of().statistics(nn.Flatten())
        with pytest.raises(MisfitError, match='cannot take inputs'):
            kernel_of().statistics(nn.Linear(9, 3).double())

    def test_that_are_not_finite_are_none(self):
        network = small_network()
        with torch.no_grad():
            network[0].weight[0, 0, 0, 0] = torch.inf
        with pytest.raises(ScoringError):
            kernel_of().statistics(network)


class TestJudge:
    @pytest.mark.parametrize('normalization', ['sample', 'batch'])
    @pytest.mark.parametrize('score', [name for name in SCORES if name not in TARGETS])  # they need more samples
    def test_both_are_those_that_they_are_alone(self, score, normalization):
        """To the last bit, also of scores that take passes of their own, and of networks that draw random numbers."""
        network, kernel = everything(), kernel_of(score, normalization=normalization)
        try:
            expected = kernel.score(network)
        except ScoringError as error:
            expected = error
        found = kernel.judge(network)
        assert found.panel == kernel.statistics(network)
        assert str(found.score) == str(expected) and type(found.score) is type(expected)

    @pytest.mark.parametrize('score', ['steady-rank', 'mgm', 'log-l1', MGM()])
    def test_they_share_their_pass(self, passes, score):
        network, seen = passes
        assert isinstance(kernel_of(score).judge(network), Judgement)
        assert seen == ['forward', 'backward']

    def test_other_passes_are_the_scores_own(self, passes):
        network, seen = passes
        kernel_of('mgm-logits').score(network)
        alone = len(seen)
        kernel_of('mgm-logits').judge(network)
        assert len(seen) == 2 * alone + 2

    @pytest.mark.parametrize('build', [everything, noisy])
    @pytest.mark.parametrize('first', ['at_outputs', 'of_outputs', 'per_sample', 'used', 'mean'])
    def test_a_pass_that_another_one_went_before_is_not_shared(self, first, build):
        """The network may not have been as it was found: here it counts its passes, or draws random numbers."""

        class Twice(Broken):
            def __call__(self, gradients):
                getattr(gradients, first)()
                return super().__call__(gradients)

        assert kernel_of(Twice(0.0)).judge(build()) == (0.0, kernel_of().statistics(build()))

    def test_the_passes_of_the_score_are_let_go(self, monkeypatch):
        """Gradients of each sample are large, and the panel needs none."""

        class PerSample(Broken):
            def __call__(self, gradients):
                gradients.per_sample()
                kept.append(weakref.ref(gradients))
                return 0.0

        kept, of = [], evaluator.statistics
        monkeypatch.setattr(evaluator, 'statistics', lambda gradients: kept.append(kept[0]()) or of(gradients))
        assert kernel_of(PerSample(0.0)).judge(small_network()).score == 0 and kept[1] is None

    def test_scores_of_ones_own_kernel(self):
        class Doubled(GradientKernelEvaluator):
            def score(self, network):
                return 2 * super().score(network)

        kernel = Doubled((X, Y))
        assert kernel.judge(small_network()) == (2 * kernel_of().score(small_network()), kernel.statistics(small_network()))

    @pytest.mark.parametrize('error', [ScoringError('no luck'), ZeroDivisionError(), torch.OutOfMemoryError()])
    def test_a_panel_that_fails_leaves_the_score(self, monkeypatch, error):
        def fails(gradients):
            raise error

        monkeypatch.setattr(evaluator, 'statistics', fails)
        assert kernel_of().judge(small_network()) == (kernel_of().score(small_network()), error)

    @pytest.mark.parametrize('outcome', [ScoringError('no luck'), math.inf])
    def test_a_score_that_fails_leaves_the_panel(self, passes, outcome):
        network, seen = passes
        assert kernel_of(Broken(outcome)).judge(network) == (outcome, kernel_of().statistics(small_network()))
        assert seen == ['forward', 'backward']

    def test_a_network_that_fails_is_not_asked_again(self, passes):
        network, seen = passes
        network[4] = nn.Linear(7, 3).double()
        network[0].register_forward_hook(lambda module, inputs, output: seen.append('begun'))
        score, panel = kernel_of().judge(network)
        assert isinstance(score, MisfitError) and panel is score and seen == ['begun']

    def test_an_interrupt_is_no_failure(self):
        with pytest.raises(KeyboardInterrupt):
            kernel_of(Interrupted()).judge(small_network())


class TestSharedPasses:
    """What one network is judged by is taken for no other."""

    def test_are_over_with_the_judgement(self, passes):
        network, seen = passes
        kernel = kernel_of()
        before = kernel.judge(network)
        with torch.no_grad():
            network[4].weight.mul_(2)
        assert kernel.score(network) != before.score and kernel.statistics(network) != before.panel
        assert len(seen) == 6 and evaluator._shared.get() is None

    def test_are_over_after_an_interrupt(self):
        with pytest.raises(KeyboardInterrupt):
            kernel_of(Interrupted()).judge(small_network())
        assert evaluator._shared.get() is None

    def test_of_networks_and_kernels_within(self):
        """A score may ask for others while it is computed."""

        class Asks(Broken):
            def __call__(self, gradients):
                gradients.mean()
                asked.append(kernel_of().statistics(everything()))
                asked.append(kernel.statistics(everything()))
                asked.append(kernel.quick().statistics(gradients.network))
                return 0.0

        asked, kernel = [], kernel_of(Asks(0.0))
        assert kernel.judge(small_network()).panel == kernel_of().statistics(small_network())
        assert asked[0] == asked[1] == kernel_of().statistics(everything())
        assert asked[2] == kernel_of().quick().statistics(small_network())

    def test_of_other_threads(self):
        class Waits(Broken):
            def __call__(self, gradients):
                barrier.wait(60)
                return super().__call__(gradients)

        barrier, networks, found = threading.Barrier(2), [small_network(), small_network(torch.float32)], {}
        kernel = kernel_of(Waits(0.0))
        threads = [
            threading.Thread(target=lambda number=number: found.update({number: kernel.judge(networks[number]).panel}))
            for number in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [found[number] for number in range(2)] == [kernel_of().statistics(network) for network in networks]
