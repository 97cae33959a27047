"""NNI's modules are repaired when they arrive: whenever they are imported, and in whatever order with ``nni_knas``.

Nothing of NNI is imported here, so that who asks for little does not wait for it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

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

HASTY = (
    'lightning_fabric.wrappers',
    'pytorch_lightning.trainer.connectors.logger_connector.result',
    'pytorch_lightning.utilities.compile',
    'torchvision.ops.roi_align',
)
"""NNI imports these, and they torch's compiler, for a name that hardly anybody comes to: a fifth of all that NNI's import
takes."""
COMPILER = ('torch._dynamo', 'torch._dynamo.utils')


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
        self._awaited = {*REPAIRED, *NOISY, *HASTY}

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
        with _compiler_later() if module.__name__ in HASTY else _quiet():
            execute(module)
        if module.__name__ in REPAIRED:
            _repair(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter('ignore')
        yield


@contextlib.contextmanager
def _compiler_later() -> Iterator[None]:
    """What is taken from torch's compiler inside is looked up in it when it is used."""
    import torch
    from torch._compile import _disable_dynamo  # the same as ``torch.compiler.disable``, which imports it at once

    names = [name for name in COMPILER if name not in sys.modules]
    disable, torch.compiler.disable = torch.compiler.disable, _disable_dynamo  # type: ignore[assignment]
    for name in names:
        sys.modules[name] = _StandIn(name)
    try:
        yield
    finally:
        torch.compiler.disable = disable
        for name in names:
            del sys.modules[name]


class _StandIn(ModuleType):
    """A module whose functions import it when they are called. No object is of its classes before it is imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return _UsedLater(name, (), {'__module__': self.__name__})


class _UsedLater(type):
    """A function or class of a module, looked up there when it is used."""

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(cls.__module__), cls.__name__)(*arguments, **options)

    def __instancecheck__(cls, instance: object) -> bool:
        return cls.__module__ in sys.modules and isinstance(instance, getattr(sys.modules[cls.__module__], cls.__name__))
