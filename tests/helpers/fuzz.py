"""What fuzz tests draw from: values of any kind, and what is right but for one place."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

ODD = [
    '',
    ' ',
    '\0',
    '\n',
    'a\nb',
    'nan',
    'inf',
    '1e400',
    '-1',
    '0x10',
    '½',
    '٣',
    '∞',
    'null',
    '..',
    ':',
    'a:',
    ':b',
    'a:b',
    '.:b',
    'a' * 300,
]
"""Texts that programs stumble over. (None of them is an absolute path: something may be written there.)"""

texts = st.sampled_from(ODD) | st.text(st.characters(exclude_characters='/~'), max_size=12)
numbers = (
    st.sampled_from([0, -1, 1, 2, 2**31, 2**32, 2**63, -(2**63), 10**30, 10**400])
    | st.integers(-3, 40)
    | st.floats()
    | st.sampled_from([0.5, 1.0, 1e308, 5e-324])
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


def places(content: Any, path: tuple = ()) -> list[tuple]:
    """Paths to all that is in a structure, the structure itself among them."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(place for key, value in inside for place in places(value, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn, right: Any, keys: st.SearchStrategy[str] = texts) -> Any:
    """What is right, but that one to three places have another value or name, are missing, or have got company."""
    content = copy.deepcopy(right)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(content)))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(values)
            continue
        *outer, last = path
        holder = content
        for step in outer:
            holder = holder[step]
        how = draw(st.sampled_from(['value', 'value', 'value', 'missing', 'more', 'renamed']))
        if how == 'value':
            holder[last] = draw(values)
        elif how == 'missing':
            del holder[last]
        elif isinstance(holder, list):
            holder.append(draw(values))
        elif how == 'more':
            holder[draw(keys)] = draw(values)
        else:
            holder[draw(texts)] = holder.pop(last)
    return content
