"""The model card of a folder for the hub: metadata for machines, and a page for people."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import robustmix
from robustmix.errors import UsageError
from robustmix.export.exported import normalisation_of
from robustmix.metrics.metric import Metric
from robustmix.models.robust_model import RobustModel
from robustmix.report.export import report_sheet
from robustmix.report.report import Report
from robustmix.report.schema import SuitePart
from robustmix.report.sheet import markdown_rows
from robustmix.report.text import markdown, markdown_item, plain

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "image-classification"

_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")

_DATASET = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
"""What the hub takes for the name of a data set; a folder of somebody's is none."""

METRIC_TYPES = {"top1": "accuracy", "top5": "top_5_accuracy"}
"""What the hub calls a metric that others have too."""

LONG = 400


def check_license(text: str) -> None:
    """Refuse what is no identifier of a licence.

    Raises:
        UsageError: it is none.
    """
    if not _IDENTIFIER.fullmatch(text):
        raise UsageError(
            f"'{plain(text, 60)}' is no identifier of a licence",
            "take one of the hub's, such as apache-2.0, mit, cc-by-4.0 or other",
            code="E-LICENSE",
        )


def dataset_id(name: str | None) -> str | None:
    """Give a data set's name as the hub may take it; None for what has none there.

    Example:
        >>> dataset_id("cifar100"), dataset_id("hf:mnist/x@test"), dataset_id("folder:/home/me/a")
        ('cifar100', 'mnist/x', None)
    """
    bare = (name or "").removeprefix("hf:").partition("@")[0].partition(":")[0]
    return bare if _DATASET.fullmatch(bare) and not (name or "").startswith("folder:") else None


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card says."""

    robust: RobustModel
    name: str
    place: str | None
    """``OWNER/NAME`` on the hub, where it is known."""

    timm_name: str | None
    """What timm calls the network; None for one that it does not have."""

    transform: str
    """How test images are prepared, in the words of ``TestTransform``."""

    report: Report | None
    license: str | None
    notes: Sequence[str]

    def text(self) -> str:
        """Write the card: YAML between two lines, then Markdown. A stranger's text stays text."""
        parts = [self._about(), self._loading(), self._results(), self._origin()]
        body = "\n\n".join("\n".join(lines) for lines in parts if lines)
        return f"---\n{self.metadata()}\n---\n\n{body}\n"

    def metadata(self) -> str:
        """Write what machines read, by the hub's own client."""
        from huggingface_hub import ModelCardData

        info = self.robust.info
        own = [info.method, info.arch.rpartition(":")[2]]
        tags = [TASK, "robustmix", "robustness", *(["timm"] if self.timm_name else [])]
        tags += [one for one in own if one and _IDENTIFIER.fullmatch(one)]
        data = dataset_id(info.dataset or self._evaluated_on())
        results = list(self._results_for_machines())
        return ModelCardData(
            pipeline_tag=TASK,
            license=self.license,
            library_name="timm" if self.timm_name else "robustmix",
            tags=list(dict.fromkeys(tags)),
            datasets=None if data is None else [data],
            model_name=plain(self.name, 96) if results else None,
            eval_results=results or None,
        ).to_yaml()

    def _evaluated_on(self) -> str | None:
        return None if self.report is None else self.report.content.dataset.name

    def _results_for_machines(self) -> Iterator["EvalResult"]:
        """Yield the headline numbers of every suite that came to its end."""
        from huggingface_hub import EvalResult

        if self.report is None:
            return
        content = self.report.content
        data = content.dataset
        known = dataset_id(data.name)
        for suite, part in content.ordered_suites().items():
            for path, metric in _numbers(part):
                yield EvalResult(
                    task_type=TASK,
                    dataset_type=known or "image-folder",
                    dataset_name=plain(known or "a folder of images", 100),
                    dataset_split=plain(data.split, 60),
                    dataset_args={"n": data.n, "n_total": data.n_total},
                    metric_type=METRIC_TYPES.get(path, plain(path.partition("[")[0], 100)),
                    metric_name=plain(f"{suite}.{path}", 150),
                    metric_value=metric.value,
                    metric_config=plain(part.shown.note, 150) or None,
                    metric_args={
                        "n": metric.n,
                        "unit": metric.unit,
                        "interval_95": None if metric.ci is None else list(metric.ci),
                        "protocol": plain(content.protocol.hash, 64),
                    },
                )

    def _about(self) -> list[str]:
        info, size = self.robust.info, self.robust.input_size
        method = f", trained with {markdown(info.method)}" if info.method else ""
        data = dataset_id(info.dataset)
        known = f" on {markdown(data)}" if data else ""
        return [
            f"# {markdown(self.name)}",
            "",
            f"{markdown(info.arch)}{method}{known}: {self.robust.num_classes} classes, "
            f"{info.params:,} parameters, images of {size[1]}x{size[2]} pixels.",
        ]

    def _loading(self) -> list[str]:
        told = normalisation_of(self.robust)
        down, allow = (" --allow-download", ", allow_download=True") if self.place else ("", "")
        lines = ["## Use", ""]
        if self.timm_name:
            where = f"hf-hub:{self.place}" if self.place else "local-dir:FOLDER"
            lines += [
                "```python",
                "import timm",
                "",
                f'net = timm.create_model("{where}", pretrained=True).eval()',
                "logits = net(images)  # normalised as below",
                "```",
                "",
                "robustmix reads it too: "
                f"`robustmix eval {self._folder()} --dataset DATASET{down}`.",
            ]
        else:
            lines += [
                "**The network is robustmix's own: timm and transformers cannot build it**, and "
                "`config.json` says so in its `architecture`. robustmix reads the folder:",
                "",
                "```python",
                "import robustmix",
                "",
                f'model = robustmix.load_model("{self._folder()}"{allow})',
                "logits = model(images)  # pixels in [0, 1]: it normalises them",
                "```",
                "",
                f"    robustmix eval {self._folder()} --dataset DATASET{down}",
            ]
        size = self.robust.input_size
        lines += [
            "",
            "Channels are red, green, blue; in units of pixels in [0, 1]",
            f"the normalisation is mean {told['mean']}, std {told['std']}. Test images have "
            f"{size[1]}x{size[2]} pixels, "
            + ("as they are." if self.transform == "none" else f"by `{self.transform}`."),
        ]
        return lines + [line for note in self.notes for line in ("", markdown_item(note))]

    def _folder(self) -> str:
        return f"hf-hub:{self.place}" if self.place else "FOLDER"

    def _results(self) -> list[str]:
        if self.report is None:
            return ["## Results", "", "No report was given when this card was written."]
        content = self.report.content
        data = content.dataset
        presets = ", ".join(content.protocol.presets)
        of = f"protocol {markdown(presets)}, " if presets else ""
        name = dataset_id(data.name) or "a folder of images"
        lines = [
            "## Results",
            "",
            f"On {data.n} of {data.n_total} images of {markdown(name)} "
            f"({markdown(data.split)}), with 95 % intervals; {of}parameters "
            f"`{content.protocol.hash[:12]}`, seed {content.run.seed}.",
            "",
            *markdown_rows(report_sheet(self.report)),
        ]
        warnings = [markdown_item(f"{w.code}: {w.message}", LONG) for w in content.warnings]
        return [*lines, *([""] if warnings else []), *warnings]

    def _origin(self) -> list[str]:
        info = self.robust.info
        lines = ["## Origin", "", f"Written by robustmix {robustmix.__version__}."]
        if info.sha256:
            lines[-1] += f" The checkpoint has SHA-256 `{info.sha256}`, weights {info.weights}."
        if self.report is not None:
            run = self.report.content.run
            state = plain(self.report.content.model.state_sha256, 64)[:12]
            lines[-1] += f" The report is run `{plain(run.id, 64)}` on weights `{state}`."
        if self.license is None:
            lines += ["", "No licence was stated."]
        return lines


def _numbers(part: SuitePart) -> Iterator[tuple[str, Metric]]:
    if part.status != "ok":
        return
    for path in part.shown.headline:
        metric = part.number(path)
        if metric is not None and metric.value is not None:
            yield path, metric
