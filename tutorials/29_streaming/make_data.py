"""Writes made-up messages to a help desk: ``python make_data.py [ROWS]`` writes eight Parquet files into shards/.

Each message tells of some devices. It is urgent if one of them stopped after it was working, and not if one works again
after it had stopped: the words are the same, their order decides. The files are of one month each and sorted by day.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS, SHARDS, ROW_GROUP = 24_000, 8, 500
DEVICES = ("printer", "router", "scanner", "screen", "server", "phone", "lamp", "lock")
FILLERS = ("in room {n}", "on floor {n}", "since {n} o'clock", "says colleague {n}", "as on day {n}", "for {n} people")


def message(urgent: bool, draw: random.Random) -> str:
    """One message."""
    filler = [draw.choice(FILLERS).format(n=draw.randint(1, 30)) for _ in range(draw.randint(0, 6))]
    first, then = ("working", "stopped") if urgent else ("stopped", "working")
    words = [f"the {draw.choice(DEVICES)} was {first}", "and then", f"it was {then}"]
    place = draw.randint(0, len(filler))
    return " ".join([*filler[:place], *words, *filler[place:]])


def main(rows: int = ROWS) -> None:
    """Write all files."""
    draw = random.Random(29)
    Path("shards").mkdir(exist_ok=True)
    for shard in range(SHARDS):
        labels = [draw.random() < 0.5 for _ in range(rows // SHARDS)]
        table = pa.table(
            {
                "id": [f"{shard + 1:02d}-{row}" for row in range(len(labels))],
                "message": [message(label, draw) for label in labels],
                "kind": ["urgent" if label else "routine" for label in labels],
            }
        )
        pq.write_table(table, f"shards/month-{shard + 1:02d}.parquet", row_group_size=ROW_GROUP)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
