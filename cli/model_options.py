"""Options that say what a model file is, alike in every command that takes one."""

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from robustmix.cli.options import parse_triple
from robustmix.models.names import NORM_PRESETS

if TYPE_CHECKING:
    from robustmix.data.preparation import TransformOptions
    from robustmix.models.robust_model import RobustModel

PANEL = "Model"
"""Heading of these options in a help."""


def _option(*flags: str, help: str) -> Any:
    return typer.Option(*flags, help=help, rich_help_panel=PANEL)


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What a command line says of a model; the fields are the options, in the help's order."""

    arch: Annotated[
        str | None,
        _option(
            help="Network of a bare state dict (robustmix list archs); module:FILE.py:FACTORY runs "
            "your own code."
        ),
    ] = None
    num_classes: Annotated[int | None, _option(help="Number of classes.")] = None
    img_size: Annotated[int | None, _option(help="Side of the images.")] = None
    resize: Annotated[
        int | None,
        _option(help="Shorter side that images are resized to [default: the model's]."),
    ] = None
    crop_pct: Annotated[
        float | None, _option(help="The same as a share: the model's size / resize.")
    ] = None
    interpolation: Annotated[str | None, _option(help="nearest, bilinear, bicubic or lanczos.")] = (
        None
    )
    crop_mode: Annotated[str | None, _option(help="center, squash or border.")] = None
    mean: Annotated[str | None, _option(help="Normalisation, R,G,B.")] = None
    std: Annotated[str | None, _option(help="Normalisation, R,G,B.")] = None
    norm_preset: Annotated[
        str | None,
        _option(
            help="Normalisation by name, in place of --mean and --std: " + ", ".join(NORM_PRESETS)
        ),
    ] = None
    class_map: Annotated[Path | None, _option(help="CSV of output,label.")] = None
    head: Annotated[str | None, _option(help="OpenMixup head: one_k, mix_k, one_q, mix_q.")] = None
    weights: Annotated[str | None, _option(help="raw or ema, if a file has both.")] = None
    expect_sha256: Annotated[str | None, _option(help="Refuse another file.")] = None
    trust_checkpoint: Annotated[
        bool, _option("--trust-checkpoint", help="Run the file's own code.")
    ] = False
    override_checkpoint: Annotated[
        bool,
        _option(
            "--override-checkpoint",
            help="Obey options on image size and normalisation where the checkpoint says "
            "otherwise.",
        ),
    ] = False
    allow_download: Annotated[
        bool,
        _option(
            "--allow-download", help="Fetch published weights that are not in the local cache."
        ),
    ] = False

    def load(self, model: str, *, backbone: bool = False) -> "RobustModel":
        """Load the model that these options describe.

        Args:
            model: as it was typed.
            backbone: take a network without a classifier too.

        Raises:
            UsageError: an option is invalid.
            IntakeError: the model is missing, damaged, unsafe, or does not fit.
        """
        from robustmix.models.load import load_model

        return load_model(
            model,
            arch=self.arch,
            num_classes=self.num_classes,
            input_size=None if self.img_size is None else (3, self.img_size, self.img_size),
            mean=None if self.mean is None else parse_triple(self.mean),
            std=None if self.std is None else parse_triple(self.std),
            norm_preset=self.norm_preset,
            class_map=self.class_map,
            head=self.head,
            weights=self.weights,
            expect_sha256=self.expect_sha256,
            trust_checkpoint=self.trust_checkpoint,
            override_checkpoint=self.override_checkpoint,
            allow_download=self.allow_download,
            backbone=backbone,
        )

    def preparation(self) -> "TransformOptions":
        """What is said of how the images are prepared."""
        from robustmix.data.preparation import TransformOptions

        return TransformOptions(
            resize=self.resize,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            crop_mode=self.crop_mode,
        )


PREPARATION = ("resize", "crop_pct", "interpolation", "crop_mode")
"""How images are prepared, which not every command does."""

Command: TypeAlias = Callable[..., None]


def takes_model_options(*, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command these options; in Python it has them in one argument, ``model_options``.

    They stand in the help where that argument stands.

    Args:
        without: fields of ``ModelOptions`` that mean nothing to the command.
    """
    options = [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type
        )
        for one in fields(ModelOptions)
        if one.name not in without
    ]

    def given_to(command: Command) -> Command:
        @functools.wraps(command)
        def run(**told: Any) -> None:
            found = ModelOptions(**{one.name: told.pop(one.name) for one in options})
            command(model_options=found, **told)

        own = inspect.signature(command)
        parameters = list(own.parameters.values())
        place = list(own.parameters).index("model_options")
        parameters[place : place + 1] = options
        cast(Any, run).__signature__ = own.replace(parameters=parameters)  # what typer reads
        return run

    return given_to
