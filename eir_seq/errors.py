"""The errors that a user may meet, and the exit code that each of them ends with."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

EXIT_USER = 2
EXIT_RUN_FAILED = 3
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What steers a terminal or turns the direction of writing, and halves of characters, which cannot be written."""
MOST_COMPARED = 5000
"""Names that are looked through for one that is meant; comparing takes microseconds for each."""
LONGEST_LINE = 4000
"""Characters of a fault that are shown; of longer ones the middle is left out."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with what the user gave: where it is, what is wrong, and in which file.

    `place` is a config path (``inputs.review.max_length``) or a position in a data file
    (``reviews.csv row 17``); empty where the message says it all.
    """

    place: str
    message: str
    source: str | None = None

    def __str__(self) -> str:
        line = f"{self.place}: {self.message}" if self.place else self.message
        line = f"{line} ({self.source})" if self.source else line
        if len(line) > LONGEST_LINE:  # a value or a name that fills a file
            line = f"{line[: LONGEST_LINE // 2]} [...] {line[-LONGEST_LINE // 2 :]}"
        # Whatever the user's words and files hold, a fault is one line that shows what cannot be seen.
        return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)

    def under(self, prefix: str) -> Fault:
        """The same fault, seen from one level further out: its place is prefixed with ``prefix.``.

        A place that is the path of a file, which no key is, becomes a part of the message.

        >>> str(Fault("lr", "must be positive").under("optimizer"))
        'optimizer.lr: must be positive'
        >>> str(Fault("models/bert/config.json", "is not a JSON object").under("inputs.text.model"))
        'inputs.text.model: models/bert/config.json is not a JSON object'
        """
        if "/" in self.place:
            return Fault(prefix, f"{self.place} {self.message}", self.source)
        return Fault(f"{prefix}.{self.place}" if self.place else prefix, self.message, self.source)


def printable(text: str) -> str:
    r"""A text as a terminal and a log may get it: control characters other than tabs and ends of lines are escaped.

    >>> printable("caf\u00e9 \x1b[2J")
    'café \\x1b[2J'
    """
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)


class UserError(ValueError):
    """The user's config, data, checkpoint or request is at fault; the process ends with exit code 2."""

    def __init__(self, *faults: Fault | str) -> None:
        self.faults = tuple(Fault("", fault) if isinstance(fault, str) else fault for fault in faults)
        super().__init__("\n".join(map(str, self.faults)))


class RunFailed(RuntimeError):
    """A run that was set up well could not continue (non-finite loss, memory, disk); exit code 3."""


def nearest(name: str, allowed: Iterable[str], *, cutoff: float = 0.6) -> str:
    """``; did you mean 'x'?`` for the allowed name closest to `name` or that begins with it, or an empty string.

    `cutoff`: how alike they must be, from 0 to 1.
    """
    spellings = {candidate.casefold(): candidate for candidate in islice(allowed, MOST_COMPARED)}
    wanted = str(name).casefold()
    match = difflib.get_close_matches(wanted, list(spellings), n=1, cutoff=cutoff)
    if not match and len(wanted) >= 3:
        match = [spelling for spelling in spellings if spelling.startswith(wanted)]
    return f"; did you mean {spellings[match[0]]!r}?" if match else ""
