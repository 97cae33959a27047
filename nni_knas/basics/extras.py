"""The packages that nni-knas needs: those that lack or do not fit, and how they are had.

What has to be installed is named by its own packages, whose names an index knows, and not as an extra of nni-knas: that
may have come from a checkout or as a file.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator

from packaging.requirements import Requirement

__all__ = ['DISTRIBUTION', 'how_to_install', 'installed', 'misfits', 'pip_install', 'required']

DISTRIBUTION = 'nni-knas'


def required(extra: str = '', distribution: str = DISTRIBUTION) -> list[Requirement]:
    """What a distribution needs here, or what an extra of it adds; empty where it is not installed."""
    return list(_required(extra, distribution))


def _required(extra: str, distribution: str) -> Iterator[Requirement]:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for requirement in map(Requirement, importlib.metadata.requires(distribution) or ()):
            marker = requirement.marker
            always = marker is None or marker.evaluate({'extra': ''})
            if (not extra and always) or (extra and not always and marker and marker.evaluate({'extra': extra})):
                yield requirement


def installed(package: str) -> str | None:
    """The version of a package; ``None`` where it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def misfits(requirements: list[Requirement]) -> list[Requirement]:
    """Those that are not met: the package is not there, or of another version."""
    versions = {each.name: installed(each.name) for each in requirements}
    return [
        each
        for each in requirements
        if (version := versions[each.name]) is None or not each.specifier.contains(version, prereleases=True)
    ]


def how_to_install(extra: str) -> str:
    """How the packages of an extra are had, such as ``pip install "plotly>=6.3" "jinja2>=3.1"``."""
    return pip_install(required(extra)) if required(extra) else f'install {DISTRIBUTION} with its extra {extra!r}'


def pip_install(requirements: list[Requirement]) -> str:
    """The command that installs packages in the versions that fit."""
    return f'pip install {" ".join(_quoted(each) for each in requirements)}'


def _quoted(requirement: Requirement) -> str:
    versions = ','.join(sorted(map(str, requirement.specifier), reverse=True))  # a lower bound comes before an upper one
    return f'"{requirement.name}{versions}"'
