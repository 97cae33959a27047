"""Drawings of a network: the whole of it, and the block that it is made of."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from nni_knas.networks.drawing.graph import Box, find_blocks, graph_of, hierarchy, innermost, structure
from nni_knas.networks.drawing.svg import check_packages, svg_of
from nni_knas.networks.drawing.trace import Call, Trace, trace

__all__ = ['Block', 'Drawing', 'draw_network']

_BOXES, _ARROWS = 60, 250  # more could not be read, and Graphviz would take minutes to place them
_logger = logging.getLogger(__name__)


class Block(NamedTuple):
    """A module that a network repeats: its drawing, its class, and how many modules of the network are like it."""

    svg: str
    name: str
    modules: int


class Drawing(NamedTuple):
    """Drawings of a network, as SVG elements to be put into a page.

    Attributes
    ----------
    svg
        The drawing of the whole network.
    blocks
        The block that it repeats, the most common form of it first; empty where it repeats none.
    traced
        Whether it shows what the network does; else it shows its modules in the order in which they are defined.
    """

    svg: str
    blocks: tuple[Block, ...] = ()
    traced: bool = True

    @property
    def block_svg(self) -> str | None:
        """The block's most common form."""
        return self.blocks[0].svg if self.blocks else None

    @property
    def block_name(self) -> str | None:
        """The block's class."""
        return self.blocks[0].name if self.blocks else None


def draw_network(network: nn.Module, example: Any) -> Drawing:
    """Draw a network as a graph, from what it does with an example.

    In the drawing of the whole network, modules are boxes, opened as far as it stays readable, and equal ones in a row are
    one box. The block is the module of several operations that is repeated most: a cell, a residual block, a transformer's
    layer. It is drawn with its operations, in its most common form, and in a second one where that is rather different, as
    a reduction cell is.

    Parameters
    ----------
    network
        It is left as it is: a copy of it is run, in evaluation mode on the CPU.
    example
        Inputs of it: a tensor of shape ``n x ...``, or a tuple or dict of them. Two samples are used at most.

    Returns
    -------
    Drawing
        The drawing; where the network cannot be run on the example, of its modules in the order of their definition.

    Raises
    ------
    ValueError
        If the package pygraphviz is missing, ``network`` is no module, or it cannot be drawn in either way.

    Examples
    --------
    >>> drawing = draw_network(run.network(), torch.randn(2, 3, 32, 32))
    >>> Path('cell.svg').write_text(drawing.block_svg)
    """
    if not isinstance(network, nn.Module):
        raise ValueError(f'a network to draw has to be a torch.nn.Module, not {network!r:.80}')
    check_packages()
    try:
        drawing = _draw_trace(trace(network, example))
    except Exception as error:
        _logger.info('The network is drawn by its modules, since it could not be followed: %s', error)
        drawing = None
    try:
        return drawing or _draw_modules(network)
    except Exception as error:
        raise ValueError(f'{type(network).__name__} cannot be drawn: {error}') from error


def _draw_modules(network: nn.Module) -> Drawing:
    return Drawing(svg_of(hierarchy(network), f'The modules of {type(network).__name__}'), traced=False)


def _draw_trace(traced: Trace) -> Drawing | None:
    root = innermost(traced)
    calls = find_blocks(root)
    boxes = graph_of(traced, root, {type(call.module) for call in calls})
    if not _is_readable(boxes) or not any(box.kind != 'end' for box in boxes):
        return None
    blocks = [(form, graph_of(traced, form), count) for form, count in _common_forms(calls)]
    return Drawing(
        svg_of(boxes, f'The network {traced.root.name}'),
        tuple(
            Block(svg_of(inside, f'{form.name}, as {count} modules of the network are'), form.name, count)
            for form, inside, count in blocks
            if _is_readable(inside)
        ),
    )


def _is_readable(boxes: Sequence[Box]) -> bool:
    return len(boxes) <= _BOXES and sum(len(box.arrows) for box in boxes) <= _ARROWS


def _common_forms(calls: list[Call]) -> list[tuple[Call, int]]:
    """The most common form of a block, and a second one where a third of its operations are others."""
    forms: dict[tuple[Any, ...], list[Call]] = defaultdict(list)
    for call in calls:
        forms[structure(call)].append(call)
    ranked = sorted(forms, key=lambda form: (-len(forms[form]), -len({*forms[form][0].inputs})))
    if not ranked:
        return []
    first = ranked[0]
    distances = {form: _share_of_differences(forms[first][0], forms[form][0]) for form in ranked[1:]}
    second = max(distances, key=lambda form: (distances[form], len(forms[form])), default=first)
    chosen = [first, second] if distances.get(second, 0) >= 1 / 3 else [first]
    return [(forms[form][0], len(forms[form])) for form in chosen]


def _share_of_differences(one: Call, other: Call) -> float:
    """The share of operations that one has and the other has not."""
    a, b = (Counter(operation for operation, *_ in structure(call)) for call in (one, other))
    return sum(((a - b) + (b - a)).values()) / max(1, sum((a + b).values()))
