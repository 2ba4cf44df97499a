"""Conversations by the published template: equal to the reference's texts and ids; what a template must not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eir_seq.errors import UserError
from eir_seq.tokenizers import Tokenizer, load_tokenizer

pytest.importorskip("transformers", reason="the reference implementation is not installed")

import transformers

from tests.tokenizers.architecture_folders import make

GEMMA = """{{ bos_token }}{% for message in messages %}
{% if message.role not in ['user', 'assistant'] %}{{ raise_exception('no role ' + message.role) }}{% endif %}
{% if (message['role'] == 'assistant') %}
    {% set role = 'model' %}
{% else %}
    {% set role = message['role'] %}
{% endif %}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<start_of_turn>model\n' }}
{% endif %}"""
FEATURES = """{%- for message in messages -%}
{%- if loop.index > 3 -%}{%- break -%}{%- endif -%}
{{ message.role }}: {% generation %}{{ message.content }}{% endgeneration %};
{%- endfor -%}
{%- if tools is not none -%}{{ tools | tojson(indent=1) }}{%- endif -%}
{%- if tone is defined -%}{{ tone }} {{ strftime_now('%Y') | length }}{%- endif -%}"""
HELLO = [{"role": "user", "content": "  Translate <b>\u00e4</b> to Chinese. "}]
TURNS = [*HELLO, {"role": "assistant", "content": "Sure: "}, {"role": "user", "content": "Thanks!"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gemma")
    make("t5gemma", folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GemmaTokenizer", "chat_template": GEMMA})
    )
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[Tokenizer, Any]:
    return load_tokenizer(folder), transformers.GemmaTokenizer.from_pretrained(str(folder))


@pytest.mark.parametrize("messages", [HELLO, TURNS, [HELLO, TURNS]])
@pytest.mark.parametrize("prompt", [False, True])
def test_as_the_reference(both: tuple[Tokenizer, Any], messages: Any, prompt: bool) -> None:
    ours, theirs = both
    options = {"add_generation_prompt": prompt}
    text = ours.apply_chat_template(messages, tokenize=False, **options)
    assert text == theirs.apply_chat_template(messages, tokenize=False, **options)
    assert ours.apply_chat_template(messages, **options) == theirs.apply_chat_template(messages, **options)
    cut = options | {"truncation": True, "max_length": 9, "return_dict": True}
    assert ours.apply_chat_template(messages, **cut) == dict(theirs.apply_chat_template(messages, **cut))


def test_tensors(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    ids = ours.apply_chat_template(HELLO, return_tensors="pt")
    assert ids.tolist() == theirs.apply_chat_template(HELLO, return_tensors="pt").tolist()
    batch = ours.apply_chat_template([HELLO, TURNS], return_tensors="pt", padding=True, return_dict=True)
    assert batch["attention_mask"].sum(1).tolist() == [len(row) for row in ours.apply_chat_template([HELLO, TURNS])]


def test_what_templates_use(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    tools = [{"name": "f", "text": "<\u00e9>"}]
    for given in ({}, {"tools": tools}, {"tone": "kind"}):
        options = {"chat_template": FEATURES, "tokenize": False, **given}
        messages = [*TURNS, *TURNS]
        assert ours.apply_chat_template(messages, **options) == theirs.apply_chat_template(messages, **options)


@pytest.mark.parametrize("messages", [TURNS[:2], [*TURNS[:1], {"role": "assistant", "content": "It is"}]])
def test_the_final_message_goes_on(both: tuple[Tokenizer, Any], messages: Any) -> None:
    ours, theirs = both
    for template in (None, FEATURES):
        options = {"chat_template": template, "tokenize": False, "continue_final_message": True}
        expected = theirs.apply_chat_template(messages, **options)
        assert ours.apply_chat_template(messages, **options) == expected
        assert expected.rstrip().endswith(messages[-1]["content"].rstrip())


def test_where_a_template_stands(folder: Path, tmp_path: Path) -> None:
    make("t5gemma", tmp_path)
    config = {"tokenizer_class": "GemmaTokenizer"}
    listed = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools | length }}"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": listed}))
    several = load_tokenizer(tmp_path)
    assert several.apply_chat_template(HELLO, tokenize=False) == "plain"
    assert several.apply_chat_template(HELLO, tools=[{}], tokenize=False) == "1"
    assert several.apply_chat_template(HELLO, tools=[{}], chat_template="default", tokenize=False) == "plain"
    several.save(tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy").chat_templates == several.chat_templates
    (tmp_path / "chat_template.jinja").write_text("from its own file")
    assert load_tokenizer(tmp_path).apply_chat_template(HELLO, tokenize=False) == "from its own file"
    assert load_tokenizer(tmp_path, chat_template="given").apply_chat_template(HELLO, tokenize=False) == "given"
    load_tokenizer(folder).save(tmp_path / "again")
    theirs = transformers.GemmaTokenizer.from_pretrained(str(tmp_path / "again"))
    text = load_tokenizer(tmp_path / "again").apply_chat_template(TURNS, tokenize=False)
    assert text == theirs.apply_chat_template(TURNS, tokenize=False)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__.os }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{% include '/etc/passwd' %}",
        "{{ cycler.__init__.__globals__.os }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(both: tuple[Tokenizer, Any], template: str) -> None:
    with pytest.raises(UserError, match="chat_template: cannot render this conversation") as raised:
        both[0].apply_chat_template(TURNS, chat_template=template)
    assert len(str(raised.value).splitlines()) == 1


def test_faults(both: tuple[Tokenizer, Any], tmp_path: Path) -> None:
    ours = both[0]
    for arguments, message in (
        ({"chat_template": "{% if %}"}, "Expected an expression, got 'end of statement block' (line 1)"),
        ({"chat_template": "defalt"}, "'defalt' is not one of default; did you mean 'default'?"),
        ({"chat_template": "{{ 1 / 0 }}"}, "cannot render this conversation: division by zero"),
        ({"chat_template": "{{ '' }}", "continue_final_message": True}, "leaves out the end of the final message"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "cannot be combined with"),
    ):
        with pytest.raises(UserError) as raised:
            ours.apply_chat_template(HELLO, **arguments)
        assert message in str(raised.value)
    with pytest.raises(UserError, match="no role system"):
        ours.apply_chat_template([{"role": "system", "content": "x"}])
    with pytest.raises(UserError, match="no final message with a text"):
        ours.apply_chat_template([], continue_final_message=True)
    make("t5gemma", tmp_path)
    with pytest.raises(UserError, match="chat_template: this tokenizer has none; give one"):
        load_tokenizer(tmp_path).apply_chat_template(HELLO)
    for wrong in ("3", '[{"name": "default"}]', '{"default": "x"}', '[{"name": "a", "template": 1}]'):
        (tmp_path / "tokenizer_config.json").write_text(f'{{"chat_template": {wrong}}}')
        with pytest.raises(UserError, match="chat_template: a template is expected, or a list"):
            load_tokenizer(tmp_path)
