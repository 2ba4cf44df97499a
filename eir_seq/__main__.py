"""``python -m eir_seq COMMAND ...``: see `eir_seq.commands`."""

from __future__ import annotations

import sys

from eir_seq.commands import main

if __name__ == "__main__":
    sys.exit(main())
