"""The tuner for experiments that ``nnictl`` starts. No torch is imported here: NNI gives a tuner ten seconds to come up."""

from nni_knas.tuner.tuner import KNAS, meta_file

__all__ = ['KNAS', 'meta_file']
