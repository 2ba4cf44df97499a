"""Writes made-up instructions: ``python make_data.py [ROWS]`` writes chats.jsonl and pairs.jsonl.

A conversation names some words and what is to be done with them: reverse, sort, count, upper, first or last. Later turns
ask for something else with the same words. No conversation is written twice, so that those of the test rows are new.
In pairs.jsonl, each instruction has an answer that ends with a full stop, which is preferred, and one that does not.
"""

from __future__ import annotations

import json
import random
import sys

ROWS = 4000
WORDS = "red blue gold pink gray teal lime cyan rose plum sand mint".split()
TASKS = {
    "reverse": lambda words: words[::-1],
    "sort": sorted,
    "count": lambda words: [str(len(words))],
    "upper": lambda words: [word.upper() for word in words],
    "first": lambda words: words[:1],
    "last": lambda words: words[-1:],
}
SYSTEM = "Do what you are asked to do with the words."


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def conversation(draw: random.Random) -> list[dict[str, str]]:
    words, messages = draw.sample(WORDS, draw.randint(2, 5)), [message("system", SYSTEM)]
    for turn, task in enumerate(draw.sample(list(TASKS), draw.choice((1, 1, 2, 3)))):
        messages.append(message("user", f"{task}: {' '.join(words)}" if turn == 0 else f"and {task}"))
        messages.append(message("assistant", " ".join(TASKS[task](words))))
    return messages


def main(rows: int = ROWS) -> None:
    draw, found = random.Random(22), {}
    while len(found) < rows:
        messages = conversation(draw)
        found[json.dumps(messages)] = messages
    chats = [{"id": f"c{number}", "messages": messages} for number, messages in enumerate(found.values())]
    with open("chats.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(chat) + "\n" for chat in chats)
    with open("pairs.jsonl", "w", encoding="utf-8") as file:
        for chat in chats[: rows // 4]:
            _, asked, answer, *_ = chat["messages"]
            pair = {"prompt": asked["content"], "better": f"{answer['content']} .", "worse": answer["content"]}
            file.write(json.dumps({"id": chat["id"], "system": SYSTEM, **pair}) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
