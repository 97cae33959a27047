"""Labelled images and texts by name, for the command line and the examples."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import nni
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset

from nni_knas.basics.failures import failure
from nni_knas.basics.files import CACHE
from nni_knas.basics.names import DATA_HELP, TORCHVISION
from nni_knas.basics.spelling import nearest
from nni_knas.data.digest import warn_of_overlap
from nni_knas.data.tokens import text_data

__all__ = ['DATA_HELP', 'TORCHVISION', 'Data', 'has_values', 'image_data', 'load_data', 'load_object', 'split_texts']

HELD_OUT = 0.2  # part of the training images that is kept for validation where the data has no split of its own

Part = Literal['train', 'validation']


class Data(NamedTuple):
    """A training and a validation set, traced so that they travel to NNI's trials, and the number of classes.

    Where the targets are values to predict, ``classes`` is how many a sample has.
    """

    train: Dataset[Any]
    validation: Dataset[Any]
    classes: int


def load_data(name: str, *, size: int = 32, limit: int | None = None) -> Data:
    """Labelled images by name, as tensors of shape ``3 x size x size`` with values of about -1 to 1, or texts as tokens.

    Parameters
    ----------
    name
        One of the names in :data:`DATA_HELP`.
    size
        Height and width that images are resized to. (Texts have none, and the user's own function decides for itself.)
    limit
        Largest number of images in each part, drawn by a fixed seed; all by default.

    Raises
    ------
    ValueError
        If there is no such data, with a sentence that says what there is.
    """
    train = image_data(name=name, part='train', size=size, limit=limit)
    validation = image_data(name=name, part='validation', size=size, limit=limit)
    for part, dataset in (('training', train), ('validation', validation)):
        if len(dataset) == 0:  # type: ignore[arg-type]
            raise ValueError(f'the {part} part of {name} is empty')
        if name.startswith('folder:'):
            from nni_knas.data.folders import check_images

            check_images(dataset)
    warn_of_overlap(train, validation)
    return Data(train, validation, _count_classes(train, name))


def _image_data(name: str, part: Part, size: int = 32, limit: int | None = None) -> Dataset[Any]:
    """One part of :func:`load_data`. What it returns is traced: in a trial it is loaded anew, by name.

    Parameters
    ----------
    name, size
        As of :func:`load_data`.
    part
        Which part.
    limit
        Largest number of samples, drawn by a fixed seed. Default: all.
    """
    if name.startswith('text:'):
        return _load_texts(name.removeprefix('text:'), part, limit)
    dataset = _find_dataset(name, part, size)
    if limit is not None and limit < len(dataset):  # type: ignore[arg-type]
        chosen = np.random.default_rng(0).choice(len(dataset), limit, replace=False)  # type: ignore[arg-type]
        return _Part(dataset, chosen.tolist())
    return dataset


image_data: Callable[..., Dataset[Any]] = nni.trace(_image_data)
image_data.__doc__ = _image_data.__doc__


def load_object(path: str) -> Any:
    """What ``module:name`` refers to.

    Raises
    ------
    ValueError
        If it cannot be imported.
    """
    module, _, name = path.partition(':')
    if not module or not name:
        raise ValueError(f'{path!r} is not of the form module:name')
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f'{path!r} cannot be imported: {error}') from error
    except Exception as error:  # whatever the user's own module does
        raise ValueError(f'{path!r} cannot be imported: {failure(error)}') from error
    if not hasattr(imported, name):
        raise ValueError(f'there is no {name!r} in module {module!r}: {nearest(name, _public(imported))}')
    return getattr(imported, name)


def _public(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, '__module__', None) == module.__name__
    ]


def _find_dataset(name: str, part: Part, size: int) -> Dataset[Any]:
    if name == 'digits':
        return _load_digits(part, size)
    if name in TORCHVISION:
        return _load_torchvision(name, part, size)
    if name.startswith('folder:'):
        return _load_folder(Path(name.removeprefix('folder:')).expanduser(), part, size)
    if ':' in name:
        return _load_own(name, part)
    raise ValueError(f'unknown data {name!r}: it is {DATA_HELP}')


class _Images(Dataset[tuple[Tensor, int]]):
    """Images and labels in memory."""

    def __init__(self, images: Tensor, labels: Tensor, classes: list[str]) -> None:
        self.images, self.labels, self.classes = images, labels, classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


class _Part(Subset[Any]):
    """A part of a dataset that knows its classes."""

    @property
    def classes(self) -> Sequence[str]:
        classes: Sequence[str] = self.dataset.classes  # type: ignore[attr-defined]
        return classes


def _load_digits(part: Part, size: int) -> Dataset[Any]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 8 - 1  # 1797 x 1 x 8 x 8, values of -1 to 1
    images = F.interpolate(images, (size, size), mode='bilinear').expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(digits.target).long()
    return _held_out_part(_Images(images, labels, [str(name) for name in digits.target_names]), part)


def _load_torchvision(name: str, part: Part, size: int) -> Dataset[Any]:
    import torchvision

    try:
        dataset = getattr(torchvision.datasets, TORCHVISION[name])(
            CACHE, train=True, transform=_image_transform(size), download=True
        )
    except Exception as error:
        raise ValueError(
            f'{name} is not in {CACHE} and cannot be downloaded ({error}): check the network, put it there, '
            'or take other data, for example digits'
        ) from error
    return _held_out_part(dataset, part)  # the test split is left alone


def _load_folder(path: Path, part: Part, size: int) -> Dataset[Any]:
    from nni_knas.data.folders import image_folder

    dataset, split = image_folder(path, part, _image_transform(size))
    return dataset if split else _held_out_part(dataset, part)


def _load_texts(name: str, part: Part, limit: int | None) -> Dataset[Any]:
    source, encoder = split_texts(name)
    return text_data(source, part, encoder or 'minilm', limit=limit)


@functools.cache
def _call_once(function: Callable[[], Any]) -> Any:
    """Both parts come from one call: of two calls of an unseeded split they would overlap."""
    return function()


def split_texts(name: str, base: Path | None = None) -> tuple[str, str]:
    """The source and the encoder in ``PATH@ENCODER``, of which the encoder may be missing; a path may have ``@`` in it."""
    source, mark, encoder = name.rpartition('@')
    if not mark or ((base or Path()) / Path(name).expanduser()).is_dir():
        return name, ''
    return source, encoder


def _load_own(name: str, part: Part) -> Dataset[Any]:
    function = load_object(name)
    try:
        parts = _call_once(function)
    except Exception as error:
        raise ValueError(f'{name} gives no data: {failure(error)}') from error
    if not isinstance(parts, (tuple, list)) or len(parts) != 2:
        raise ValueError(f'{name} should return a pair of Datasets, one to train on and one to validate on')
    dataset = parts[0 if part == 'train' else 1]
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f'{name} returned {type(dataset).__name__} to {"train" if part == "train" else "validate"} on: it has to be a '
            'torch Dataset, such as TensorDataset(images, labels)'
        )
    return dataset


def _held_out_part(dataset: Dataset[Any], part: Part) -> Dataset[Any]:
    """The training or the validation part of a dataset that has no split, drawn by a fixed seed."""
    order = np.random.default_rng(0).permutation(len(dataset))  # type: ignore[arg-type]
    count = int(len(order) * HELD_OUT)
    return _Part(dataset, (order[count:] if part == 'train' else order[:count]).tolist())


def _image_transform(size: int) -> Callable[[Any], Tensor]:
    from torchvision import transforms

    transform: Callable[[Any], Tensor] = transforms.Compose(
        [
            transforms.Lambda(_to_rgb),
            transforms.Resize((size, size)),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    return transform


def _to_rgb(image: Any) -> Any:
    return image.convert('RGB')


def has_values(dataset: Any) -> bool:
    """Whether the targets of a dataset are values to predict, rather than classes."""
    try:
        target = torch.as_tensor(dataset[0][1])
    except (TypeError, ValueError, IndexError, KeyError, RuntimeError):
        return False
    return target.is_floating_point()


def _count_classes(dataset: Any, name: str) -> int:
    """The number of classes; where the targets are values, how many each sample has."""
    if hasattr(dataset, 'classes'):
        return len(dataset.classes)
    if has_values(dataset):
        return torch.as_tensor(dataset[0][1]).numel()
    try:
        return int(max(int(dataset[i][1]) for i in range(len(dataset)))) + 1
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f'the classes of {name} cannot be counted ({error}): its samples should be pairs (image, class index)'
        ) from error
