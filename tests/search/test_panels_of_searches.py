"""The panels of a search's candidates: asked for, without some, after a restart, and of a run of an earlier version."""

from __future__ import annotations

import pandas as pd
import pytest
from image_searches import without_times
from panels import check_panels, choosy
from placements import MadeUp
from searches import explore, run
from spaces import LoggedMGM, Many, TinySpace, lines, tiny_kernel, write_line

from nni_knas.basics.names import PANEL
from nni_knas.record import Record


def has_sigmoid(scores):
    return scores.architecture.map(lambda sample: 'sigmoid' in sample.values())


class Dying(LoggedMGM):
    """Dies before these of its scores."""

    def __init__(self, log, *calls):
        super().__init__(log)
        self.calls = calls

    def __call__(self, gradients):
        if len(lines(self.log)) in self.calls:
            write_line(self.log, 'dies')
            raise KeyboardInterrupt
        return super().__call__(gradients)


class TestSearch:
    def test_columns(self):
        strategy = run(TinySpace(), tiny_kernel(), 12, 2)
        short, whole = strategy.scores(), strategy.scores(all=True)
        assert list(strategy.scores(panel=True).columns) == [*short.columns, *PANEL]
        assert list(strategy.scores(all=True, panel=True).columns) == [*whole.columns, *PANEL, 'panel_reason']
        assert strategy.scores(panel=True).index.equals(short.index)
        check_panels(strategy, tiny_kernel(), TinySpace())

    @pytest.mark.parametrize('options', [{}, {'workers': 2}], ids=['process', 'workers'])
    def test_one_without_a_panel_keeps_its_score(self, options, caplog, request):
        if options:
            request.getfixturevalue('forked_workers')
        strategy = run(TinySpace(), choosy(), 27, 2, **options)
        scores, expected = strategy.scores(all=True, panel=True), run(TinySpace(), tiny_kernel(), 27, 2).scores(all=True)
        lacks = has_sigmoid(scores)
        assert lacks.sum() == 15 and list(scores.score) == list(expected.score)
        assert (scores[list(PANEL)].notna().all(axis=1) == ~lacks).all() and scores[list(PANEL)][lacks].isna().all(axis=None)
        assert list(scores.panel_reason[lacks]) == ['ScoringError: no sigmoids, please'] * 15
        assert scores.panel_reason[~lacks].isna().all() and scores.reason.isna().all()
        assert list(scores.status) == ['trained'] * 2 + ['scored'] * 25
        said = (
            'WARNING',
            '15 scored candidates have no panel of statistics; the most frequent reason: ScoringError: no sigmoids',
        )
        assert [record.levelname for record in caplog.records if said[1] in record.getMessage()] == [said[0]]

    def test_where_all_have_one_nothing_is_said(self, caplog):
        run(TinySpace(), tiny_kernel(), 12, 2)
        assert 'panel' not in caplog.text

    def test_a_placement_without_panels(self):
        """As one of the user's own may be."""
        strategy = explore(MadeUp())
        assert strategy.scores(panel=True).equals(strategy.scores())


class TestResume:
    @pytest.mark.parametrize(
        ('options', 'calls'),
        [({'candidates': 20, 'top_k': 0}, (7, 13)), ({'candidates': 120, 'top_k': 5}, (60, 125))],
        ids=['full', 'adaptive'],
    )
    def test_what_is_recorded_is_not_computed_again(self, options, calls, tmp_path):
        log, panels, record = str(tmp_path / 'log'), str(tmp_path / 'panels'), tmp_path / 'record'
        whole = run(Many(), choosy(score='mgm'), **options)
        for call in calls:
            with pytest.raises(KeyboardInterrupt):
                run(Many(), choosy(panels, score=Dying(log, call)), record=record, **options)
        resumed = run(Many(), choosy(panels, score=Dying(log)), record=record, **options)
        pd.testing.assert_frame_equal(without_times(resumed), without_times(whole), check_exact=True)
        assert len(lines(panels)) == lines(log).count('panel') + len(lines(log)) - len(calls)

    def test_a_run_of_before_there_were_panels(self, tmp_path):
        """It has none; those of candidates that it scores from now on are kept."""
        run(TinySpace(), tiny_kernel(), 10, 0, record=tmp_path / 'record')
        record = Record(tmp_path / 'record')
        record._connection.execute('ALTER TABLE candidates DROP COLUMN panel')
        record.forget_meta('statistics')
        record.close()
        reader = Record(tmp_path / 'record', readonly=True)
        assert reader.statistics() == [] and len(reader.frame(panel=True)) == 10
        scores = run(TinySpace(), tiny_kernel(), 16, 2, record=tmp_path / 'record').scores(all=True, panel=True)
        assert (scores[list(PANEL)].notna().all(axis=1) == (scores.candidate > 10)).all()
        assert scores.panel_reason.isna().all()


def test_a_full_score_without_a_panel_leaves_none_of_the_quick_pass():
    """It would be taken for one of the full pass. The reason is that of the full pass."""
    kernel = tiny_kernel()
    only_quick = type('OnlyQuick', (type(kernel),), {'statistics': refuse_full})
    scores = run(Many(), only_quick(kernel.dataset), 100, 5).scores(all=True, panel=True)
    assert 5 <= scores.score.notna().sum() < 100 and scores.quick.notna().all()
    assert (scores.panel_reason == 'ValueError: not so many samples').equals(scores.score.notna())
    assert scores[PANEL[0]].isna().equals(scores.score.notna())


def refuse_full(kernel, network):
    if kernel.minibatch.size > 2:
        raise ValueError('not so many samples')
    return tiny_kernel().quick().statistics(network)
