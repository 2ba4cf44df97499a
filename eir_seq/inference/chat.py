"""A conversation with the model of a finished run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from eir_seq.errors import Fault, UserError
from eir_seq.inference.predict import find_bundle
from eir_seq.outputs.generation.answers import Answering
from eir_seq.outputs.generation.completion import check_generation
from eir_seq.randomness import derive_seed
from eir_seq.tokenizers.conversation import SYSTEM, USER
from eir_seq.tokenizers.conversation_rows import Messages, with_answer
from eir_seq.training.bundle import Bundle, read_bundle
from eir_seq.training.devices import pick_device

RESET, QUIT, COMMANDS = "/reset", "/quit", "/reset begins a new conversation, /quit ends"


class Dialogue:
    """Messages of the user and answers of the model.

    Args:
        bundle: of a run with an output that answers in conversations.
        system: a system message before each conversation.
        generation: options of `generate` that replace those of the run.
        accelerator: auto, cpu, gpu or mps.

    Raises:
        UserError: no output answers in conversations, options that `generate` does not have, no such device.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        system: str | None = None,
        generation: Mapping[str, Any] = MappingProxyType({}),
        accelerator: str = "auto",
    ) -> None:
        outputs = [output for output in bundle.outputs.values() if output.config.conversation is not None]
        if not outputs:
            kinds = ", ".join(f"{name}: {output.config.type}" for name, output in bundle.outputs.items())
            message = f"its model was not trained on conversations ({kinds}); predict uses it"
            raise UserError(Fault("run", message))
        output = outputs[0].writing_with(generation)
        check_generation(output.config.generation_options or {}, "generation")
        device = pick_device(accelerator)
        answering = output.text_source(bundle.network.to(device).eval(), bundle.inputs)
        assert isinstance(answering, Answering)
        self._answering, self._seed, self._answers = answering, bundle.config.seed, 0
        self._system: Messages = [] if system is None else [{"role": SYSTEM, "content": system}]
        self.messages: Messages = [*self._system]

    @classmethod
    def open(cls, run: Path, **options: Any) -> Dialogue:
        """The dialogue with the model of a run folder or a bundle."""
        return cls(read_bundle(find_bundle(run)), **options)

    def reset(self) -> None:
        """Begin a new conversation."""
        self.messages = [*self._system]

    def say(self, text: str) -> str:
        """What the model answers to the next message of the user.

        Raises:
            UserError: the template refuses the conversation; it is as before.
        """
        messages: Messages = [*self.messages, {"role": USER, "content": text}]
        complete = self._answering.complete
        ids = self._answering.fitted.prompt_of(messages, complete.room)
        self._answers += 1
        [answer] = complete.after([ids], seed=derive_seed(self._seed, "chat", self._answers))
        self.messages = with_answer(messages, answer)
        return answer


def talk(dialogue: Dialogue, lines: TextIO, *, prompt: str = "", out: TextIO | None = None) -> None:
    """Answer line by line, until there are no more or one is `/quit`; blank lines are left out."""
    out = sys.stdout if out is None else out
    if prompt:
        print(COMMANDS, file=out)
    while True:
        out.write(prompt)
        out.flush()
        line = lines.readline()
        text = line.strip()
        if not line or text == QUIT:
            return
        if text == RESET:
            dialogue.reset()
        elif text.startswith("/") and text[1:].isalpha():
            print(f"{text} is no command: {COMMANDS}", file=out)
        elif text:
            print(dialogue.say(text), file=out, flush=True)
