"""The keys of a record's meta table: what it keeps of a run besides candidates, sessions and energy."""

from __future__ import annotations

SPACE = 'space'
"""The model space, as NNI's serializer writes it."""
SEARCH_SPACE = 'search space'
"""The choices of the space, in NNI's search space JSON, of a run of the tuner."""
KERNEL = 'kernel'
"""What scores depend on, as JSON; a run that is taken up has to have the same."""
DATA = 'data'
"""The digests of the data that networks are trained and validated on, by name, as JSON."""
EXAMPLE = 'example'
"""The inputs of a network, described for export and drawings."""
STATISTICS = 'statistics'
"""The names of the statistics in candidates' panels, as JSON: a list for each version whose panels are in the record."""
EFFORT = 'effort'
"""Whether candidates are scored quickly at first: ``'adaptive'`` or ``'full'``."""
AHEAD = 'ahead'
"""How many candidates the explorer is ahead of their scores."""
TOP_K = 'top_k'
"""How many of the best are trained."""
STOPPED = 'stopped'
"""What ended the training before the last of the best, as JSON; see :class:`nni_knas.record.Stop`."""
NEAR = 'near the best'
"""The candidates that are drawn near the best, as JSON; see :class:`nni_knas.record.Near`."""
FRONT = 'front'
"""The cost of the Pareto front that the best are taken from; empty where they are taken by score."""
DRAWING = 'drawing'
"""The drawing of the winner's network, as JSON, so that who looks at the run need not build it."""
OPTIMIZE_MODE = 'optimize_mode'
"""Which metrics are better: ``'maximize'`` or ``'minimize'``."""
METRIC = 'metric'
"""The name of the metric, as far as it is known."""
SCORING_SECONDS = 'scoring seconds'
"""The time by the clock that scoring has taken."""
COMPLETE = 'complete'
"""Whether the run has come to its end."""
FAILURE = 'failure'
"""The error that ended the run, in a sentence; empty where none did."""
LIMIT = 'limit'
"""The limit of the experiment that ended the run, by its name; empty where none did."""
DEADLINE = 'deadline'
"""When the experiment's time is over, in seconds since the epoch; 0 where it has no limit."""
STATEMENT = 'statement'
"""The footprint in one sentence, once a session has ended."""
METHODS = 'energy methods'
"""How the energy of each component is known, as JSON."""
BATCH = 'batch in full'
"""The numbers of the candidates that were last to be scored in full together."""
BEGINNING = 'explorer '
"""The state that an explorer began in; its name follows."""
CHECKPOINT = 'checkpoint of '
"""The checkpoint of an explorer, which follows."""
FINISHED = 'finished for'
"""How many of the best were looked for among the candidates of quick scores."""
