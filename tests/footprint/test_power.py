"""Where time and energy are read, and what a country makes of energy."""

from __future__ import annotations

import locale
import logging
import socket
import sys
import time

import psutil
import pytest
from burning import burn
from clocks import Clock
from spaces import tiny_kernel

from nni_knas import KNAS
from nni_knas.footprint import check_country, cpu_seconds
from nni_knas.footprint import power as power_module
from nni_knas.footprint.power import CodeCarbon, StatedModel, country_of, power_source
from nni_knas.footprint.usage import busy_seconds

# CPU time.


def test_cpu_time_of_descendants_counts_while_they_live_and_after():
    before, machine = cpu_seconds(psutil.Process()), busy_seconds()
    child = burn(0.5)
    used = float(child.stdout.readline())
    alive = cpu_seconds(psutil.Process()) - before
    child.communicate('\n')
    ended = cpu_seconds(psutil.Process()) - before
    assert used - 0.05 <= alive <= ended + 0.02
    assert used - 0.05 <= ended < used + 1
    assert busy_seconds() - machine >= used - 0.1


# Where energy is read.


@pytest.mark.parametrize('gpus', [0, 2])
def test_stated_model(monkeypatch, gpus):
    clock, busy = Clock().rules(monkeypatch, power_module), iter([1000.0, 1000.0 + 1800, 1000.0 + 3600])
    monkeypatch.setattr(power_module, 'busy_seconds', lambda: next(busy))
    monkeypatch.setattr(power_module.psutil, 'virtual_memory', lambda: type('M', (), {'used': 8 * 2**30}))
    monkeypatch.setattr(power_module, '_cuda_devices', lambda: gpus)
    source = StatedModel()
    clock.sleep(3600)
    source.read()
    clock.sleep(3600)
    reading = source.read()
    assert reading.cpu == pytest.approx(0.012)  # 12 W for one hour of CPU time
    assert reading.memory == pytest.approx(2 * 8 * 0.3725 / 1000)
    assert reading.gpu == pytest.approx(2 * gpus * 0.2)
    assert reading.co2 == pytest.approx(0.475 * sum(reading[:3]))
    methods = source.methods()
    assert set(methods) == {'cpu', 'memory', 'co2', *(['gpu'] if gpus else [])}
    assert all(method.startswith('modelled (') for method in methods.values())
    assert '12 W' in methods['cpu'] and 'pip install "codecarbon>=' in methods['cpu']


def test_without_codecarbon(monkeypatch):
    monkeypatch.setitem(sys.modules, 'codecarbon', None)
    assert isinstance(power_source('DEU'), StatedModel)


@pytest.fixture
def pass_time(monkeypatch):
    """Move the clocks that codecarbon reads; the machine does some work meanwhile."""
    ahead = [0.0]

    def shifted(real):
        return lambda: real() + ahead[0]

    for name in ('time', 'perf_counter'):
        monkeypatch.setattr(time, name, shifted(getattr(time, name)))

    def pass_time(seconds):
        ahead[0] += seconds
        end = busy_seconds() + 0.05
        while busy_seconds() < end:
            pass

    return pass_time


def test_codecarbon(monkeypatch, capfd, tmp_path, pass_time):
    """It has codecarbon's own numbers, says nothing, writes nothing, and asks no other machine."""
    from codecarbon.external.ram import RAM

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, 'socket', None)
    monkeypatch.setattr(socket, 'create_connection', None)
    level = logging.getLogger('codecarbon').level
    source = power_source('DEU')
    assert isinstance(source, CodeCarbon)
    first = source.read()
    pass_time(3000)
    last = source.read()
    watts = RAM().total_power().W
    assert (last.memory - first.memory) * 3.6e6 == pytest.approx(watts * 3000, rel=0.1)
    assert last.cpu > first.cpu and last.gpu >= first.gpu
    methods = source.methods()
    source.close()
    assert methods['memory'].startswith('modelled (') and f'{watts:g} W' in methods['memory']
    assert methods['cpu'].startswith(('modelled (', 'measured (')) and 'codecarbon' in methods['cpu']
    assert f'{1000 * last.co2 / sum(last[:3]):.0f} g a kWh in Germany' in methods['co2']
    assert capfd.readouterr() == ('', '') and not list(tmp_path.iterdir())
    assert logging.getLogger('codecarbon').level == level


def test_country_says_how_much_co2(pass_time):
    def grams(country):
        source = CodeCarbon(country)
        pass_time(60)
        reading = source.read()
        source.close()
        return 1000 * reading.co2 / sum(reading[:3]), source.methods()['co2']

    france, world = grams('FRA'), grams(None)
    assert france[0] < 150 < world[0]
    assert world[0] == pytest.approx(475) and 'world' in world[1] and 'country' in world[1]


@pytest.mark.parametrize(
    ('name', 'country'),
    [('de_AT.UTF-8', 'AUT'), ('pt_BR', 'BRA'), ('C.UTF-8', None), ('POSIX', None), ('sr_RS@latin', 'SRB'), ('xx_QQ', None)],
)
def test_country_of_the_locale(monkeypatch, tmp_path, name, country):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locale, 'getlocale', lambda: (None, None))
    for variable in ('LC_MONETARY', 'LC_CTYPE', 'LANG'):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv('LC_ALL', name)
    assert country_of() == country
    (tmp_path / '.codecarbon.config').write_text('[codecarbon]\ncountry_iso_code=nor\n')
    assert country_of() == 'NOR'


def test_countries():
    assert check_country(' deu ') == 'DEU' and check_country(None) is None
    for wrong in ('Germany', 'DE', 'D3U', 12, 'XQX'):
        with pytest.raises(ValueError, match=r'^country is .*such as DEU or USA$'):
            check_country(wrong)
    with pytest.raises(ValueError, match=r'country is .Germany.: it has to be an ISO 3166 code of three letters'):
        KNAS(tiny_kernel(), country='Germany')
