"""``python -m eir_seq.training.worker``: a further process of a training, as `eir_seq.training.launch` starts it.

It reads the experiment from its first line of input and ends when its input does, which is when the process that
started it has ended.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from eir_seq import plugins
from eir_seq.errors import EXIT_RUN_FAILED, RunFailed, UserError


def main() -> int:
    """Take part in a training; returns the exit code."""
    content = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    plugins.load(content["plugins"])
    from eir_seq.config.schema import ExperimentConfig
    from eir_seq.training.run import failure_of, train

    config = ExperimentConfig.model_validate_json(json.dumps(content["config"]))
    try:
        train(config)
    except (UserError, RunFailed) as error:
        return _report(error)
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        return _report(failure)
    return 0


def _report(error: Exception) -> int:
    print(error, file=sys.stderr, flush=True)
    return EXIT_RUN_FAILED


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
