"""NNI is repaired, in whatever order it and nni_knas are imported, and nothing of it is imported for that."""

from __future__ import annotations

import subprocess
import sys

from nni_knas.bridge.arrivals import REPAIRED
from nni_knas.bridge.repairs import REPAIRS

NNI = """
import nni
from nni.experiment import Experiment, launcher
from nni.experiment.launcher import start_experiment
from nni.nas.experiment import NasExperiment
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.strategy import PolicyBasedRL
from nni.nas.utils.serializer import TorchSerializer
from nni.runtime.trial_command_channel.v3 import TrialCommandChannelV3
from nni.runtime.tuner_command_channel import TunerCommandChannel
"""
CHECK = """
repaired = (
    launcher._start_rest_server, launcher._check_rest_server, start_experiment.__globals__['_start_rest_server'],
    Experiment._start_nni_manager, NasExperiment.start, NasExperiment.stop, TorchSerializer.load,
    TrialCommandChannelV3.receive_parameter,
    TunerCommandChannel._receive,
)
ours = [getattr(each, '__wrapped__', None) or getattr(each, 'func', None) or each.__module__ == 'nni_knas.bridge.repairs'
        for each in repaired]
assert all(ours), ours
assert not hasattr(Experiment._start_nni_manager.__wrapped__, '__wrapped__'), 'it was repaired twice'
"""


def run(code: str) -> str:
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_nni_may_come_first():
    run(f'{NNI}from nni_knas import KNAS\n{CHECK}')


def test_nni_may_come_later_and_is_quiet_then():
    assert run('import nni_knas\n' + NNI + CHECK) == ''


def test_nothing_of_nni_is_imported_by_the_package_alone():
    run("import sys, nni_knas\nassert not {'nni', 'torch'} & {*sys.modules}")


def test_what_is_awaited_is_what_is_repaired():
    assert set(REPAIRED) == set(REPAIRS)


COMPILER = """
import sys
import nni_knas, nni.nas.experiment, torch
from lightning_fabric.wrappers import OptimizedModule, _unwrap_compiled
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultCollection
from pytorch_lightning.utilities.compile import OptimizedModule as another
from torchvision.ops import roi_align

assert roi_align(torch.ones(1, 1, 4, 4), torch.tensor([[0, 0, 0, 2, 2.0]]), 1).item() == 1
linear = torch.nn.Linear(1, 1)
assert not isinstance(linear, OptimizedModule) and _unwrap_compiled(linear) == (linear, None)
assert not {'torch._dynamo', 'torch._inductor', 'sympy'} & {*sys.modules}
compiled = torch.compile(linear)
assert isinstance(compiled, OptimizedModule) and isinstance(compiled, another) and _unwrap_compiled(compiled)[0] is linear
_ResultCollection(training=True).log('fit', 'loss', torch.ones(()), on_step=True, on_epoch=False)
assert torch._dynamo.disable.__module__.startswith('torch._dynamo') and torch.compiler.disable.__module__ == 'torch.compiler'
"""


def test_torchs_compiler_is_imported_when_it_is_used():
    run(COMPILER)
