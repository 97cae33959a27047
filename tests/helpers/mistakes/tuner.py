"""Mistakes in the arguments of the tuner, and in the search space that nnictl gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mistakes.attempts import Mistake, code, write
from mistakes.search_spaces import MODELS
from nni_knas.tuner.background import BackgroundSearch

RIGHT = {'network': 'mymodels:build', 'data': 'mymodels:data', 'candidates': 3, 'top_k': 1}
SPACE = {'width': {'_type': 'choice', '_value': [4, 8]}}


def tuner(arguments: dict[str, Any], says: str, space: Any = None) -> Mistake:
    """Arguments beside right ones, which may be ``None`` to leave them out; or a search space."""

    def attempt() -> None:
        write({'mymodels.py': MODELS})
        given = {name: value for name, value in {**RIGHT, **arguments}.items() if value is not None}
        search = BackgroundSearch(given, Path('run').absolute(), {'trialCodeDirectory': str(Path.cwd())})
        try:
            search.prepare(SPACE if space is None else space)
        finally:
            search.close()

    shown = f'searchSpace: {json.dumps(space)}' if space is not None else f'classArgs: {json.dumps(arguments)}'
    return Mistake(code(shown), says, attempt)


MISTAKES = [
    tuner({'candidats': 3}, 'did you mean "candidates"?'),
    tuner({'topK': 1}, 'the field top_k is given twice'),
    tuner({'candidates': 'many'}, "candidates is 'many'"),
    tuner({'candidates': [3]}, 'candidates is [3]'),
    tuner({'candidates': 0}, 'candidates is 0'),
    tuner({'top_k': 5}, 'top_k=5 is more than candidates=3'),
    tuner({'choose': 'rank', 'stop_when': 0.1}, 'stop_when=0.1 goes with choose="learn"'),
    tuner({'choose': 'rank', 'near_best': 1}, 'near_best=1 goes with choose="learn"'),
    tuner({'score': 'mgn'}, 'did you mean "mgm"?'),
    tuner({'placement': 'trials'}, 'the trials of this experiment train'),
    tuner({'device': 'tpu'}, 'device'),
    tuner({'space': 'DARTS'}, 'there are both a network'),
    tuner({'network': 'mymodels'}, "network is 'mymodels'"),
    tuner({'network': 'mymodels:nothing'}, "there is no 'nothing'"),
    tuner({'data': 'nowhere:load'}, 'cannot be imported'),
    tuner({'country': 'Germany'}, 'country is'),
    tuner({'evaluator': 3}, 'evaluator is 3'),
    tuner({}, 'search space', {}),
    tuner({}, 'search space', [1]),
    tuner({}, 'did you mean "choice"?', {'width': {'_type': 'choise', '_value': [4]}}),
    tuner({'network': None, 'space': 'spaces:TinySpace'}, 'has no parameter', SPACE | {'height': SPACE['width']}),
    tuner(
        {'network': None, 'space': 'spaces:TinySpace'},
        'is no choice of parameter',
        {'width': {'_type': 'choice', '_value': [5]}},
    ),
]
