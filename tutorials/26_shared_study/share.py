"""Two processes share a study through a PostgreSQL of their own: ``python share.py``."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDERS = ("sweeps/first", "sweeps/second")
WORDS = (
    "experiment=reviews",
    "sweep=pooling",
    "sweep.trials=4",
    "data.limit=300",
    "trainer.max_epochs=1",
    "trainer.threads=1",
)


@contextmanager
def database() -> Iterator[str]:
    """The URL of a server on a free port, which lives as long as it is needed."""
    user = "nobody" if os.getuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="postgres_"))
    if user is not None:
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    data = ("-D", str(folder / "data"))
    subprocess.run(
        ["initdb", *data, "-U", "me", "-A", "trust"], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    settings = ("-p", port, "-k", str(folder), "-h", "127.0.0.1")
    server = subprocess.Popen(["postgres", *data, *settings], user=user, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            time.sleep(0.1)
        yield f"postgresql://me:password@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def main(*words: str) -> None:
    """Run the search twice at once, and say who ran what."""
    with database() as url:
        command = [sys.executable, "-m", "eir_seq", "sweep", *WORDS, *words, f"sweep.storage={url}"]
        workers = [subprocess.Popen([*command, f"sweep.dir={folder}"]) for folder in FOLDERS]
        assert [worker.wait() for worker in workers] == [0, 0]
    for folder in FOLDERS:
        with open(f"{folder}/trials.csv", encoding="utf-8") as file:
            numbers = [row["number"] for row in csv.DictReader(file) if Path(folder, row["number"]).is_dir()]
        print(f"{folder} ran the trials {' and '.join(numbers)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
