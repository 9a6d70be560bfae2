"""One evaluation, everything decided: it runs the suites and makes the report."""

import hashlib
import re
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch

import robustmix
from robustmix.data.images import ImageSet
from robustmix.environment import describe_environment, timestamp
from robustmix.errors import RobustmixError
from robustmix.evaluation.engine import (
    Context,
    Engine,
    Interrupted,
    guarded,
    padded,
)
from robustmix.evaluation.masking.verdict import share_verdict
from robustmix.evaluation.patches import token_patch
from robustmix.evaluation.planned import Planned, name_subset, seeded_subset
from robustmix.evaluation.progress import EvalProgress
from robustmix.evaluation.protocols import PRESETS
from robustmix.evaluation.resume_store import UnitStore
from robustmix.evaluation.suites.corruption import CorruptionSuite, clean_temperature
from robustmix.evaluation.suites.registry import suite_type
from robustmix.evaluation.warnings import find_warnings
from robustmix.files import hash_json
from robustmix.models.checks import sanity_checks, state_hash
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from robustmix.report.samples import Samples
from robustmix.report.schema import (
    DatasetPart,
    Environment,
    FilePart,
    ModelPart,
    Protocol,
    ReportModel,
    Run,
    SuiteUnion,
    Tool,
    Warn,
)
from robustmix.rng import GENERATOR
from robustmix.signals import StopRequest


@dataclass
class Job:
    """One evaluation, everything decided."""

    robust: RobustModel
    data: ImageSet
    whole: ImageSet
    chosen: torch.Tensor | None
    suites: list[Planned]
    refused: dict[str, RobustmixError]
    seed: int
    device: torch.device
    name: str
    argv: list[str]
    state_sha256: str = ""
    dataset: dict[str, Any] = field(default_factory=dict)
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    covered: dict[str, torch.Tensor | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state_sha256 = state_hash(self.robust)
        self.dataset = _describe_data(self.data, self.whole, self.chosen, self.seed)
        self.params = {planned.key: planned.suite.params() for planned in self.suites}
        self.covered = {p.key: self._covered(p) for p in self.suites}

    def _covered(self, planned: Planned) -> torch.Tensor | None:
        if planned.limit is None:
            return None
        return seeded_subset(self.seed, self.data.sample_ids, planned.limit)

    @property
    def limits(self) -> dict[str, int]:
        """Number of samples of the suites that cover only a part."""
        return {key: len(found) for key, found in self.covered.items() if found is not None}

    @property
    def nonstandard(self) -> list[str]:
        """Keys of the suites that repeat a published tool, faults included."""
        faulty = {name for name, preset in PRESETS.items() if preset.nonstandard}
        return [
            p.key
            for p in self.suites
            if p.preset in faulty or self.params[p.key].get("nonstandard", False)
        ]

    def identity(self) -> dict[str, str]:
        """Return the hashes that decide whether finished units may be used."""
        run = {
            "model": self.state_sha256,
            "resize": self.robust.resize,
            "data": self.dataset,
            "labels": hash_json(self.data.labels.tolist()),
            "pixels": _pixel_probe(self.data),
            "seed": self.seed,
            "generator": GENERATOR,
            "device": self.device.type,
            "version": robustmix.__version__,
        }
        suites = {k: hash_json([v, self.limits.get(k)]) for k, v in self.params.items()}
        return {"run": hash_json(run)} | suites

    @property
    def fingerprint(self) -> str:
        """Hash over all that the numbers depend on."""
        return hash_json(self.identity())

    @property
    def facts(self) -> dict[str, Any]:
        """What a summary needs beside the rows; all of it is in the report."""
        return {
            "seed": self.seed,
            "num_classes": self.robust.num_classes,
            "input_size": list(self.robust.input_size),
            "token_patch": token_patch(self.robust),
            "subset": self.chosen is not None,
        }

    def run(
        self, store: UnitStore, batch_size: int, progress: EvalProgress, stop: StopRequest
    ) -> Report:
        """Run what is not done yet and return the report.

        Args:
            store: finished units.
            batch_size: samples a forward pass.
            progress: is told how far it is.
            stop: asked before every unit of work.
        """
        started, clock = timestamp(), time.monotonic()
        samples = Samples(
            sample_ids=self.data.sample_ids,
            labels=self.data.labels.numpy().astype(np.int64),
            class_names=self.data.class_names,
            superclass=self.data.superclass,
        )
        data = self.data.to(self.device)
        official = torch.arange(len(self.data)) if self.chosen is None else self.chosen
        parts: dict[str, SuiteUnion] = {}
        timing: dict[str, float] = {}
        with guarded(self.device):
            first = data.pixels.take(torch.arange(min(16, len(data)))).to(self.device)
            checks = sanity_checks(self.robust, first.float() / 255)
            context = Context(
                model=padded(self.robust),
                robust=self.robust,
                data=data,
                official=official,
                device=self.device,
                seed=self.seed,
            )
            engine = Engine(context, store, batch_size, progress, stop)
            for planned in self.suites:
                begun, key = time.monotonic(), planned.key
                parts[key] = self._suite(engine, planned, samples, parts)
                timing[key] = time.monotonic() - begun
                parts[key].timing["wall_s"] = timing[key]
        for suite_name, error in self.refused.items():
            parts[suite_name] = _part_type(suite_name)(status="failed", reason=error.line())
        share_verdict(parts)
        warnings = find_warnings(self.robust, self.whole, samples, parts, checks)
        statuses = {part.status for part in parts.values()}
        ended: Literal["success", "interrupted", "failed"] = "success"
        if statuses != {"ok"}:
            ended = "interrupted" if "partial" in statuses else "failed"
        content = ReportModel(
            tool=Tool(version=robustmix.__version__),
            run=Run(
                id=uuid.uuid4().hex,
                name=self.name,
                status=ended,
                started=started,
                finished=timestamp(),
                wall_s=time.monotonic() - clock,
                argv=without_folders(self.argv),
                config={"suites": list(self.params), "batch_size": batch_size},
                seed=self.seed,
                fingerprint=self.fingerprint,
                resumed_units=engine.resumed_units,
            ),
            environment=Environment.model_validate(describe_environment(self.device)),
            model=self._model_part(checks),
            dataset=DatasetPart.model_validate(self.dataset),
            protocol=Protocol(
                presets=list(dict.fromkeys(name for p in self.suites for name in p.of)),
                hash=hash_json({"params": self.params, "limits": self.limits}),
                nonstandard=bool(self.nonstandard),
                nonstandard_suites=self.nonstandard,
                params=self.params,
                limits=self.limits,
            ),
            suites=parts,
            warnings=warnings,
            errors=[
                Warn(code="E-SUITE", suite=suite, message=part.reason or "")
                for suite, part in parts.items()
                if part.status != "ok"
            ],
            timing={"total_s": time.monotonic() - clock, **timing},
        )
        return Report(content, samples)

    def _suite(
        self, engine: Engine, planned: Planned, samples: Samples, done: dict[str, SuiteUnion]
    ) -> SuiteUnion:
        suite, key, covered = planned.suite, planned.key, self.covered[planned.key]
        kind = _part_type(suite.name)
        if engine.should_stop():
            return kind(status="partial", reason="interrupted before it began")
        if key != "clean" and done["clean"].status != "ok":
            return kind(status="skipped", reason="needs the suite clean, which did not complete")
        try:
            engine.context = replace(engine.context, clean=samples.tables.get("clean"))
            if isinstance(suite, CorruptionSuite):
                temperature = clean_temperature(samples, self.seed)
                engine.context = replace(engine.context, temperature=temperature)
            table = engine.run(suite, key, covered)
            if table is not None:
                samples.tables[key] = table
            subset = self.chosen is not None or covered is not None
            seen = samples.view(key, None if covered is None else covered.numpy())
            part = suite.summarise(seen, self.facts | {"subset": subset})
            if covered is not None:
                name_subset(part, len(covered), len(self.data))
            return part
        except Interrupted:
            return kind(status="partial", reason="interrupted; add --resume to continue")
        except RobustmixError as error:
            samples.tables.pop(key, None)
            return kind(status="failed", reason=error.line())

    def _model_part(self, checks: dict[str, Any]) -> ModelPart:
        info, robust = self.robust.info, self.robust
        recipe = without_folders(dict(info.recipe)) if info.recipe else None
        return ModelPart(
            source=info.source,
            format=info.format,
            sha256=info.sha256,
            state_sha256=self.state_sha256,
            arch=info.arch,
            arch_options=dict(info.arch_options),
            head=info.head,
            weights=info.weights,
            num_classes=robust.num_classes,
            input_size=robust.input_size,
            normalisation={
                "mean": [round(v, 7) for v in robust.mean.flatten().tolist()],
                "std": [round(v, 7) for v in robust.std.flatten().tolist()],
            },
            resize=list(robust.resize) if robust.resize else None,
            token_patch=token_patch(robust),
            class_map_sha256=info.class_map_sha256,
            params=info.params,
            trusted_pickle=info.trusted_pickle,
            training={
                "run_id": info.run_id,
                "method": info.method,
                "epoch": info.epoch,
                "recipe": recipe,
            },
            checks=checks,
        )


def _part_type(key: str) -> type[SuiteUnion]:
    kind = suite_type(key.partition("@")[0])
    assert kind is not None  # the suites were chosen by these names
    return kind.part


Value = TypeVar("Value")


def without_folders(value: Value) -> Value:
    """Return a JSON-like value with absolute paths cut to their last name: reports are published.

    Example:
        >>> without_folders(["eval", "/home/me/last.pth", "--out=/tmp/x", "8/255"])
        ['eval', 'last.pth', '--out=x', '8/255']
    """
    cut: Any = value
    if isinstance(value, str):
        cut = re.sub(r"(^|[=:])/(?:[^/]+/)*([^/]*)/?$", r"\1\2", value)
    elif isinstance(value, list):
        cut = [without_folders(item) for item in value]
    elif isinstance(value, dict):
        cut = {key: without_folders(item) for key, item in value.items()}
    return cast(Value, cut)


def _pixel_probe(data: ImageSet) -> str:
    """Return a hash over 64 evenly spaced images: data in memory has no file with a checksum."""
    count = min(64, len(data))
    indices = torch.arange(count) * len(data) // count
    return hashlib.sha256(data.pixels.take(indices).cpu().numpy().tobytes()).hexdigest()


def _describe_data(
    data: ImageSet, whole: ImageSet, chosen: torch.Tensor | None, seed: int
) -> dict[str, Any]:
    subset = None
    if chosen is not None:
        subset = {"n": len(data), "of": len(whole), "seed": seed, "rule": "first of seeded order"}
    return DatasetPart(
        name=whole.name,
        split=whole.split,
        n=len(data),
        n_total=len(whole),
        subset=subset,
        order_sha256=data.order_sha256,
        class_names_sha256=data.class_names_sha256,
        transform=data.transform,
        files=[FilePart(name=f.name, sha256=f.sha256, verified=f.verified) for f in data.files],
    ).model_dump(mode="json")
