"""``models list`` and ``models show NAME``: the catalogue, without torch."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from eir_seq.commands.parser import UserParser
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.machine import importing
from eir_seq.models.catalogue import CATALOGUE, SYNONYMS, config_class, find, list_models
from eir_seq.models.options import describe, flat
from eir_seq.registry import ENCODERS


def run(arguments: list[str]) -> int:
    """List architectures or show the options of one."""
    parser = UserParser(prog="python -m eir_seq models", description="Architectures and their options.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|show", parser_class=UserParser)
    listing = commands.add_parser("list", help="all architectures")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.add_argument("--task", help="only those that can do this task, e.g. masked-lm")
    showing = commands.add_parser("show", help="the options of one architecture")
    showing.add_argument("name", help="name in the catalogue")
    showing.add_argument("--json", action="store_true", help="for programs")
    showing.add_argument(
        "--tensors", action="store_true", help="published names, by which tensors are frozen or adapted"
    )
    flags = parser.parse_args(arguments)
    if flags.command == "list":
        _list(flags.task, as_json=flags.json)
    else:
        _show(flags.name, as_json=flags.json, tensors=flags.tensors)
    return 0


def _list(task: str | None, *, as_json: bool) -> None:
    names = list_models() if task is None else _with_task(task)
    if as_json:
        print(json.dumps([{"name": name, **_about(name)} for name in names], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "what it is", box=None, pad_edge=False)
    for name in names:
        table.add_row(name, CATALOGUE[name].summary)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _about(name: str) -> dict[str, Any]:
    entry = CATALOGUE[name]
    return {"summary": entry.summary, "paper": entry.paper, "tasks": list(entry.tasks)}


def _with_task(task: str) -> list[str]:
    known = sorted({other for entry in CATALOGUE.values() for other in entry.tasks})
    if task not in known:
        raise UserError(
            Fault("--task", f"{task!r} is not a task; choose from {', '.join(known)}{nearest(task, known)}")
        )
    return [name for name in list_models() if task in CATALOGUE[name].tasks]


def _show(name: str, *, as_json: bool, tensors: bool) -> None:
    kinds = [kind for kind, _, encoder in (entry.partition(".") for entry in ENCODERS) if encoder == name]
    if kinds and name not in CATALOGUE:
        reading = f"is an encoder of inputs of type {', '.join(kinds)}, not in the catalogue"
        raise UserError(
            Fault("model_type", f"{name!r} {reading}; the schema lists its options: python -m eir_seq schema")
        )
    find(name)
    name = SYNONYMS.get(name, name)
    if tensors:
        _show_tensors(name, as_json=as_json)
        return
    options = describe(config_class(name))
    if as_json:
        about = {"name": name, **_about(name), "options": options}
        print(json.dumps(about, indent=2, default=list))
        return
    from rich.console import Console
    from rich.table import Table

    entry = CATALOGUE[name]
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(f"[bold]{name}[/bold]  {entry.summary}\n{entry.paper}", soft_wrap=True)
    console.print(f"tasks: {', '.join(entry.tasks)}\n", soft_wrap=True)
    table = Table("option", "default", "type", "meaning", box=None, pad_edge=False)
    for option in flat(options):
        default = json.dumps(option["default"], default=list)
        table.add_row(option["name"], default, option["type"], option["meaning"])
    console.print(table, markup=False)


def _show_tensors(name: str, *, as_json: bool) -> None:
    """Published names of the tensors of the base class by default, numbers of layers as ``*``."""
    with importing():
        import torch

        from eir_seq.models.catalogue import architecture
        from eir_seq.models.lora import linear_modules
        from eir_seq.models.model import Model
        from eir_seq.models.names import published_names
        from eir_seq.models.option_checks import build_config

    with torch.device("meta"):
        model = Model(architecture(name), build_config(name), "base")
    linear, named = linear_modules(model), published_names(model)
    shapes = {n: list(x.shape) for n, x in model.published_tensors().items() if n in named}
    rows = {
        re.sub(r"(?<=\.)\d+(?=\.)", "*", n): (shape, n.removesuffix(".weight") in linear) for n, shape in shapes.items()
    }
    if as_json:
        print(
            json.dumps([{"name": n, "shape": shape, "lora": adapts} for n, (shape, adapts) in rows.items()], indent=2)
        )
        return
    for n, (shape, adapts) in rows.items():
        print(f"{n}  {' x '.join(map(str, shape))}{'  (takes an adapter)' if adapts else ''}")
