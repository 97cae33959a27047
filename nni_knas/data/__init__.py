"""Labelled images and texts by name: what is searched on."""

from nni_knas.basics.files import CACHE
from nni_knas.data.corpus import Corpus, read_corpus
from nni_knas.data.digest import check_same_data, digest_of, digests_of
from nni_knas.data.loading import DATA_HELP, TORCHVISION, Data, has_values, image_data, load_data, load_object, split_texts
from nni_knas.data.tokens import LengthBatches, TextData, TokenDataset, load_text, pad, text_data

__all__ = [
    'CACHE',
    'DATA_HELP',
    'TORCHVISION',
    'Corpus',
    'Data',
    'LengthBatches',
    'TextData',
    'TokenDataset',
    'check_same_data',
    'digest_of',
    'digests_of',
    'has_values',
    'image_data',
    'load_data',
    'load_object',
    'load_text',
    'pad',
    'read_corpus',
    'split_texts',
    'text_data',
]
