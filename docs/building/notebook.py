"""A notebook as a page: its cells, and what they put out when it was executed last. It needs no package."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

FIGURE = 'application/vnd.plotly.v1+json'
DRAWN = """
for (const figure of document.querySelectorAll('.figure')) {
  const {data, layout} = JSON.parse(figure.nextElementSibling.textContent);
  const {width, ...free} = layout;
  Plotly.newPlot(figure, data, {...free, height: layout.height ?? 420}, {responsive: true, displayModeBar: false});
}
"""

_PLACE = re.compile(r'<div data-output="(\d+)"></div>')
_TABLE = re.compile(r'<table border="1" class="dataframe">')
_STYLE = re.compile(r'<style scoped>.*?</style>\s*', re.DOTALL)
_LINK = re.compile(r'</?a\b[^>]*>')


def markdown_of(notebook: dict[str, Any], note: str) -> str:
    """The title, a note, and the cells; each output has a place, which `with_outputs` fills."""
    title, *cells = _cells(notebook)
    return '\n\n'.join([title, f'!!! note\n    {note}', *cells])


def with_outputs(content: str, notebook: dict[str, Any], script: str) -> str:
    """The page's HTML with the outputs in their places, and the script by which figures are drawn."""
    outputs = [_html(output) for cell in notebook['cells'] for output in cell.get('outputs', ())]
    filled = _PLACE.sub(lambda found: f'<div class="output">{outputs[int(found[1])]}</div>', content)
    return f'{filled}<script src="{script}"></script><script>{DRAWN}</script>'


def _cells(notebook: dict[str, Any]) -> Iterator[str]:
    number = 0
    for cell in notebook['cells']:
        text = ''.join(cell['source'])
        yield text if cell['cell_type'] == 'markdown' else f'```python\n{text}\n```'
        for _ in cell.get('outputs', ()):
            yield f'<div data-output="{number}"></div>'
            number += 1


def _html(output: dict[str, Any]) -> str:
    """Figures, then HTML, then text, as Jupyter prefers them. A link in an output leads into the folder of the notebook."""
    data = output.get('data', {'text/plain': output.get('text', '')})
    if FIGURE in data:
        figure = json.dumps(data[FIGURE], separators=(',', ':')).replace('</', r'<\/')
        return f'<div class="figure"></div><script type="application/json">{figure}</script>'
    if 'text/html' in data:
        return _LINK.sub('', _TABLE.sub('<table>', _STYLE.sub('', ''.join(data['text/html']))))
    return f'<pre><code>{html.escape("".join(data["text/plain"]))}</code></pre>'
