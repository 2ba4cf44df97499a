"""What runs use of Lightning, imported without the metrics of torchmetrics and torch's compiler (`eir_seq.deferred`).

It takes a second of processor time: modules that a check of an experiment needs do not import this one.
"""

# ruff: noqa: E402

from eir_seq.deferred import defer_torchmetrics, without_dynamo

defer_torchmetrics()
with without_dynamo():
    import lightning.pytorch  # noqa: F401

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy

__all__ = [
    "AdvancedProfiler",
    "Callback",
    "Checkpoint",
    "CheckpointIO",
    "ClusterEnvironment",
    "DDPStrategy",
    "LightningDataModule",
    "LightningEnvironment",
    "LightningModule",
    "Logger",
    "MisconfigurationException",
    "Profiler",
    "ProgressBar",
    "SLURMEnvironment",
    "SimpleProfiler",
    "Trainer",
    "rank_zero_only",
]
