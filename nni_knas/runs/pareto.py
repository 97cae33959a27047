"""Trade-offs of a score, higher is better, against a cost, lower is better: Pareto fronts, and a choice from them.

A candidate *dominates* another one if it is no worse in both score and cost, and better in one of them. The first front,
number 0, has those that none dominates; the second, number 1, those that only the first dominates; and so on.
"""

from __future__ import annotations

import bisect
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ['choose', 'crowding', 'fronts']


def fronts(scores: ArrayLike, costs: ArrayLike) -> NDArray[Any]:
    """The number of each candidate's front.

    Parameters
    ----------
    scores
        ``n`` scores, higher is better.
    costs
        ``n`` costs, lower is better.

    Returns
    -------
    numpy.ndarray of int64
        The numbers from 0, of shape ``n``; -1 where score or cost is ``nan``. Equal candidates are on one front.

    Source: non-dominated sorting of Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE
    Transactions on Evolutionary Computation 2002; with two objectives, one sweep of ``O(n log n)`` is enough (Jensen 2003).
    """
    scores, costs = _checked_pair(scores, costs)
    front = np.full(len(scores), -1, dtype=np.int64)
    # In the order of the sweep nobody is dominated by one that comes later. A front dominates a candidate if its cheapest
    # candidate so far is no dearer, and these lowest costs do not fall from front to front.
    lowest: list[float] = []
    number = 0
    last: tuple[float, float] | None = None
    for i in np.lexsort((costs, -scores)):
        score, cost = float(scores[i]), float(costs[i])
        if math.isnan(score) or math.isnan(cost):
            continue
        if (score, cost) == last:  # equal ones do not dominate each other
            front[i] = number
            continue
        number = bisect.bisect_right(lowest, cost)
        lowest[number : number + 1] = [cost]
        front[i], last = number, (score, cost)
    return front


def choose(scores: ArrayLike, costs: ArrayLike, k: int) -> NDArray[Any]:
    """``k`` candidates front by front; of the last front, those that are farthest from their neighbours.

    Parameters
    ----------
    scores
        ``n`` scores, higher is better.
    costs
        ``n`` costs, lower is better.
    k
        How many to choose; all that have both where there are fewer.

    Returns
    -------
    numpy.ndarray of int64
        Their places in the arrays, best score first; of equal ones, the one that comes first.
    """
    scores, costs = _checked_pair(scores, costs)
    front = fronts(scores, costs)
    chosen: list[int] = []
    for number in range(int(front.max(initial=-1)) + 1):
        members = np.flatnonzero(front == number)
        if len(chosen) + len(members) > k:
            distance = crowding(scores[members], costs[members])
            order = np.lexsort((members, costs[members], -scores[members], -distance))
            members = members[order[: max(0, k - len(chosen))]]
        chosen += members.tolist()
        if len(chosen) >= k:
            break
    places: NDArray[np.int64] = np.array(chosen, dtype=np.int64)
    order = np.lexsort((places, costs[places], -scores[places]))
    return np.asarray(places[order])


def crowding(scores: ArrayLike, costs: ArrayLike) -> NDArray[Any]:
    r"""How far each candidate of a front is from its neighbours.

    With the front in the order of an objective :math:`m`, candidate :math:`i` between :math:`i - 1` and :math:`i + 1`,

    .. math:: d_i = \sum_m \frac{|f_m^{(i + 1)} - f_m^{(i - 1)}|}{f_m^{\max} - f_m^{\min}}

    and infinite for the first and the last. Equal candidates beyond the first of them have distance 0.

    Parameters
    ----------
    scores, costs
        The scores and costs of the ``m`` candidates of one front.

    Returns
    -------
    numpy.ndarray of float64
        The distances, of shape ``m``.

    Source: crowding distance of NSGA-II, see :func:`fronts`.
    """
    scores, costs = _checked_pair(scores, costs)
    distance = np.zeros(len(scores))
    # On a front of two objectives the order by score is the order by cost.
    points, where = np.unique(np.stack([scores, costs], axis=1), axis=0, return_index=True)
    if len(points):
        gaps = np.full(len(points), math.inf)
        with np.errstate(invalid='ignore'):
            width = points.max(axis=0) - points.min(axis=0)
            gaps[1:-1] = (np.abs(points[2:] - points[:-2]) / np.where(width > 0, width, 1.0)).sum(axis=1)
        distance[where] = np.nan_to_num(gaps, nan=math.inf, posinf=math.inf)
    return distance


def _checked_pair(scores: ArrayLike, costs: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    first, second = (np.asarray(values, dtype=np.float64) + 0.0 for values in (scores, costs))  # there is but one zero
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f'scores and costs have to be of one length, not of shapes {first.shape} and {second.shape}')
    return first, second
