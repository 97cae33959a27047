"""Choices that are not used: samples that differ in them alone are one candidate."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from nni.common.serializer import is_traceable
from nni.mutable import Categorical, MutableAnnotation, Sample
from nni.nas.space import ExecutableModelSpace, RawFormatModelSpace, SimplifiedModelSpace
from torch import nn

from nni_knas.networks.builder import are_alike
from nni_knas.networks.candidates import hyper_parameters_of
from nni_knas.networks.construction import construct, constructed
from nni_knas.networks.watch import Watch

__all__ = ['Canonical']


class Canonical:
    """Gives samples of one network the same unused choices.

    A choice is not used where the construction of the network does not look at it, such as that of a block beyond the depth,
    and where it chooses a layer within an option that is not chosen itself. The network is then the same whatever it is,
    with the same initial weights.

    What is looked at is watched while a network is constructed, once for each *structure*: the choices that were looked at
    otherwise than to choose a layer. Where hardly two samples have a structure in common, hardly two are one network, and
    constructing each would cost more than it saves: samples of such a space stay as they are, as do those of a space whose
    choices are all used.

    Parameters
    ----------
    space
        The candidates' space, in any of NNI's formats.
    """

    draws = 64
    """How many random samples decide whether the space has choices that may be unused."""

    patience = 8
    """How many structures in a row may be new before hardly two samples have one in common."""

    def __init__(self, space: ExecutableModelSpace) -> None:
        self._space = space
        kept = hyper_parameters_of(space)
        self._mutables = {
            label: mutable
            for label, mutable in space.simplify().items()
            if label not in kept and not isinstance(mutable, MutableAnnotation)
        }
        self._structures: list[_Structure] = []

    def sample(self, sample: Sample) -> Sample:
        """The sample with its unused choices as they are by default; the network is the same to the last bit."""
        if not self.has_unused:
            return sample
        try:
            unused = self._unused(sample)
        except Exception:
            return sample
        if not unused:
            return sample
        result = {**sample, **{label: self._defaults[label] for label in unused}}
        # A constraint among choices may forbid it.
        return result if self._space.contains(result) else sample

    @functools.cached_property
    def _defaults(self) -> Sample:
        """A value of each choice, whatever the others."""
        return {label: mutable.default() for label, mutable in self._mutables.items()}

    @functools.cached_property
    def has_unused(self) -> bool:
        """Whether it is worth looking: the same in each process and after each restart, so it is asked of fixed samples."""
        if not _is_constructed(self._space):
            return False
        random_state, new_in_a_row, has_unused = np.random.RandomState(0), 0, False
        for _ in range(self.draws):
            before = len(self._structures)
            try:
                sample = self._space.random(random_state=random_state).sample or {}
                unused = self._unused(sample)
                if unused and len(self._structures) > before and not self._are_without_effect(sample, unused):
                    return False
            except Exception:  # a network that cannot be built: what is wrong with it will be said when it is scored
                unused, before = set(), -1
            has_unused = has_unused or bool(unused)
            new_in_a_row = new_in_a_row + 1 if len(self._structures) > before else 0
            if new_in_a_row == self.patience:
                return False
        return has_unused

    def _are_without_effect(self, sample: Sample, unused: set[str]) -> bool:
        """Whether networks are the same with other choices there: a space may construct them in a way that is not seen."""
        others = [self._mutables[label] for label in sorted(unused)]
        values = {str(each.label): each.values[-1] for each in others if isinstance(each, Categorical)}
        one, other = (constructed(self._space.freeze(each), 0) for each in (sample, {**sample, **values}))
        return str(one) == str(other) and are_alike(one, other)

    def _unused(self, sample: Sample) -> set[str]:
        structure = next((each for each in self._structures if each.fits(sample)), None)
        if structure is None:
            network, watch = construct(self._space.freeze(sample), 0, keep_options=True)
            structure = _structure_of(sample, network, watch)
            self._structures.append(structure)
        return self._mutables.keys() - structure.used(sample)


def _is_constructed(space: ExecutableModelSpace) -> bool:
    """Whether a network comes of the space's constructor, where what it looks at can be seen."""
    if isinstance(space, RawFormatModelSpace):
        return bool(is_traceable(space.model_space))
    return isinstance(space, SimplifiedModelSpace)


class _Structure(NamedTuple):
    """What all samples have in common whose networks differ in chosen layers alone.

    Attributes
    ----------
    read
        The choices that the construction looked at.
    layers
        The label of each choice of a layer, with what has to be chosen for it to be used.
    """

    read: Sample
    layers: list[tuple[str, dict[str, Any]]]

    def fits(self, sample: Sample) -> bool:
        return all(sample.get(label, _NONE) == value for label, value in self.read.items())

    def used(self, sample: Sample) -> set[str]:
        layers = {
            label
            for label, conditions in self.layers
            if all(sample.get(outer) == option for outer, option in conditions.items())
        }
        return layers | set(self.read)


_NONE = object()


def _structure_of(sample: Sample, network: nn.Module, watch: Watch) -> _Structure:
    read = {label: sample[label] for label in watch.reads & sample.keys()}
    kept = {id(module) for module in network.modules()}
    dropped = {id(module) for block in watch.dropped for module in block.modules()} - kept
    within = [
        {name: {id(module) for module in option.modules()} for name, option in options.items()}
        for _, _, options in watch.choices
    ]
    layers = [
        (label, _conditions_of(chosen, number, watch, within))
        for number, (label, chosen, _) in enumerate(watch.choices)
        if id(chosen) not in dropped
    ]
    return _Structure(read, layers)


def _conditions_of(chosen: nn.Module, number: int, watch: Watch, within: list[dict[Any, set[int]]]) -> dict[str, Any]:
    """What has to be chosen elsewhere for a choice to be used; nothing, where that is not plain to see."""
    outer = [
        (each, name)
        for each, options in enumerate(within)
        for name, modules in options.items()
        if each != number and id(chosen) in modules
    ]
    for one, name in outer:
        for other, others in outer:
            nested = id(watch.choices[one][1]) in within[other][others] or id(watch.choices[other][1]) in within[one][name]
            if one != other and not nested:
                return {}
    conditions: dict[str, Any] = {}
    for each, name in outer:
        # What stands within an option that is not chosen itself is not within the options of those around that.
        around = _conditions_of(watch.choices[each][1], each, watch, within)
        for label, option in {**around, watch.choices[each][0]: name}.items():
            if conditions.setdefault(label, option) != option:
                return {}
    return conditions
