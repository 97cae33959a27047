"""What all pages share: templates, style, script and Plotly's script in one file, with nothing to be fetched."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from nni_knas import __version__, texts
from nni_knas.files import whole

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

__all__ = ['Plot', 'json_script', 'plot', 'write_page']


@dataclass
class Plot:
    """A figure in a page: its title stands above it as text, where it can be read aloud, and breaks on a narrow screen."""

    name: str
    title: str
    more: list[str]
    """Further lines of the title."""
    caption: str
    figure: Markup


def plot(name: str, figure: Figure, caption: str) -> Plot:
    """A figure for the page.

    Parameters
    ----------
    name
        Of its element in the page.
    figure
        Its title goes into the page's text, so it is left without one.
    caption
        What there is to see in it, and what one can do with it.
    """
    content = json.loads(figure.to_json())
    layout = content['layout']
    title = layout.pop('title', {})
    layout['margin'] = {**layout.get('margin', {}), 't': 48 if 'updatemenus' in layout else 12}
    return Plot(name, ' '.join(_lines(title.get('text'))), _lines(title.get('subtitle', {}).get('text')), caption,
                json_script(content))


def _lines(text: str | None) -> list[str]:
    """Plotly's text without its tags."""
    lines = [html.unescape(re.sub(r'<[^>]*>', '', line)).strip() for line in re.split(r'<br\s*/?>', text or '')]
    return [line for line in lines if line]


def json_script(content: Any) -> Markup:
    """JSON that may stand in a ``<script>`` element, whatever texts it has; numbers that are none become ``null``."""
    text = json.dumps(_finite(content), separators=(',', ':'), allow_nan=False)
    return Markup(text.replace('<', r'\u003c').replace('>', r'\u003e').replace('&', r'\u0026'))


def _finite(content: Any) -> Any:
    """JSON has no NaN, and what is infinite is written as text."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
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
    environment = Environment(loader=PackageLoader('nni_knas.report', 'templates'), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters.update({name: getattr(texts, name) for name in texts.__all__ if name != 'NONE'})
    folder = Path(__file__).parent
    text = environment.get_template(template).render(
        {'version': __version__, 'style': Markup((folder / 'style.css').read_text()),
         'script': Markup((folder / 'script.js').read_text()), 'plotly': Markup(get_plotlyjs()), **values})
    with whole(path) as unfinished:
        unfinished.write_text(text, encoding='utf-8')
