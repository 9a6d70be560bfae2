"""Images a second of every corruption, and what the whole of CIFAR-100-C costs.

    python benchmarks/corruptions.py [--threads 1,2] [--n 512] [--repeats 3] [--device cpu]
        [--profile cifar] [--imagecorruptions] [--out FILE.json]

Random images of the profile's size are corrupted in memory, in the one arithmetic there is: that of
the benchmark's scripts, value for value. Rates are of severity 3; the time of the whole set is made
of all five severities, 10,000 images each. Beside them stand the rates of the benchmark's own
scripts on one thread of another machine (``reference``, images a second), which are quoted and not
measured here. ``--imagecorruptions`` also runs the package imagecorruptions-imaug in this process,
image by image as it works, at severity 3; it applies the strengths of 224 pixels to any size.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

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


def measure_imagecorruptions(images: torch.Tensor, count: int = 64) -> dict[str, float]:
    """Return the package's images a second at severity 3, on the first ``count`` images."""
    from imagecorruptions import corrupt as corrupt_one

    found = {}
    pixels = images[:count].permute(0, 2, 3, 1).contiguous().numpy()
    for name in NAMES:
        try:
            corrupt_one(pixels[0], corruption_name=name, severity=3)
        except Exception as error:
            print(f"imagecorruptions {name}: {type(error).__name__}: {error}")
            continue
        begun = time.perf_counter()
        for image in pixels:
            corrupt_one(image, corruption_name=name, severity=3)
        found[name] = count / (time.perf_counter() - begun)
    return found


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", choices=PROFILES, default="cifar")
    parser.add_argument("--imagecorruptions", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
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
    if options.imagecorruptions:
        torch.set_num_threads(1)
        theirs = measure_imagecorruptions(images)
        result["imagecorruptions_images_per_s"] = theirs
        for name, rate in theirs.items():
            print(f"imagecorruptions  {name:18} {rate:9.0f} images/s")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
