"""Mistakes in what is asked of runs, and runs that are damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import made_up_runs

from mistakes.attempts import Mistake, command


def run(line: str, says: str, given: str = '', damage: Callable[[Path], object] | None = None) -> Mistake:
    """A command on a run, which may have been damaged."""
    mistake = command(line, says, f'`nni-knas {line}`{f", {given}" if given else ""}')

    def attempt() -> None:
        made_up_runs.make(Path('run'), candidates=20, trained=2)
        if damage is not None:
            damage(Path('run'))
        mistake.attempt()

    return mistake._replace(attempt=attempt)


def truncate(folder: Path) -> None:
    record = folder / 'knas' / 'record.sqlite'
    record.write_bytes(record.read_bytes()[:5000])


def overwrite(folder: Path) -> None:
    (folder / 'knas' / 'record.sqlite').write_text('no record')


def remove(folder: Path) -> None:
    shutil.rmtree(folder / 'knas')


def break_settings(folder: Path) -> None:
    (folder / 'knas' / 'config.json').write_text('{"options": ')


MISTAKES = [
    *(
        command(f'{line} nowhere{more}', "there is no experiment 'nowhere'")
        for line, more in (
            ('show', ''),
            ('report', ''),
            ('compare', ''),
            ('resume', ''),
            ('export', ' --to folder'),
        )
    ),
    command('show .', 'is no KNAS run'),
    command('report .', 'is no KNAS run'),
    command('export . --to folder', 'is no KNAS run'),
    command('resume .', '.'),
    command('show ""', 'run'),
    run('show run', 'run', 'whose record is gone', remove),
    run('resume run', 'record.sqlite', 'whose record is cut off', truncate),
    run('resume run', 'config.json', 'whose settings are cut off', break_settings),
    run('resume run', 'of a script of your own'),
    run('resume run --port 99999', '99999'),
    run('show run --top 0', '--top is 0'),
    run('show run --top ten', "'ten' is no whole number"),
    run('show run --watch never', "'never' is no time"),
    run('report run --to page.txt', 'has to end in .html'),
    run('report run --to run', 'is a folder'),
    run('report run --to /proc/nowhere/page.html', 'cannot be written'),
    run('compare run --to page', 'has to end in .html'),
    run('export run --to folder --formats torchscript', "unknown format 'torchscript'"),
    run('export run --to folder --formats ""', 'format'),
    run('export run --to folder --rank 0', '0'),
    run('export run --to folder --rank 9999', '9999'),
    run('export run --to folder --rank best', "'best' is no whole number"),
    run('show run', 'record.sqlite', 'whose record is cut off', truncate),
    run('report run', 'record.sqlite', 'whose record is cut off', truncate),
    run('show run', 'record.sqlite', 'whose record is a text', overwrite),
    run('export run --to folder', 'record.sqlite', 'whose record is a text', overwrite),
    run('compare run run', 'record.sqlite', 'whose record is a text', overwrite),
]
