"""GradientKernelEvaluator: it gives the same score twice, and says what is wrong."""

from __future__ import annotations

import threading

import nni
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from undisturbed import CLASSES, SCORES, X, Y, assert_equal, everything, small_network

from nni_knas import GradientKernelEvaluator
from nni_knas.gradients import MisfitError, ScoringError
from nni_knas.scores import MGM, Score

# The same score again.


@pytest.mark.parametrize('score', SCORES)
def test_same_score_whatever_happens_around(score):
    expected = GradientKernelEvaluator((X, Y), score, batch_size=4, seed=5).score(small_network())
    kernel = GradientKernelEvaluator((X, Y), score, batch_size=4, seed=5)
    scores = []
    for around in (0, 1):
        torch.manual_seed(around)
        np.random.seed(around)
        scores.append(kernel.score(small_network()))
    kernel.score(everything())
    scores.append(kernel.score(small_network()))
    worker = threading.Thread(target=lambda: scores.append(kernel.score(small_network())))
    worker.start()
    worker.join()
    assert scores == [expected] * 4


@pytest.mark.parametrize('threads', [2, 3])
def test_number_of_threads_does_not_matter(threads):
    kernel = GradientKernelEvaluator((X, Y))
    expected = kernel.score(small_network())
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert kernel.score(small_network()) == pytest.approx(expected, rel=1e-10)
    finally:
        torch.set_num_threads(before)


def test_minibatch_depends_on_the_seed():
    kernels = [GradientKernelEvaluator((X, Y), batch_size=4, seed=seed) for seed in (0, 0, 1)]
    scores = [kernel.score(small_network()) for kernel in kernels]
    assert scores[0] == scores[1] != scores[2]
    assert kernels[0].minibatch.size == 4


@pytest.mark.parametrize('score', SCORES)
def test_mixed_precisions(score):
    expected = GradientKernelEvaluator((X.float().double(), Y), score).score(small_network())
    single, double = small_network(torch.float32), small_network()
    assert GradientKernelEvaluator((X.float(), Y), score).score(double) == expected
    assert GradientKernelEvaluator((X, Y), score).score(single) == pytest.approx(expected, rel=1e-3)
    assert GradientKernelEvaluator((X.float().numpy(), Y.numpy()), score).score(double) == expected


def test_float_targets_follow_the_network():
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 1)).double()
    score = GradientKernelEvaluator((X, torch.ones(6, 1)), loss=F.mse_loss).score(network)
    assert score == pytest.approx(GradientKernelEvaluator((X, torch.ones(6, 1).double()), loss=F.mse_loss).score(network))


# Several networks.


def test_score_many_takes_networks_and_factories():
    kernel = GradientKernelEvaluator((X, Y))
    broken = nn.Sequential(nn.Flatten(), nn.Linear(7, CLASSES)).double()
    one = kernel.score(small_network())
    with pytest.warns(UserWarning, match=r'network 2 has no score: the network cannot take inputs of shape 6x3x6x6'):
        scores = kernel.score_many([small_network(), small_network, broken, small_network()])
    assert scores.dtype == np.float64 and scores.shape == (4,)
    assert scores[[0, 1, 3]].tolist() == [one] * 3
    assert np.isnan(scores[2])


def test_score_many_builds_under_the_seed_of_the_kernel():
    def factory():
        return nn.Sequential(nn.Flatten(), nn.Linear(108, CLASSES)).double()

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = GradientKernelEvaluator((X, Y), seed=2).score_many([factory, factory])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert first[0] == first[1] == GradientKernelEvaluator((X, Y), seed=2).score_many(iter([factory]))[0]
    assert first[0] != GradientKernelEvaluator((X, Y), seed=3).score_many([factory])[0]


def test_score_many_of_a_failing_factory_and_of_nothing():
    def fails():
        raise OSError('no weights')

    kernel = GradientKernelEvaluator((X, Y))
    with pytest.warns(UserWarning, match='network 0 has no score: no weights'):
        assert np.isnan(kernel.score_many([fails])).all()
    assert kernel.score_many([]).shape == (0,)


def test_order_does_not_matter():
    kernel = GradientKernelEvaluator((X, Y))
    networks = [small_network(), everything(), nn.Sequential(nn.Flatten(), nn.Linear(108, CLASSES)).double()]
    assert kernel.score_many(networks).tolist() == kernel.score_many(networks[::-1]).tolist()[::-1]


# What is wrong.


@pytest.mark.parametrize(
    ('arguments', 'error', 'sentence'),
    [
        ({'dataset': None}, ValueError, 'the kernel has no data: give a torch Dataset, a DataLoader, or a pair'),
        ({'dataset': (X[:0], Y[:0])}, ValueError, 'the kernel has no data, the one given is empty'),
        ({'dataset': (X, Y[:2])}, ValueError, r'the same number of samples, not \[6\] and \[2\]'),
        ({'dataset': 'cifar10'}, TypeError, 'cannot draw data from str'),
        (
            {'score': 'mgm-samplet'},
            ValueError,
            "unknown score 'mgm-samplet' .did you mean 'mgm-sampled'..: the known scores",
        ),
        ({'score': MGM}, TypeError, 'score must be a name'),
        ({'batch_size': 0}, ValueError, 'batch_size is 0: it has to be a number of samples, 1 or more'),
        ({'batch_size': -3}, ValueError, 'batch_size is -3'),
        ({'batch_size': 2.5}, ValueError, 'batch_size is 2.5'),
        ({'batch_size': '8'}, ValueError, "batch_size is '8'"),
        ({'micro_batch': 0}, ValueError, 'micro_batch is 0: it has to be a number of samples, 1 or more'),
        ({'seed': -1}, ValueError, 'seed is -1: it has to be a whole number, 0 or more'),
        ({'seed': 0.5}, ValueError, 'seed is 0.5'),
        ({'seed': None}, ValueError, 'seed is None'),
        ({'seed': True}, ValueError, 'seed is True'),
        ({'seed': 2**32}, ValueError, 'seed is 4294967296: it has to be a whole number, 0 or more and at most 4294967295'),
        ({'normalization': 'layer'}, ValueError, 'unknown normalization \'layer\': it is "sample" or "batch"'),
        ({'normalization': None}, ValueError, 'unknown normalization None'),
        ({'loss': 'cross_entropy'}, TypeError, r"loss is 'cross_entropy': it has to be a callable loss\(outputs, targets\)"),
        ({'device': 'gpu'}, ValueError, 'unknown device \'gpu\': it is "cpu", "cuda" or "cuda:N"'),
        ({'device': 'cuda:99'}, ValueError, "there is no device 'cuda:99': torch sees .* CUDA device"),
        ({'score': 'half-covariance', 'batch_size': 3}, ValueError, 'two halves of at least 2 samples: batch_size is 3'),
    ],
)
def test_arguments_are_refused(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        GradientKernelEvaluator(**{'dataset': (X, Y), **arguments})


class Heard(nn.Sequential):
    """Remembers what torch said of its inputs: each version words it otherwise."""

    def forward(self, x):
        try:
            return super().forward(x)
        except Exception as error:
            self.said = str(error).splitlines()[0]
            raise


@pytest.mark.parametrize('ask', ['check', 'score'])
@pytest.mark.parametrize('score', SCORES)
def test_inputs_that_the_network_cannot_take(score, ask):
    network = Heard(nn.Flatten(), nn.Linear(50, CLASSES)).double()
    kernel = GradientKernelEvaluator((X, Y), score)
    with pytest.raises(MisfitError) as caught:
        getattr(kernel, ask)(network)
    assert str(caught.value) == f'the network cannot take inputs of shape 6x3x6x6 (float64): {network.said}'


@pytest.mark.parametrize('ask', ['check', 'score'])
def test_arguments_that_the_network_does_not_have(ask):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, CLASSES)

        def forward(self, x, mask):
            return self.layer(x) * mask

    with pytest.raises(MisfitError, match=r'the network cannot take inputs .*mask'):
        getattr(GradientKernelEvaluator((X, Y)), ask)(Two().double())


def test_class_indices_out_of_range():
    network = small_network()
    sentence = 'the targets are classes 2 to 6, but the network has 5 outputs: classes must be 0 to 4'
    for loss in (None, torch.nn.CrossEntropyLoss()):
        with pytest.raises(MisfitError, match=sentence):
            GradientKernelEvaluator((X, Y + 2), loss=loss).check(network)
        for score in ('mgm', 'mgm-sampled', 'half-covariance', 'steady-rank'):
            with pytest.raises(MisfitError, match=sentence):
                GradientKernelEvaluator((X, Y + 2), score, loss=loss).score(network)
    with pytest.raises(MisfitError, match='the targets are classes -1 to 3'):
        GradientKernelEvaluator((X, Y - 1)).check(network)


@pytest.mark.parametrize('ask', ['check', 'score'])
@pytest.mark.parametrize(
    ('targets', 'described'),
    [(Y.double(), r'6 \(float64\)'), (Y.int(), r'6 \(int32\)'), (torch.rand(6, 3), r'6x3 \(float64\)')],
    ids=['float', 'int', 'wide'],
)
def test_targets_that_cross_entropy_cannot_take(targets, described, ask):
    with pytest.raises(
        MisfitError,
        match=r'cannot compare outputs of shape 6x5 \(float64\) with targets of shape ' + described
        if ask == 'score'
        else 'the loss cannot compare outputs',
    ):
        getattr(GradientKernelEvaluator((X, targets)), ask)(small_network())


@pytest.mark.parametrize('ask', ['check', 'score'])
def test_outputs_without_a_tensor(ask):
    class Wordy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return {}

    with pytest.raises(MisfitError, match='the network returned dict, not a tensor, a tuple or a dict of tensors'):
        getattr(GradientKernelEvaluator((X, Y)), ask)(Wordy().double())


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize(
    'error',
    [ValueError('only squares'), RuntimeError('a fault'), KeyError('name'), OSError()],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_the_network_raises_itself_pass_through(score, error):
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 60)

        def forward(self, x):
            raise error

    with pytest.raises(type(error)) as caught:
        GradientKernelEvaluator((X, Y), score).score(Picky().double())
    assert caught.value is error


def test_assertion_of_the_network_passes_through():
    class Picky(nn.Module):
        def forward(self, x):
            assert len(x.shape) == 3, 'pictures without channels'
            return x

    with pytest.raises(AssertionError, match='pictures without channels'):
        GradientKernelEvaluator((X, Y)).score(Picky())


@pytest.mark.parametrize('wrong', [nn.Linear, 'network', None])
def test_only_modules_have_a_score(wrong):
    with pytest.raises(TypeError, match=r'score takes a torch.nn.Module, not (type|str|NoneType)'):
        GradientKernelEvaluator((X, Y)).score(wrong)


def test_errors_are_value_errors_of_one_line():
    assert issubclass(MisfitError, ScoringError) and issubclass(ScoringError, ValueError)
    with pytest.raises(MisfitError) as caught:
        GradientKernelEvaluator((X, Y)).score(nn.Sequential(nn.Conv2d(9, 2, 1), nn.Flatten()).double())
    assert len(str(caught.value).splitlines()) == 1
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_check_takes_no_gradient_and_accepts_what_fits():
    network = small_network()
    seen = []
    network.register_forward_hook(lambda _, inputs, out: seen.append((len(inputs[0]), out.requires_grad)))
    GradientKernelEvaluator((X, Y)).check(network)
    GradientKernelEvaluator((X, Y), normalization='batch').check(network)
    assert seen == [(1, False), (6, False)]


# As an evaluator of NNI.


def test_evaluate_is_the_score():
    kernel = GradientKernelEvaluator((X, Y))
    assert kernel.evaluate(small_network()) == kernel.score(small_network())


def test_evaluate_refuses_scores_that_are_not_finite():
    network = small_network()
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] = torch.nan
    kernel = GradientKernelEvaluator((X, Y), 'mgm')
    assert np.isnan(kernel.score(network))
    with pytest.raises(ScoringError, match='the score is nan'):
        kernel.evaluate(network)
    with pytest.raises(ScoringError, match='a gradient is not finite: the network explodes at its initial weights'):
        GradientKernelEvaluator((X, Y)).evaluate(network)


def test_representation_names_what_matters():
    kernel = GradientKernelEvaluator((X, Y), 'mgm-sampled', batch_size=4, seed=3, device='cpu')
    assert "score='mgm-sampled', batch_size=4, seed=3, normalization='sample', device='cpu'" in repr(kernel)


@nni.trace
def make_dataset(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(
        torch.randn(n, 3, 6, 6, generator=generator, dtype=torch.float64),
        torch.randint(0, CLASSES, (n,), generator=generator),
    )


def test_kernel_travels_to_trials():
    kernel = GradientKernelEvaluator(make_dataset(20, seed=4), 'mgm-sampled', batch_size=7, seed=2, normalization='batch')
    expected = kernel.score(small_network())
    text = nni.dump(kernel)
    assert len(text) < 2000  # how the data are made, not the data
    again = nni.load(text)
    assert isinstance(again, GradientKernelEvaluator)
    assert (again.batch_size, again.seed, again.normalization) == (7, 2, 'batch')
    assert again.score(small_network()) == expected


IMAGES, LABELS = torch.randn(6, 3, 16, 12), torch.tensor([0, 1, 2, 0, 1, 2])


def image_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def test_resolution_makes_images_smaller():
    small = nn.functional.adaptive_avg_pool2d(IMAGES, (8, 6))
    assert GradientKernelEvaluator((IMAGES, LABELS), 'mgm', resolution=8).score(image_network()) == GradientKernelEvaluator(
        (small, LABELS), 'mgm'
    ).score(image_network())


def test_images_are_not_made_larger():
    kernel = GradientKernelEvaluator((IMAGES, LABELS), 'mgm', resolution=40)
    assert torch.equal(kernel.minibatch.inputs, IMAGES)


def test_resolution_of_what_is_no_image_gets_a_sentence():
    with pytest.raises(ValueError, match=r'resolution=8 makes images smaller, but the inputs, of shape 6x5 .* are none'):
        GradientKernelEvaluator((torch.randn(6, 5), LABELS), resolution=8).score(nn.Linear(5, 3))


@pytest.mark.parametrize('name', ['resolution', 'threads', 'batch_size', 'micro_batch'])
@pytest.mark.parametrize('value', [0, -1, 1.5, True, 'all'])
def test_numbers_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f'{name} is {value!r}: it has to be a number of'):
        GradientKernelEvaluator((IMAGES, LABELS), **{name: value})


@pytest.mark.parametrize('threads', [1, 2])
def test_threads_while_scoring_and_after(threads):
    seen = []

    class Network(nn.Linear):
        def forward(self, x):
            seen.append(torch.get_num_threads())
            if len(seen) > 1:
                raise RuntimeError('broken')
            return super().forward(x)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        kernel = GradientKernelEvaluator((torch.randn(6, 5), LABELS), 'mgm', threads=threads)
        kernel.score(Network(5, 3))
        assert torch.get_num_threads() == 3
        with pytest.raises(RuntimeError, match='broken'):
            kernel.score(Network(5, 3))
        assert torch.get_num_threads() == 3 and seen == [threads, threads]
    finally:
        torch.set_num_threads(before)


def test_quick_kernel():
    images, labels = torch.randn(16, 3, 48, 40), torch.arange(16) % 3
    kernel = GradientKernelEvaluator((images, labels), 'steady-rank')
    quick = kernel.quick()
    assert quick.minibatch.inputs.shape == (2, 3, 24, 20) and torch.equal(quick.minibatch.targets, labels[:2])
    assert kernel.minibatch.inputs.shape == (16, 3, 48, 40) and kernel.batch_size == 16
    assert quick.score(image_network()) != kernel.score(image_network())
    assert GradientKernelEvaluator((images[..., :20, :20], labels)).quick().minibatch.inputs.shape == (2, 3, 16, 16)
    assert GradientKernelEvaluator((torch.randn(16, 5), labels)).quick().minibatch.inputs.shape == (2, 5)
    assert GradientKernelEvaluator((images, labels), batch_size=3).quick() is None


def test_counters_of_batches_are_left_alone():
    network = image_network()
    network[1].num_batches_tracked.fill_(7)
    counter = network[1].num_batches_tracked
    GradientKernelEvaluator((IMAGES, LABELS), 'mgm').score(network)
    assert network[1].num_batches_tracked is counter and counter == 7


def test_statistics_are_restored_after_a_score_that_calls_the_network_itself():
    class Careless(Score):
        name, passes = 'careless', '1'

        def __call__(self, gradients):
            return float(gradients.network(gradients.minibatch.inputs).sum())

    network = image_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    GradientKernelEvaluator((IMAGES, LABELS), Careless()).score(network)
    assert_equal(before, dict(network.state_dict()))


def test_a_train_method_of_its_own_is_obeyed():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    network = image_network()
    network[1] = Frozen(4)
    kernel = GradientKernelEvaluator((IMAGES, LABELS), 'mgm')
    live = kernel.score(image_network())
    frozen = kernel.score(network)
    network[1] = nn.BatchNorm2d(4)
    assert frozen != live == kernel.score(network)
