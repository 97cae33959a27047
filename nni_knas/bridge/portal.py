"""NNI's web portal, opened so that it shows what a search adds to its trials."""

from __future__ import annotations

import json

from nni_knas.bridge import fields

__all__ = ['PORTAL_PAGE', 'portal_page']

PORTAL_PAGE = 'knas.html'
"""Name of the page in an experiment's log folder."""


def portal_page(experiment_id: str) -> str:
    """A page that makes the portal show score and rank as columns of its trial table, and goes there.

    The portal shows a metric other than the default only when its columns are chosen, and keeps the choice in the browser.
    NNI's manager serves what is in an experiment's log folder under ``/logs``.
    """
    # What a trial has not, it shows empty; a column that no trial has is not shown.
    columns = [
        'sequenceId',
        'id',
        'space/scoring',
        'duration',
        'status',
        'latestAccuracy',
        f'metric/{fields.KERNEL_SCORE}',
        f'metric/{fields.KERNEL_RANK}',
    ]
    return f"""<!DOCTYPE html>
<title>KNAS trials</title>
<script>
localStorage.setItem({json.dumps(experiment_id + '_columns')}, JSON.stringify({{
    value: JSON.stringify({json.dumps(columns)}), time: Date.now(), expire: 2592000000, isSelectall: false
}}));
location.replace('/detail');
</script>
"""
