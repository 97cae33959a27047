"""What metering the energy of a run costs: python measurements/footprint.py [--seconds 60]

CPU time of this process and its children, with a meter that runs beside no other work: to make ready, which is once in a
process, and per second thereafter. The share of a run is their sum by the run's time, on one core.
"""

from __future__ import annotations

import nni_knas  # noqa: F401  first: it imports NNI without NNI's noise

import argparse
import resource
import time

from nni_knas.footprint import Meter
from nni_knas.record import Record


def used() -> float:
    """CPU time in seconds of this process and of those that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=60.0, help='how long to meter (default: %(default)s)')
    seconds = parser.parse_args().seconds
    record = Record(None)
    before = used()
    with Meter(record, record.begin_session({})) as meter, meter.stage('coarse'):
        meter.mark()  # waits until it is ready
        ready = used()
        time.sleep(seconds)
        beside = (used() - ready) / seconds
    begin = ready - before
    print(f'to make ready, once in a process: {begin:.2f} s of CPU time')
    print(f'thereafter: {beside:.3%} of a core')
    for minutes in (1, 3, 10, 60):
        print(f'of a run of {minutes} min: {begin / minutes / 60 + beside:.2%} of a core')


if __name__ == '__main__':
    main()
