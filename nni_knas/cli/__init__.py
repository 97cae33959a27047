"""The command line: ``nni-knas search``, ``score``, ``benchmark``, ``schema``, and the commands on runs."""

from nni_knas.cli.main import main

__all__ = ['main']
