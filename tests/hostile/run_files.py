"""Hostile bundles and run folders: names and makers, see `collection`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile.collection import DOUBLING, Maker, link, sequence, words
from tests.hostile.making import BOMB, DEEP, ESCAPE, MEGABYTE, PADDING, SCRIPT, Change, data, file, safetensors, text

KEPT = "../../outside/kept"
"""A file outside of the project, as a link in the run folder names it."""


def bundle(change: Change) -> Maker:
    """A bundle from elsewhere whose hashes fit what it holds."""

    def make(folder: Path) -> list[str]:
        place = folder / "bundle"
        change(place)
        manifest = place / "manifest.json"
        if manifest.is_file() and not manifest.is_symlink() and manifest.stat().st_size < MEGABYTE // 16:
            found = {}
            for path in sorted(place.rglob("*")):
                if path.is_file() and not path.is_symlink() and path != manifest:
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    found[path.relative_to(place).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
            content = json.loads(manifest.read_text())
            manifest.write_text(json.dumps({**content, "files": {**found, **content.get("more", {})}}))
        return ["predict", "run=bundle", "data.test=rows.csv", "output=out.csv"]

    return make


def in_config(old: str, new: str) -> Change:
    """Other words in config.yaml."""

    def change(place: Path) -> None:
        path = place / "config.yaml"
        before = path.read_text()
        assert old in before, old
        path.write_text(before.replace(old, new))

    return change


def in_json(name: str, **changes: Any) -> Change:
    """Other entries of a JSON file."""

    def change(place: Path) -> None:
        path = place / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def added(name: str, content: Any) -> Change:
    """A JSON file."""
    return lambda place: (place / name).write_text(json.dumps(content))


def class_of(name: str) -> Change:
    """Another name for a class."""

    def change(place: Path) -> None:
        path = place / "outputs" / "y.json"
        path.write_text(path.read_text().replace('"a"', json.dumps(name)))

    return change


def bundles() -> Iterator[tuple[str, Maker]]:
    """Met by `predict`."""
    tokens = "inputs/t/tokenizer/tokenizer.json"
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    changes: dict[str, Change] = {
        "config.yaml of aliases": file("config.yaml", text(BOMB)),
        "config.yaml nested deeply": file("config.yaml", text(DEEP)),
        "config.yaml with a tag": in_config("seed: 0", "seed: !!python/object/apply:os.system ['touch canary']"),
        "config.yaml is a pipe": file("config.yaml", os.mkfifo),
        "config.yaml is a device": file("config.yaml", link("/dev/zero")),
        "config.yaml of 64 MB": file("config.yaml", text(lambda: "#" * 64 * MEGABYTE)),
        "an input by path": in_config("  t:\n", "  ../../outside:\n"),
        "a wide model": in_config("hidden_size: 16\n", "hidden_size: 16384\n"),
        "a deep model": in_config("num_hidden_layers: 1\n", "num_hidden_layers: 1000\n"),
        "a wide fusion": in_config("fusion:\n", "fusion:\n  hidden_size: 30000\n"),
        "a path as model": in_config("model_type: bert", "model_type: ../../outside/kept"),
        "manifest.json is a pipe": file("manifest.json", os.mkfifo),
        "manifest.json is a device": file("manifest.json", link("/dev/zero")),
        "manifest.json nested deeply": file("manifest.json", text(DEEP)),
        "manifest.json of 64 MB": file("manifest.json", text(lambda: " " * 64 * MEGABYTE)),
        "manifest.json names a device": in_json(
            "manifest.json", more={"../../../../dev/zero": {"bytes": 0, "sha256": ""}}
        ),
        "weights of noise": file("model.safetensors", data(bytes(range(256)) * 9)),
        "weights of no tensors": safetensors({}),
        "weights of 300,000 tensors": safetensors(lambda: dict.fromkeys(map(str, range(300_000)), nothing), b""),
        "a header of 2^63 bytes": safetensors({}, size=2**63),
        "input.json nested deeply": file("inputs/t/input.json", text(DEEP)),
        "input.json of another kind": in_json("inputs/t/input.json", type="../x"),
        "input.json without a config": file("inputs/t/input.json", text('{"type": "sequence"}')),
        "a length of 10^12": in_json("inputs/t/input.json", max_length=10**12),
        "a tokenizer of growth": in_json(tokens, normalizer=sequence(*[DOUBLING] * 40)),
        "a tokenizer of padding": in_json(tokens, padding=PADDING),
        "a tokenizer of far ids": in_json(tokens, model=words(far=4_000_000_000)),
        "a tokenizer of other ids": in_json(tokens, model=words(far=9_999)),
        "an output nested deeply": file("outputs/y.json", text(DEEP)),
        "an output of another kind": file("outputs/y.json", text('{"type": "os.system"}')),
        "classes of markup": class_of(SCRIPT),
        "classes of terminal codes": class_of(ESCAPE),
        "a base by path": added("base.json", {"t": {"model": "/dev", "sha256": ""}}),
        "a base of an unknown input": added("base.json", {"../x": {"model": "/dev", "sha256": ""}}),
        "base.json of a list": added("base.json", [1]),
        "base.json nested deeply": file("base.json", text(DEEP)),
    }
    for title, change in changes.items():
        yield title, bundle(change)


def run_folder(change: Change, *command: str) -> Maker:
    """A run folder from elsewhere, in which a run is to go on."""

    def make(folder: Path) -> list[str]:
        change(folder / "run")
        return list(command) or ["+experiment=texts", "run.dir=run"]

    return make


def unfinished(change: Change) -> Change:
    """A run that still has to be trained."""
    return lambda run: ((run / "result.json").unlink(), change(run))


def linked_out(name: str) -> Change:
    """A link out of the project in the place of a folder of the run."""
    return lambda run: (shutil.rmtree(run / name), (run / name).symlink_to("../../outside"))


def result(content: Any) -> Change:
    """Another result, of which no hash says that it is one."""
    return lambda run: ((run / "checksums.sha256").unlink(), added("result.json", content)(run))


def job(write: Change) -> Change:
    """The status of a job of a sweep, beside the run."""
    return lambda run: ((run.parent / "jobs").mkdir(), write(run.parent / "jobs" / "0.json"))


def run_folders() -> Iterator[tuple[str, Maker]]:
    """Met by the command that goes on, and by ``runs compare``."""
    main = ("config.yaml", "manifest.json", "result.json")
    changes: dict[str, Change] = {
        "the report's folder is a link out": linked_out("report"),
        "the checkpoints are a link out": unfinished(linked_out("checkpoints")),
        "config.yaml of aliases": file("config.yaml", text(BOMB)),
        "state.json nested deeply": unfinished(file("checkpoints/step-00000002/state.json", text(DEEP))),
    }
    for name in (".owner", "log.txt", "metrics.csv", "config.yaml", "manifest.json"):
        changes[f"{name} is a link out"] = unfinished(file(name, link(KEPT)))
    own = (".owner", "log.txt", "metrics.csv", "checksums.sha256", "report/data.json", "predictions/validation.csv")
    for name in (*main, *own):
        changes[f"{name} is a pipe"] = file(name, os.mkfifo)
    for name in (*main, "metrics.csv", "report/data.json"):
        changes[f"{name} is a device"] = file(name, link("/dev/zero"))
    for name in main:
        changes[f"{name} of 64 MB"] = file(name, text(lambda: " " * 64 * MEGABYTE))
        changes[f"{name} nested deeply"] = file(name, text(DEEP))
    for title, change in changes.items():
        yield title, run_folder(change)
    status = {"number": 0, "overrides": [ESCAPE], "status": "failed", "message": ESCAPE}
    compared: dict[str, Change] = {
        "config.yaml of aliases": file("config.yaml", text(BOMB)),
        "config.yaml is a pipe": file("config.yaml", os.mkfifo),
        "manifest.json of a list": file("manifest.json", text("[1]")),
        "result.json of terminal codes": result({"validation": {ESCAPE: {SCRIPT: 1.0}}}),
        "result.json of texts": result({"validation": {"y": {"loss": "x"}}, "loss": [1]}),
        "a name of terminal codes": lambda run: run.rename(run.with_name(ESCAPE.replace("/", ""))),
        "jobs/0.json is a pipe": job(os.mkfifo),
        "jobs/0.json of terminal codes": job(text(json.dumps(status))),
        "jobs/0.json of a list": job(text("[1]")),
    }
    for title, change in compared.items():
        yield f"compare: {title}", run_folder(change, "runs", "compare", ".")
