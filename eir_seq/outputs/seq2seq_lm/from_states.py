"""A text that a decoder of the output's own writes from the states of any inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from eir_seq.backbones import SEQ2SEQ, build_decoder, compute_as
from eir_seq.config.outputs import OutputBase
from eir_seq.config.tokenizers import PublishedTokenizerConfig, WordTokenizerConfig
from eir_seq.errors import Fault, UserError
from eir_seq.models.options import fields
from eir_seq.outputs.base import FittedOutput, TargetRows
from eir_seq.outputs.generation.source import TextSource
from eir_seq.outputs.seq2seq_lm.config import Seq2SeqLmOutputConfig
from eir_seq.outputs.seq2seq_lm.decoder import CausalStateDecoder, StateDecoder
from eir_seq.outputs.seq2seq_lm.fitted import FittedSeq2SeqLm, Seq2SeqLmState
from eir_seq.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from eir_seq.tokenizers.targets import encode_targets, padded_labels, target_end, target_frame


class FittedTextFromStates(FittedSeq2SeqLm):
    """A sequence-to-sequence output with its own decoder and tokenizer.

    Targets are labels, (rows, longest target), -100 after their ends.
    """

    backbone_task = None

    def __init__(self, state: Seq2SeqLmState, tokenizer: Tokenizer) -> None:
        super().__init__(state)
        self.tokenizer = tokenizer

    def renamed(self, name: str, config: OutputBase) -> Self:
        """The same tokenizer, as the output `name` that has this config."""
        return type(self)(self._state.model_copy(update={"name": name, "config": config}), self.tokenizer)

    def same_state(self, other: FittedOutput) -> bool:
        """Whether the tokenizers give the same ids."""
        own = self.tokenizer.fingerprint()
        return isinstance(other, FittedTextFromStates) and other.tokenizer.fingerprint() == own

    @property
    def frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before a target and after it."""
        return target_frame(self.tokenizer, f"{self._place}.tokenizer")

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """The tokens of each text, Int32Tensor (rows, longest), -100 after its end."""
        del ids
        column, config = rows[self.config.column], self.config
        return padded_labels(
            encode_targets(self.tokenizer, list(column), config.max_length, f"{self._place}.tokenizer")
        ).int()

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """The tokens of each row that are to be found, (batch, 1)."""
        del inputs
        found = target[:, self._given_tokens :] if target.shape[1] > self._given_tokens else target
        return (found >= 0).sum(dim=1, keepdim=True)

    def build_state_head(self, sizes: Mapping[str, int], *, pretrained: bool) -> StateDecoder:
        """The decoder, with a projection of the states of each input.

        Raises:
            UserError: options that do not fit together, or texts longer than the decoder's positions.
        """
        model = self.config.model
        assert model is not None
        backbone = build_decoder(model, self.tokenizer, self._place, stored=self._state.backbone, pretrained=pretrained)
        places = backbone.config.target_positions()
        if places is not None and self.config.max_length > places:
            message = f"{self.config.max_length} tokens of a target are more than the {places} positions"
            raise UserError(Fault(f"{self._place}.max_length", f"{message} of {model.model_type!r}"))
        if model.pretrained_model:
            options = {name: getattr(backbone.config, name) for name in fields(type(backbone.config))}
            self._state = self._state.model_copy(
                update={"backbone": {"model_type": backbone.config.model_type, "options": options}}
            )
        compute_as(backbone, model, f"{self._place}.model", pretrained=pretrained)
        before, after = self.frame
        pair = backbone.task == SEQ2SEQ
        start = backbone.head.config.decoder_start_id if pair else [*before, *after][0]
        self._given_tokens = int(before[:1] == [start])
        frozen = model.freeze_pretrained_model
        kind = StateDecoder if pair else CausalStateDecoder
        return kind(
            backbone, sizes, self.config.label_smoothing, start=start, given_tokens=self._given_tokens, frozen=frozen
        )

    def text_source(self, network: Any, inputs: Mapping[str, Any]) -> TextSource:
        """The decoder, which writes from the states of its inputs."""
        head = network.head(self.name)
        assert self._state.longest is not None
        longest = self._state.longest
        if (places := head.backbone.config.target_positions()) is not None:
            longest = min(longest, places - 1)

        def read(batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
            memory: Mapping[str, Tensor] = head.memory(network.states_for(self.name, batch))
            return {**memory, **network.messages_for(self.name)}

        names = list(self.config.state_inputs(list(inputs)))
        before, after = self.frame
        end = target_end(self.tokenizer, f"{self._place}.tokenizer")
        rows, column = self.config.generate_rows, self.config.column
        return TextSource(names, read, head, self.tokenizer, before, after, end, longest, column, rows)

    def describe(self) -> dict[str, Any]:
        """Type, inputs, column and tokens."""
        return {
            "type": self.config.type,
            "inputs": "all" if self.config.inputs is None else ", ".join(self.config.inputs),
            "column": self.config.column,
            "vocab_size": self.tokenizer.vocab_size,
        }

    def save(self, path: Path) -> None:
        """Write the state as JSON, and the files of the tokenizer into the folder next to it."""
        self.tokenizer.save(tokenizer_folder(path))
        super().save(path)

    @property
    def _place(self) -> str:
        return f"outputs.{self.name}"

    _given_tokens: int = 0


def fit_text_from_states(name: str, config: Seq2SeqLmOutputConfig, train_rows: TargetRows) -> FittedTextFromStates:
    """The output with a tokenizer that is trained on the training texts, or the published one of its model.

    Raises:
        UserError: no tokenizer can be had.
    """
    model = config.model
    assert model is not None
    choice = config.tokenizer or (PublishedTokenizerConfig() if model.pretrained_model else WordTokenizerConfig())
    if (published := choice.published) is not None:
        tokenizer = load_tokenizer(published.path or model.model_type, **published.options)
    else:
        texts = (text for text in train_rows[config.column] if text is not None)
        tokenizer = train_tokenizer(choice, texts)
    place = f"outputs.{name}.tokenizer"
    targets = encode_targets(tokenizer, list(train_rows[config.column]), config.max_length, place)
    longest = max(map(len, targets))
    return FittedTextFromStates(Seq2SeqLmState(name=name, config=config, longest=longest), tokenizer)


def tokenizer_folder(path: Path) -> Path:
    """The folder of the tokenizer of an output that is saved as `path`."""
    return path.with_suffix("")
