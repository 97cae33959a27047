"""How the two sentences of a text interact, as layers of a text classifier: what is pooled, and how well tokens match.

Shapes: ``n`` texts of ``length`` tokens, each a vector of ``width``. Its ``sentence`` tells where each token of a text
belongs, 1 or 2, 0 where there is padding, which has no influence. Encoders are given the two sentences in one text (``n``
of them), or each by itself (``apart``: ``2n``, all first sentences before all second ones).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nni_knas.encoders import load_encoder

__all__ = ['MATCHES', 'PAIRS', 'Joint', 'RunningNorm']

Pooling = Callable[[Tensor, Tensor], Tensor]

SHARPNESS = 20.0
"""By what a cosine is multiplied before the softmax of an alignment: a token that is .1 nearer has 7 times the weight.
Between the mean of all tokens and the nearest one alone."""
QUANTILES = (0.0, 0.1, 0.25, 0.5)


class RunningNorm(nn.BatchNorm1d):
    """Each number less its mean, divided by its deviation, of all batches that were trained on so far.

    It does the same to a text whatever else is in its batch, and the same in training as afterwards. Before any training it
    leaves numbers as they are.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, momentum=None, affine=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) > 1:
            super().forward(input.detach())  # counts the batch
        return F.batch_norm(input, self.running_mean, self.running_var, eps=self.eps)


class Sides(NamedTuple):
    """The tokens of the first sentences and those of the second ones, ``n x length x width``, and where they are."""

    one: Tensor
    other: Tensor
    here: Tensor
    there: Tensor


def sides_of(tokens: Tensor, sentence: Tensor, apart: bool) -> Sides:
    """The two sentences of each text, encoded in one or apart."""
    if not apart:
        return Sides(tokens, tokens, sentence == 1, sentence == 2)
    (one, other), (here, there) = tokens.unflatten(0, (2, -1)), (sentence > 0).unflatten(0, (2, -1))
    return Sides(one, other, here, there)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """The cosine of each token and each token of the other, ``n x length x length``."""
    return F.normalize(one, dim=2) @ F.normalize(other, dim=2).mT


def aligned_differences(sides: Sides) -> tuple[Tensor, Tensor]:
    r"""How far each token is from what it attends to in the other sentence, :math:`|x_i - \sum_j a_{ij} y_j|`, for both.

    The alignment is that of Parikh et al. 2016 (decomposable attention), eq. 2, with :math:`a_{ij}` the softmax over j of
    :data:`SHARPNESS` times the cosine of :math:`x_i` and :math:`y_j`.
    """
    one, other, here, there = sides
    likeness = SHARPNESS * cosines(one, other)
    least = torch.finfo(likeness.dtype).min
    in_other = likeness.masked_fill(~there[:, None, :], least).softmax(2) @ other
    in_one = likeness.masked_fill(~here[:, :, None], least).softmax(1).mT @ one
    return (one - in_other).abs(), (other - in_one).abs()


class Pair(nn.Module):
    """What is made of the two sentences is merged into ``hidden`` numbers by a linear layer."""

    apart = False
    parts = 1
    """How many vectors of ``width`` are merged."""

    def __init__(self, width: int, hidden: int, encoder: str) -> None:
        super().__init__()
        self.merge = nn.Linear(self.parts * width, hidden)

    def forward(self, pool: Pooling, tokens: Tensor, sentence: Tensor) -> Tensor:
        """Numbers of shape ``n x hidden``."""
        merged: Tensor = self.merge(torch.cat(self.pooled(pool, tokens, sentence), 1))
        return merged

    def pooled(self, pool: Pooling, tokens: Tensor, sentence: Tensor) -> list[Tensor]:
        """The vectors that are merged, ``n x width`` each."""
        raise NotImplementedError


class Joint(Pair):
    """The text, both sentences of a pair in one, is pooled as a whole.

    The linear layer behind it starts from the encoder's own pooler where there is one of its size, as in the sequence
    classifiers of ``transformers``.
    """

    def __init__(self, width: int, hidden: int, encoder: str) -> None:
        super().__init__(width, hidden, encoder)
        self.encoder = encoder
        self.reset_parameters()

    def reset_parameters(self) -> None:
        pooler = getattr(getattr(load_encoder(self.encoder), 'pooler', None), 'dense', None)
        if isinstance(pooler, nn.Linear) and pooler.weight.shape == self.merge.weight.shape:
            self.merge.load_state_dict(pooler.state_dict())

    def pooled(self, pool: Pooling, tokens: Tensor, sentence: Tensor) -> list[Tensor]:
        return [pool(tokens, sentence > 0)]


class Compared(Pair):
    """Both sentences are encoded in one and pooled by themselves: ``u``, ``v``, ``|u - v|`` and ``u v``.

    The features are those of Conneau et al. 2017 (InferSent), fig. 1.
    """

    parts = 4

    def pooled(self, pool: Pooling, tokens: Tensor, sentence: Tensor) -> list[Tensor]:
        one, other, here, there = sides_of(tokens, sentence, self.apart)
        u, v = pool(one, here), pool(other, there)
        return [u, v, (u - v).abs(), u * v]


class JointAndCompared(Pair):
    """The pair pooled as a whole, with ``|u - v|`` and ``u v`` of its two sentences."""

    parts = 3

    def pooled(self, pool: Pooling, tokens: Tensor, sentence: Tensor) -> list[Tensor]:
        u, v = pool(tokens, sentence == 1), pool(tokens, sentence == 2)
        return [pool(tokens, sentence > 0), (u - v).abs(), u * v]


class ComparedApart(Compared):
    """The same as :class:`Compared` of sentences that are encoded each by itself, as in a siamese network."""

    apart = True


class Aligned(Pair):
    """Each sentence is encoded by itself, and its tokens are compared with what they attend to in the other.

    See :func:`aligned_differences`.
    """

    apart = True
    parts = 2

    def pooled(self, pool: Pooling, tokens: Tensor, sentence: Tensor) -> list[Tensor]:
        return _pooled_differences(pool, sides_of(tokens, sentence, self.apart))


class AlignedAndApart(ComparedApart):
    """Those of :class:`Aligned` and those of :class:`ComparedApart`."""

    parts = 6

    def pooled(self, pool: Pooling, tokens: Tensor, sentence: Tensor) -> list[Tensor]:
        differences = _pooled_differences(pool, sides_of(tokens, sentence, self.apart))
        return [*super().pooled(pool, tokens, sentence), *differences]


def _pooled_differences(pool: Pooling, sides: Sides) -> list[Tensor]:
    ours, theirs = aligned_differences(sides)
    return [pool(ours, sides.here), pool(theirs, sides.there)]


class NoMatch(nn.Module):
    """Nothing of how well tokens match."""

    states = 0

    def __init__(self, states: int, num_labels: int) -> None:
        super().__init__()

    def forward(self, states: tuple[Tensor, ...], sentence: Tensor, apart: bool) -> Tensor:
        return states[-1].new_zeros(())


class Match(nn.Module):
    r"""How well the tokens of each sentence match those of the other, in each of some hidden states, as logits.

    A token matches as well as the largest of its cosines with the tokens of the other sentence (the greedy matching of Zhang
    et al. 2020, BERTScore). Of a text and a hidden state there are eleven numbers: of each sentence the mean, the least and
    three quantiles of its tokens' matches, and the product of both means. A small network makes logits of them.

    Parameters
    ----------
    states
        How many hidden states, counted from the last one.
    num_labels
        Number of classes.
    """

    def __init__(self, states: int, num_labels: int) -> None:
        super().__init__()
        self.states = states
        numbers = states * (2 * (1 + len(QUANTILES)) + 1)
        self.layers = nn.Sequential(RunningNorm(numbers), nn.Linear(numbers, 32), nn.GELU(), nn.Linear(32, num_labels))

    def forward(self, states: tuple[Tensor, ...], sentence: Tensor, apart: bool) -> Tensor:
        """Logits of shape ``n x num_labels``."""
        numbers = [_match_numbers(sides_of(tokens, sentence, apart)) for tokens in states[-self.states :]]
        logits: Tensor = self.layers(torch.cat(numbers, 1))
        return logits


def _match_numbers(sides: Sides) -> Tensor:
    """The eleven numbers of each text, ``n x 11``."""
    likeness = cosines(sides.one, sides.other)
    ours = _summaries(likeness.masked_fill(~sides.there[:, None, :], -1).amax(2), sides.here)
    theirs = _summaries(likeness.masked_fill(~sides.here[:, :, None], -1).amax(1), sides.there)
    return torch.cat([ours, theirs, ours[:, :1] * theirs[:, :1]], 1)


def _summaries(values: Tensor, mask: Tensor) -> Tensor:
    """The mean and the quantiles of the values where there is a token: of ``n x length`` to ``n x 5``."""
    counts = mask.sum(1, keepdim=True).clamp(min=1)
    mean = (values * mask).sum(1, keepdim=True) / counts
    ordered = values.masked_fill(~mask, 2).sort(1).values  # padding comes last
    places = torch.tensor(QUANTILES, device=values.device) * (counts - 1)
    below, above = ordered.gather(1, places.long()), ordered.gather(1, places.ceil().long())
    return torch.cat([mean, torch.lerp(below, above, places.frac().to(values))], 1)


PAIRS: dict[str, type[Pair]] = {
    'joint': Joint,
    'compare': Compared,
    'joint-compare': JointAndCompared,
    'apart': ComparedApart,
    'align': Aligned,
    'apart-align': AlignedAndApart,
}
MATCHES: dict[str, type[nn.Module]] = {'none': NoMatch, 'all': Match}
