"""``robustmix.evaluate``: a model and an image set become a report."""

import contextlib
import inspect
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from robustmix.attacks.registry import ATTACKS
from robustmix.corruptions.registry import CORRUPTIONS
from robustmix.data.preparation import TransformOptions
from robustmix.errors import IncompatibleError, IntakeError, UsageError, nearest, unknown_name
from robustmix.evaluation.block_order import checked_image_memory
from robustmix.evaluation.engine import read_batch_size
from robustmix.evaluation.evaluation import Evaluation
from robustmix.evaluation.model_images import Images
from robustmix.evaluation.module_model import loaded
from robustmix.evaluation.plan import Planned, Wanted, every_option
from robustmix.evaluation.prepare import prepare
from robustmix.evaluation.progress import EvalProgress, shown_by
from robustmix.evaluation.resume_store import UnitStore
from robustmix.evaluation.suites.registry import SUITES
from robustmix.evaluation.telling import tell_report, told_run
from robustmix.files import discard, expanded, remove_leftovers
from robustmix.locks import run_lock
from robustmix.loggers.events import Hook
from robustmix.metrics.registry import METRICS
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import REPORT_FILE, Report
from robustmix.saliency.registry import SALIENCY
from robustmix.signals import stop_on_signals
from robustmix.tables import Table, require_plugins

UNITS = "units"
"""Folder of what is done of an evaluation, beside its report."""


def evaluate(
    model: RobustModel | nn.Module | Path | str,
    dataset: Images | None = None,
    suites: Wanted | None = None,
    *,
    protocol: str | Sequence[str] = (),
    num_classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    data_dir: Path | str | None = None,
    limit: int | float | None = None,
    batch_size: int | str | None = None,
    image_memory: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    seed: int = 0,
    out: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    keep_going: bool = False,
    allow_partial: bool = False,
    allow_download: bool = False,
    name: str | None = None,
    argv: Sequence[str] = (),
    resize: int | None = None,
    crop_pct: float | None = None,
    interpolation: str | None = None,
    crop_mode: str | None = None,
    override_checkpoint: bool = False,
    shard: str | None = None,
    progress: EvalProgress | str = "auto",
    on_event: Hook | None = None,
    should_stop: Callable[[], bool] | None = None,
    **options: object,
) -> Report:
    """Measure a model and return the report.

    Args:
        model: a ``RobustModel``, or what ``load_model`` takes: a checkpoint, a name, a module. Of a
            module, one forward pass tells the outputs, and the images their size; where neither
            ``mean`` and ``std`` nor a configuration of timm's on it say how it normalises, it gets
            pixels in [0, 1], as torchvision's ``ToTensor`` gives them, and the report warns.
        dataset: an image set or the name of one; None takes the one the checkpoint was trained on.
            Or a torch or torchvision data set of (image, label), a loader of one, or a pair of
            tensors (images, labels); see ``robustmix.data.torch_sets.image_set_of``. Images are
            those before normalisation, which the model has.
        suites: names (``"fgsm,pgd"`` too), ``all``, suites with options of their own, or those
            with a place of their own (``Planned``), or names with the options of each, e.g.
            ``{"fgsm": {"eps": "4/255"}, "pgd": {}}``; ``clean`` is always run. None: clean and
            calibration, or what the protocol has.
        protocol: a named protocol, or several; names of suites then choose among theirs.
        num_classes: number of the data set's labels, for a model that has not been loaded yet;
            see ``load_model``.
        mean: normalisation, one number a channel in [0, 1] pixel units; likewise.
        std: likewise.
        data_dir: where data sets lie; see ``data_folder``.
        limit: evaluate only so many samples (int) or that share of them (float below 1), chosen by
            the seed; every condition sees the same ones.
        batch_size: samples a forward pass; nothing is drawn by it, so that numbers change at most
            by how kernels round, and it is halved where memory runs out. None or ``auto``: 128 on a
            processor and up to 2,048 on a GPU, fewer where so many will hardly fit into its
            memory, by the size of the images and the network. The report has what was asked for,
            taken, and left in the end.
        image_memory: MiB of decoded images of files that are kept, so that each is decoded once
            for all conditions of a suite, not once for each; it does not change any number. None
            takes 1024. Images in memory need none of it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        precision: what the network computes in: ``fp32``; ``tf32``, on NVIDIA's GPUs; or ``bf16``.
            The last two change numbers: the report says so, and comparisons warn.
        seed: of everything random.
        out: folder for ``report.json`` and ``samples.npz``; None writes nothing.
        resume: take over what an interrupted evaluation left in ``out``.
        force: discard what an earlier evaluation left in ``out``.
        keep_going: evaluate the other suites if one cannot begin, e.g. because its files are
            damaged; else that is an error before anything is computed.
        allow_download: fetch published weights, and models of the hub, that are not in the local
            cache: of the model and of other models that suites ask for.
        allow_partial: take what is here of a data set whose images are not all here; the report
            says how many, and is compared with none of the whole set.
        name: a name for the report; the model's by default.
        argv: the command line, for the record.
        resize: pixels that the shorter side of images is resized to before the central crop of the
            model's size; instead of what the checkpoint, published weights or the data set have.
        crop_pct: the same as a share: the model's size divided by ``resize``.
        interpolation: ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``, as Pillow has them.
        crop_mode: ``center``, ``squash`` or ``border``, as timm has them.
        override_checkpoint: obey these four also where the checkpoint records otherwise.
        shard: ``"2/8"`` for the second of eight shares of the images, ``"auto"`` for that of this
            process by its environment (torchrun, a Slurm job array); ``robustmix report merge``
            joins their reports. The clean images are evaluated by every shard.
        progress: ``auto`` shows a bar on a terminal and lines in a notebook, and nothing elsewhere;
            ``rich``, ``plain`` and ``none`` are these; or hooks that are told how far it is.
        on_event: told when the evaluation begins and ends, and of every suite that ends with all
            its numbers; see ``robustmix.loggers``.
        should_stop: asked before every unit of work, and in long ones every few seconds; true
            stops as SIGINT does.
        options: options of the suites by name, as Python values or as text, e.g. ``eps="4/255"``,
            ``trials=3``; each acts on every suite that has it.

    SIGINT, SIGTERM, SIGHUP and SIGUSR2 stop it before the next pass; what is done is kept. A
    second SIGINT stops it at once.

    Returns:
        The report; its ``content.run.status`` is ``success`` when every suite is ``ok``. A failed
        suite is in it with its reason.

    Raises:
        UsageError: an argument is invalid, or an option is one of no suite that is run.
        IntakeError: the model, the data or the files of a suite are missing, damaged or do not fit.
        IncompatibleError: ``resume`` met units of another model, data set or parameters.
        IncompleteError: the report could not be written, or another run works in ``out``.

    Example:
        >>> import robustmix
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        >>> model = robustmix.load_model(
        ...     net, num_classes=10, input_size=(3, 32, 32), mean=(0, 0, 0), std=(1, 1, 1)
        ... )
        >>> evaluate(model, "digits", ["clean"], limit=20).metric("clean.top1").n
        20
    """
    _refuse_misspelt(options, suites)
    size = read_batch_size(batch_size)
    out = None if out is None else expanded(out)
    if resume and force:
        raise UsageError("--resume and --force exclude each other", "give one of them")
    if resume and out is None:
        raise UsageError("there is nothing to resume without out", "name the folder as out")
    if resume and out is not None:
        require_recorded(out)
    transform = TransformOptions(
        resize=resize, crop_pct=crop_pct, interpolation=interpolation, crop_mode=crop_mode
    )
    told: dict[str, object] = {"num_classes": num_classes, "mean": mean, "std": std}
    if allow_download and isinstance(model, str | Path):
        told["allow_download"] = True
    evaluation = prepare(
        loaded(model, dataset, {key: value for key, value in told.items() if value is not None}),
        dataset,
        suites,
        protocols=[protocol] if isinstance(protocol, str) else protocol,
        options=options,
        data_dir=data_dir,
        limit=limit,
        device=device,
        precision=precision,
        seed=seed,
        keep_going=keep_going,
        allow_partial=allow_partial,
        allow_download=allow_download,
        name=name if name or out is None else Path(out).name,
        argv=argv,
        transform=transform,
        override_checkpoint=override_checkpoint,
        shard=shard,
    )
    memory = checked_image_memory(image_memory, evaluation.data.pixels)
    with _workspace(out, resume=resume, force=force) as place:
        store = UnitStore(place / UNITS)
        finished = _already_done(place, evaluation, store) if resume else None
        tell = on_event or (lambda event: None)
        where = None if out is None else place
        if finished is not None:
            store.remove()  # a kill after the report was written may have left them
            tell_report(tell, finished, where)
            return finished
        continued = resume and store.begun
        store.open(evaluation.identity(), resume=resume)
        started = evaluation.started(where, continued=continued)
        with stop_on_signals(should_stop) as stop, told_run(tell, started) as made:
            report = evaluation.run(
                store, size, shown_by(progress), stop, image_memory=memory, tell=tell
            )
            if out is not None:
                report.save(place)
                if report.content.run.status == "success":
                    store.remove()
            made.append(report)
        if report.content.run.status == "interrupted":
            report.interrupted_by = stop.signal
        return report


def _refuse_misspelt(options: Iterable[str], wanted: Wanted | None) -> None:
    """Refuse what is nearly an argument: it was taken for an option of the suites.

    Raises:
        UsageError: one is.
    """
    arguments = [one for one in inspect.signature(evaluate).parameters if one != "options"]
    known = {name for one in every_option().values() for name in one}
    for one in () if wanted is None or isinstance(wanted, str | Mapping) else wanted:
        suite = one.suite if isinstance(one, Planned) else one
        if not isinstance(suite, str) and hasattr(suite, "options"):  # need not be registered
            known |= {option.name for option in suite.options()}
    for name in options:
        if name not in known and nearest(name, arguments, likeness=0.75) is not None:
            raise unknown_name("argument", name, arguments, code="E-USAGE")


def require_recorded(out: Path | str) -> None:
    """Ask for the foreign parts of the evaluation that is to be continued in ``out``.

    To be asked before anything else: a suite that is not here would only be an unknown name.

    Raises:
        IntakeError: one is not here; where it came from is said.
    """
    if (Path(out) / REPORT_FILE).exists():
        recorded = Report.load(out, samples=False).content.tool.plugins
        needed: list[Table[Any, Any]] = [SUITES, ATTACKS, METRICS, CORRUPTIONS, SALIENCY]
        require_plugins([plugin.model_dump() for plugin in recorded], needed)


@contextlib.contextmanager
def _workspace(out: Path | str | None, *, resume: bool, force: bool) -> Iterator[Path]:
    if out is None:
        with tempfile.TemporaryDirectory(prefix="robustmix-") as temporary:
            yield Path(temporary)
        return
    place = Path(out)
    with run_lock(place):
        remove_leftovers(place, below=False)
        remove_leftovers(place / UNITS)
        if force:
            discard(place / UNITS)
        elif not (resume or UnitStore(place / UNITS).begun):
            refuse_existing(place)
        yield place


def refuse_existing(place: Path) -> None:
    """Refuse a folder with a report.

    Raises:
        UsageError: it holds one.
    """
    if (place / REPORT_FILE).exists():
        raise UsageError(
            f"{place} already holds a report",
            "choose another --out, or add --force to replace it",
            code="E-EXISTS",
        )


def _already_done(place: Path, evaluation: Evaluation, store: UnitStore) -> Report | None:
    """Give the report that lies there if it is this evaluation's and complete.

    None where there is none, or where the units beside it are this evaluation's: it is then the
    report that the evaluation was to replace.

    Raises:
        IncompatibleError: it is of another evaluation.
    """
    if not (place / REPORT_FILE).exists():
        return None
    # Without the samples, which a kill between the two files may have left newer than the report.
    content = Report.load(place, samples=False).content
    run, shard = content.run, content.dataset.shard
    same = run.fingerprint == evaluation.fingerprint and shard == evaluation.shard
    continued = store.belongs_to(evaluation.identity())
    if run.status != "success" or (continued and not same):
        return None
    if not same:
        what = "model, data set or parameters" if shard == evaluation.shard else "shard"
        raise IncompatibleError(
            f"the report in {place} is of another {what}",
            "choose another --out, or add --force to replace it",
            code="E-RESUME",
        )
    try:
        return Report.load(place)
    except IntakeError:
        if not continued:
            raise
        return None  # the evaluation is finished from its units, and its samples written again


def exit_code(report: Report) -> int:
    """Return what a process that made this report exits with."""
    if report.interrupted_by is not None:
        return 128 + report.interrupted_by
    return 0 if report.content.run.status == "success" else 4
