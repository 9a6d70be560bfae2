"""Images a second of every corruption, and what the whole of CIFAR-100-C costs.

    python benchmarks/corruptions.py [--threads 1,2] [--n 512] [--repeats 3] [--device cpu]
        [--profile cifar] [--out FILE.json]
    python benchmarks/corruptions.py --size 224 [--batch 1] [--images 8] [--pictures FOLDER]
        [--repeats 3] [--out FILE.json]

Images of the profile's size are corrupted in memory, in the one arithmetic there is: that of
the benchmark's scripts, value for value. Rates are of severity 3; the time of the whole set is made
of all five severities, 10,000 images each. Beside them stand the rates of the benchmark's own
scripts on one thread of another machine (``reference``, images a second), which are quoted and not
measured here.

``--size`` measures beside the package imagecorruptions (imagecorruptions-imaug's files run with
current versions of what it needs) in this process and in turn: ratios of CPU time, one thread. It
applies the strengths of 224 pixels to any size. Run it with OMP_NUM_THREADS=1.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from robustmix.corruptions import NAMES, PROFILES, SEVERITIES, Profile, corrupt

REFERENCE = {
    "gaussian_noise": 13987,
    "shot_noise": 5378,
    "impulse_noise": 5630,
    "defocus_blur": 7946,
    "glass_blur": 151,
    "motion_blur": 1138,
    "zoom_blur": 476,
    "snow": 800,
    "frost": 177,
    "fog": 2667,
    "brightness": 3118,
    "contrast": 19024,
    "elastic_transform": 2960,
    "pixelate": 29014,
    "jpeg_compression": 13451,
    "speckle_noise": 13591,
    "gaussian_blur": 14845,
    "spatter": 5396,
    "saturate": 3045,
}
"""Images a second of the generation scripts, one thread, 32x32, severity 3; 1,006 s in all."""

SET_IMAGES = 10_000


def seconds(images: torch.Tensor, name: str, severity: int, repeats: int) -> tuple[float, float]:
    """Return the median seconds that one call takes, of the clock and of all CPU cores."""
    corrupt(images[:64], name, severity, seed=0)
    times = []
    for _ in range(repeats):
        if images.device.type == "cuda":
            torch.cuda.synchronize()
        begun, used = time.perf_counter(), time.process_time()
        corrupt(images, name, severity, seed=0)
        if images.device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begun, time.process_time() - used))
    clock, cores = zip(*times, strict=True)
    return statistics.median(clock), statistics.median(cores)


def measure(images: torch.Tensor, repeats: int) -> dict[str, dict[str, float]]:
    """Return the rate at severity 3 and the seconds of five times 10,000 images, by corruption."""
    found = {}
    for name in NAMES:
        spent = [seconds(images, name, severity, repeats) for severity in SEVERITIES]
        found[name] = {
            "images_per_s_severity_3": len(images) / spent[2][0],
            "set_s": SET_IMAGES * sum(clock for clock, _ in spent) / len(images),
            "set_cpu_s": SET_IMAGES * sum(cores for _, cores in spent) / len(images),
        }
    return found


def read_pictures(folder: Path, side: int, count: int) -> torch.Tensor:
    """Return the largest centred squares of pictures of a folder, uint8 (count, 3, side, side)."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg"))
    pixels = []
    for path in found[:: max(1, len(found) // count)][:count]:
        with Image.open(path) as picture:
            square = ImageOps.fit(picture.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
        pixels.append(torch.from_numpy(np.array(square)))
    return torch.stack(pixels).permute(0, 3, 1, 2).contiguous()


def beside(images: torch.Tensor, batch: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return milliseconds an image of both sides and their ratio, by corruption.

    Both sides corrupt the same images at all five severities, in turn; theirs one at a time, as it
    works, ours ``batch`` at once. Times are of the CPU, summed over the severities; each is the
    median of ``repeats`` turns, and so is the ratio, which is of one turn at a time.
    """
    from imagecorruptions import corrupt as corrupt_one

    pixels = list(images.permute(0, 2, 3, 1).contiguous().numpy())
    batches = images.split(batch)  # type: ignore[no-untyped-call]

    def theirs(name: str, severity: int) -> None:
        for image in pixels:
            corrupt_one(image, corruption_name=name, severity=severity)

    def ours(name: str, severity: int) -> None:
        for some in batches:
            corrupt(some, name, severity, seed=0)

    found = {}
    for name in NAMES:
        turns = []
        for turn in range(repeats + 1):
            spent = [0.0, 0.0]
            for severity in SEVERITIES:
                for side, run in enumerate((theirs, ours)):
                    begun = time.process_time()
                    run(name, severity)
                    spent[side] += time.process_time() - begun
            if turn:  # the first one compiles and fills caches
                turns.append([1000 * s / len(images) / len(SEVERITIES) for s in spent])
        their_ms, our_ms = (statistics.median(side) for side in zip(*turns, strict=True))
        ratio = statistics.median(t / o for t, o in turns)
        found[name] = {"theirs_ms": their_ms, "ours_ms": our_ms, "ratio": ratio}
        print(f"{name:18} {their_ms:8.3f} ms  {our_ms:8.3f} ms  {ratio:6.2f}", flush=True)
    return found


def compare_with_imagecorruptions(options: argparse.Namespace, arguments: list[str]) -> None:
    """Measure ours beside imagecorruptions, print, and write the result if asked to."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    side, count = options.size, options.images
    if options.pictures:
        images = read_pictures(options.pictures, side, count)
    else:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    found = beside(images, options.batch, options.repeats)
    sums = {
        key: sum(row[key] for name, row in found.items() if name != "glass_blur")
        for key in ("theirs_ms", "ours_ms")
    }
    packages = ("torch", "numpy", "scipy", "pillow", "imagecorruptions", "imagecorruptions-imaug")
    result = {
        "what": "CPU milliseconds an image, mean of five severities: imagecorruptions one image at "
        "a time beside robustmix, in turn, one thread; ratio is theirs over ours",
        "command": "python benchmarks/corruptions.py " + " ".join(arguments),
        "images": f"{len(images)} of {side}x{side}, "
        + ("pictures" if options.pictures else "noise"),
        "batch": options.batch,
        "repeats": options.repeats,
        "versions": {name: version(name) for name in packages}
        | {name: version(name) for name in ("opencv-python-headless", "scikit-image", "numba")},
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "corruptions": found,
        "sum_without_glass_blur": sums | {"ratio": sums["theirs_ms"] / sums["ours_ms"]},
    }
    print(json.dumps(result["sum_without_glass_blur"]))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", choices=PROFILES, default="cifar")
    parser.add_argument("--size", type=int, choices=sorted(PROFILES.values()))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.size:
        compare_with_imagecorruptions(options, sys.argv[1:])
        return
    profile: Profile = options.profile
    side = PROFILES[profile]
    images = torch.randint(
        256,
        (options.n, 3, side, side),
        generator=torch.Generator().manual_seed(0),
        dtype=torch.uint8,
    ).to(options.device)
    result: dict[str, object] = {
        "what": f"{options.n} images of {side}x{side}, all corruptions, exact arithmetic",
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {images.device.type}",
        "reference_images_per_s": REFERENCE,
        "reference_set_s": 1006,
    }
    for threads in map(int, options.threads.split(",")):
        torch.set_num_threads(threads)
        found = measure(images, options.repeats)
        total, cores = (sum(r[key] for r in found.values()) for key in ("set_s", "set_cpu_s"))
        for name, row in found.items():
            rate = row["images_per_s_severity_3"]
            print(
                f"{threads} thread(s)  {name:18} {rate:9.0f} images/s  {row['set_s']:6.1f} s"
                f"  {rate / REFERENCE[name]:7.1f} x reference"
            )
        print(
            f"{threads} thread(s)  the whole set: {total:.1f} s, {cores:.1f} s of cores", flush=True
        )
        result[f"threads_{threads}"] = {"corruptions": found, "set_s": total, "set_cpu_s": cores}
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
