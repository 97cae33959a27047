"""Folders of images, one a class: what is in them is looked at before any work is done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension

__all__ = ['check_images', 'image_folder']

VALIDATION_FOLDERS = ('val', 'valid', 'validation', 'test')

LOOKED_AT = 256
"""Images of a part that are opened before any work is done: more of a large one would take too long."""


def image_folder(path: Path, part: str, transform: Callable[[Any], Any]) -> tuple[ImageFolder, bool]:
    """The images of a folder, or of a part of it where it is split into parts; whether it is.

    Raises
    ------
    ValueError
        If they are no images of two classes or more.
    """
    if not path.is_dir():
        raise ValueError(f'there is no folder {path}' if not path.exists() else f'{path} is a file, and no folder')
    own = next((path / name for name in VALIDATION_FOLDERS if (path / name).is_dir()), None)
    split = own is not None and (path / 'train').is_dir()
    root = path
    if own is not None and split:
        root = path / 'train' if part == 'train' else own
        _check_same_classes(path / 'train', own)
    _check_classes(root)
    return _Images(str(root), transform=transform, loader=_opened), split


class _Images(ImageFolder):
    """Images whose hidden folders, as those of notebooks and archives, are no classes."""

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        classes = _classes_in(Path(directory))
        return classes, {name: i for i, name in enumerate(classes)}


def _classes_in(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith(('.', '__MACOSX')))


def _check_same_classes(train: Path, validation: Path) -> None:
    """Classes are numbered by their place among the folders of a part."""
    for here, there in ((train, validation), (validation, train)):
        alone = sorted(set(_classes_in(here)) - set(_classes_in(there)))
        if alone and _classes_in(there):
            raise ValueError(
                f'{here} has a class {alone[0]}, but {there} has not: both should hold folders of the same classes'
            )


def _check_classes(root: Path) -> None:
    classes = _classes_in(root)
    empty = [name for name in classes if not _has_images(root / name)]
    if len(empty) == len(classes):
        raise ValueError(
            f'{root} holds no folders of images: it should hold one folder a class, or be split into train '
            'and val with such folders below'
        )
    if empty:
        raise ValueError(
            f'{root / empty[0]} holds no images ({", ".join(IMG_EXTENSIONS)}): each folder in {root} is a class, '
            'so that it should hold some, or go'
        )
    if len(classes) < 2:
        raise ValueError(f'{root} holds images of one class, {classes[0]}: a search needs two or more, a folder each')


def _has_images(folder: Path) -> bool:
    names = (name for _, _, names in os.walk(folder, followlinks=True) for name in names)
    return any(has_file_allowed_extension(name, IMG_EXTENSIONS) for name in names)


def check_images(dataset: Any) -> None:
    """Open a sample of the images of a folder, or of some of them, as they will be opened.

    Raises
    ------
    ValueError
        If one cannot be read; the message names the file.
    """
    for i in np.random.default_rng(0).permutation(len(dataset))[:LOOKED_AT]:
        _opened(_file_of(dataset, int(i)), whole=False)


def _file_of(dataset: Any, place: int) -> str:
    while isinstance(dataset, Subset):
        dataset, place = dataset.dataset, dataset.indices[place]
    return str(dataset.samples[place][0])


def _opened(path: str, whole: bool = True) -> Image.Image:
    """An image in colours, or a small one just to see that it can be read where the ``whole`` is not wanted."""
    try:
        with Image.open(path) as image:
            if not whole:
                image.draft('RGB', (32, 32))  # JPEGs are much faster read so
            return image.convert('RGB')
    except Exception as error:  # Pillow raises what comes to it: OSError, SyntaxError, ValueError
        why = 'its format is not known' if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f'{path} cannot be read as an image ({why}): mend it, or take it out of the folder') from error
