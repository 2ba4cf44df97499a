"""``chat``: talk with a model that was trained on conversations."""

from __future__ import annotations

import sys
from typing import Any, Literal

from pydantic import Field

from eir_seq.commands.keys import local_run, read_keys
from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError
from eir_seq.machine import importing
from eir_seq.remote import named_by_url

_HELP = """\
  python -m eir_seq chat run=RUN [KEY=VALUE ...]

Each line that you type is a message of yours, which the model answers; it is given the whole conversation so far.
/reset begins a new one, /quit or the end of the input ends. Lines may come from a pipe.

{keys}
"""


class ChatConfig(Strict):
    """The keys of `chat`."""

    run: str | None = Field(None, description="run folder, or the bundle in it")
    bundle: str | None = Field(None, description="the same")
    system: str | None = Field(None, description="a system message before the conversation")
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field("auto", description="device")
    generation: dict[str, Any] = Field(
        {}, description="options of generate that override the run's, e.g. generation.do_sample=true"
    )


def run(arguments: list[str]) -> int:
    """Answer the lines of standard input until it ends."""
    if "--help" in arguments or "-h" in arguments or not arguments:
        fields = ChatConfig.model_fields.items()
        print(_HELP.format(keys="\n".join(f"  {name:<19} {field.description}" for name, field in fields)))
        return 0
    config = read_keys(arguments, ChatConfig, ("run", "bundle"), ("run", "bundle"))
    named = config.run or config.bundle
    if named is None or (config.run and config.bundle):
        problem = "is missing; name a run folder, or the bundle in it" if named is None else "is the same as bundle"
        raise UserError(Fault("run", problem, "command line"))
    with importing():
        from eir_seq.inference.chat import Dialogue, talk

    with named_by_url():
        dialogue = Dialogue.open(
            local_run(named), system=config.system, generation=config.generation, accelerator=config.accelerator
        )
    talk(dialogue, sys.stdin, prompt="> " if sys.stdin.isatty() else "")
    return 0
