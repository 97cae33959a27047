"""The durable table of a run."""

from nni_knas.record import keys
from nni_knas.record.damage import DamagedRecordError
from nni_knas.record.near import Near, near_of, set_near
from nni_knas.record.panels import Panel
from nni_knas.record.record import (
    Candidate,
    Choice,
    Energy,
    Record,
    Session,
    reason_of,
    record_path,
    result_path,
    settings_path,
    unfetched_path,
    weights_path,
)
from nni_knas.record.salvaging import salvage
from nni_knas.record.status import BEGUN, UNUSABLE, Status
from nni_knas.record.stop import Stop, set_stop, stop_of

__all__ = [
    'BEGUN',
    'UNUSABLE',
    'Candidate',
    'Choice',
    'DamagedRecordError',
    'Energy',
    'Near',
    'Panel',
    'Record',
    'Session',
    'Status',
    'Stop',
    'keys',
    'near_of',
    'reason_of',
    'record_path',
    'result_path',
    'salvage',
    'set_near',
    'set_stop',
    'settings_path',
    'stop_of',
    'unfetched_path',
    'weights_path',
]
