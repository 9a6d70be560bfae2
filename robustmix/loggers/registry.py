"""The one table of loggers; nothing of theirs is imported before they are used."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from robustmix.loggers.events import Hook, RunStarted
from robustmix.loggers.memory import Memory
from robustmix.tables import Row, Table

Opener: TypeAlias = Callable[[RunStarted, Path, Memory], Hook]
"""What began, a folder of the run that is there, what is logged of the run already -> who logs it
from there on. It is given all events but ``RunStarted``, each step once, in a thread of its own."""


@dataclass(frozen=True)
class LoggerRow(Row):
    """One logger."""

    needs: str = ""
    """The package that it imports."""

    extra: str = ""
    """Of robustmix, with which that package is installed."""

    rewinds: bool = False
    """Whether it takes back steps that a continued run makes again; else they are logged once, as
    they were first."""

    pictures: bool = True
    """Whether it takes pictures."""

    lag: float = 0.0
    """Seconds until what it was told is safe, should the process be killed; what is younger is
    logged again by a run that goes on."""

    check: str = ""
    """``"module:function"`` that raises ``UsageError`` where it cannot be used as things are."""


LOGGERS: "Table[Opener, LoggerRow]" = Table(
    "logger",
    LoggerRow,
    {
        "csv": LoggerRow(
            "robustmix.loggers.to_csv:open_csv",
            "scalars.csv, a row a step; suites.csv, a row a metric",
            rewinds=True,
            pictures=False,
        ),
        "mlflow": LoggerRow(
            "robustmix.loggers.to_mlflow:open_mlflow",
            "MLflow, in the run's folder or at $MLFLOW_TRACKING_URI",
            needs="mlflow",
            extra="mlflow",
        ),
        "tensorboard": LoggerRow(
            "robustmix.loggers.to_tensorboard:open_tensorboard",
            "event files in the run's folder: tensorboard --logdir runs",
            needs="tensorboard",
            extra="tensorboard",
            rewinds=True,
        ),
        "wandb": LoggerRow(
            "robustmix.loggers.to_wandb:open_wandb",
            "Weights & Biases, project $WANDB_PROJECT; $WANDB_MODE=offline stays here",
            needs="wandb",
            extra="wandb",
            lag=2.0,
            check="robustmix.loggers.to_wandb:require_account",
        ),
    },
)
"""Loggers by name."""
