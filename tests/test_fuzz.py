"""Whatever stands in a file, in a search space, or in the tuner's arguments: one sentence or a run, never a traceback.

The same examples are drawn each time. For more of them, and others: KNAS_FUZZ=5000 pytest tests/test_fuzz.py
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from config_models import SEARCH_SPACE
from fuzz import mutated, texts, values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nni.experiment.config import utils
from nni.nas.experiment import NasExperiment
from places import HELPERS

from nni_knas.cli import main
from nni_knas.config import load_config, options
from nni_knas.spaces import FunctionSpace
from nni_knas.tuner.background import BackgroundSearch

EXAMPLES = int(os.environ.get('KNAS_FUZZ', 0))
fuzzed = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

OPTIONS = {
    'network': 'config_models:build',
    'data': 'config_models:data',
    'score': 'mgm',
    'batch_size': 4,
    'candidates': 3,
    'top_k': 1,
    'explorer': 'random',
    'effort': 'full',
    'max_parameters': 10**6,
    'evaluator': 'config_models:evaluator',
    'evaluator_args': {},
}
FILE = {
    'experimentName': 'fuzz',
    'trialConcurrency': 1,
    'maxExperimentDuration': '1h',
    'maxTrialNumber': 3,
    'experimentWorkingDirectory': 'runs',
    'searchSpace': SEARCH_SPACE,
    'trainingService': {'platform': 'local', 'useActiveGpu': False, 'gpuIndices': [0]},
    'knas': OPTIONS,
}
REMOTE = {
    **FILE,
    'nniManagerIp': '127.0.0.1',
    'trainingService': {'platform': 'remote', 'machineList': [{'host': '127.0.0.1', 'user': 'me', 'password': 'secret'}]},
}
names = texts | st.sampled_from([option.name for option in options()])


class Begun(BaseException):
    """A run would begin now."""


@pytest.fixture(autouse=True)
def stop_before_the_run(monkeypatch):
    def start(*arguments, **keywords):
        raise Begun

    monkeypatch.setattr(NasExperiment, 'start', start)
    monkeypatch.setattr(NasExperiment, 'stop', lambda experiment: None)
    monkeypatch.setattr(utils, 'get_ipv4_address', lambda: '127.0.0.1')  # NNI asks the network


@contextlib.contextmanager
def somewhere() -> Iterator[Path]:
    """A folder of its own, in which modules of the helpers are found."""
    directory, paths = os.getcwd(), [*sys.path]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(directory)
            sys.path[:] = paths


def one_sentence(text: str) -> None:
    assert text.strip() and '\n' not in text and 'Traceback' not in text, text


def is_answered(*arguments: str) -> None:
    """A command begins a run, or ends with one sentence."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            status = main(arguments)
        except Begun:
            return
    assert status == 2, errors.getvalue()
    one_sentence(errors.getvalue().removesuffix('\n'))


class TestFile:
    @fuzzed
    @given(mutated(FILE) | mutated(REMOTE) | mutated({'knas': OPTIONS}, names))
    def test_nearly_right(self, content):
        with somewhere() as folder:
            (folder / 'search.yml').write_text(yaml.safe_dump(content, allow_unicode=True), encoding='utf-8')
            is_answered('search', '--config', 'search.yml')

    @fuzzed
    @given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode('utf-8', 'surrogatepass')))
    def test_anything(self, content):
        with somewhere() as folder:
            (folder / 'search.yml').write_bytes(content)
            is_answered('search', '--config', 'search.yml')

    @fuzzed
    @given(st.integers(0, 2**32), st.integers(1, 4))
    def test_with_characters_changed(self, seed, changes):
        """Of a file that is right, in any place."""
        draw = random.Random(seed)
        text = [*yaml.safe_dump(FILE)]
        for _ in range(changes):
            text[draw.randrange(len(text))] = draw.choice(
                ['', ':', '-', '[', '{', '"', '\t', '#', '&a', '*a', '!', '\n', 'x', '9']
            )
        with somewhere() as folder:
            (folder / 'search.yml').write_text(''.join(text))
            is_answered('search', '--config', 'search.yml')


class TestSearchSpace:
    KINDS = (
        'choice',
        'randint',
        'uniform',
        'quniform',
        'loguniform',
        'qloguniform',
        'normal',
        'qnormal',
        'lognormal',
        'qlognormal',
    )
    specifications = st.fixed_dictionaries(
        {'_type': st.sampled_from(KINDS), '_value': st.lists(st.integers(-2, 9) | st.floats(-9, 9) | values, max_size=4)}
    )
    spaces = (
        mutated(SEARCH_SPACE)
        | st.dictionaries(st.sampled_from(['width', 'bias']) | texts, specifications, min_size=1, max_size=3)
        | values
    )

    @fuzzed
    @given(spaces)
    def test_in_a_file(self, space):
        with somewhere() as folder:
            (folder / 'search_space.json').write_text(json.dumps(space))
            given = ('--network', 'config_models:build', '--data', 'config_models:data', '--candidates', '3')
            is_answered('search', '--search-space', 'search_space.json', *given)

    @fuzzed
    @given(spaces)
    def test_in_python(self, space):
        try:
            FunctionSpace('config_models:build', space)
        except (ValueError, TypeError) as error:
            one_sentence(str(error))

    @fuzzed
    @given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode('utf-8', 'surrogatepass')))
    def test_anything(self, content):
        with somewhere() as folder:
            (folder / 'search_space.json').write_bytes(content)
            is_answered('search', '--search-space', 'search_space.json', '--network', 'config_models:build')


class TestTuner:
    @fuzzed
    @given(mutated(OPTIONS, names), st.just(SEARCH_SPACE) | TestSearchSpace.spaces)
    def test_nearly_right(self, arguments, space):
        if not isinstance(arguments, dict):
            arguments = {'space_args': arguments}
        with somewhere() as folder, contextlib.ExitStack() as stack:
            try:
                search = BackgroundSearch(arguments, folder / 'run', {'trialCodeDirectory': str(HELPERS)})
                stack.callback(search.close)
                search.prepare(space)
            except (ValueError, TypeError, LookupError) as error:  # what the manager is told; see KNAS._report_failure
                one_sentence(str(error))


def test_right_ones_are_right(tmp_path, monkeypatch):
    """What is mutated above begins a run as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    for content in (FILE, REMOTE):
        Path('search.yml').write_text(yaml.safe_dump(content))
        load_config('search.yml')
        with pytest.raises(Begun):
            main(['search', '--config', 'search.yml'])
