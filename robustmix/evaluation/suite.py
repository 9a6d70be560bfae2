"""The contract of a suite: everything the engine, the tables, the gate and the help ask of it.

A suite is two things. Its options (``Suite``) are a frozen dataclass: every field is a flag of
``robustmix eval``, an argument of ``robustmix.evaluate``, a line of help and of the docs, written
once. ``prepare`` turns them, in view of a model and its data, into a ``Prepared``: a frozen
dataclass whose fields are the parameters that reports record, none of them undecided, and which
answers what the work is, what it costs, what every number is, and what is to be seen of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, get_origin

import numpy as np
from numpy.typing import NDArray

from robustmix.arrays import Array
from robustmix.errors import IncompleteError
from robustmix.evaluation.options import Option, options_of
from robustmix.evaluation.params import encode_params, read_params
from robustmix.evaluation.shard import Divided
from robustmix.metrics.definition import (
    Definition,
    Interval,
    Numbers,
    absent,
    summarise_metrics,
)
from robustmix.metrics.intervals import REPLICATES
from robustmix.metrics.registry import METRICS, metrics_for
from robustmix.metrics.scores import IntArray
from robustmix.report.rows import Rows
from robustmix.report.samples import Samples, Table
from robustmix.report.schema import (
    ConditionPart,
    CurvePart,
    JsonDict,
    ShardPart,
    Shown,
    SuitePart,
    TablePart,
    VerdictPart,
    Warn,
)
from robustmix.tables import Origin

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch
    from torch import Tensor

    from robustmix.data.images import ImageSet
    from robustmix.models.robust_model import RobustModel
    from robustmix.types import Model

Columns: TypeAlias = "dict[str, Tensor]"
Done = Mapping[tuple[str, int], Mapping[str, Array]]
"""(condition, trial) -> columns (n,): the rows of a suite's parts that are done."""


@dataclass(frozen=True)
class Batch:
    """Some samples of the evaluated set."""

    indices: "Tensor"
    """Positions in the evaluated set, int64 (n,), CPU."""

    sample_ids: tuple[str, ...]
    labels: "Tensor"
    """int64 (n,), on the device."""

    images: "Callable[[], Tensor]"
    """Stored pixels, uint8 (n, 3, H, W), on the device; read on demand."""

    def pixels(self) -> "Tensor":
        """Read the images as float32 in [0, 1]."""
        return to_unit(self.images())


def to_unit(images: "Tensor") -> "Tensor":
    """Turn uint8 images into float32 in [0, 1]."""
    return images.float() / 255


@dataclass(frozen=True)
class Part:
    """Work of a suite that is done in one pass over the samples."""

    name: str
    conditions: tuple[str, ...]
    compute: Callable[[Batch], Mapping[str, Columns]]
    """Condition -> columns (n,); a column ``logits`` becomes the score columns."""

    trial: int = 0
    all_trials: bool = False
    """Whether the rows are the same in every trial and computed once."""

    keep_logits: bool = False
    select: Callable[[Done], NDArray[np.int64]] | None = None
    """Which samples it is for, rising positions, chosen by the rows of the parts before it; None:
    all. The rows of the others are zeros. A suite with such a part has a column ``tested``."""

    batch_size: int | None = None
    """Samples that come together, for work whose result depends on that; None: the engine's."""

    block: int | None = None
    """Samples a unit of long work, between which it can be interrupted; None: ``BLOCK``."""


def _nothing() -> None:
    """Judge nothing: the model does so itself."""


@dataclass(frozen=True)
class Context:
    """What a suite works with."""

    model: "Model"
    """Padded: its logits for a sample do not depend on the batch."""

    robust: "RobustModel"
    data: "ImageSet"
    official: "Tensor"
    """Index of each evaluated sample in the whole split, int64 (n,)."""

    device: "torch.device"
    seed: int
    record: Samples
    """All evaluated samples with the rows of the suites that are done."""

    positions: "Tensor | None" = None
    """Which of the evaluated samples ``data`` holds, rising, int64 CPU; None: all of them."""

    judge: Callable[[], None] = _nothing
    """Refuses pixels outside [0, 1] that ``model`` was given since this was last asked. It waits
    for the device, so the engine asks once a unit; see ``WatchedModel``."""

    gradients: bool = True
    """Whether a suite of the run may ask the network for gradients."""

    def scoring(self) -> "AbstractContextManager[None]":
        """Give the mode to score in: nothing of the pass is kept for a gradient.

        Inference mode is a few percent faster, but what a network keeps of such a pass for the next
        one (tables that it makes when first asked) can then take part in no gradient.
        """
        import torch

        return torch.no_grad() if self.gradients else torch.inference_mode()

    @property
    def clean(self) -> Table | None:
        """The rows of suite ``clean`` of these samples; None before it has run."""
        found = self.record.tables.get("clean")
        if found is None or self.positions is None:
            return found
        return found.take(self.positions.numpy())

    def beside(self, added: "ImageSet | None") -> "Context":
        """Put images of a suite's own behind the others; they have no place in the split."""
        if added is None:
            return self
        from torch.nn import functional as F

        from robustmix.data.images import joined

        return replace(
            self,
            data=joined(self.data, added.to(self.device)),
            official=F.pad(self.official, (0, len(added)), value=-1),
        )

    def cut(self, positions: "Tensor | None") -> "Context":
        """Narrow the context to a part of the samples."""
        if positions is None:
            return self
        return replace(
            self,
            data=self.data.subset(positions),
            official=self.official[positions],
            positions=positions,
        )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What options are prepared in view of."""

    robust: "RobustModel"
    data: "ImageSet"
    """The whole test split."""

    folder: Path
    """Where data sets lie."""

    dataset: str = ""
    """The data set as it was asked for, e.g. ``folder:PATH``; empty for one in memory."""

    allow_partial: bool = False
    """Whether data sets are taken whose images are not all here."""

    allow_download: bool = False
    """Whether weights of other models are fetched that are not in the local cache."""

    prepared: Mapping[str, "Prepared"] = field(default_factory=dict)
    """The suites that run before, by their keys in the report."""

    limit: int | float | None = None
    """How many images were asked for, or which share; images that a suite brings keep to it."""

    seed: int = 0
    """Of the run."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.data.input_size[1], self.data.input_size[2]


def limited_count(limit: float, n: int) -> int:
    """Give how many of ``n`` images a ``--limit`` takes: so many, or a share of them.

    Example:
        >>> limited_count(0.5, 7), limited_count(5, 7)
        (4, 5)
    """
    return round(limit * n) if 0 < limit < 1 else int(limit)


class Passes(NamedTuple):
    """What a suite costs: conditions, and passes of single images, scoring included."""

    conditions: int
    forwards: int | None
    """None if that cannot be foretold."""

    backwards: int | None
    most: bool = False
    """Whether these are upper bounds, because attacks stop at an image once it is broken."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a suite reports beside its numbers."""

    curves: list[CurvePart] = field(default_factory=list)
    tables: list[TablePart] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verdicts: list[VerdictPart] = field(default_factory=list)
    details: JsonDict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A suite with everything decided; its recorded fields are the parameters in the report.

    What is read back from a report is one too: it cannot work, for the files and models that the
    work needs are not in the report, but it defines every number.
    """

    kind: ClassVar[str]
    """Family of suites whose numbers are alike; metrics are registered for it."""

    divided: ClassVar[Divided] = "samples"
    """How shards share the suite; see ``divides``."""

    own_correct: ClassVar[tuple[str, ...]] = ()
    """Conditions whose column ``correct`` says something else than that ``pred`` is the label."""

    @property
    def params(self) -> JsonDict:
        """Every parameter that the numbers depend on, JSON-like."""
        return encode_params(self)

    @property
    def rounds(self) -> int:
        """Rows a sample and condition."""
        return int(getattr(self, "trials", 1))

    def order(self, view: Samples) -> IntArray:
        """Choose in which order the samples are taken for the numbers, int64 (n,)."""
        return np.arange(len(view))

    def foreign(self) -> list[tuple[str, str, Origin | None]]:
        """List what else than the suite makes its numbers: kind, name, and origin if foreign."""
        return []

    def added(self) -> "ImageSet | None":
        """Give images that the suite looks at beside the evaluated ones; usually none.

        Its work is then over the evaluated images followed by these.
        """
        return None

    def divides(self) -> Divided:
        """Say how shards share the suite: never by samples where a batch is more than its samples.

        A suite whose work on a sample depends on what was found of others says ``one``.
        """
        batch = getattr(self, "batch", None)
        return self.divided if batch is None else "one"

    def covers(self, n: int) -> int:
        """Count the images it looks at where ``n`` are evaluated."""
        return n

    def parts(self, context: Context) -> list[Part]:
        """List the work; may open files, must not compute."""
        raise NotImplementedError

    def passes(self, n: int) -> Passes:
        """Foretell the cost over ``n`` samples."""
        return Passes(1, None, None)

    def usual_passes(self, n: int) -> tuple[int, int] | None:
        """Tell the forward and backward passes of a network without defences, where known.

        It is for suites of which ``passes`` gives no more than a bound.
        """
        return None

    def check(self, rows: Rows) -> None:
        """Refuse rows that show that the model does not repeat its answers.

        Raises:
            IncompleteError: they do.
        """

    def numbers(self, rows: Rows) -> Numbers:
        """Define every number of the suite."""
        raise NotImplementedError

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Report what is no number; ``numbers`` has them already."""
        return Found()

    def shown(self, part: SuitePart) -> Shown:
        """Say what is to be seen of a part that is otherwise complete."""
        return Shown(headline=list(part.metrics), compared=list(part.metrics))

    def judge(self, key: str, parts: Mapping[str, SuitePart]) -> None:
        """Write what this suite says of others into their parts, when all are done."""

    def warnings(self, key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
        """List what a reader must be told of the suite's part, when all are done."""
        return []

    def forecast_note(self) -> str:
        """Say in a few words where the images come from, for ``--dry-run``; often nothing."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Options of a suite: what may be asked for. The first line of the docstring is its help."""

    recorded: ClassVar[type[Prepared]]
    """What its parameters are read back as."""

    called: ClassVar[str] = ""
    """Name in reports of a suite that is not in the table itself but a variant of one that is."""

    def __post_init__(self) -> None:
        """Take every option in its natural types, as ``evaluate`` does: 3 for (3,), text too.

        Raises:
            UsageError: a value is none of the option's.
        """
        for one in options_of(type(self)):
            given = getattr(self, one.name)
            # A choice has one type; which choices there are is the suite's own to say.
            choice = get_origin(one.hint) is Literal and one.parse is None
            usual = given is None or given is one.default
            if not usual and not choice:
                object.__setattr__(self, one.name, one.value(given))

    @property
    def default_limit(self) -> int | None:
        """Most samples where no limit is asked for; None: all."""
        return None

    def prepare(self, scene: Scene) -> Prepared:
        """Decide everything that depends on the model and the data, and open what is needed.

        Raises:
            UsageError: an option does not suit them.
            IntakeError: a file is missing, damaged or of other images.
        """
        raise NotImplementedError

    def wants(self) -> "dict[str, Suite]":
        """Name suites that are to run beside this one, unless they are asked for anyway."""
        return {}

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Prepared:
        """Read back recorded parameters.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: they are not this suite's.
        """
        return read_params(cls.recorded, params)

    def options(self) -> tuple[Option, ...]:
        """List what may be asked for: each is a flag and an argument in Python."""
        return options_of(type(self))

    def with_options(self, **options: Any) -> Self:
        """Give the suite with some options replaced."""
        return replace(self, **options)


def all_numbers(prepared: Prepared, rows: Rows) -> Numbers:
    """Define every number of a suite: its own, then those registered for its kind."""
    numbers = dict(prepared.numbers(rows))
    for name, define in metrics_for(prepared.kind, rows).items():
        origin = METRICS.origin(f"{prepared.kind}.{name}")
        # A fault of others' metric must not fail the suite: without clean there is no other suite.
        made = define if origin is None else partial(_or_absent, define, rows.n, origin)
        numbers.setdefault(("", name), made)
    return numbers


def _or_absent(define: Callable[[], Definition], n: int, origin: Origin) -> Definition:
    try:
        return define()
    except Exception as error:
        told = f"{origin.module} raised {type(error).__name__}: {error}"[:200]
        return absent(n, told, direction="neither")


def summarise(
    prepared: Prepared, rows: Rows, *, foreign: bool = False, replicates: int = REPLICATES
) -> SuitePart:
    """Make a suite's part of the report from its rows alone.

    Args:
        prepared: the suite.
        rows: of the samples that it covers.
        foreign: whether to record which numbers are means of a column, so that they can be
            compared where the suite is not installed.
        replicates: resamples of intervals that no formula makes, 0 for none of these.

    Raises:
        IncompleteError: the rows show that the model does not repeat its answers.
    """
    prepared.check(rows)
    numbers = all_numbers(prepared, rows)
    return summarise_numbers(prepared, rows, numbers, foreign=foreign, replicates=replicates)


def summarise_numbers(
    prepared: Prepared,
    rows: Rows,
    numbers: Numbers,
    *,
    foreign: bool = False,
    intervals: dict[tuple[str, str], Interval] | None = None,
    replicates: int = REPLICATES,
) -> SuitePart:
    """Make a suite's part of the report of rows that were checked and their numbers.

    Args:
        prepared: the suite.
        rows: of the samples that it covers.
        numbers: ``all_numbers`` of them.
        foreign: see ``summarise``.
        intervals: takes how the interval of each number is made.
        replicates: see ``summarise``.
    """
    columns: dict[str, tuple[str, str]] = {}
    metrics = summarise_metrics(
        numbers,
        seed=rows.seed,
        columns=columns if foreign else None,
        intervals=intervals,
        replicates=replicates,
        rules=rows.rules,
    )
    conditions: dict[str, dict[str, Any]] = {}
    for (condition, name), metric in metrics.items():
        conditions.setdefault(condition, {})[name] = metric
    part = SuitePart(
        kind=prepared.kind,
        status="ok",
        params=prepared.params,
        metrics=conditions.pop("", {}),
        conditions=[ConditionPart(name=name, metrics=of) for name, of in conditions.items()],
        columns=columns,
    )
    found = prepared.found(rows, part)
    part = part.model_copy(update=vars(found))
    part.shown = prepared.shown(part)
    return part


def only_rows(prepared: Prepared, shard: ShardPart) -> SuitePart:
    """Make the part of a suite of which a report has a share of the rows: without numbers.

    Numbers of a share would be those of no data set, and not every suite has some of a few images.
    """
    said = f"shard {shard.index} of {shard.count}: no numbers before report merge"
    return SuitePart(
        kind=prepared.kind, status="ok", params=prepared.params, shown=Shown(note=said)
    )


def same_predictions(rows: Rows, condition: str, what: str, *, code: str, hint: str = "") -> None:
    """Refuse rows of a condition that changes nothing but whose predictions are not the clean ones.

    Raises:
        IncompleteError: they are not; ``what`` says how nothing was changed, ``hint`` what else
            can be done than make the model's answer the same.
    """
    if not np.array_equal(rows.column(condition, "pred")[0], rows.clean("pred")):
        raise IncompleteError(
            f"{what} changed predictions: the model's answer is not repeatable",
            "; ".join(
                filter(None, ["make forward() deterministic and independent of the batch", hint])
            ),
            code=code,
        )
