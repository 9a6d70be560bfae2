"""Whole classifiers as programs that run without robustmix: ONNX and TorchScript."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from robustmix.errors import IncompleteError, IntakeError
from robustmix.export.exported import Normalisation, Written, normalisation_of
from robustmix.files import atomic_path
from robustmix.models.outputs import logits_in
from robustmix.models.robust_model import RobustModel

TOLERANCE = 1e-4
"""Most that the logits of a program may differ, over the largest of them."""

BATCHES = (1, 3)
"""Images a pass that are compared: of a batch of any size, two others than it was made from."""

TRACED = 2


class Classifier(nn.Module):
    """A model as a program: pixels in [0, 1], or normalised ones, in; logits (N, K) out."""

    allowed: Tensor | None

    def __init__(self, robust: RobustModel, normalisation: Normalisation) -> None:
        super().__init__()
        self.robust, self.inside = robust, normalisation == "inside"
        mask = None
        if robust.class_map is not None:
            labels = torch.arange(robust.num_classes)
            mask = torch.where(robust.class_map == labels[:, None], 0.0, -torch.inf)
        self.register_buffer("allowed", mask)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K)."""
        given = self.robust.outputs(images) if self.inside else self.robust.net(images)
        logits = logits_in(given).float()
        if self.allowed is not None:  # outputs that share a label add their probabilities
            logits = torch.logsumexp(logits[:, None] + self.allowed, dim=2)
        return logits if self.robust.temperature is None else logits / self.robust.temperature


def onnx(robust: RobustModel, path: Path, normalisation: Normalisation = "inside") -> Written:
    """Write an ONNX program for batches of any size, and run it with ONNX Runtime.

    Raises:
        IntakeError: the packages of the extra ``export`` are not installed.
        IncompleteError: the network cannot be written so, or the program gives other logits.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch asks for it
    except ImportError:
        raise IntakeError(
            "ONNX needs onnx, onnxscript and onnxruntime, which are not installed",
            "pip install 'robustmix[export]'",
            code="E-EXTRA",
        ) from None
    program = Classifier(robust, normalisation).eval()
    example = _images(robust, TRACED, normalisation)
    with _silence(), _told("ONNX"), atomic_path(path) as temporary:
        made = torch.onnx.export(
            program,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
        assert made is not None
        made.save(str(temporary))
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])

        def run(images: Tensor) -> Tensor:
            (logits,) = session.run(["logits"], {"images": images.numpy()})
            return torch.from_numpy(logits)

        difference = _difference(program, run, robust, normalisation)
    return _written(robust, normalisation, difference, "logits in ONNX Runtime")


def torchscript(
    robust: RobustModel, path: Path, normalisation: Normalisation = "inside"
) -> Written:
    """Write a traced TorchScript program for batches of any size, and run it.

    Raises:
        IncompleteError: the network cannot be traced, or the program gives other logits.
    """
    program = Classifier(robust, normalisation).eval()
    example = _images(robust, TRACED, normalisation)
    with _silence(), _told("TorchScript"), atomic_path(path) as temporary:
        with torch.no_grad():
            traced = torch.jit.trace(program, example, check_trace=False)  # type: ignore[no-untyped-call]
            traced.save(str(temporary))
        loaded: Callable[[Tensor], Tensor] = torch.jit.load(str(temporary))  # type: ignore[no-untyped-call]
        difference = _difference(program, loaded, robust, normalisation)
    return _written(
        robust,
        normalisation,
        difference,
        "logits of the program read back",
        "PyTorch calls TorchScript deprecated; onnx is the other program",
    )


def _images(robust: RobustModel, n: int, normalisation: Normalisation) -> Tensor:
    """Make random images as the program wants them."""
    images = torch.rand(n, *robust.input_size, generator=torch.Generator().manual_seed(n))
    if normalisation == "inside":
        return images
    if robust.resize is not None:  # what is beside the program is done before it
        images = nn.functional.interpolate(images, robust.resize)
    return (images - robust.mean) / robust.std


def _difference(
    program: nn.Module,
    run: Callable[[Tensor], Tensor],
    robust: RobustModel,
    normalisation: Normalisation,
) -> float:
    """Give the largest difference of logits over the largest of them.

    Raises:
        IncompleteError: it is too large.
    """
    worst = 0.0
    for n in BATCHES:
        images = _images(robust, n, normalisation)
        with torch.no_grad():
            ours, theirs = program(images), run(images)
        scale = float(ours.abs().max().clamp(min=1e-30))
        worst = max(worst, float((ours - theirs).abs().max()) / scale)
    if not worst <= TOLERANCE:  # also for what is no number
        raise IncompleteError(
            f"the program gives other logits than the model: they differ by {worst:.3g} of the "
            "largest",
            "nothing was written; take another format",
            code="E-EXPORT",
        )
    return worst


def _written(
    robust: RobustModel, normalisation: Normalisation, difference: float, what: str, *notes: str
) -> Written:
    beside = normalisation == "beside"
    size = list(robust.resize) if beside and robust.resize else list(robust.input_size[1:])
    return Written(
        settings={
            "images": ["batch", 3, *size],
            "pixels": "normalised with mean and std" if beside else "in [0, 1]",
            **(normalisation_of(robust) if beside else {}),
            "logits": ["batch", robust.num_classes],
        },
        difference=difference,
        compared=f"{what}, on random images in batches of {BATCHES[0]} and {BATCHES[1]}",
        notes=notes,
    )


@contextlib.contextmanager
def _told(format: str) -> Iterator[None]:
    """Say in a line what torch says in pages, of a network that it cannot write."""
    try:
        yield
    except (IncompleteError, IntakeError):
        raise
    except Exception as error:  # whatever a stranger's forward pass makes of being traced
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise IncompleteError(
            f"the network cannot be written as {format}: {why}",
            "take another format",
            code="E-EXPORT",
        ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep from the terminal what torch says to its own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
