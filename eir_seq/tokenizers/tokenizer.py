"""The one tokenizer class: text to ids and back, whatever made the vocabulary."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from eir_seq.errors import Fault, UserError
from eir_seq.tokenizers.backend import ROLES, Backend, Encoding, RoleId, RoleToken, SpecialTokens
from eir_seq.tokenizers.batch import BatchEncoding, as_ids, cleaned_up
from eir_seq.tokenizers.calling import Call, Filling, Texts, call, pad
from eir_seq.tokenizers.chat import Conversation, render_all, templates_as_json
from eir_seq.tokenizers.framing import FIRST, SECOND, Framing
from eir_seq.tokenizers.vocabulary import Vocabulary

CONFIG_FILE = "tokenizer_config.json"
_SENTINEL = re.compile(r"<extra_id_\d+>")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer(Vocabulary):
    """Texts to token ids and back.

    Encoding neither truncates nor adds special tokens, so that the caller can choose which part of a long text to
    keep; `add_specials` then frames what is left as the format wants it.

    Attributes that can be set at any time: `padding_side`, `model_max_length` (what `truncation` cuts to where no
    `max_length` is given) and `clean_up_tokenization_spaces` (of decoded texts).
    """

    padding_side: str = "right"
    model_max_length: int | None = None
    clean_up_tokenization_spaces: bool = False
    gives_mask: bool = True
    pad_token_type_id: int = 0
    bos_token, eos_token, unk_token, sep_token = RoleToken(), RoleToken(), RoleToken(), RoleToken()
    pad_token, cls_token, mask_token = RoleToken(), RoleToken(), RoleToken()
    bos_token_id, eos_token_id, unk_token_id, sep_token_id = RoleId(), RoleId(), RoleId(), RoleId()
    pad_token_id, cls_token_id, mask_token_id = RoleId(), RoleId(), RoleId()

    def __init__(self, backend: Backend, specials: SpecialTokens, framing: Framing) -> None:
        self._backend = backend
        self.specials = specials
        self.framing = framing
        self.vocab_size = backend.vocab_size
        self.chat_templates: dict[str, str] = {}
        self.token_type_ids_pattern: str | None = None
        ids = {role: None if (token := getattr(specials, role)) is None else self._id(token) for role in ROLES}
        self.bos_id, self.eos_id, self.unk_id = ids["bos"], ids["eos"], ids["unk"]
        self.sep_id, self.pad_id, self.cls_id, self.mask_id = ids["sep"], ids["pad"], ids["cls"], ids["mask"]

    def _id(self, token: str) -> int:
        token_id = self._backend.token_to_id(token)
        assert token_id is not None, f"special token {token!r} is not in the vocabulary"
        return token_id

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | os.PathLike[str], **options: Any) -> Self:
        """As `load_tokenizer`.

        Raises:
            UserError: as there, or it is the tokenizer of another class.
        """
        from eir_seq.tokenizers.published import load_tokenizer

        tokenizer = load_tokenizer(folder_or_hub_id, **options)
        if not isinstance(tokenizer, cls):
            message = f"holds a {type(tokenizer).__name__}, not a {cls.__name__}; Tokenizer.from_pretrained opens both"
            raise UserError(Fault(str(folder_or_hub_id), message))
        return tokenizer

    def set_type_ids(self, pattern: str) -> None:
        """Number the texts of a pair by a pattern: "all_zeros", or "bert_style" with 1 from the second text on."""
        as_before = self.gives_type_ids  # whether the format's model takes them does not change
        self.token_type_ids_pattern = pattern
        self.framing = self.framing.typed(pattern)
        self.gives_type_ids = as_before

    @cached_property
    def gives_type_ids(self) -> bool:
        """Whether a call gives `token_type_ids` unasked: where special tokens tell the texts of a pair apart, too."""
        pair = self.framing.pair
        return any(part.type_id for part in pair) and any(part.token >= 0 for part in pair)

    @property
    def model_input_names(self) -> list[str]:
        """What a call gives unasked."""
        types = ["token_type_ids"] if self.gives_type_ids else []
        return ["input_ids", *types, *(["attention_mask"] if self.gives_mask else [])]

    @property
    def target_framing(self) -> Framing:
        """The framing of a text that a sequence-to-sequence model is to write."""
        return self.framing

    @property
    def target_vocab_size(self) -> int:
        """One more than the largest id of a target text."""
        return self.vocab_size

    @property
    def target_language_id(self) -> int | None:
        """The token that names the language to write in, None if the format names none."""
        return None

    @property
    def add_prefix_space(self) -> bool | None:
        """Whether a byte-level vocabulary reads the first word as any other, None if there is no such choice."""
        option: bool | None = self._backend.options().get("add_prefix_space")
        return option

    def encode_batch(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, offsets: bool = False
    ) -> list[Encoding]:
        """Tokens of each text (followed by those of its pair), untruncated and without special tokens around them.

        Lone surrogates, which no encoding can express, are read as U+FFFD.

        Raises:
            UserError: the vocabulary came from a broken or hostile file and cannot encode a text.
        """
        assert pairs is None or len(pairs) == len(texts), "as many pairs as texts"
        everything = [*texts, *(pairs or ())]
        try:
            "".join(everything).encode()
        except UnicodeEncodeError:
            everything = [_SURROGATE.sub("\ufffd", text) for text in everything]
        encoded = self._backend.encode(everything, offsets=offsets)
        if pairs is None:
            return [Encoding(ids, [0] * len(ids), spans) for ids, spans in encoded]
        return [
            Encoding(
                first + second,
                [0] * len(first) + [1] * len(second),
                None if first_spans is None or second_spans is None else first_spans + second_spans,
            )
            for (first, first_spans), (second, second_spans) in zip(
                encoded[: len(texts)], encoded[len(texts) :], strict=True
            )
        ]

    def add_specials(self, ids: Any, pair_ids: Any = None) -> tuple[list[int], list[int]]:
        """Token ids with the special tokens of the format around them, and their type ids; each `(length,)`."""
        return self.framing.apply(as_ids(ids), None if pair_ids is None else as_ids(pair_ids))

    def add_target_specials(self, ids: Any) -> tuple[list[int], list[int]]:
        """As `add_specials`, for a text that a sequence-to-sequence model is to write.

        Most formats make no difference; those that name the language of a text name that of the target.
        """
        return self.target_framing.apply(as_ids(ids))

    def encode_targets(self, texts: Sequence[str]) -> list[Encoding]:
        """As `encode_batch`, for texts that a sequence-to-sequence model is to write."""
        return self.encode_batch(texts)

    def num_specials(self, pair: bool = False) -> int:
        """How many tokens `add_specials` adds."""
        return self.framing.count(pair=pair)

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> str:
        """The text of token ids; exact for byte and byte-level vocabularies, else as near as the vocabulary allows.

        Args:
            token_ids: of one text, in a list, an array or a tensor; or a single id.
            skip_special_tokens: leave special tokens out.
            clean_up_tokenization_spaces: take the spaces before punctuation marks away; as the attribute of that
                name if None.

        Raises:
            ValueError: an id is outside of the vocabulary, or these are not the ids of one text.
        """
        ids = as_ids(token_ids)
        self._check_range(ids)
        text = self._backend.decode(ids, skip_specials=skip_special_tokens)
        clean = clean_up_tokenization_spaces
        clean = self.clean_up_tokenization_spaces if clean is None else clean
        return cleaned_up(text) if clean else text

    def tokens(self, ids: Any) -> list[str]:
        """The vocabulary entry of each id.

        Raises:
            ValueError: as `decode`.
        """
        known = as_ids(ids)
        self._check_range(known)
        return [self._backend.id_to_token(token_id) or "" for token_id in known]

    def _check_range(self, ids: Sequence[int]) -> None:
        if len(ids) and not (min(ids) >= 0 and max(ids) < self.vocab_size):
            raise ValueError(f"token ids must lie between 0 and {self.vocab_size - 1}: {min(ids)} to {max(ids)} given")

    def token_to_id(self, token: str) -> int | None:
        """Id of a vocabulary entry, None if there is no such entry."""
        return self._backend.token_to_id(token)

    def seed_sampling(self, seed: int) -> None:
        """Restart what `sp_model_kwargs` lets the vocabulary draw; the same calls then give the same tokens."""
        self._backend.seed(seed)

    # ------------------------------------------------------------------------------- methods with published names

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

    @cached_property
    def all_special_ids(self) -> frozenset[int]:
        """Ids of the tokens that play a role, and of further special tokens."""
        roles = (self._backend.token_to_id(token) for token in asdict(self.specials).values() if token is not None)
        return self._backend.special_ids.union(token_id for token_id in roles if token_id is not None)

    def get_sentinel_tokens(self) -> list[str]:
        """The tokens that stand for gaps (`<extra_id_0>`, `<extra_id_1>` ...), in order; T5's have falling ids."""
        specials = (self._backend.id_to_token(token_id) or "" for token_id in self._backend.special_ids)
        return sorted(filter(_SENTINEL.fullmatch, specials), key=lambda token: int(token[10:-1]))

    def get_sentinel_token_ids(self) -> list[int]:
        """Ids of `get_sentinel_tokens`."""
        return [self._id(token) for token in self.get_sentinel_tokens()]

    def save_vocabulary(self, save_directory: str | Path, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the published files of the vocabulary alone; their paths."""
        folder, prefix = Path(save_directory), f"{filename_prefix}-" if filename_prefix else ""
        if not folder.is_dir():
            raise UserError(Fault(str(folder), "no such folder"))
        paths = []
        for name, content in self._backend.vocabulary_files().items():
            (folder / f"{prefix}{name}").write_bytes(content)
            paths.append(str(folder / f"{prefix}{name}"))
        return tuple(paths)

    def fingerprint(self) -> str:
        """Hash of all that decides the ids of a text; equal for a tokenizer and its saved copy."""
        state = hashlib.sha256()
        for name, content in sorted(self._backend.files().items()):
            state.update(name.encode() + b"\0" + len(content).to_bytes(8, "big") + content)
        settings = (asdict(self.specials), asdict(self.framing), self._options())
        state.update(json.dumps(settings, sort_keys=True).encode())
        return state.hexdigest()

    def _options(self) -> dict[str, Any]:
        return self._backend.options()

    def save(self, folder: str | Path) -> None:
        """Write the published files of the vocabulary and a `tokenizer_config.json` into `folder` (made if absent).

        `load_tokenizer(folder)` gives an equal tokenizer back, and so do other readers of the published formats.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._backend.files().items():
            (folder / name).write_bytes(content)
        config = {f"{role}_token": getattr(self.specials, role) for role in ROLES} | self._options()
        config |= templates_as_json(self.chat_templates) | {"padding_side": self.padding_side}
        config |= {"clean_up_tokenization_spaces": self.clean_up_tokenization_spaces}
        config |= {"model_input_names": self.model_input_names}
        further = {"model_max_length": self.model_max_length, "token_type_ids_pattern": self.token_type_ids_pattern}
        config |= {name: value for name, value in further.items() if value is not None}
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    save_pretrained = save

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._backend).__name__}, vocab_size={self.vocab_size})"
