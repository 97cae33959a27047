"""Networks of a space's candidates: building them, their costs, telling them apart, exporting them.

:mod:`nni_knas.networks.drawing` draws them.
"""

from nni_knas.networks.builder import NetworkBuilder, Skeleton
from nni_knas.networks.candidates import (
    architecture_of,
    decode_sample,
    encode_sample,
    hyper_parameters_of,
    random_models,
)
from nni_knas.networks.canonical import Canonical
from nni_knas.networks.construction import build_network, constructed
from nni_knas.networks.costs import COSTS, check_constraints, check_costs, measure
from nni_knas.networks.exporting import FORMATS, check_formats, describe_inputs, example_inputs, export
from nni_knas.networks.identity import Identity
from nni_knas.networks.pretrained import weights_are_shared
from nni_knas.networks.watch import past_the_watch, watched_parameters

__all__ = [
    'COSTS',
    'FORMATS',
    'Canonical',
    'Identity',
    'NetworkBuilder',
    'Skeleton',
    'architecture_of',
    'build_network',
    'check_constraints',
    'check_costs',
    'check_formats',
    'constructed',
    'decode_sample',
    'describe_inputs',
    'encode_sample',
    'example_inputs',
    'export',
    'hyper_parameters_of',
    'measure',
    'past_the_watch',
    'random_models',
    'watched_parameters',
    'weights_are_shared',
]
