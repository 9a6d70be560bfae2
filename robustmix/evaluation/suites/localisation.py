"""Suite ``localisation``: whether the map of the true class shows where the object is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from robustmix.arrays import Array
from robustmix.data.homes import find_home
from robustmix.data.manifests import DATASETS, looked_for
from robustmix.data.squashed import squashed, stored_size
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.options import option
from robustmix.evaluation.params import unrecorded
from robustmix.evaluation.suite import (
    Batch,
    Columns,
    Context,
    Found,
    Part,
    Passes,
    Prepared,
    Scene,
    Suite,
    to_unit,
)
from robustmix.later import F, Tensor, torch
from robustmix.metrics.definition import Definition, Numbers, function, share
from robustmix.metrics.localised import (
    LEVELS,
    SIDE,
    WHOLE,
    IouArray,
    best_levels,
    bin_edges,
    box_ious,
    hits_of,
    level_of,
    levels_of,
    max_box_accuracy,
    pixel_precision,
    scaled_box,
    score_counts,
    thresholds_of,
)
from robustmix.metrics.scores import FloatArray, IntArray
from robustmix.report.rows import Rows, damaged
from robustmix.report.schema import CurvePart, JsonDict, Shown, SuitePart, TablePart
from robustmix.saliency.level_contours import level_contours
from robustmix.saliency.object_regions import CUB_BOXES
from robustmix.saliency.true_boxes import HINT, TrueBoxes, load_true_boxes
from robustmix.saliency.true_masks import TrueMasks, load_true_masks

MAPS = "maps"
"""The one condition of the rows."""

USUAL = (Fraction(3, 10), Fraction(1, 2), Fraction(7, 10))
"""IoUs that MaxBoxAccV2 is a mean over."""

HALF = Fraction(1, 2)
"""The one of MaxBoxAcc."""

STEP = 0.001
"""Between thresholds, as the benchmark's training program has it."""

DRAWN = tuple(place / 20 for place in range(20))
"""Thresholds that the curves are drawn at."""

COARSE = 14
"""Side of the maps that rows keep for pictures."""

EXAMPLES = 8
"""Pictures of maps on the page."""

OUTSIDE = -1
"""Fills up the list of the true boxes of a picture that has fewer than another."""

OFFICIAL_BOXES: Mapping[str, tuple[str, ...]] = {
    "cub-200-2011": (CUB_BOXES,),
    "imagenet-1k": (
        "ILSVRC/Annotations/CLS-LOC/val",
        "Annotations/CLS-LOC/val",
        "annotations/val",
        "bbox/val",
    ),
}
"""Where the boxes of data sets that are read by name lie below their home."""


@dataclass(frozen=True, kw_only=True)
class TruthFile:
    """The boxes or masks that maps are held against; their place is nobody's business."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PreparedLocalisation(Prepared):
    """How maps are made and what they are held against."""

    kind: ClassVar[str] = "localisation"

    method: Literal["cam", "gradcam"]
    boxes: TruthFile | None
    masks: TruthFile | None
    ious: tuple[Fraction, ...]
    """Rising, in thousandths."""

    step: float
    """Between thresholds."""

    split: str
    """Of the images, on which the thresholds are chosen."""

    side: int
    """Of the square that pictures are resized to; 224 by the benchmark."""

    deviations: tuple[str, ...]
    """What is not as the benchmark has it."""

    def __post_init__(self) -> None:
        # What is read back may be a stranger's.
        if self.boxes is None and self.masks is None:
            raise ValueError("there is nothing that maps are held against")
        check_step(self.step)
        check_ious(self.ious)

    def passes(self, n: int) -> Passes:
        """Count one pass a picture; Grad-CAM goes back too."""
        return Passes(1, n, n if self.method == "gradcam" else 0)

    def check(self, rows: Rows) -> None:
        """Refuse rows that no map can have.

        Raises:
            IntakeError: the record is damaged.
        """
        forms: dict[str, tuple[tuple[int, ...], int]] = {"map": ((COARSE, COARSE), LEVELS)}
        if self.boxes is not None:
            many = _stored(rows, "truth").shape[1:2]
            forms |= {
                "iou": ((LEVELS,), WHOLE),
                "iou_largest": ((LEVELS,), WHOLE),
                "box": ((LEVELS, 4), SIDE),
                "truth": ((*many, 4), 2**15 - 1),
            }
        if self.masks is not None:
            bins = len(bin_edges(self.step)) - 1
            forms |= dict.fromkeys(("positive", "negative"), ((bins,), SIDE * SIDE))
        for name, (form, most) in forms.items():
            values = _stored(rows, name)
            if values.shape[1:] != form or values.dtype.kind not in "iu":
                raise damaged(f"the column {name} is of another form")
            least = OUTSIDE if name == "truth" else 0
            if values.size and (values.min() < least or values.max() > most):
                raise damaged(f"{name} is not in {least} to {most}")
        if self.boxes is not None and (_stored(rows, "iou_largest") > _stored(rows, "iou")).any():
            raise damaged("one contour is better than the best of all")

    def numbers(self, rows: Rows) -> Numbers:
        """Define the box accuracies and PxAP, then each bound's own, then points of the curves."""
        numbers: Numbers = {}
        if self.boxes is not None:
            numbers["", self._v2] = partial(self._accuracy, rows, "iou", self.ious)
            numbers["", "maxboxacc"] = partial(self._accuracy, rows, "iou_largest", (HALF,))
        if self.masks is not None:
            numbers["", "pxap"] = partial(self._pixels, rows)
        if self.boxes is None:
            return numbers
        for bound in self.ious:
            name = bound_name(bound)
            numbers[name, "maxboxacc_v2"] = partial(self._accuracy, rows, "iou", (bound,))
            numbers[name, "maxboxacc"] = partial(self._accuracy, rows, "iou_largest", (bound,))
            numbers[name, "best_threshold"] = partial(self._threshold, rows, bound)
            for threshold in DRAWN:
                at = point_name(bound, threshold)
                numbers[at, "boxacc"] = partial(self._share, rows, bound, threshold)
        return numbers

    @property
    def _v2(self) -> str:
        """Name the mean over IoUs; over others than the usual ones it is another number."""
        if self.ious == USUAL:
            return "maxboxacc_v2"
        return "_".join(["maxboxacc_v2", *(bound_name(bound) for bound in self.ious)])

    @property
    def _oracle(self) -> str:
        return (
            f"threshold chosen on the scored {self.split} images themselves (an oracle); "
            f"map of the true class ({self.method})"
        )

    def _accuracy(self, rows: Rows, column: str, bounds: tuple[Fraction, ...]) -> Definition:
        said = ", ".join(f"{float(bound):g}" for bound in bounds)
        over = f"IoU {said}"
        if len(bounds) > 1:
            over = f"mean over {over}, each with its best threshold"
        contours = "all contours" if column == "iou" else "the largest contour"
        ious: IouArray = _stored(rows, column)
        note = f"{contours}; {over}; {self._oracle}"
        return max_box_accuracy(ious, bounds, levels_of(self.step), note=note)

    def _threshold(self, rows: Rows, bound: Fraction) -> Definition:
        ious, levels = _stored(rows, "iou"), levels_of(self.step)
        threshold = self._lowest(best_levels(ious, bound, levels)[0])

        def statistic(weights: FloatArray) -> FloatArray:
            return np.full(len(weights), threshold)

        reason = "a threshold is chosen, not measured"
        note = f"lowest of the best thresholds; {self._oracle}"
        return function(
            rows.n, statistic, direction="neither", note=note, reason=reason, interval="none"
        )

    def _lowest(self, level: int) -> float:
        """Give the lowest threshold on a level."""
        thresholds = thresholds_of(self.step)
        return float(thresholds[(thresholds * LEVELS).astype(np.int64) == level][0])

    def _share(self, rows: Rows, bound: Fraction, threshold: float) -> Definition:
        hits = hits_of(_stored(rows, "iou")[:, level_of(threshold)], bound)
        return share(hits, note=f"all contours at threshold {threshold:g}, class known")

    def _pixels(self, rows: Rows) -> Definition:
        positive, negative = (_stored(rows, name) for name in ("positive", "negative"))
        note = f"one curve of all pixels; map of the true class ({self.method})"
        return pixel_precision(positive, negative, note=note)

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Report the curves over thresholds, the best of these, and some maps."""
        if self.boxes is None:
            return Found(details={"examples": self._examples(rows, None)})
        levels = levels_of(self.step)
        best = {one: best_levels(_stored(rows, "iou"), one, levels)[0] for one in self.ious}
        table = TablePart(
            name="thresholds",
            caption="Box accuracy at the best threshold of each IoU",
            columns=["IoU", "all contours", "largest contour", "best threshold"],
            rows=[
                [
                    f"{float(bound):g}",
                    numbers.condition(bound_name(bound))["maxboxacc_v2"].value,
                    numbers.condition(bound_name(bound))["maxboxacc"].value,
                    numbers.condition(bound_name(bound))["best_threshold"].value,
                ]
                for bound in self.ious
            ],
            units={"all contours": "fraction", "largest contour": "fraction"},
        )
        shown = HALF if HALF in best else self.ious[0]
        details: JsonDict = {
            "threshold": self._lowest(best[shown]),
            "iou": float(shown),
            "examples": self._examples(rows, best[shown]),
        }
        return Found(curves=[_curve(bound) for bound in self.ious], tables=[table], details=details)

    def _examples(self, rows: Rows, level: int | None) -> list[JsonDict]:
        """Give coarse maps of some images with their boxes; never their pixels."""
        places = np.unique(np.linspace(0, rows.n - 1, min(EXAMPLES, rows.n)).round().astype(int))
        maps = _stored(rows, "map")
        found: list[JsonDict] = []
        for place in places:
            one: JsonDict = {
                "sample_id": rows.sample_ids[place],
                "class": rows.view.class_names[int(rows.labels[place])],
                "map": maps[place].tolist(),
            }
            if level is not None:
                truth = _stored(rows, "truth")[place]
                one |= {
                    "true": truth[truth[:, 0] != OUTSIDE].tolist(),
                    "found": _stored(rows, "box")[place, level].tolist(),
                    "iou": round(int(_stored(rows, "iou")[place, level]) / WHOLE, 4),
                }
            found.append(one)
        return found

    def shown(self, part: SuitePart) -> Shown:
        """Show the accuracies; the gate watches MaxBoxAccV2, or PxAP where there are no boxes."""
        names: list[str] = [self._v2, "maxboxacc"] if self.boxes is not None else []
        names += ["pxap"] if self.masks is not None else []
        return Shown(
            headline=names,
            compared=names,
            gated=names[:1],
            note=", ".join([self.method, "oracle threshold", *self.deviations]),
            section="Localisation",
            drawings=["localisation-maps", *(["curves"] if part.curves else [])],
        )

    def forecast_note(self) -> str:
        """Say what is held against what."""
        held = [one.name for one in (self.boxes, self.masks) if one is not None]
        return f"{self.method} against {' and '.join(held)}"


def _stored(rows: Rows, name: str) -> NDArray[np.signedinteger]:
    """Give a column of the rows, (n, ...).

    Raises:
        IntakeError: there is none.
    """
    table = rows.table
    if MAPS not in table.conditions or name not in table.columns:
        raise damaged(f"there is no column {name}")
    values: NDArray[np.signedinteger] = table.columns[name][table.conditions.index(MAPS), 0]
    same = len(rows.order) == len(values) and (np.diff(rows.order) == 1).all()
    return values if same else values[rows.order]


def _curve(bound: Fraction) -> CurvePart:
    name = bound_name(bound)
    return CurvePart(
        name=name,
        x_label="threshold of the map",
        x=list(DRAWN),
        at=[point_name(bound, threshold) for threshold in DRAWN],
        y="boxacc",
        label=f"IoU {float(bound):g}",
    )


@dataclass(frozen=True, kw_only=True)
class OpenedLocalisation(PreparedLocalisation):
    """With the boxes and masks themselves."""

    true_boxes: TrueBoxes | None = unrecorded(None)
    true_masks: TrueMasks | None = unrecorded(None)

    def parts(self, context: Context) -> list[Part]:
        """List the one pass over the pictures.

        Raises:
            IntakeError: an evaluated image has no box or no mask.
        """
        ids = context.data.sample_ids
        for truth in (self.true_boxes, self.true_masks):
            if truth is not None:
                truth.check(ids)
        return [Part(MAPS, (MAPS,), _Work(self, context).rows)]


class _Work:
    """Makes the rows of a batch; looks at the network and the boxes once."""

    def __init__(self, suite: OpenedLocalisation, context: Context) -> None:
        from robustmix.saliency.cam import ClassMaps

        self.suite, self.context = suite, context
        self.maps = ClassMaps(context.robust, suite.method)
        self.pixels = squashed(context.data.pixels, suite.side)
        boxes = suite.true_boxes
        # As many for each picture, or rows would not lie in one array.
        each = [len(boxes.of[one].boxes) for one in context.data.sample_ids] if boxes else []
        self.most = max(each, default=0)

    def rows(self, batch: Batch) -> Mapping[str, Columns]:
        """Score the maps of a batch."""
        from robustmix.data.threads import in_threads

        images = to_unit(self.pixels.take(batch.indices).to(self.context.device))
        scores = score_maps(self.maps(images, batch.labels))
        items = zip(batch.indices.tolist(), batch.sample_ids, scores, strict=True)
        found = in_threads(lambda item: self._one(*item), items)
        return {
            MAPS: {
                name: torch.from_numpy(np.stack([one[name] for one in found])) for name in found[0]
            }
        }

    def _one(self, position: int, sample_id: str, scores: FloatArray) -> dict[str, Array]:
        block = SIDE // COARSE
        coarse = scores.reshape(COARSE, block, COARSE, block).mean(axis=(1, 3))
        found: dict[str, Array] = {"map": quantised(coarse)}
        if self.suite.true_boxes is not None:
            objects = self.suite.true_boxes.of[sample_id]
            size = objects.size or stored_size(self.context.data.pixels, position)
            truth = np.array([scaled_box(box, size) for box in objects.boxes]).clip(0, 2**15 - 1)
            padded = np.full((self.most, 4), OUTSIDE, dtype=np.int16)
            padded[: len(truth)] = truth
            found |= {"truth": padded, **box_rows(quantised(scores), truth)}
        if self.suite.true_masks is not None:
            mask = self.suite.true_masks.take(sample_id, SIDE)
            outside = ~mask.inside & ~mask.ignored
            for name, chosen in (("positive", mask.inside), ("negative", outside)):
                counts = score_counts(scores, chosen, self.suite.step)
                found[name] = counts.astype(np.int32)
        return found


def score_maps(maps: Tensor) -> FloatArray:
    """Enlarge maps to 224x224 and bring each to [0, 1], (N, 224, 224).

    Args:
        maps: float64 (N, h, w). One that holds a NaN, or nothing but one number, becomes zeros.
    """
    large = F.interpolate(maps[:, None], (SIDE, SIDE), mode="bicubic", align_corners=False)
    flat = large.flatten(1)
    raised = flat - flat.amin(dim=1, keepdim=True)
    scores = (raised / raised.amax(dim=1, keepdim=True)).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    # An infinite pixel would leave the others at 0 and itself undefined; enlarged, equal pixels
    # differ by roundings.
    small = maps.flatten(1)
    usable = (small.isfinite().all(dim=1) & (small.amin(dim=1) < small.amax(dim=1)))[:, None]
    found: FloatArray = (scores * usable).view(-1, SIDE, SIDE).numpy()
    return found


def quantised(scores: FloatArray) -> NDArray[np.uint8]:
    """Cut scores in [0, 1] to 8 bits, downwards: 0.5 becomes 127."""
    return (LEVELS * scores).astype(np.uint8)


def box_rows(values: NDArray[np.uint8], truth: IntArray) -> dict[str, Array]:
    """Score the boxes of an 8-bit map at every level.

    Args:
        values: uint8 (224, 224), whose largest value is 255, or all are 0.
        truth: the true boxes in its pixels, (B, 4).

    Returns:
        ``iou``, the best one of all contours at each level in parts of ``WHOLE``, and
        ``iou_largest``, that of the largest contour, int16 (255,) both; ``box``, the one that the
        former is of, uint8 (255, 4).
    """
    contours = level_contours(values)
    ious = box_ious(contours.boxes, truth)
    order = np.argsort(ious, kind="stable")
    best = np.zeros(LEVELS, dtype=np.int64)
    best[contours.level[order]] = order  # of several to one level the last remains: the best
    return {
        "iou": ious[best],
        "iou_largest": box_ious(contours.largest, truth),
        "box": contours.boxes[best].astype(np.uint8),
    }


def check_step(step: float) -> None:
    """Refuse a step that makes no thresholds, or bins without end.

    Raises:
        UsageError: it does.
    """
    if not 0.001 <= step <= 0.5:
        raise UsageError(
            f"expected --threshold-step from 0.001 to 0.5, got {step:g}",
            "the benchmark has 0.001 or 0.01",
            code="E-THRESHOLD",
        )


def check_ious(ious: Sequence[Fraction]) -> None:
    """Refuse bounds that are none.

    Raises:
        UsageError: there are none, too many, or one is not in thousandths above 0.
    """
    good = all(0 < one <= 1 and (one * 1000).denominator == 1 for one in ious)
    if not good or not 0 < len(ious) <= 20 or len(set(ious)) < len(ious):
        raise UsageError(
            "IoUs are from 0.001 to 1, in thousandths, each once, at most 20",
            "leave --iou out for 0.3,0.5,0.7",
            code="E-IOU",
        )


def bound_name(bound: Fraction) -> str:
    """Name the numbers of one IoU, e.g. ``iou50``."""
    return f"iou{float(100 * bound):g}"


def point_name(bound: Fraction, threshold: float) -> str:
    """Name a point of a curve, e.g. ``iou50/0.25``."""
    return f"{bound_name(bound)}/{threshold:g}"


@dataclass(frozen=True, kw_only=True)
class Localisation(Suite):
    """Whether maps of the true class find the object: MaxBoxAcc, MaxBoxAccV2, PxAP."""

    recorded: ClassVar[type[Prepared]] = PreparedLocalisation

    boxes: Path | None = option(None, shown="those of CUB and ImageNet, if there", form="PATH")
    """Where the objects are: a list of lines path,x0,y0,x1,y1 in pixels of the pictures, CUB's
    folder, or a folder of ImageNet's XML files."""

    masks: Path | None = option(None, form="FOLDER")
    """Masks of the objects, for PxAP: CLASS/PICTURE.png, ignored pixels in
    CLASS/PICTURE_ignore.png, or named in masks.csv by lines path,mask,ignored."""

    map_method: Literal["cam", "gradcam"] | None = option(
        None, shown="cam where the network ends in pooling and a linear layer", form="cam|gradcam"
    )
    """How the maps are made: class activation maps, or Grad-CAM of the last stage."""

    iou: tuple[Fraction, ...] = option(USUAL, form="X,...")
    """IoUs from which on a box is right, over which MaxBoxAccV2 is the mean."""

    threshold_step: float = STEP
    """Distance of the thresholds of a map; the benchmark has 0.001 or 0.01."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_step(self.threshold_step)
        check_ious(self.iou)

    def prepare(self, scene: Scene) -> OpenedLocalisation:
        """Find boxes and masks, and look how the network's maps are made.

        Raises:
            UsageError: no map can be made, or the images are not square.
            IntakeError: there are no boxes, or a file is damaged.
        """
        from robustmix.saliency.cam import ClassMaps

        ids = scene.data.sample_ids
        masks = None if self.masks is None else load_true_masks(self.masks, ids)
        place = self.boxes or _official(scene)
        if place is None and masks is None:
            raise IntakeError(
                f"where the objects are in {scene.data.name} is not known", HINT, code="E-BOXES"
            )
        boxes = None if place is None else load_true_boxes(place, ids)
        for truth in (boxes, masks):
            # Of a part of the images those that are evaluated are asked for when they are known.
            if truth is not None and scene.limit is None:
                truth.check(ids)
        height, width = scene.size
        if height != width:
            raise UsageError(
                f"pictures are resized to a square, the model takes {height}x{width}",
                "evaluate a model for square images",
                code="E-INPUT-SIZE",
            )
        changed = {
            f"images of {height} pixels": height != SIDE,
            f"IoU {','.join(f'{float(one):g}' for one in self.iou)}": set(self.iou) != set(USUAL),
        }
        return OpenedLocalisation(
            method=ClassMaps(scene.robust, self.map_method).method,
            boxes=None if boxes is None else TruthFile(name=boxes.name, sha256=boxes.sha256),
            masks=None if masks is None else TruthFile(name=masks.name, sha256=masks.sha256),
            ious=tuple(sorted(self.iou)),
            step=self.threshold_step,
            split=scene.data.split,
            side=height,
            deviations=tuple(name for name, differs in changed.items() if differs),
            true_boxes=boxes,
            true_masks=masks,
        )


def _official(scene: Scene) -> Path | None:
    """Find the boxes that a data set read by name has beside its pictures."""
    name = scene.dataset or scene.data.name
    if name not in OFFICIAL_BOXES or name not in DATASETS:
        return None
    home = find_home(looked_for(name), scene.folder)
    if home is None:
        return None
    places = [home / place for place in OFFICIAL_BOXES[name]]
    return next((place for place in places if place.exists()), None)
