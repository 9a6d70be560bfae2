"""``robustmix.evaluate``: a model and an image set become a report."""

import contextlib
import hashlib
import re
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from torch import nn

import robustmix
from robustmix.data.datasets import data_folder, load_dataset
from robustmix.data.images import ImageSet
from robustmix.environment import choose_device, describe_environment, timestamp
from robustmix.errors import IncompatibleError, IntakeError, RobustmixError, UsageError
from robustmix.evaluation.engine import (
    Context,
    Engine,
    Interrupted,
    Suite,
    guarded,
    padded,
)
from robustmix.evaluation.planned import Planned, seeded_subset
from robustmix.evaluation.progress import EvalProgress, Silence
from robustmix.evaluation.resolve import resolve_suites
from robustmix.evaluation.suites.corruption import CorruptionSuite, clean_temperature
from robustmix.evaluation.suites.registry import DEFAULT_LIMITS, SUITES, plan
from robustmix.evaluation.units import UnitStore
from robustmix.evaluation.warnings import find_warnings
from robustmix.files import hash_json
from robustmix.models.checks import sanity_checks, state_hash
from robustmix.models.intake import load_model
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import REPORT_FILE, Report
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
from robustmix.signals import StopRequest, stop_on_signals

DEFAULT_SUITES = ("clean", "calibration")
DEFAULT_BATCH = 128


def evaluate(
    model: RobustModel | nn.Module | Path | str,
    dataset: ImageSet | str | None = None,
    suites: Sequence[str | Suite | Planned] = DEFAULT_SUITES,
    *,
    data_dir: Path | str | None = None,
    limit: int | float | None = None,
    batch_size: int = DEFAULT_BATCH,
    device: str = "auto",
    seed: int = 0,
    out: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    keep_going: bool = False,
    name: str | None = None,
    argv: Sequence[str] = (),
    progress: EvalProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Report:
    """Measure a model and return the report.

    Args:
        model: a ``RobustModel``, or what ``load_model`` takes: a checkpoint, a name, a module.
        dataset: an image set or the name of one; None takes the one the checkpoint was trained on.
        suites: names, ``all``, suite objects with parameters, or those with a place of their own
            (``Planned``); ``clean`` is always run.
        data_dir: where data sets lie; see ``data_folder``.
        limit: evaluate only so many samples (int) or that share of them (float below 1), chosen by
            the seed; every condition sees the same ones.
        batch_size: samples a forward pass; it does not change any number.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        seed: of everything random.
        out: folder for ``report.json`` and ``samples.npz``; None writes nothing.
        resume: take over the finished units of an interrupted evaluation in ``out``.
        force: discard what an earlier evaluation left in ``out``.
        keep_going: evaluate the other suites if one cannot begin, e.g. because its files are
            damaged; else that is an error before anything is computed.
        name: a name for the report; the model's by default.
        argv: the command line, for the record.
        progress: hooks that are told how far the evaluation is.
        should_stop: asked before every unit of work; true stops as SIGINT does.

    Returns:
        The report; its ``content.run.status`` is ``success`` when every suite is ``ok``. A failed
        suite is in it with its reason.

    Raises:
        UsageError: an argument cannot be meant.
        IntakeError: the model, the data or the files of a suite are missing, damaged or do not fit.
        IncompatibleError: ``resume`` met units of another model, data set or parameters.
        IncompleteError: the report could not be written.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        >>> model = robustmix.load_model(
        ...     net, num_classes=10, input_size=(3, 32, 32), mean=(0, 0, 0), std=(1, 1, 1)
        ... )
        >>> evaluate(model, "digits", ["clean"], limit=20).metric("clean.top1").n
        20
    """
    if batch_size < 1:
        raise UsageError(f"expected --batch-size >= 1, got {batch_size}")
    if not 0 <= seed < 2**63:
        raise UsageError(f"expected 0 <= --seed < 2^63, got {seed}")
    where = choose_device(device)
    robust = model if isinstance(model, RobustModel) else load_model(model)
    robust = robust.to(where)
    folder = data_folder(Path(data_dir) if data_dir is not None else None)
    whole = _dataset(dataset, robust, folder)
    _check_fit(robust, whole)
    chosen = _subset(whole, limit, seed)
    data = whole if chosen is None else whole.subset(chosen)
    wanted = plan(suites)
    if limit is None:
        wanted = [p if p.limit else replace(p, limit=_default_limit(p)) for p in wanted]
    ready, refused = resolve_suites(wanted, whole, folder, keep_going=keep_going)
    job = _Job(
        robust=robust,
        data=data,
        whole=whole,
        chosen=chosen,
        suites=ready,
        refused=refused,
        seed=seed,
        device=where,
        name=name or (robust.info.source if out is None else Path(out).name),
        argv=list(argv),
    )
    with _workspace(out, resume=resume, force=force) as place:
        finished = _already_done(place, job) if resume and out is not None else None
        if finished is not None:
            return finished
        store = UnitStore(place / "units")
        store.open(job.identity(), resume=resume)
        with stop_on_signals(should_stop) as stop:
            report = job.run(store, batch_size, progress or Silence(), stop)
        if out is not None:
            report.save(place)
            if report.content.run.status == "success":
                store.remove()
        if stop.signal is not None:
            report.interrupted_by = stop.signal
        return report


@contextlib.contextmanager
def _workspace(out: Path | str | None, *, resume: bool, force: bool) -> Iterator[Path]:
    if out is None:
        with tempfile.TemporaryDirectory(prefix="robustmix-") as temporary:
            yield Path(temporary)
        return
    place = Path(out)
    if force:
        shutil.rmtree(place / "units", ignore_errors=True)
    elif not resume and (place / REPORT_FILE).exists() and not (place / "units").exists():
        raise UsageError(
            f"{place} already holds a report",
            "choose another --out, or add --force to replace it",
            code="E-EXISTS",
        )
    yield place


def _already_done(place: Path, job: "_Job") -> Report | None:
    if not (place / REPORT_FILE).exists():
        return None
    report = Report.load(place)
    if report.content.run.status != "success":
        return None
    if report.content.run.fingerprint != job.fingerprint:
        raise IncompatibleError(
            f"the report in {place} is of another model, data set or parameters",
            "choose another --out, or add --force to replace it",
            code="E-RESUME",
        )
    return report


def _dataset(dataset: ImageSet | str | None, robust: RobustModel, folder: Path) -> ImageSet:
    if isinstance(dataset, ImageSet):
        return dataset
    name = dataset or robust.info.dataset
    if name is None:
        raise UsageError(
            "the checkpoint does not say which data set it is for", "add --dataset NAME"
        )
    size = robust.input_size[1] if robust.input_size[1] == robust.input_size[2] else None
    return load_dataset(name, "test", data_dir=folder, img_size=size)


def _check_fit(robust: RobustModel, data: ImageSet) -> None:
    if robust.num_classes != data.num_classes:
        raise IntakeError(
            f"the model has {robust.num_classes} classes, {data.name} has {data.num_classes}",
            "give the data set the model was trained on, or a --class-map",
            code="E-CLASSES",
        )
    if robust.input_size != data.input_size:
        raise IntakeError(
            f"the model takes images {robust.input_size}, {data.name} has {data.input_size}",
            "give the data set the model was trained on",
            code="E-INPUT-SIZE",
        )
    names = robust.info.class_names
    if names is not None and robust.info.dataset == data.name and names != data.class_names:
        raise IntakeError(
            f"the checkpoint's class names are not those of {data.name}, so labels would be mixed "
            "up",
            "give the data the model was trained on, or a --class-map",
            code="E-CLASS-NAMES",
        )
    if len(data) == 0:
        raise IntakeError(f"{data.name} has no images", "check the data folder")
    if len(set(data.sample_ids)) != len(data):
        raise IntakeError(f"sample ids of {data.name} occur twice", "give every image its own id")


def _subset(data: ImageSet, limit: int | float | None, seed: int) -> torch.Tensor | None:
    """Return which samples to evaluate, rising; None for all of them."""
    if limit is None:
        return None
    share = isinstance(limit, float) and limit < 1
    count = round(limit * len(data)) if share else int(limit)
    if count < 1:
        raise UsageError(f"--limit {limit} leaves no sample", "give at least 1")
    return seeded_subset(seed, data.sample_ids, count)


def _default_limit(planned: Planned) -> int | None:
    return None if planned.preset else DEFAULT_LIMITS.get(planned.suite.name)


@dataclass
class _Job:
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
            "subset": self.chosen is not None,
        }

    def run(
        self, store: UnitStore, batch_size: int, progress: EvalProgress, stop: StopRequest
    ) -> Report:
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
            parts[suite_name] = SUITES[suite_name.partition("@")[0]].part(
                status="failed", reason=error.line()
            )
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
                presets=["standard"],
                hash=hash_json({"params": self.params, "limits": self.limits}),
                nonstandard=False,
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
        kind = SUITES[suite.name].part
        if engine.should_stop():
            return kind(status="partial", reason="interrupted before it began")
        if key != "clean" and done["clean"].status != "ok":
            return kind(status="skipped", reason="needs the suite clean, which did not complete")
        try:
            if isinstance(suite, CorruptionSuite):
                temperature = clean_temperature(samples, self.seed)
                engine.context = replace(engine.context, temperature=temperature)
            table = engine.run(suite, key, covered)
            if table is not None:
                samples.tables[key] = table
            subset = self.chosen is not None or covered is not None
            seen = samples.view(key, None if covered is None else covered.numpy())
            return suite.summarise(seen, self.facts | {"subset": subset})
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


def exit_code(report: Report) -> int:
    """Return what a process that made this report exits with."""
    if report.interrupted_by is not None:
        return 130 if report.interrupted_by == signal.SIGINT else 143
    return 0 if report.content.run.status == "success" else 4
