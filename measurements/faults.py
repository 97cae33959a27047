"""What is lost when searches are killed: nothing, or this says what, and ends with exit status 1.

    python measurements/faults.py
    python measurements/faults.py --kills 8 --seed 3 --directory /tmp/faults

Real searches (`nni-knas search`, digits, a space of small networks) are killed by SIGKILL at random moments of both stages:
the main process alone, it and all its children, a trial, or a scoring worker. Each is resumed by `nni-knas resume` on its
own port until it is finished, and then the next one begins. What was scored and trained, and how often, is known from a log
of this script's own, to which the score and the training append when they have completed, and not from the record alone. A
candidate that was not in the record yet when the kill came may be scored or trained again.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import nni_knas  # noqa: F401  before NNI
import psutil
from faults_search import CANDIDATES, SECONDS_TO_TRAIN, TOP_K, Line, Search, Snapshot

WAYS = ('main', 'all', 'trial', 'worker')
COUNTED = (
    'candidates lost',
    'scored twice',
    'trained twice',
    'trainings lost',
    'processes left alive',
    'resumes refused',
)


class Kill(NamedTuple):
    """What was known when the kill had come: the record, and how long the log was."""

    way: str
    before: Snapshot
    lines: int


def choose(remaining: list[str], search: Search) -> str | None:
    """The next way of those that remain that this search can be killed in."""
    scored = len(search.record().scores)
    possible = {'main', 'all', 'trial'} | ({'worker'} if search.workers and scored < 0.8 * CANDIDATES else set())
    return next((way for way in remaining if way in possible), None)


def wait_for_moment(search: Search, way: str, draw: random.Random) -> bool:
    """Wait for a random moment; ``False`` if the search has ended before."""
    if way == 'trial':
        return search.waits_until(search.training) and search.goes_on_for(draw.uniform(0, SECONDS_TO_TRAIN))
    scored = search.count('scored')
    if scored < CANDIDATES - 1 and (way == 'worker' or draw.random() < 0.7):
        wanted = draw.randint(max(1, scored), CANDIDATES - 1)
        return search.waits_until(lambda: search.count('scored') >= wanted) and search.goes_on_for(draw.uniform(0, 0.3))
    return search.goes_on_for(draw.uniform(0, 25))  # while it starts, between the stages, or while trials start and train


def strike(search: Search, way: str, draw: random.Random) -> Kill | None:
    """Kill, if there is what is to be killed, and note what was there."""
    victims = {
        'main': lambda: [search.process.pid],
        'all': lambda: [
            search.process.pid,
            *(child.pid for child in psutil.Process(search.process.pid).children(recursive=True)),
        ],
        'trial': lambda: search.training()[:1],
        'worker': lambda: draw.sample(search.scoring(), 1) if search.scoring() else [],
    }[way]()
    before, lines = search.record(), len(search.log())
    for pid in victims:
        try:
            psutil.Process(pid).send_signal(signal.SIGKILL)
        except psutil.Error:
            return None
    if not victims:
        return None
    if way in ('main', 'all'):
        search.process.wait()
        before, lines = search.record(), len(search.log())
    return Kill(way, before, lines)


def judged(kills: list[Kill], log: list[Line], after: Snapshot) -> Counter[str]:
    """What was lost and what was done twice since each kill; each once."""
    found: dict[str, set[str]] = {name: set() for name in COUNTED[:4]}
    for kill in kills:
        found['candidates lost'] |= {a for a, score in kill.before.scores.items() if after.scores.get(a) != score}
        found['trainings lost'] |= {a for a, metric in kill.before.metrics.items() if after.metrics.get(a) != metric}
        for line in log[kill.lines :]:
            if line.what == 'scored' and line.architecture in kill.before.scores:
                found['scored twice'].add(line.architecture)
            if line.what in ('began', 'trained') and line.architecture in kill.before.metrics:
                found['trained twice'].add(line.architecture)
    return Counter({name: len(things) for name, things in found.items()})


def finish(search: Search, kills: list[Kill]) -> Counter[str]:
    """Judge a search that has ended: all is there, and nothing runs on."""
    after = search.record()
    counts = judged(kills, search.log(), after)
    counts['candidates lost'] += CANDIDATES - len(after.scores)
    # A trial that was killed has failed, with a reason; all others were trained.
    excused = min(sum(bool(reason) for reason in after.failed.values()), sum(kill.way == 'trial' for kill in kills))
    counts['trainings lost'] += max(0, TOP_K - len(after.metrics) - excused)
    alive = search.left_alive()
    counts['processes left alive'] += len(alive)
    print(
        f'  finished: {len(after.scores)} scored, {len(after.metrics)} trained, {len(after.failed)} trainings failed',
        flush=True,
    )
    for reason, times in Counter(after.failed.values()).items():
        print(f'  {times} failed: {reason}')
    for process in alive:
        print(f'  left alive: {process}')
    return counts


def run_one(
    number: int, remaining: list[str], folder: Path, draw: random.Random, total: int
) -> tuple[Counter[str], Counter[str]]:
    """One search from its beginning to its end; what was counted, and the kills by way. Those done leave ``remaining``."""
    search = Search(folder / f'search{number}', workers=2 if 'worker' in remaining and draw.random() < 0.6 else None)
    counts: Counter[str] = Counter()
    kills: list[Kill] = []
    refused = 0
    print(f'search {number} on port {search.port}' + (', two workers' if search.workers else ''), flush=True)
    search.start()
    while refused < 3:
        way = choose(remaining, search)
        if way is not None and wait_for_moment(search, way, draw):
            kill = strike(search, way, draw)
            if kill is not None:
                kills.append(kill)
                remaining.remove(way)
                state = f'{len(kill.before.scores)} scored, {len(kill.before.metrics)} trained'
                print(f'kill {total - len(remaining)} of {total}: {way}, at {state}', flush=True)
        elif way is None:
            search.process.wait()
        if search.process.poll() is None:
            continue
        if search.process.returncode == 0:
            return counts + finish(search, kills), Counter(kill.way for kill in kills)
        if search.process.returncode > 0:
            refused += 1
            counts['resumes refused'] += 1
            print(f'  refused: {search.last_words()}', flush=True)
        search.resume()
    counts += judged(kills, search.log(), search.record())
    search.abandon()
    return counts, Counter(kill.way for kill in kills)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0, help='of moments and ways')
    parser.add_argument('--directory', type=Path, help='where the runs stay; by default they are thrown away')
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    remaining = [WAYS[i % len(WAYS)] for i in range(arguments.kills)]
    draw.shuffle(remaining)
    print(
        f'{arguments.kills} kills, seed {arguments.seed}; {CANDIDATES} candidates, the best {TOP_K} trained, in each search'
    )
    counts = Counter(dict.fromkeys(COUNTED, 0))
    ways: Counter[str] = Counter()
    start, number = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as temporary:
        while remaining:
            number += 1
            more, killed = run_one(number, remaining, arguments.directory or Path(temporary), draw, arguments.kills)
            counts.update(more)
            ways.update(killed)
    print(
        f'\n{sum(ways.values())} kills ({", ".join(f"{way} {ways[way]}" for way in WAYS)}) of {number} searches, '
        f'{(time.monotonic() - start) / 60:.0f} min'
    )
    for name in COUNTED:
        print(f'{name:<22}{counts[name]:>4}')
    return int(any(counts.values()))


if __name__ == '__main__':
    sys.exit(main())
