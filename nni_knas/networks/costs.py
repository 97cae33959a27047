"""What a network costs to run: its size, its work, its memory and its time, for one sample.

=============  ==========  ==========================================================================================
cost           unit        what it is
=============  ==========  ==========================================================================================
``parameters`` a number    parameters, shared ones once
``flops``      operations  floating-point operations of matrix products, convolutions and attention in a forward pass
``memory``     bytes       largest sum of what is held at a time in a forward pass: parameters, buffers, activations
``latency``    seconds     time of a forward pass, by the clock
=============  ==========  ==========================================================================================

All but the latency are exact, and the same whenever they are measured.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import statistics
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.flop_counter import FlopCounterMode

from nni_knas.basics.names import COSTS
from nni_knas.gradients import Minibatch, arguments_of, evaluating, undisturbed, wait_for_device

__all__ = ['COSTS', 'check_constraints', 'check_costs', 'measure']

WARM_UP = 3
"""Forward passes before the time of one is taken."""
RUNS = 15
"""Forward passes whose time is taken."""

Pass = Callable[[], Any]
"""A forward pass of a network on one sample."""


def measure(network: nn.Module, sample: Any, names: Collection[str], device: torch.device | None = None) -> dict[str, float]:
    """Costs of a network in evaluation mode, without gradients. The network is left as it was found.

    Parameters
    ----------
    network
        The network, at any weights: no cost depends on them as long as the forward pass does not.
    sample
        What the network takes, a batch of one: a tensor of shape ``1 x ...``, or a tuple or dict of them.
    names
        Which of :data:`COSTS` to measure; no other one is paid for.
    device
        The device to measure on; where the network is by default.

    Returns
    -------
    dict of float
        The costs by name, in the order of :data:`COSTS`.

    Raises
    ------
    ValueError
        If there is no such cost.
    """
    check_costs(names)
    costs: dict[str, float] = {}
    if 'parameters' in names:
        costs['parameters'] = _count_parameters(network)
    if set(names) <= {'parameters'}:
        return costs
    held = _bytes_of([*network.parameters(), *network.buffers()])  # now: undisturbed takes BatchNorm's counters away
    with undisturbed(network, device=device), torch.no_grad(), evaluating(network):
        first = next(network.parameters(), None)
        place = first.device if first is not None else device or torch.device('cpu')
        dtype = first.dtype if first is not None and first.is_floating_point() else None
        # A copy: the sample may be a part of a minibatch, and a network may write on what it is given.
        inputs = tree_map(
            lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, Minibatch(sample, ()).to(place, dtype).inputs
        )
        arguments, keywords = arguments_of(network, inputs)

        def forward() -> Any:
            return network(*arguments, **keywords)

        if 'flops' in names:
            costs['flops'] = _count_flops(forward)
        if 'memory' in names:
            costs['memory'] = _measure_memory(forward, network, inputs, held)
        if 'latency' in names:
            costs['latency'] = _measure_latency(forward, place)
    return costs


def _count_parameters(network: nn.Module) -> float:
    """Number of parameters, those that several layers share counted once."""
    return float(sum(parameter.numel() for parameter in network.parameters()))


def _count_flops(forward: Pass) -> float:
    """Floating-point operations of a forward pass, two for each multiplication with its addition.

    Counted are matrix products, convolutions and attention, by torch's ``FlopCounterMode``; not what goes element by
    element, such as activations and normalisation, nor pooling.
    """
    with _plain_operations(), FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mv: _mv_flops}) as counter:
        forward()
    return float(counter.get_total_flops())


def _measure_memory(forward: Pass, network: nn.Module, inputs: Any, held: int) -> float:
    """Largest number of bytes that are held at a time in a forward pass.

    Counted are parameters and buffers, the sample, and each tensor that the pass makes, from then on until nothing refers
    to it any more; tensors that share their memory, such as views, count once. Scratch memory inside of torch's kernels, and
    what an allocator keeps in reserve, are not counted, so that it is the same on every device.

    Parameters
    ----------
    forward
        The forward pass, to be called.
    network, inputs
        The network of the pass, and the sample that it is of.
    held
        The bytes of the network's parameters and buffers.
    """
    own = [*network.parameters(), *network.buffers()]
    given = [leaf for leaf in tree_flatten(inputs)[0] if isinstance(leaf, Tensor)]
    with _plain_operations(), _LiveMemory([*own, *given]) as live:
        forward()
    return float(held + _bytes_of(given) + live.peak)


def _measure_latency(forward: Pass, device: torch.device) -> float:
    """Seconds of a forward pass: the median of several after a warm-up, rounded to a tenth of a microsecond.

    It is a measurement: it differs from run to run and from machine to machine, and with what else the machine does.
    """
    seconds = []
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False):
        for _ in range(WARM_UP):
            forward()
        for _ in range(RUNS):
            wait_for_device(device)
            start = time.perf_counter()
            forward()
            wait_for_device(device)
            seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds), 7)


def check_costs(names: Iterable[str]) -> None:
    """Raise ``ValueError`` for a name that is not in :data:`COSTS`."""
    for name in names:
        if name not in COSTS:
            near = difflib.get_close_matches(str(name).lower(), COSTS, n=1, cutoff=0.4)
            meant = f'did you mean {near[0]!r}? There are' if near else 'there are'
            raise ValueError(f'unknown cost {name!r}: {meant} {", ".join(COSTS)}')


def check_constraints(constraints: Mapping[str, float] | None) -> dict[str, float]:
    """Constraints that were checked: the largest value allowed of each cost, in the order of :data:`COSTS`.

    Parameters
    ----------
    constraints
        Upper bounds by name of the cost: finite numbers above 0, in the cost's unit. ``None`` for none.

    Raises
    ------
    ValueError, TypeError
        If a constraint cannot be; the message says what would be right.
    """
    if constraints is None:
        return {}
    if not isinstance(constraints, Mapping):
        raise TypeError(
            f'constraints are {constraints!r}: they have to be a dict of upper bounds, such as {{"parameters": 1e6}}'
        )
    check_costs(constraints)
    for name, bound in constraints.items():
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise TypeError(f'the constraint on {name} is {bound!r}: it has to be a number above 0')
        if not 0 < bound < math.inf:
            raise ValueError(f'the constraint on {name} is {bound!r}: it has to be a finite number above 0')
    return {name: float(constraints[name]) for name in COSTS if name in constraints}


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    """Size of tensors, with what they share counted once."""
    return sum({storage._cdata: storage.nbytes() for storage in (t.untyped_storage() for t in tensors)}.values())


class _LiveMemory(TorchDispatchMode):
    """Follows the memory of the tensors that are made while it is active.

    Parameters
    ----------
    others
        Tensors that were there before.

    Attributes
    ----------
    peak
        Largest number of bytes at a time, without the others'.
    """

    def __init__(self, others: Iterable[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in others}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **kwargs or {})
        for leaf in tree_flatten(result)[0]:
            if isinstance(leaf, Tensor):
                self._add_storage(leaf.untyped_storage())
        self.peak = max(self.peak, self._now)
        return result

    def _add_storage(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address not in self._known:
            self._known.add(address)
            self._now += size
            # torch keeps a storage's Python object for as long as there is the storage.
            weakref.finalize(storage, self._remove_storage, address, size).atexit = False

    def _remove_storage(self, address: int, size: int) -> None:
        self._known.discard(address)
        self._now -= size


@contextlib.contextmanager
def _plain_operations() -> Iterator[None]:
    """Layers run as plain operations, which can be counted, rather than as one kernel that does the whole layer."""
    fast, onednn = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # encoder layers
    torch._C._set_mkldnn_enabled(False)  # recurrent layers on the CPU
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._set_mkldnn_enabled(onednn)


def _mv_flops(matrix: torch.Size, vector: torch.Size, *others: Any, **options: Any) -> int:
    return 2 * matrix[0] * matrix[1]
