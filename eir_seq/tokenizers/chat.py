"""Conversations as texts: the chat template that is published with a tokenizer.

A template is a program from an untrusted file: it runs in jinja2's sandbox, which lets it neither reach
into Python nor change what it is given, and in a process whose time and memory are bounded (`chat_process`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.tokenizers.chat_process import RENDERER, Refused

Conversation = Sequence[Mapping[str, Any]]
CHAT_TEMPLATE_FILE, DEFAULT = "chat_template.jinja", "default"
_CUT_HERE = "\ue000the end of the final message\ue000 "


def templates_as_json(templates: Mapping[str, str]) -> dict[str, Any]:
    """As a tokenizer config holds them, nothing if there are none."""
    if not templates:
        return {}
    if templates.keys() == {DEFAULT}:
        return {"chat_template": templates[DEFAULT]}
    return {"chat_template": [{"name": name, "template": template} for name, template in templates.items()]}


def render_all(
    templates: Mapping[str, str],
    chosen: str | None,
    conversations: Conversation | Sequence[Conversation],
    **options: Any,
) -> str | list[str]:
    """The text of a conversation, or those of several; see `render`."""
    if options.get("add_generation_prompt") and options.get("continue_final_message"):
        message = "cannot be combined with add_generation_prompt: the answer has begun"
        raise UserError(Fault("continue_final_message", message))
    every: Sequence[Any] = conversations
    if not every or isinstance(every[0], Mapping):
        return render(templates, chosen, every, **options)
    return [render(templates, chosen, conversation, **options) for conversation in every]


def render(
    templates: Mapping[str, str],
    chosen: str | None,
    conversation: Conversation,
    *,
    continue_final_message: bool = False,
    **variables: Any,
) -> str:
    """The text of a conversation.

    `chosen` is the name of a template or one itself; `variables` are what it can ask for besides `messages`.

    Raises:
        UserError: no template, none of that name, or one that is broken or refuses the conversation.
    """
    name = chosen or ("tool_use" if variables.get("tools") and "tool_use" in templates else DEFAULT)
    if name not in templates and (chosen is None or "{" not in chosen):
        known = f"{name!r} is not one of {', '.join(templates)}{nearest(name, templates)}"
        raise UserError(Fault("chat_template", known if templates else "this tokenizer has none; give one"))
    messages = [dict(message) for message in conversation]
    if continue_final_message:
        if not messages or not isinstance(messages[-1].get("content"), str):
            raise UserError(Fault("continue_final_message", "there is no final message with a text"))
        messages[-1]["content"] += _CUT_HERE
    try:
        text = RENDERER.render(templates.get(name, name), {"messages": messages, **variables})
    except (Refused, TypeError) as error:
        raise UserError(Fault("chat_template", f"cannot render this conversation: {error}")) from error
    if not continue_final_message:
        return text
    before, mark, after = text.rpartition(_CUT_HERE.strip())
    if not mark:
        raise UserError(Fault("continue_final_message", "the template leaves out the end of the final message"))
    return before if after.startswith(" ") else before.rstrip()
