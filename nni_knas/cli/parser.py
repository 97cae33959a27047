"""The parser of the command line: what it cannot read gets one sentence, as every other mistake does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from nni_knas.basics.spelling import nearest

__all__ = ['Parser', 'complete', 'completed_by', 'whole_number']


class Parser(argparse.ArgumentParser):
    """A parser, or that of a command, whose errors are one line, and which knows the word that was probably meant."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.add_argument(
            '--traceback',
            action='store_true',
            default=argparse.SUPPRESS,  # before a command and after it
            help='show errors whole, with the lines of code that they come from',
        )

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore
        """What is not known is refused here, where it is known of which command it is."""
        parsed, others = super().parse_known_args(args, namespace)
        if others:
            self.refuse(others[0])
        return parsed, others

    def refuse(self, word: str) -> NoReturn:
        """End with the sentence for a word that belongs to nothing."""
        options = [option for action in self._actions for option in action.option_strings if option.startswith('--')]
        hint = (
            nearest(word.partition('=')[0].replace('_', '-'), options)
            if word.startswith('-')
            else f'{self.prog} takes no more than its options'
        )
        self.error(f'unknown {"option" if word.startswith("-") else "argument"} {word!r}: {hint}')

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.prog}: {" ".join(message.split())} (see {self.prog} --help)\n')

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f'unknown {value!r}: {nearest(str(value), action.choices)}')


def complete(parser: Parser) -> None:
    """Answer a shell that asks how a line goes on, where ``argcomplete`` is installed; it ends the process then."""
    if '_ARGCOMPLETE' in os.environ:
        import argcomplete  # type: ignore[import-not-found, unused-ignore]

        argcomplete.autocomplete(parser)


def completed_by(action: argparse.Action, words: Callable[[], Iterable[str]]) -> None:
    """Have a shell offer these words for an argument, which are asked for when it does."""
    action.completer = lambda **about: list(words())  # type: ignore[attr-defined]


def whole_number(text: str) -> int:
    """What an option that counts takes."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no whole number') from None
