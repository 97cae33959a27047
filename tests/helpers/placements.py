"""Placements with made-up scores, which they tell in an order of their own."""

from __future__ import annotations

import math
import random

from nni_knas.engine import Placement, Verdict


class Shuffled(Placement):
    """Gives verdicts in an order of its own, several at a time, as workers and trials do; scores are made up."""

    def __init__(self, seed=0, dies_at=None):
        self.tasks, self.scored, self.stopped = [], [], False
        self.random, self.dies_at = random.Random(seed), dies_at

    def put(self, task):
        assert not self.stopped
        self.tasks.append(task)

    def get(self):
        assert self.tasks
        self.random.shuffle(self.tasks)
        taken = [self.tasks.pop() for _ in range(min(len(self.tasks), self.random.randint(1, 3)))]
        verdicts = []
        for task in taken:
            if task.number == self.dies_at:
                raise KeyboardInterrupt
            self.scored.append(task.number)
            verdicts.append((task, judge(task.sample)))
        return verdicts

    def stop(self):
        self.stopped = True


def judge(sample):
    if sample.get('inner') == 'sigmoid' and sample.get('outer') != 'relu':
        return Verdict(None, 'it is broken', 0.25)
    return Verdict(random.Random(repr(sorted(sample.items()))).random(), None, 0.25)


class MadeUp(Placement):
    """Made-up scores in an order of its own, several at a time; it is interrupted, or tires, after a number of them."""

    def __init__(self, seed=0, dies_after=math.inf, tires_after=math.inf, noise=0.5):
        self.tasks, self.scored, self.too_late = [], [], []
        self.random, self.noise = random.Random(seed), noise
        self.dies_after, self.tires_after = dies_after, tires_after

    def put(self, task):
        (self.too_late if len(self.scored) >= self.tires_after else self.tasks).append(task)

    def get(self):
        if len(self.scored) >= self.tires_after:
            return []
        self.random.shuffle(self.tasks)
        verdicts = []
        for _ in range(min(len(self.tasks), self.random.randint(1, 3))):
            if len(self.scored) >= self.dies_after:
                if verdicts:
                    break
                raise KeyboardInterrupt
            task = self.tasks.pop()
            self.scored.append((task.number, task.quick))
            verdicts.append((task, self.judge(task)))
        return verdicts

    def judge(self, task):
        quick, noise = (random.Random(f'{part} {sorted(task.sample.items())}').gauss(0, 1) for part in 'ab')
        return Verdict(quick if task.quick else quick + self.noise * noise, None, 0.25)
