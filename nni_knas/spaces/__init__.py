"""Model spaces beside NNI's own, and what is done with the choices of any space."""

from nni_knas.spaces.function import FunctionSpace, contains, narrowed, search_space_of

__all__ = ['FunctionSpace', 'contains', 'narrowed', 'search_space_of']
