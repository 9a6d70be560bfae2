"""Options that say what a model file is, alike in every command that takes one."""

from pathlib import Path
from typing import Annotated

import typer

from robustmix.models.names import NORM_PRESETS

Arch = Annotated[
    str | None,
    typer.Option(
        help="Network of a bare state dict (robustmix list archs); module:FILE.py:FACTORY runs "
        "your own code.",
        rich_help_panel="Model",
    ),
]
NumClasses = Annotated[int | None, typer.Option(help="Number of classes.", rich_help_panel="Model")]
ImgSize = Annotated[int | None, typer.Option(help="Side of the images.", rich_help_panel="Model")]
Mean = Annotated[str | None, typer.Option(help="Normalisation, R,G,B.", rich_help_panel="Model")]
Std = Annotated[str | None, typer.Option(help="Normalisation, R,G,B.", rich_help_panel="Model")]
NormPreset = Annotated[
    str | None,
    typer.Option(
        help="Normalisation by name, in place of --mean and --std: " + ", ".join(NORM_PRESETS),
        rich_help_panel="Model",
    ),
]
ClassMap = Annotated[
    Path | None, typer.Option(help="CSV of output,label.", rich_help_panel="Model")
]
Head = Annotated[
    str | None,
    typer.Option(help="OpenMixup head: one_k, mix_k, one_q, mix_q.", rich_help_panel="Model"),
]
Weights = Annotated[
    str | None, typer.Option(help="raw or ema, if a file has both.", rich_help_panel="Model")
]
ExpectSha256 = Annotated[
    str | None, typer.Option(help="Refuse another file.", rich_help_panel="Model")
]
TrustCheckpoint = Annotated[
    bool,
    typer.Option("--trust-checkpoint", help="Run the file's own code.", rich_help_panel="Model"),
]
OverrideCheckpoint = Annotated[
    bool,
    typer.Option(
        "--override-checkpoint",
        help="Obey options on image size and normalisation where the checkpoint says otherwise.",
        rich_help_panel="Model",
    ),
]
AllowDownload = Annotated[
    bool,
    typer.Option(
        "--allow-download",
        help="Fetch published weights that are not in the local cache.",
        rich_help_panel="Model",
    ),
]
