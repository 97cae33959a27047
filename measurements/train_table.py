"""Tables of trained networks: random architectures of a space of NNI's hub, each trained from scratch on real images.

    python measurements/train_table.py darts-cifar10 --data folder:cifar10
    python measurements/train_table.py autoformer-digits

A row is written as soon as its network is trained. Started again, it goes on where it stopped.
"""

import argparse
import csv
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nni_knas
from nni_knas.benchmark import autoformer_digits_space, darts_cifar10_space
from nni_knas.networks import build_network, encode_sample, random_models
from nni_knas.data import DATA_HELP, load_data

import numpy as np
import torch
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import SimplifiedModelSpace
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

COLUMNS = ('architecture', 'valid_acc', 'test_acc', 'train_loss', 'params', 'seconds')
TABLES = Path(nni_knas.__file__).parent / 'benchmark' / 'tables'

Images = tuple[Tensor, Tensor]  # images and labels


@dataclass(frozen=True)
class Preset:
    """How the networks of one table are trained."""

    space: Callable[[], ModelSpace]
    networks: int
    data: str  # that load_data knows by name
    size: int  # height and width of the images
    train: int  # number of training images
    valid: int  # number of validation images, set aside from the data's training part
    epochs: int
    batch_size: int
    learning_rate: float  # the largest one: it rises for the first tenth of the steps and falls along a cosine
    weight_decay: float
    shift: int  # pixels that training images are shifted by at most
    flip: bool  # whether training images are mirrored at random


PRESETS = {
    'darts-cifar10': Preset(
        darts_cifar10_space,
        networks=48,
        data='cifar10',
        size=16,
        train=10000,
        valid=2000,
        epochs=3,
        batch_size=64,
        learning_rate=5e-3,
        weight_decay=5e-2,
        shift=2,
        flip=True,
    ),
    'autoformer-digits': Preset(
        autoformer_digits_space,
        networks=40,
        data='digits',
        size=16,
        train=400,
        valid=1038,
        epochs=60,
        batch_size=40,
        learning_rate=2e-3,
        weight_decay=5e-2,
        shift=1,
        flip=False,
    ),
}


def in_memory(dataset: torch.utils.data.Dataset[Any], indices: np.ndarray) -> Images:
    """Images once decoded stay in memory: decoding them in each epoch would take longer than small networks do."""
    samples = [dataset[int(i)] for i in tqdm(indices, desc='Reading images', leave=False, disable=None)]
    images = torch.stack([image for image, _ in samples])
    return images.to(memory_format=torch.channels_last), torch.tensor([label for _, label in samples])


def split(preset: Preset, name: str) -> tuple[Images, Images, Images]:
    """Training and validation images, drawn by a fixed seed from the data's training part, and its other part to test on."""
    data = load_data(name, size=preset.size)
    order = np.random.default_rng(0).permutation(len(data.train))  # type: ignore[arg-type]
    train, valid = order[: preset.train], order[preset.train : preset.train + preset.valid]
    test = np.arange(len(data.validation))  # type: ignore[arg-type]
    return in_memory(data.train, train), in_memory(data.train, valid), in_memory(data.validation, test)


def augmented(images: Tensor, shift: int, flip: bool) -> Tensor:
    """Images shifted and mirrored at random, each in its own way: all by one indexing of the padded batch."""
    count, _, height, width = images.shape
    padded = F.pad(images, (shift,) * 4, mode='replicate').permute(0, 2, 3, 1)
    rows = torch.arange(height) + torch.randint(0, 2 * shift + 1, (count, 1))
    columns = torch.arange(width).repeat(count, 1)
    if flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    columns = columns + torch.randint(0, 2 * shift + 1, (count, 1))
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def train(network: nn.Module, data: Images, preset: Preset) -> float:
    """Train a network, and return the mean loss of the last epoch."""
    images, labels = data
    optimizer = torch.optim.AdamW(network.parameters(), preset.learning_rate, weight_decay=preset.weight_decay)
    steps = preset.epochs * math.ceil(len(images) / preset.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, preset.learning_rate, total_steps=steps, pct_start=0.1)
    network.train()
    total = 0.0
    for _ in range(preset.epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(preset.batch_size):
            loss = F.cross_entropy(network(augmented(images[batch], preset.shift, preset.flip)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
    return total / len(images)


@torch.no_grad()
def accuracy(network: nn.Module, data: Images) -> float:
    """Percentage of images that the network classifies rightly."""
    network.eval()
    right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in zip(*(d.split(250) for d in data)))
    return 100 * right / len(data[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('table', choices=PRESETS)
    parser.add_argument('--data', help=f"default: the table's own; {DATA_HELP}")
    parser.add_argument('--networks', type=int, help="number of architectures (default: the table's own)")
    parser.add_argument('--seed', type=int, default=0, help='of weights and training; the architectures stay the same')
    parser.add_argument('--output', type=Path, help='CSV file to write or to go on with (default: the one in the package)')
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    preset = PRESETS[options.table]
    output = options.output or TABLES / f'{options.table}.csv'
    space = SimplifiedModelSpace.from_model(preset.space())
    models = random_models(space, preset.networks if options.networks is None else options.networks, seed=0)
    if output.exists():
        with output.open(newline='') as file:
            done = {row['architecture'] for row in csv.DictReader(file)}
    else:
        done = set()
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(','.join(COLUMNS) + '\n')

    training, validation, test = split(preset, options.data or preset.data)
    for model in tqdm(models, desc='Training', unit='network', disable=None):
        architecture = encode_sample(model.sample)
        if architecture in done:
            continue
        start = time.perf_counter()
        network = build_network(model, options.seed).to(memory_format=torch.channels_last)
        # A row is the same whichever rows came before it.
        torch.manual_seed(options.seed + zlib.crc32(architecture.encode()))
        loss = train(network, training, preset)
        row = (
            architecture,
            f'{accuracy(network, validation):.2f}',
            f'{accuracy(network, test):.2f}',
            f'{loss:.4f}',
            sum(p.numel() for p in network.parameters()),
            f'{time.perf_counter() - start:.1f}',
        )
        with output.open('a', newline='') as file:
            csv.writer(file, lineterminator='\n').writerow(row)


if __name__ == '__main__':
    main()
