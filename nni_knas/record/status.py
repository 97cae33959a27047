"""The statuses of a candidate."""

from __future__ import annotations

from enum import Enum

__all__ = ['BEGUN', 'UNUSABLE', 'Status']


class Status(str, Enum):
    """How far a candidate has come. A status is a text, equal to its value, as tables and files have it."""

    SCREENED = 'screened'
    """It has a quick score alone."""
    SCORED = 'scored'
    """It has its score."""
    FAILED = 'failed'
    """It could not be scored."""
    TRAINING = 'training'
    """It is being trained, or was when its run was interrupted."""
    TRAINED = 'trained'
    """Its training has ended well."""
    TRAINING_FAILED = 'training-failed'
    """Its training has failed."""
    FILTERED = 'filtered'
    """It breaks a constraint, and so has no score."""
    OUTSIDE = 'outside'
    """It is outside of the space, which has become smaller since."""

    def __str__(self) -> str:
        return self.value


UNUSABLE = (Status.FAILED, Status.FILTERED, Status.OUTSIDE)
"""The statuses of candidates that are never chosen."""

BEGUN = (Status.TRAINING, Status.TRAINED, Status.TRAINING_FAILED)
"""The statuses of candidates whose training has begun."""
