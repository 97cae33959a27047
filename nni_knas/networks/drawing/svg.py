"""A graph as SVG: Graphviz places the boxes, the rest is written here, so that a page can restyle it with CSS."""

from __future__ import annotations

import math
from html import escape
from typing import Any, NamedTuple, TypeAlias

from nni_knas.basics.extras import how_to_install
from nni_knas.networks.drawing.graph import Box

__all__ = ['check_packages', 'svg_of']

# Okabe and Ito's colours, thin enough to be read on, on light and on dark pages.
_GREY = '#8882'
_FILLS = {
    'conv': '#0072b238',
    'linear': '#cc79a738',
    'attention': '#d55e0038',
    'recurrent': '#d55e0038',
    'pool': '#009e7338',
    'embedding': '#cc79a738',
    'skip': '#f0e44240',
    'module': '#56b4e938',
    **dict.fromkeys(('norm', 'activation', 'dropout', 'other'), _GREY),
    **dict.fromkeys(('merge', 'zero', 'end'), 'none'),
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_TITLE, _DETAIL = 14, 11.5  # font sizes in pixels
_WIDTHS = {
    **dict.fromkeys("iljtfrI.,:;·|()[]!' -", 0.36),
    **dict.fromkeys('mwMWNOQGD@%×÷+−…', 0.86),
    **dict.fromkeys('ABCEFHKLPRSTUVXYZ', 0.7),
}

Point: TypeAlias = tuple[float, float]
Spline: TypeAlias = tuple[list[Point], Box, bool]
"""An arrow: its points, its source, and whether its line is whole where the source is no zero."""


class _Text(NamedTuple):
    text: str
    size: float
    bold: bool


def check_packages() -> None:
    """Raise ``ValueError`` where a package is missing that drawing needs."""
    try:
        import pygraphviz  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise ValueError(f'drawing a network needs the package pygraphviz: {how_to_install("report")}') from error


def svg_of(boxes: list[Box], title: str) -> str:
    """The drawing of a graph, an ``svg`` of the class ``network``.

    Its boxes are groups of the class ``box`` and of their kind (``conv``, ``pool``, ...), its arrows of the class ``arrow``;
    colours can be changed by CSS, or by the variables ``--drawing-conv`` and so on. It has no ids.
    """
    texts = [_lines_of(box) for box in boxes]
    sizes = [_size_of(box, lines) for box, lines in zip(boxes, texts)]
    width, height, places, splines = _lay_out(boxes, sizes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="network" role="img" width="100%" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="min-width:{0.75 * width:.0f}px;max-width:{width:.0f}px;height:auto" fill="currentColor" '
        f'stroke="none" font-family="{_FONT}" text-anchor="middle">',
        f'<title>{escape(title)}</title>',
    ]
    parts += [_arrow_svg(points, source.kind == 'zero' or not directed) for points, source, directed in splines]
    parts += [_box_svg(box, lines, size, place) for box, lines, size, place in zip(boxes, texts, sizes, places)]
    return '\n'.join([*parts, '</svg>'])


def _lines_of(box: Box) -> list[_Text]:
    title = f'{box.count} x {box.title}' if box.count > 1 else box.title
    before = {source.shape for source in box.sources}
    same = before == {box.shape} or (box.kind == 'merge' and box.shape in before)
    shape = '' if box.shape is None or same else ' x '.join(map(str, box.shape))
    size = f'{_rounded_number(box.parameters)} parameters{" (frozen)" if box.frozen else ""}' if box.parameters else ''
    return [
        _Text(title, _TITLE, True),
        *(
            _Text(line, _DETAIL, False)
            for line in (
                *(part for each in box.details for part in _wrap(each)),
                *_wrap(' · '.join(box.after)),
                ' · '.join(filter(None, (shape, size))),
            )
            if line
        ),
    ]


def _rounded_number(number: int) -> str:
    for size, letter in ((10**9, 'G'), (10**6, 'M'), (10**3, 'k')):
        if number >= size:
            return f'{number / size:.3g}{letter}' if number < 999.5 * size else f'{number / size:.0f}{letter}'
    return str(number)


def _wrap(text: str) -> list[str]:
    """A list of things, over several lines where it is long."""
    lines: list[str] = []
    for part in text.split(' · '):
        if lines and len(lines[-1]) + len(part) < 40:
            lines[-1] += f' · {part}'
        else:
            lines.append(part if len(part) <= 60 else f'{part[:58]}…')
    return lines


def _size_of(box: Box, lines: list[_Text]) -> tuple[float, float]:
    width = max(
        sum(_WIDTHS.get(letter, 0.58) for letter in line.text) * line.size * (1.12 if line.bold else 1.03) for line in lines
    )
    if box.kind == 'merge' and len(lines) == 1 and len(box.title) == 1:
        return 26, 26
    return max(48, width + 22), sum(line.size * 1.35 for line in lines) + 11


def _lay_out(boxes: list[Box], sizes: list[tuple[float, float]]) -> tuple[float, float, list[Point], list[Spline]]:
    """Width and height, the centre of each box, and the arrows, in pixels."""
    import pygraphviz

    graph: Any = pygraphviz.AGraph(directed=True, strict=False, rankdir='TB', nodesep=0.3, ranksep=0.36, pad=0)
    numbers = {box: i for i, box in enumerate(boxes)}
    for i, (width, height) in enumerate(sizes):  # without labels Graphviz needs no fonts
        graph.add_node(i, shape='box', fixedsize='true', label='', width=width / 72, height=height / 72)
    for box in boxes:
        for arrow in box.arrows:
            graph.add_edge(numbers[arrow.source], numbers[box], dir='none')
    margin = 4
    lines = [line.split() for line in graph.draw(format='plain', prog='dot').decode().replace('\\\n', '').splitlines()]
    width, height = (float(each) * 72 for each in lines[0][2:4])

    def point(x: str, y: str) -> Point:
        return float(x) * 72 + margin, height - float(y) * 72 + margin

    places = [(0.0, 0.0)] * len(boxes)
    splines: list[Spline] = []
    for line in lines:
        if line[0] == 'node':
            places[int(line[1])] = point(*line[2:4])
        if line[0] == 'edge':
            values = line[4 : 4 + 2 * int(line[3])]
            splines.append(
                (
                    [point(x, y) for x, y in zip(values[::2], values[1::2])],
                    boxes[int(line[1])],
                    boxes[int(line[1])].shape is not None or boxes[int(line[2])].shape is not None,
                )
            )
    return width + 2 * margin, height + 2 * margin, places, splines


def _arrow_svg(points: list[tuple[float, float]], dashed: bool) -> str:
    (x0, y0), (x, y) = points[-2:]
    length = math.hypot(x - x0, y - y0) or 1
    dx, dy = (x - x0) / length, (y - y0) / length
    head = ' '.join(
        f'{px:.1f},{py:.1f}'
        for px, py in ((x, y), (x - 7 * dx - 3 * dy, y - 7 * dy + 3 * dx), (x - 7 * dx + 3 * dy, y - 7 * dy - 3 * dx))
    )
    path = f'M{points[0][0]:.1f},{points[0][1]:.1f}C' + ' '.join(f'{px:.1f},{py:.1f}' for px, py in points[1:])
    dashes = ' stroke-dasharray="3 3" opacity="0.55"' if dashed else ''
    return (
        f'<g class="arrow" opacity="0.75"><path d="{path}" fill="none" stroke="var(--drawing-arrow, currentColor)" '
        f'stroke-width="1.2"{dashes}/><polygon points="{head}" fill="var(--drawing-arrow, currentColor)"/></g>'
    )


def _box_svg(box: Box, lines: list[_Text], size: tuple[float, float], place: tuple[float, float]) -> str:
    (width, height), (x, y) = size, place
    round_ = height / 2 if box.kind in ('end', 'merge') else 5
    stroke = ' stroke-dasharray="3 3"' if box.kind == 'zero' or box.frozen else ''

    parts = [f'<g class="box {box.kind}"' + (' opacity="0.6">' if box.kind == 'zero' else '>')]
    if box.about:
        parts.append(f'<title>{escape(box.about)}</title>')
    parts.append(
        f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{round_:.1f}" fill="var(--drawing-{box.kind}, {_FILLS[box.kind]})" '
        f'stroke="var(--drawing-border, currentColor)" stroke-opacity="0.6"{stroke}/>'
    )
    top = y - sum(line.size * 1.35 for line in lines) / 2
    for line in lines:
        top += line.size * 1.35
        weight = ' font-weight="600"' if line.bold else ' opacity="0.8"'
        parts.append(
            f'<text x="{x:.1f}" y="{top - line.size * 0.36:.1f}" font-size="{line.size}"{weight}>{escape(line.text)}</text>'
        )
    return ''.join([*parts, '</g>'])
