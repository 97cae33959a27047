"""The floor under every table: what a linear classifier makes of an encoder that nothing of is tuned."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from nni_knas.data import LengthBatches, TextData, TokenDataset, pad
from nni_knas.encoders import PretrainedEncoder, separated
from nni_knas.text.states import FrozenStates

__all__ = ['FloorResult', 'floor']

STRENGTHS = np.logspace(-5, 1, 7)
"""The values of ``C``, the inverse strength of the regularisation, that are tried."""
FOLDS = 5
BATCH = 64


class FloorResult(NamedTuple):
    """What the floor is.

    Attributes
    ----------
    predicted
        The class that each text of the dev split is given, in their order.
    accuracy, f1
        Of the dev split.
    strength
        The ``C`` that was chosen.
    """

    predicted: list[int]
    accuracy: float
    f1: float
    strength: float


def floor(data: TextData, encoder: str) -> FloorResult:
    """A logistic regression on a frozen encoder's sentences, which anything that is searched or tuned has to leave behind.

    Each sentence is encoded by itself, and is the mean of its tokens in the last layer. A pair is ``u``, ``v``, ``|u - v|``
    and ``u v`` (Conneau et al. 2017), one sentence ``u``, each feature standardised. It is trained on what all others are
    trained on, and its regularisation is chosen by cross-validation there.

    Parameters
    ----------
    data
        The task, with a dev split.
    encoder
        The encoder that it is in tokens of.

    Raises
    ------
    ValueError
        If there is no dev split, or too few texts to cross-validate.
    """
    if data.test is None:
        raise ValueError('the floor is told on a dev split, which these data do not have')
    frozen = PretrainedEncoder(encoder, 0)
    least = int(np.min(np.bincount(data.train.targets)))
    if least < 2:
        raise ValueError('a class has a single text to train on: the floor cannot be cross-validated')
    train, test = (_features(part, frozen) for part in (data.train, data.test))
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    search = GridSearchCV(regression, {'logisticregression__C': STRENGTHS}, cv=min(FOLDS, least))
    search.fit(train, data.train.targets)
    predicted = search.predict(test)
    return FloorResult(
        predicted.tolist(),
        float(accuracy_score(data.test.targets, predicted)),
        float(f1_score(data.test.targets, predicted, average='binary' if data.num_labels == 2 else 'macro')),
        float(search.best_params_['logisticregression__C']),
    )


def _features(texts: TokenDataset, encoder: PretrainedEncoder) -> NDArray[Any]:
    batches = list(LengthBatches(texts.lengths, BATCH, shuffle=False))
    inputs = [_inputs_of(texts, batch, encoder) for batch in batches]
    states = FrozenStates(encoder, 1)
    states.add(inputs)
    features = np.empty((len(texts), (4 if texts.sentences == 2 else 1) * encoder.width), np.float32)
    with torch.no_grad(), encoder.given(states):
        for batch, (ids, sentence) in zip(batches, inputs):
            weights = (sentence > 0).float()[..., None]
            pooled = (encoder(ids, sentence)[-1] * weights).sum(1) / weights.sum(1)
            features[batch] = _compared(pooled, texts.sentences).numpy()
    return features


def _inputs_of(texts: TokenDataset, batch: list[int], encoder: PretrainedEncoder) -> tuple[Tensor, Tensor]:
    ids, sentence = pad([texts[i] for i in batch])[0].unbind(1)
    return separated(ids, sentence, encoder.start) if texts.sentences == 2 else (ids, sentence)


def _compared(pooled: Tensor, sentences: int) -> Tensor:
    if sentences == 1:
        return pooled
    one, other = pooled.unflatten(0, (2, -1))
    return torch.cat([one, other, (one - other).abs(), one * other], 1)
