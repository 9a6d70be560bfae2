"""What clean evaluation costs beside the bare forward passes of the same model.

    python benchmarks/clean_overhead.py [--n 1280] [--repeats 7] [--threads 2] [--out FILE.json]

Both sides run in this process, in turn, on the same pixels: the bare side does nothing but convert
uint8 to float, normalise and run the network on batches of 128; the other side is
``robustmix.evaluate(model, data, ["clean"])``, engine, scores, intervals and report included.
Figures are ratios of the same round, so a machine whose speed drifts does not decide.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

import robustmix
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel

BATCH = 128


def make_images(n: int) -> ImageSet:
    """Return random images of CIFAR-100's shape."""
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        name="random",
        split="test",
        pixels=TensorPixels(
            torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
        ),
        labels=torch.randint(100, (n,), generator=generator),
        sample_ids=tuple(f"random/test/{i}" for i in range(n)),
        class_names=tuple(map(str, range(100))),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def bare(model: RobustModel, images: torch.Tensor) -> float:
    """Return the seconds of the bare forward passes."""
    begun = time.perf_counter()
    with torch.no_grad():
        for batch in images.split(BATCH):
            model.net((batch.float() / 255 - model.mean) / model.std)
    return time.perf_counter() - begun


def evaluated(model: RobustModel, data: ImageSet) -> tuple[float, float]:
    """Return the seconds of a whole evaluation, and of its suite ``clean`` alone."""
    begun = time.perf_counter()
    report = robustmix.evaluate(model, data, ["clean"], batch_size=BATCH, device="cpu")
    return time.perf_counter() - begun, report.content.timing["clean"]


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1280)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    net = build_model("resnet18", num_classes=100, input_size=(3, 32, 32))
    model = RobustModel(
        net, mean=(0.5,) * 3, std=(0.25,) * 3, num_classes=100, input_size=(3, 32, 32)
    )
    data = make_images(options.n)
    assert isinstance(data.pixels, TensorPixels)
    bare(model, data.pixels.images)
    evaluated(model, data)
    rounds = []
    for i in range(options.repeats):
        plain = bare(model, data.pixels.images)
        whole, suite = evaluated(model, data)
        rounds.append({"bare_s": plain, "evaluate_s": whole, "suite_s": suite})
        print(f"round {i}: bare {plain:.2f} s, evaluate {whole:.2f} s, suite {suite:.2f} s")
    result = {
        "what": "clean evaluation beside bare forward passes, ResNet-18 (CIFAR stem), batch 128",
        "n": options.n,
        "threads": options.threads,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, CPU",
        "ratio_suite_median": statistics.median(r["suite_s"] / r["bare_s"] for r in rounds),
        "ratio_evaluate_median": statistics.median(r["evaluate_s"] / r["bare_s"] for r in rounds),
        "rounds": rounds,
    }
    print(json.dumps({k: v for k, v in result.items() if k != "rounds"}, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
