"""What a network does with its inputs: the functions that it calls, in order, and the modules that call them."""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from nni_knas.gradients import arguments_of

__all__ = ['ADD', 'PASS', 'ZERO', 'Call', 'Step', 'Trace', 'Value', 'trace']

ADD = 'add'
PASS = 'pass'
ZERO = 'zero'
_NAMES = {
    'radd': ADD,
    'iadd': ADD,
    'imul': 'mul',
    'rmul': 'mul',
    'multiply': 'mul',
    'isub': 'sub',
    'rsub': 'sub',
    'div': 'truediv',
    'rtruediv': 'truediv',
    'itruediv': 'truediv',
    'true_divide': 'truediv',
    'rmatmul': 'matmul',
    'bmm': 'matmul',
    'mm': 'matmul',
    'einsum': 'matmul',
    'baddbmm': 'matmul',
    'concat': 'cat',
    'concatenate': 'cat',
    'scaled_dot_product_attention': 'attention',
    'multi_head_attention_forward': 'attention',
}
_ARITHMETIC = {ADD, 'mul', 'sub', 'truediv', 'pow', 'neg', 'sqrt', 'rsqrt'}
# What only rearranges or selects numbers, and would make a drawing longer but not clearer.
_PLUMBING = {
    'view',
    'reshape',
    'flatten',
    'unflatten',
    'transpose',
    'permute',
    'contiguous',
    'getitem',
    'setitem',
    'unbind',
    'chunk',
    'split',
    'squeeze',
    'unsqueeze',
    'expand',
    'expand_as',
    'view_as',
    'detach',
    'clone',
    'to',
    'type',
    'type_as',
    'float',
    'double',
    'half',
    'bfloat16',
    'long',
    'int',
    'bool',
    'cpu',
    'get',
    'movedim',
    'swapaxes',
    'gather',
    'index_select',
    'masked_fill',
    'where',
    'clamp',
    'narrow',
    'select',
    'repeat',
    'roll',
    't',
    'stack',
    'requires_grad',
    'alias',
    'tensor_split',
    'split_with_sizes',
    'hsplit',
    'vsplit',
    'broadcast_to',
    'data',
}
_VALUE = '_knas_value'  # the name under which a tensor knows its Value


@dataclass(eq=False)
class Call:
    """A call of a module."""

    module: nn.Module
    path: str
    parent: Call | None
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    parts: list[Call | Step] = field(default_factory=list)

    @property
    def name(self) -> str:
        return type(self.module).__name__.strip('_')

    @property
    def calls(self) -> list[Call]:
        return [part for part in self.parts if isinstance(part, Call)]

    @property
    def steps(self) -> list[Step]:
        return [part for part in self.parts if isinstance(part, Step)]

    def within(self, other: Call) -> bool:
        """Whether it happens inside another call, or is it."""
        return self is other or (self.parent is not None and self.parent.within(other))

    def all_calls(self) -> Iterator[Call]:
        """It, and all calls in it, outer ones first."""
        yield self
        for call in self.calls:
            yield from call.all_calls()


@dataclass(eq=False)
class Step:
    """A call of a function; or of a module that gives back what it was given, under the name ``pass``."""

    name: str
    call: Call
    inputs: list[Value]
    outputs: list[Value] = field(default_factory=list)

    @property
    def plumbing(self) -> bool:
        """Whether it is not worth showing."""
        if 'dropout' in self.name and getattr(self.call.module, 'p', 1) == 0:
            return True
        unary = len(self.inputs) < 2 or not all(value.real for value in self.inputs)
        return self.name in _PLUMBING or (self.name in _ARITHMETIC and unary)


@dataclass(eq=False)
class Value:
    """A tensor: its shape without the batch, whether it holds real numbers, and what made it."""

    shape: tuple[int, ...]
    real: bool
    step: Step | None

    def origin(self, within: Iterable[Value] = ()) -> Value:
        """The value that this one was only rearranged from; not beyond those of ``within``."""
        if self in within or self.step is None or not self.step.plumbing or not self.step.inputs:
            return self
        first = next((value for value in self.step.inputs if value.real), self.step.inputs[0])
        return first.origin(within)


@dataclass(eq=False)
class Trace:
    """All that a network did: ``root`` is its own call."""

    root: Call
    steps: list[Step]


def trace(network: nn.Module, example: Any) -> Trace:
    """Run a copy of a network in evaluation mode on the CPU, without gradients, and write down what it does.

    Parameters
    ----------
    network
        It is left as it is.
    example
        The network's inputs: a tensor of shape ``n x ...``, or a tuple or dict of such. Two samples are used at most.
    """
    network = copy.deepcopy(network).cpu().eval()
    recorder = _Recorder(network)
    args, kwargs = arguments_of(network, _suit_example(example, network, recorder))
    with torch.no_grad(), torch.random.fork_rng(devices=[]), recorder.hooked(), recorder:
        network(*args, **kwargs)
    return Trace(recorder.root, _simplify(recorder.steps, recorder.root))


class _Recorder(TorchFunctionMode):
    """Notes each function of torch that gets a tensor that comes from the inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.paths = {module: name for name, module in network.named_modules()}
        self.root = self.call = Call(network, '', None)
        self.steps: list[Step] = []
        self.samples = 0

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [tensor for tensor in tree_leaves([args, kwargs]) if isinstance(tensor, Tensor)]
        inputs = _values_of(given)
        result = function(*args, **kwargs)
        name = getattr(function, '__name__', 'function')
        in_place = (name.endswith('_') and not name.endswith('__')) or name.startswith('__i') or bool(kwargs.get('inplace'))
        name = _operation_name(name, args)
        if not inputs or name in ('size', 'dim', 'numel', 'len'):
            return result
        made = given[:1] if name == 'setitem' else result
        step = Step(name, self.call, inputs)
        if not in_place and not step.plumbing:  # some functions give back their input itself
            made = result = tree_map(lambda each: _as_new_view(each, given), result)
        step.outputs = [self.note(each, step) for each in tree_leaves(made) if isinstance(each, Tensor)]
        if step.outputs:
            self._add_step(step)
        return result

    def _add_step(self, step: Step) -> None:
        self.steps.append(step)
        step.call.parts.append(step)

    def note(self, tensor: Tensor, step: Step | None) -> Value:
        with torch._C.DisableTorchFunction():
            shape = tuple(tensor.shape)
            value = Value(shape[1:] if shape[:1] == (self.samples,) else shape, tensor.is_floating_point(), step)
        setattr(tensor, _VALUE, value)
        return value

    @contextlib.contextmanager
    def hooked(self) -> Iterator[None]:
        """Notes the calls of the network's modules."""
        for module in self.paths:
            # The network is a copy: hooks need not be removed.
            module.register_forward_pre_hook(self._enter_module, with_kwargs=True)
            module.register_forward_hook(self._leave_module, with_kwargs=True)
        yield

    def _enter_module(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module is self.root.module and self.call is self.root:
            self.root.inputs = _values_of(tree_leaves([args, kwargs]))
            return
        call = Call(module, self.paths[module], self.call, _values_of(tree_leaves([args, kwargs])))
        self.call.parts.append(call)
        self.call = call

    def _leave_module(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        call = self.call
        direct = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        alone = len({value for value in call.inputs if value.real}) < 2

        def leave(each: Any) -> Any:
            value = getattr(each, _VALUE, None) if isinstance(each, Tensor) else None
            if value is None or value not in call.inputs:
                return each
            # The module gives back what it was given. That is an operation where it was all; else it was a choice.
            with torch._C.DisableTorchFunction():
                other = each.view_as(each)
            step = Step(PASS if alone and any(each is tensor for tensor in direct) else 'alias', call, [value])
            step.outputs = [self.note(other, step)]
            self._add_step(step)
            return other

        result = tree_map(leave, result)
        call.outputs = _values_of(tree_leaves(result))
        self.call = call.parent or self.root
        return result


def _suit_example(example: Any, network: nn.Module, recorder: _Recorder) -> Any:
    """At most two samples on the CPU, in the network's precision, each known to the recorder."""
    tensors = [each for each in tree_leaves(example) if isinstance(each, Tensor)]
    same = len({len(each) if each.ndim else None for each in tensors}) == 1
    kind = next((p.dtype for p in network.parameters() if p.is_floating_point()), None)

    def suit(tensor: Any) -> Any:
        if not isinstance(tensor, Tensor):
            return tensor
        tensor = tensor.detach().cpu()
        tensor = (tensor[:2] if same and tensor.ndim else tensor).clone()
        tensor = tensor.to(kind) if kind is not None and tensor.is_floating_point() else tensor
        recorder.samples = recorder.samples or (len(tensor) if tensor.ndim else 0)
        recorder.note(tensor, None)
        return tensor

    return tree_map(suit, dict(example) if isinstance(example, Mapping) else example)


def _values_of(tensors: Iterable[Any]) -> list[Value]:
    return [getattr(each, _VALUE) for each in tensors if isinstance(each, Tensor) and hasattr(each, _VALUE)]


def _as_new_view(tensor: Any, given: list[Tensor]) -> Any:
    if isinstance(tensor, Tensor) and any(tensor is each for each in given):
        return tensor.view_as(tensor)
    return tensor


def _operation_name(name: str, args: tuple[Any, ...]) -> str:
    name = name.strip('_')
    name = _NAMES.get(name, name)
    times_zero = name == 'mul' and any(isinstance(arg, (int, float)) and arg == 0 for arg in args)
    return ZERO if times_zero or name in ('zeros_like', 'new_zeros') else name


def _simplify(steps: list[Step], root: Call) -> list[Step]:
    """A sum of a stack, and a chain of sums, are one sum."""
    users: dict[Value, list[Step | None]] = defaultdict(list)
    for value in root.outputs:
        users[value].append(None)
    for step in steps:
        for value in step.inputs:
            users[value].append(step)
    absorbed: set[Step] = set()
    for step in steps:
        source = step.inputs[0].step if len(step.inputs) == 1 else None
        if step.name == 'sum' and source is not None and source.name == 'stack' and users[step.inputs[0]] == [step]:
            step.name, step.inputs = ADD, source.inputs
            absorbed.add(source)
        if step.name == ADD and not step.plumbing:
            step.inputs = [part for value in step.inputs for part in _summands(value, step, users, absorbed)]
    for step in absorbed:
        step.call.parts.remove(step)
    return [step for step in steps if step not in absorbed]


def _summands(value: Value, step: Step, users: Mapping[Value, list[Step | None]], absorbed: set[Step]) -> list[Value]:
    inner = value.step
    if inner is None or inner.name != ADD or inner.plumbing or inner.call is not step.call or users[value] != [step]:
        return [value]
    absorbed.add(inner)
    return inner.inputs
