"""What a person would call a module, a function, and what a module is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _LPPoolNd,
    _MaxPoolNd,
)

from nni_knas.networks.drawing.trace import ADD, PASS, ZERO, Call, Step

__all__ = ['MINOR', 'Name', 'is_frozen', 'is_layer', 'is_single', 'name_call', 'name_module', 'name_step']

MINOR = ('norm', 'activation', 'dropout')
_OPERATIONS = ('conv', 'linear', 'pool', 'attention', 'recurrent', 'embedding', 'module')
_JOINING = ('+', '×')
_FUNCTIONS = {
    'cat': ('concat', 'merge'),
    ADD: ('+', 'merge'),
    'mul': ('×', 'merge'),
    'sub': ('−', 'merge'),
    'truediv': ('÷', 'merge'),
    'matmul': ('matmul', 'other'),
    'attention': ('attention', 'attention'),
    'adaptive_avg_pool2d': ('global avg pool', 'pool'),
    'linear': ('linear', 'linear'),
    'layer_norm': ('layer norm', 'norm'),
    'batch_norm': ('batch norm', 'norm'),
}


class Name(NamedTuple):
    """A title, the kind of thing (which chooses the colour), what is said below, and the channels that come out."""

    title: str
    kind: str
    detail: str = ''
    width: int = 0


def name_step(step: Step) -> Name:
    """The name of a function."""
    if step.name == PASS:
        return Name('skip', 'skip')
    if step.name == ZERO:
        return Name('zero', 'zero')
    title, kind = _FUNCTIONS.get(step.name, ('', ''))
    if title:
        return Name(title, kind)
    plain = step.name.rstrip('_')
    if 'pool' in plain:
        return Name(_in_words(plain), 'pool')
    if 'conv' in plain:
        return Name(_in_words(plain), 'conv')
    activation = hasattr(nn.functional, plain) or plain in ('tanh', 'sigmoid')
    return Name(_in_words(plain), 'dropout' if 'dropout' in plain else 'activation' if activation else 'other')


def name_call(call: Call) -> Name:
    """The name of a module: of the one operation that it is about, or of its class."""
    single = _layer_name(call.module)
    if single is not None:
        return single
    about = '' if type(call.module) in (nn.Sequential, nn.ModuleList, nn.ModuleDict) else call.name
    atoms = [*_atoms_of(call)]
    operations = _merge_atoms(atoms)
    kinds = {atom.kind for atom in atoms}
    titles = {atom.title for atom in atoms}
    if len(operations) == 1 and not titles & {*_JOINING} and not _is_several(call, operations[0], atoms):
        return operations[0]._replace(detail=about)
    if kinds == {'skip'}:
        return Name('skip' if about.lower() in ('', 'identity', 'skip') else _in_words(about), 'skip')
    if 'zero' in kinds and not operations and not any(call.module.parameters()):
        return Name('zero', 'zero', '' if about.lower() == 'zero' else about)
    if atoms and kinds <= {*MINOR}:
        return Name(', '.join(atom.title for atom in atoms), atoms[0].kind, about)
    widths = {0, *(call.outputs[0].shape if call.outputs else ())}  # what comes out is told anyway
    few = 0 < len(operations) <= 5
    detail = ' · '.join(each.title + (f' ({each.width})' if each.width not in widths else '') for each in operations)
    if not about and len(operations) == 1 and operations[0].kind == 'module':
        return Name(operations[0].title, 'module')
    return Name(about or (f'{len(atoms)} layers' if len(atoms) > 1 else call.name), 'module', detail if few else '')


def _is_several(call: Call, operation: Name, atoms: list[Name]) -> bool:
    """Whether a module does more than one operation: one to each of several inputs, or many."""
    count = sum(atom.kind in _OPERATIONS for atom in atoms)
    several = max(len({value for value in values if value.real}) for values in (call.inputs, call.outputs)) > 1
    twice = operation.kind == 'conv' and not re.match(r'[3-9]|\d\d', operation.title)
    return operation.kind == 'module' or (count > 1 and (several or not twice))


def name_module(module: nn.Module) -> Name:
    """The name of a module of which no call is known: of a layer of torch, or of its class."""
    return _layer_name(module) or Name(type(module).__name__.strip('_'), 'module')


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters, and none of them is trained."""
    parameters = [*module.parameters()]
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def is_layer(module: nn.Module) -> bool:
    """Whether it is a layer of torch that does one thing."""
    return _layer_name(module) is not None


def is_single(call: Call) -> bool:
    """Whether a module stands for one operation, and is never opened."""
    return is_layer(call.module) or len([*_atoms_of(call)]) < 2 or name_call(call).kind != 'module'


def _atoms_of(call: Call) -> Iterator[Name]:
    """The layers of torch, the functions, and the modules that join several paths, of which a module is made."""
    for part in call.parts:
        if isinstance(part, Step):
            if not part.plumbing:
                yield name_step(part)
            continue
        single = _layer_name(part.module)
        inner = [] if single is not None else [*_atoms_of(part)]
        if single is not None:
            yield single
        elif any(atom.title in _JOINING for atom in inner) and type(part.module) is not nn.Sequential:
            yield Name(part.name, 'module')
        else:
            yield from inner


def _merge_atoms(atoms: list[Name]) -> list[Name]:
    """The operations among atoms: a depthwise convolution and the one that mixes its channels are one, equal ones, too."""
    operations: list[Name] = []
    joined = False  # whether something lies between the last operation and this one
    for name in atoms:
        if name.kind not in _OPERATIONS:
            joined = joined or name.kind not in (*MINOR, 'skip')
            continue
        if operations and not joined and 'depthwise' in operations[-1].title and name.title == 'conv 1x1':
            first = operations.pop()
            name = first._replace(title=first.title.replace('depthwise', 'separable'), width=name.width)
        operations.append(name)
        joined = False
    result: list[Name] = []
    counts: list[int] = []
    for name in operations:
        if result and name.title in (result[-1].title, result[-1].title.split(', stride')[0]):
            counts[-1] += 1
            result[-1] = result[-1]._replace(width=name.width)
        else:
            result.append(name)
            counts.append(1)
    return [name._replace(title=f'{count} x {name.title}') if count > 1 else name for name, count in zip(result, counts)]


def _layer_name(module: nn.Module) -> Name | None:
    """The name of a layer of torch that does one thing."""
    kind = _layer_kind(module)
    if kind is None:
        if type(module).__module__.startswith('torch.nn') and not any(module.children()):
            return Name(_in_words(type(module).__name__), 'other')
        return None
    for base, describe in _DESCRIPTIONS:
        if isinstance(module, base):
            return Name(describe(module), kind, width=_output_channels(module))
    return Name(_in_words(re.sub(r'[123]d$', '', type(module).__name__)), kind)


def _output_channels(module: Any) -> int:
    width = getattr(module, 'out_channels', getattr(module, 'out_features', 0))
    return 0 if getattr(module, 'groups', 1) > 1 else width


def _layer_kind(module: nn.Module) -> str | None:
    for kind, bases in _KINDS:
        if isinstance(module, bases):
            return kind
    return 'activation' if type(module).__module__ == 'torch.nn.modules.activation' else None


def _size_text(value: Any, dimensions: int) -> str:
    sizes = value if isinstance(value, (tuple, list)) else [value] * dimensions
    return 'x'.join(str(size) for size in sizes)


def _stride_text(module: Any) -> str:
    stride = module.stride if isinstance(module.stride, (tuple, list)) else (module.stride,)
    return f', stride {max(stride)}' if max(stride) > 1 else ''


def _convolution_name(module: Any) -> str:
    depthwise = module.groups > 1 and module.groups == module.in_channels
    words = [
        'dilated' if max(module.dilation) > 1 else '',
        'depthwise' if depthwise else 'grouped' if module.groups > 1 else '',
        'transposed' if module.transposed else '',
        'conv',
        _size_text(module.kernel_size, 1),
    ]
    return ' '.join(filter(None, words)) + _stride_text(module)


def _pooling_name(module: Any) -> str:
    name = 'avg pool' if isinstance(module, _AvgPoolNd) else 'max pool' if isinstance(module, _MaxPoolNd) else 'power pool'
    return f'{name} {_size_text(module.kernel_size, _dimensions(module))}{_stride_text(module)}'


def _adaptive_pooling_name(module: Any) -> str:
    name = 'avg pool' if isinstance(module, _AdaptiveAvgPoolNd) else 'max pool'
    size = _size_text(module.output_size, _dimensions(module))
    return f'global {name}' if {*size} <= {'1', 'x'} else f'{name} to {size}'


def _dimensions(module: nn.Module) -> int:
    match = re.search(r'([123])d$', type(module).__name__)
    return int(match[1]) if match else 2


def _recurrent_name(module: Any) -> str:
    both = 'bidirectional ' if module.bidirectional else ''
    return f'{both}{type(module).__name__}' + (f', {module.num_layers} layers' if module.num_layers > 1 else '')


def _in_words(name: str) -> str:
    """``AdaptiveAvgPool`` as 'adaptive avg pool', but ``GELU`` and ``NasBench201Cell`` as they are."""
    if not re.fullmatch(r'(?:[A-Z][a-z]+)+|[a-z0-9_]+', name):
        return name
    return re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', name).lower().replace('_', ' ')


_KINDS: list[tuple[str, tuple[type, ...]]] = [
    ('conv', (_ConvNd,)),
    ('linear', (nn.Linear, nn.Bilinear)),
    ('attention', (nn.MultiheadAttention,)),
    ('pool', (_AvgPoolNd, _MaxPoolNd, _LPPoolNd, _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)),
    ('recurrent', (nn.RNNBase,)),
    ('embedding', (nn.Embedding, nn.EmbeddingBag)),
    ('skip', (nn.Identity,)),
    ('norm', (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)),
    ('dropout', (_DropoutNd,)),
]
_DESCRIPTIONS: list[tuple[Any, Any]] = [
    (_ConvNd, _convolution_name),
    ((_AvgPoolNd, _MaxPoolNd, _LPPoolNd), _pooling_name),
    ((_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd), _adaptive_pooling_name),
    (nn.RNNBase, _recurrent_name),
    (nn.MultiheadAttention, lambda module: f'attention, {module.num_heads} heads'),
    (nn.Identity, lambda module: 'skip'),
    (_NormBase, lambda module: _in_words(re.sub(r'[123]d$', '', type(module).__name__))),
    (nn.RMSNorm, lambda module: 'RMS norm'),
    (_DropoutNd, lambda module: f'dropout {module.p:g}'),
    (nn.Linear, lambda module: 'linear'),
    (nn.Embedding, lambda module: 'embedding'),
]
