"""Files that name SNPs: .bim files, lists of ids, and groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.files import MEGABYTE, open_regular

MOST_BYTES = 1024 * MEGABYTE
"""Of a .bim file; some ten million SNPs."""
BIM_FIELDS = 6
"""Chromosome, id, position in centimorgans, position in base pairs, and two alleles."""
SHOWN = 3


@dataclass(frozen=True)
class Snps:
    """SNPs in the order of their genotypes: the fields of each line of a .bim file.

    Example:
        >>> snps = Snps((("1", "rs1", "0", "100", "A", "C"), ("1", "rs2", "0", "200", "G", "T")))
        >>> snps.ids, snps.select([1]).ids
        (('rs1', 'rs2'), ('rs2',))
    """

    fields: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.fields)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The name of each SNP."""
        return tuple(fields[1] for fields in self.fields)

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each id stands; the last one of those that occur twice."""
        return {name: place for place, name in enumerate(self.ids)}

    def select(self, places: Sequence[int]) -> Snps:
        """The SNPs at some places."""
        return Snps(tuple(self.fields[place] for place in places))

    def difference(self, other: Snps) -> str | None:
        """Where another list first differs in id or alleles; None where it does not."""
        for place, (mine, given) in enumerate(zip(self.fields, other.fields, strict=True), 1):
            if (mine[1], *mine[4:]) != (given[1], *given[4:]):
                names = [" ".join((fields[1], *fields[4:])) for fields in (given, mine)]
                return f"SNP {place} is {names[0]}, not {names[1]}"
        return None

    def write(self, path: Path) -> None:
        """Write a .bim file."""
        path.write_text("".join("\t".join(fields) + "\n" for fields in self.fields), encoding="utf-8")


def lines_of(path: str | PathLike[str]) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers.

    Raises:
        OSError: there is no such file.
        UnicodeDecodeError: it is no text.
    """
    with open_regular(path, MOST_BYTES) as file:
        for number, line in enumerate(file, 1):
            if text := line.decode("utf-8").strip():
                yield number, text


def read_bim(path: str | PathLike[str]) -> Snps:
    """The SNPs of a .bim file.

    Raises:
        OSError: there is no such file.
        ValueError: a line has not six fields, or there are none.
    """
    found = []
    for number, line in lines_of(path):
        fields = tuple(line.split())
        if len(fields) != BIM_FIELDS:
            raise ValueError(f"line {number} has {len(fields)} fields, not {BIM_FIELDS} as .bim files have")
        found.append(fields)
    if not found:
        raise ValueError("it is empty")
    return Snps(tuple(found))


def read_subset(path: str, snps: Snps, place: str) -> list[int]:
    """The places of the SNPs that a file lists, one id per line, in the order of `snps`.

    Raises:
        UserError: ids that `snps` does not have, or has twice.
    """
    names = [line for _, line in _lines(path, place)]
    return sorted(_found(dict.fromkeys(names), snps, path, place))


def read_groups(path: str, snps: Snps, place: str) -> dict[str, list[int]]:
    """For each group the places of its SNPs; a SNP may be in several groups.

    Args:
        path: a file with lines of a group, a tab and an id.
        snps: those that there are.
        place: the config key that names the file.

    Raises:
        UserError: other lines, or ids that `snps` does not have, or has twice.
    """
    groups: dict[str, dict[str, None]] = {}
    for number, line in _lines(path, place):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 2 or not all(fields):
            raise UserError(Fault(place, f"{path} line {number}: {line[:40]!r} is not a group, a tab and a SNP"))
        group, name = fields
        groups.setdefault(group, {})[name] = None
    _found({name: None for names in groups.values() for name in names}, snps, path, place)
    return {group: sorted(snps.places[name] for name in names) for group, names in groups.items()}


def _lines(path: str, place: str) -> list[tuple[int, str]]:
    try:
        found = list(lines_of(Path(path).expanduser()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(Fault(place, f"{path} cannot be read ({error})")) from None
    if not found:
        raise UserError(Fault(place, f"{path} is empty"))
    return found


def _found(names: Mapping[str, None], snps: Snps, path: str, place: str) -> list[int]:
    unknown = [name for name in names if name not in snps.places]
    if unknown:
        shown = ", ".join(map(repr, unknown[:SHOWN])) + (", ..." if len(unknown) > SHOWN else "")
        message = f"{path} names {len(unknown):,} SNPs that there are not: {shown}"
        raise UserError(Fault(place, message + nearest(unknown[0], list(snps.places)[:10_000])))
    repeated = [name for name, count in Counter(snps.ids).items() if count > 1 and name in names]
    if repeated:
        raise UserError(Fault(place, f"{path} names {repeated[0]!r}, an id of several SNPs"))
    return [snps.places[name] for name in names]
