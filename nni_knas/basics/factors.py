"""What the recommended score is made of: for whoever has a panel of statistics, and no torch."""

from __future__ import annotations

__all__ = ['FACTORS', 'LEAST']

FACTORS = {
    'participation': 0.5,
    'participation-roots': 1.0,
    'feature-rank-squares': 0.5,
    'weight-rank-share': 1.0,
    'gradient-size': 1.0,
}
"""Statistics of the panel whose product the recommended score is, in logarithm, and their powers."""
LEAST = 1e-6
"""What a factor counts at least: a network that nothing passes through comes last, and has a score all the same."""
