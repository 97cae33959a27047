"""Text classifiers over a pre-trained encoder, as an NNI model space."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import nni
from nni.mutable import Sample, ensure_frozen
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from torch import Tensor, nn

from nni_knas.basics.checks import check_count
from nni_knas.encoders import PretrainedEncoder, layers_of, load_encoder, separated
from nni_knas.spaces.text_layers import (
    ACTIVATIONS,
    MIXES,
    NORMS,
    OPERATIONS,
    POOLINGS,
    SKIPS,
    TopLayers,
)
from nni_knas.spaces.text_pairs import MATCHES, PAIRS, Joint

__all__ = ['TextClassifierSpace', 'light_text_classifiers']


class TextClassifierSpace(ModelSpace):
    """What stands on top of a pre-trained encoder, and how much of the encoder is tuned.

    A network takes token ids and the sentence that each token belongs to, an int64 tensor of shape ``n x 2 x length`` as
    :func:`nni_knas.text.load_text` makes it, and gives logits of shape ``n x num_labels``. Its parts, in order, with the
    labels of their choices:

    - the encoder, whose top ``tuned`` layers are trained along;
    - the hidden states of its top ``layers``, and the ``mix`` that makes one state a token of them;
    - a cell of ``nodes`` nodes after its input, each the sum of an operation ``edge_i_j`` of each node before it, as in
      NAS-Bench-201 (Dong and Yang 2020); ``skip`` adds the cell's input to its output;
    - a ``pooling`` of tokens into one vector;
    - for pairs of sentences, how the two interact: ``pair``; a linear layer makes ``hidden`` numbers of it;
    - normalisation ``norm``, ``activation``, ``dropout``, and a linear classifier;
    - for pairs, what is added to its logits: ``match``, how well the tokens of the two sentences match in all hidden states.

    The plain fine-tuned encoder, as the sequence classifiers of ``transformers`` are, is the point :meth:`plain`.

    The encoder's weights are loaded once in a process. Networks that are scored share them; one that is built to be trained
    has its own.

    Parameters
    ----------
    encoder
        A Hugging Face encoder: its folder, its name on the hub (``roberta-large``), or ``minilm``, which the extra
        ``[text]`` installs.
    num_labels
        Number of classes.
    sentences
        How many sentences a text has, 1 or 2.
    nodes
        Number of nodes of the cell after its input; the space has ``8 ** (nodes * (nodes + 1) / 2)`` cells.
    operations
        Names of the operations that an edge chooses among. Default: all of none, identity, conv-3, conv-5, conv-9,
        attention, recurrent and feed-forward.
    tuned
        Numbers of top layers that may be tuned. Default: none, 1, 2, half of them and all (with the embeddings).
    layers
        Numbers of top layers that may feed the head. Default: 1, 2, 4 and all.
    skips, mixes, poolings, pairs, matches, norms, activations
        Names of the options. Defaults: none and add; mean, weighted and attention; first, mean, max and attention; joint,
        compare, joint-compare, apart, align and apart-align; none and all; none, layer and rms; tanh, relu, gelu and
        identity.
    hidden
        Numbers that may be made of the pooled vectors. Default: 32, 128 and the encoder's width.
    dropouts
        Shares of features that may be dropped before the classifier.

    Raises
    ------
    ValueError
        If the encoder cannot be loaded, or an option is unknown; the message says what there is.

    Examples
    --------
    >>> space = TextClassifierSpace('minilm', num_labels=2)
    >>> network = SimplifiedModelSpace.from_model(space).freeze(space.plain()).executable_model()
    """

    def __init__(
        self,
        encoder: str,
        num_labels: int,
        *,
        sentences: int = 2,
        nodes: int = 2,
        operations: Sequence[str] | None = None,
        skips: Sequence[str] = tuple(SKIPS),
        tuned: Sequence[int] | None = None,
        layers: Sequence[int] | None = None,
        mixes: Sequence[str] = tuple(MIXES),
        poolings: Sequence[str] = tuple(POOLINGS),
        pairs: Sequence[str] = tuple(PAIRS),
        matches: Sequence[str] = tuple(MATCHES),
        hidden: Sequence[int] | None = None,
        norms: Sequence[str] = tuple(NORMS),
        activations: Sequence[str] = tuple(ACTIVATIONS),
        dropouts: Sequence[float] = (0.0, 0.1, 0.3),
    ) -> None:
        super().__init__()
        for name, value, least in (('num_labels', num_labels, 2), ('sentences', sentences, 1), ('nodes', nodes, 1)):
            check_count(name, value, least)
        if sentences > 2:
            raise ValueError(f'sentences is {sentences}: a text has one sentence or two')
        config = load_encoder(encoder).config
        depth, width = int(config.num_hidden_layers), int(config.hidden_size)
        apart = bool(layers_of(load_encoder(encoder), depth))  # ALBERT's layers share their weights
        usual = sorted({0, 1, 2, depth // 2, depth} & set(range(depth + 1))) if apart else [0, depth]
        tuned = _checked_numbers('tuned', tuned, usual, range(depth + 1))
        layers = _checked_numbers('layers', layers, sorted({1, 2, 4, depth} & set(range(1, depth + 1))), range(1, depth + 2))
        if not _are_several(dropouts) or not all(
            isinstance(share, (int, float)) and 0 <= share < 1 and _share_of_percent(f'{share:.0%}') == share
            for share in dropouts
        ):
            raise ValueError(
                f'dropouts is {dropouts!r}: it has to be different shares, in whole percents, of 0 or more, less than 1'
            )

        def choice(
            label: str,
            options: Mapping[str, Callable[..., nn.Module]],
            names: Collection[str],
            *arguments: Any,
        ) -> LayerChoice:
            chosen = _checked_names(label, options, names)
            return LayerChoice({name: options[name](*arguments) for name in chosen}, label=label)

        self.encoder = PretrainedEncoder(encoder, ensure_frozen(self.add_mutable(nni.choice('tuned', tuned))))
        self.layers = LayerChoice({str(count): TopLayers(count) for count in layers}, label='layers')
        self.mix = choice('mix', MIXES, mixes, max(layers), width)
        self.nodes = nodes
        self.edges = nn.ModuleDict(
            {
                f'{i}_{j}': choice(
                    f'edge_{i}_{j}', OPERATIONS, tuple(OPERATIONS) if operations is None else operations, width
                )
                for j in range(1, nodes + 1)
                for i in range(j)
            }
        )
        self.skip = choice('skip', SKIPS, skips)
        self.pooling = choice('pooling', POOLINGS, poolings, width)
        hidden = sorted({32, 128, width}) if hidden is None else _checked_sizes('hidden', hidden)
        features = ensure_frozen(self.add_mutable(nni.choice('hidden', hidden)))
        merging = width, features, encoder
        self.pair = choice('pair', PAIRS, pairs, *merging) if sentences == 2 else Joint(*merging)
        self.match = choice('match', MATCHES, matches, depth + 1, num_labels) if sentences == 2 else None
        self.norm = choice('norm', NORMS, norms, features)
        self.activation = choice('activation', ACTIVATIONS, activations)
        self.dropout = LayerChoice({f'{share:.0%}': nn.Dropout(share) for share in dropouts}, label='dropout')
        self.classifier = nn.Linear(features, num_labels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of shape ``n x num_labels`` for tokens of shape ``n x 2 x length``."""
        ids, sentence = self.encoder_inputs(tokens)
        states = self.encoder(ids, sentence)
        tokens = self.mix(self.layers(states))
        tokens = self.skip(tokens, self._run_cell(tokens, sentence > 0))
        features = self.pair(self.pooling, tokens, sentence)
        logits: Tensor = self.classifier(self.dropout(self.activation(self.norm(features))))
        if self.match is not None:
            logits = logits + self.match(states, sentence, self.pair.apart)
        return logits

    def encoder_inputs(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder is given: token ids, and the sentence of each; each by itself where they are apart."""
        ids, sentence = tokens.unbind(1)
        return separated(ids, sentence, self.encoder.start) if self.pair.apart else (ids, sentence)

    @property
    def top_states(self) -> int:
        """How many hidden states of the encoder, counted from the last one, are read."""
        mixed: int = self.layers.count
        return mixed if self.match is None else max(mixed, self.match.states)

    def _run_cell(self, tokens: Tensor, mask: Tensor) -> Tensor:
        nodes = [tokens]
        for j in range(1, self.nodes + 1):
            nodes.append(sum(self.edges[f'{i}_{j}'](nodes[i], mask) for i in range(j)))
        return nodes[-1]

    def plain(self) -> Sample:
        """The sample of the plain fine-tuned encoder.

        Its last layer's first token (both sentences of a pair encoded in one), a linear layer with tanh that starts from the
        encoder's pooler, dropout, and a linear classifier, with all layers tuned. Dropout is the smallest that is not below
        the encoder's own, or the largest.

        Raises
        ------
        ValueError
            If the space was narrowed so that it does not hold it.
        """
        own = getattr(load_encoder(self.encoder.name).config, 'hidden_dropout_prob', 0.1)
        choices = self.simplify()
        shares = sorted(choices['dropout'].values, key=_share_of_percent)
        output = f'edge_0_{self.nodes}'
        sample = {label: 'none' for label in choices if label.startswith('edge_')} | {
            'tuned': self.encoder.layers,
            'layers': '1',
            'mix': 'mean',
            output: 'identity',
            'skip': 'none',
            'pooling': 'first',
            'pair': 'joint',
            'match': 'none',
            'hidden': self.encoder.width,
            'norm': 'none',
            'activation': 'tanh',
            'dropout': next((share for share in shares if _share_of_percent(share) >= own), shares[-1]),
        }
        sample = {label: choice for label, choice in sample.items() if label in choices}
        absent = [f'{label} {choice!r}' for label, choice in sample.items() if choice not in choices[label].values]
        if absent:
            raise ValueError(f'the plain encoder is not in this space, which was narrowed: it lacks {", ".join(absent)}')
        return sample

    def pretrained_parameters(self) -> Iterator[nn.Parameter]:
        """The encoder's parameters that are tuned."""
        return (p for p in self.encoder.parameters() if p.requires_grad)

    def reset_parameters(self) -> None:
        """Put the encoder's pre-trained weights back, and draw all others anew."""
        self.encoder.restore()
        new = [module for name, child in self.named_children() if name != 'encoder' for module in child.modules()]
        for module in reversed(new):  # what a module resets of its parts comes last
            reset = getattr(module, 'reset_parameters', None) or getattr(module, '_reset_parameters', None)
            if reset is not None:
                reset()


def light_text_classifiers(
    encoder: str, num_labels: int, *, sentences: int = 2, tuned: Sequence[int] | None = None
) -> TextClassifierSpace:
    """Classifiers of a :class:`TextClassifierSpace` that a CPU trains in about a minute on some thousand texts.

    They have no cell: tokens are pooled as the encoder gives them.

    Parameters
    ----------
    encoder, num_labels, sentences
        As of :class:`TextClassifierSpace`.
    tuned
        Numbers of top layers that may be tuned. Default: none, and the top one.

    Raises
    ------
    ValueError
        As by :class:`TextClassifierSpace`.
    """
    if tuned is None:
        depth = int(load_encoder(encoder).config.num_hidden_layers)
        tuned = [0, 1] if layers_of(load_encoder(encoder), depth) else [0]
    return TextClassifierSpace(
        encoder, num_labels, sentences=sentences, nodes=1, operations=['identity'], skips=['none'], tuned=tuned
    )


def _share_of_percent(percent: str) -> float:
    return float(percent.rstrip('%')) / 100


def _checked_numbers(name: str, values: Sequence[int] | None, default: Sequence[int], allowed: range) -> list[int]:
    if values is None:
        return list(default)
    if not _are_several(values) or not all(type(value) is int and value in allowed for value in values):
        raise ValueError(
            f'{name} is {values!r}: it has to be different numbers of layers from {allowed[0]} to {allowed[-1]}'
        )
    return list(values)


def _checked_sizes(name: str, values: Sequence[int]) -> list[int]:
    if not _are_several(values) or not all(type(value) is int and value > 0 for value in values):
        raise ValueError(f'{name} is {values!r}: it has to be different whole numbers, 1 or more')
    return list(values)


def _checked_names(label: str, options: Collection[str], names: Collection[str]) -> Collection[str]:
    if not _are_several(names):
        raise ValueError(f'the options of {label} are {names!r}: they have to be different ones of {", ".join(options)}')
    unknown = [name for name in names if name not in options]
    if unknown:
        raise ValueError(f'{label} may be {", ".join(options)}, not {", ".join(map(repr, unknown))}')
    return names


def _are_several(values: Any) -> bool:
    """Whether these are options to choose among: a list of one or more that differ."""
    return isinstance(values, Collection) and not isinstance(values, str) and 0 < len(values) == len({*values})
