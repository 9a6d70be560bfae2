"""Suite ``occlusion``: accuracy as more and more patches are hidden, in several orders."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Literal

from robustmix.errors import UsageError, unknown_name
from robustmix.evaluation.options import option
from robustmix.evaluation.patches import (
    COUNT_RULES,
    FILLS,
    CountRule,
    Fill,
    check_offset,
    check_trials,
    mask_count,
    nearest_grid,
    own_grid,
    parse_grid,
    parse_offset,
    parse_ratios,
    patch_size,
    scope_size,
    token_patch,
    usual_grid,
)
from robustmix.evaluation.suite import (
    Prepared,
    Scene,
    Suite,
)
from robustmix.evaluation.suites.occlusion_open import OpenedOcclusion
from robustmix.evaluation.suites.occlusion_rows import (
    CLASSLESS,
    MODES,
    RANDOM,
    RANKED,
    REGIONAL,
    SMALL,
    TENTHS,
    BoxesFile,
    PreparedOcclusion,
    RankedBy,
)
from robustmix.saliency.attention import check_attention
from robustmix.saliency.from_file import SaliencyFile, load_maps
from robustmix.saliency.object_regions import regions_digest
from robustmix.saliency.registry import LABELS, SALIENCY
from robustmix.saliency.rollout import check_rollout


def _read_fill(text: str) -> Fill:
    fill = text.replace("-", "_")
    for known in FILLS:
        if fill == known:
            return known
    raise unknown_name("fill", text, FILLS)


@dataclass(frozen=True, kw_only=True)
class Occlusion(Suite):
    """Accuracy as more and more patches are hidden, at random or in an order that says more."""

    recorded: ClassVar[type[Prepared]] = PreparedOcclusion

    grid: tuple[int, int] | None = option(
        None,
        parse=parse_grid,
        shown="a transformer's own patches; else 8x8 up to 64 pixels, 14x14 above, or the nearest "
        "that divides",
        form="ROWSxCOLUMNS",
    )
    """Patches of an image, e.g. 8x8; they divide it."""

    ratios: tuple[Fraction, ...] | None = option(
        None,
        parse=parse_ratios,
        shown="tenths above 64 pixels, denser near 0 below",
        form="X,...|START:END:STEP",
    )
    """Shares of the patches that are hidden, e.g. 0:1:0.1; each is a point of the curve."""

    fill: Fill = option("mean", parse=_read_fill, form="|".join(FILLS))
    """What hidden pixels show: the data set's mean colour, black, the image's mean, noise, or the
    image blurred."""

    trials: int = 5
    """Random masks a sample; the accuracy is their mean."""

    mode: tuple[str, ...] = option(RANDOM, form="MODE,...")
    """Patches hidden first: random, salient, nonsalient, foreground, background; several give a
    curve each."""

    saliency: str | None = option(None, shown="gradxinput, or file if one is given", form="SOURCE")
    """Where the order of modes salient and nonsalient comes from: gradxinput, smoothgrad, gradcam,
    rollout, attention, center or file."""

    saliency_file: Path | None = None
    """npz of saliency maps by sample id, as `robustmix saliency make` writes; a file compares
    models fairly, since all have its order."""

    saliency_label: Literal["prediction", "label"] = "prediction"
    """The class whose saliency is taken: the model's prediction, or the true label."""

    mass: tuple[Fraction, ...] | None = option(
        None, parse=parse_ratios, shown="by shares of the patches", form="X,...|START:END:STEP"
    )
    """Shares of the saliency, e.g. 0.1:1:0.1, by which modes salient and nonsalient then go, as
    Naseer et al. do: salient hides the patches that hold the share, nonsalient all others."""

    boxes: Path | None = None
    """Where the objects are, for modes foreground and background: npz of boxes or masks, or CUB's
    folder."""

    offset: tuple[int, int] = option((0, 0), parse=parse_offset, form="RIGHT,DOWN")
    """Pixels by which the grid of patches is shifted, round the edges."""

    mask_scope: str = "sample"
    """sample: a mask of its own for each; batch:100: one for 100 samples, as published tools."""

    rounding: CountRule = "half-up"
    """How a ratio becomes a whole number of patches; published tools use the others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_trials(self.trials)
        if self.fill not in FILLS:
            raise unknown_name("fill", self.fill, FILLS)
        self._check_shares()
        if not self.mode:
            raise UsageError("no mode was asked for", "give --mode random,salient", code="E-MODE")
        for mode in self.mode:
            if mode not in MODES:
                raise unknown_name("mode", mode, MODES)
        if self.saliency is not None:
            SALIENCY.checked(self.saliency)
        if self.saliency_label not in LABELS:
            raise unknown_name("saliency label", self.saliency_label, LABELS)
        if self.rounding not in COUNT_RULES:
            raise unknown_name("rounding", self.rounding, COUNT_RULES)
        scope_size(self.mask_scope)
        check_offset(self.offset)

    def _check_shares(self) -> None:
        for name, shares, of in (
            ("ratios", self.ratios, "patches"),
            ("mass", self.mass, "the saliency"),
        ):
            if shares is not None and not all(0 <= share <= 1 for share in shares):
                raise UsageError(
                    f"{name} are shares of {of}", "give values from 0 to 1", code="E-RATIOS"
                )
        if self.mass == ():
            raise UsageError("--mass without a share", "write --mass 0.1:1:0.1", code="E-RATIOS")

    def prepare(self, scene: Scene) -> OpenedOcclusion:
        """Choose grid and ratios by the size of the images, and find the files.

        Raises:
            UsageError: the grid does not divide the images, the ratios hide nothing, or a mode
                lacks what it needs.
            IntakeError: a file cannot be read.
        """
        usual, own = usual_grid(scene.size), own_grid(scene.size, token_patch(scene.robust))
        grid = self.grid or own or nearest_grid(scene.size, usual)
        patch_size(scene.size, grid)
        self._refuse_unused()
        counts = self._counts(scene.size, grid)
        (ranked, maps), boxes = self._ranked_by(scene), self._boxes_file()
        standard = {"mask_scope": "sample", "rounding": "half-up", "mass": None}
        mass = None if self.mass is None else {Fraction(0), *self.mass, Fraction(1)}
        return OpenedOcclusion(
            modes=tuple(mode for mode in MODES if mode in self.mode),
            grid=grid,
            offset=self.offset,
            ratios=tuple(sorted(counts.values())),
            masked=tuple(sorted(counts)),
            fill=self.fill,
            trials=self.trials,
            mask_scope=self.mask_scope,
            rounding=self.rounding,
            saliency=ranked,
            boxes=boxes,
            nonstandard=tuple(n for n, usual in standard.items() if getattr(self, n) != usual),
            nearest_to=usual if self.grid is None and grid not in (usual, own) else None,
            mass=None if mass is None else tuple(sorted(mass)),
            maps=maps,
            boxes_path=self.boxes if boxes is not None else None,
        )

    def _counts(self, size: tuple[int, int], grid: tuple[int, int]) -> dict[int, Fraction]:
        """Give the numbers of patches that are hidden, and the ratio of each."""
        if self.mass is not None and set(self.mode) <= set(RANKED):
            return {}
        small = max(size) <= 64
        # Of ratios that hide equally many patches the smallest stays: they are one point.
        ratios = sorted({Fraction(0), *(self.ratios or (SMALL if small else TENTHS))})
        patches = grid[0] * grid[1]
        counts = {mask_count(r, patches, self.rounding): r for r in reversed(ratios)}
        if max(counts) == 0:
            raise UsageError(
                f"the ratios hide no patch of {grid[0]}x{grid[1]}",
                "give larger --ratios",
                code="E-RATIOS",
            )
        return counts

    def _refuse_unused(self) -> None:
        """Refuse options that the modes do not need, which would change nothing."""
        of_modes: dict[str, tuple[str, ...]] = {
            "saliency": RANKED, "saliency_file": RANKED, "saliency_label": RANKED,
            "boxes": REGIONAL, "mask_scope": (*RANDOM, *REGIONAL), "mass": RANKED,
        }  # fmt: skip
        if self.mass is not None:
            of_modes |= dict.fromkeys(("ratios", "rounding"), (*RANDOM, *REGIONAL))
        for one in self.options():
            modes = of_modes.get(one.name)
            if modes and getattr(self, one.name) != one.default and not {*modes} & {*self.mode}:
                raise UsageError(
                    f"{one.flag} is of modes {', '.join(modes)}, and none of these is run",
                    f"add --mode {modes[0]}, or leave {one.flag} out",
                    code="E-UNUSED-OPTION",
                )

    def _ranked_by(self, scene: Scene) -> tuple[RankedBy | None, SaliencyFile | None]:
        """Decide where the saliency comes from, and read its file."""
        if not set(RANKED) & set(self.mode):
            return None, None
        path = self.saliency_file
        source = self.saliency or ("file" if path is not None else "gradxinput")
        if (source == "file") != (path is not None):
            raise UsageError(
                "saliency by file and --saliency-file go together",
                "give --saliency file --saliency-file MAPS.npz, or neither",
                code="E-SALIENCY-FILE",
            )
        if source == "rollout":
            check_rollout(scene.robust)
        if source == "attention":
            check_attention(scene.robust)
        maps = None if path is None else load_maps(path)
        if maps is not None:
            maps.check_images(scene.data.name, scene.data.split, scene.data.transform, scene.size)
        explained = "prediction" if source in CLASSLESS else self.saliency_label
        sha256 = None if maps is None else maps.sha256
        made = "" if maps is None or maps.record is None else maps.record.told()
        return RankedBy(source=source, explained=explained, sha256=sha256, made=made), maps

    def _boxes_file(self) -> BoxesFile | None:
        wanted = [mode for mode in REGIONAL if mode in self.mode]
        if not wanted:
            return None
        if self.boxes is None:
            raise UsageError(
                f"mode {wanted[0]} needs to know where the objects are, and the data set has no "
                "boxes or masks of them",
                "give --boxes with an npz of boxes or masks, or CUB's folder",
                code="E-BOXES",
            )
        return BoxesFile(sha256=regions_digest(self.boxes))
