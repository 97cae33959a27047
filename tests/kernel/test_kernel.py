"""GradientKernelEvaluator: it leaves networks as they were, gives the same score twice, and says what is wrong."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter

import nni
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableConv2d, MutableLinear
from nni.nas.space import RawFormatModelSpace, SimplifiedModelSpace
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from nni_knas import GradientKernelEvaluator
from nni_knas.gradients import MisfitError, ScoringError, seeded
from nni_knas.networks.candidates import architecture_of, build_network, decode_sample, encode_sample
from nni_knas.scores import MGM, Score

SCORES = ['mgm', 'mgm-sampled', 'half-covariance']
CLASSES = 5
X = torch.randn(6, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 4, 2, 1, 3, 2])


def small_network(dtype=torch.float64):
    with seeded(1):
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
                             nn.Linear(128, CLASSES)).to(dtype)


class Everything(nn.Module):
    """Has all that scoring could disturb."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.frozen_norm = nn.BatchNorm2d(8, momentum=None)
        self.instance = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.normed = nn.utils.parametrizations.spectral_norm(nn.Linear(128, 16))
        self.table = nn.Embedding(10, 16, max_norm=0.1)
        self.drop = nn.Dropout(0.5)
        self.shared = nn.Linear(16, 16)
        self.head = nn.Linear(16, CLASSES)
        self.unused = nn.Parameter(torch.randn(60))
        self.register_buffer('steps', torch.zeros(3))
        self.register_buffer('replaced', torch.ones(2))
        self.register_buffer('nothing', None)
        self.register_buffer('not_saved', torch.ones(2), persistent=False)

    def forward(self, x):
        self.steps += 1
        self.not_saved.mul_(2)
        self.replaced = self.replaced * 3
        self.nothing = torch.ones(1)
        x = self.instance(self.frozen_norm(self.norm(self.conv(x)))).relu().flatten(1)
        x = self.normed(x) + self.table(torch.arange(x.shape[-1] % 10, 10)).sum(0)
        x = self.drop(self.shared(self.shared(x).tanh()))
        noise = torch.rand(()) + np.random.rand() + random.random()
        return self.head(x) * (1 + 0 * noise)


def everything():
    with seeded(7):
        network = Everything().double()
        network.train()
        network.frozen_norm.eval()
        network.drop.eval()
        network.normed.eval()
        network.conv.bias.requires_grad = False
        network.head.bias.requires_grad = False
        for p in list(network.parameters())[::2]:
            p.grad = torch.randn_like(p)
    return network


def photograph(network):
    """All that may not change: objects by their identity, tensors by their values, too."""
    tensors = dict(network.named_parameters(remove_duplicate=False))
    buffers = {f'{path}.{name}': buffer for path, module in network.named_modules()
               for name, buffer in module._buffers.items()}
    return {
        'objects': {name: id(t) for name, t in {**tensors, **buffers}.items()},
        'values': {name: t if t is None else t.detach().clone() for name, t in {**tensors, **buffers}.items()},
        'types': {name: (type(t), t.dtype, t.requires_grad, t.is_leaf) for name, t in tensors.items()},
        'grads': {name: (id(p.grad), p.grad if p.grad is None else p.grad.clone()) for name, p in tensors.items()},
        'modes': {name: module.training for name, module in network.named_modules()},
        'hooks': {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in network.named_modules()},
        'random': (torch.get_rng_state(), np.random.get_state()[1].tolist(), np.random.get_state()[2], random.getstate()),
        'torch': (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.backends.cudnn.deterministic,
                  torch.backends.cudnn.benchmark, torch.backends.cudnn.enabled),
    }


@contextlib.contextmanager
def assert_undisturbed(network):
    before = photograph(network)
    yield
    after = photograph(network)
    for part in before:
        assert_equal(before[part], after[part])


def assert_equal(a, b):
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_equal(x, y)
    else:
        assert a == b


# Networks are left as they were found.


@pytest.mark.parametrize('normalization', ['sample', 'batch'])
@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('found', ['mixed', 'training', 'evaluation'])
def test_network_is_left_as_it_was(score, normalization, found):
    network = everything()
    if found != 'mixed':
        network.train(found == 'training')
    kernel = GradientKernelEvaluator((X, Y), score, normalization=normalization)
    with assert_undisturbed(network):
        first = kernel.score(network)
    with assert_undisturbed(network):
        assert kernel.score(network) == first
    with assert_undisturbed(network):
        kernel.check(network)


@pytest.mark.parametrize('normalization', ['sample', 'batch'])
@pytest.mark.parametrize('score', SCORES)
def test_mode_that_the_network_is_found_in_does_not_matter(score, normalization):
    network = everything()
    network.norm.running_var.fill_(5)
    kernel = GradientKernelEvaluator((X, Y), score, normalization=normalization)
    assert kernel.score(network.train()) == kernel.score(network.eval()) != 0


def test_disturbances_would_be_seen():
    """The check of the tests above finds what one pass in training mode changes."""
    network = everything()
    before = photograph(network)
    F.cross_entropy(network.train()(X), Y).backward()
    after = photograph(network)
    for name in ('norm.running_mean', 'norm.num_batches_tracked', 'instance.running_var', '.steps', '.replaced', '.nothing',
                 '.not_saved', 'table.weight', 'normed.parametrizations.weight.0._u'):
        with pytest.raises(AssertionError):
            assert_equal(before['values'][name], after['values'][name])
    for part in ('grads', 'random', 'modes'):
        with pytest.raises(AssertionError):
            assert_equal(before[part], after[part])


class Failing(Everything):
    """Fails in its n-th forward pass, after all layers."""

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.passes = 0

    def forward(self, x):
        out = super().forward(x)
        self.passes += 1
        if self.passes == self.number:
            raise KeyError('a fault of the network')
        return out


@pytest.mark.parametrize(('score', 'micro_batch', 'number'), [
    ('mgm', None, 1), ('mgm', 2, 2), ('half-covariance', None, 1), ('half-covariance', None, 3)])
def test_network_is_left_as_it_was_by_a_failure_in_the_middle(score, micro_batch, number):
    network = Failing(number).double()
    network.norm.eval()
    kernel = GradientKernelEvaluator((X, Y), score, micro_batch=micro_batch)
    with assert_undisturbed(network), pytest.raises(KeyError, match='a fault of the network'):
        kernel.score(network)


def test_network_is_left_as_it_was_by_a_failing_loss_or_score():
    class Fails(Score):
        name = 'fails'

        def __call__(self, gradients):
            gradients.mean()
            gradients.per_sample()
            raise ZeroDivisionError

    def bad_loss(outputs, targets):
        raise ZeroDivisionError

    network = everything()
    with assert_undisturbed(network), pytest.raises(ZeroDivisionError):
        GradientKernelEvaluator((X, Y), Fails()).score(network)
    with assert_undisturbed(network), pytest.raises(MisfitError):
        GradientKernelEvaluator((X, Y), loss=bad_loss).score(network)


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize('score', SCORES)
def test_scoring_within_no_grad(score, mode):
    network = everything()
    expected = GradientKernelEvaluator((X, Y), score).score(network)
    kernel = GradientKernelEvaluator((X, Y), score)
    with mode(), assert_undisturbed(network):
        kernel.check(network)
        assert kernel.score(network) == expected
    assert kernel.score(network) == expected


def test_minibatch_that_was_drawn_in_inference_mode():
    kernel = GradientKernelEvaluator((X, Y), batch_size=4)
    with torch.inference_mode():
        drawn = kernel.minibatch
    assert kernel.minibatch is drawn
    assert kernel.score(small_network()) == GradientKernelEvaluator((X, Y), batch_size=4).score(small_network())


def test_training_goes_on_after_scoring():
    def train(kernel):
        network = everything()
        optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1, momentum=0.9)
        with seeded(3):
            for _ in range(3):
                if kernel:
                    kernel.score(network)
                optimiser.zero_grad()
                F.cross_entropy(network(X), Y).backward()
                optimiser.step()
        return network.state_dict()

    for score in SCORES:
        assert_equal(train(GradientKernelEvaluator((X, Y), score)), train(None))


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


@pytest.mark.parametrize(('arguments', 'error', 'sentence'), [
    ({'dataset': None}, ValueError, 'the kernel has no data: give a torch Dataset, a DataLoader, or a pair'),
    ({'dataset': (X[:0], Y[:0])}, ValueError, 'the kernel has no data, the one given is empty'),
    ({'dataset': (X, Y[:2])}, ValueError, r'the same number of samples, not \[6\] and \[2\]'),
    ({'dataset': 'cifar10'}, TypeError, 'cannot draw data from str'),
    ({'score': 'mgm-samplet'}, ValueError, "unknown score 'mgm-samplet' .did you mean 'mgm-sampled'..: the known scores"),
    ({'score': MGM}, TypeError, 'score must be a name'),
    ({'batch_size': 0}, ValueError, 'batch_size is 0: it has to be a number of samples, 1 or more'),
    ({'batch_size': -3}, ValueError, 'batch_size is -3'),
    ({'batch_size': 2.5}, ValueError, 'batch_size is 2.5'),
    ({'batch_size': '8'}, ValueError, "batch_size is '8'"),
    ({'micro_batch': 0}, ValueError, 'micro_batch is 0: it has to be a number of samples, 1 or more'),
    ({'seed': -1}, ValueError, 'seed is -1: it has to be a whole number, 0 or more'),
    ({'seed': 0.5}, ValueError, 'seed is 0.5'),
    ({'seed': None}, ValueError, 'seed is None'),
    ({'normalization': 'layer'}, ValueError, 'unknown normalization \'layer\': it is "sample" or "batch"'),
    ({'normalization': None}, ValueError, 'unknown normalization None'),
    ({'loss': 'cross_entropy'}, TypeError, r"loss is 'cross_entropy': it has to be a callable loss\(outputs, targets\)"),
    ({'device': 'gpu'}, ValueError, 'unknown device \'gpu\': it is "cpu", "cuda" or "cuda:N"'),
    ({'score': 'half-covariance', 'batch_size': 3}, ValueError, 'two halves of at least 2 samples: batch_size is 3'),
])
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
    kernel = GradientKernelEvaluator((X, Y + 2))
    with pytest.raises(MisfitError, match='the targets are classes 2 to 6, but the network has 5 outputs: classes must be '
                                          '0 to 4'):
        kernel.check(network)
    with pytest.raises(IndexError) as of_torch:
        F.cross_entropy(network(X), Y + 2)
    for score, n in {'mgm': 6, 'mgm-sampled': 6, 'half-covariance': 1}.items():
        with pytest.raises(MisfitError) as caught:
            GradientKernelEvaluator((X, Y + 2), score).score(network)
        assert str(caught.value) == (f'the loss cannot compare outputs of shape {n}x5 (float64) with targets of shape {n} '
                                     f'(int64): {of_torch.value}')
    with pytest.raises(MisfitError, match='the targets are classes -1 to 3'):
        GradientKernelEvaluator((X, Y - 1)).check(network)


@pytest.mark.parametrize('ask', ['check', 'score'])
@pytest.mark.parametrize(('targets', 'described'), [(Y.double(), r'6 \(float64\)'), (Y.int(), r'6 \(int32\)'),
                                                    (torch.rand(6, 3), r'6x3 \(float64\)')], ids=['float', 'int', 'wide'])
def test_targets_that_cross_entropy_cannot_take(targets, described, ask):
    with pytest.raises(MisfitError, match=r'cannot compare outputs of shape 6x5 \(float64\) with targets of shape '
                       + described if ask == 'score' else 'the loss cannot compare outputs'):
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
@pytest.mark.parametrize('error', [ValueError('only squares'), RuntimeError('a fault'), KeyError('name'), OSError()],
                         ids=lambda error: type(error).__name__)
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
    return TensorDataset(torch.randn(n, 3, 6, 6, generator=generator, dtype=torch.float64),
                         torch.randint(0, CLASSES, (n,), generator=generator))


def test_kernel_travels_to_trials():
    kernel = GradientKernelEvaluator(make_dataset(20, seed=4), 'mgm-sampled', batch_size=7, seed=2, normalization='batch')
    expected = kernel.score(small_network())
    text = nni.dump(kernel)
    assert len(text) < 2000  # how the data are made, not the data
    again = nni.load(text)
    assert isinstance(again, GradientKernelEvaluator)
    assert (again.batch_size, again.seed, again.normalization) == (7, 2, 'batch')
    assert again.score(small_network()) == expected


# Candidates.

choices = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
nested = st.recursive(choices, lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner, inner), st.just(())))
samples = st.dictionaries(st.text(max_size=5), nested, max_size=5)


@given(samples)
def test_samples_are_read_back_as_they_were_written(sample):
    text = encode_sample(sample)
    again = decode_sample(text)
    assert again == sample
    assert repr(again) == repr({key: sample[key] for key in again})  # 1, True and 1.0 are equal, but not the same
    assert encode_sample(dict(reversed(sample.items()))) == text


@given(samples, samples)
def test_different_samples_have_different_texts(first, second):
    same = repr(sorted(first.items(), key=lambda item: item[0])) == repr(sorted(second.items(), key=lambda item: item[0]))
    assert (encode_sample(first) == encode_sample(second)) == same


def test_numpy_scalars_become_numbers():
    sample = {'width': np.int64(8), 'rate': np.float64(0.5), 'wide': np.bool_(True), 'name': np.str_('a')}
    assert decode_sample(encode_sample(sample)) == {'width': 8, 'rate': 0.5, 'wide': True, 'name': 'a'}


@pytest.mark.parametrize('wrong', [nn.Linear(1, 1), {1, 2}, np.zeros(2), lambda: 1], ids=lambda wrong: type(wrong).__name__)
def test_choices_that_cannot_be_written(wrong):
    with pytest.raises(TypeError, match='choices have to be numbers, strings, booleans, None, or lists and tuples'):
        encode_sample({'op': wrong})


def test_architecture_is_the_sample_without_hyper_parameters():
    assert architecture_of({'a': 1, 'rate': 0.1}, {'rate'}) == {'a': 1}


@nni.trace
class Space(ModelSpace):
    def __init__(self):
        super().__init__()
        width = nni.choice('width', [4, 8])
        self.op = LayerChoice([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)], label='op')
        self.conv = MutableConv2d(3, width, 3)
        self.head = MutableLinear(width, CLASSES)

    def forward(self, x):
        return self.head(self.conv(self.op(x)).relu().mean((2, 3)))


def model(kind, sample):
    evaluator = FunctionalEvaluator(lambda network: 0)
    return kind.from_model(Space(), evaluator).freeze(sample)


SAMPLES = [{'width': width, 'op': op} for width in (4, 8) for op in (0, 1)]


@pytest.mark.parametrize('sample', SAMPLES, ids=str)
def test_weights_are_the_same_in_all_formats(sample):
    simplified = build_network(model(SimplifiedModelSpace, sample), 3).state_dict()
    raw = build_network(model(RawFormatModelSpace, sample), 3).state_dict()
    assert Counter(simplified.keys()) == Counter(raw.keys())
    assert_equal(dict(simplified), dict(raw))


@pytest.mark.parametrize('kind', [SimplifiedModelSpace, RawFormatModelSpace])
def test_weights_depend_on_seed_and_architecture_alone(kind):
    spaces = [kind.from_model(Space(), FunctionalEvaluator(lambda network: 0)) for _ in range(2)]
    torch.manual_seed(1)
    forth = [build_network(spaces[0].freeze(sample), 3) for sample in SAMPLES]
    torch.manual_seed(2)
    back = [build_network(spaces[1].freeze(sample), 3) for sample in reversed(SAMPLES)][::-1]
    for a, b in zip(forth, back):
        assert_equal(dict(a.state_dict()), dict(b.state_dict()))
    other = build_network(spaces[0].freeze(SAMPLES[0]), 4)
    assert not torch.equal(other.head.weight, forth[0].head.weight)
    assert not torch.equal(forth[0].op.weight, forth[1].op.weight)
    assert torch.equal(forth[0].head.weight, forth[1].head.weight)  # candidates that have a layer in common have its weights


def test_candidates_have_weights_of_their_own():
    space = RawFormatModelSpace.from_model(Space(), FunctionalEvaluator(lambda network: 0))
    first = build_network(space.freeze(SAMPLES[0]), 3)
    before = {name: value.clone() for name, value in first.state_dict().items()}
    second = build_network(space.freeze(SAMPLES[0]), 3)
    with torch.no_grad():
        for p in second.parameters():
            p.add_(1)
    assert_equal(before, dict(first.state_dict()))


def test_building_leaves_the_random_state():
    frozen = model(SimplifiedModelSpace, SAMPLES[0])
    state = torch.get_rng_state(), random.getstate()
    build_network(frozen, 3)
    assert torch.equal(torch.get_rng_state(), state[0]) and random.getstate() == state[1]


def test_score_as_an_evaluator_is_the_score_of_the_built_network():
    kernel = GradientKernelEvaluator((X.float(), Y), seed=3)
    frozen = SimplifiedModelSpace.from_model(Space(), kernel).freeze(SAMPLES[0])
    assert kernel._execute(frozen) == kernel.score(build_network(frozen, 3))


def test_lazy_layers_get_a_sentence():
    network = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(ScoringError, match='lazy layers that do not know their shapes'):
        GradientKernelEvaluator((torch.randn(4, 5), torch.randint(0, 3, (4,)))).score(network)
    network(torch.randn(4, 5))
    assert GradientKernelEvaluator((torch.randn(4, 5), torch.randint(0, 3, (4,)))).score(network) > 0


IMAGES, LABELS = torch.randn(6, 3, 16, 12), torch.tensor([0, 1, 2, 0, 1, 2])


def image_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, 3))


def test_resolution_makes_images_smaller():
    small = nn.functional.adaptive_avg_pool2d(IMAGES, (8, 6))
    assert (GradientKernelEvaluator((IMAGES, LABELS), 'mgm', resolution=8).score(image_network())
            == GradientKernelEvaluator((small, LABELS), 'mgm').score(image_network()))


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
