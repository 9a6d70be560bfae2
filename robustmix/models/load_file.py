"""Load a file of weights, or a folder with one: whose format it is, and whether it is the file."""

import re
from dataclasses import replace
from pathlib import Path

from robustmix.errors import IntakeError, UsageError
from robustmix.files import file_digest
from robustmix.models.archives import read_archive, unreadable
from robustmix.models.checkpoint import checkpoint_from, is_checkpoint
from robustmix.models.foreign import Foreign, read_foreign
from robustmix.models.load_checkpoint import from_checkpoint
from robustmix.models.recorded import (
    CONFIG,
    WEIGHTS,
    from_config,
    from_header,
    from_training,
    read_json_file,
)
from robustmix.models.robust_model import RobustModel
from robustmix.models.transformers_nets import is_transformers, read_transformers
from robustmix.models.wanted import Wanted
from robustmix.models.wrap import wrapped
from robustmix.text import plain


def from_file(path: Path, wanted: Wanted, expect_sha256: str | None, trust: bool) -> RobustModel:
    """Read a file of weights, or those in a folder, by whoever wrote them.

    Args:
        path: a checkpoint, a torch archive, a safetensors file, or a folder of timm's or of
            transformers' with one of these.
        wanted: what the caller says of the model.
        expect_sha256: digest that the file must have.
        trust: let code in a foreign pickle run.

    Raises:
        IntakeError: the file is missing, damaged, unsafe or another one, or does not fit.
        UsageError: the digest is no digest.
    """
    recorded, config, folder = None, None, path
    try:
        if (path / CONFIG).exists():
            config = read_json_file(path / CONFIG)
            if not is_transformers(config):
                recorded = from_config(path)
            found = [path / name for name in WEIGHTS if (path / name).is_file()]
            if not found:
                raise IntakeError(
                    f"{plain(path, 80)} holds {CONFIG} but no weights",
                    "expected " + " or ".join(WEIGHTS),
                    code="E-NO-FILE",
                )
            path = found[0]
        digest = _verified_digest(path, expect_sha256) if path.is_file() else None
    except OSError as error:
        raise unreadable(path, error) from error
    archive = read_archive(path, trust_checkpoint=trust)
    if config is not None and recorded is None:
        model = _wrapped(read_transformers(folder, config, archive, path, wanted), wanted)
    elif is_checkpoint(archive.content):
        model = from_checkpoint(checkpoint_from(archive.content, path), path, wanted)
    else:
        if recorded is None and archive.metadata is not None:
            recorded = from_header(archive.metadata, path.name)
        recorded = recorded or from_training(archive.content, path.name)
        model = _wrapped(read_foreign(archive, path, wanted, recorded), wanted)
    notes = model.info.notes
    if archive.trusted_pickle:
        notes += (f"W-TRUSTED-PICKLE: code in {path.name} was allowed to run",)
    model.info = replace(
        model.info, sha256=digest, trusted_pickle=archive.trusted_pickle, notes=notes
    )
    return model


def _wrapped(foreign: Foreign, wanted: Wanted) -> RobustModel:
    return wrapped(
        foreign.net, foreign.info, wanted, foreign.input_size, foreign.norm, foreign.outputs
    )


def _verified_digest(path: Path, expected: str | None) -> str:
    digest = file_digest(path)
    if expected is not None:
        expected = expected.strip().lower()
        if not re.fullmatch("[0-9a-f]{64}", expected):
            raise UsageError(
                "--expect-sha256 wants 64 hexadecimal digits",
                f"got {len(expected)} characters",
                code="E-CHECKSUM",
            )
        if digest != expected:
            raise IntakeError(
                f"{path.name} has SHA-256 {digest}, expected {expected}",
                "download it again, or correct --expect-sha256",
                code="E-CHECKSUM",
            )
    # torch.hub's names end in the first digits of the digest; all-decimal ones may be a date.
    suffix = re.search(r"-([0-9a-f]{8})\.pth?$", path.name)
    if suffix and not suffix[1].isdecimal() and not digest.startswith(suffix[1]):
        raise IntakeError(
            f"{path.name} is named after a SHA-256 that it does not have ({digest[:8]}…)",
            "download it again, or rename it if the ending is no checksum",
            code="E-CHECKSUM",
        )
    return digest
