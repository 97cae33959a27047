"""Figures of a run, for notebooks and for the report: what the run's record has, as Plotly draws it.

Each function takes a run, however it is named (see :meth:`nni_knas.runs.Run.of`), finished or not, and gives a
``plotly.graph_objects.Figure``. A run that has nothing to draw gives a figure that says so in a sentence.

The figures have no background of their own, and colours of the palette of Okabe and Ito, which read on light and on dark,
and with any colour vision. Text has the colour of Plotly's template: ``plotly.io.templates.default = 'plotly_dark'`` suits a
dark notebook.

Quick scores have a scale of their own, and so a panel of their own, below that of the scores at full effort. Scores and
costs that spread over more than two orders of magnitude have a logarithmic axis. Of many candidates
:data:`~nni_knas.plots.common.MOST_POINTS` are drawn, evenly over the ranking, with all of the top k and all that were
trained among them; the figure says so. What is counted or compared (histogram, best so far, correlation) is so on all.

Source of the palette: Okabe and Ito, "Color Universal Design", 2008.
"""

from nni_knas.plots.choices import plot_choices
from nni_knas.plots.common import (
    BLUE,
    ENERGIES,
    GREY,
    VERMILLION,
    architecture_text,
    is_wide,
    number_text,
    run_names,
    unit_of,
)
from nni_knas.plots.comparison import Comparison, plot_comparison
from nni_knas.plots.notebook import strategy_html
from nni_knas.plots.single import plot_costs, plot_curves, plot_footprint, plot_progress, plot_ranks, plot_scores
from nni_knas.plots.statistics import histogram, spearman

__all__ = [
    'BLUE',
    'ENERGIES',
    'GREY',
    'VERMILLION',
    'Comparison',
    'architecture_text',
    'histogram',
    'is_wide',
    'number_text',
    'plot_choices',
    'plot_comparison',
    'plot_costs',
    'plot_curves',
    'plot_footprint',
    'plot_progress',
    'plot_ranks',
    'plot_scores',
    'run_names',
    'spearman',
    'strategy_html',
    'unit_of',
]
