"""Learns from trained candidates which statistics of the panel count on a space, and says which to train next."""

from nni_knas.learner.learner import Learner

__all__ = ['Learner']
