"""Images by name."""

from __future__ import annotations

import nni
import numpy as np
import pytest
import torch
from nni.common.serializer import is_traceable
from PIL import Image

from nni_knas.data import folders, image_data, load_data


def make_folder(root, classes=('cat', 'dog'), images=10):
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(images):
            Image.fromarray(random.integers(0, 255, (9, 11), dtype=np.uint8)).save(root / name / f'{i}.png')
    return root


class TestDigits:
    def test_are_real_images_of_the_size(self):
        data = load_data('digits', size=24)
        assert data.classes == 10
        assert len(data.train) + len(data.validation) == 1797
        image, label = data.train[0]
        assert image.shape == (3, 24, 24) and isinstance(label, int)
        assert image.min() >= -1 and image.max() <= 1

    def test_parts_do_not_overlap(self):
        data = load_data('digits', size=8)
        train = {image.numpy().tobytes() for image, _ in data.train}
        shared = sum(image.numpy().tobytes() in train for image, _ in data.validation)
        assert shared <= 2  # scikit-learn's digits hold a few twins

    def test_limit_is_the_same_draw_each_time(self):
        first, second = (load_data('digits', limit=50) for _ in range(2))
        assert len(first.train) == len(first.validation) == 50
        assert [label for _, label in first.train] == [label for _, label in second.train]


class TestFolder:
    def test_a_folder_a_class(self, tmp_path):
        data = load_data(f'folder:{make_folder(tmp_path)}', size=16)
        assert data.classes == 2 and len(data.train) == 16 and len(data.validation) == 4
        assert data.train[0][0].shape == (3, 16, 16)

    @pytest.mark.parametrize('validation', ['val', 'test'])
    def test_split_by_folders(self, tmp_path, validation):
        make_folder(tmp_path / 'train')
        make_folder(tmp_path / validation, images=3)
        data = load_data(f'folder:{tmp_path}')
        assert len(data.train) == 20 and len(data.validation) == 6

    def test_of_real_images(self, data_dir):
        data = load_data(f'folder:{data_dir / "cifar10"}', limit=40)
        assert data.classes == 10
        images = torch.stack([image for image, _ in data.train])
        assert images.shape == (40, 3, 32, 32) and images.std() > 0.2

    def test_without_images(self, tmp_path):
        with pytest.raises(ValueError, match='holds no folders of images'):
            load_data(f'folder:{tmp_path}')

    def test_hidden_folders_are_no_classes(self, tmp_path):
        make_folder(tmp_path, ['.ipynb_checkpoints', 'cat', 'dog'])
        (tmp_path / '__MACOSX').mkdir()
        assert load_data(f'folder:{tmp_path}').classes == 2

    def test_a_broken_image_that_was_not_looked_at_is_named_where_it_is_used(self, tmp_path, monkeypatch):
        monkeypatch.setattr(folders, 'LOOKED_AT', 0)
        (make_folder(tmp_path) / 'cat' / '3.png').write_bytes(b'no image')
        data = load_data(f'folder:{tmp_path}')
        with pytest.raises(ValueError, match=r'cat/3\.png cannot be read as an image \(its format is not known\)'):
            list(data.train + data.validation)

    def test_only_a_sample_of_many_images_is_opened(self, tmp_path, monkeypatch):
        monkeypatch.setattr(folders, 'LOOKED_AT', 4)
        data, opened, really_open = load_data(f'folder:{make_folder(tmp_path)}'), [], folders.Image.open
        monkeypatch.setattr(folders.Image, 'open', lambda path: opened.append(path) or really_open(path))
        folders.check_images(data.train)
        assert len(set(opened)) == 4


def own_data():
    part = torch.utils.data.TensorDataset(torch.zeros(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 0, 1]))
    return part, part


def not_a_pair():
    return 3


class TestOwn:
    def test_function(self):
        assert load_data('test_data:own_data').classes == 4

    def test_of_the_wrong_kind(self):
        with pytest.raises(ValueError, match='should return a pair of Datasets'):
            load_data('test_data:not_a_pair')


def test_travels_by_name():
    dataset = image_data(name='digits', part='validation', size=8, limit=5)
    assert is_traceable(dataset)
    text = nni.dump(dataset)
    assert len(text) < 500
    assert torch.equal(nni.load(text)[3][0], dataset[3][0])
