"""Executes the tutorial, and keeps what its cells put out: `make tutorial`, in some minutes.

The site shows these outputs. They are those of one run, without what differs from machine to machine and says nothing of
the search: warnings of other packages, colours of terminals, folders.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIAL = Path(__file__).parents[2] / 'examples' / 'tutorial.ipynb'
_COLOUR = re.compile(r'\x1b\[[\d;]*m')


def main() -> None:
    os.environ['PLOTLY_RENDERER'] = 'plotly_mimetype'
    notebook = nbformat.read(TUTORIAL, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=None, resources={'metadata': {'path': folder}}).execute()
    nbformat.write(tidied(notebook), TUTORIAL)


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """What was executed, and its outputs, and nothing else."""
    notebook.metadata = {'kernelspec': notebook.metadata.kernelspec, 'executed': digest(notebook)}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == 'code':
            cell.outputs = _joined([output for output in cell.outputs if output.get('name') != 'stderr'])
    return notebook


def digest(notebook: nbformat.NotebookNode) -> str:
    """Of the code: outputs belong to it as long as it is the same."""
    code = '\n\n'.join(cell.source for cell in notebook.cells if cell.cell_type == 'code')
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """One output for all that was printed."""
    printed = ''.join(output.text for output in outputs if output.output_type == 'stream')
    others = [output for output in outputs if output.output_type != 'stream']
    text = _COLOUR.sub('', printed).replace(str(Path.home()), '~')
    return [*([nbformat.v4.new_output('stream', text=text)] if text else []), *others]


if __name__ == '__main__':
    main()
