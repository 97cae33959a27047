"""Model spaces beside NNI's own, and what is done with the choices of any space."""

from nni_knas.spaces.function import FunctionSpace, contains, narrowed, search_space_of
from nni_knas.spaces.parameters import sample_of, trial_parameters
from nni_knas.spaces.text import TextClassifierSpace, light_text_classifiers

__all__ = [
    'FunctionSpace',
    'TextClassifierSpace',
    'contains',
    'light_text_classifiers',
    'narrowed',
    'sample_of',
    'search_space_of',
    'trial_parameters',
]
