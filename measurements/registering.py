"""Variants of scores that a measurement compares, known by name to ``nni-knas benchmark``."""

from collections.abc import Callable, Mapping

from nni_knas.gradients import Gradients
from nni_knas.scores import Score, register

__all__ = ['register_functions']


def register_functions(functions: Mapping[str, Callable[[Gradients], float]]) -> None:
    """Make a score of each function, under its name."""
    for name, function in functions.items():
        register(
            type(
                name,
                (Score,),
                {
                    'name': name,
                    'passes': '1',
                    '__doc__': name,
                    '__call__': lambda self, gradients, function=function: function(gradients),
                },
            )
        )
