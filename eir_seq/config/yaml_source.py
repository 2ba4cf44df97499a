"""The YAML files of a config, read strictly and with the line of every key.

Hydra reads files through `StrictFileSource`, so that what YAML would swallow (a duplicate key, a tag that
builds an object, an alias that grows without bound) is refused with file and line, in the shipped files and in the
user's alike.
"""

from __future__ import annotations

import copy
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from eir_seq.config.trackers import SEVERAL, named_trackers, with_sections
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_small

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
"""Values of one file after aliases are expanded; a bomb of nested aliases has billions."""
MAX_DEPTH, MAX_DIGITS = 60, 1000

_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge", "value", "timestamp")
)


@dataclass(frozen=True)
class YamlFile:
    """One file: its text, for every key path (dotted, relative to the file) the line it is on, and the paths that
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
    return parse_yaml(path)


def parse_yaml(path: Path) -> YamlFile:
    """`read_yaml` of a file that may have changed since."""
    name = shown(path)
    try:
        content = read_small(path, MAX_BYTES)
    except OSError as error:
        raise UserError(Fault(name, f"cannot be read: {error.strerror or error}")) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        encoding = " (UTF-16)" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        message = f"byte 0x{byte:02x} at offset {error.start} is not UTF-8{encoding}; save the file as UTF-8"
        raise UserError(Fault(f"{name}:{line}", message)) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = " ".join((error.problem or error.context or "not valid YAML").split())
        raise UserError(Fault(place, _explained(problem, text, mark))) from None
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


def _explained(problem: str, text: str, mark: yaml.Mark | None) -> str:
    """What PyYAML says about a broken file, with the usual cause."""
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    before = lines[mark.line - 1] if mark is not None and 0 < mark.line <= len(lines) else ""
    if "'\\t'" in problem:
        return "a tab character; indent with spaces"
    for sign, name in (("\u00a0", "a non-breaking space"), ("\uff1a", "a full-width colon")):
        if sign in f"{before}{line}":
            return f"{problem}; there is {name} here"
    if "another document" in problem:
        return "a second document begins here ('---'); a config file holds one"
    if "cannot start any token" in problem:
        return f"{problem}; put the value in quotes"
    if "mapping values are not allowed" in problem:
        return f"{problem}; a text with ': ' goes in quotes, and keys of one mapping have the same indentation"
    if "unknown escape character" in problem:
        return f"{problem}; a backslash needs single quotes ('C:\\data\\x.csv')"
    if "could not find expected ':'" in problem:
        written = next((one for one in (before, line) if re.match(r"\s*[\w.-]+[:=]\S", one)), None)
        instead = f", not {written.strip()!r}" if written else ""
        return f"{problem}; write 'key: value' with a space after the colon{instead}"
    if "unexpected end of stream" in problem:
        return "a quote or bracket is opened above and never closed"
    if "expected ',' or" in problem:
        return f"{problem}; a bracket is not closed, or a comma is missing"
    if "<block mapping start>" in problem:
        return f"{problem}; keys of one mapping have the same indentation"
    return problem


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
            raise UserError(Fault(f"{self.name}:{line}", f"more than {MAX_NODES} values (aliases are expanded)"))
        if len(path) > MAX_DEPTH:
            raise UserError(Fault(f"{self.name}:{line}", f"nested deeper than {MAX_DEPTH} levels"))
        if id(node) in self._open:
            raise UserError(Fault(f"{self.name}:{line}", "an alias that contains itself"))
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self._add(path, f"the YAML tag {tag} is not allowed; write plain values", line)
            return
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
            self._add(path, f"a number of {len(node.value):,} digits", line)
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
        config = config_of(file)
        defaults = config.get("defaults")
        entries = OmegaConf.to_container(defaults) if isinstance(defaults, ListConfig) else []
        assert isinstance(entries, list)
        if (found := with_sections(entries)) is not None:
            config["defaults"] = found
            if not isinstance(config.get("tracker"), ListConfig):
                config["tracker"] = {"type": SEVERAL, **(config.get("tracker") or {})}
        if isinstance(listed := config.get("tracker"), ListConfig):  # by name, so that the command line can set keys
            config["tracker"] = named_trackers(OmegaConf.to_container(listed))
        return ConfigResult(
            config=config,
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header={"package": package_of(file)},
        )

    def file_of(self, config_path: str) -> Path:
        """The file that holds a config of this source."""
        return Path(os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path))))


def loaded(path: Path) -> DictConfig:
    """One config file by itself."""
    return config_of(read_yaml(path))


def config_of(file: YamlFile) -> DictConfig:
    """The keys of a file.

    Raises:
        UserError: what OmegaConf refuses: an interpolation that is none, a value of a kind that it has not.
    """
    try:
        config = copy.deepcopy(_created(file.text if file.lines else ""))
    except OmegaConfBaseException as error:
        key = str(error.full_key or "")
        raise UserError(Fault(key, in_words(error), located(file, key))) from None
    except ValueError as error:  # a number or a date that Python has not
        raise UserError(Fault(shown(file.path), _one_line(str(error)))) from None
    assert isinstance(config, DictConfig)
    return config


@functools.lru_cache(maxsize=256)
def _created(text: str) -> Any:
    """The config that a text describes, which must not be changed: a sweep composes the same files again and again."""
    return OmegaConf.create(text or "{}")


_FOREIGN = re.compile(r"\w+ (raised )?while (resolving interpolation|composing config):\s*")


def in_words(error: Exception) -> str:
    """What Hydra or OmegaConf say in one line, without the names of exceptions."""
    message = str(error).partition("full_key:")[0].strip()
    if isinstance(error, OmegaConfBaseException):
        message = message.partition("\n")[0]
    if isinstance(error, OmegaConfBaseException) and isinstance(error.__cause__, ValueError):
        message = str(error.__cause__).partition("\n")[0]
    if isinstance(error, GrammarParseError):
        return f"{_one_line(message)}: not an interpolation such as ${{data.batch_size}}"
    if "Unsupported interpolation type env" in message:
        return "${env:NAME} is not known; write ${oc.env:NAME}"
    if re.match(r"Key '[^']+' (is not in struct|not in )", message):
        return "unknown key"
    return _one_line(re.sub(r"In '[^']+':|In [\w/.-]+:", "", _FOREIGN.sub("", message))) or type(error).__name__


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:297]}..."


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
