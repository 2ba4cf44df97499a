"""Writes made-up instructions: ``python make_data.py [ROWS]`` writes chats.jsonl and pairs.jsonl.

A conversation names some words and what is to be done with them: reverse, sort, count or upper. In some of them a
second turn asks for something else with the same words. No conversation is written twice, so that those of the test
rows are new. In pairs.jsonl each instruction to write capitals has two answers; the one without them is preferred.
"""

from __future__ import annotations

import json
import random
import sys

ROWS = 3000
WORDS = ["red", "blue", "gold", "pink", "gray", "teal", "lime", "cyan"]
TASKS = {
    "reverse": lambda words: words[::-1],
    "sort": sorted,
    "count": lambda words: [str(len(words))],
    "upper": lambda words: [word.upper() for word in words],
}


def conversation(draw: random.Random) -> list[dict[str, str]]:
    """One or two instructions, and what is answered."""
    words, messages = draw.sample(WORDS, draw.randint(2, 4)), []
    for turn, task in enumerate(draw.sample(list(TASKS), draw.choice((1, 2)))):
        asked = f"{task} {' '.join(words)}" if turn == 0 else f"and {task}"
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": " ".join(TASKS[task](words))})
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
        for chat in chats:
            asked, answer, *_ = (message["content"] for message in chat["messages"])
            if asked.startswith("upper"):
                pair = {"prompt": asked, "better": answer.lower(), "worse": answer}
                file.write(json.dumps({"id": chat["id"], **pair}) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
