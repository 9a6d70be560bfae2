"""Write the sections of docs/results.md from what was measured, benchmarks/results/*.json.

What stands above the first section is typed, and holds no figure. A test compares the rest with the
files.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"

Data = Mapping[str, Any]
Rows = list[list[str]]


class Section(NamedTuple):
    """One file of results."""

    title: str
    says: str
    """What its figures are, where the file does not say it."""

    table: Callable[[Data], Rows]
    """Its figures; the first row is the head."""


def number(value: float, digits: int = 2) -> str:
    """Write a number, its thousands apart."""
    return f"{value:,.{digits}f}"


def share(value: float) -> str:
    """Write a fraction in percent."""
    return f"{100 * value:.1f} %"


def autoattack(data: Data) -> Rows:
    """Tabulate robust images and time beside the authors' program."""
    n = sum(batch["n"] for batch in data["batches"])
    rows = [["", f"robust of {n} images", "seconds"]]
    for name, one in data["totals"].items():
        rows.append([name, str(one["robust"]), number(one["s"], 0)])
    only = str(data["robust_only_here"]), str(data["robust_only_for_the_authors"])
    return [
        *rows,
        ["robust here alone", only[0], ""],
        ["robust for the authors alone", only[1], ""],
        ["time over the authors'", "", number(data["time_over_authors"])],
    ]


def attacks(data: Data) -> Rows:
    """Tabulate our time over that of other packages."""
    times = data["time_over_others_median"]
    others = sorted({name for one in times.values() for name in one})
    rows = [["our time over that of", *others, "share of it within the network"]]
    for name, one in times.items():
        cells = [number(one[other]) if other in one else "" for other in others]
        rows.append([f"`{name}`", *cells, share(data["share_of_time_in_the_model_median"][name])])
    return rows


def masking(data: Data) -> Rows:
    """Tabulate what the checks cost."""
    rows = [["design", "images", "of the CPU time", "of the passes", "verdict", "decided by"]]
    for name in ("sequential", "full"):
        one = data[name]
        told = share(one["share_of_cpu_s_median"]), share(one["share_of_passes"])
        rows.append([name, str(one["n"]), *told, one["verdict"], one["decided_by"]])
    return rows


def beside_imagecorruptions(data: Data) -> Rows:
    """Tabulate milliseconds an image, theirs and ours."""
    rows = [["corruption", "robustmix, ms", "imagecorruptions, ms", "theirs over ours"]]
    named = {**data["corruptions"], "all but glass_blur": data["sum_without_glass_blur"]}
    for name, one in named.items():
        times = number(one["ours_ms"], 3), number(one["theirs_ms"], 3)
        rows.append([name.replace("_", " "), *times, number(one["ratio"])])
    return rows


def corruption_rates(data: Data) -> Rows:
    """Tabulate images a second by threads."""
    threads = [key for key in data if key.startswith("threads_")]
    rows = [["corruption", *(f"{key.removeprefix('threads_')} thread(s)" for key in threads)]]
    for name in data[threads[0]]["corruptions"]:
        found = [data[key]["corruptions"][name]["images_per_s_severity_3"] for key in threads]
        rows.append([name.replace("_", " "), *(number(rate, 0) for rate in found)])
    return rows


def training_step(data: Data) -> Rows:
    """Tabulate seconds a step."""
    rows = [["step", "median, s", f"over {data['compared_with']}", "likewise, of CPU time"]]
    for name, seconds in data["median_s"].items():
        ratios = data["ratio_median"][name], data["ratio_median_of_cpu_seconds"][name]
        rows.append([name, number(seconds), *(number(ratio) for ratio in ratios)])
    return rows


def mixing(data: Data) -> Rows:
    """Tabulate what making a batch takes of a step."""
    rows = [["method", "side", "batch", "mixing, ms", "share of a step"]]
    for side, one in data["sizes"].items():
        for name, told in one["methods"].items():
            cells = number(1000 * told["mix_s"]), share(told["share_of_step"])
            rows.append([f"`{name}`", side, str(one["batch"]), *cells])
    return rows


def loading(data: Data) -> Rows:
    """Tabulate images a second."""
    one = data["loading"]
    rows = [["", "images a second", "ours over it", "likewise, an image a CPU second"]]
    for name, rate in one["images_per_s_median"].items():
        ratios = [
            number(one[key][name]) if name in one[key] else ""
            for key in ("ratio_median", "ratio_median_of_images_per_cpu_s")
        ]
        rows.append([name, number(rate, 0), *ratios])
    return rows


def scaling(data: Data) -> Rows:
    """Tabulate seconds a step by processes."""
    names = list(next(iter(data["methods"].values()))["step_s"])
    rows = [["method", *(f"{name}, s a step" for name in names), "efficiency"]]
    for method, one in data["methods"].items():
        low, high = one["efficiency_range"]
        told = f"{number(one['efficiency'])} ({number(low)} to {number(high)})"
        rows.append([f"`{method}`", *(number(one["step_s"][name]) for name in names), told])
    return rows


def processes(data: Data) -> Rows:
    """Tabulate time and memory of whole commands."""
    rows = [["command", "time, s", "CPU time, s", "peak memory, MB", "ratio"]]
    for name, one in data["figures"].items():
        times = number(one["clock_s"]), number(one["cpu_s"])
        cells = *times, number(one["peak_mb"], 0), number(one["ratio"], 2)
        rows.append([f"`{name}`", *cells])
    return rows


def overhead(data: Data) -> Rows:
    """Tabulate the ratio to a bare loop."""
    names = {"clean": "suite `clean`", "clean_calibration": "suites `clean` and `calibration`"}
    rows = [["", "CPU time over that within the network, ratio to a bare loop"]]
    return [*rows, *([names[name], number(ratio, 3)] for name, ratio in data["ratio"].items())]


def waits(data: Data) -> Rows:
    """Tabulate what a step would wait for on a GPU."""
    rows = [["method", "waits", "uploads", "operations"]]
    for name, one in data["methods"].items():
        cells = (number(one[key], 0) for key in ("waits", "uploads", "operations"))
        rows.append([f"`{name}`", *cells])
    return rows


SECTIONS: dict[str, Section] = {
    "autoattack_cpu": Section("AutoAttack beside the authors' program", "", autoattack),
    "attacks_cpu": Section("Attacks beside other packages", "", attacks),
    "masking_cpu": Section("What the masking checks cost", "", masking),
    "corruptions_224_cpu": Section("Corruptions, 224 pixels", "", beside_imagecorruptions),
    "corruptions_32_cpu": Section("Corruptions, 32 pixels", "", beside_imagecorruptions),
    "corruptions_cpu": Section(
        "Corruptions, in batches", "images a second at severity 3", corruption_rates
    ),
    "training_step_1_thread_cpu": Section("A training step, one thread", "", training_step),
    "training_step_cpu": Section("A training step, two threads", "", training_step),
    "mixing_cpu": Section("Mixing", "", mixing),
    "loading_cpu": Section("Loading", "", loading),
    "scaling_cpu": Section(
        "One training in two processes",
        "seconds a step of one batch, in one process and shared by two on as many cores; "
        "efficiency is half of the ratio of these, median over rounds and range",
        scaling,
    ),
    "clean_overhead_cpu": Section("An evaluation beside a bare loop", "", overhead),
    "gate_cpu": Section("A gate of large reports", "", processes),
    "start_cpu": Section("Commands", "", processes),
    "waits": Section("What a step would wait for on a GPU", "", waits),
}
"""Name of a file -> its section; the order is the page's."""

HOW = ("threads", "cores", "images", "batch", "n", "repeats", "arch", "recipe", "steps", "backend")
"""Keys that say how a measurement was made, where they are one value."""


def made_by(name: str, data: Data, date: str) -> Iterator[str]:
    """Say how a file was made, line by line."""
    versions = dict(data.get("versions", {}))
    versions |= {
        key: data[key]
        for key in ("robustmix", "torch", "torchvision", "timm", "numpy", "scipy")
        if isinstance(data.get(key), str)
    }
    command = data.get("command")
    yield f"- command: `{command}`" if command else "- command: not recorded"
    yield f"- machine: {data.get('machine', 'not recorded')}"
    yield "- versions: " + ", ".join(f"{key} {version}" for key, version in versions.items())
    yield f"- date of the file: {date}"
    how = [f"{key} {data[key]}" for key in HOW if isinstance(data.get(key), int | str)]
    if how:
        yield f"- settings: {', '.join(how)}"
    yield f"- all of it: `benchmarks/results/{name}.json`"


def section_text(name: str, data: Data, date: str) -> str:
    """Write the section of a file."""
    known = SECTIONS.get(name)
    title = known.title if known else name
    what = data.get("what") or (known.says if known else "")
    if data.get("what") and known and known.says:
        what = f"{what}; {known.says}"
    lines = [f"## {title}", "", f"{what[:1].upper()}{what[1:]}.", ""]
    if known:
        head, *rows = known.table(data)
        lines += [f"| {' | '.join(head)} |", "|---" + "|--:" * (len(head) - 1) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    return "\n".join([*lines, *made_by(name, data, date)]) + "\n"


def sections_text(dates: Mapping[str, str]) -> str:
    """Write all sections.

    Args:
        dates: name of a file, without its ending -> date of its figures.
    """
    files = {path.stem: path for path in sorted(RESULTS.glob("*.json"))}
    known = [name for name in SECTIONS if name in files]
    names = [*known, *(name for name in files if name not in SECTIONS)]
    sections = [
        section_text(name, json.loads(files[name].read_text(encoding="utf-8")), dates[name])
        for name in names
    ]
    return "\n".join(sections)


def date_of(path: Path) -> str:
    """Say when the figures of a file were committed; today, if they are not yet."""
    asked = ["git", "log", "-1", "--format=%as", "--", str(path)]
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", str(path)], cwd=ROOT)
    said = subprocess.check_output(asked, cwd=ROOT, text=True).strip()
    if said and not changed.returncode:
        return said
    return subprocess.check_output(["date", "+%F"], text=True).strip()


if __name__ == "__main__":
    typed = PAGE.read_text(encoding="utf-8").partition("\n## ")[0]
    text = sections_text({path.stem: date_of(path) for path in RESULTS.glob("*.json")})
    PAGE.write_text(f"{typed}\n{text}", encoding="utf-8")
