"""Recipes: everything that decides a training run, as data. Nothing here needs torch."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from robustmix.data.augment import Augment
from robustmix.data.protocol import TestTransform
from robustmix.errors import UsageError
from robustmix.methods.registry import METHODS
from robustmix.training.recipe_errors import invalid
from robustmix.training.recipe_tables import (
    AugmentTable,
    NormalisationTable,
    TransformTable,
    build_table,
)

_STRICT = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)

OptimizerName = Literal["sgd", "adamw", "lamb"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]

INFORMATIVE = ("description", "extrapolated", "variant", "published_batch")
"""Keys that no run depends on."""


@dataclass(frozen=True, kw_only=True, slots=True, config=_STRICT)
class Recipe:
    """One training run; two runs of equal recipes on one machine give equal weights."""

    description: str = ""
    """What the recipe is for; compared with nothing."""

    extrapolated: bool = False
    """No published configuration stands behind the recipe; compared with nothing."""

    variant: str | None = None
    """Which of several published settings of a row it follows; compared with nothing."""

    published_batch: str | None = None
    """How the publication split its batch over GPUs, e.g. ``4x64``: batch statistics there were of
    64 images. Compared with nothing; ``batch_size`` is the whole batch, ``norm_batch`` and
    ``accumulate`` divide it."""

    dataset: str = "cifar100"
    """Name of a data set, or ``folder:PATH``."""

    allow_partial: bool | None = None
    """Train on what is here of a data set whose images are not all here; only recorded of runs
    where some were not."""

    protocol_of: str | None = None
    """Data set whose augmentation, normalisation and test transform a folder of images gets."""

    arch: str = "resnet18"
    """Name of a backbone, or ``timm:NAME`` or ``torchvision:NAME``."""

    stem: str | None = None
    """First layers of the backbone; none is the backbone's choice for the image size."""

    weights: str | None = None
    """What to start from instead of ``init``: ``torchvision:NAME@TAG``, ``timm:...`` or a file."""

    drop_path: Share = 0.0
    """Stochastic depth: probability of skipping the last block, falling to 0 at the first."""

    img_size: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Side in pixels that images are resized to; none keeps the data set's own."""

    method: str = "vanilla"
    """Training method, a name in ``robustmix methods list``."""

    method_options: Mapping[str, Any] = field(default_factory=dict)
    """The method's options; in TOML the other keys of the table ``[method]``."""

    augment: AugmentTable = field(default_factory=dict)
    """Augmentation of the training images; what is not said is the data set's own."""

    normalisation: NormalisationTable = field(default_factory=dict)
    """``mean`` and ``std`` of the pixels; if not said, the data set's own."""

    test_transform: TransformTable | None = None
    """How test images are prepared; none is the data set's own way, an empty table leaves them."""

    epochs: Count = 200
    """Passes over the training images."""

    batch_size: Count = 100
    """Images in a step."""

    accumulate: Count = 1
    """Parts that a batch is computed in, one after another; their gradients are averaged. Partners
    and batch statistics stay within a part, as they do on as many GPUs."""

    norm_batch: Annotated[int, Field(ge=2, le=10**9)] | None = None
    """Images that batch statistics and partners are of, where it is a part of those that are
    computed together; none is all of these."""

    sync_norm: bool = False
    """Whether batch statistics are of the images of all processes (SyncBatchNorm, on CUDA alone);
    one process has them all."""

    repeated_augment: Annotated[int, Field(ge=1, le=100)] = 1
    """Times that an image is shown in a row, each time augmented anew (repeated augmentation); an
    epoch keeps its length, and shows one image in so many."""

    optimizer: OptimizerName = "sgd"
    """SGD decays every parameter, AdamW and LAMB (timm's) spare norms and biases."""

    lr: Positive = 0.1
    """Learning rate after the warm-up."""

    min_lr: NotNegative = 0.0
    """Learning rate that the schedule falls to."""

    momentum: Share = 0.9
    """Momentum of SGD, without Nesterov; AdamW has none."""

    weight_decay: NotNegative = 1e-4
    """L2 penalty of SGD, decoupled decay of AdamW, part of LAMB's update before it is scaled."""

    schedule: Literal["cosine", "cosine-iter", "constant", "step"] = "cosine"
    """``cosine`` is constant inside an epoch, ``cosine-iter`` moves at every step."""

    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs of linear warm-up."""

    milestones: tuple[int, ...] = ()
    """Epochs (0-based) at which the schedule ``step`` multiplies by ``gamma``."""

    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor of the schedule ``step``."""

    generator_lr: Positive | None = None
    """Learning rate of a method's mask generator, without warm-up; none is ``lr``."""

    generator_min_lr: NotNegative | None = None
    """Learning rate that the generator's schedule falls to; none is ``min_lr``."""

    generator_momentum: Share | None = None
    """Momentum of SGD for the generator; none is ``momentum``."""

    label_smoothing: Share = 0.0
    """eps: the target is (1 - eps) onehot + eps / K."""

    loss: Literal["ce", "bce"] = "ce"
    """Cross-entropy, or binary cross-entropy of every class to the mixed labels."""

    bce_threshold: Share | None = None
    """Labels of a larger weight count as wholly there for ``bce``, others as not there; none takes
    the mixed weights themselves."""

    bce_sum: bool = False
    """Whether ``bce`` sums an image's loss over the classes, in place of their mean."""

    grad_clip: NotNegative = 0.0
    """Largest norm of the whole gradient; 0 does not clip. LAMB always does: if a recipe does not
    say otherwise, to 1."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16`` runs the forward pass under autocast; weights and losses stay float32."""

    channels_last: bool = False
    """Memory layout of images and convolutions; faster on most GPUs."""

    compile: Literal["auto", "on", "off"] = "auto"
    """Whether what a step computes is compiled; ``auto`` does so on CUDA. Sums may round
    otherwise."""

    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share that a step keeps of a moving average of the weights, which is then what is deployed;
    none averages nothing."""

    ema_warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs over which ``ema_decay`` rises from nine tenths of itself."""

    init: Literal["openmixup", "torch"] = "openmixup"
    """Initial weights: the explicit ones of OpenMixup, or PyTorch's defaults."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the weights, the order, the augmentation and the mixing."""

    val_split: Share = 0.0
    """Share of the training images held out to choose ``best``; 0 chooses on the test images."""

    limit_train: int | float | None = None
    """Train on this many images (a count from 1, or a share below 1), evenly spaced."""

    limit_val: int | float | None = None
    """Validate on this many images, as ``limit_train``."""

    def __post_init__(self) -> None:
        METHODS.checked(self.method)
        for key in ("limit_train", "limit_val"):
            limit = getattr(self, key)
            if limit is not None and not (limit >= 1 if isinstance(limit, int) else 0 < limit < 1):
                raise invalid(key, "a count from 1 or a share between 0 and 1", limit)
        if (
            list(self.milestones) != sorted(set(self.milestones))
            or min(self.milestones, default=1) < 1
        ):
            raise invalid("milestones", "rising epochs", self.milestones)
        if self.min_lr > self.lr:
            raise invalid("min_lr", f"at most lr ({self.lr})", self.min_lr)
        if self.optimizer == "lamb" and not self.grad_clip:
            raise invalid("grad_clip", "a norm above 0, which optimizer lamb clips to", 0.0)
        if self.loss == "bce" and (why := METHODS.row(self.method).no_bce):
            raise UsageError(
                f"loss: method {self.method} cannot be trained with bce: {why}",
                "leave it out, or choose another method",
                code="E-RECIPE",
            )
        self._check_parts()
        self._check_generator()
        if self.warmup_epochs >= self.epochs:
            raise invalid("warmup_epochs", f"below epochs ({self.epochs})", self.warmup_epochs)
        if self.protocol_of is not None and not self.dataset.startswith("folder:"):
            raise UsageError(
                f"protocol_of: {self.dataset} has a protocol of its own",
                "leave it out, or give dataset=folder:PATH",
                code="E-RECIPE",
            )
        build_table("augment", Augment, self.augment)
        build_table("test_transform", TestTransform, self.test_transform or {})

    def _check_parts(self) -> None:
        if self.batch_size % self.accumulate:
            want = f"a divisor of batch_size ({self.batch_size})"
            raise invalid("accumulate", want, self.accumulate)
        together = self.batch_size // self.accumulate
        if self.norm_batch is not None and together % self.norm_batch:
            want = f"a divisor of batch_size / accumulate ({together})"
            raise invalid("norm_batch", want, self.norm_batch)
        if self.sync_norm and self.norm_batch is not None:
            raise UsageError(
                "sync_norm and norm_batch exclude each other: statistics of the whole batch, or of "
                "a part of it",
                "give one of them",
                code="E-RECIPE",
            )

    def together(self, world: int) -> int:
        """Return how many images one of ``world`` processes computes together.

        Raises:
            UsageError: the batch cannot be shared so.
        """
        whole = world * self.accumulate
        found = self.batch_size // whole
        if self.batch_size % whole or found < 2:
            parts = f", accumulate {self.accumulate}" if self.accumulate > 1 else ""
            raise UsageError(
                f"batch_size {self.batch_size}{parts} cannot be shared by {world} processes",
                "give a batch that is a multiple of their number, with two images or more for each",
                code="E-LAUNCH",
            )
        if self.norm_batch is not None and found % self.norm_batch:
            raise UsageError(
                f"norm_batch is {self.norm_batch}, but of {world} processes each computes {found} "
                "images together",
                "start fewer processes, or another norm_batch makes it another experiment",
                code="E-LAUNCH",
            )
        return found

    def norm_groups(self, world: int = 1) -> int:
        """Return how many parts of what is computed together have batch statistics of their own."""
        return 1 if self.norm_batch is None else self.together(world) // self.norm_batch

    def _check_generator(self) -> None:
        top, low = self.generator_lr, self.generator_min_lr
        if top is None:
            top = self.lr
        if low is not None and low > top:
            raise invalid("generator_min_lr", f"at most the generator's lr ({top})", low)
        if METHODS.row(self.method).generator and low is None and self.min_lr > top:
            raise invalid("generator_lr", f"at least min_lr ({self.min_lr})", top)
