"""One evaluation, everything decided: it runs the suites and makes the report."""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch

import robustmix
from robustmix.batch_memory import copies_of, fitting_batch, free_memory, image_size
from robustmix.data.content import pixels_sha256
from robustmix.data.images import ImageSet, Pixels
from robustmix.data.manifests import DATASETS
from robustmix.data.reading import keeping_decoded, kept_decoded
from robustmix.environment import describe_environment, timestamp
from robustmix.errors import RobustmixError
from robustmix.evaluation.block_order import IMAGE_MEMORY
from robustmix.evaluation.engine import AUTO, Engine, Interrupted, guarded
from robustmix.evaluation.faults import suite_fault
from robustmix.evaluation.patches import token_patch
from robustmix.evaluation.plan import Planned
from robustmix.evaluation.progress import EvalProgress
from robustmix.evaluation.protocols import PROTOCOLS
from robustmix.evaluation.repeats import CHECKED, Repeats
from robustmix.evaluation.resume_store import UnitStore
from robustmix.evaluation.subset_note import name_subset
from robustmix.evaluation.suite import Context, Prepared, only_rows, summarise, to_unit
from robustmix.evaluation.suites.registry import SUITES
from robustmix.evaluation.telling import config_of, tell_suite
from robustmix.evaluation.warnings import find_warnings, smaller_batch
from robustmix.files import hash_json
from robustmix.loggers.events import Hook, RunStarted
from robustmix.metrics.registry import METRICS
from robustmix.models.checks import state_hash
from robustmix.models.names import ARCHS
from robustmix.models.robust_model import RobustModel, padded
from robustmix.models.watched import WatchedModel
from robustmix.report.report import Report, without_folders
from robustmix.report.rows import Rows
from robustmix.report.samples import Samples
from robustmix.report.schema import (
    DatasetPart,
    Environment,
    FilePart,
    ModelPart,
    OriginPart,
    Protocol,
    ReportModel,
    Run,
    ShardPart,
    SuitePart,
    Tool,
    Warn,
)
from robustmix.rng import GENERATOR
from robustmix.signals import StopRequest
from robustmix.tables import Origin

Answer = TypeVar("Answer")

DEFAULT_BATCH, GPU_BATCH = 128, 2048
"""Most samples a forward pass where nobody says how many: on a processor, which larger ones make no
faster, and on a GPU, which has little to do between many small ones but wait for the next."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A suite that can be run, with its place in the report."""

    planned: Planned
    prepared: Prepared
    covered: torch.Tensor | None
    """Positions of the samples it is run over, rising; None for all."""

    @property
    def key(self) -> str:
        """Where the report has it."""
        return self.planned.key

    @cached_property
    def params(self) -> dict[str, Any]:
        """What the report records of it."""
        return self.prepared.params

    @cached_property
    def origins(self) -> list[OriginPart]:
        """The foreign things that make its numbers."""
        return origins_of(self.planned.name, self.prepared)


def origins_of(name: str, prepared: Prepared) -> list[OriginPart]:
    """List the foreign suite, attack, corruptions and metrics that make a suite's numbers."""
    found = [("suite", name, SUITES.origin(name))]
    found += prepared.foreign()
    for path in METRICS:
        if path.partition(".")[0] == prepared.kind:
            found.append(("metric", path, METRICS.origin(path)))
    return [
        origin_part(kind, called, origin) for kind, called, origin in found if origin is not None
    ]


def origin_part(kind: str, name: str, origin: Origin) -> OriginPart:
    """Give the record of where a thing came from."""
    return OriginPart(kind=kind, name=name, module=origin.module, version=origin.version)


@dataclass(kw_only=True)
class Evaluation:
    """One evaluation, everything decided."""

    robust: RobustModel
    data: ImageSet
    """What is evaluated."""

    whole: ImageSet
    """The split it is of."""

    chosen: torch.Tensor | None
    """Positions of the evaluated samples in the split, rising; None for all."""

    suites: list[Ready]
    refused: dict[str, RobustmixError]
    """The suites that cannot be run, by key, and why."""

    order: list[str]
    """Keys of all suites, in the order they run."""

    seed: int
    device: torch.device
    name: str
    argv: list[str]
    shard: ShardPart | None = None
    """Which share of the whole is computed here; None: all of it."""

    @cached_property
    def own(self) -> dict[str, ShardPart | None]:
        """Keys of the suites that are run here, and the share of each; None: all of it."""
        if self.shard is None:
            return {ready.key: None for ready in self.suites}
        shares: dict[str, ShardPart | None] = {}
        alone = 0
        for ready in self.suites:
            n = len(self.data if ready.covered is None else ready.covered)
            divided = ready.prepared.divides()
            if divided == "whole":
                shares[ready.key] = None
            elif divided == "samples" and n >= self.shard.count:
                shares[ready.key] = self.shard
            else:  # in turn, so that not one shard has all of these
                if alone % self.shard.count == self.shard.index - 1:
                    shares[ready.key] = None
                alone += 1
        return shares

    @cached_property
    def state_sha256(self) -> str:
        """Hash over the model's weights."""
        return state_hash(self.robust)

    @cached_property
    def dataset(self) -> dict[str, Any]:
        """What every shard's report says of the data."""
        return _describe_data(self.data, self.whole, self.chosen, self.seed)

    @property
    def params(self) -> dict[str, dict[str, Any]]:
        """Parameters of every suite, by key."""
        return {ready.key: ready.params for ready in self.suites}

    @property
    def limits(self) -> dict[str, int]:
        """Number of samples of the suites that cover only a part."""
        return {one.key: len(one.covered) for one in self.suites if one.covered is not None}

    @property
    def nonstandard(self) -> list[str]:
        """Keys of the suites that repeat a published tool, faults included."""
        faulty = {name for name, protocol in PROTOCOLS.items() if protocol.nonstandard}
        return [
            ready.key
            for ready in self.suites
            if ready.planned.preset in faulty or ready.params.get("nonstandard", False)
        ]

    @property
    def gradients(self) -> bool:
        """Whether a suite may ask the network for gradients: what others' ask for is not known."""
        return any(
            bool(ready.origins) or ready.prepared.passes(1).backwards != 0 for ready in self.suites
        )

    @cached_property
    def usual_batch(self) -> int:
        """Samples a forward pass where nobody says how many.

        On a GPU by its free memory, the size of the images, and what one takes in the network.
        """
        size = image_size(self.robust)
        if self.device.type != "cuda":
            return fitting_batch(size, self.device, most=DEFAULT_BATCH)
        with guarded(self.device):
            copies = copies_of(self.robust, gradients=self.gradients)
        memory = free_memory(self.device)
        return fitting_batch(size, self.device, most=GPU_BATCH, copies=copies, memory=memory)

    def identity(self) -> dict[str, str]:
        """Hash what decides whether finished units may be used."""
        found = self._measured()
        if self.shard is not None:
            found["run"] = hash_json([found["run"], self.shard.index, self.shard.count])
        return found

    def _measured(self) -> dict[str, str]:
        run = {
            "model": self.state_sha256,
            "resize": self.robust.resize,
            "data": self.dataset,
            "labels": hash_json(self.data.labels.tolist()),
            "seed": self.seed,
            "generator": GENERATOR,
            "device": self.device.type,
            "version": robustmix.__version__,
        }
        if self.robust.precision != "fp32":
            run["precision"] = self.robust.precision
        suites = {}
        for ready in self.suites:
            foreign = [origin.model_dump() for origin in ready.origins]
            decided = [ready.params, self.limits.get(ready.key), *foreign]
            suites[ready.key] = hash_json(decided)
        return {"run": hash_json(run)} | suites

    @property
    def fingerprint(self) -> str:
        """Hash over all that the numbers of the whole depend on; that of every shard."""
        return hash_json(self._measured())

    def started(self, folder: Path | None, *, continued: bool) -> RunStarted:
        """Say what is about to run, for who is told of it.

        Args:
            folder: of its report; None where it writes none.
            continued: whether an earlier call began it.
        """
        info = self.robust.info
        config = config_of(
            model=info.source,
            arch=info.arch,
            trained_as=info.run_id,
            dataset=self.whole.name,
            seed=self.seed,
            suites=self.params,
        )
        return RunStarted(
            kind="eval",
            name=self.name,
            run_id=self.fingerprint,
            folder=folder,
            config=config,
            continued=continued,
        )

    def run(
        self,
        store: UnitStore,
        batch_size: int | None,
        progress: EvalProgress,
        stop: StopRequest,
        *,
        image_memory: int = IMAGE_MEMORY,
        tell: Hook = lambda event: None,
    ) -> Report:
        """Run what is not done yet and make the report.

        Args:
            store: finished units.
            batch_size: samples a forward pass; None: ``usual_batch``.
            progress: is told how far it is.
            stop: asked before every unit of work.
            image_memory: MiB of images of files that stay decoded from condition to condition.
            tell: told of every suite that ends here with all its numbers.
        """
        asked, batch_size = batch_size, batch_size or self.usual_batch
        started, clock = timestamp(), time.monotonic()
        samples = Samples(
            sample_ids=self.data.sample_ids,
            labels=self.data.labels.numpy().astype(np.int64),
            class_names=self.data.class_names,
            superclass=self.data.superclass,
        )
        parts: dict[str, SuitePart] = {}
        own = [ready for ready in self.suites if ready.key in self.own]
        pixels = keeping_decoded(self.data.pixels, image_memory << 20)
        with guarded(self.device), _given_up(pixels):
            engine = Engine(self._context(samples, pixels), store, batch_size, progress, stop)
            repeats = Repeats.ask(self.robust, self._first_images(pixels))
            for ready in own:
                begun = time.monotonic()
                parts[ready.key] = self._suite(engine, ready, samples, parts)
                parts[ready.key].timing["wall_s"] = time.monotonic() - begun
                if self.own[ready.key] is None:
                    tell_suite(tell, ready.key, parts[ready.key])
        timing = {key: part.timing["wall_s"] for key, part in parts.items()}
        for key, error in self.refused.items():
            kind = key.partition("@")[0]
            parts[key] = SuitePart(kind=kind, status="failed", reason=error.line())
        for ready in own:
            _asked(ready, parts, ready.prepared.judge)
        checks = repeats.checks(samples)
        warnings = find_warnings(self.robust, self.whole, samples, checks)
        if engine.batch_size < batch_size:
            warnings.append(smaller_batch(batch_size, engine.batch_size))
        for ready in (ready for ready in own if self.own[ready.key] is None):
            warnings += _asked(ready, parts, ready.prepared.warnings) or []
            if parts[ready.key].status == "failed":
                samples.tables.pop(ready.key, None)
        content = ReportModel(
            tool=Tool(version=robustmix.__version__, plugins=self._plugins()),
            run=Run(
                id=uuid.uuid4().hex,
                name=self.name,
                status=_ended(parts),
                started=started,
                finished=timestamp(),
                wall_s=time.monotonic() - clock,
                argv=without_folders(self.argv),
                config={
                    "suites": [key for key in self.order if key in parts],
                    "batch_size": batch_size,
                    "batch_size_asked": AUTO if asked is None else asked,
                    "batch_size_at_last": engine.batch_size,
                },
                seed=self.seed,
                fingerprint=self.fingerprint,
                resumed_units=engine.resumed_units,
            ),
            environment=Environment.model_validate(
                describe_environment(self.device, tf32=self.robust.precision == "tf32")
            ),
            model=self._model_part(checks),
            dataset=DatasetPart.model_validate(self.dataset | {"shard": self.shard}),
            protocol=Protocol(
                presets=list(dict.fromkeys(n for one in self.suites for n in one.planned.of)),
                hash=hash_json({"params": self.params, "limits": self.limits}),
                nonstandard=bool(self.nonstandard),
                nonstandard_suites=self.nonstandard,
                params=self.params,
                limits=self.limits,
            ),
            suites=parts,
            warnings=warnings,
            errors=[
                Warn(code="E-SUITE", suite=key, message=part.reason or "")
                for key, part in parts.items()
                if part.status != "ok"
            ],
            timing={"total_s": time.monotonic() - clock, **timing},
        )
        return Report(content, samples)

    def _context(self, samples: Samples, pixels: Pixels) -> Context:
        watched = WatchedModel(self.robust)
        return Context(
            model=padded(watched),
            judge=watched.judge,
            gradients=self.gradients,
            robust=self.robust,
            data=replace(self.data, pixels=pixels).to(self.device),
            official=torch.arange(len(self.data)) if self.chosen is None else self.chosen,
            device=self.device,
            seed=self.seed,
            record=samples,
        )

    def _first_images(self, pixels: Pixels) -> torch.Tensor:
        few = torch.arange(min(CHECKED, len(self.data)))
        return to_unit(pixels.take(few).to(self.device))

    def _suite(
        self,
        engine: Engine,
        ready: Ready,
        samples: Samples,
        done: Mapping[str, SuitePart],
    ) -> SuitePart:
        prepared, key, kind = ready.prepared, ready.key, ready.prepared.kind
        if engine.stop():
            reason = "interrupted before it began"
            return SuitePart(kind=kind, status="partial", reason=reason)
        if key != "clean" and done["clean"].status != "ok":
            reason = "needs the suite clean, which did not complete"
            return SuitePart(kind=kind, status="skipped", reason=reason)
        try:
            table = engine.run(prepared, key, ready.covered, shard=self.own[key])
            if table is not None:
                samples.tables[key] = table
            share = self.own[key]
            if share is None:
                rows = self._rows(samples, ready)
                part = summarise(prepared, rows, foreign=bool(ready.origins))
            else:
                part = only_rows(prepared, share)
        except Interrupted:
            reason = "interrupted; add --resume to continue"
            return SuitePart(kind=kind, status="partial", reason=reason)
        except (Exception, SystemExit) as error:
            # Whoever's fault it is: the numbers of the other suites stand without this one's.
            samples.tables.pop(key, None)
            return _failed(ready, error)
        part.origins = ready.origins
        if ready.covered is not None:
            name_subset(part, len(ready.covered), len(self.data))
        return part

    def _rows(self, samples: Samples, ready: Ready) -> Rows:
        view = samples.view(ready.key, None if ready.covered is None else ready.covered.numpy())
        return Rows.of(
            view,
            ready.key,
            order=ready.prepared.order(view),
            num_classes=self.robust.num_classes,
            input_size=self.robust.input_size,
            seed=self.seed,
            token_patch=_as_tuple(token_patch(self.robust)),
            subset=self.chosen is not None or ready.covered is not None,
        )

    def _plugins(self) -> list[OriginPart]:
        """List all that is foreign: in the suites, the network and the data."""
        found = [origin for ready in self.suites for origin in ready.origins]
        for kind, table, name in (
            ("arch", ARCHS, self.robust.info.arch),
            ("dataset", DATASETS, self.whole.name),
        ):
            origin = table.origin(name)
            if origin is not None:
                found.append(origin_part(kind, name, origin))
        found += [OriginPart.model_validate(dict(one)) for one in self.robust.info.plugins]
        return list({(one.kind, one.name): one for one in found}.values())

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
            precision=robust.precision,
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


@contextlib.contextmanager
def _given_up(pixels: Pixels) -> Iterator[None]:
    """Give up in the end what was begun ahead."""
    try:
        yield
    finally:
        kept = kept_decoded(pixels)
        if kept is not None:
            kept.close()


def _asked(
    ready: Ready,
    parts: dict[str, SuitePart],
    ask: Callable[[str, dict[str, SuitePart]], Answer],
) -> Answer | None:
    """Ask a suite what it says when all are done; a fault of its own fails it alone."""
    try:
        return ask(ready.key, parts)
    except Exception as error:
        timing = parts[ready.key].timing
        parts[ready.key] = _failed(ready, error).model_copy(update={"timing": timing})
        return None


def _failed(ready: Ready, error: BaseException) -> SuitePart:
    told = error if isinstance(error, RobustmixError) else None
    told = told or suite_fault(ready.key, error, ready.origins)
    return SuitePart(kind=ready.prepared.kind, status="failed", reason=told.line())


def _as_tuple(patch: Any) -> tuple[float, ...] | None:
    return None if patch is None else tuple(patch)


def _ended(parts: Mapping[str, SuitePart]) -> Literal["success", "interrupted", "failed"]:
    statuses = {part.status for part in parts.values()}
    if statuses == {"ok"}:
        return "success"
    return "interrupted" if "partial" in statuses else "failed"


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
        layout=data.layout,
        partial_of=whole.partial_of,
        pixels_sha256=pixels_sha256(data),
        files=[FilePart(name=f.name, sha256=f.sha256, verified=f.verified) for f in data.files],
    ).model_dump(mode="json")
