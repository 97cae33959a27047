"""Mistakes in data: folders of images, texts, and data of the user's own."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image

from mistakes.attempts import Files, Mistake, code, command


def picture(size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((size, size), 9).save(file, 'PNG')
    return file.getvalue()


ANIMALS = {f'{name}/{i}.png': picture() for name in ('cats', 'dogs') for i in range(4)}


def folder(files: Files, says: str, given: str) -> Mistake:
    """What is in a folder of images."""
    below = {f'photos/{name}': content for name, content in files.items()}
    return command('search --data folder:photos --image-size 8', says, given, below)


def texts(files: Mapping[str, str | bytes], says: str, given: str) -> Mistake:
    """What is in a folder of texts."""
    below = {f'texts/{name}': content for name, content in files.items()}
    return command('search --data text:texts --space nni_knas.spaces:TextClassifierSpace', says, given, below)


def own(text: str, says: str) -> Mistake:
    """A function of the user's."""
    begin = 'import torch\nfrom torch.utils.data import TensorDataset\nfrom spaces import vector_dataset\n\n\n'
    return command('search --data mydata:load --space spaces:TinySpace', says, code(text), {'mydata.py': begin + text})


ROW = 'sentence\tlabel\n'

MISTAKES = [
    command('search --data folder:nowhere', 'there is no folder'),
    command('search --data folder:', 'folder'),
    folder({'': ''}, 'holds no folders of images', 'an empty folder'),
    folder({'a.png': picture()}, 'holds no folders of images', 'images that are in no folder of a class'),
    folder({'cats/a.txt': 'no image'}, 'photos', 'folders of files that are no images'),
    folder(ANIMALS | {'cats/7.png': 'no image'}, 'cats/7.png cannot be read as an image', 'a text among the images'),
    folder(ANIMALS | {'cats/7.png': picture(64)[:-99]}, 'image file is truncated', 'an image of which the end is missing'),
    folder(ANIMALS | {'cows/': ''}, 'cows holds no images', 'a class without images'),
    folder(
        {f'{part}/{name}': image for part in ('train', 'val') for name, image in ANIMALS.items()}
        | {'val/cows/1.png': picture()},
        'both should hold folders of the same classes',
        'a class that is in the validation part alone',
    ),
    command('search --data text:nowhere', 'there is no folder'),
    texts({'': ''}, 'has no train.tsv', 'an empty folder'),
    texts({'train.tsv': ''}, 'is empty', 'an empty `train.tsv`'),
    texts({'train.tsv': b'\xff\xfe'}, 'is not in UTF-8', 'a `train.tsv` in another encoding'),
    texts({'train.tsv': 'a\tb\nc\td\n'}, 'column', 'columns of other names'),
    texts({'train.tsv': f'{ROW}good\n'}, 'line 2: 1 columns', 'a line without a label'),
    texts({'train.tsv': f'{ROW}\t1\n'}, "the sentence in column 'sentence' is empty", 'a line without a sentence'),
    texts({'train.tsv': f'{ROW}good\t\n'}, "the label in column 'label' is empty", 'a label that is empty'),
    texts({'train.tsv': ROW}, 'holds no texts', 'a header alone'),
    command('search --data mydata', 'unknown data'),
    command('search --data nowhere:load', 'cannot be imported'),
    own('def laod():\n    pass', 'did you mean "laod"'),
    own('def load():\n    return None', 'should return a pair of Datasets'),
    own('def load():\n    return vector_dataset()', 'should return a pair of Datasets'),
    own('def load():\n    yield vector_dataset()', 'should return a pair of Datasets'),
    own(
        'def load():\n    return vector_dataset(), TensorDataset(torch.empty(0, 6))',
        'validation part of mydata:load is empty',
    ),
    own('def load():\n    return [[torch.zeros(6), "cat"]], [[torch.zeros(6), "cat"]]', 'has to be a torch Dataset'),
    own('import nothing_of_this_name', 'cannot be imported'),
    own('def load(:', 'cannot be imported'),
    own('1 / 0', 'cannot be imported: ZeroDivisionError'),
    own('load = 3', 'mydata:load'),
    own('def load():\n    return 1, 2', 'mydata:load'),
    own('def load(path):\n    return path', 'mydata:load'),
    own('def load():\n    raise KeyError("path")', "KeyError: 'path' in mydata.py, line 7"),
    own('def load():\n    return [torch.zeros(6)], [torch.zeros(6)]', 'mydata:load'),
    folder({f'cats/{i}.png': picture() for i in range(5)}, 'class', 'images of one class'),
]
