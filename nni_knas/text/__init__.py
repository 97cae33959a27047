"""Text classification: labelled texts as tokens, pre-trained encoders, and the training of classifiers over them."""

from __future__ import annotations

from typing import Any

from nni_knas.data import Data, TextData, TokenDataset, load_text, text_data
from nni_knas.text.comparison import Contender, Difference, comparison_table, paired_difference
from nni_knas.text.floor import FloorResult, floor
from nni_knas.text.training import TextClassification

__all__ = [
    'Contender',
    'Difference',
    'FloorResult',
    'TextClassification',
    'TextData',
    'TokenDataset',
    'classifier',
    'comparison_table',
    'floor',
    'load_text',
    'paired_difference',
    'text_data',
]


def classifier(data: Data, **options: Any) -> TextClassification:
    """The evaluator for data that a search has, to be named in its options: ``evaluator: nni_knas.text:classifier``.

    Parameters
    ----------
    data
        The data, whose training and validation parts are tokens.
    **options
        Options of :class:`TextClassification`: what ``evaluator_args`` holds.
    """
    return TextClassification(data.train, data.validation, num_labels=data.classes, **options)
