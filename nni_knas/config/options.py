"""What can be said of a search: each option once, for the command line, the configuration file, the tuner and the docs."""

# ruff: noqa: RUF009  what _option returns is a dataclasses.field
from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from nni_knas.basics.checks import LARGEST_SEED
from nni_knas.basics.extras import how_to_install
from nni_knas.basics.failures import failure
from nni_knas.basics.names import (
    COSTS,
    DATA_HELP,
    EXPLORERS,
    HUB,
    PLACEMENTS,
    RECOMMENDED,
    SCORES,
    TORCHVISION,
    Choose,
    Effort,
    Normalization,
    OptimizeMode,
)
from nni_knas.basics.spelling import nearest, quoted
from nni_knas.search import FEW, SearchRequest

if TYPE_CHECKING:  # the options themselves are known without torch and NNI; what is made of them imports what it is made of
    from nni.nas.evaluator import Evaluator
    from nni.nas.nn.pytorch import ModelSpace
    from nni.nas.strategy.base import Strategy

    from nni_knas.data import Data
    from nni_knas.kernel import GradientKernelEvaluator
    from nni_knas.search import KNAS

__all__ = ['Option', 'SearchOptions', 'checked_values', 'nearest', 'options']

LARGEST = 2**63 - 1
"""The largest whole number that a record can hold."""

REFERENCE = r'[\w.]+:[\w.]+'  # module:function

Section = Literal['space and data', 'scoring', 'coarse stage', 'limits', 'fine stage', 'energy', 'web portal']


def _known_scores() -> Sequence[str]:
    """The names of the scores; with those that a user has registered, who has imported the room for that."""
    scores = sys.modules.get('nni_knas.scores')
    return scores.score_names() if scores is not None else SCORES


def _option(default: Any, section: Section, text: str, **more: Any) -> Any:
    """A field of :class:`SearchOptions`.

    Besides its help it may have ``choices`` (or a function that gives them), ``least`` and ``most`` (inclusive), ``above``
    (exclusive), ``pattern``, ``examples`` (of values that are not all there are), and ``metavar`` for the command line.
    """
    metadata = {'section': section, 'help': text, **more}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass
class SearchOptions:
    """Everything about a search that is not NNI's.

    All fields have defaults and are described by their metadata; ``nni-knas search --help`` and ``docs/options.md`` show
    them. The constructor checks nothing: use :meth:`from_mapping` for what a user wrote.
    """

    space: str = _option(
        'NasBench201', 'space and data', f"a space of NNI's hub ({', '.join(HUB)}) or your own as module:Class", examples=HUB
    )
    space_args: dict[str, Any] = _option(
        {},
        'space and data',
        'arguments of the space; the number of classes is passed as num_labels, where the space takes it',
    )
    network: str | None = _option(
        None,
        'space and data',
        'your function from parameters to a network, as module:function; '
        "it goes with a search space in NNI's JSON format, in place of a space",
        pattern=REFERENCE,
        metavar='MODULE:FUNCTION',
    )
    data: str = _option('digits', 'space and data', DATA_HELP, examples=['digits', *TORCHVISION])
    image_size: int = _option(32, 'space and data', 'images are resized to this', least=1, metavar='PIXELS')
    images: int | None = _option(None, 'space and data', 'use at most N images for training, and for validation', least=1)

    score: str = _option(RECOMMENDED, 'scoring', 'how networks are judged without training', choices=_known_scores)
    batch_size: int = _option(16, 'scoring', 'images to score on', least=1)
    normalization: Normalization = _option(
        'sample', 'scoring', 'whose statistics a BatchNorm uses while scoring', choices=get_args(Normalization)
    )
    seed: int = _option(0, 'scoring', 'of the images, the initial weights and the exploration', least=0, most=LARGEST_SEED)
    device: str | None = _option(None, 'scoring', 'cpu, cuda or cuda:N; by default cuda where there is one')

    candidates: int = _option(SearchRequest.candidates, 'coarse stage', 'how many to score', least=1)
    explorer: str = _option('random', 'coarse stage', 'how the space is explored', choices=EXPLORERS)
    near_best: int = _option(
        SearchRequest.near_best,
        'coarse stage',
        'with choose learn, so many of the candidates are drawn near the best when some are trained, not by the explorer',
        least=0,
        metavar='N',
    )
    placement: str = _option(
        SearchRequest.placement,
        'coarse stage',
        "where candidates are scored: in this process, in worker processes, in one for each GPU, or in NNI's trials",
        choices=PLACEMENTS,
    )
    workers: int | None = _option(
        None, 'coarse stage', 'score in N worker processes; for placement workers the default is one a core', least=1
    )
    effort: Effort = _option(
        SearchRequest.effort,
        'coarse stage',
        'score all quickly and the best in full, or all in full',
        choices=get_args(Effort),
    )
    merge_identical: bool = _option(
        SearchRequest.merge_identical, 'coarse stage', 'score candidates that compute the same once'
    )

    max_parameters: int | None = _option(None, 'limits', 'only networks of at most so many parameters', least=1)
    max_flops: float | None = _option(
        None, 'limits', 'only networks of at most so many floating-point operations an image', above=0
    )
    max_memory: int | None = _option(
        None, 'limits', 'only networks that hold at most so much at a time', least=1, metavar='BYTES'
    )
    max_latency: float | None = _option(
        None, 'limits', 'only networks whose forward pass of an image takes at most so long', above=0, metavar='SECONDS'
    )
    front: str | None = _option(
        None, 'limits', 'take the best from the Pareto front of the score against this cost', choices=COSTS
    )

    top_k: int = _option(FEW, 'fine stage', 'how many to train; 0 stops after scoring', least=0, metavar='K')
    choose: Choose = _option(
        SearchRequest.choose,
        'fine stage',
        'how those that are trained are chosen: by score, or by what the metrics of those before have taught',
        choices=get_args(Choose),
    )
    stop_when: float | None = _option(
        SearchRequest.stop_when,
        'fine stage',
        'with choose learn, train no more when the chance that a better one is among the rest is below this, such as 0.05; '
        'by default all are trained',
        above=0,
        below=1,
        metavar='CHANCE',
    )
    optimize_mode: OptimizeMode | None = _option(
        SearchRequest.optimize_mode,
        'fine stage',
        "whether a higher or a lower metric of training is better; by default as the evaluator's metric asks where known, "
        'and else maximize',
        choices=get_args(OptimizeMode),
    )
    epochs: int = _option(4, 'fine stage', 'training epochs for each', least=1)
    learning_rate: float = _option(0.001, 'fine stage', 'of Adam', above=0, metavar='RATE')
    train_batch: int = _option(16, 'fine stage', 'batch size of training', least=1)
    evaluator: str | None = _option(
        None,
        'fine stage',
        'your function that returns an NNI evaluator, as module:function, '
        'in place of training by epochs, learning rate and batch; it is called with the data '
        '(nni_knas.data.Data) and evaluator_args',
        pattern=REFERENCE,
        metavar='MODULE:FUNCTION',
    )
    evaluator_args: dict[str, Any] = _option({}, 'fine stage', 'further arguments of the evaluator')

    country: str | None = _option(
        None,
        'energy',
        'where the energy comes from that a run takes, for its CO2-equivalent: an '
        "ISO 3166 code of three letters; by default that of codecarbon's configuration, or else "
        'of the locale',
        pattern='[A-Za-z]{3}',
        examples=['DEU', 'USA'],
        metavar='CODE',
    )

    host: str | None = _option(
        None,
        'web portal',
        'address that the web portal listens on, 0.0.0.0 for all of this machine: it knows no login, and whoever reaches it '
        'can run code as you; by default 127.0.0.1, which this machine alone reaches, and all where other machines train',
        metavar='ADDRESS',
    )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> SearchOptions:
        """Options as a user wrote them, checked as far as that needs no work.

        Parameters
        ----------
        mapping
            Values by name, in ``snake_case`` or ``camelCase``. Numbers may be written as text, since YAML reads ``1e6`` so.

        Raises
        ------
        ValueError
            If a name is unknown or a value cannot be, with a sentence that says what would be right.
        """
        result = cls(**checked_values(mapping))
        result.check()
        return result

    def check(self) -> None:
        """Check that the options go together.

        Raises
        ------
        ValueError
            If they do not.
        """
        self.request()
        if self.network is not None and self.space != SearchOptions.space:
            raise ValueError(f'there are both a network ({self.network}) and a space ({self.space}): give one of the two')
        if self.network is not None and self.space_args:
            raise ValueError('space_args goes with a space, not with a network')
        if self.evaluator_args and self.evaluator is None:
            raise ValueError('evaluator_args goes with an evaluator of your own: give evaluator, too')

    def to_mapping(self) -> dict[str, Any]:
        """All options by name, as JSON can hold them."""
        return dataclasses.asdict(self)

    def constraints(self) -> dict[str, float]:
        """The limits that are given, by cost: ``parameters``, ``flops``, ``memory`` (bytes), ``latency`` (seconds)."""
        limits = {cost: getattr(self, f'max_{cost}') for cost in COSTS}
        return {cost: limit for cost, limit in limits.items() if limit is not None}

    def load_data(self) -> Data:
        """The images; see :func:`nni_knas.data.load_data`."""
        from nni_knas.data import load_data

        return load_data(self.data, size=self.image_size, limit=self.images)

    def make_space(self, classes: int, search_space: Mapping[str, Any] | None = None) -> ModelSpace:
        """The space to search.

        Parameters
        ----------
        classes
            Number of classes of the data.
        search_space
            NNI's search space (what is in a ``search_space.json``); goes with ``network``.

        Raises
        ------
        ValueError
            If there is no such space, or it cannot be built.
        """
        self.check()
        if self.network is not None:
            if search_space is None:
                raise ValueError(f"the network {self.network} goes with a search space in NNI's JSON format: give one")
            from nni_knas.spaces import FunctionSpace

            return FunctionSpace(self.network, search_space)
        if search_space:
            raise ValueError(
                "a search space in NNI's JSON format goes with a network: give network as module:function, or "
                'leave the search space empty'
            )
        return self._built_space(classes)

    def _built_space(self, classes: int) -> ModelSpace:
        from nni.nas.nn.pytorch import ModelSpace

        factory = _space_factory(self.space)
        try:
            try:
                space = factory(**{'num_labels': classes, **self.space_args})
            except TypeError as error:
                if not any(words in str(error) for words in ('num_labels', 'takes no arguments')):
                    raise
                space = factory(**self.space_args)
        except Exception as error:
            raise ValueError(f'the space {self.space} cannot be built, see space_args: {failure(error)}') from error
        if not isinstance(space, ModelSpace):
            raise ValueError(f'{self.space} is no NNI model space (nni.nas.nn.pytorch.ModelSpace)')
        return space

    def make_kernel(self, data: Data) -> GradientKernelEvaluator:
        """What scores."""
        from nni_knas.kernel import GradientKernelEvaluator

        return GradientKernelEvaluator(
            data.train, self.score, self.batch_size, self.seed, self.normalization, device=self.device
        )

    def make_explorer(self) -> Strategy:
        """NNI's strategy that explores.

        Raises
        ------
        ValueError
            If it needs packages that are not installed.
        """
        try:
            return _explorer(self.explorer, self.seed)
        except ImportError:
            raise ValueError(
                f'the explorer {self.explorer} needs packages that are not here: {how_to_install("rl")}'
            ) from None

    def request(self) -> SearchRequest:
        """What the strategy is asked for by these options.

        Raises
        ------
        ValueError
            If they do not go together.
        """
        shared = {each.name for each in dataclasses.fields(SearchRequest)} & {each.name for each in dataclasses.fields(self)}
        return SearchRequest(constraints=self.constraints(), **{name: getattr(self, name) for name in shared})

    def make_strategy(self, kernel: GradientKernelEvaluator, **more: Any) -> KNAS:
        """The strategy; ``more`` are further arguments of :class:`~nni_knas.KNAS`."""
        from nni_knas.search import KNAS

        self.check()
        return KNAS(kernel, explorer=self.make_explorer(), **{**self.request().fields(), **more})

    def make_evaluator(self, data: Data) -> Evaluator:
        """NNI's evaluator that trains the best.

        Raises
        ------
        ValueError
            If the user's own cannot be had.
        """
        if self.evaluator is not None:
            return _own_evaluator(self.evaluator, data, self.evaluator_args)
        import torch
        from nni.nas.evaluator.pytorch import Classification, DataLoader, Regression

        from nni_knas.data import has_values

        values = has_values(data.train)
        if self.optimize_mode == ('maximize' if values else 'minimize'):
            raise ValueError(
                f'optimize_mode "{self.optimize_mode}" goes with an evaluator of your own, since the default one reports '
                f'the {"mean squared error" if values else "accuracy"}: give evaluator as module:function'
            )
        make = Regression if values else functools.partial(Classification, num_classes=data.classes)
        return make(
            learning_rate=self.learning_rate,
            max_epochs=self.epochs,
            train_dataloaders=DataLoader(data.train, batch_size=self.train_batch, shuffle=True),
            val_dataloaders=DataLoader(data.validation, batch_size=256),
            accelerator='gpu' if torch.cuda.is_available() else 'cpu',
            devices=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
        )


class Option(NamedTuple):
    """One field of :class:`SearchOptions`, as whoever shows or reads it needs it."""

    name: str
    kind: Any
    """``str``, ``int``, ``float``, ``bool`` or ``dict``"""
    optional: bool
    """Whether it may be ``None``"""
    default: Any
    section: str
    help: str
    choices: tuple[str, ...] | None = None
    examples: tuple[str, ...] | None = None
    least: int | None = None
    most: int | None = None
    above: int | None = None
    below: int | None = None
    pattern: str | None = None
    metavar: str | None = None

    def expected(self) -> str:
        """What a value has to be, in words."""
        if self.choices:
            return f'one of {", ".join(self.choices)}'
        if self.pattern:
            return (
                'of the form module:function' if self.pattern == REFERENCE else f'such as {" or ".join(self.examples or ())}'
            )
        words = {
            str: 'text',
            int: 'a whole number',
            float: 'a number',
            bool: 'true or false',
            dict: 'a mapping of names to values',
        }[self.kind]
        words += f', {self.least} or more' if self.least is not None else ''
        words += f' and at most {self.most}' if self.most is not None else ''
        words += f' above {self.above}' if self.above is not None else ''
        return words + (f' and below {self.below}' if self.below is not None else '')

    def checked(self, value: Any) -> Any:
        """The value, as the field holds it.

        Raises
        ------
        ValueError
            If it cannot be.
        """
        if value is None and self.optional:
            return None
        result = _number(value, self.kind) if self.kind in (int, float) else value
        if not self._fits(result):
            shown = value if result is None else result  # a number, though the command line has it as text
            raise ValueError(f'{self.name} is {shown!r}: {self._hint(value)}')
        if self.kind is int and result > LARGEST:
            raise ValueError(f'{self.name} is {result:.3e}: it has to be at most {LARGEST}')
        return dict(result) if self.kind is dict else result

    def _hint(self, value: Any) -> str:
        """The choice that was probably meant, or what a value has to be."""
        close = difflib.get_close_matches(value, self.choices or (), 1) if isinstance(value, str) else []
        return f'did you mean "{close[0]}"?' if close else f'it has to be {self.expected()}'

    def _fits(self, value: Any) -> bool:
        if self.kind is dict:
            return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
        if type(value) is not self.kind:
            return False
        return (
            (self.choices is None or value in self.choices)
            and (self.pattern is None or re.fullmatch(self.pattern, value) is not None)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def checked_values(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a mapping by the names of their fields, each checked by itself.

    For parameters and errors see :meth:`SearchOptions.from_mapping`.
    """
    values: dict[str, Any] = {}
    known = {option.name: option for option in options()}
    for key, value in mapping.items():
        name = _snake_case(str(key))
        if name not in known:
            raise ValueError(f'unknown field {quoted(key)}: {nearest(name, known)}')
        if name in values:
            raise ValueError(f'the field {name} is given twice')
        values[name] = known[name].checked(value)
    return values


def options() -> list[Option]:
    """All fields of :class:`SearchOptions`, in their order."""
    hints = get_type_hints(SearchOptions)
    return [_described(field, hints[field.name]) for field in dataclasses.fields(SearchOptions)]


def _snake_case(key: str) -> str:
    """``batchSize`` as ``batch_size``."""
    return re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', key).lower()


def _described(field: dataclasses.Field[Any], hint: Any) -> Option:
    optional = NoneType in get_args(hint)
    kind = next(part for part in get_args(hint) if part is not NoneType) if optional else hint
    kind = {Literal: str}.get(get_origin(kind), get_origin(kind)) or kind
    default = {} if field.default is dataclasses.MISSING else field.default
    metadata = dict(field.metadata)
    if callable(metadata.get('choices')):
        metadata['choices'] = tuple(metadata['choices']())
    return Option(field.name, kind, optional, default, **metadata)


def _number(value: Any, kind: type) -> Any:
    """A number, where it is one or is written as one, else the value itself."""
    if isinstance(value, str):
        try:
            value = float(value) if not re.fullmatch(r'\s*[-+]?\d+\s*', value) else int(value)
        except ValueError:
            return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int) and kind is int:
        return value
    try:
        value = float(value)
    except OverflowError:  # a whole number above all floating-point ones
        return None
    if not math.isfinite(value):
        return None
    if kind is float:
        return value
    return int(value) if value == int(value) else None


def _space_factory(name: str) -> Callable[..., Any]:
    import nni.nas.hub.pytorch as hub

    from nni_knas.data import load_object

    names = {known.lower(): known for known in HUB}
    if ':' not in name and name.lower() not in names:
        raise ValueError(f'unknown space {name!r}: {nearest(name, HUB)} (your own is module:Class)')
    factory: Callable[..., Any] = load_object(name) if ':' in name else getattr(hub, names[name.lower()])
    return factory


def _explorer(name: str, seed: int) -> Strategy:
    """NNI's strategy of a name."""
    import nni.nas.strategy as strategies

    explorers: dict[str, Callable[[], Strategy]] = {
        'random': lambda: strategies.Random(seed=seed),
        'grid': lambda: strategies.GridSearch(seed=seed),
        'evolution': lambda: strategies.RegularizedEvolution(seed=seed, population_size=50, sample_size=10),
        'tpe': lambda: strategies.TPE(seed=seed),
        'rl': lambda: strategies.PolicyBasedRL(),
    }
    return explorers[name]()


def _own_evaluator(name: str, data: Data, arguments: Mapping[str, Any]) -> Evaluator:
    from nni.nas.evaluator import Evaluator

    from nni_knas.data import load_object

    function = load_object(name)
    try:
        evaluator = function(data, **arguments)
    except Exception as error:
        raise ValueError(f'the evaluator {name} cannot be made, see evaluator_args: {failure(error)}') from error
    if not isinstance(evaluator, Evaluator):
        raise ValueError(f'{name} returned {type(evaluator).__name__}: it has to return an NNI evaluator')
    return evaluator
