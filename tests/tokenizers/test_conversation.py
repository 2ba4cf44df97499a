"""Conversations as tokens: which of them are answers, what stays of long ones, and what no conversation is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eir_seq.config.outputs import Conversation
from eir_seq.errors import UserError
from eir_seq.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from eir_seq.tokenizers.conversation import (
    CannotWrite,
    Chat,
    find_template,
    message_fault,
    prepare_trained,
    shown,
    template_of,
)
from eir_seq.tokenizers.conversation_rows import answers_of, prompts_of

SYSTEM = {"role": "system", "content": "Be kind."}
TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello you"},
    {"role": "user", "content": "Bye?"},
    {"role": "assistant", "content": "Bye."},
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRICT = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must take turns') }}{% endif %}[{{ m.role }}]{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"  # noqa: E501
FORGETFUL = "{% for m in messages %}{{ m.role }}:{% if loop.last or m.role == 'user' %}{{ m.content }}{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"  # noqa: E501


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    trained = train_tokenizer("byte", [])
    prepare_trained(trained)
    return trained


def chat(tokenizer: Tokenizer, template: str | None = None) -> Chat:
    return Chat(tokenizer, find_template(tokenizer, template, "outputs.a.chat_template"), "outputs.a.chat_template")


def learned(own: Chat, messages: Any, **options: Any) -> str:
    found = own.spoken(messages, **options)
    return own.tokenizer.decode(found.ids[found.learned])


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("answers", "Hello you<|end|>Bye.<|end|>"),
        ("last", "Bye.<|end|>"),
        ("all", "<|user|>Hi<|end|><|assistant|>Hello you<|end|><|user|>Bye?<|end|><|assistant|>Bye.<|end|>"),
    ],
)
def test_answers_with_their_ends_are_learned(tokenizer: Tokenizer, which: Any, expected: str) -> None:
    assert learned(chat(tokenizer), TALK, learned=which) == expected


def test_the_ids_are_those_of_the_template(tokenizer: Tokenizer) -> None:
    own = chat(tokenizer)
    found = own.spoken(TALK)
    assert found.ids.tolist() == tokenizer.apply_chat_template(TALK)
    prompt = own.prompt(TALK[:-1])
    assert prompt.tolist() == tokenizer.apply_chat_template(TALK[:-1], add_generation_prompt=True)
    assert found.ids[: found.answer].tolist() == prompt.tolist(), "the answer is learned after what precedes it later"
    assert own.end == tokenizer.token_to_id("<|end|>") == found.ids[-1]


def test_the_end_of_a_turn_is_learned_and_not_what_follows_it() -> None:
    trained = train_tokenizer("byte", [])
    trained.add_tokens(["<|im_start|>", "<|im_end|>"])
    spaced = [*TALK[:1], {"role": "assistant", "content": "  Hello  "}]
    assert learned(chat(trained, CHATML), TALK) == "Hello you<|im_end|>Bye.<|im_end|>"
    assert learned(chat(trained, CHATML), spaced) == "Hello<|im_end|>"


def test_a_tokenizer_without_a_template_gets_a_plain_one_that_ends_with_its_own_token() -> None:
    trained = train_tokenizer("byte", [])  # as that of a language model: its special tokens are not read from texts
    own = chat(trained)
    assert own.end == trained.sep_id
    text = "<|user|>\nHi[SEP]\n<|assistant|>\nHello you[SEP]\n<|user|>\nBye?[SEP]\n<|assistant|>\nBye.[SEP]\n"
    found = own.spoken(TALK)
    assert trained.decode(found.ids) == text
    assert (found.ids == trained.sep_id).sum() == 4
    assert learned(own, TALK) == "Hello you[SEP]Bye.[SEP]"


@pytest.mark.parametrize("kind", ["word", "character", "bpe", "unigram", "wordpiece"])
def test_every_trained_tokenizer_knows_the_marks(kind: str, tmp_path: Path) -> None:
    options = {} if kind in ("word", "character") else {"vocab_size": 300}
    trained = train_tokenizer(kind, ["Hi Hello you Bye . ? Be kind " * 30], **options)
    prepare_trained(trained)
    trained.save(tmp_path)
    for tokenizer in (trained, load_tokenizer(tmp_path)):
        own = chat(tokenizer)
        tokens = tokenizer.tokens(own.spoken(TALK).ids)
        assert tokens[0] == "<|user|>"
        assert [token for token in tokens if token.startswith("<|")] == [
            "<|user|>",
            "<|end|>",
            "<|assistant|>",
            "<|end|>",
        ] * 2
        assert learned(own, TALK).replace(" ", "") == "Helloyou<|end|>Bye.<|end|>"


def test_the_oldest_turns_of_long_conversations_are_left_out(tokenizer: Tokenizer) -> None:
    own = chat(tokenizer)
    whole = own.spoken([SYSTEM, *TALK])
    cut = own.spoken([SYSTEM, *TALK], "answers", len(whole.ids) - 1)
    assert cut.ids.tolist() == own.spoken([SYSTEM, *TALK[2:]]).ids.tolist()
    assert (cut.total, whole.total) == (len(whole.ids), len(whole.ids))
    assert tokenizer.decode(cut.ids[cut.learned]) == "Bye.<|end|>"
    prompt = own.prompt([SYSTEM, *TALK[:3]], 25)
    assert tokenizer.decode(prompt) == "<|system|>Be kind.<|end|><|user|>Bye?<|end|><|assistant|>"
    assert tokenizer.decode(own.prompt([SYSTEM, *TALK[:3]], 4)) == "e?<|end|><|assistant|>", "its end stays"


@pytest.mark.parametrize("length", [3, 8, 12, 16, 20])
def test_what_stays_of_a_long_turn_has_the_answer(tokenizer: Tokenizer, length: int) -> None:
    talk = [{"role": "user", "content": "q" * 30}, {"role": "assistant", "content": "0123456789"}]
    found = chat(tokenizer).spoken(talk, "answers", length)
    assert len(found.ids) == len(found.learned) == length
    assert found.answer >= max(length - 11, length // 4), "a part of the prompt stays"
    assert found.learned.tolist() == [place >= found.answer for place in range(length)]
    assert (
        tokenizer.decode(found.ids[found.answer :])
        == "0123456789<|end|>"[: length - found.answer if length < 15 else None]
    )


def test_the_template_refuses(tokenizer: Tokenizer) -> None:
    own = chat(tokenizer, STRICT)
    assert learned(own, TALK) == "Hello you<|end|>Bye.<|end|>"
    with pytest.raises(CannotWrite, match=r"roles must take turns$"):
        own.spoken([TALK[0], TALK[0], TALK[1]])
    forgetful = chat(tokenizer, FORGETFUL)
    assert learned(forgetful, TALK, learned="last") == "Bye.<|end|>"
    with pytest.raises(CannotWrite, match="train_on: last learns the last answer alone"):
        forgetful.spoken(TALK)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            "the template writes nothing after an answer; one token",
        ),
        (
            "{% for m in messages %}{{ m.content }} end{% endfor %}",
            "the template writes 'end' (3 tokens) after an answer; one token",
        ),
        ("{{ nothing.there.at.all }}", "cannot write a question and its answer: 'nothing' is undefined"),
        ("{% for %}", "cannot write a question and its answer: Expected an expression"),
        ("missing.jinja", "'missing.jinja' cannot be read"),
        ("chatlm", "'chatlm' is no template (those of the tokenizer: default); give a name of these, a file (.jinja)"),
    ],
)
def test_templates_of_no_use(tokenizer: Tokenizer, template: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        chat(tokenizer, template)
    assert f"outputs.a.chat_template: {message}" in str(raised.value)


def test_a_template_of_a_file_and_one_by_name(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(STRICT)
    assert find_template(tokenizer, str(tmp_path / "own.jinja"), "") == STRICT
    assert find_template(tokenizer, "default", "") == template_of("<|end|>")


@pytest.mark.parametrize(
    ("value", "answered", "message"),
    [
        ("text", True, """is 'text', not a list of messages such as [{"role": "user", "content": "Hello"}]"""),
        ([], True, "has no message"),
        (["hi"], True, "has a message 1 without role and content"),
        ([{"role": "user"}], True, "has a message 1 without role and content"),
        ([{"role": "asistant", "content": "x"}], True, "has the unknown role 'asistant' (message 1; system, user, assistant, tool); did you mean 'assistant'?"),  # noqa: E501
        ([{"role": "user", "content": 3}], True, "has a message 1 whose content is no text"),
        ([TALK[0], {"role": "assistant", "content": " "}], True, "has a message 2 (assistant) without content"),
        ([{"role": "user", "content": "\0"}], True, "has a NUL character in message 1"),
        ([TALK[1]], True, "has no message of the user"),
        (TALK[:3], True, "does not end with an answer of the assistant, but with the role 'user'"),
        (TALK[:3], False, None),
        (TALK, True, None),
    ],
)  # fmt: skip
def test_what_no_conversation_is(value: Any, answered: bool, message: str | None) -> None:
    assert message_fault(value, answered=answered) == message


def test_rows_to_conversations() -> None:
    rows: dict[str, Any] = {"q": ["a", "b"], "s": ["be", None], "r": ["x", None]}
    spoken = Conversation(prompt="q", answers=("r",), system="s")
    user = [{"role": "user", "content": content} for content in "ab"]
    assert prompts_of(spoken, rows) == [[{"role": "system", "content": "be"}, user[0]], [user[1]]]
    assert answers_of(spoken, rows) == [["x", None]]
    cells = [
        '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}]',
        '[{"role": "user", "content": "b"}]',
    ]
    spoken = Conversation(messages="m")
    assert prompts_of(spoken, {"m": cells}) == [[user[0]], [user[1]]]
    assert answers_of(spoken, {"m": cells}) == [["x", None]]
    assert shown(user[:1]) == "a"
    assert shown(TALK[:2]) == "user: Hi\nassistant: Hello you"


def test_offsets_are_those_of_the_text(tokenizer: Tokenizer) -> None:
    talk = [{"role": "user", "content": "ä é"}, {"role": "assistant", "content": "über 日本"}]
    found = chat(tokenizer).spoken(talk)
    assert tokenizer.decode(found.ids[found.learned]) == "über 日本<|end|>"
    assert found.learned.dtype == np.bool_


@pytest.mark.parametrize("opened", [False, True])
def test_the_plain_template_is_written_without_a_process_as_with_one(tokenizer: Tokenizer, opened: bool) -> None:
    bare = train_tokenizer("byte", [])
    for known in (tokenizer, bare):
        own = chat(known)
        text = known.apply_chat_template(TALK, chat_template=own.template, tokenize=False, add_generation_prompt=opened)
        assert own._plain is not None
        assert own._render(TALK, opened=opened) == text
    assert chat(tokenizer, STRICT)._plain is None
