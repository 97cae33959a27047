"""A trial of the tuner: ``python -m nni_knas.trial`` builds the network of the parameters that it receives, and trains it.

A trial command of the user's own gets the same network from :func:`network`.

Examples
--------
>>> parameters = nni.get_next_parameter()
>>> model = nni_knas.trial.network(parameters)
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nni
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from nni.runtime.env_vars import trial_env_vars
from torch import nn

from nni_knas.basics.failures import is_said_by_us, told
from nni_knas.bridge import fields
from nni_knas.bridge.registry import find_folder
from nni_knas.bridge.trial_threads import share_cores
from nni_knas.config import SearchOptions, Settings
from nni_knas.config import options as all_options
from nni_knas.data import Data
from nni_knas.record import Record, record_path, settings_path
from nni_knas.runs import RankedEvaluator
from nni_knas.spaces import sample_of

__all__ = ['main', 'network']


def network(parameters: Mapping[str, Any] | None = None, **changes: Any) -> nn.Module:
    """The network of a trial's parameters, freshly initialised.

    Parameters
    ----------
    parameters
        What ``nni.get_next_parameter()`` gave. Default: the parameters of the trial that calls.
    **changes
        Fields of :class:`~nni_knas.config.SearchOptions`, such as ``space``. Default: those of the experiment, which a
        trial on another machine does not know.
    """
    share_cores()
    options = _options_with(changes)
    parameters = parameters or nni.get_current_parameter() or nni.get_next_parameter()
    space = _build_space(options, options.load_data(), parameters)
    network: nn.Module = space.freeze(sample_of(parameters, space)).executable_model()
    return network


def _options_with(changes: Mapping[str, Any]) -> SearchOptions:
    """The experiment's options, where this machine has them, with changes."""
    folder = _experiment_folder()
    if folder is not None and settings_path(folder).exists():
        return SearchOptions.from_mapping({**Settings.read(folder).options.to_mapping(), **changes})
    if 'space' not in changes and 'network' not in changes:
        raise ValueError(
            "the experiment's settings are not on this machine: name the space and the data, for example "
            'python -m nni_knas.trial --space module:Class --data module:function'
        )
    return SearchOptions.from_mapping(changes)


def _experiment_folder() -> Path | None:
    """The experiment's directory; on another machine there is one of the same name, in which no record is."""
    try:
        folder = find_folder(trial_env_vars.NNI_EXP_ID) if trial_env_vars.NNI_EXP_ID else None
    except FileNotFoundError:
        return None
    return folder if folder is not None and record_path(folder).exists() else None


def _build_space(options: SearchOptions, data: Data, parameters: Mapping[str, Any]) -> ExecutableModelSpace:
    """The model space; where a function builds the networks, that of these parameters alone."""
    search_space = (
        {label: {'_type': 'choice', '_value': [value]} for label, value in parameters.items() if label not in fields.EXTRAS}
        if options.network is not None
        else None
    )
    return SimplifiedModelSpace.from_model(options.make_space(data.classes, search_space))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the network of the parameters that NNI hands out.

    Returns
    -------
    int
        Exit status: 0 when all went well, 2 for a mistake of the user's, 1 for any other error.
    """
    parser = argparse.ArgumentParser(
        prog='python -m nni_knas.trial',
        description='Build the network of the parameters that NNI hands to this trial, and '
        "train it with NNI's evaluator. All fields are those of the experiment, where it is on this machine.",
    )
    fields = [
        option
        for option in all_options()
        if option.section in ('space and data', 'fine stage')
        and option.name not in ('top_k', 'choose', 'stop_when', 'optimize_mode')
    ]
    for option in fields:
        parser.add_argument(
            f'--{option.name.replace("_", "-")}',
            dest=option.name,
            help=option.help.replace('%', '%%'),
            type=json.loads if option.kind is dict else str,
            metavar=option.metavar,
        )
    given = vars(parser.parse_args(arguments))
    try:
        _train_candidate(_options_with({name: value for name, value in given.items() if value is not None}))
    except Exception as error:
        if not is_said_by_us(error):  # the trial's log shows it whole, and says last what it comes to
            traceback.print_exception(error)
        print(f'nni_knas.trial: {told(error)}', file=sys.stderr)
        return 2 if is_said_by_us(error) else 1
    return 0


def _train_candidate(options: SearchOptions) -> None:
    parameters = nni.get_next_parameter()
    if parameters is None:
        raise ValueError(
            'there are no parameters: this is the trial command of an experiment with the tuner KNAS, '
            'started by nnictl create'
        )
    share_cores()
    data = options.load_data()
    space = _build_space(options, data, parameters)
    space.evaluator = options.make_evaluator(data)
    model = space.freeze(sample_of(parameters, space))
    number = parameters.get(fields.KNAS_CANDIDATE)
    assert model.evaluator is not None
    if number is not None:  # a person may have added a trial in the portal, which has no rank
        folder = _experiment_folder()
        model.evaluator = RankedEvaluator(
            model.evaluator,
            number,
            parameters[fields.KERNEL_SCORE],
            parameters[fields.KERNEL_RANK],
            str(folder) if folder is not None else None,
            data=Record(record_path(folder)).digests() if folder is not None else None,
            predicted=parameters.get(fields.PREDICTED_METRIC),
            fetched=folder is None,
        )
    model.execute()


if __name__ == '__main__':
    sys.exit(main())
