"""Where a machine's energy is read: by codecarbon, or by a stated model where that is not installed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import locale
import logging
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import psutil

from nni_knas.basics.extras import how_to_install
from nni_knas.footprint.usage import busy_seconds, processor_name

__all__ = ['CodeCarbon', 'PowerSource', 'Reading', 'StatedModel', 'check_country', 'country_of', 'power_source']

_logger = logging.getLogger(__name__)

WATTS_PER_CORE = 12.0
"""The power of a CPU core at work. Source: Lannelongue, Grealey, Inouye, "Green Algorithms: Quantifying the Carbon
Footprint of Computation", Advanced Science 2021; the value of its calculator for a CPU that is not known."""
WATTS_PER_GIB = 0.3725
"""The power of memory in use. Source: the same."""
WATTS_PER_GPU = 200.0
"""The power of a GPU. Source: the same calculator, for a GPU that is not known."""
WORLD = 0.475
"""Kilograms of CO2-equivalent a kWh, the world's average. Source: International Energy Agency, "Global Energy and CO2 Status
Report 2019", which codecarbon uses, too."""

_MEASURING = {
    'intel_rapl': 'RAPL counters',
    'windows_emi': 'the Energy Meter Interface',
    'intel_power_gadget': 'Intel Power Gadget',
    'apple_powermetrics': 'powermetrics',
}
"""How codecarbon measures a CPU; in all its other modes it models."""


class Reading(NamedTuple):
    """What the machine has used since its power source was opened: kWh by component, and kilograms of CO2-equivalent."""

    cpu: float
    gpu: float
    memory: float
    co2: float


class PowerSource:
    """Reads the energy of the machine that it is opened on, from when it is opened."""

    def read(self) -> Reading:
        """What was used until now."""
        raise NotImplementedError

    def methods(self) -> dict[str, str]:
        """How each of ``cpu``, ``gpu``, ``memory`` and ``co2`` is known.

        A text that begins with ``measured`` or ``modelled``. A component that the machine lacks is not among them.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Read no more."""


class CodeCarbon(PowerSource):
    """The machine's energy as ``codecarbon`` has it, in its offline mode.

    Its configuration file is respected, as to hardware and country; what it would write or send is not.

    Parameters
    ----------
    country
        ISO 3166 code of three letters, which says how much CO2 a kWh stands for; ``None`` for the world's average.

    Raises
    ------
    ImportError
        If codecarbon is not installed.
    """

    def __init__(self, country: str | None) -> None:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.output_methods.base_output import BaseOutput

        self._logs = logging.getLogger('codecarbon')
        self._level = self._logs.level
        self._logs.setLevel(logging.CRITICAL)  # it tells everything at length

        class Last(BaseOutput):
            """Keeps what codecarbon has to say last."""

            data: Any = None

            def out(self, total: Any, delta: Any) -> None:
                self.data = total

        self._last = Last()
        place = {'country_iso_code': country} if country is not None else {}
        self._tracker = OfflineEmissionsTracker(
            tracking_mode='machine',
            measure_power_secs=3600.0,
            log_level='critical',
            allow_multiple_runs=True,
            output_methods=[],
            output_handlers=[self._last],
            emissions_endpoint=False,
            electricitymaps_api_token='',
            **place,
        )
        with _quick_cpuinfo():
            self._tracker.start()

    def read(self) -> Reading:
        self._tracker.flush()
        data = self._last.data
        if data is None:
            return Reading(0.0, 0.0, 0.0, 0.0)
        return Reading(data.cpu_energy, data.gpu_energy, data.ram_energy, data.emissions)

    def methods(self) -> dict[str, str]:
        version = importlib.metadata.version('codecarbon')
        methods = {}
        for part in getattr(self._tracker, '_hardware', []):
            kind, mode = type(part).__name__, getattr(part, '_mode', '')
            if kind == 'CPU' and mode in _MEASURING:
                methods['cpu'] = f'measured (codecarbon {version}, {_MEASURING[mode]})'
            elif kind == 'CPU':
                watts = getattr(part, '_tdp', None)
                power = f' with {watts:g} W at full load' if watts else ''
                methods['cpu'] = f'modelled (codecarbon {version}, from the load of the CPU{power})'
            elif kind in ('AppleSiliconChip', 'Raspberry'):
                name = {'CPU': 'cpu', 'GPU': 'gpu', 'RAM': 'memory'}[part.chip_part]
                methods[name] = f"measured (codecarbon {version}, the chip's own counters)"
            elif kind == 'GPU':
                methods['gpu'] = f"measured (codecarbon {version}, the GPU's own counters)"
            elif kind == 'RAM':
                watts = part.total_power().W
                methods['memory'] = f'modelled (codecarbon {version}, {watts:g} W for all that is installed)'
        return {**methods, 'co2': self._method_of_co2(version)}

    def _method_of_co2(self, version: str) -> str:
        data = self._last.data
        grams = f'{1000 * data.emissions / data.energy_consumed:.0f} g' if data and data.energy_consumed else 'CO2'
        place = data.country_name if data else None
        return (
            f'modelled (codecarbon {version}, {grams} a kWh in {place})'
            if place
            else f"modelled ({grams} a kWh, the world's average, since none is known for the country; country= names one)"
        )

    def close(self) -> None:
        self._tracker.stop()
        self._logs.setLevel(self._level)


@contextlib.contextmanager
def _quick_cpuinfo() -> Iterator[None]:
    """While codecarbon asks ``cpuinfo`` for the CPU's name: a second of CPU time to say what Linux has in a file."""
    name = processor_name()
    if name is None:
        yield
        return
    import cpuinfo  # type: ignore[import-untyped]

    original = cpuinfo.get_cpu_info
    cpuinfo.get_cpu_info = lambda: {'brand_raw': name}
    try:
        yield
    finally:
        cpuinfo.get_cpu_info = original


class StatedModel(PowerSource):
    r"""The machine's energy by a model that is stated, for where nothing measures it.

    .. math:: E = t_\text{busy} P_\text{core} + \int (m P_\text{GiB} + g P_\text{GPU}) dt

    with the CPU time :math:`t_\text{busy}` that the machine was at work, the memory :math:`m` in use, the number :math:`g`
    of CUDA devices, and the powers above.

    Source: Lannelongue, Grealey, Inouye 2021, without their factor for a data centre.
    """

    def __init__(self) -> None:
        self._busy = busy_seconds()
        self._when = time.monotonic()
        self._gpus = _cuda_devices()
        self._used = Reading(0.0, 0.0, 0.0, 0.0)

    def read(self) -> Reading:
        now, busy = time.monotonic(), busy_seconds()
        seconds = now - self._when
        cpu = (busy - self._busy) * WATTS_PER_CORE / 3.6e6
        memory = seconds * psutil.virtual_memory().used / 2**30 * WATTS_PER_GIB / 3.6e6
        gpu = seconds * self._gpus * WATTS_PER_GPU / 3.6e6
        self._when, self._busy = now, busy
        self._used = Reading(*(old + new for old, new in zip(self._used, (cpu, gpu, memory, (cpu + gpu + memory) * WORLD))))
        return self._used

    def methods(self) -> dict[str, str]:
        missing = f'codecarbon is not installed: {how_to_install("green")}'
        methods = {
            'cpu': f'modelled ({WATTS_PER_CORE:g} W for each core at work; {missing})',
            'memory': f'modelled ({WATTS_PER_GIB:g} W for each GiB in use)',
            'co2': f"modelled ({1000 * WORLD:.0f} g a kWh, the world's average)",
        }
        if self._gpus:
            methods['gpu'] = f'modelled ({WATTS_PER_GPU:g} W for each of {self._gpus})'
        return methods


def power_source(country: str | None = None) -> PowerSource:
    """What reads this machine's energy best.

    Parameters
    ----------
    country
        ISO 3166 code of three letters. Default: :func:`country_of`.
    """
    try:
        return CodeCarbon(country or country_of())
    except ImportError:
        return StatedModel()
    except Exception:
        _logger.warning('codecarbon cannot read the energy of this machine: a stated model is used.', exc_info=True)
        return StatedModel()


def country_of() -> str | None:
    """The country of codecarbon's configuration or else of the locale, as ISO 3166 code of three letters."""
    with contextlib.suppress(Exception):
        from codecarbon.core.config import get_hierarchical_config

        named = get_hierarchical_config().get('country_iso_code')
        if named:
            return str(named).upper()
    for name in _locales():
        territory = name.partition('.')[0].partition('@')[0].partition('_')[2]
        if len(territory) == 2:
            with contextlib.suppress(Exception):
                import pycountry  # comes with codecarbon

                country = pycountry.countries.get(alpha_2=territory.upper())
                if country is not None:
                    return country.alpha_3
    return None


def _locales() -> Iterator[str]:
    yield locale.getlocale()[0] or ''
    for name in ('LC_ALL', 'LC_MONETARY', 'LC_CTYPE', 'LANG'):
        yield os.environ.get(name, '')


def check_country(country: Any) -> str | None:
    """A country's code in capitals, checked.

    Raises
    ------
    ValueError
        If it is none, as far as can be told: what countries there are, codecarbon knows.
    """
    if country is None:
        return None
    code = str(country).strip().upper()
    if len(code) != 3 or not code.isascii() or not code.isalpha():
        raise ValueError(f'country is {country!r}: it has to be an ISO 3166 code of three letters, such as DEU or USA')
    with contextlib.suppress(ImportError):
        import pycountry

        if pycountry.countries.get(alpha_3=code) is None:
            raise ValueError(
                f'country is {country!r}, which is no country of ISO 3166: it has to be a code of three '
                'letters, such as DEU or USA'
            )
    return code


def _cuda_devices() -> int:
    import torch

    return torch.cuda.device_count()
