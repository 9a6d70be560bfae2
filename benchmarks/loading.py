"""How fast image files become batches, beside torchvision's and timm's loaders.

    python benchmarks/loading.py FOLDER [--rounds 7] [--threads 2] [--batch 64] [--repeats 4]
        [--step 0.3] [--out FILE.json]

FOLDER holds one folder of pictures a class, e.g. the 200 ImageNet pictures of ``imagenet-sample``.
They are linked so often (``--repeats``) that an epoch has a length worth measuring.

- ``loading``: one epoch of training batches: random boxes of 224 pixels, bilinear, mirrored at
  random, normalised to float32. ``torchvision`` is ImageFolder with RandomResizedCrop,
  RandomHorizontalFlip, ToTensor and Normalize in a DataLoader; ``timm`` is ``create_loader`` with
  the same transforms and its fast collation. They get as many workers as robustmix has threads.
- ``step``: the same with a step that takes ``--step`` seconds and no processor, as that of a GPU.
- ``decodes``: how often each image is decoded in an evaluation, under a bound on the memory that is
  a fraction of what all images take.
- ``memory``: the most memory of a process that goes over so many images.

Every round takes each contestant in turn. Ratios are of one round; the median is what counts.
Images a second of the clock are given beside those a second of all processors' work, which other
work on the machine disturbs less.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from timm.data import create_dataset, create_loader
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

import robustmix
from robustmix.data import decode, file_pixels, threads
from robustmix.data.augment import Augment
from robustmix.data.folder import load_folder
from robustmix.data.loader import train_batches
from robustmix.models.robust_model import RobustModel

SIDE, MEAN, STD = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EVALUATED = 100
"""Images of the evaluations whose decodes are counted."""

Epoch = Callable[[], Iterable[Tensor]]


def linked(folder: Path, root: Path, repeats: int) -> Path:
    """Make an image folder of links to the pictures, each so often."""
    pictures = sorted(path for path in folder.glob("*/*") if path.is_file())
    if not pictures:
        raise SystemExit(f"{folder} holds no folder of pictures a class")
    for path in pictures:
        for i in range(repeats):
            link = root / "train" / path.parent.name / f"{i}-{path.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return root


def ours(root: Path, batch: int) -> Epoch:
    """Return epochs of robustmix's loader."""
    data = load_folder(root, "train", SIDE)
    augment = Augment(kind="random-resized-crop", size=SIDE, interpolation="bilinear")
    order, draws = torch.Generator(), torch.Generator()

    def epoch() -> Iterator[Tensor]:
        batches = train_batches(
            data, batch_size=batch, augment=augment, order=order, draws=draws, device="cpu"
        )
        return (one.images for one in batches)

    return epoch


def torchvisions(root: Path, batch: int, workers: int) -> Epoch:
    """Return epochs of torchvision's data set in torch's loader."""
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader = DataLoader(
        ImageFolder(str(root / "train"), transform),
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
    )
    return lambda: (images for images, _ in loader)


def timms(root: Path, batch: int, workers: int) -> Epoch:
    """Return epochs of timm's loader, which normalises as it collates."""
    loader = create_loader(
        create_dataset("", root=str(root / "train")),
        input_size=(3, SIDE, SIDE),
        batch_size=batch,
        is_training=True,
        use_prefetcher=True,
        no_aug=False,
        re_prob=0.0,
        scale=(0.08, 1.0),
        hflip=0.5,
        color_jitter=None,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        num_workers=workers,
        pin_memory=False,
        device=torch.device("cpu"),
        persistent_workers=True,
    )
    return lambda: (images for images, _ in loader)


def cpu_seconds() -> float:
    """Return the processor's seconds of this process and of the workers that it started."""
    total, own = 0.0, os.getpid()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            if own in (int(path.parent.name), int(fields[1])):
                total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def seconds(epoch: Epoch, step: float) -> tuple[float, int, int]:
    """Return the seconds of an epoch, and how many images and batches it gave."""
    begun, images, batches = time.perf_counter(), 0, 0
    for batch in epoch():
        assert batch.dtype == torch.float32
        assert batch.shape[1:] == (3, SIDE, SIDE)
        images, batches = images + len(batch), batches + 1
        if step:
            time.sleep(step)
    return time.perf_counter() - begun, images, batches


def images_per_s(rate: dict[str, float]) -> str:
    """Say how fast a loader was."""
    return f"{rate['images_per_s']:.0f}/s, {rate['cpu_ms_an_image']:.2f} ms of a processor"


def loading(contestants: dict[str, Epoch], rounds: int) -> dict[str, Any]:
    """Measure images a second."""
    for epoch in contestants.values():
        seconds(epoch, 0)
    found: list[dict[str, dict[str, float]]] = []
    for number in range(rounds):
        rates = {}
        for name, epoch in contestants.items():
            cpu = cpu_seconds()
            took, images, _ = seconds(epoch, 0)
            cpu = cpu_seconds() - cpu
            rates[name] = {"images_per_s": images / took, "cpu_ms_an_image": 1000 * cpu / images}
        found.append(rates)
        said = (f"{name} {images_per_s(rate)}" for name, rate in rates.items())
        print(f"round {number}:", "; ".join(said), flush=True)
    others = [name for name in contestants if name != "robustmix"]

    def ratio(name: str, key: str) -> float:
        return statistics.median(r["robustmix"][key] / r[name][key] for r in found)

    return {
        "images_per_s_median": {
            k: statistics.median(r[k]["images_per_s"] for r in found) for k in contestants
        },
        "ratio_median": {k: ratio(k, "images_per_s") for k in others},
        "ratio_median_of_images_per_cpu_s": {k: 1 / ratio(k, "cpu_ms_an_image") for k in others},
        "rounds": found,
    }


def stepping(epoch: Epoch, step: float, rounds: int) -> dict[str, Any]:
    """Measure what a batch costs beside a step that leaves the processor free."""
    found = []
    for _ in range(rounds):
        load, _, batches = seconds(epoch, 0)
        both, _, _ = seconds(epoch, step)
        alone = load / batches
        found.append({"load_s": alone, "together_s": both / batches, "step_s": step})
    expected = [max(r["load_s"], step) for r in found]
    return {
        "of_max_median": statistics.median(
            r["together_s"] / e for r, e in zip(found, expected, strict=True)
        ),
        "of_sum_median": statistics.median(r["together_s"] / (r["load_s"] + step) for r in found),
        "rounds": found,
    }


class Small(nn.Module):
    """A network that costs little beside decoding."""

    def __init__(self, classes: int) -> None:
        """Remember how many logits there are."""
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        """Return the means of so many stripes of the image."""
        return nn.functional.adaptive_avg_pool2d(images, (1, self.classes)).mean(1).flatten(1)


def decodes(root: Path, memory: int, suite: str, **options: Any) -> dict[str, Any]:
    """Count the decodes of an evaluation under ``memory`` MiB."""
    data = load_folder(root, "train", SIDE)
    classes = data.num_classes
    model = RobustModel(
        Small(classes), mean=MEAN, std=STD, num_classes=classes, input_size=(3, SIDE, SIDE)
    )
    data = data.subset(range(0, len(data), max(1, len(data) // EVALUATED)))
    count: Counter[str] = Counter()

    def counted(path: Path, white: Any) -> Any:
        count[str(path)] += 1
        return decode.decode_rgb(path, white)

    with _replaced(file_pixels, "decode_rgb", counted):
        report = robustmix.evaluate(
            model, data, ["clean", suite], batch_size=8, image_memory=memory, device="cpu",
            **options,
        )  # fmt: skip
    part = report.content.suites[suite]
    assert part.status == "ok", part.reason
    return {
        "images": len(data),
        "conditions": len(part.conditions),
        "image_memory_mib": memory,
        "all_images_mib": round(len(data) * 3 * SIDE * SIDE / 2**20, 1),
        "decodes_an_image": sum(count.values()) / len(data),
        "suites": 2,
    }


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def peak(root: Path, images: int) -> float:
    """Return the most MiB of a process that evaluates so many images and trains on them."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(root), "--peak", str(images)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def print_peak(root: Path, images: int) -> None:
    """Go over so many images, as training and as an evaluation, and print the most memory."""
    data = load_folder(root, "train", SIDE)
    data = data.subset([i % len(data) for i in range(images)])
    augment = Augment(kind="random-resized-crop", size=SIDE, interpolation="bilinear")
    generators = {"order": torch.Generator(), "draws": torch.Generator()}
    for _ in train_batches(data, batch_size=64, augment=augment, device="cpu", **generators):
        pass
    from robustmix.data.reading import expect, keeping_decoded

    pixels = keeping_decoded(data.pixels, 64 << 20)
    for some in torch.arange(images).split(64):
        expect(pixels, some + 64 if int(some[-1]) + 64 < images else some)
        pixels.take(some)
    # Unlike getrusage's, it begins anew with the program.
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--step", type=float, default=0.3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.folder, options.peak)
        return
    torch.set_num_threads(options.threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        root = linked(options.folder, Path(temporary), options.repeats)
        batch, workers = options.batch, options.threads
        contestants = {
            "robustmix": ours(root, batch),
            "torchvision": torchvisions(root, batch, workers),
            "timm": timms(root, batch, workers),
        }
        result = {
            "what": f"training batches of {batch} from image files, {SIDE} pixels, bilinear",
            "images": len(list((root / "train").glob("*/*"))),
            "threads": threads.thread_count(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "timm": timm.__version__,
            "machine": f"{platform.machine()}, CPU",
            "loading": loading(contestants, options.rounds),
            "step": stepping(contestants["robustmix"], options.step, max(1, options.rounds // 2)),
            "decodes": {
                "corruption": decodes(
                    root, 10, "corruption", corruptions="brightness,pixelate", severity="1,3,5"
                ),
                "occlusion": decodes(root, 10, "occlusion"),
                "shuffle": decodes(root, 10, "shuffle"),
                "fgsm": decodes(root, 10, "fgsm", masking="off"),
            },
            "peak_mib_by_images": {str(n): peak(root, n) for n in (1600, 3200, 6400)},
        }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
