"""Examples at the end of every command's help: what is typed most, as it is typed."""

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "version": ("robustmix version",),
    "train": (
        "robustmix train cifar100-resnet18-adautomix",
        "robustmix train digits-resnet8-cutmix --epochs 2 --out runs/digits",
        "robustmix train mine.toml --set method.alpha=0.4 --seed 0,1,2 --dry-run",
    ),
    "eval": (
        "robustmix eval last.pth --suite fgsm,pgd --eps 4/255",
        "robustmix eval last.pth --suite corruption --severity 1,3,5 --limit 1000",
        "robustmix eval last.pth --protocol standard --dry-run",
    ),
    "calibrate": (
        "robustmix calibrate last.pth",
        "robustmix calibrate last.pth --calib-data folder:photos --figure reliability.png",
    ),
    "export": (
        "robustmix export last.pth --to detectron2 --out backbone.pkl",
        "robustmix export last.pth --to hf --report runs/report --license apache-2.0 --push me/net",
        "robustmix export torchvision:resnet50@default --to mmdet --allow-download",
    ),
    "list": ("robustmix list", "robustmix list suites", "robustmix list attacks --json"),
    "compare": (
        "robustmix compare main.json candidate.json",
        "robustmix compare a.json b.json c.json --metric clean.top1 --html comparison.html",
        "robustmix compare --group A=a1.json,a2.json --group B=b1.json,b2.json",
    ),
    "table": (
        "robustmix table runs/",
        "robustmix table runs/ --columns clean.top1,fgsm.robust_acc --published --out table.tex",
    ),
    "check": (
        "robustmix check report.json --baseline main.json",
        "robustmix check report.json --rules gate.toml --junit junit.xml",
        "robustmix check report.json --metric 'clean.top1>=0.75'",
    ),
    "demo": ("robustmix demo --out demo",),
    "doctor": ("robustmix doctor", "robustmix doctor --device cuda --json"),
    "corrupt generate": (
        "robustmix corrupt generate --dataset cifar100 --out CIFAR-100-C",
        "robustmix corrupt generate --dataset digits --corruptions fog --limit 20 --out digits-c",
    ),
    "corrupt verify": (
        "robustmix corrupt verify CIFAR-100-C",
        "robustmix corrupt verify CIFAR-100-C --against OTHER-C",
    ),
    "corrupt preview": (
        "robustmix corrupt preview --dataset digits --out corruptions.png",
        "robustmix corrupt preview photo.jpg --corruptions fog,snow",
    ),
    "data list": ("robustmix data list", "robustmix data list --json"),
    "data info": ("robustmix data info cifar100",),
    "data where": ("robustmix data where", "robustmix data where cifar100"),
    "data verify": ("robustmix data verify cifar100",),
    "data prepare": ("robustmix data prepare tiny-imagenet --from ~/Downloads",),
    "methods list": ("robustmix methods list",),
    "methods info": ("robustmix methods info adautomix",),
    "methods preview": (
        "robustmix methods preview --dataset digits --out mixing.png",
        "robustmix methods preview --dataset digits --checkpoint last.pth --out masks.png",
    ),
    "models inspect": (
        "robustmix models inspect last.pth",
        "robustmix models inspect x.pth --json",
    ),
    "recipes list": (
        "robustmix recipes list --dataset cifar100",
        "robustmix recipes list --method adautomix --published --names",
    ),
    "recipes show": ("robustmix recipes show cifar100-resnet18-adautomix --origin",),
    "recipes diff": ("robustmix recipes diff digits-resnet8-mixup digits-resnet8-cutmix",),
    "recipes copy": ("robustmix recipes copy digits-resnet8-cutmix mine.toml",),
    "recipes schema": ("robustmix recipes schema",),
    "report show": (
        "robustmix report show runs/report",
        "robustmix report show runs/report --metric 'fgsm.robust_acc[8/255]'",
    ),
    "report heatmap": ("robustmix report heatmap runs/report --out heatmap.png",),
    "report html": (
        "robustmix report html runs/report --out report.html",
        "robustmix report html main.json a.json b.json --out comparison.html",
    ),
    "report reliability": ("robustmix report reliability runs/report --out reliability.png",),
    "report validate": ("robustmix report validate runs/report",),
    "report md": ("robustmix report md runs/report",),
    "report latex": ("robustmix report latex runs/report --out table.tex",),
    "report tables": (
        "robustmix report tables runs/report --list",
        "robustmix report tables main.json candidate.json --format latex --out tables.tex",
        "robustmix report tables runs/report --table attacks-2 --format csv",
    ),
    "report csv": ("robustmix report csv runs/report --out numbers.csv",),
    "report merge": ("robustmix report merge shard-1 shard-2 --out whole",),
    "report migrate": ("robustmix report migrate old.json --out new.json",),
    "report schema": ("robustmix report schema",),
    "saliency make": (
        "robustmix saliency make --model last.pth --source gradcam --out maps.npz",
        "robustmix saliency make --model timm:vit_small_patch16_224.dino --attention-head 1 "
        "--like last.pth --out maps.npz",
    ),
    "saliency preview": ("robustmix saliency preview maps.npz --out maps.png",),
    "study list": ("robustmix study list",),
    "study show": ("robustmix study show poster-t3",),
    "study run": (
        "robustmix study run quick --out runs/quick --jobs 2",
        "robustmix study run poster-t3 --only method=adautomix --seeds 0 --gpus all --out runs/t3",
    ),
    "study status": (
        "robustmix study status runs/quick",
        "robustmix study status runs/quick --watch",
    ),
    "study table": (
        "robustmix study table runs/quick --published",
        "robustmix study table runs/quick --format html --out quick.html",
    ),
}
"""Command -> lines."""


def shown(command: str) -> str:
    """Give the end of a command's help, in Markdown; nothing where there are no examples."""
    lines = EXAMPLES.get(command, ())
    return "\n".join(["Examples:", "", *(f"    {line}" for line in lines), ""]) if lines else ""
