"""Drawings of networks show what the networks do."""

from __future__ import annotations

import builtins
import copy
import time
from collections import Counter
from xml.etree import ElementTree

import hub
import numpy as np
import pytest
import spaces
import torch
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace, model_context
from torch import nn

from nni_knas.networks.drawing import draw_network
from nni_knas.networks.drawing.graph import graph_of, innermost
from nni_knas.networks.drawing.trace import trace
from nni_knas.spaces import FunctionSpace, TextClassifierSpace

SVG = '{http://www.w3.org/2000/svg}'
TITLES = {
    'none': 'zero',
    'skip_connect': 'skip',
    'conv_1x1': 'conv 1x1',
    'conv_3x3': 'conv 3x3',
    'avg_pool_3x3': 'avg pool 3x3',
}
CELL = {
    '0_1': 'conv_3x3',
    '0_2': 'none',
    '1_2': 'avg_pool_3x3',
    '0_3': 'skip_connect',
    '1_3': 'conv_1x1',
    '2_3': 'skip_connect',
}


def nas_bench_201(cell=CELL, **options):
    with model_context({f'cell/{edge}': operation for edge, operation in cell.items()}):
        return NasBench201(stem_out_channels=4, **options)


def images(n=2, size=12):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def texts(svg, kind=''):
    """The first line of each box."""
    return [
        box.find(f'{SVG}text').text
        for box in ElementTree.fromstring(svg).iter(f'{SVG}g')
        if box.get('class').startswith('box') and kind in box.get('class')
    ]


def arrows(svg):
    return sum(group.get('class') == 'arrow' for group in ElementTree.fromstring(svg).iter(f'{SVG}g'))


def all_text(svg):
    return [each.text for each in ElementTree.fromstring(svg).iter(f'{SVG}text')]


def test_block_has_the_operations_of_the_sample():
    drawing = draw_network(nas_bench_201(), images())
    assert drawing.traced
    assert (drawing.block_name, drawing.blocks[0].modules) == ('NasBench201Cell', 15)
    assert Counter(texts(drawing.block_svg)) == Counter([TITLES[each] for each in CELL.values()]) + Counter(
        {'input': 1, 'output': 1, '+': 2}
    )
    # Three from the input, two from the first node, which has one summand, one from the second, five into sums, one out.
    assert arrows(drawing.block_svg) == 2 * 6


@pytest.mark.parametrize('seed', range(4))
def test_any_cell_has_its_operations(seed):
    random = np.random.RandomState(seed)
    cell = {edge: random.choice([*TITLES]) for edge in CELL}
    block = draw_network(nas_bench_201(cell), images()).block_svg
    shown = Counter(title for title in texts(block) if title in TITLES.values())
    assert shown == Counter(TITLES[each] for each in cell.values())
    assert arrows(block) == 2 * 6


def test_arrows_are_those_of_the_cell():
    traced = trace(nas_bench_201(), images())
    cell = next(call for call in traced.root.calls if call.name == 'NasBench201Cell')
    boxes = graph_of(traced, cell)
    into = {(*sorted(source.title for source in box.sources),): box.title for box in boxes}
    assert into[('avg pool 3x3', 'zero')] == '+'
    assert into[('conv 1x1', 'skip', 'skip')] == '+'
    assert into[('conv 3x3',)] in ('conv 1x1', 'avg pool 3x3')
    assert boxes[-1].title == 'output' and boxes[-1].sources[0].title == '+'


def test_network_has_shapes_and_numbers_of_parameters():
    network = nas_bench_201()
    drawing = draw_network(network, images(size=16))
    assert texts(drawing.svg) == [
        'input',
        'conv 3x3',
        '5 x NasBench201Cell',
        'ResNetBasicblock',
        '5 x NasBench201Cell',
        'ResNetBasicblock',
        '5 x NasBench201Cell',
        'batch norm, ReLU',
        'global avg pool',
        'linear',
        'output',
    ]
    lines = all_text(drawing.svg)
    assert '3 x 16 x 16' in lines
    assert '4 x 16 x 16 · 116 parameters' in lines  # 3 * 4 * 9 of the convolution, 2 * 4 of the batch norm
    assert '10 · 170 parameters' in lines
    assert any(line.startswith('8 x 8 x 8 · ') for line in lines)


def test_svg_fits_into_any_page():
    drawing = draw_network(nas_bench_201(), images())
    for svg in (drawing.svg, drawing.block_svg):
        root = ElementTree.fromstring(svg)
        assert svg.startswith('<svg ')
        assert root.get('role') == 'img' and root.find(f'{SVG}title').text
        left, top, width, height = map(float, root.get('viewBox').split())
        assert root.get('width') == '100%' and f'max-width:{width:.0f}px' in root.get('style')
        assert not any(each.get('id') for each in root.iter())
        assert 'black' not in svg and 'white' not in svg
        for box in root.iter(f'{SVG}rect'):
            x, y, w, h = (float(box.get(name)) for name in ('x', 'y', 'width', 'height'))
            assert left <= x and top <= y and x + w <= width and y + h <= height


def test_two_boxes_do_not_overlap():
    boxes = [
        [float(each.get(name)) for name in ('x', 'y', 'width', 'height')]
        for each in ElementTree.fromstring(draw_network(hub.random_network('DARTS'), images()).block_svg).iter(f'{SVG}rect')
    ]
    for i, (x, y, w, h) in enumerate(boxes):
        assert not any(x < x2 + w2 and x2 < x + w and y < y2 + h2 and y2 < y + h for x2, y2, w2, h2 in boxes[:i])


def test_drawing_makes_no_noise(capfd):
    draw_network(nas_bench_201(), images())
    assert capfd.readouterr() == ('', '')


def test_network_is_left_as_it_is():
    network = nas_bench_201().train()
    network.cells[0].eval()
    network(images(8)).sum().backward()
    state, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    gradients = [p.grad.clone() if p.grad is not None else None for p in network.parameters()]
    example, random = images(), torch.get_rng_state()
    draw_network(network, example)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert modes == [module.training for module in network.modules()]
    assert all(p.grad is gradient or torch.equal(p.grad, gradient) for p, gradient in zip(network.parameters(), gradients))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.equal(example, images()) and not vars(example)
    assert torch.equal(random, torch.get_rng_state())


BLOCKS = {
    'NasBench101': 'NasBench101CellFixed',
    'NasBench201': 'NasBench201Cell',
    'ProxylessNAS': 'InvertedResidual',
    'MobileNetV3Space': 'InvertedResidual',
    'ShuffleNetSpace': 'ShuffleNetBlock',
    'AutoformerSpace': 'TransformerEncoderLayer',
}


@pytest.mark.parametrize('space', hub.SPACES)
def test_spaces_of_the_hub(space):
    network = hub.random_network(space)
    started = time.thread_time()
    drawing = draw_network(network, hub.images(space)[0])
    assert time.thread_time() - started < 10
    assert drawing.traced
    assert drawing.block_name == BLOCKS.get(space, 'Cell')
    for svg in (drawing.svg, drawing.block_svg):
        assert 5 <= len(texts(svg)) <= 40 <= 10 * arrows(svg)
        assert texts(svg)[-1] == 'output'


def test_cells_have_their_two_inputs_and_both_forms():
    with model_context(hub.DARTS(width=16, num_cells=8).simplify() and _darts_sample()):
        network = hub.DARTS(width=16, num_cells=8)
    drawing = draw_network(network, images(size=32))
    normal, reduction = drawing.blocks
    assert [title for title in texts(normal.svg) if title.startswith('input')] == ['input 1', 'input 2']
    assert Counter(texts(normal.svg, 'conv'))['2 x separable conv 3x3'] == 8
    assert Counter(texts(reduction.svg))['max pool 3x3, stride 2'] > 0
    assert 'concat' in texts(normal.svg)
    assert normal.modules > reduction.modules == 2


def _darts_sample():
    sample = {}
    for cell, operation in (('normal', 'sep_conv_3x3'), ('reduce', 'max_pool_3x3')):
        for node in range(2, 6):
            for i in range(2):
                sample[f'{cell}/op_{node}_{i}'] = operation
                sample[f'{cell}/input_{node}_{i}'] = [i]
    return sample


@pytest.mark.parametrize('tuned', [0, 2])
def test_text_classifiers(tuned):
    space = TextClassifierSpace('minilm', num_labels=2)
    sample = {**space.plain(), 'tuned': tuned, 'edge_0_1': 'conv-3', 'edge_1_2': 'attention'}
    network = SimplifiedModelSpace.from_model(space).freeze(sample).executable_model()
    tokens = torch.stack([torch.full((2, 8), 5), torch.ones(2, 8, dtype=torch.int64)], 1)
    drawing = draw_network(network, tokens)
    titles = texts(drawing.svg)
    assert ('PretrainedEncoder' in titles) == (tuned == 0)
    assert any('(frozen)' in line for line in all_text(drawing.svg))
    assert {'depthwise conv 3', 'attention, 6 heads'} <= {*titles}
    assert drawing.block_name == ('BertLayer' if tuned else None)


def build_layers(parameters):
    return nn.Sequential(*[nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(parameters['depth'])], nn.Linear(6, 2))


def test_function_space():
    space = FunctionSpace('test_drawing:build_layers', {'depth': {'_type': 'choice', '_value': [2, 4]}})
    svg = draw_network(space.freeze({'depth': 4}), torch.randn(3, 6)).svg
    assert texts(svg) == ['input', '4 x linear', 'linear', 'output']
    assert f'{4 * 42} parameters' in all_text(svg)


def test_small_network():
    network = spaces.TinySpace().freeze({'width': 8, 'inner': 'relu', 'outer': 'tanh'})
    assert texts(draw_network(network, torch.randn(3, 6)).svg) == ['input', 'linear', 'ReLU', 'tanh', 'linear', 'output']


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, scale):
        doubled = x + x
        if float(doubled.sum()) > 0:  # depends on the data
            doubled = self.one(doubled)
        same = nn.functional.relu(doubled, inplace=True)
        return {'logits': torch.cat([same, self.other(x) * scale], 1)}


def test_own_functions_several_inputs_and_double_edges():
    inputs = {'x': torch.ones(5, 4), 'scale': torch.ones(5, 1)}
    svg = draw_network(Branches(), inputs).svg
    assert Counter(texts(svg)) == Counter(
        {
            'input 1': 1,
            'input 2': 1,
            '+': 1,
            'linear': 2,
            '×': 1,
            'concat': 1,
            'output': 1,
        }
    )
    assert arrows(svg) == 2 + 1 + 1 + 2 + 2 + 1  # both summands are the input
    assert 'relu' in all_text(svg)


def test_wrappers_are_opened():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

        def forward(self, x):
            return self.inner(x)

    assert innermost(trace(Wrapped(), torch.ones(2, 4))).path == 'inner'


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*[nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()) for _ in range(2)])
        self.twins = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])

    def forward(self, x):
        raise RuntimeError('this network is broken')


@pytest.mark.parametrize('example', [None, torch.ones(2, 4), 'text'])
def test_networks_that_do_not_run_are_drawn_by_their_modules(example):
    drawing = draw_network(Broken(), example)
    assert not drawing.traced and not drawing.blocks and drawing.block_svg is drawing.block_name is None
    assert texts(drawing.svg) == ['conv 3x3', 'ReLU', 'conv 3x3', 'ReLU', '3 x linear']
    assert '60 parameters' in all_text(drawing.svg)


def test_no_more_boxes_than_can_be_read():
    network = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5), nn.Linear(5, 4)) for _ in range(40)])
    assert texts(draw_network(network, torch.ones(2, 4)).svg) == ['input', '40 x 3 layers', 'output']
    for svg in (draw_network(network, None).svg, draw_network(network, torch.ones(2, 4)).svg):
        assert len(texts(svg)) <= 32


def test_names_are_escaped():
    class Odd(nn.Linear):
        def extra_repr(self):
            return '<b> & "c"'

    network = nn.Sequential(Odd(2, 2))
    title = ElementTree.fromstring(draw_network(network, torch.ones(2, 2)).svg)
    assert any(each.text == f'0: {network[0]!r}' for each in title.iter(f'{SVG}title')) and '<b> & "c"' in repr(network[0])


def test_errors(monkeypatch):
    with pytest.raises(ValueError, match='a network to draw has to be a torch'):
        draw_network(3, torch.ones(2, 4))
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == 'pygraphviz':
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ValueError, match=r'needs the package pygraphviz: pip install .*"pygraphviz>=2"'):
        draw_network(nn.Linear(4, 2), torch.ones(2, 4))


class Dense(nn.Module):
    """Each layer gets what all before it gave."""

    def __init__(self, depth):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(depth)])

    def forward(self, x):
        states = [x]
        for layer in self.layers:
            states.append(layer(torch.cat(states, -1).reshape(len(x), -1, 4).mean(1)))
        return states[-1]


@pytest.mark.parametrize(('depth', 'blocks'), [(6, 1), (50, 0)])
def test_what_could_not_be_read_is_not_drawn(depth, blocks):
    network = nn.Sequential(Dense(depth), Dense(depth))
    started = time.thread_time()
    drawing = draw_network(network, torch.ones(2, 4))
    assert time.thread_time() - started < 20
    assert (drawing.traced, len(drawing.blocks)) == (True, blocks)
    assert texts(drawing.svg) == ['input', '2 x Dense', 'output']


def test_network_without_any_hierarchy():
    drawing = draw_network(Dense(50), torch.ones(2, 4))
    assert not drawing.traced
    assert texts(drawing.svg) == ['50 x linear']
