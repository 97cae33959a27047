"""What all pages share: templates, style, script and Plotly's script in one file, with nothing to be fetched.

What is large (Plotly's script, the plots, the table of candidates) is packed: gzip in base64, which the page's script
unpacks. Plotly's script is its bundle of cartesian plots, a third of the one in the Python package, which no compression
would make small enough to be mailed. It is plotly.js-cartesian-dist-min of npm as it is there, under the MIT licence.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nni_knas import __version__
from nni_knas.basics import texts
from nni_knas.basics.files import atomic_write

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

__all__ = ['Plot', 'packed_json', 'plot', 'write_page']

_FEW_POINTS = 12
_FOLDER = Path(__file__).parent


class Plot(NamedTuple):
    """A figure in a page: its title stands above it as text, where it can be read aloud, and breaks on a narrow screen."""

    name: str
    title: str
    note: str
    caption: str
    figure: dict[str, Any]
    """Plotly's JSON"""
    height: int
    """In pixels"""
    wide: bool
    """Whether it has a row of its own"""
    small: bool
    """Whether there is so little to see in it that it takes less space than the others"""


def plot(name: str, title: str, figure: Figure, caption: str, wide: bool = False) -> Plot:
    """A figure for the page.

    Parameters
    ----------
    name
        The name of its element in the page.
    title
        Goes into the page's text, with the lines below the figure's own title, which is left out.
    figure
        The figure that is drawn.
    caption
        What there is to see in it, and what one can do with it.
    wide
        Whether it has a row of its own.
    """
    content = json.loads(figure.to_json())
    layout = content['layout']
    lines = re.split(r'<br\s*/?>', layout.pop('title').get('subtitle', {}).get('text', ''))
    layout['margin'] |= {'t': 32}
    height = layout.pop('height', 400)
    of_points = all(trace.type == 'scatter' for trace in figure.data)  # bars need room for the names beside them
    few = of_points and sum(len(trace.x) for trace in figure.data if trace.x is not None) <= _FEW_POINTS
    if few:
        height = max(160, round(0.65 * height))
    return Plot(name, title, html.unescape(' '.join(lines)), caption, content, height, wide, few and not wide)


def packed_json(content: Any) -> Markup:
    """JSON as the page's script unpacks it, whatever texts it has; numbers that are none become ``null``."""
    return _packed(json.dumps(_without_infinities(content), separators=(',', ':'), allow_nan=False))


def _packed(text: str) -> Markup:
    """Text in gzip and base64, the same for the same text."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())


def _shared_hovers(plots: Iterable[Plot]) -> list[str]:
    """The texts of all points, each once; in the plots, most of which have the same candidates, numbers replace them."""
    hovers: dict[str, int] = {}
    for trace in (trace for each in plots for trace in each.figure['data']):
        if isinstance(trace.get('hovertext'), list):
            trace['hovertext'] = [hovers.setdefault(text, len(hovers)) for text in trace['hovertext']]
    return list(hovers)


def _without_infinities(content: Any) -> Any:
    """JSON has no NaN, and what is infinite is written as text."""
    if isinstance(content, dict):
        return {key: _without_infinities(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_infinities(value) for value in content]
    if isinstance(content, float) and not abs(content) < float('inf'):
        return None if content != content else ('Infinity' if content > 0 else '-Infinity')
    return content


def write_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Write a page: all of it, or nothing.

    Parameters
    ----------
    path
        The file.
    template
        Name of one of the package's templates.
    values
        What the template names.
    """
    environment = Environment(
        loader=PackageLoader('nni_knas.report', 'templates'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        packed=packed_json, **{name: getattr(texts, name) for name in texts.__all__ if name != 'NONE'}
    )
    text = environment.get_template(template).render(
        {
            'version': __version__,
            'style': Markup((_FOLDER / 'style.css').read_text('utf-8')),
            'script': Markup((_FOLDER / 'script.js').read_text('utf-8')),
            'hovers': packed_json(_shared_hovers(values['plots'])),
            'plotly': _packed((_FOLDER / 'plotly-cartesian.min.js').read_text('utf-8')),
            **values,
        }
    )
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding='utf-8')
