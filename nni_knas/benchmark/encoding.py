"""Architectures as choices, for searches that look at architectures and not at their statistics."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nni_knas.benchmark.base import Benchmark

__all__ = ['encode', 'words_of']

_WORD = re.compile(r'[A-Za-z0-9_.]+')


def encode(benchmark: Benchmark, architectures: Sequence[str]) -> NDArray[Any]:
    """The choices of architectures as numbers, each choice by itself.

    Returns
    -------
    numpy.ndarray of int, shape N x D
        From 0 in each column. Choices that are the same for all architectures are left out; one that an architecture does
        not have, since it is shorter, is a value of its own.
    """
    read = benchmark.choices
    rows = pd.DataFrame([dict(enumerate(read(each))) if read else words_of(each) for each in architectures])
    columns = [pd.factorize(rows[column].fillna(''), sort=True)[0] for column in rows]
    varied = [codes for codes in columns if np.max(codes, initial=0) > 0]
    return np.column_stack(varied) if varied else np.zeros((len(architectures), 0), dtype=int)


def words_of(architecture: str) -> dict[str, str]:
    """The values of a sample by label, where the string is one as JSON; else its words and numbers by their places.

    Words are of letters, digits, underscores and points. They are counted from each ``|`` on, so that those of a part have
    the same places in all architectures, whatever the length of the parts before it.
    """
    try:
        sample = json.loads(architecture)
    except ValueError:
        sample = None
    if isinstance(sample, dict):
        return {label: json.dumps(value) for label, value in sample.items()}
    parts = enumerate(architecture.split('|'))
    return {f'{part}, {place}': word for part, text in parts for place, word in enumerate(_WORD.findall(text))}
