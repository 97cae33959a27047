"""The tutorial notebook is committed with the outputs of its code, and runs from its first cell to the report."""

from __future__ import annotations

import json
import re
import runpy

import nbformat
import pytest
from nbclient import NotebookClient
from places import DOCS, EXAMPLES

TUTORIAL = EXAMPLES / 'tutorial.ipynb'
EXECUTING = runpy.run_path(str(DOCS / 'building' / 'tutorial.py'))
PAGE = runpy.run_path(str(DOCS / 'building' / 'notebook.py'))
SECONDS = 1800  # the end matters only where the test fails
HANDFUL = {'candidates=100, top_k=6': 'candidates=8, top_k=2', 'max_epochs=4': 'max_epochs=2'}
"""What is less in the test than in the tutorial."""


def read():
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_its_outputs_are_of_its_code():
    """Where this fails, `make tutorial` makes them anew."""
    notebook = read()
    assert notebook.metadata.executed == EXECUTING['digest'](notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


def check_outputs(notebook):
    """They are of the search, and not of the machine."""
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    assert {output.output_type for output in outputs} == {'stream', 'execute_result', 'display_data'}
    assert {output.get('name', 'stdout') for output in outputs} == {'stdout'}
    assert not re.search(r'\\u001b|[" ]/(home|root|Users|tmp)/', json.dumps(outputs))


def test_its_outputs_are_of_no_machine():
    check_outputs(read())


def test_each_output_has_its_place_on_the_site():
    notebook = json.loads(TUTORIAL.read_text(encoding='utf-8'))
    outputs = [output for cell in notebook['cells'] for output in cell.get('outputs', ())]
    figures = [output['data'][PAGE['FIGURE']] for output in outputs if PAGE['FIGURE'] in output.get('data', {})]
    page = PAGE['markdown_of'](notebook, 'a note')
    assert re.findall(r'<div data-output="(\d+)">', page) == [str(number) for number in range(len(outputs))]
    content = PAGE['with_outputs'](page, notebook, 'plotly.js')
    shown = re.findall(r'<script type="application/json">(.*?)</script>', content, re.DOTALL)
    assert [json.loads(each) for each in shown] == figures and len(figures) > 5
    assert 'scored 100 candidates and trained 6' in content
    assert '<a href="report.html"' not in content and content.count('src="plotly.js"') == 1


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
    check_outputs(EXECUTING['tidied'](notebook))
    report = (tmp_path / 'report.html').read_text()
    assert statement.strip().split(';')[0].split(' for ')[0] in report
    assert 'class="network"' in report
