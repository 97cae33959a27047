"""A run, or several, as one HTML page that needs no network to be opened."""

from __future__ import annotations

from nni_knas.basics.extras import how_to_install

try:
    import jinja2  # noqa: F401
    import plotly  # type: ignore[import-untyped]  # noqa: F401
except ImportError as error:
    raise ImportError(f'a report needs the package {error.name}: {how_to_install("report")}') from None

from nni_knas.report.comparison import write_comparison
from nni_knas.report.single import write_report
from nni_knas.report.table import write_csv

__all__ = ['write_comparison', 'write_csv', 'write_report']
