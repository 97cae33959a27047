"""Exported networks, used in new processes that have neither NNI nor nni_knas."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from nni.nas.hub.pytorch import DARTS, MobileNetV3Space, NasBench201
from nni.nas.space import SimplifiedModelSpace
from places import DOCS
from strangers import STRANGER, USE, outputs_of
from torch import nn
from torch.utils._pytree import tree_map

from nni_knas.gradients.gradients import arguments_of
from nni_knas.networks import exporting as module
from nni_knas.networks.candidates import random_models
from nni_knas.networks.construction import build_network
from nni_knas.networks.exporting import export
from nni_knas.spaces import FunctionSpace

FORMATS = ('program', 'state-dict', 'onnx')


def build(parameters):
    return nn.Sequential(
        nn.Linear(6, parameters['width']),
        nn.Dropout(),
        nn.BatchNorm1d(parameters['width']),
        nn.Linear(parameters['width'], 3),
    )


class Pair(nn.Module):
    """Two inputs, one of them of whole numbers."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.layer = nn.Linear(4, 3)

    def forward(self, tokens, mask):
        return self.layer((self.embedding(tokens) * mask[..., None]).mean(1))


class FixedBatch(nn.Module):
    """Its forward knows the number of samples."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x.reshape(4, 6))


class Unexportable(nn.Module):
    def forward(self, x):
        return x * (1 if x.sum().item() > 0 else 2)


def images(batch, seed=0):
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def network_of(space, shape=(3, 32, 32)):
    """A network of a space whose BatchNorms have seen data."""
    [model] = random_models(SimplifiedModelSpace.from_model(space), 1, seed=1)
    network = build_network(model, 0)
    network.train()
    with torch.no_grad():
        network(torch.randn(16, *shape, generator=torch.Generator().manual_seed(1)))
    return network


SPACES = {
    'NasBench201': lambda: NasBench201(8, 1),
    'DARTS': lambda: DARTS(8, 3, 'cifar'),
    'MobileNetV3Space': lambda: MobileNetV3Space(10, (16, 16, 16, 16, 16, 32, 32, 32, 64), depth_range=(1, 2)),
}


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """A network of a space, its folder and its files."""

    @functools.cache
    def exported(space):
        network, folder = network_of(SPACES[space]()), tmp_path_factory.mktemp(space)
        return network, folder, export(network, images(2), folder, FORMATS)

    return exported


@pytest.fixture(scope='module')
def run_without_nni(tmp_path_factory):
    """Run code where there is neither NNI nor nni_knas: in a process of its own, forked from one that has imported torch."""
    folder = tmp_path_factory.mktemp('stranger')
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), folder / 'first.pt2')
    stranger = subprocess.Popen(
        [sys.executable, '-c', STRANGER],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )

    def run(code, folder):
        stranger.stdin.write(json.dumps([str(folder), code]) + '\n')
        stranger.stdin.flush()
        error = json.loads(stranger.stdout.readline())
        assert not error, error

    with stranger:
        yield run
        stranger.stdin.close()


@pytest.fixture
def assert_same(run_without_nni):
    """The exported files of a folder give the network's outputs for two batches, in a process without NNI."""

    def assert_same(network, folder, *batches):
        torch.save(batches, folder / 'inputs.pt')
        run_without_nni(USE, folder)
        for name, outputs in torch.load(folder / 'outputs.pt').items():
            for found, inputs in zip(outputs, batches, strict=True):
                wanted = outputs_of(network, inputs)
                assert torch.allclose(found, wanted, rtol=0, atol=1e-5 * wanted.abs().max().item()), name

    return assert_same


def assert_no_reference_to_nni(folder):
    import onnx

    with zipfile.ZipFile(folder / 'winner.pt2') as archive:
        text = [name.encode() + archive.read(name) for name in archive.namelist() if 'weight_' not in name]
    model = onnx.load(folder / 'winner.onnx')
    for tensor in model.graph.initializer:
        tensor.ClearField('raw_data')
    for content in [*text, model.SerializeToString()]:
        assert not re.search(rb'(?<![A-Za-z])nni(?![A-Za-z])|nni_knas|site-packages', content)


@pytest.mark.slow
@pytest.mark.parametrize('space', SPACES)
def test_networks_of_nnis_spaces(space, exported, assert_same):
    network, folder, files = exported(space)
    assert files == {
        'program': folder / 'winner.pt2',
        'state-dict': folder / 'winner.pt',
        'onnx': folder / 'winner.onnx',
        'description': folder / 'winner.json',
    }
    assert_same(network, folder, images(5, seed=3), images(1, seed=4))
    assert_no_reference_to_nni(folder)
    assert json.loads((folder / 'winner.json').read_text())['batch'] == 'any'


@pytest.mark.slow
def test_network_of_a_function(tmp_path, assert_same):
    space = FunctionSpace(f'{__name__}:build', {'width': {'_type': 'choice', '_value': [4, 8]}})
    network = network_of(space, (6,))
    export(network, torch.randn(1, 6), tmp_path, FORMATS)  # one sample as example leaves the batch free, too
    assert_same(network, tmp_path, torch.randn(7, 6), torch.randn(1, 6))
    assert_no_reference_to_nni(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('kind', [tuple, dict])
def test_several_inputs(kind, tmp_path, assert_same):
    def batch(n):
        tokens, mask = torch.randint(0, 10, (n, 5)), torch.rand(n, 5)
        return (tokens, mask) if kind is tuple else {'mask': mask, 'tokens': tokens}

    network = Pair()
    export(network, batch(3), tmp_path, FORMATS)
    assert_same(network, tmp_path, batch(6), batch(1))
    description = json.loads((tmp_path / 'winner.json').read_text())
    tokens, mask = [['batch', 5], 'int64'], [['batch', 5], 'float32']
    assert description['inputs'] == ([tokens, mask] if kind is tuple else {'tokens': tokens, 'mask': mask})


class TakesDict(Pair):
    """One input, a dict."""

    def forward(self, sample):
        return super().forward(sample['tokens'], sample['mask'])


class TakesTuple(Pair):
    """One input, a tuple."""

    def forward(self, sample):
        return super().forward(*sample)


def tokens_and_mask(batch):
    return torch.randint(0, 10, (batch, 5)), torch.rand(batch, 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('network', 'inputs'),
    [
        (nn.Linear(6, 3), torch.randn(4, 6)),
        (Pair(), tokens_and_mask(4)),
        (TakesTuple(), tokens_and_mask(4)),
        (Pair(), dict(zip(['mask', 'tokens'], tokens_and_mask(4)[::-1]))),
        (TakesDict(), dict(zip(['mask', 'tokens'], tokens_and_mask(4)[::-1]))),
    ],
    ids=['tensor', 'two', 'tuple', 'keywords', 'dict'],
)
def test_description_says_how_to_load(network, inputs, tmp_path, run_without_nni):
    example = tree_map(lambda tensor: tensor[:3], inputs)
    export(network, example, tmp_path, FORMATS, about={'architecture': {'a': (1, 2)}, 'score': 0.5, 'metric': None})
    description = json.loads((tmp_path / 'winner.json').read_text())
    assert description['architecture'] == {'a': [1, 2]} and description['score'] == 0.5 and description['metric'] is None
    assert description['versions']['torch'] == torch.__version__.partition('+')[0]
    assert all((tmp_path / file).exists() for file in description['files'].values())
    assert all(len(lines) == 3 for lines in description['load'].values())
    torch.save(inputs, tmp_path / 'inputs.pt')
    code = [
        'import torch',
        'from torch.utils._pytree import tree_map',
        'inputs = torch.load("inputs.pt")',
        *description['load']['program'],
        'found = [outputs]',
        *description['load']['state-dict'],
        description['load']['program'][-1],
        'found.append(outputs)',
        'inputs = tree_map(lambda x: x.numpy(), inputs)',
        *description['load']['onnx'],
        'found.append(torch.from_numpy(outputs[0]))',
        'torch.save(found, "outputs.pt")',
    ]
    run_without_nni('\n'.join(code), tmp_path)
    args, kwargs = arguments_of(network, inputs)
    with torch.no_grad():
        wanted = network(*args, **kwargs)
    for found in torch.load(tmp_path / 'outputs.pt'):
        assert torch.allclose(found, wanted, rtol=0, atol=1e-5 * wanted.abs().max().item())


@pytest.mark.slow
def test_page_on_export(tmp_path, run, exported, run_without_nni):
    page = (DOCS / 'export.md').read_text()
    [first, *others] = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    names = {}
    exec(first.replace('RUN', repr(str(run.folder))).replace("'winner'", repr(str(tmp_path / 'run'))), names)
    assert {path.name for path in names['files'].values()} == {'winner.pt2', 'winner.pt', 'winner.onnx', 'winner.json'}
    assert all(path.exists() for path in names['files'].values())
    _, folder, _ = exported('NasBench201')
    assert len(others) == 3
    for code in others:
        run_without_nni(code.replace('winner/', ''), folder)


def test_tied_weights_and_odd_buffers(tmp_path):
    network = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    network[1].weight = network[0].weight
    network.register_buffer('unused', torch.ones(3), persistent=False)
    files = export(network, torch.randn(2, 6), tmp_path)
    weights = torch.load(files['state-dict'], weights_only=True)
    loaded, inputs = torch.export.load(files['program']).module(), torch.randn(3, 6)
    loaded.load_state_dict(weights)
    assert torch.allclose(loaded(inputs), outputs_of(network, inputs))


def test_network_is_left_as_it_was_found(tmp_path):
    network = network_of(NasBench201(8, 1))
    network.cells[0].eval()
    network.classifier.weight.requires_grad_(False)
    network.classifier.bias.grad = torch.ones(10)
    before = (
        {name: value.clone() for name, value in network.state_dict().items()},
        [each.training for each in network.modules()],
        [p.requires_grad for p in network.parameters()],
    )
    random_state = torch.get_rng_state()
    export(network, images(2), tmp_path)
    assert all(torch.equal(before[0][name], value) for name, value in network.state_dict().items())
    assert before[1:] == ([each.training for each in network.modules()], [p.requires_grad for p in network.parameters()])
    assert torch.equal(network.classifier.bias.grad, torch.ones(10))
    assert torch.equal(random_state, torch.get_rng_state())


def test_evaluation_mode_without_gradients(tmp_path):
    network = nn.Sequential(nn.Linear(6, 50), nn.Dropout(0.5), nn.Linear(50, 3)).train()
    files = export(network, torch.randn(2, 6), tmp_path, ['program'])
    loaded, inputs = torch.export.load(files['program']).module(), torch.randn(3, 6)
    outputs = loaded(inputs)
    assert torch.equal(outputs, loaded(inputs)) and not outputs.requires_grad
    assert torch.allclose(outputs, outputs_of(network, inputs))


def test_state_dict_holds_the_networks_names_and_values(tmp_path):
    network = network_of(NasBench201(8, 1))
    files = export(network, images(2), tmp_path, ['state-dict'])
    assert not (tmp_path / 'winner.pt2').exists()
    weights = torch.load(files['state-dict'], weights_only=True)
    assert type(weights) is dict and weights.keys() == network.state_dict().keys()
    assert all(
        type(value) is torch.Tensor and torch.equal(value, network.state_dict()[name]) for name, value in weights.items()
    )


def test_fixed_batch_is_said(tmp_path):
    network = FixedBatch()
    files = export(network, torch.randn(4, 6), tmp_path)
    description = json.loads(files['description'].read_text())
    assert description['batch'] == 4 and description['batch_is_fixed_because']
    inputs = torch.randn(4, 6)
    assert torch.allclose(torch.export.load(files['program']).module()(inputs), outputs_of(network, inputs))


def test_double_precision(tmp_path):
    network = nn.Linear(6, 3).double()
    files = export(network, torch.randn(2, 6), tmp_path)
    inputs = torch.randn(3, 6, dtype=torch.float64)
    assert torch.equal(torch.export.load(files['program']).module()(inputs), outputs_of(network, inputs))
    assert json.loads(files['description'].read_text())['inputs'] == [['batch', 6], 'float64']


def test_replaces_an_earlier_export_at_once(tmp_path, monkeypatch):
    export(nn.Linear(6, 3), torch.randn(2, 6), tmp_path)
    before = (tmp_path / 'winner.pt').read_bytes()

    def full(self, content):
        self.touch()
        raise OSError('disk is full')

    with monkeypatch.context() as patch, pytest.raises(OSError, match='disk is full'):
        patch.setattr(Path, 'write_bytes', full)
        export(nn.Linear(6, 3), torch.randn(2, 6), tmp_path)
    assert (tmp_path / 'winner.pt').read_bytes() == before
    export(nn.Linear(6, 3), torch.randn(2, 6), tmp_path)
    assert (tmp_path / 'winner.pt').read_bytes() != before
    assert {path.name for path in tmp_path.iterdir()} == {'winner.pt', 'winner.pt2', 'winner.json'}


@pytest.mark.parametrize(
    ('example', 'formats', 'error', 'message'),
    [
        (
            torch.zeros(2, 6),
            ['torchscript'],
            ValueError,
            "unknown format 'torchscript': it is one of program, state-dict, onnx",
        ),
        (torch.zeros(2, 6), 'program', ValueError, "formats is 'program': it should be a list"),
        (torch.zeros(2, 6), [], ValueError, 'it should be a list'),
        ([1, 2], ['program'], ValueError, 'example has to be a tensor of shape n x'),
        ((torch.zeros(2), torch.zeros(3)), ['program'], ValueError, 'tensors that have the same n'),
        (torch.zeros(2, 7), ['program'], ValueError, 'torch cannot export the network: '),
    ],
)
def test_wrong_arguments(example, formats, error, message, tmp_path):
    with pytest.raises(error, match=message) as caught:
        export(nn.Linear(6, 3), example, tmp_path / 'new', formats)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'new').exists()


def test_network_that_torch_cannot_export(tmp_path):
    with pytest.raises(ValueError, match='torch cannot export the network: '):
        export(Unexportable(), torch.randn(2, 6), tmp_path)


def test_missing_packages(tmp_path, monkeypatch):
    find = module.importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, 'find_spec', lambda name: None if name == 'onnxscript' else find(name))
    with pytest.raises(ValueError, match=r'needs the package onnxscript: pip install .*"onnxscript>='):
        export(nn.Linear(6, 3), torch.randn(2, 6), tmp_path, ['onnx'])
