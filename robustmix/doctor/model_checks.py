"""Is a network scored in the right mode, at full precision, and from the right file?"""

import pickle
import tempfile
from pathlib import Path

import torch

from robustmix.doctor.expectations import (
    CheckFailed,
    Device,
    expect,
    expect_close,
    expect_refusal,
    expect_same,
    refuses,
)
from robustmix.doctor.known_models import MEAN, SIZE, STD, Linear, convolutional_model, unit_images
from robustmix.errors import IntakeError
from robustmix.evaluation.engine import guarded
from robustmix.models.checkpoint import Checkpoint, save_checkpoint
from robustmix.models.checks import buffers_hash, looks_like_probabilities
from robustmix.models.load import load_model
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel, padded


def normalisation(device: Device) -> str:
    """Pixels in [0, 1] go in; the model subtracts the mean and divides by the deviation itself."""
    net = Linear()
    model = RobustModel(net, mean=MEAN, std=STD, num_classes=2, input_size=SIZE).to(device)
    images = unit_images(3, device)
    mean = torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor(STD, dtype=torch.float64).view(3, 1, 1)
    weight = net.weight.detach().cpu().double()
    margin = ((images.cpu().double() - mean) / std * weight).flatten(1).sum(dim=1)
    expect_close(model(images)[:, 0].detach().cpu().numpy(), margin.numpy(), "logits", within=1e-3)
    expect_refusal(refuses(ValueError, model, 255 * images), "an image in [0, 255]")
    return "done inside the model; pixels outside [0, 1] are refused"


def eval_mode(device: Device) -> str:
    """Scoring uses running statistics, leaves them alone, and refuses training mode."""
    model, images = convolutional_model(device), unit_images(7, device)
    expect(not any(module.training for module in model.modules()), "wrapping leaves training mode")
    before = buffers_hash(model)
    with torch.no_grad():
        whole = model(images)
        again = model(images)
    expect_same(again, whole, "scoring twice")
    expect(buffers_hash(model) == before, "scoring changed the running statistics")
    model.net.train()
    expect_refusal(refuses(RuntimeError, model, images), "a network in training mode")
    return "running statistics unchanged; training mode is refused"


def batch_independence(device: Device) -> str:
    """The logits of a sample hardly depend on what is scored beside it: other kernels, no more."""
    model, images = padded(convolutional_model(device)), unit_images(11, device)
    with torch.no_grad():
        whole = model(images)
        parts = torch.cat([model(images[:3]), model(images[3:4]), model(images[4:])])
    difference = float((parts - whole).abs().max() / whole.abs().max())
    expect_close(difference, 0, "the difference of logits, by the largest,", within=1e-5)
    return f"batches of 1, 3, 7 and 11 differ by {difference:.1g} of the largest logit"


def determinism(device: Device) -> str:
    """Two passes of a residual network give the same bits."""
    net = build_model("resnet8", num_classes=5, input_size=(3, 32, 32))
    model = RobustModel(net, mean=MEAN, std=STD, num_classes=5, input_size=(3, 32, 32)).to(device)
    images = unit_images(8, device, (3, 32, 32))
    with torch.no_grad(), guarded(device):
        expect_same(model(images), model(images), "two passes")
    return f"two passes on {device} are equal bit for bit"


def full_float32(device: Device) -> str:
    """Matrix products and convolutions keep the 24 bits of float32 (TF32 and bf16 are off)."""
    fine = 1 + 2.0**-20
    with guarded(device), torch.no_grad():
        flags = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
        matrix = torch.full((64, 64), fine, device=device)
        product = matrix @ torch.eye(64, device=device)
        kernel = torch.zeros(16, 16, 3, 3, device=device)
        kernel[:, :, 1, 1] = torch.eye(16, device=device)
        image = torch.full((2, 16, 8, 8), fine, device=device)
        convolved = torch.nn.functional.conv2d(image, kernel, padding=1)
        mixed = torch.is_autocast_enabled(device.type)
    expect(not flags, "TF32 is allowed while a model is scored")
    expect(not mixed, "autocast is on while a model is scored")
    expect(bool((product == matrix).all()), "a matrix product rounds to fewer bits than float32")
    expect(bool((convolved == image).all()), "a convolution rounds to fewer bits than float32")
    return "TF32 and autocast are off while a model is scored"


def checkpoint(device: Device) -> str:
    """A checkpoint gives back the same logits, divided by its temperature if it has one."""
    images = unit_images(3, device, (3, 32, 32))
    net = build_model("resnet8", num_classes=5, input_size=(3, 32, 32))
    original = _checkpoint(net.state_dict())
    net = net.eval().to(device)
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (MEAN, STD))
    with tempfile.TemporaryDirectory(prefix="robustmix-") as folder, torch.no_grad():
        path = Path(folder) / "model.pth"
        save_checkpoint(path, original)
        loaded = load_model(path, device=device)(images)
        expect_same(loaded, net((images - mean) / std), "logits of the loaded checkpoint")
        calibrated = {"T": 2.0, "sample_ids": ["a"]}
        save_checkpoint(path, _checkpoint(net.state_dict(), calibrated))
        expect_same(load_model(path, device=device)(images), loaded / 2, "calibrated logits")
    return "written and read back bit for bit, with and without a temperature"


def _checkpoint(
    state: dict[str, torch.Tensor], calibration: dict[str, object] | None = None
) -> Checkpoint:
    return Checkpoint(
        arch="resnet8",
        arch_options={"stem": "cifar"},
        method="vanilla",
        num_classes=5,
        input_size=(3, 32, 32),
        mean=MEAN,
        std=STD,
        class_names=tuple("abcde"),
        dataset="digits",
        recipe={},
        run_id="doctor",
        epoch=0,
        metrics={},
        model=state,
        calibration=calibration,
    )


def strict_load(device: Device) -> str:
    """A file that lacks a tensor, or holds code, is refused."""
    state = build_model("resnet8", num_classes=5, input_size=(3, 32, 32)).state_dict()
    missing = {name: value for name, value in state.items() if name != "layer2.0.conv1.weight"}
    with tempfile.TemporaryDirectory(prefix="robustmix-") as folder:
        path = Path(folder) / "model.pth"
        save_checkpoint(path, _checkpoint(missing))
        expect_refusal(refuses(IntakeError, load_model, path), "a file that lacks a tensor")
        trace = Path(folder) / "ran"
        path.write_bytes(pickle.dumps({"model": _Code(trace)}))
        expect_refusal(refuses(IntakeError, load_model, path), "a file that holds code")
        expect(not trace.exists(), "code in a file was run")
    return "a missing tensor and a pickle with code are refused"


class _Code:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.path),)


def logits_not_probabilities(device: Device) -> str:
    """A network that returns probabilities is noticed; one that returns logits is not accused."""
    logits = 3 * torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    for name, values in (
        ("a softmax", logits.softmax(dim=1)),
        ("a log-softmax", logits.log_softmax(dim=1)),
        ("a sigmoid", logits.sigmoid()),
    ):
        if not looks_like_probabilities(values):
            raise CheckFailed(f"the output of {name} is taken for logits")
    expect(not looks_like_probabilities(logits), "logits are taken for probabilities")
    return "softmax, log-softmax and sigmoid outputs are noticed"
