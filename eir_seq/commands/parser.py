"""The parser of subcommands, whose complaints are those of all other faults: one line each, with the nearest match."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from eir_seq.errors import Fault, UserError, nearest


class UserParser(argparse.ArgumentParser):
    """A parser that raises `UserError` where argparse prints the usage and exits.

    Example:
        >>> from eir_seq.commands.parser import UserParser
        >>> parser = UserParser(prog="python -m eir_seq models")
        >>> _ = parser.add_argument("--json", action="store_true")
        >>> parser.parse_args(["--jsn"])
        Traceback (most recent call last):
        ...
        eir_seq.errors.UserError: eir_seq models: unrecognized argument '--jsn'; did you mean '--json'?
    """

    def parse_args(  # type: ignore[override]  # no namespace of another class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """The parsed arguments.

        Raises:
            UserError: an argument is unknown, missing or not among the choices.
        """
        return self._all_known(*self.parse_known_args(args, namespace))

    def parse_intermixed_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As `parse_args`, with options between positional arguments."""
        return self._all_known(*self.parse_known_intermixed_args(args, namespace))

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise UserError(Fault(self._place, message))

    def _all_known(self, found: argparse.Namespace, unknown: Sequence[str]) -> argparse.Namespace:
        if unknown:
            options = sorted(self._options())
            named = {word: nearest(word.partition("=")[0], options) for word in unknown}
            raise UserError(
                *(Fault(self._place, f"unrecognized argument {word!r}{match}") for word, match in named.items())
            )
        return found

    @property
    def _place(self) -> str:
        return self.prog.removeprefix("python -m ")

    def _options(self) -> set[str]:
        """Options of this parser and of those of its commands."""
        found = {option for action in self._actions for option in action.option_strings}
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= {option for parser in action.choices.values() for option in parser._options()}
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse, which raises the error that it turns into a call of `error`."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += nearest(str(value), map(str, action.choices or ()))
            raise
