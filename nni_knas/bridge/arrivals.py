"""NNI's modules are repaired when they arrive: whenever they are imported, and in whatever order with ``nni_knas``.

Nothing of NNI is imported here, so that who asks for little does not wait for it.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType

__all__ = ['await_nni']

REPAIRED = (
    'nni.common.serializer',
    'nni.experiment.launcher',
    'nni.experiment.experiment',
    'nni.nas.execution.training_service',
    'nni.nas.experiment.experiment',
    'nni.nas.utils.serializer',
    'nni.runtime.trial_command_channel.v3',
    'nni.runtime.tuner_command_channel.channel',
)
"""The modules that :mod:`nni_knas.bridge.repairs` repairs; it is imported with the first of them."""

NOISY = ('nni.nas.nn.pytorch.layers', 'gym')
"""NNI warns of names in ``torch.nn`` that are newer than it and no layers; gym, for NNI's PolicyBasedRL, that it is old.
Nothing comes of it, and a user can do nothing about it."""


def await_nni() -> None:
    """Repair what is there of NNI, and the rest when it is imported; but nothing in NNI's dispatcher, which needs none."""
    if os.environ.get('SDK_PROCESS') == 'dispatcher' or any(isinstance(finder, _Arrivals) for finder in sys.meta_path):
        return
    for name in REPAIRED:
        if name in sys.modules:
            _repair(sys.modules[name])
    sys.meta_path.insert(0, _Arrivals())


def _repair(module: ModuleType) -> None:
    from nni_knas.bridge.repairs import repair

    repair(module)


class _Arrivals:
    """Finds the modules above as the other finders do, and has them imported quietly, and repaired."""

    def __init__(self) -> None:
        self._awaited = {*REPAIRED, *NOISY}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._awaited:
            return None
        self._awaited.remove(name)  # the others are asked, and this one once only
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            _wrap(spec.loader)
        return spec


def _wrap(loader: importlib.abc.Loader) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        with _quiet():
            execute(module)
        if module.__name__ in REPAIRED:
            _repair(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter('ignore')
        yield
