"""Commands as a user types them, in this process and in others."""

from __future__ import annotations

from pathlib import Path

from processes import Forked

from nni_knas.cli import main


def successful(*arguments: str) -> None:
    assert main(arguments) == 0


class Started:
    """A command in a process of its own that has imported everything, and what it prints."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.files = [folder / f'{arguments[0]}-{stream}' for stream in ('stdout', 'stderr')]
        self.process = Forked(successful, *arguments, output=self.files[0], errors=self.files[1])

    @property
    def stdout(self) -> str:
        return self.files[0].read_text() if self.files[0].exists() else ''

    @property
    def stderr(self) -> str:
        return self.files[1].read_text() if self.files[1].exists() else ''

    def succeed(self) -> str:
        """Wait for its end; it has no complaints."""
        code = self.process.wait()
        assert (code, self.stderr) == (0, '')
        return self.stdout
