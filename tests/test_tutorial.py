"""The tutorial notebook is committed without outputs, and runs from its first cell to the report."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient
from places import EXAMPLES

TUTORIAL = EXAMPLES / 'tutorial.ipynb'
SECONDS = 1800  # the end matters only where the test fails
HANDFUL = {'candidates=100, top_k=6': 'candidates=8, top_k=2', 'max_epochs=4': 'max_epochs=2'}
"""What is less in the test than in the tutorial."""


def read():
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_it_is_committed_clean():
    notebook = read()
    assert notebook.metadata.kernelspec.name == 'python3'
    for cell in notebook.cells:
        assert cell.cell_type == 'markdown' or not (cell.outputs or cell.execution_count)


def test_its_links_lead_somewhere():
    links = re.findall(r'\]\(([^)#:]+)\)', '\n'.join(cell.source for cell in read().cells if cell.cell_type == 'markdown'))
    assert links and all((TUTORIAL.parent / link).exists() for link in links)


def shortened():
    """The tutorial on a handful of candidates."""
    notebook = read()
    for text, less in HANDFUL.items():
        [cell] = [cell for cell in notebook.cells if cell.cell_type == 'code' and text in cell.source]
        cell.source = cell.source.replace(text, less)
    return notebook


def text_of(cell):
    outputs = [output.get('text') or output.get('data', {}).get('text/plain', '') for output in cell.outputs]
    return ''.join(outputs)


@pytest.mark.slow
def test_it_runs(tmp_path, home):
    """In the environment that the tests run in, with their home; an exception in a cell would be raised here."""
    notebook = shortened()
    place = {'metadata': {'path': str(tmp_path)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name='python3', resources=place).execute()
    cells = {cell.source: cell for cell in notebook.cells if cell.cell_type == 'code'}
    [statement] = [text_of(cell) for source, cell in cells.items() if 'statement' in source]
    assert re.search(r'scored 8 candidates and trained 2', statement)
    [accuracy] = [text_of(cell) for source, cell in cells.items() if 'run.metric' in source]
    searched, loaded = re.findall(r': (0\.\d+)', accuracy)
    assert searched == loaded and float(searched) > 0.5
    plots = [cell for source, cell in cells.items() if source.startswith('nni_knas.plot_')]
    assert plots and all('application/vnd.plotly.v1+json' in cell.outputs[-1].data for cell in plots)
    [strategy] = [cell for source, cell in cells.items() if source == 'strategy']
    assert '8, of which 2 are trained, chosen by what is learnt' in strategy.outputs[-1].data['text/html']
    report = (tmp_path / 'report.html').read_text()
    assert statement.strip().split(';')[0].split(' for ')[0] in report
    assert 'class="network"' in report
