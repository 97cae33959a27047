"""A run that somebody else has sent, in which whatever could be executed leaves a mark."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
from pathlib import Path

import torch

from nni_knas.record import record_path, settings_path, weights_path


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def set_traps(folder: Path, mark: Path) -> None:
    """Put a trap into all that a run keeps: what is unpickled, what NNI loads, modules and their folders."""
    modules = folder / 'modules'
    modules.mkdir()
    for name in ('trapped', 'spaces', 'plotly', 'markupsafe', 'jinja2', 'sitecustomize'):
        (modules / f'{name}.py').write_text(f'import os\nos.makedirs({str(mark)!r}, exist_ok=True)\n')
    (folder / 'knas' / 'weights').mkdir(exist_ok=True)
    torch.save(Trap(mark), weights_path(folder, 1))
    trap = pickle.dumps(Trap(mark))
    space = {'__symbol__': 'path:trapped.Space', '_arguments': {}, '__nni_type__': f'bytes:{_encoded(trap)}'}
    with sqlite3.connect(record_path(folder)) as record:
        for key in ('explorer Random', 'checkpoint of Random()', 'samples', 'settings'):
            record.execute('INSERT OR REPLACE INTO meta VALUES (?, ?)', (key, trap))
        record.execute("INSERT OR REPLACE INTO meta VALUES ('space', ?)", (json.dumps(space),))
        for number, about in record.execute('SELECT number, about FROM sessions').fetchall():
            changed = {**json.loads(about), 'directory': str(modules)}
            record.execute('UPDATE sessions SET about = ? WHERE number = ?', (json.dumps(changed), number))
    record.close()
    options = {'space': 'trapped:Space', 'data': 'trapped:load', 'evaluator': 'trapped:Evaluator', 'candidates': 20}
    config = {'trialCodeDirectory': str(modules), 'experimentName': 'sent'}
    settings_path(folder).write_text(json.dumps({'options': options, 'search_space': None, 'config': config}))


def _encoded(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()
