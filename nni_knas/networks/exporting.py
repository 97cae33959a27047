"""Export of a network for use without NNI and without nni_knas."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.utils._pytree import tree_leaves, tree_map

from nni_knas.basics.extras import how_to_install
from nni_knas.basics.files import atomic_write
from nni_knas.basics.names import FORMATS
from nni_knas.gradients import arguments_of

__all__ = ['FORMATS', 'describe_inputs', 'example_inputs', 'export']

DESCRIPTION = 'winner.json'
_logger = logging.getLogger(__name__)


def export(
    network: nn.Module,
    example: Any,
    folder: str | Path,
    formats: Sequence[str] = ('program', 'state-dict'),
    *,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Write a network to files that can be used without NNI.

    The network is exported in evaluation mode, on the CPU, without gradients. It is left as it was found.

    Parameters
    ----------
    network
        The network.
    example
        Inputs of it: a tensor of shape ``n x ...``, or a tuple or dict of them.
    folder
        The folder that the files go to; it is created, and files of an earlier export are replaced.
    formats
        Any of ``'program'`` (``winner.pt2``, for ``torch.export.load``), ``'state-dict'`` (``winner.pt``, for ``torch.load``
        and the program's module) and ``'onnx'`` (``winner.onnx``; needs the packages of the extra ``onnx``).
    about
        What ``winner.json`` is to tell besides inputs, versions and how each file is loaded.

    Returns
    -------
    dict
        The files by format, and ``winner.json`` under ``'description'``. The batch dimension of program and ONNX model is
        free; where the network does not allow that it is that of the example, and ``winner.json`` says so.

    Raises
    ------
    ValueError
        If a format is unknown, a package for ONNX is missing, or the network cannot be exported.
    """
    check_formats(formats)
    folder = Path(folder)
    network = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    example = _suit_example(example, network)
    description: dict[str, Any] = {**(about or {}), 'files': {}, 'inputs': _shapes_and_types(example), 'batch': 'any'}
    contents: dict[str, bytes] = {}
    if {'program', 'onnx'} & {*formats}:
        program, reason = _export_program(network, example)
        if reason:
            description.update(batch=_number_of_samples(example), batch_is_fixed_because=reason)
    for name in formats:
        description['files'][name] = FORMATS[name]
        contents[FORMATS[name]] = (
            _program_bytes(program)
            if name == 'program'
            else _onnx_bytes(program)
            if name == 'onnx'
            else _weights_bytes(network)
        )
    description['versions'] = {name: version for name in ('nni-knas', 'torch', 'onnx') if (version := _version_of(name))}
    description['load'] = {name: _how_to_load(name, formats, network, example) for name in formats}
    contents[DESCRIPTION] = json.dumps(description, indent=2, default=str).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        with atomic_write(folder / file) as unfinished:
            unfinished.write_bytes(content)
    return {**{name: folder / FORMATS[name] for name in formats}, 'description': folder / DESCRIPTION}


def check_formats(formats: Sequence[str]) -> None:
    """Raise ``ValueError`` for formats that are unknown, or where packages for one are missing."""
    known = ', '.join(FORMATS)
    if isinstance(formats, str) or not formats:
        raise ValueError(f'formats is {formats!r}: it should be a list of any of {known}')
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f'unknown format {name!r}: it is one of {known}')
    missing = [package for package in ('onnx', 'onnxscript') if importlib.util.find_spec(package) is None]
    if 'onnx' in formats and missing:
        raise ValueError(f'export to ONNX needs the package {" and ".join(missing)}: {how_to_install("onnx")}')


def describe_inputs(inputs: Any) -> str:
    """Shapes and types of a network's inputs as JSON text, from which :func:`example_inputs` makes others.

    Parameters
    ----------
    inputs
        A tensor of shape ``n x ...``, or a tuple or dict of such.

    Returns
    -------
    str
        ``[shape, dtype]`` of a tensor, a list or an object of these for a tuple or dict; empty for any other inputs.
    """
    tensors = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, (tuple, list)) else [inputs]
    sizes = {len(tensor) if isinstance(tensor, Tensor) and tensor.ndim else None for tensor in tensors}
    return json.dumps(_shapes_and_types(inputs, None)) if len(sizes) == 1 and None not in sizes else ''


def example_inputs(text: str, batch: int = 2, seed: int = 0) -> Any:
    """Random inputs of the kind that :func:`describe_inputs` described.

    Parameters
    ----------
    text
        The text that :func:`describe_inputs` gave.
    batch
        Number of samples.
    seed
        The seed of the values, which are normally distributed; integers are zeros.
    """
    generator = torch.Generator().manual_seed(seed)

    def make(shape: list[int], dtype: str) -> Tensor:
        size, kind = [batch, *shape[1:]], getattr(torch, dtype)
        return torch.randn(size, generator=generator).to(kind) if kind.is_floating_point else torch.zeros(size, dtype=kind)

    content = json.loads(text)
    if isinstance(content, dict):
        return {name: make(*each) for name, each in content.items()}
    if len(content) == 2 and isinstance(content[1], str):
        return make(*content)
    return tuple(make(*each) for each in content)


def _shapes_and_types(inputs: Any, batch: str | None = 'batch') -> Any:
    """``[shape, dtype]`` of each tensor, the batch dimension under a name if there is one."""
    if isinstance(inputs, Tensor):
        shape: list[Any] = [*inputs.shape]
        return [[batch, *shape[1:]] if batch else shape, str(inputs.dtype).removeprefix('torch.')]
    if isinstance(inputs, Mapping):
        return {str(name): _shapes_and_types(each, batch) for name, each in inputs.items()}
    return [_shapes_and_types(each, batch) for each in inputs]


def _number_of_samples(inputs: Any) -> int:
    return len(tree_leaves(inputs)[0])


def _suit_example(example: Any, network: nn.Module) -> Any:
    """The example on the CPU, in the network's precision, and with two samples at least: torch would take one for fixed."""
    if not describe_inputs(example):
        raise ValueError('example has to be a tensor of shape n x ..., or a tuple or dict of tensors that have the same n')
    kind = next((p.dtype for p in network.parameters() if p.is_floating_point()), None)

    def suit(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu()
        tensor = tensor.to(kind) if kind is not None and tensor.is_floating_point() else tensor
        return torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor.clone()

    return tree_map(suit, dict(example) if isinstance(example, Mapping) else example)


def _export_program(network: nn.Module, example: Any) -> tuple[ExportedProgram, str]:
    """The exported program, and why its batch dimension is fixed, where it is."""
    try:
        program = _trace_program(network, example, dynamic=True)
        for samples in (1, _number_of_samples(example) + 1):
            args, kwargs = arguments_of(network, tree_map(lambda t, n=samples: torch.cat([t, t[:1]])[:n], example))
            program.module()(*args, **kwargs)
        return program, ''
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), '') or type(error).__name__
        _logger.info('The batch dimension is fixed: %s', error)
    try:
        return _trace_program(network, example, dynamic=False), reason
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f'torch cannot export the network: {lines[0]}') from error


def _trace_program(network: nn.Module, example: Any, dynamic: bool) -> ExportedProgram:
    args, kwargs = arguments_of(network, example)
    shapes = ShapesCollection()
    if dynamic:
        batch = Dim('batch')
        for tensor in tree_leaves(example):
            shapes[tensor] = {0: batch}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        program = torch.export.export(network, args, kwargs, dynamic_shapes=shapes if dynamic else None)
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                _forget_sources(node.meta)
    return program


def _forget_sources(meta: dict[str, Any]) -> None:
    """A program remembers the files and classes that it was traced from, which are not needed where it is used."""
    meta.pop('stack_trace', None)
    stack = meta.get('nn_module_stack')
    if stack:
        plain = _name_of(nn.Module)
        meta['nn_module_stack'] = {
            key: (path, kind if _name_of(kind).startswith('torch.') else plain) for key, (path, kind) in stack.items()
        }


def _name_of(kind: Any) -> str:
    return kind if isinstance(kind, str) else f'{kind.__module__}.{kind.__qualname__}'


def _program_bytes(program: ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _weights_bytes(network: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(
        {
            name: value.detach().contiguous().clone()
            for name, value in network.state_dict().items()
            if isinstance(value, Tensor)
        },
        buffer,
    )
    return buffer.getvalue()


def _onnx_bytes(program: ExportedProgram) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            model = torch.onnx.export(program, dynamo=True, verbose=False)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f'the network cannot be exported to ONNX: {lines[0]}') from error
    assert model is not None
    proto: bytes = model.model_proto.SerializeToString()
    return proto


def _how_to_load(name: str, formats: Sequence[str], network: nn.Module, example: Any) -> list[str]:
    """Three lines of Python that load a file, and use it on ``inputs`` like the example."""
    args, kwargs = arguments_of(network, example)
    if name == 'program':
        spread = '**' if kwargs else '*' if args[0] is not example else ''
        return [
            'import torch',
            f'network = torch.export.load({FORMATS[name]!r}).module()',
            f'outputs = network({spread}inputs)',
        ]
    if name == 'onnx':
        values = '[inputs]' if isinstance(example, Tensor) else 'inputs.values()' if isinstance(example, dict) else 'inputs'
        feed = 'inputs' if kwargs else f'{{each.name: value for each, value in zip(session.get_inputs(), {values})}}'
        return [
            'import onnxruntime',
            f'session = onnxruntime.InferenceSession({FORMATS[name]!r})',
            f'outputs = session.run(None, {feed})  # inputs: NumPy arrays',
        ]
    own = (
        f'torch.export.load({FORMATS["program"]!r}).module()'
        if 'program' in formats
        else 'MyNetwork()  # has to have layers of the same names'
    )
    return ['import torch', f'network = {own}', f'network.load_state_dict(torch.load({FORMATS[name]!r}, weights_only=True))']


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
