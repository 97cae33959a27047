"""Open a run, finished or not, from any process: its ranking, its winner, and ready networks of its candidates."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import shlex
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import nni
import pandas as pd
from nni.mutable import Sample
from nni.nas.space import ExecutableModelSpace, ModelStatus, RawFormatModelSpace, SimplifiedModelSpace
from torch import nn
from tqdm import tqdm

from nni_knas.bridge.experiment import reported_steps
from nni_knas.bridge.registry import find_folder
from nni_knas.footprint import Footprint, footprint_of
from nni_knas.gradients import cpu_threads, seeded
from nni_knas.learner import Learner
from nni_knas.networks import NetworkBuilder, check_formats, example_inputs, export, measure
from nni_knas.record import (
    Candidate,
    Record,
    Session,
    Status,
    keys,
    record_path,
    settings_path,
    unfetched_path,
    weights_path,
)
from nni_knas.runs.columns import score_table
from nni_knas.runs.learning import learner_of, pool_of
from nni_knas.runs.lessons import Lessons, choices_of, lessons_of
from nni_knas.runs.looks import KeptDrawing, keep_drawing, kept_drawing
from nni_knas.runs.ranked import kept_result, load_weights
from nni_knas.runs.selection import pareto_front
from nni_knas.runs.state import State, is_alive, state_of

__all__ = ['Run', 'dump_space', 'open_run', 'report_seconds', 'restore_model']

_logger = logging.getLogger(__name__)


class Run:
    """A KNAS run, read from its record.

    Parameters
    ----------
    folder
        The experiment's directory.
    record
        The run's record, where that is open already or not in the folder.

    Raises
    ------
    FileNotFoundError
        If there is no run in the folder.
    """

    measuring_seconds = 30.0
    """How long :meth:`measured` measures at most."""

    def __init__(self, folder: Path, record: Record | None = None) -> None:
        path = record_path(folder)
        if record is None and not path.exists():
            raise FileNotFoundError(f'{folder} is no KNAS run: there is no {path.relative_to(folder)} in it')
        self.folder = folder
        self.record = record if record is not None else Record(path, readonly=True)  # an empty one is false
        self._asked_to_measure: set[str] = set()

    @classmethod
    def of(cls, source: Any) -> Run:
        """A run, however it is named.

        Parameters
        ----------
        source
            A run; a KNAS strategy that has begun to run, or the NNI experiment of one; NNI's experiment id; or the
            experiment's folder.

        Raises
        ------
        FileNotFoundError
            If there is no such run.
        RuntimeError
            If the strategy has not run yet.
        TypeError
            If it is nothing that names a run.
        """
        if isinstance(source, cls):
            return source
        if isinstance(source, (str, Path)):
            return open_run(source)
        if hasattr(source, 'open_run'):  # a strategy, which this module does not know
            run: Run = source.open_run()
            return run
        if hasattr(source, 'strategy'):
            return cls.of(source.strategy)
        raise TypeError(
            f"{source!r:.80} names no run: give a Run, a KNAS strategy, its experiment, NNI's experiment id or "
            "the experiment's folder"
        )

    def __repr__(self) -> str:
        return f'Run({str(self.folder)!r})'

    def frame(self) -> pd.DataFrame:
        """All candidates with all that is known of them, best score first; see :meth:`nni_knas.record.Record.frame`."""
        return self.record.frame()

    def scores(self, *, all: bool = False, panel: bool = False) -> pd.DataFrame:
        """All candidates, best score first; the index is the rank by score.

        Parameters
        ----------
        all
            Give all columns of :meth:`nni_knas.record.Record.frame`, instead of score, metric, architecture and status.
        panel
            Add the panel, a column a statistic, ``nan`` where a candidate has none; with ``all``, ``panel_reason``, too,
            which says why one with a score has none. A candidate without a score in full has the panel of its quick one.
        """
        if not panel:
            return self.frame() if all else score_table(self.frame())
        frame = self.record.frame(panel=True)
        return frame if all else score_table(frame, statistics=self.record.statistics())

    def ranking(self, *, all: bool = False) -> pd.DataFrame:
        """The trained candidates, best metric first, with the columns of :meth:`scores`; the index is the rank by score.

        The best metric is the highest, or the lowest where the run's ``optimize_mode`` is ``'minimize'``.

        Parameters
        ----------
        all
            Give all columns of :meth:`nni_knas.record.Record.frame`, instead of score, metric, architecture and status.
        """
        frame = self.frame()
        trained = frame[(frame.status == Status.TRAINED) & frame.metric.notna()]
        ranked = trained.sort_values('metric', ascending=self.optimize_mode == 'minimize', kind='stable')
        return ranked if all else score_table(ranked)

    def choices(self) -> pd.DataFrame:
        """What was chosen for training, in that order, with what was expected of it and what came of it.

        Returns
        -------
        pandas.DataFrame
            A row a choice, from 1: ``candidate`` (its number), ``rank`` (by score), ``reason`` (``'score'``, ``'learned'``
            or ``'explore'``), ``predicted`` (the metric that was expected of it) and ``deviation`` of that, ``metric``,
            ``status``, and ``correlation``: the rank correlation of score and metric of those trained until then.
        """
        return choices_of(self.record)

    def learner(self) -> Learner:
        """A learner that has been told the metrics of the run, as the search's own is; its labels are candidates' numbers.

        Raises
        ------
        LookupError
            If no candidate has a score.
        """
        pool = pool_of(self.record)
        if not len(pool):
            raise LookupError(f'{self!r} has no candidate with a score yet')
        return learner_of(self.record, pool)

    def lessons(self) -> Lessons | None:
        """What the trained candidates have taught, in tables and in words; ``None`` where none is trained."""
        return lessons_of(self.record)

    @property
    def optimize_mode(self) -> str:
        """``'maximize'`` or ``'minimize'``: which metrics of training are better."""
        return self.record.get_meta(keys.OPTIMIZE_MODE) or 'maximize'

    @property
    def name(self) -> str:
        """What the run is called: by its experiment's name, or the file of its script, or else by NNI's id."""
        sessions = self.sessions()
        return (sessions[-1].about.get('name') if sessions else None) or self.folder.name

    @property
    def status(self) -> str:
        """``'running'``, ``'finished'``, ``'failed'``, ``'interrupted'`` or ``'killed'``; see :attr:`state`."""
        return self.state.status

    @property
    def state(self) -> State:
        """The status of the run, and the error or the limit that ended it; see :class:`nni_knas.runs.State`."""
        return state_of(self.record)

    @property
    def resumable(self) -> bool:
        """Whether ``nni-knas resume`` can take it up: it was started with settings that are kept, not by a script."""
        return settings_path(self.folder).exists()

    def how_to_resume(self) -> str:
        """How the run is taken up: by a command, or in the script that it is of."""
        if self.resumable:
            return shlex.join(['nni-knas', 'resume', str(self.folder)])
        sessions = self.sessions()
        command = sessions[-1].about.get('command') if sessions else None
        script = f' ({command})' if command else ''
        return f'in its script{script}: NasExperiment(..., id={self.folder.name!r}), then experiment.resume()'

    @property
    def process(self) -> int | None:
        """The number of the process that is at work on the run; ``None`` where there is none on this machine."""
        sessions = self.sessions()
        return sessions[-1].about['pid'] if sessions and is_alive(sessions[-1]) else None

    def sessions(self) -> list[Session]:
        """The processes that have worked on the run: when, by which command, with which versions, on what machine."""
        return self.record.sessions()

    def configuration(self) -> dict[str, Any]:
        """What the run was asked for, by name: the options of the command line or the file, or those of the strategy."""
        sessions = self.sessions()
        asked = sessions[-1].about.get('asked', {}) if sessions else {}
        try:
            options = json.loads(settings_path(self.folder).read_text())['options']
        except (OSError, ValueError, LookupError, TypeError):  # none, or a broken one
            return asked
        if not isinstance(options, dict):
            return asked
        return {**options, **{name: value for name, value in asked.items() if name not in options}}

    @property
    def metric_name(self) -> str:
        """What the metric of training is, as far as is known: an evaluator of the user's own may report anything."""
        return self.record.get_meta(keys.METRIC) or 'metric'

    @property
    def top_k(self) -> int | None:
        """How many of the best are to be trained; ``None`` where the record does not say."""
        top_k: int | None = self.record.get_meta(keys.TOP_K)
        return top_k

    def footprint(self) -> Footprint:
        """Time, energy and CO2-equivalent of the run; see :class:`nni_knas.footprint.Footprint`."""
        return footprint_of(self.record)

    def curves(self) -> pd.DataFrame:
        """The learning curves of the fine stage.

        Returns
        -------
        pandas.DataFrame
            A row an intermediate report: ``candidate`` (number in the order of exploration), ``rank`` (by score), ``step``
            (number of the report, from 1) and ``metric``.
        """
        steps = self.record.steps()
        others = reported_steps(self.folder)
        steps = pd.concat([steps, others[~others.candidate.isin(steps.candidate)]]) if len(others) else steps
        frame = self.frame()
        ranks = pd.Series(frame.index, index=frame.candidate)
        steps = steps[steps.candidate.isin(ranks.index)]
        return steps.assign(rank=steps.candidate.map(ranks))[['candidate', 'rank', 'step', 'metric']].reset_index(drop=True)

    def measured(self, costs: Collection[str] = ('parameters', 'flops')) -> pd.DataFrame:
        """All candidates as :meth:`frame` has them, with costs measured where the run did not need them.

        What is measured is kept in the run's record. The best candidates come first, and then a random choice: of many,
        those are measured that :attr:`measuring_seconds` suffice for. Where the space cannot be built again, none is.

        This builds the run's networks, and so executes what its space is made of, as :meth:`network` does.

        Parameters
        ----------
        costs
            Names of costs that depend on the network alone; see :mod:`nni_knas.networks.costs`.
        """
        frame = self.frame()
        lacking = frame[frame[list(costs)].isna().any(axis=1) & (frame.score.notna() | frame.quick.notna())]
        if not len(lacking) or not costs or self._asked_to_measure.issuperset(costs):
            return frame
        self._asked_to_measure.update(costs)  # once: what could not be measured in time is not tried again and again
        found = self._measure_costs(lacking, costs)
        self._keep_costs(found)
        rows = pd.Series(frame.index, index=frame.candidate)
        for number, values in found.items():
            frame.loc[rows[number], list(values)] = list(values.values())
        return frame

    def _measure_costs(self, lacking: pd.DataFrame, costs: Collection[str]) -> dict[int, dict[str, float]]:
        """Costs of candidates by number, as far as the time suffices."""
        example = self.record.get_meta(keys.EXAMPLE)
        if not example:
            return {}
        try:
            builder = NetworkBuilder(SimplifiedModelSpace.from_model(self._build_space().model.get()), 0)
        except LookupError:
            return {}
        order = pd.concat([lacking[:100], lacking[100:].sample(frac=1, random_state=0)])
        inputs, end = example_inputs(example, batch=1), time.monotonic() + self.measuring_seconds
        found: dict[int, dict[str, float]] = {}
        candidates = zip(order.candidate, order.architecture)
        for number, architecture in tqdm(
            candidates, total=len(order), desc='Measuring', unit='candidate', disable=None, leave=False
        ):
            if time.monotonic() > end:
                break
            # One thread, as in a search: more are slower for one sample, and far slower beside other work.
            with contextlib.suppress(Exception), cpu_threads(1):  # it may take other inputs than the rest
                found[number] = measure(builder.network(architecture), inputs, costs)
        return found

    def _keep_costs(self, found: Mapping[int, Mapping[str, float]]) -> None:
        def write(record: Record) -> None:
            with record.transaction():
                for number, values in found.items():
                    record.set_costs(number, values)

        self._write(write)

    def _write(self, write: Callable[[Record], None]) -> None:
        """Write to the record; nothing is where the run is another user's, or on a medium that is only read."""
        path = self.record.path
        with contextlib.suppress(sqlite3.Error):
            if not self.record.readonly or path is None:
                write(self.record)
            else:
                with contextlib.closing(Record(path)) as record:
                    write(record)

    def prepare_report(self, seconds: float | None = None) -> None:
        """Measure costs, see :meth:`measured`, and draw the winner's network; reports and plots show what is kept of it.

        A search does this at its end. For a run that was interrupted, or is of an earlier version, it can be done later.
        It builds the run's networks, and so executes what its space is made of, as :meth:`network` does.

        Parameters
        ----------
        seconds
            How long to measure at most. Default: :attr:`measuring_seconds`.
        """
        self.measuring_seconds = self.measuring_seconds if seconds is None else seconds
        with seeded(0):
            self.measured()
            with contextlib.suppress(LookupError):  # no candidate has a score
                row = self.winner
                drawn = self._drawn(int(row.name))  # type: ignore[call-overload]
                self._write(functools.partial(keep_drawing, candidate=int(row.candidate), drawn=drawn))

    def _drawn(self, rank: int) -> KeptDrawing:
        """Drawings of the network of a rank, or why there are none."""
        from nni_knas.networks.drawing import draw_network

        example = self.record.get_meta(keys.EXAMPLE)
        if not example:
            return KeptDrawing([], "the run does not know the shape of its networks' inputs")
        try:
            drawing = draw_network(self.network(rank), example_inputs(example))
        except Exception as error:  # it runs what the user has written
            return KeptDrawing([], str(error))
        blocks = [(f'{block.name}, as {block.modules} modules of the network are', block.svg) for block in drawing.blocks]
        caption = 'The network' if drawing.traced else 'The modules of the network, in the order of their definition'
        return KeptDrawing([*blocks, (caption, drawing.svg)])

    def drawing(self) -> KeptDrawing | None:
        """The drawing of the winner's network, as far as the run has kept one; it is read, and nothing is executed.

        Raises
        ------
        LookupError
            If no candidate has a score.
        """
        return kept_drawing(self.record, int(self.winner.candidate))

    def pareto(self, cost: str | None = None, *, all: bool = False) -> pd.DataFrame:
        """The candidates that no other one beats in both score and cost; see :func:`nni_knas.runs.selection.pareto_front`.

        Parameters
        ----------
        cost
            Name of the cost. Default: that of the run's ``front``, and else the number of parameters.
        all
            Give all columns of :meth:`nni_knas.record.Record.frame`, instead of score, metric, this cost, architecture and
            status.
        """
        cost = cost or self.record.get_meta(keys.FRONT) or 'parameters'
        front = pareto_front(self.frame(), cost)
        return front if all else score_table(front, cost)

    @property
    def winner(self) -> pd.Series:
        """The trained candidate of the best metric; where none is trained, the candidate of the best score.

        Raises
        ------
        LookupError
            If no candidate has a score.
        """
        ranking = self.ranking(all=True)
        if len(ranking):
            return ranking.iloc[0]
        scores = self.frame()
        if not (scores.score.notna() | scores.quick.notna()).any():
            raise LookupError(f'{self!r} has no candidate with a score yet')
        return scores.iloc[0]

    @property
    def architecture(self) -> Sample:
        """NNI's sample of the winner."""
        return self.winner.architecture

    @property
    def metric(self) -> float | None:
        """The winner's metric, ``None`` where none is trained."""
        metric = self.winner.metric
        return None if pd.isna(metric) else float(metric)

    def metrics(self, rank: int | None = None) -> dict[str, float]:
        """What the evaluator reported at the end of a training beside the metric, by name; empty where that was all.

        Parameters
        ----------
        rank
            The rank of the candidate by score; the winner by default.
        """
        row: Any = self.winner if rank is None else self.frame().loc[rank]
        result = kept_result(self.folder, int(row.candidate))
        return result.metrics or {} if result is not None else {}

    def network(self, rank: int | None = None) -> nn.Module:
        """A ready network, on the CPU: the winner's, or that of the candidate of this rank by score.

        It has the weights that the fine stage trained, where they were kept, and else those of a new initialisation.

        The network is built from what the record says of the space, which may import any module and hold code of its own:
        this **executes what the run brings along**, as :meth:`export`, :meth:`measured` and :meth:`prepare_report` do.
        Call it for runs that you trust. The other methods execute nothing of a run.

        Raises
        ------
        LookupError
            If the space cannot be built again, since it is no class that can be imported.
        """
        row: Any = self.winner if rank is None else self.frame().loc[rank]
        model = self._build_space()
        model.sample = row.architecture
        network: nn.Module = model.executable_model()
        if not load_weights(network, weights_path(self.folder, int(row.candidate))) and self._unfetched(row).exists():
            _logger.warning('The network of rank %s has new weights: %s.', row.name, self._why_no_weights(row))
        return network

    def _why_no_weights(self, row: Any) -> str:
        if row.status != Status.TRAINED:
            return 'it was not trained'
        unfetched = self._unfetched(row)
        return unfetched.read_text() if unfetched.exists() else 'its weights were not kept'

    def _unfetched(self, row: Any) -> Path:
        return unfetched_path(self.folder, int(row.candidate))

    def _build_space(self) -> SimplifiedModelSpace:
        """The run's space, ready to be given a sample.

        Raises
        ------
        LookupError
            If it cannot be built again.
        """
        text = self.record.get_meta(keys.SPACE)
        if not text:
            raise LookupError(
                f'the space of {self!r} was not recorded, since NNI could not serialise it: build it under '
                'nni.nas.space.model_context(run.architecture)'
            )
        try:
            return nni.load(text)
        except Exception as error:
            raise LookupError(
                f'the space of {self!r} cannot be built here, import what defines it first: {error}'
            ) from error

    def export(
        self,
        folder: str | Path,
        formats: Sequence[str] = ('program', 'state-dict'),
        rank: int | None = None,
        *,
        example: Any = None,
        untrained: bool = False,
    ) -> dict[str, Path]:
        """Write a network, the winner's or that of a rank, to files that can be used without NNI.

        It builds the network, and so executes what the run's space is made of, as :meth:`network` does.

        Parameters
        ----------
        folder, formats
            The folder that the files go to and their formats, see :func:`nni_knas.networks.exporting.export`.
        rank
            The rank of the candidate by score; the winner by default.
        example
            Inputs of the network: a tensor of shape ``n x ...``, or a tuple or dict of them; by default random ones of the
            shape that the run's candidates were scored on.
        untrained
            Whether a network without trained weights is exported, too, with those of a new initialisation.

        Returns
        -------
        dict
            The files by format, and ``winner.json`` under ``'description'``.

        Raises
        ------
        LookupError
            If there is no such rank, the space cannot be built again, or the run does not know its inputs' shape.
        ValueError
            If the network has no trained weights; or as :func:`nni_knas.networks.exporting.export` does.
        """
        check_formats(formats)
        scores = self.frame()
        if rank is not None and rank not in scores.index:
            raise LookupError(f'{self!r} has no candidate of rank {rank}: ranks go from 1 to {len(scores)}')
        row: Any = self.winner if rank is None else scores.loc[rank]
        trained = weights_path(self.folder, int(row.candidate)).exists()
        if not (trained or untrained):
            raise ValueError(
                f'the candidate of rank {row.name} in {self!r} has no trained weights, since {self._why_no_weights(row)}; '
                'untrained=True exports it with new ones'
            )
        if example is None:
            text = self.record.get_meta(keys.EXAMPLE)
            if not text:
                raise LookupError(
                    f"{self!r} does not know the shape of its networks' inputs: give example=, inputs for one minibatch"
                )
            example = example_inputs(text)
        about = {
            'run': self.folder.name,
            'rank': int(row.name),
            'architecture': row.architecture,
            'trained': trained,
            'score': None if pd.isna(row.score) else float(row.score),
            'metric': None if pd.isna(row.metric) else float(row.metric),
        }
        return export(self.network(int(row.name)), example, folder, formats, about=about)


def open_run(run: str | Path) -> Run:
    """Open a KNAS run by NNI's experiment id or by the experiment's folder.

    Nothing of the run is executed by that, nor by its methods but for :meth:`Run.network` and those that need it, which
    say so.

    Raises
    ------
    FileNotFoundError
        If there is no such experiment, or it was no KNAS run.

    Examples
    --------
    >>> run = nni_knas.open_run('k3vn8qyz')
    >>> run.architecture, run.metric
    ({'cell/0_1': 'conv_3x3', ...}, 0.981)
    >>> network = run.network()
    """
    return Run(find_folder(run))


def report_seconds(record: Record) -> float:
    """How long a search may measure for its report at its end: little beside the time that its scoring has taken."""
    return min(Run.measuring_seconds, max(2.0, record.scoring_seconds() / 10))


def dump_space(space: ExecutableModelSpace) -> str:
    """What is needed to build networks of a space in another process, as text; empty where NNI cannot serialise it."""
    if isinstance(space, RawFormatModelSpace):
        space = SimplifiedModelSpace.from_model(space.model_space)
    if not isinstance(space, SimplifiedModelSpace):
        return ''
    portable = SimplifiedModelSpace(space.model, {}, None)
    portable.status, portable.sample = ModelStatus.Frozen, {}
    try:
        dumped: str = nni.dump(portable, pickle_size_limit=2**26)  # a class of the user's script travels as a whole
        return dumped
    except Exception as error:
        _logger.warning('The space cannot be recorded, open_run will give no networks: %s', error)
        return ''


def restore_model(space: ExecutableModelSpace, candidate: Candidate, weights: Path | None) -> ExecutableModelSpace:
    """NNI's model of a candidate, as the engine would have it; its network has the trained weights, where they were kept."""
    model = space.freeze(candidate.sample)
    model.status = _MODEL_STATUS[candidate.status]
    if candidate.metric is not None:
        model.metrics.final = candidate.metric
    if weights is not None and weights.exists():
        model.executable_model = _with_trained_weights(model.executable_model, weights)
    return model


_MODEL_STATUS = {
    Status.SCREENED: ModelStatus.Frozen,
    Status.SCORED: ModelStatus.Frozen,
    Status.FAILED: ModelStatus.Invalid,
    Status.TRAINING: ModelStatus.Training,
    Status.TRAINED: ModelStatus.Trained,
    Status.TRAINING_FAILED: ModelStatus.Failed,
    Status.FILTERED: ModelStatus.Invalid,
    Status.OUTSIDE: ModelStatus.Invalid,
}


def _with_trained_weights(build: Callable[[], Any], weights: Path) -> Callable[[], nn.Module]:
    def executable_model() -> nn.Module:
        network: nn.Module = build()
        load_weights(network, weights)
        return network

    return executable_model
