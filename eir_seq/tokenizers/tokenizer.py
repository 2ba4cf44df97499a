"""The one tokenizer class: what a model takes of texts, by calls with the names of published tokenizers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self

from eir_seq.errors import Fault, UserError
from eir_seq.tokenizers.backend import RoleId, RoleToken
from eir_seq.tokenizers.batch import BatchEncoding, as_ids
from eir_seq.tokenizers.calling import Call, Filling, Texts, call, pad
from eir_seq.tokenizers.chat import Conversation, render_all
from eir_seq.tokenizers.core import TokenizerCore
from eir_seq.tokenizers.framing import FIRST, SECOND


class Tokenizer(TokenizerCore):
    """Texts to token ids and back.

    Encoding neither truncates nor adds special tokens, so that the caller can choose which part of a long text to
    keep; `add_specials` then frames what is left as the format wants it.

    Attributes that can be set at any time: `padding_side`, `model_max_length` (what `truncation` cuts to where no
    `max_length` is given) and `clean_up_tokenization_spaces` (of decoded texts).
    """

    bos_token, eos_token, unk_token, sep_token = RoleToken(), RoleToken(), RoleToken(), RoleToken()
    pad_token, cls_token, mask_token = RoleToken(), RoleToken(), RoleToken()
    bos_token_id, eos_token_id, unk_token_id, sep_token_id = RoleId(), RoleId(), RoleId(), RoleId()
    pad_token_id, cls_token_id, mask_token_id = RoleId(), RoleId(), RoleId()

    LOAD: ClassVar[Callable[..., Any]]
    """`load_tokenizer`, which chooses among subclasses of this class; set in `eir_seq.tokenizers`."""

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | os.PathLike[str], **options: Any) -> Self:
        """As `load_tokenizer`.

        Raises:
            UserError: as there, or it is the tokenizer of another class.
        """
        tokenizer = cls.LOAD(folder_or_hub_id, **options)
        if not isinstance(tokenizer, cls):
            message = f"holds a {type(tokenizer).__name__}, not a {cls.__name__}; Tokenizer.from_pretrained opens both"
            raise UserError(Fault(str(folder_or_hub_id), message))
        return tokenizer

    def __call__(
        self,
        text: Texts | None = None,
        text_pair: Texts | None = None,
        *,
        text_target: Texts | None = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        padding_side: str | None = None,
        pad_to_multiple_of: int | None = None,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_offsets_mapping: bool = False,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_special_tokens_mask: bool = False,
        is_split_into_words: bool = False,
    ) -> BatchEncoding:
        """What a model takes of a text or of several: `input_ids`, `attention_mask`, `token_type_ids` if they differ.

        Args:
            text: a text, texts, or with `is_split_into_words` a list of words or several.
            text_pair: the second texts.
            text_target: the target; gives `labels` alongside a text, alone `input_ids`.
            padding: True or "longest" fills up to the longest, "max_length" to that; False or "do_not_pad": none.
            padding_side: "right", or "left", as for prompts to be continued; by default the attribute.
            pad_to_multiple_of: padded lengths are multiples of it.
            truncation: cut to `max_length` tokens, specials included; of a pair the longer one first (True or
                "longest_first"), or "only_first" or "only_second". By default `model_max_length`.
            return_tensors: "pt" for tensors, "np" for arrays ``(batch, length)``, also of a single text.
            return_offsets_mapping: add `offset_mapping`, the characters of each token.
            return_token_type_ids: give them in any case, or in none.
            return_attention_mask: give it in any case, or in none.
            return_special_tokens_mask: add `special_tokens_mask`, 1 at tokens around the text and at padding.

        Raises:
            UserError: arguments that do not go together.
        """
        how = Call(
            add_special_tokens=add_special_tokens,
            padding=padding,
            padding_side=self.padding_side if padding_side is None else padding_side,
            pad_to_multiple_of=pad_to_multiple_of,
            truncation=truncation,
            max_length=self._bound(max_length, truncation=truncation, padding=padding),
            return_tensors=return_tensors,
            return_offsets_mapping=return_offsets_mapping,
            return_token_type_ids=return_token_type_ids,
            return_attention_mask=self.gives_mask if return_attention_mask is None else return_attention_mask,
            return_special_tokens_mask=return_special_tokens_mask,
            is_split_into_words=is_split_into_words,
        )
        return call(self, text, text_pair, text_target, how)

    def _bound(self, max_length: int | None, *, truncation: bool | str, padding: bool | str) -> int | None:
        needed = truncation or padding == "max_length"
        return self.model_max_length if max_length is None and needed else max_length

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Fill up what calls gave: `input_ids`, `attention_mask`, `token_type_ids` and `special_tokens_mask`.

        Args:
            encoded_inputs: the result of a call, or those of several texts in a list; what else it holds stays.
            padding: as in a call, and so are `max_length`, `pad_to_multiple_of`, `padding_side`.
            return_attention_mask: give it in any case, or in none.
            return_tensors: as in a call; by default tensors and arrays are given back as what they were.

        Raises:
            UserError: no `input_ids`, or arguments that do not go together.
        """
        side = self.padding_side if padding_side is None else padding_side
        bound = self._bound(max_length, truncation=False, padding=padding)
        how = Filling(
            padding=padding,
            padding_side=side,
            pad_to_multiple_of=pad_to_multiple_of,
            max_length=bound,
            return_tensors=return_tensors,
        )
        masked = self.gives_mask if return_attention_mask is None else return_attention_mask
        return pad(self, encoded_inputs, how, masked=masked)

    def encode(self, text: str, text_pair: str | None = None, **options: Any) -> Any:
        """The `input_ids` of a call."""
        return self(text, text_pair, **options)["input_ids"]

    def apply_chat_template(
        self,
        conversation: Conversation | Sequence[Conversation],
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        *,
        tokenize: bool = True,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        padding: bool | str = False,
        padding_side: str | None = None,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = False,
        **variables: Any,
    ) -> Any:
        """The text of a conversation, or its token ids, as the model was taught to read one.

        Args:
            conversation: `[{"role": "user", "content": "Hello"}, ...]`, or several of them.
            tools: schemas of functions that the model may call.
            documents: what it may quote from.
            chat_template: a template, or the name of one of the tokenizer's own (`chat_templates`).
            tokenize: give the ids, else the text.
            add_generation_prompt: end with what opens the model's answer.
            continue_final_message: end with the last message, still open.
            padding: as in a call, and so are `padding_side`, `truncation`, `max_length` and `return_tensors`.
            return_dict: give what a call gives, not the `input_ids` alone.
            variables: further variables of the template.

        Raises:
            UserError: no template, or one that is broken or refuses the conversation.
        """
        tokens = {f"{role}_token": token for role, token in asdict(self.specials).items() if token is not None}
        variables = {"tools": tools, "documents": documents, **tokens, **variables}
        text = render_all(
            self.chat_templates,
            chat_template,
            conversation,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            **variables,
        )
        if not tokenize:
            return text
        batch = self(
            text,
            add_special_tokens=False,
            padding=padding,
            padding_side=padding_side,
            truncation=truncation,
            max_length=max_length,
            return_tensors=return_tensors,
        )
        return batch if return_dict else batch["input_ids"]

    def tokenize(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """The vocabulary entries of a text."""
        ids = self.encode_batch([text])[0].ids
        return self.tokens(self.add_specials(ids)[0] if add_special_tokens else ids)

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """The id of a vocabulary entry, or those of several; that of the unknown token for what is no entry."""
        if isinstance(tokens, str):
            number = self._backend.token_to_id(tokens)
            return self.unk_id if number is None else number
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The vocabulary entry of an id, or those of several; as `decode` takes them."""
        if not isinstance(ids, Iterable) or getattr(ids, "ndim", None) == 0:
            return self.tokens(ids)[0]
        return self.tokens([i for i in as_ids(ids) if not (skip_special_tokens and i in self.all_special_ids)])

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of vocabulary entries, special ones included."""
        return self.decode(self.convert_tokens_to_ids(tokens), clean_up_tokenization_spaces=False)

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """The text of each sequence of ids, in a list or as rows of an array or a tensor; as `decode`."""
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in sequences]

    def build_inputs_with_special_tokens(self, token_ids_0: Any, token_ids_1: Any = None) -> list[int]:
        """Ids with the special tokens of the format around them."""
        return self.add_specials(token_ids_0, token_ids_1)[0]

    def create_token_type_ids_from_sequences(self, token_ids_0: Any, token_ids_1: Any = None) -> list[int]:
        """Which text each token of `build_inputs_with_special_tokens` is of, zeros where the format does not tell."""
        return self.add_specials(token_ids_0, token_ids_1)[1]

    def get_special_tokens_mask(
        self,
        token_ids_0: Any,
        token_ids_1: Any = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 at the special tokens that the format adds, or that the ids have already, else 0."""
        if already_has_special_tokens:
            return [int(token_id in self.all_special_ids) for token_id in as_ids(token_ids_0)]
        first, second = [FIRST] * len(token_ids_0), None if token_ids_1 is None else [SECOND] * len(token_ids_1)
        return [int(token_id >= 0) for token_id in self.framing.apply(first, second)[0]]
