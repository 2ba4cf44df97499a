"""The texts that ``--help`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eir_seq.config.folders import config_folders, options_of
from eir_seq.files import read_small

GROUPS = ("data", "fusion", "optimizer", "scheduler", "trainer", "callbacks", "tracker", "debug", "sweep")

_OVERVIEW = """\
eir_seq trains sequence and multimodal models on your own data from one YAML file.

  python -m eir_seq [COMMAND] [KEY=VALUE ...]

Commands (COMMAND --help for more):
{commands}

Experiments (experiment=NAME; your own go into ./conf/experiment/NAME.yaml):
{experiments}

Groups (GROUP=OPTION):
{groups}

Examples:
  python -m eir_seq experiment=imdb_longformer
  python -m eir_seq experiment=sst2_from_table data.train=train.csv data.validation=dev.csv trainer.max_epochs=3
  python -m eir_seq -m experiment=imdb_longformer optimizer.lr=1e-3,3e-4 seed=1,2,3 hydra.launcher.n_jobs=2

Every key of the YAML can be set on the command line by its path. `--cfg job` prints the composed config, `check` tries
it out, `schema` lists all keys. Config files come from --config-dir DIR, $EIR_SEQ_CONF, ./conf and the package.
--plugins MODULE[,MODULE] (or `plugins:` in your conf/config.yaml) adds kinds of your own to any command.
"""

_TRAIN = """\
  python -m eir_seq [train] experiment=NAME [GROUP=OPTION ...] [KEY=VALUE ...]

Trains an experiment. The run folder is runs/NAME/TIME-HASH, or run.dir=DIR; the same command with the same run.dir
continues an unfinished run.

  --cfg job|all|hydra      print the composed config and stop (with --resolve: interpolations filled in)
  --info defaults-tree     print which files the config is made of (also: searchpath, plugins, config)
  -m, --multirun           one job per combination of comma-separated values, each in its own process;
                           hydra.launcher.n_jobs=N jobs at once, hydra.sweep.dir=DIR names (or continues) the sweep
  --config-dir DIR         a further folder with config files, found before all others
  --plugins MODULE[,...]   modules that add kinds of inputs, outputs, optimizers ... of your own
  -sc install=bash|zsh|fish  shell completion for the `eir_seq` command: eval "$(eir_seq -sc install=bash)"
  --debug                  show tracebacks
"""


def overview(commands: Mapping[str, str]) -> str:
    """What a newcomer needs: commands (what each is for, by name), experiments, groups, examples."""
    experiments = [f"  {name:<18} {summary(f'experiment/{name}')}".rstrip() for name in options_of("experiment")]
    return _OVERVIEW.format(
        commands="\n".join(f"  {name:<10} {meaning}" for name, meaning in commands.items()),
        experiments="\n".join(experiments),
        groups="\n".join(f"  {group:<10} {', '.join(options_of(group))}" for group in GROUPS),
    )


def train() -> str:
    """How to train."""
    return _TRAIN


def summary(config: str) -> str:
    """The first comment of a config file that is no package header."""
    for folder in config_folders():
        path: Path = folder / f"{config}.yaml"
        if path.is_file():
            for line in read_small(path).decode("utf-8", errors="replace").splitlines():
                if line.startswith("#") and not line.lstrip("# ").startswith("@"):
                    return line.lstrip("# ").strip()
                if line.strip() and not line.startswith("#"):
                    return ""
    return ""
