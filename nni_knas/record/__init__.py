"""The durable table of a run."""

from nni_knas.record.record import (
    Candidate,
    Energy,
    Record,
    Session,
    reason_of,
    record_path,
    result_path,
    settings_path,
    weights_path,
)

__all__ = ['Candidate', 'Energy', 'Record', 'Session', 'reason_of', 'record_path', 'result_path', 'settings_path',
           'weights_path']
