"""Time, energy and CO2-equivalent of a run: metered while it is at work, and summed up from its record."""

from __future__ import annotations

from nni_knas.footprint.meter import Meter
from nni_knas.footprint.power import check_country, power_source
from nni_knas.footprint.summary import Estimate, Footprint, energy_within, estimate_of, footprint_of
from nni_knas.footprint.usage import cpu_seconds, processor_name

__all__ = [
    'Estimate',
    'Footprint',
    'Meter',
    'check_country',
    'cpu_seconds',
    'energy_within',
    'estimate_of',
    'footprint_of',
    'power_source',
    'processor_name',
]
