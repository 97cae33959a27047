"""An SSH server of a test's own, on a free port of this machine: NNI's remote training service then has where to go."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from nni.experiment.config import RemoteMachineConfig
from servers import free_port, wait_until


class Server(NamedTuple):
    """What a client needs to log in."""

    port: int
    user: str
    key: Path
    home: Path
    address: str

    def machine(self) -> RemoteMachineConfig:
        """The server as NNI's remote service is told of it."""
        return RemoteMachineConfig(
            host=self.address,
            port=self.port,
            user=self.user,
            ssh_key_file=str(self.key),
            python_path=str(Path(sys.executable).parent),
        )

    def processes(self) -> list[psutil.Process]:
        """The server, and all that was started by way of it."""
        own = [process for process in psutil.process_iter() if _belongs_to(process, self.home)]
        with contextlib.suppress(psutil.Error):
            own += [child for process in own for child in process.children(recursive=True)]
        return list(dict.fromkeys(own))

    def die(self) -> None:
        """As a machine that is switched off: nothing of it is left."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


def _belongs_to(process: psutil.Process, home: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get('HOME') == str(home) or any(str(home) in word for word in process.cmdline())
    return False


@contextlib.contextmanager
def ssh_server(folder: Path, address: str = '127.0.0.1') -> Iterator[Server]:
    """A server with keys of its own, while the context lasts; ``folder`` is the home of those who log in."""
    missing = [name for name in ('sshd', 'ssh-keygen') if shutil.which(name, path=f'{os.environ["PATH"]}:/usr/sbin') is None]
    if missing:
        pytest.skip(f'no {" and no ".join(missing)}: install openssh-server')
    program = shutil.which('sshd', path=f'{os.environ["PATH"]}:/usr/sbin')
    if os.getuid() == 0:
        Path('/run/sshd').mkdir(exist_ok=True)  # for root's server, where the system's own has not made it
    folder.chmod(0o700)
    for name in ('host', 'client'):
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', str(folder / name)], check=True)
    shutil.copy(folder / 'client.pub', folder / 'authorized')
    server = Server(free_port(), getpass.getuser(), folder / 'client', folder, address)
    (folder / 'config').write_text(
        '\n'.join(
            [
                f'Port {server.port}',
                f'ListenAddress {address}',
                f'HostKey {folder / "host"}',
                f'PidFile {folder / "pid"}',
                f'AuthorizedKeysFile {folder / "authorized"}',
                'PubkeyAuthentication yes',
                'PasswordAuthentication no',
                'PermitRootLogin prohibit-password',
                'StrictModes no',
                'UsePAM no',
                'Subsystem sftp internal-sftp',
                f'SetEnv HOME={folder} OMP_NUM_THREADS=1 PYTHONPATH={os.environ.get("PYTHONPATH", "")}',
                '',
            ]
        )
    )
    with (folder / 'sshd.log').open('w') as log:
        process = subprocess.Popen([str(program), '-D', '-e', '-f', str(folder / 'config')], stderr=log)
    try:
        wait_until(lambda: 'listening' in (folder / 'sshd.log').read_text() or process.poll() is not None, 20)
        if process.poll() is not None:
            pytest.skip(f'sshd does not start here: {(folder / "sshd.log").read_text()}')
        yield server
    finally:
        process.terminate()
        process.wait(10)
