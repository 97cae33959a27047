"""Boxes and arrows of a network: which modules are shown as one box, which are opened, and which are alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import nn

from nni_knas.networks.drawing.names import MINOR, Name, is_frozen, is_layer, is_single, name_call, name_module, name_step
from nni_knas.networks.drawing.trace import Call, Step, Trace, Value

__all__ = ['MOST', 'Arrow', 'Box', 'find_blocks', 'graph_of', 'hierarchy', 'innermost']

MOST = 32  # boxes of a drawing
ENOUGH = 12  # boxes, from which on modules that are repeated stay closed
FEW = 6  # boxes, up to which normalisations, activations and the like have boxes of their own
_SINGLE = ('conv', 'linear', 'pool', 'attention', 'recurrent', 'embedding')
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(eq=False)
class Box:
    """A box of a drawing.

    ``after`` are the small layers that follow it, ``alike`` is equal for boxes of the same thing, and ``about`` is told
    when a mouse rests on it.
    """

    title: str
    kind: str
    details: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    shape: tuple[int, ...] | None = None
    parameters: int = 0
    count: int = 1
    alike: Any = None
    about: str = ''
    frozen: bool = False

    @property
    def sources(self) -> list[Box]:
        return [arrow.source for arrow in self.arrows]


@dataclass(eq=False)
class Arrow:
    """What comes into a box, and from where."""

    source: Box
    value: Value | None = None


def graph_of(trace: Trace, root: Call, closed: Collection[type] = ()) -> list[Box]:
    """The boxes of what happens in a call, in order, with those of its inputs and its output.

    Modules are opened from the outside to the inside while there are no more than ``MOST`` boxes. Those of one operation,
    those of which no parameter is trained, and those of the classes ``closed``, stay closed.
    """
    opened: set[Call] = set()
    best = _boxes_of(trace, root, opened)
    classes = Counter(type(call.module) for call in root.all_calls())
    level = root.calls
    while level:
        groups: dict[Any, list[Call]] = defaultdict(list)
        for call in level:
            if not (is_single(call) or is_frozen(call.module) or isinstance(call.module, tuple(closed))):
                kind = type(call.module)
                groups[structure(call) if kind in _CONTAINERS else kind].append(call)
        for kind, calls in sorted(groups.items(), key=lambda item: -sum(_parameter_count(call.module) for call in item[1])):
            boxes = _boxes_of(trace, root, opened | {*calls})
            if len(boxes) <= (ENOUGH if classes[kind] > 1 else MOST):
                opened |= {*calls}
                best = boxes
        level = [inner for call in level if call in opened for inner in call.calls]
    return best


def innermost(trace: Trace) -> Call:
    """The call in which something happens: of the module itself, or of the one that it wraps."""
    root = trace.root
    while len(root.calls) == 1 and all(step.plumbing for step in root.steps) and not is_layer(root.calls[0].module):
        root = root.calls[0]
    return root


def find_blocks(root: Call) -> list[Call]:
    """The calls of the most repeated module that is made of several operations; empty where none is repeated.

    Of modules in one another it is the outer one, unless that is a mere row of the inner ones.
    """
    calls: dict[type, list[Call]] = defaultdict(list)
    for call in _trained_calls(root):
        if type(call.module) not in _CONTAINERS and not is_single(call) and len(structure(call)) > 1:
            calls[type(call.module)].append(call)
    repeated = {
        kind: each for kind, each in calls.items() if len(each) > 1 and any(_parameter_count(call.module) for call in each)
    }
    rows = {
        outer
        for outer in repeated
        for inner in repeated
        if outer is not inner and all(_is_row(call, inner) for call in repeated[outer])
    }
    blocks = {kind: each for kind, each in repeated.items() if kind not in rows}
    outer = {
        kind: each
        for kind, each in blocks.items()
        if not all(any(_is_inside(call, other) for other in blocks if other is not kind) for call in each)
    }
    return max(outer.values(), key=len, default=[])


def structure(call: Call) -> tuple[Any, ...]:
    """The operations in a call and how they are connected: equal for networks that differ in width only."""
    steps = [step for step in _all_steps(call) if not step.plumbing]
    places: dict[Value, Any] = {value: -1 - i for i, value in enumerate(dict.fromkeys(call.inputs))}
    places.update((value, i) for i, step in enumerate(steps) for value in step.outputs)
    return tuple(
        (_operation_name(step), *(places.get(value.origin(call.inputs)) for value in step.inputs)) for step in steps
    )


def hierarchy(network: nn.Module) -> list[Box]:
    """Boxes of a network's modules, in the order in which they are defined: for networks that cannot be run."""
    modules = [*network.named_children()] or [('', network)]
    boxes = _module_boxes(modules)
    while any(type(module) in _CONTAINERS for _, module in modules):
        modules = [
            inner
            for name, module in modules
            for inner in (
                [(f'{name}.{each}', child) for each, child in module.named_children()]
                if type(module) in _CONTAINERS
                else [(name, module)]
            )
        ]
        opened = _module_boxes(modules)
        if len(opened) > MOST or not opened:
            break
        boxes = opened
    return boxes


def _module_boxes(modules: Iterable[tuple[str, nn.Module]]) -> list[Box]:
    boxes = []
    for path, module in modules:
        name, size = name_module(module), _parameter_count(module)
        alike = (type(module), repr(module), size)
        boxes.append(Box(name.title, name.kind, parameters=size, alike=alike, about=path, frozen=is_frozen(module)))
    for before, box in pairwise(boxes):
        box.arrows = [Arrow(before)]
    return _merged(boxes)


def _trained_calls(call: Call) -> Iterator[Call]:
    for inner in call.calls:
        if not is_frozen(inner.module):
            yield inner
            yield from _trained_calls(inner)


def _all_steps(call: Call) -> list[Step]:
    return [step for inner in call.all_calls() for step in inner.steps]


def _is_row(call: Call, kind: type) -> bool:
    """Whether all that happens in a call is in calls of another class of modules, several of them."""
    inner = [each for each in call.all_calls() if type(each.module) is kind and each is not call]
    return len(inner) > 1 and all(
        step.plumbing or any(step.call.within(each) for each in inner) for step in _all_steps(call)
    )


def _is_inside(call: Call, kind: type) -> bool:
    parent = call.parent
    return parent is not None and (type(parent.module) is kind or _is_inside(parent, kind))


def _operation_name(step: Step) -> str:
    name = name_module(step.call.module)
    return name_step(step).title if name.kind == 'module' else name.title


def _boxes_of(trace: Trace, root: Call, opened: Collection[Call]) -> list[Box]:
    boxes = _pruned(_raw_boxes(trace, root, opened))
    if len(boxes) > FEW:
        boxes = _folded(boxes)
    return _merged(boxes)


def _raw_boxes(trace: Trace, root: Call, opened: Collection[Call]) -> list[Box]:
    """All boxes, the inputs first, the output last."""
    inputs = {*root.inputs}
    boxes: dict[Call | Step | Value, Box] = {}
    for step in trace.steps:
        if step.plumbing or not step.call.within(root):
            continue
        key = _shown_in(step, root, opened)
        box = boxes.get(key)
        if box is None:
            box = boxes[key] = _box_of(key)
        known = {arrow.value for arrow in box.arrows}
        for value in step.inputs:
            origin = value.origin(inputs)
            source = _source_of(origin, root, opened, boxes)
            if source is not box and (isinstance(key, Step) or origin not in known):
                box.arrows.append(Arrow(source, origin))
                known.add(origin)
    for box in boxes.values():  # indices and masks are shown only where nothing else comes in
        numbers = [arrow for arrow in box.arrows if arrow.value is not None and arrow.value.real]
        box.arrows = numbers or box.arrows
    outputs = {value: value.origin(inputs) for value in root.outputs}
    made = {value: origin for value, origin in outputs.items() if origin not in inputs} or outputs  # not only handed on
    last = Box('output', 'end', shape=next((value.shape for value in made), None))
    last.arrows = [Arrow(_source_of(value, root, opened, boxes), value) for value in dict.fromkeys(made.values())]
    order = {value: i for i, value in reversed([*enumerate(root.inputs)])}
    given = sorted((key for key in boxes if isinstance(key, Value)), key=lambda value: order.get(value, -1))
    ends = [boxes[value] for value in given]
    if len(ends) > 1:
        for i, box in enumerate(ends):
            box.title = f'input {i + 1}'
    return [*ends, *(box for key, box in boxes.items() if not isinstance(key, Value)), last]


def _shown_in(step: Step, root: Call, opened: Collection[Call]) -> Call | Step:
    """The box that a step is in: the outermost call that is not opened, or its own."""
    shown: Call | Step = step
    call: Call | None = step.call
    while call is not None and call is not root:
        if call not in opened:
            shown = call
        call = call.parent
    return shown


def _source_of(value: Value, root: Call, opened: Collection[Call], boxes: dict[Call | Step | Value, Box]) -> Box:
    inside = value not in root.inputs and value.step is not None and value.step.call.within(root)
    key = _shown_in(value.step, root, opened) if inside and value.step is not None else value
    if key not in boxes:
        boxes[key] = Box('input', 'end', shape=value.shape) if isinstance(key, Value) else _box_of(key)
    return boxes[key]


def _box_of(key: Any) -> Box:
    name: Name = name_step(key) if isinstance(key, Step) else name_call(key)
    value = next((value for value in key.outputs if value.real), key.outputs[0] if key.outputs else None)
    box = Box(name.title, name.kind, [name.detail] if name.detail else [], shape=value.shape if value else None)
    if isinstance(key, Call):
        box.about = f'{key.path}: {_one_line(key.module)}'
        box.parameters, box.frozen = _parameter_count(key.module), is_frozen(key.module)
        box.alike = (type(key.module), structure(key), box.shape, box.parameters, tuple(value.shape for value in key.inputs))
    return box


def _one_line(module: nn.Module) -> str:
    extra = module.extra_repr()
    return f'{type(module).__name__}({extra})' if extra and '\n' not in extra else type(module).__name__


def _parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if not isinstance(p, nn.UninitializedParameter))


def _pruned(boxes: list[Box]) -> list[Box]:
    """Only those that lead to the output."""
    found: set[Box] = set()
    waiting = [boxes[-1]]
    while waiting:
        box = waiting.pop()
        if box not in found:
            found.add(box)
            waiting += box.sources
    return [box for box in boxes if box in found]


def _folded(boxes: list[Box]) -> list[Box]:
    """Normalisations, activations and dropout are told in the box before, where nothing else follows that."""
    uses = Counter(source for box in boxes for source in box.sources)
    into: dict[Box, Box] = {}
    kept = []
    for box in boxes:
        source = into.get(box.sources[0], box.sources[0]) if len(box.arrows) == 1 else None
        if source is None or box.kind not in (*MINOR, 'skip') or source.kind not in _SINGLE or uses[box.sources[0]] > 1:
            kept.append(box)
            continue
        into[box] = source
        if box.kind != 'skip':
            source.after.append(box.title)
        source.shape, source.parameters = box.shape, source.parameters + box.parameters
        source.alike = source.alike and (source.alike, box.alike or box.title)
        source.about += f'\n{box.about}' if box.about else ''
    _redirect(kept, into)
    return kept


def _merged(boxes: list[Box]) -> list[Box]:
    """Alike boxes in a row are one."""
    into: dict[Box, Box] = {}
    kept: list[Box] = []
    for box in boxes:
        run = kept[-1] if kept else None
        if (
            run is None
            or box.alike is None
            or box.alike != run.alike
            or not any(into.get(source, source) is run for source in box.sources)
        ):
            kept.append(box)
            continue
        into[box] = run
        run.arrows += [
            arrow
            for arrow in box.arrows
            if into.get(arrow.source, arrow.source) is not run and arrow.source not in run.sources
        ]
        run.count += 1
        run.parameters += box.parameters
        run.about = f'{run.about.splitlines()[0].split(" … ")[0]} … {box.about}'
    _redirect(kept, into)
    return kept


def _redirect(boxes: Iterable[Box], into: dict[Box, Box]) -> None:
    follow: Callable[[Box], Box] = lambda box: follow(into[box]) if box in into else box  # noqa: E731
    for box in boxes:
        for arrow in box.arrows:
            arrow.source = follow(arrow.source)
