"""The tuner: a KNAS search in an NNI experiment that is started by ``nnictl`` from a YAML file.

This module is what NNI's dispatcher imports, and imports little itself: NNI's manager gives a tuner ten seconds to come up.
The search runs in a thread beside the dispatcher, so that no request of the manager waits for it: trials that are asked for
while candidates are being scored are sent when the best are known, at the start and when more are scored near the best.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni.runtime.tuner_command_channel import CommandType
from nni.tuner import Tuner

from nni_knas.basics.failures import is_said_by_us, told
from nni_knas.bridge.dispatcher import (
    calling_dispatcher,
    experiment_config,
    experiment_directory,
    is_resumed,
    portal_page_address,
)
from nni_knas.bridge.portal import write_portal_page

if TYPE_CHECKING:
    from nni_knas.tuner.background import BackgroundSearch

__all__ = ['KNAS']

_logger = logging.getLogger(__name__)


class KNAS(Tuner):
    """Score candidates of a model space without training, and have NNI train the best as its trials.

    Its parameters are the fields of :class:`nni_knas.config.SearchOptions`, in ``snake_case`` or ``camelCase``; all are in
    ``docs/options.md``. What is wrong with one is said in a sentence in the experiment's log, and the experiment ends with
    an error.

    A trial receives the choices of its architecture by label, and ``kernel_score``, ``kernel_rank``, ``knas_reason`` (why it
    was chosen), ``predicted_metric`` (what is expected of it, where metrics say so already) and ``knas_candidate`` (its
    number in the run's record). ``python -m nni_knas.trial`` builds and trains it.

    The experiment's search space says what is explored: for ``network`` it is the whole space, and for a model space it
    limits the choices of those labels that it names. It may be updated while the experiment runs.

    Parameters
    ----------
    **arguments
        The fields of the options, by name.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        logging.getLogger('nni_knas').parent = logging.getLogger('nni')  # so that the experiment's log has what we say
        self._arguments = arguments
        self._lock = threading.RLock()
        self._dispatcher: Any = None
        self._spaces: deque[dict[str, Any]] = deque()  # that are to be searched; the last one counts
        self._space: dict[str, Any] | None = None
        self._imports: deque[list[dict[str, Any]]] = deque()
        self._wake = threading.Condition(self._lock)
        self._search: BackgroundSearch | None = None
        self._ready = False  # the best of the present space are known
        self._wants_more = False  # more candidates are to be scored before the next trial is sent
        self._exiting = False
        self._send: Callable[[int, Any], None] | None = None
        self._asked: deque[int] = deque()  # parameter ids that trials were asked for under, and not sent yet
        self._late = False  # what was asked for waits for an end that is still to be told
        self._trials: dict[int, int] = {}  # candidates by parameter id
        self._thread = threading.Thread(target=self._run_searches, name='KNAS', daemon=True)

    # What NNI calls.

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """Search this space from now on: what was scored and is in it still counts, and trials that run go on."""
        with self._lock:
            self._dispatcher = self._dispatcher or calling_dispatcher()
            if search_space == self._space:
                return
            self._space = search_space
            self._spaces.append(search_space)
            self._ready = False
            if self._search is not None:
                self._search.interrupt()
            if not self._thread.is_alive():
                self._thread.start()
            self._wake.notify_all()

    def generate_multiple_parameters(self, parameter_id_list: list[int], **kwargs: Any) -> Any:
        """Trials are sent by the callback that NNI gives along, now or as soon as the best are known."""
        with self._lock:
            self._send = kwargs['st_callback']
            self._asked.extend(parameter_id_list)
            if not self._ready or self._send_trials():
                return _SentByCallback(len(parameter_id_list))
            return []  # NNI then tells its manager that there are no more trials

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        with self._lock:
            if self._search is not None and parameter_id in self._trials:
                self._search.set_metric(self._trials[parameter_id], value)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        with self._lock:
            if self._search is not None and parameter_id in self._trials:
                self._search.end_trial(self._trials[parameter_id], success)
                if self._late and self._ready:
                    self._send_trials(say=True)

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Results of training from elsewhere, or from before a restart: what has one is not trained again."""
        with self._lock:
            self._imports.append(data)
            self._wake.notify_all()

    def _on_exit(self) -> None:
        with self._lock:
            self._exiting = True
            if self._search is not None:
                self._search.interrupt()
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=20)

    _on_error = _on_exit

    # The search, in a thread of its own.

    def _run_searches(self) -> None:
        try:
            folder = experiment_directory()
            write_portal_page(folder)  # before what takes long
            _logger.info('KNAS: the progress of the search: %s', portal_page_address())
            from nni_knas.tuner.background import BackgroundSearch

            search = BackgroundSearch(self._arguments, folder, experiment_config(), resumed=is_resumed())
            with self._lock:
                self._search = search
            while self._wait_for_work():
                if self._spaces:
                    self._search_once(search)
                elif self._wants_more:
                    self._score_near(search)
                else:
                    self._record_imports()
        except Exception as error:
            self._report_failure(error)
        finally:
            if self._search is not None:
                self._search.close()

    def _wait_for_work(self) -> bool:
        """Wait until there is something to do; ``False`` when the dispatcher ends."""
        with self._lock:
            while not (self._exiting or self._spaces or self._imports or self._wants_more):
                self._wake.wait()
            return not self._exiting

    def _search_once(self, search: BackgroundSearch) -> None:
        with self._lock:
            space = self._spaces.pop()
            self._spaces.clear()
            self._wants_more = False
        if not search.prepare(space):  # it was interrupted
            return
        shown = search.shown()
        with self._lock:
            publish = shown is not None and self._space == space
            if publish:
                self._space = shown  # the manager passes on what it is told, at once, which is nothing new
        if shown is not None and publish:
            search.publish(shown)
        if not search.run():
            return
        self._record_imports()
        self._be_ready()

    def _score_near(self, search: BackgroundSearch) -> None:
        search.score_near()
        self._record_imports()
        with self._lock:
            self._wants_more = False
        self._be_ready()

    def _be_ready(self) -> None:
        """Send what was asked for meanwhile, unless there is another space to search."""
        with self._lock:
            if not self._spaces:
                self._ready = True
                self._send_trials(say=True)

    def _record_imports(self) -> None:
        assert self._search is not None
        while self._imports:
            for entry in self._imports.popleft():
                self._search.import_result(entry.get('parameter'), entry.get('value'))

    def _send_trials(self, say: bool = False) -> bool:
        """Send the trials that were asked for; whether all were. ``say`` tells the manager, too, that there are no more."""
        assert self._search is not None
        while self._asked and self._send is not None:
            self._late = self._search.awaits_end(len(self._asked))
            if self._late:
                return True
            if self._search.wants_more():  # the search's thread has them scored, and sends then
                self._ready, self._wants_more = False, True
                self._wake.notify_all()
                return True
            trial = self._search.next_trial()
            if trial is None:
                if say:
                    self._dispatcher.send(CommandType.NoMoreTrialJobs, '')
                return False
            parameter_id = self._asked.popleft()
            candidate, parameters = trial
            self._trials[parameter_id] = candidate
            self._send(parameter_id, parameters)
        return True

    def _report_failure(self, error: Exception) -> None:
        """Tell the manager, whose experiment ends with an error, in the words that a user should read."""
        sentence = told(error)
        _logger.error('KNAS: %s', sentence, exc_info=not is_said_by_us(error))
        _logger.debug('Where it came from:', exc_info=True)
        if self._search is not None:
            self._search.report_failure(error)
        if self._dispatcher is not None and not self._exiting:
            self._dispatcher.report_error(f'KNAS: {sentence}')


class _SentByCallback:
    """The answer to NNI's dispatcher for trials that are sent by its callback, when the tuner has them.

    The dispatcher sends each thing in the answer as a trial, so there must be nothing in it. But it takes a length less than
    what it asked for to mean that there will never be more trials, so an empty list would end the experiment.

    Parameters
    ----------
    asked
        How many trials the dispatcher asked for.
    """

    def __init__(self, asked: int) -> None:
        self.asked = asked

    def __len__(self) -> int:
        return self.asked

    def __iter__(self) -> Iterator[Any]:
        return iter([])


def meta_file() -> Path:
    """The file that ``nnictl algo register --meta`` takes."""
    return Path(__file__).with_name('tuner.yml')
