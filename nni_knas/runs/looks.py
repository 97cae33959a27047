"""What a run keeps of its networks for those who look at it: costs and a drawing, as data.

Whoever opens a run reads these, and executes nothing of it. They are made by the run itself, at its end.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple
from xml.etree import ElementTree

from nni_knas.record import Record, keys

__all__ = ['KeptDrawing', 'keep_drawing', 'kept_drawing']

_SVG = '{http://www.w3.org/2000/svg}'
_TAGS = {'svg', 'g', 'title', 'path', 'rect', 'polygon', 'text'}
_ATTRIBUTES = {
    *('class', 'role', 'width', 'height', 'viewBox', 'style', 'fill', 'stroke', 'font-family', 'font-size', 'font-weight'),
    *('text-anchor', 'opacity', 'd', 'points', 'x', 'y', 'rx', 'stroke-width', 'stroke-opacity', 'stroke-dasharray'),
}
_HARMLESS_VALUE = re.compile(r'(?!.*(url|script|expression|import|@|\\))', re.IGNORECASE | re.DOTALL)


class KeptDrawing(NamedTuple):
    """Drawings of a candidate's network with their captions, its blocks first; or why there are none."""

    drawings: list[tuple[str, str]]
    why_not: str = ''


def keep_drawing(record: Record, candidate: int, drawn: KeptDrawing) -> None:
    """Keep the drawing of a candidate."""
    record.set_meta(keys.DRAWING, json.dumps({'candidate': candidate, **drawn._asdict()}))


def kept_drawing(record: Record, candidate: int) -> KeptDrawing | None:
    """The drawing of a candidate, where it was kept.

    It may be of somebody else's run, so it is shown only if it has nothing but shapes and texts in it.
    """
    try:
        content = json.loads(record.get_meta(keys.DRAWING) or '')
        if content['candidate'] != candidate:
            return None
        return KeptDrawing([(str(caption), _checked(svg)) for caption, svg in content['drawings']], str(content['why_not']))
    except (ValueError, TypeError, KeyError, ElementTree.ParseError):
        return None


def _checked(svg: Any) -> str:
    """A drawing written anew, so that a browser reads what was looked at here.

    Raises
    ------
    ValueError
        If there is more in it than we draw.
    """
    if not isinstance(svg, str) or '<!' in svg or '<?' in svg:  # entities, comments and the like
        raise ValueError('this is no drawing of ours')
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        harmless = all(name in _ATTRIBUTES and _HARMLESS_VALUE.match(value) for name, value in element.attrib.items())
        if element.tag not in _TAGS or not harmless:
            raise ValueError(f'there is a {element.tag} in the drawing that we do not draw')
    return ElementTree.tostring(root, encoding='unicode')
