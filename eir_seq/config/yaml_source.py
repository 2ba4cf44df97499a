"""The YAML files of a config, read strictly and with the line of every key.

Hydra reads files through `StrictFileSource`, so that what YAML would swallow (a key that stands twice, a tag that
builds an object, an alias that grows without bound) is refused with file and line, in the shipped files and in the
user's alike.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from eir_seq.errors import Fault, UserError

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
"""Values of one file after aliases are expanded; a bomb of nested aliases has billions."""
MAX_DEPTH = 60

_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge", "value", "timestamp")
)


@dataclass(frozen=True)
class YamlFile:
    """One file: its text, for every key path (dotted, relative to the file) the line it stands on, and the paths that
    it leaves to others to set (``???``)."""

    path: Path
    text: str
    lines: dict[str, int]
    unset: frozenset[str] = frozenset()


def shown(path: Path | str) -> str:
    """A path as a person would write it: relative where it lies below the working directory."""
    path = Path(path)
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return str(path)


def read_yaml(path: Path) -> YamlFile:
    """Read one YAML file.

    Raises:
        UserError: unreadable, not UTF-8, broken YAML, no mapping, keys set twice, tags, ``_target_``, aliases that
            contain themselves or grow without bound.
    """
    try:
        modified = path.stat().st_mtime_ns
    except OSError as error:
        raise UserError(Fault(shown(path), f"cannot be read: {error.strerror}")) from None
    return _read_yaml(path, modified)


@functools.lru_cache(maxsize=256)
def _read_yaml(path: Path, modified: int) -> YamlFile:  # noqa: ARG001 (part of the cache's key)
    name = shown(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(Fault(name, f"cannot be read: {error.strerror}")) from None
    if len(content) > MAX_BYTES:
        raise UserError(Fault(name, f"{len(content)} bytes are more than a config of {MAX_BYTES} bytes"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        message = f"byte 0x{byte:02x} at offset {error.start} is not UTF-8; save the file as UTF-8"
        raise UserError(Fault(f"{name}:{line}", message)) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = " ".join((error.problem or error.context or "not valid YAML").split())
        if "'\\t'" in problem:
            problem = "a tab character; indent with spaces"
        raise UserError(Fault(place, problem)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(Fault(f"{name}:{line}", f"character {error.character!r} is not allowed in YAML")) from None
    except yaml.YAMLError as error:
        raise UserError(Fault(name, " ".join(str(error).split()))) from None
    except RecursionError:
        raise UserError(Fault(name, f"nested deeper than {MAX_DEPTH} levels")) from None
    if root is None:
        return YamlFile(path, text, {})
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise UserError(Fault(f"{name}:{root.start_mark.line + 1}", f"a config is a mapping of keys, not {kind}"))
    walk = _Walk(name)
    walk.visit(root, ())
    if walk.faults:
        raise UserError(*walk.faults)
    return YamlFile(path, text, walk.lines, frozenset(walk.unset))


class _Walk:
    """Visits the nodes of one file, notes the lines of keys and collects what is wrong."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[str, int] = {}
        self.unset: set[str] = set()
        self.faults: list[Fault] = []
        self._open: set[int] = set()
        self._nodes = 0

    def visit(self, node: yaml.Node, path: tuple[str, ...]) -> None:
        line = node.start_mark.line + 1
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise UserError(Fault(f"{self.name}:{line}", f"its aliases expand to more than {MAX_NODES} values"))
        if len(path) > MAX_DEPTH:
            raise UserError(Fault(f"{self.name}:{line}", f"nested deeper than {MAX_DEPTH} levels"))
        if id(node) in self._open:
            raise UserError(Fault(f"{self.name}:{line}", "an alias that contains itself"))
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self._add(path, f"the YAML tag {tag} is not allowed; write plain values", line)
            return
        if node.value == "???":
            self.unset.add(".".join(path))
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._visit_mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.visit(item, (*path, str(index)))
        self._open.discard(id(node))

    def _visit_mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> None:
        seen: dict[str, int] = {}
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._add(path, "a key must be a plain word", line)
                continue
            key = str(key_node.value)
            if key_node.tag == "tag:yaml.org,2002:merge":
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                if not all(isinstance(part, yaml.MappingNode) for part in parts):
                    self._add((*path, "<<"), "merges a mapping, or a list of them", line)
                    continue
                self.visit(value, path)
                continue
            inner = (*path, key)
            if key_node.tag == "tag:yaml.org,2002:null":
                self._add(inner, f"the key {key or 'null'} is no value in YAML; put it in quotes", line)
                continue
            if key in seen:
                self._add(inner, f"set twice, on lines {seen[key]} and {line}", line)
            if key == "_target_":
                self._add(inner, "code cannot be named in a config; choose by 'type' or 'model_type'", line)
            seen[key] = line
            self.lines[".".join(inner)] = line
            self.visit(value, inner)

    def _add(self, path: tuple[str, ...], message: str, line: int) -> None:
        self.faults.append(Fault(".".join(path), message, f"{self.name}:{line}"))


class StrictFileSource(FileConfigSource):
    """Hydra's source of YAML files, with our reader."""

    def load_config(self, config_path: str) -> ConfigResult:
        """One config file below this source's folder.

        Raises:
            UserError: what `read_yaml` finds.
        """
        path = self.file_of(config_path)
        if not path.exists():
            raise ConfigLoadError(f"Config not found : {path}")
        file = read_yaml(path)
        try:
            config = OmegaConf.create(file.text) if file.text.strip() else OmegaConf.create({})
            config = config if OmegaConf.is_dict(config) and file.lines else OmegaConf.create({})
        except OmegaConfBaseException as error:
            key = str(error.full_key or "")
            message = str(error).splitlines()[0]
            raise UserError(Fault(key, message, located(file, key))) from None
        return ConfigResult(
            config=config,
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header={"package": package_of(file)},
        )

    def file_of(self, config_path: str) -> Path:
        """The file that holds a config of this source."""
        return Path(os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path))))


def package_of(file: YamlFile) -> str | None:
    """The package that the header of a file names: where in the config its keys go.

    Raises:
        UserError: a header that cannot be read.
    """
    try:
        return ConfigSource._get_header_dict(file.text[:512])["package"]
    except ValueError as error:
        raise UserError(Fault(f"{shown(file.path)}:1", f"{error}; write '# @package _global_'")) from None


def located(file: YamlFile, key: str) -> str:
    """``file:line`` of a key path or of the nearest mapping around it; the file alone if it has none of them."""
    for prefix in prefixes(key):
        if prefix in file.lines:
            return f"{shown(file.path)}:{file.lines[prefix]}"
    return shown(file.path)


def prefixes(key: str) -> Iterator[str]:
    """A dotted path and those of all mappings around it, innermost first: a.b.c, a.b, a."""
    parts = key.replace("[", ".").replace("]", "").split(".")
    for end in range(len(parts), 0, -1):
        yield ".".join(parts[:end])


def contains_key(value: Any, key: str) -> bool:
    """Whether a key occurs anywhere in nested mappings and lists."""
    if isinstance(value, dict):
        return key in map(str, value) or any(contains_key(item, key) for item in value.values())
    return isinstance(value, list) and any(contains_key(item, key) for item in value)
