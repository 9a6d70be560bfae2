"""The packaged recipe files: what they give, against the frozen record and the printed tables."""

import csv
import functools
import json
import os
import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from robustmix.cli.app import run
from robustmix.data.augment import Augment
from robustmix.data.manifests import DATASETS, list_manifests
from robustmix.data.protocol import TestTransform
from robustmix.data.rand_increasing import POLICIES
from robustmix.errors import IntakeError, UsageError
from robustmix.methods.registry import METHODS, config_class, options_without_effect
from robustmix.models.checkpoint import read_checkpoint
from robustmix.models.names import ARCHS
from robustmix.training import Recipe, load_recipe, resolve_recipe, train
from robustmix.training.catalogue import (
    Row,
    compose,
    find_row,
    flat,
    list_rows,
    parse_name,
    recipe_files,
)
from robustmix.training.recipe_dict import recipe_to_dict
from robustmix.training.recipe_effect import without_effect
from robustmix.training.recipe_tables import TABLES
from robustmix.training.resolve import resolve_source
from robustmix.training.run_data import load_run_data

ROWS = list_rows()

# The frozen record: every recipe as it resolved when each was a file of its own.

RECORD: dict[str, Any] = json.loads(
    (Path(__file__).parent / "recipes_of_0_1_0.json").read_text(encoding="utf-8")
)

ADDED = {
    "augment.erase_prob": 0.0,
    "augment.rand_policy": "fixmatch",
    "augment.rand_fill": [114, 123, 125],
    "accumulate": 1,
    "compile": "auto",
    "sync_norm": False,
    "repeated_augment": 1,
    "loss": "ce",
    "bce_sum": False,
}
"""Keys that the record lacks, with what was done then."""

ADDED_TO: dict[str, dict[str, object]] = {
    "mixup": {"method.pipeline": "none"},
    "cutmix": {"method.pipeline": "none"},
    "automix": {"method.pipeline": "mp+ce", "method.mask_source": "attention"},
    "samix": {"method.pipeline": "mp+ce"},
    "manifoldmix": {"method.loss": "ce"},
    "co-mixup": {"method.threshold_type": "hard", "method.threshold_on": "summed"},
}
"""The same, of one method."""


class Correction(NamedTuple):
    """A value that is meant to differ from the record's."""

    names: str
    """Regular expression over whole names; every recipe of such a name has the correction."""

    recipes: int
    """How many those are."""
    key: str
    old: object
    new: object
    reason: str


_IMAGENET_T = r"imagenet-1k-(deit_small|swin_tiny|convnext_tiny)-.*"

CORRECTIONS = (
    Correction(
        "imagenet-1k-convnext_tiny-(?!automix|adautomix|samix).*",
        10,
        "ema_decay",
        None,
        0.9999,
        "the published runs deploy an average of the weights",
    ),
    Correction(
        "imagenet-1k-convnext_tiny-(?!automix|adautomix|samix).*",
        10,
        "ema_warmup_epochs",
        None,
        20,
        "its decay rises over the first twenty epochs",
    ),
    Correction(
        "imagenet-1k-deit_small-transmix",
        1,
        "ema_decay",
        None,
        0.99996,
        "the published run deploys an average of the weights, the others of DeiT-S do not",
    ),
    Correction(
        "imagenet-1k-deit_small-transmix",
        1,
        "ema_warmup_epochs",
        None,
        20,
        "its decay rises over the first twenty epochs",
    ),
    Correction(
        _IMAGENET_T,
        34,
        "augment.rand_policy",
        "fixmatch",
        "increasing",
        "OpenMixup's ImageNet pipeline has timm's increasing operations, not CIFAR's",
    ),
    Correction(
        _IMAGENET_T,
        34,
        "augment.rand_fill",
        [114, 123, 125],
        [104, 116, 124],
        "the fill is ImageNet's mean colour (BGR as RGB), not CIFAR's",
    ),
    Correction(
        _IMAGENET_T,
        34,
        "augment.erase_prob",
        0.0,
        0.25,
        "OpenMixup's ImageNet pipeline erases a rectangle of every fourth image",
    ),
    Correction(
        r"(imagenet-1k|inaturalist-201.|places205)-(resnet|resnext).*",
        150,
        "norm_batch",
        None,
        64,
        "the publication's 256 images were 64 on each of four GPUs, with statistics of their own",
    ),
    Correction(
        "tiny-imagenet-resnext50_32x4d-.*",
        17,
        "norm_batch",
        None,
        50,
        "the publication's 100 images were 50 on each of two GPUs",
    ),
    Correction(
        "imagenet-1k-convnext_tiny-(?!automix|adautomix|samix).*",
        10,
        "accumulate",
        1,
        2,
        "the publication accumulated 4,096 images in two steps",
    ),
    Correction(
        "imagenet-1k-convnext_tiny-automix",
        1,
        "accumulate",
        1,
        4,
        "the publication accumulated 4,096 images in four steps",
    ),
    Correction(
        "cifar100-convnext_tiny-adautomix",
        1,
        "extrapolated",
        False,
        True,
        "its configuration is not released, only a log",
    ),
    Correction(
        "cifar100-convnext_tiny-adautomix",
        1,
        "method.switch_off",
        0.8,
        0.0,
        "Swin-T follows the configuration, so does ConvNeXt-T; the log's value is the variant -log",
    ),
    Correction(
        "cifar100-resnet18-(alignmix|attentivemix|augmix|co-mixup|manifoldmix|saliencymix|smoothmix"
        "|supermix|vanilla)",
        9,
        "init",
        "openmixup",
        "torch",
        "one start for all baselines of a table: the released mixup class leaves PyTorch's",
    ),
    Correction(
        "cifar100-resnet18-(cutmix|fmix|gridmix)",
        3,
        "method.alpha",
        1.0,
        0.2,
        "the tables' alpha; that of the released logs is the variant -log",
    ),
    Correction(
        "(cifar10|cifar100|tiny-imagenet|imagenet-1k)-(resne[xt].*|wrn28_8)-attentivemix",
        13,
        "method.teacher",
        "",
        "torchvision:resnet18@IMAGENET1K_V1",
        "OpenMixup's network that looks, where published weights can be a teacher",
    ),
    Correction(
        "cub.*-attentivemix|fgvc.*-attentivemix|.*-(deit_small|swin_tiny|convnext_tiny)-attentivemix",
        11,
        "method.teacher",
        "",
        "torchvision:resnet50@IMAGENET1K_V1",
        "likewise: of the fine-grained sets and of transformers",
    ),
    Correction(
        ".*-deit_small-transmix",
        2,
        "method.cutmix_prob",
        0.5,
        0.8,
        "the authors' configurations and OpenMixup's",
    ),
    Correction(
        "stanford-cars-resnet18-automix",
        1,
        "epochs",
        60,
        200,
        "table and log have 200 epochs; the configuration's 60 are the length -60",
    ),
    Correction(
        "digits-resnet8-adautomix",
        1,
        "epochs",
        10,
        12,
        "the demonstration trains its methods alike",
    ),
)


@functools.cache
def resolved(name: str) -> Recipe:
    return resolve_recipe(name)


def recorded(name: str) -> dict[str, Any]:
    """Return a recipe of the record by dotted key."""
    dataset, arch, epochs, extrapolated, base, method = RECORD["recipes"][name]
    own = {"dataset": dataset, "arch": arch, "epochs": epochs, "extrapolated": extrapolated}
    return flat({**RECORD["bases"][base], **own, "method": RECORD["methods"][method]})


def composed(name: str) -> tuple[dict[str, Any], set[str]]:
    """Return what a name resolves to now, as the record has it, and the keys without effect."""
    recipe = resolved(name)
    values = flat(recipe_to_dict(recipe))
    values = {key: v for key, v in values.items() if not key.startswith("test_transform.")}
    values["test_transform"] = TestTransform(**recipe.test_transform or {}).text()
    idle = options_without_effect(recipe.method, recipe.method_options)
    return values, {*without_effect(recipe), *(f"method.{key}" for key in idle)}


def differences(name: str) -> Iterator[tuple[str, str, object, object]]:
    """Yield (name, key, recorded value, value now) where a recipe is not the record's."""
    now, idle = composed(name)
    assert not now.keys() & idle
    was = {key: value for key, value in recorded(name).items() if key not in idle}
    informative = {"description", "published_batch"}
    for key in (now.keys() | was.keys()) - informative:
        method = str(now["method.name"])
        old = was[key] if key in was else ADDED_TO.get(method, {}).get(key, ADDED.get(key))
        if old != now.get(key):
            yield name, key, old, now.get(key)


def test_recipes_are_those_of_the_record_but_for_the_corrections() -> None:
    found = [item for name in RECORD["recipes"] for item in differences(name)]
    meant = []
    for correction in CORRECTIONS:
        names = [name for name in RECORD["recipes"] if re.fullmatch(correction.names, name)]
        assert len(names) == correction.recipes, correction
        assert correction.reason
        meant += [(name, *correction[2:5]) for name in names]
    assert len(RECORD["recipes"]) == 514
    assert sorted(found, key=repr) == sorted(meant, key=repr)


# The files.


def texts() -> dict[str, str]:
    folder = resources.files("robustmix.training") / "recipes"
    return {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir()}


TEXTS = texts()

SOURCES = re.compile(
    r"(AAM|OMX|A\.1|paper|poster|Table \d+|model card of OMX|google-research/augmix|alldbi/SuperMix"
    r"|chosen here|as on CIFAR-100)\b"
)
"""What a source begins with; papers.toml says what the short ones are."""


def values_of(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (header, line, comment) of every line that gives a key a value."""
    header = ""
    for line in text.splitlines():
        if re.match(r"\[", line):
            header = line.strip("[]")
        elif header and header != "groups" and re.match(r"[^#\s].* = ", line):
            yield header, line, line.partition("  # ")[2]


def test_they_are_few_and_short() -> None:
    assert {f"{name}.toml" for name in recipe_files()} | {"papers.toml"} == set(TEXTS)
    assert 11 <= len(TEXTS) <= 14
    assert sum(len(text.splitlines()) for text in TEXTS.values()) < 800
    for name, text in TEXTS.items():
        assert text.startswith("# "), name  # what the images go through, in words


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"digits.toml"}))
def test_every_value_says_its_source(name: str) -> None:
    for header, line, comment in values_of(TEXTS[name]):
        # In [rows] the value itself is the source.
        told = tomllib.loads(line).popitem()[1] if header == "rows" else comment
        assert SOURCES.match(told), f"{name} [{header}] {line}"
    legend = TEXTS["papers.toml"]
    assert all(short in legend for short in ("# AAM: ", " OMX: ", "# paper, A.1: "))


def words(text: str) -> list[str]:
    return [word.lstrip("!") for word in text.split() if word != "*"]


def selectors(name: str) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    """Yield (place, its parts, what it sets) of a file; rows set nothing."""
    content = tomllib.loads(TEXTS[name])
    rows = content.pop("rows", {})
    for kind in ("extrapolated", "needs"):
        rows |= rows.pop(kind, {})
    for header in rows:
        yield f"{name} [{header}]", header.split("/"), {}
    for header, body in content.items():
        if isinstance(body, dict) and header != "groups":
            key = header.removesuffix(" by method")
            if key == header:
                yield f"{name} [{header}]", header.split("/"), flat(body)
                continue
            for chosen, value in body.items():
                parts = chosen.split("/") if "/" in chosen else ["*", chosen]
                yield f"{name} [{header}] {chosen}", parts, {key: value}


def groups(name: str) -> dict[str, list[str]]:
    own = tomllib.loads(TEXTS[name]).get("groups", {})
    shared = tomllib.loads(TEXTS["papers.toml"])["groups"]
    return {key: str(value).split() for key, value in {**own, **shared}.items()}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_headers_name_what_exists(name: str) -> None:
    known = groups(name)
    for group in known.values():
        assert set(group) <= set(METHODS) or set(group) <= set(ARCHS)
    for place, (archs, *rest), _ in selectors(name):
        for word in words(archs):
            assert word in ARCHS or (word[0] == "@" and set(known[word[1:]]) <= set(ARCHS)), place
        for word in words(rest[0]) if rest else ():
            assert word in METHODS or set(known[word.removeprefix("@")]) <= set(METHODS), place
        assert len(rest) <= 3


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_what_sections_set_exists(name: str) -> None:
    known = groups(name)
    plain = {field.name for field in fields(Recipe)} - {"method", "method_options", *TABLES}
    kinds = ("augment", "test_transform")
    tables = {f"{table}.{field.name}" for table in kinds for field in fields(TABLES[table])}
    for place, (_, *rest), settings in selectors(name):
        chosen = (
            [one for word in words(rest[0]) for one in known.get(word[1:], [word])] if rest else []
        )
        options = {f"method.{field.name}" for one in chosen for field in fields(config_class(one))}
        assert set(settings) <= plain | tables | options, place


def test_every_setting_is_the_last_word_somewhere() -> None:
    """A value that every row overrides, or a section that fits no row, would be read in vain."""
    heard: set[tuple[str, str]] = set()
    for row in ROWS:
        if row.needs is None:
            settings = compose(parse_name(row.name))
            heard |= {(key, item.origin.partition(": ")[0]) for key, item in settings.items()}
    told = {(key, place) for name in TEXTS for place, _, found in selectors(name) for key in found}
    assert len(told) > 300
    assert told <= heard


def test_names_lead_back_to_their_rows() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) > 800
    for row in ROWS:
        selection = parse_name(row.name)
        parts = (selection.dataset, selection.arch, selection.method, selection.variant)
        assert parts == (row.dataset, row.arch, row.method, row.variant)
        if row.needs is not None:
            with pytest.raises(UsageError, match=rf"^recipe {row.name} cannot be trained here: it"):
                compose(selection)
            continue
        settings = compose(selection)
        assert settings["epochs"].value == row.epochs
        assert find_row(selection, row.epochs) == row
        assert settings["description"].value.endswith(f"{row.epochs} epochs")
        assert settings.get("extrapolated") is None or row.extrapolated


def test_a_row_of_every_kind_resolves() -> None:
    kinds: dict[tuple[object, ...], Row] = {}
    for row in ROWS:
        if row.needs is None:
            kinds[row.dataset, row.arch, row.method, row.variant] = row
    assert len(kinds) > 500
    for row in kinds.values():
        if row.name in RECORD["recipes"]:
            continue  # resolved by the record's test
        recipe = resolve_recipe(row.name)
        assert (recipe.dataset, recipe.arch, recipe.method) == (row.dataset, row.arch, row.method)
        assert (recipe.epochs, recipe.variant) == (row.epochs, row.variant)
        assert recipe.extrapolated == (row.extrapolated is not None)


def test_lengths_of_a_row_differ_in_little_but_their_length() -> None:
    """Only what a section names for one length differs besides."""
    others = {
        "cifar100-swin_tiny-automix-600": {"min_lr", "generator_lr"},
        "imagenet-1k-resnet50-automix-300": {"generator_momentum"},
    }
    seen = 0
    for row in ROWS:
        if row.epochs == row.default_epochs or row.variant or row.needs:
            continue
        long, short = (
            dict(compose(parse_name(row.name))),
            compose(parse_name(row.name.removesuffix(f"-{row.epochs}"))),
        )
        differing = {
            key
            for key in long.keys() | short.keys()
            if key not in ("epochs", "description", "extrapolated")
            and getattr(long.get(key), "value", None) != getattr(short.get(key), "value", None)
        }
        assert differing == others.pop(row.name, set()), row.name
        seen += 1
    assert not others
    assert seen > 250


# What is printed.


class Unpublished(NamedTuple):
    """Printed figures that no row stands for."""

    dataset: str
    archs: str
    methods: str
    lengths: str
    reason: str


_NO_SETTINGS = "SAMix composes there, extrapolated: no settings of it on this set are transcribed"
_RSB = "in OpenMixup's table of RSB only; AttentiveMix+ asks a trained ResNet-50"

NOT_THERE = (
    Unpublished("cifar100", "deit_small convnext_tiny", "samix", "200 600", _NO_SETTINGS),
    Unpublished("cifar100", "swin_tiny", "samix", "200 600", _NO_SETTINGS),
    Unpublished("cifar100", "wrn28_8", "samix", "400", _NO_SETTINGS),
    Unpublished(
        "imagenet-1k",
        "resnet18 resnet34 resnet50 resnet101",
        "samix",
        "100 300",
        _NO_SETTINGS,
    ),
    Unpublished("imagenet-1k", "resnext101_32x4d", "samix", "100", _NO_SETTINGS),
    Unpublished("imagenet-1k", "deit_small swin_tiny convnext_tiny", "samix", "300", _NO_SETTINGS),
    Unpublished(
        "inaturalist-2017", "resnet18 resnet50 resnext101_32x4d", "samix", "100", _NO_SETTINGS
    ),
    Unpublished("inaturalist-2018", "resnet50 resnext101_32x4d", "samix", "100", _NO_SETTINGS),
    Unpublished("places205", "resnet18 resnet50", "samix", "100", _NO_SETTINGS),
    Unpublished(
        "imagenet-1k", "efficientnet_b0 mobilenetv2", "attentivemix samix", "100 300", _RSB
    ),
    Unpublished(
        "imagenet-1k", "resnet50", "deit", "100", "DeiT's setting of ResNet-50 is not transcribed"
    ),
    Unpublished(
        "cifar100",
        "swin_tiny",
        "adautomix",
        "600",
        "only a figure in a table: neither log nor settings",
    ),
)


def published() -> set[tuple[str, str, str, str]]:
    default = Path(__file__).parents[2].parent / "shared" / "reference"
    path = Path(os.environ.get("ROBUSTMIX_REFERENCE", default)) / "published.csv"
    if not path.exists():
        pytest.skip(f"no {path.name} (set ROBUSTMIX_REFERENCE)")
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) > 2000
    found = {
        (line["dataset"], line["arch"], line["method"].partition("[")[0], line["epochs"])
        for line in lines
    }
    return {
        (dataset, arch, method, epochs)
        for dataset, arch, method, epochs in found
        if dataset in list_manifests() and arch in ARCHS and method in METHODS
    }


def test_there_is_a_row_for_every_printed_figure() -> None:
    rows = {(row.dataset, row.arch, row.method, str(row.epochs)) for row in ROWS}
    kinds = {row[:3] for row in rows}
    found = published()
    assert {row[:3] for row in found if row[3] == "unknown"} <= kinds
    missing = {row for row in found if row[3] != "unknown" and row not in rows}
    excused = {
        (entry.dataset, arch, method, epochs)
        for entry in NOT_THERE
        for arch in entry.archs.split()
        for method in entry.methods.split()
        for epochs in entry.lengths.split()
    }
    assert missing == excused
    assert len(found) > 600


# A name, flags and the command line mean the same.


def combinations(count: int) -> Iterator[tuple[str, str, str]]:
    """Yield random (data set, architecture, method) that resolve, published or not."""
    rng = random.Random(20)
    datasets, archs, methods = sorted(recipe_files()), sorted(ARCHS), sorted(METHODS)
    while count:
        parts = rng.choice(datasets), rng.choice(archs), rng.choice(methods)
        row = {(row.dataset, row.arch, row.method): row for row in ROWS}.get(parts)
        if row is None or row.needs is None:
            count -= 1
            yield parts


def test_a_name_flags_and_the_command_line_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(21)
    published, shown = 0, []
    for dataset, arch, method in combinations(50):
        name = f"{dataset}-{arch}-{method}"
        flags = {"dataset": dataset, "arch": arch, "method": method}
        recipe = resolve_recipe(name)
        assert resolve_recipe(overrides=flags) == recipe
        assert resolve_source(None, overrides=dict(flags)).recipe == recipe
        sets = [f"{key}={value}" for key, value in flags.items()]
        rng.shuffle(sets)
        assert resolve_recipe(sets=sets) == recipe
        key = rng.choice(list(flags))
        rest = [text for text in sets if not text.startswith(key)]
        assert resolve_source(None, sets=rest, overrides={key: flags[key]}).recipe == recipe
        published += not recipe.extrapolated
        shown.append(name)
    assert 0 < published < 50  # both kinds were among them
    for name in shown[::10]:
        assert run(["recipes", "show", name]) == 0
        assert tomllib.loads(capsys.readouterr().out) == recipe_to_dict(resolve_recipe(name))


# A folder that follows a data set.

CUB_AUGMENT = {
    "kind": "random-resized-crop",
    "flip": True,
    "resize": 256,
    "size": 224,
    "scale": [0.5, 1.0],
    "ratio": [3 / 4, 4 / 3],
    "interpolation": "bilinear",
    "drop_last": True,
    "rand_ops": 0,
    "erase_prob": 0.0,
}
CUB_TEST = {"resize": 256, "crop": 224, "interpolation": "bilinear"}
IMAGENET_MEAN = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of birds, none square and no two of one size."""
    root = tmp_path_factory.mktemp("birds")
    rng = np.random.default_rng(3)
    for split, count in (("train", 5), ("test", 2)):
        for label, name in enumerate(("crow", "wren")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (41 + 3 * i + label, 53 + i, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def test_a_folder_of_a_data_set_keeps_its_protocol(tmp_path: Path, pictures: Path) -> None:
    folder = f"folder:{pictures}"
    by_name = resolve_recipe("cub-200-2011-resnet8-mixup", overrides={"dataset": folder})
    by_hand = resolve_recipe(
        sets=["protocol_of=cub-200-2011"],
        overrides={"dataset": folder, "arch": "resnet8", "method": "mixup"},
    )
    file = tmp_path / "cub.toml"
    file.write_text('dataset = "cub-200-2011"\narch = "resnet8"\nmethod.name = "mixup"\n')
    by_file = resolve_recipe(file=file, sets=[f"dataset={folder}"])
    assert by_name == by_hand == by_file
    values = recipe_to_dict(by_name)
    assert (values["dataset"], values["protocol_of"]) == (folder, "cub-200-2011")
    assert values["augment"] == CUB_AUGMENT
    assert values["test_transform"] == CUB_TEST
    assert values["normalisation"] == IMAGENET_MEAN
    own = recipe_to_dict(resolve_recipe("cub-200-2011-resnet8-mixup"))
    assert {**values, "dataset": "cub-200-2011"} == {**own, "protocol_of": "cub-200-2011"}
    assert recipe_to_dict(resolve_recipe(overrides={"dataset": folder}))["augment"] == {}


def test_a_run_on_such_a_folder_records_the_protocol(tmp_path: Path, pictures: Path) -> None:
    done = train(
        "cub-200-2011-resnet8-mixup",
        out=tmp_path / "run",
        device="cpu",
        progress="none",
        dataset=f"folder:{pictures}",
        epochs=1,
        batch_size=4,
        img_size=28,
    )
    # A side of 28 pixels scales CUB's 256 and 224 by an eighth.
    augment = {**CUB_AUGMENT, "resize": 32, "size": 28}
    transform = {**CUB_TEST, "resize": 32, "crop": 28}
    written = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8"))
    checkpoint = read_checkpoint(done.last)
    for record in (written, checkpoint.recipe):
        assert record["augment"] == augment
        assert record["test_transform"] == transform
        assert record["normalisation"] == IMAGENET_MEAN
        assert record["protocol_of"] == "cub-200-2011"
    assert checkpoint.input_size == (3, 28, 28)
    assert list(checkpoint.mean) == IMAGENET_MEAN["mean"]
    # 10 images in batches of 4, the incomplete one dropped: two forward passes.
    passes = {int(v) for k, v in checkpoint.model.items() if k.endswith("num_batches_tracked")}
    assert passes == {2}
    assert recipe_to_dict(load_recipe(tmp_path / "run" / "recipe.toml")) == written


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            ["dataset=folder:/x", "protocol_of=cub-200-2001"],
            "unknown data set for protocol_of 'cub-200-2001'; did you mean 'cub-200-2011'?",
        ),
        (
            ["dataset=folder:/x", "protocol_of=cifar100-c"],
            "unknown data set for protocol_of 'cifar100-c'; did you mean 'cifar100'?",
        ),
        (
            ["dataset=digits", "protocol_of=cub-200-2011"],
            "protocol_of: digits has a protocol of its own; leave it out, or give "
            "dataset=folder:PATH",
        ),
        (["protocol_of=cub-200-2011"], "protocol_of: cifar100 has a protocol of its own"),
    ],
)
def test_a_protocol_that_cannot_be_followed_is_an_error(sets: list[str], message: str) -> None:
    rng = random.Random(len(message))
    rng.shuffle(sets)
    with pytest.raises(UsageError) as error:
        resolve_recipe(sets=sets)
    assert message in str(error.value)


def test_every_packaged_recipe_is_of_a_data_set_that_is_read_by_name(tmp_path: Path) -> None:
    assert recipe_files() <= set(DATASETS)
    for name in recipe_files() - {"digits"}:
        with pytest.raises(IntakeError, match=r"is not there: .*data[-_]dir") as error:
            load_run_data(resolve_recipe(overrides={"dataset": name}), tmp_path)
        assert error.value.code == "E-DATA"


def test_what_a_folder_alone_does_not_say_waits_for_its_images(
    tmp_path: Path, pictures: Path
) -> None:
    """Without a protocol the kind of augmentation follows the size of the images."""
    small = {"dataset": f"folder:{pictures}", "arch": "resnet8", "epochs": 1, "batch_size": 5}
    settings: dict[str, Any] = {**small, "img_size": 36, "device": "cpu", "progress": "none"}
    train(out=tmp_path / "a", **{**settings, "augment.scale": (0.5, 1.0)})
    written = tomllib.loads((tmp_path / "a" / "recipe.toml").read_text(encoding="utf-8"))
    assert written["augment"]["kind"] == "random-resized-crop"
    assert written["augment"]["scale"] == [0.5, 1.0]
    with pytest.raises(UsageError, match=r"augment.padding has no effect: it belongs to") as error:
        train(out=tmp_path / "b", **{**settings, "augment.padding": 2})
    assert error.value.code == "E-UNUSED-OPTION"


# "ResNet strikes back".

RSB_METHODS = {
    *("rsb", "mixup", "cutmix", "manifoldmix", "saliencymix", "fmix", "resizemix"),
    *("puzzlemix", "automix"),
}
RSB_ARCHS = ("resnet50", "efficientnet_b0", "mobilenetv2")


def test_the_rows_of_rsb_are_those_of_table_3() -> None:
    rows = {(r.arch, r.method): r for r in ROWS if r.variant == "rsb-a3"}
    assert set(rows) == {(arch, method) for arch in RSB_ARCHS for method in RSB_METHODS}
    assert {r.method for r in rows.values() if r.extrapolated} == {"automix"}
    assert not [r.name for r in ROWS if r.needs and "transmix" not in r.name]
    default = Path(__file__).parents[2].parent / "shared" / "reference"
    path = Path(os.environ.get("ROBUSTMIX_REFERENCE", default)) / "published.csv"
    if not path.exists():
        pytest.skip(f"no {path.name} (set ROBUSTMIX_REFERENCE)")
    with path.open(encoding="utf-8", newline="") as file:
        printed = {
            (line["arch"], line["method"], f"rsb-a{2 if line['epochs'] == '300' else 3}")
            for line in csv.DictReader(file)
            if line["study"] == "automix-t3"
        }
    assert len(printed) == 45
    assert printed <= {(r.arch, r.method, r.variant) for r in ROWS if r.variant}


@pytest.mark.parametrize("arch", RSB_ARCHS)
@pytest.mark.parametrize("method", ["rsb", "mixup", "puzzlemix", "automix"])
def test_rsb_trains_as_published(arch: str, method: str) -> None:
    a2, a3 = (resolve_recipe(f"imagenet-1k-{arch}-{method}-rsb-{way}") for way in ("a2", "a3"))
    for recipe in (a2, a3):
        assert (recipe.optimizer, recipe.grad_clip, recipe.weight_decay) == ("lamb", 1.0, 0.02)
        assert (recipe.batch_size, recipe.warmup_epochs, recipe.min_lr) == (2048, 5, 1e-6)
        assert recipe.label_smoothing == 0
        if method == "rsb":
            said = [recipe.method_options[key] for key in ("mixup_alpha", "cutmix_alpha", "loss")]
            assert said == [0.1, 1.0, "bce"]
        else:
            assert (recipe.loss, recipe.bce_sum, recipe.bce_threshold) == ("bce", True, None)
        transform = TestTransform(**recipe.test_transform or {}).text()
        assert transform == "resize236-bicubic+centercrop224"
    assert (a2.lr, a2.epochs, a2.accumulate, a2.repeated_augment) == (5e-3, 300, 2, 3)
    assert (a3.lr, a3.epochs, a3.accumulate, a3.repeated_augment) == (8e-3, 100, 1, 1)
    assert [recipe.augment["size"] for recipe in (a2, a3)] == [224, 160]
    # SyncBN sees all GPUs of the publication, of one accumulated step.
    seen = [1024, 2048] if arch == "resnet50" else [256, 512]
    assert [a2.norm_batch, a3.norm_batch] == seen
    assert a2.drop_path == (0.05 if arch == "resnet50" else 0.0)


@pytest.mark.parametrize(
    ("name", "magnitude"),
    [
        ("imagenet-1k-resnet50-mixup-rsb-a3", 6),
        ("imagenet-1k-resnet50-mixup-rsb-a2", 7),
        ("imagenet-1k-deit_small-deit", 9),
    ],
)
def test_randaugment_is_what_timm_calls_it(name: str, magnitude: int) -> None:
    timms = rand_augment_transform(f"rand-m{magnitude}-mstd0.5-inc1", {})
    augment = Augment(**resolve_recipe(name).augment)
    assert timms.num_layers == augment.rand_ops
    assert {op.prob for op in timms.ops} == {0.5}  # which ``draw_rand_ops`` draws
    assert {op.magnitude for op in timms.ops} == {augment.rand_magnitude}
    assert {op.magnitude_std for op in timms.ops} == {augment.rand_std}
    ours = POLICIES[augment.rand_policy].operations
    assert len(timms.ops) == len(ours)
    names = {
        "".join(part.title() for part in key.split("-")).replace("TranslateX", "TranslateXRel")
        for key in ours
    }
    names = {key.replace("TranslateY", "TranslateYRel") for key in names}
    plain = {"Autocontrast": "AutoContrast"}
    timm_names = {re.sub(r"Increasing$", "", op.name) for op in timms.ops}
    assert {plain.get(key, key) for key in names} == timm_names


def test_another_batch_is_not_divided_as_the_published_one() -> None:
    name = "imagenet-1k-resnet50-mixup"
    assert resolve_recipe(name).norm_batch == 64
    assert resolve_recipe(name, overrides={"batch_size": 100}).norm_batch is None
    kept = resolve_recipe(name, overrides={"batch_size": 128, "norm_batch": 64})
    assert kept.norm_groups() == 2
    assert resolve_recipe(name, overrides={"batch_size": 256}).norm_batch == 64
    assert resolve_recipe(name, overrides={"accumulate": 2}).norm_groups() == 2
    with pytest.raises(UsageError, match=r"norm_batch: expected a divisor of batch_size / accumu"):
        resolve_recipe(name, overrides={"accumulate": 8})
