"""Somebody else's run is looked at without executing anything in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import SimplifiedModelSpace
from processes import run_code
from spaces import TinySpace, tiny_kernel, train
from traps import set_traps

from nni_knas import KNAS, open_run
from nni_knas.record import Record, keys, record_path
from nni_knas.runs.looks import KeptDrawing, keep_drawing, kept_drawing

LOOK = """
import sys
from pathlib import Path
import nni_knas
from nni_knas.cli import main
folder, other = map(Path, sys.argv[1:])
for command in (['list', '--directory', str(folder.parent)], ['show', str(folder)], ['report', str(folder)],
                ['compare', str(folder), str(other), '--to', str(folder / 'comparison.html')]):
    assert main(command) == 0, command
run = nni_knas.open_run(folder)
run.scores(), run.scores(all=True), run.curves(), run.footprint(), run.metrics(), run.drawing(), run.configuration()
run.pareto('parameters'), run.status, run.sessions(), run.process, run.name, repr(run), run.winner, run.metrics(1)
for plot in ('scores', 'progress', 'costs', 'curves', 'ranks', 'footprint'):
    getattr(nni_knas, f'plot_{plot}')(run)
nni_knas.plot_comparison([run, nni_knas.open_run(other)], 'metric')
print('BEST', run.metric, run.ranking().architecture.iloc[0] == run.architecture)
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs') / 'sent'
    strategy = KNAS(tiny_kernel(), 20, 3, record=record_path(folder))
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train)), SequentialExecutionEngine())
    return open_run(folder)


def copy_of(run, tmp_path: Path) -> Path:
    shutil.copytree(run.folder, tmp_path / 'sent')
    return tmp_path / 'sent'


@pytest.mark.parametrize('old', [False, True], ids=['new', 'of an earlier version'])
def test_looking_executes_nothing(fork_server, run, tmp_path, old):
    folder, mark = copy_of(run, tmp_path), tmp_path / 'mark'
    if old:
        Record(record_path(folder)).forget_meta(keys.DRAWING)
        Record(record_path(folder))._write('UPDATE candidates SET parameters = NULL')
    set_traps(folder, mark)
    script = LOOK.replace("run.pareto('parameters'), ", '') if old else LOOK
    done = run_code(folder / 'knas', script, str(folder), str(run.folder))
    assert done.returncode == 0, done.stderr
    assert not mark.exists()
    assert f'BEST {run.metric} True' in done.stdout and 'sent' in done.stdout
    page = (folder / 'report.html').read_text()
    assert ('class="network"' in page) != old and ('There is no drawing: a search keeps one' in page) == old


def test_the_traps_work(fork_server, run, tmp_path):
    """What executes a run, as its documentation says, springs them."""
    folder, mark = copy_of(run, tmp_path), tmp_path / 'mark'
    set_traps(folder, mark)
    code = 'import sys, nni_knas; sys.path.append(sys.argv[2]); nni_knas.open_run(sys.argv[1]).network()'
    run_code(tmp_path, code, str(folder), str(folder / 'modules'))
    assert mark.exists()
    for method in ('network', 'export', 'measured', 'prepare_report'):
        assert 'executes' in getattr(type(run), method).__doc__


SVG = '<svg xmlns="http://www.w3.org/2000/svg" class="network"><title>x</title><g><path d="M0 0"/></g></svg>'
BAD = {
    'script': SVG.replace('<path', '<script>alert(1)</script><path'),
    'handler': SVG.replace('<path', '<path onload="alert(1)"'),
    'link': SVG.replace('<g>', '<g style="background:url(http://x)">'),
    'object': SVG.replace('<path', '<foreignObject/><path'),
    'CDATA': SVG.replace('>x<', '><![CDATA[ > <script>alert(1)</script> ]]><'),
    'entities': '<!DOCTYPE svg [<!ENTITY a "aaaa">]>' + SVG,
    'other namespace': SVG.replace('<g>', '<g xmlns:h="http://www.w3.org/1999/xhtml"><h:script/>'),
    'none': 'not at all',
    'number': 5,
}


@pytest.mark.parametrize('name', BAD)
def test_drawings_that_are_more_than_that(name):
    record = Record(None)
    keep_drawing(record, 1, KeptDrawing([('it', BAD[name])]))
    assert kept_drawing(record, 1) is None


@pytest.mark.parametrize(
    'text', ['', 'null', '[]', '{}', '{"candidate": 1}', '{"candidate": 1, "drawings": 3, "why_not": 1}']
)
def test_drawings_that_are_broken(text):
    record = Record(None)
    record.set_meta(keys.DRAWING, text)
    assert kept_drawing(record, 1) is None


def test_drawings_are_kept(run):
    [(caption, svg)] = run.drawing().drawings
    assert caption == 'The network' and svg.startswith('<svg ') and 'linear' in svg
    content = json.loads(run.record.get_meta(keys.DRAWING))
    assert content['candidate'] == run.winner.candidate and kept_drawing(run.record, content['candidate'] + 1) is None
