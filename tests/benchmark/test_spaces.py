"""The networks of the public spaces of images, as their papers and tables describe them."""

from __future__ import annotations

import itertools
import re

import pandas as pd
import pytest
import torch
from nni.nas.hub.pytorch import NasBench101
from nni.nas.space import SimplifiedModelSpace
from public_tables import CHAIN, NAMES, PATHS, bench101, write_table
from torch import nn

from nni_knas.benchmark.spaces import autoformer, darts, nasbench101
from nni_knas.benchmark.spaces.darts import to_sample as darts_sample
from nni_knas.benchmark.spaces.nasbench101 import to_sample, without_idle
from nni_knas.benchmark.spaces.transnas import MicroCellNetwork
from nni_knas.networks import constructed, random_models


def count(network):
    return sum(p.numel() for p in network.parameters())


def string_of(sample):
    """The row of NAS-Bench-101 for a sample of NNI's; vertices that the sample has not lead nowhere."""
    vertices = sample['cell/num_nodes']
    places = [*range(vertices - 1), 6]
    edges = [(places[source], places[v]) for v in range(1, vertices) for source in sample[f'cell/input{v}']]
    names = [sample[f'cell/op{v}'] if v < vertices - 1 else 'maxpool3x3' for v in range(1, 6)]
    return bench101(edges, names)


class TestNasBench101:
    def test_published_number_of_parameters(self, tmp_path):
        """Of the cell like Inception's that the introduction to the benchmark's own package asks for."""
        conv1, conv3 = 'conv1x1-bn-relu', 'conv3x3-bn-relu'
        edges = [(0, 1), (0, 2), (0, 3), (0, 5), (1, 6), (2, 6), (3, 4), (4, 6), (5, 6)]
        network = nasbench101(write_table('nasbench101', tmp_path), stem=128).network
        assert count(network(bench101(edges, [conv1, conv3, conv3, conv3, 'maxpool3x3']), 0)) == 2_694_282

    def test_nnis_samples(self, tmp_path):
        """The row of a random sample of NNI's gives NNI's network, to the last bit."""
        space = SimplifiedModelSpace.from_model(NasBench101(stem_out_channels=8))
        network = nasbench101(write_table('nasbench101', tmp_path), stem=8).network
        images = torch.randn(2, 3, 16, 16)
        pruned = set()
        for model in random_models(space, 12, seed=0):
            theirs = constructed(model, 3)
            ours = network(string_of(model.sample), 3)
            pruned.add((model.sample['cell/num_nodes'], len(theirs.features[0].connection_matrix)))
            assert torch.equal(theirs(images), ours(images))
            assert count(ours) <= count(theirs) and count(ours) == count(without_idle(theirs))
        assert len({vertices for vertices, _ in pruned}) > 1 and any(left < vertices for vertices, left in pruned)

    def test_vertices_on_no_path(self):
        """Whatever leads nowhere, or comes from nowhere, makes no difference."""
        kept = [edge for edge in PATHS if not {4, 5} & set(edge)]
        sample = to_sample(bench101(PATHS))
        assert sample == to_sample(bench101(kept, [*NAMES[:3], 'conv1x1-bn-relu', 'conv1x1-bn-relu']))
        assert sample['cell/num_nodes'] == 5
        assert [sample[f'cell/op{v}'] for v in (1, 2, 3)] == NAMES[:3]
        assert [sample[f'cell/input{v}'] for v in (1, 2, 3, 4)] == [[0], [1], [0], [2, 3]]

    def test_vertices_between(self):
        """Those that are left close up."""
        sample = to_sample(bench101([(0, 2), (0, 3), (2, 5), (5, 6), (0, 6)]))
        assert sample['cell/num_nodes'] == 4 and [sample[f'cell/op{v}'] for v in (1, 2)] == [NAMES[1], NAMES[4]]
        assert [sample[f'cell/input{v}'] for v in (1, 2, 3)] == [[0], [1], [0, 2]]

    def test_straight_through(self, tmp_path):
        """Without a vertex between, each of the nine cells is a projection."""
        network = nasbench101(write_table('nasbench101', tmp_path), stem=8).network(bench101([(0, 6)]), 0)
        widths = [8, 8, 8, 8, 16, 16, 16, 32, 32, 32]
        by_hand = 3 * 8 * 9 + 2 * 8 + sum(a * b + 2 * b for a, b in itertools.pairwise(widths)) + 32 * 10 + 10
        assert count(network) == by_hand


CELL = '1_23_012'  # 0>1 skip; 0>2 1x1, 1>2 3x3; 0>3 none, 1>3 skip, 2>3 1x1


class TestTransNas:
    def shapes(self, architecture, size=64):
        network, shapes = MicroCellNetwork(architecture, 5), []
        for cell in network.cells:
            cell.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
        assert network(torch.randn(2, 3, size, size)).shape == (2, 5)
        return shapes

    def test_shapes(self):
        """A sixteenth of the pixels after the stem; then the first cell of each stage changes, and the second nothing."""
        assert self.shapes(f'64-41414-{CELL}') == [
            *[(128, 8, 8)] * 4,
            *[(256, 4, 4)] * 4,
            *[(512, 2, 2)] * 2,
        ]
        assert self.shapes(f'8-1234-{CELL}') == [
            *[(8, 16, 16)] * 2,
            *[(16, 16, 16)] * 2,
            *[(16, 8, 8)] * 2,
            *[(32, 4, 4)] * 2,
        ]

    def test_parameters_by_hand(self):
        """Stem, per cell its edges, classifier; a convolution's batch normalisation has two numbers a channel."""
        stem = 3 * 4 * 9 + 8 + 4 * 8 * 9 + 16
        changing = (8 * 16 + 32) + (8 * 16 + 32) + (16 * 16 * 9 + 32) + (16 * 16 + 32)  # skip, 1x1, 3x3, 1x1
        plain = (16 * 16 + 32) + (16 * 16 * 9 + 32) + (16 * 16 + 32)  # a skip is nothing
        assert count(MicroCellNetwork(f'8-4-{CELL}', 5)) == stem + changing + plain + 16 * 5 + 5

    def convolutions(self, cell):
        return [
            (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
            for m in cell.modules()
            if isinstance(m, nn.Conv2d)
        ]

    def test_edges_from_the_first_node_change(self):
        changing, plain = MicroCellNetwork('8-4-3_23_321', 5).cells
        first = [(8, 16, 3, 2), (8, 16, 1, 2), (16, 16, 3, 1), (8, 16, 3, 2), (16, 16, 1, 1)]
        assert self.convolutions(changing) == first
        assert self.convolutions(plain) == [(16, 16, size, 1) for _, _, size, _ in first]

    @pytest.mark.parametrize('digit, channels, stride', [('1', 8, 1), ('2', 16, 1), ('3', 8, 2), ('4', 16, 2)])
    def test_stages(self, digit, channels, stride):
        """A skip over two 1 x 1 convolutions of that stride, where it changes something."""
        cell = MicroCellNetwork(f'8-{digit}-0_00_100', 5).cells[0]
        expected = [] if digit == '1' else [(8, channels // 2, 1, stride)] * 2
        assert self.convolutions(cell) == expected
        assert cell(torch.randn(2, 8, 6, 6)).shape == (2, channels, 6 // stride, 6 // stride)

    def test_sums(self):
        """In a cell without weights each path counts once: 0>3, 0>1>3, 0>2>3, 0>1>2>3."""
        cell = MicroCellNetwork('8-1-1_11_111', 5).cells[1]
        images = torch.randn(2, 8, 4, 4)
        assert torch.allclose(cell(images), 4 * images)
        assert torch.allclose(MicroCellNetwork('8-1-1_01_101', 5).cells[1](images), 2 * images)
        assert not MicroCellNetwork('8-1-1_11_000', 5).cells[1](images).any()

    def test_each_place_is_its_edge(self):
        """One skip less at a time, in a cell of skips."""
        images = torch.randn(2, 8, 4, 4)
        for place, paths_without in enumerate([2, 3, 3, 3, 3, 2]):
            digits = ['1'] * 6
            digits[place] = '0'
            cell = MicroCellNetwork(f'8-1-{digits[0]}_{"".join(digits[1:3])}_{"".join(digits[3:])}', 5).cells[1]
            assert torch.allclose(cell(images), paths_without * images)

    def test_reducing_skip(self):
        """The second half of the channels sees the odd pixels."""
        reduce = MicroCellNetwork('8-4-0_00_100', 5).cells[0].nodes[2][0].eval()
        images = torch.rand(1, 8, 6, 6)
        images[:, :, ::2, ::2] = 0
        first, second = reduce(images).chunk(2, dim=1)
        assert not first.any() and second.any()
        assert not reduce(-images).any()

    def test_operations_begin_with_a_rectifier(self):
        network = MicroCellNetwork('8-1-0_00_300', 5)
        assert not network.cells[1].eval()(-torch.rand(2, 8, 4, 4)).any()


class TestDarts:
    def test_sample(self):
        sample = darts_sample(f'normal={CHAIN}|reduce={CHAIN.replace("skip_connect~0", "avg_pool_3x3~2")}')
        assert [sample[f'normal/op_{node}_{place}'] for node in range(2, 6) for place in range(2)] == [
            *['sep_conv_3x3', 'none', 'skip_connect', 'max_pool_3x3'] * 2
        ]
        assert [sample[f'reduce/input_{node}_{place}'] for node in range(2, 6) for place in range(2)] == [
            *[[0], [1], [2], [1], [0], [1], [2], [1]]
        ]
        assert sample['reduce/op_3_0'] == sample['reduce/op_5_0'] == 'avg_pool_3x3' and len(sample) == 32

    def test_parameters_of_the_real_rows(self, data_dir):
        table = data_dir / 'tables' / 'darts.csv'
        benchmark = darts(str(table), width=36, cells=20)
        assert len(benchmark.table) > 500
        for architecture in benchmark.table.index[::60]:
            network = benchmark.network(architecture, 0)
            assert count(network) / 1e6 == pytest.approx(benchmark.table.params_m[architecture], abs=1e-9)


class TestAutoFormer:
    def test_as_the_row_says(self, tmp_path):
        network = autoformer(write_table('autoformer', tmp_path)).network('192|2|3;4|3.5;4.0', 0)
        assert network.patch_embed.weight.shape == (192, 3, 16, 16) and network.head.out_features == 100
        assert network.pos_embed.pos_embed.shape == (1, 14 * 14 + 1, 192)
        first, second = network.blocks
        assert [block.attn.q.out_features for block in (first, second)] == [3 * 64, 4 * 64]
        assert [block.fc1.out_features for block in (first, second)] == [672, 768]
        assert {block.fc2.out_features for block in (first, second)} == {192}

    def test_parameters_by_hand(self, tmp_path):
        width, heads, wide = 216, 4, 864
        network = autoformer(write_table('autoformer', tmp_path)).network('216|1|4|4.0', 0)
        inner, places = 64 * heads, 4 * 30 * 64  # relative positions, of keys and values, vertical and horizontal
        attention = 3 * (width * inner + inner) + inner * width + width + places
        block = attention + 4 * width + (width * wide + wide) + (wide * width + width)
        patches = 3 * 16 * 16 * width + width + width + 197 * width
        assert count(network) == patches + block + 2 * width + width * 100 + 100

    def test_every_real_row(self, data_dir):
        table = pd.read_csv(data_dir / 'tables' / 'autoformer.csv')
        benchmark = autoformer(str(data_dir / 'tables' / 'autoformer.csv'))
        assert len(benchmark.table) == len(table)
        for architecture in benchmark.table.index[::67]:
            width, depth, heads, ratios = architecture.split('|')
            network = benchmark.network(architecture, 0)
            assert len(network.blocks) == int(depth) and network.norm.weight.shape == (int(width),)
            assert [block.attn.q.out_features // 64 for block in network.blocks] == [int(n) for n in heads.split(';')]
            assert [block.fc1.out_features for block in network.blocks] == [
                int(float(n) * int(width)) for n in ratios.split(';')
            ]


@pytest.mark.parametrize(
    'name, file, least', [('nasbench101', 'nb101.csv', 3000), ('transnas_micro', 'transnas_micro.csv', 4096)]
)
def test_the_real_tables_are_read_whole(name, file, least, data_dir):
    from nni_knas.benchmark import spaces

    path = data_dir / 'tables' / file
    benchmark = getattr(spaces, name)(str(path))
    assert len(benchmark.table) == pd.read_csv(path).arch.nunique() >= least
    assert all(re.fullmatch(r'[\w ,-]+', each) for each in benchmark.table.index)
