"""What is typed is what runs: every key that is given acts with its value, or is an error.

Random selections of a name, a file, ``--set`` and flags, with keys of all kinds: those of the
recipe, of its tables, of the methods; right ones, misspelt ones, and ones without effect.
"""

import random
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import tomli_w

from robustmix.cli.app import run
from robustmix.data.augment import Augment
from robustmix.data.protocol import TestTransform
from robustmix.errors import UsageError
from robustmix.methods.registry import METHODS, config_class
from robustmix.models.names import ARCHS
from robustmix.training import Recipe, resolve_recipe
from robustmix.training.catalogue import flat, list_rows, recipe_files
from robustmix.training.recipe_dict import recipe_to_dict

CASES = 1500

Value = Callable[[random.Random], object]

NAMES = [row.name for row in list_rows() if row.needs is None]
DATASETS = (*sorted(recipe_files()), "folder:/some where")


def among(*choices: object) -> Value:
    return lambda rng: rng.choice(choices)


PLAIN: dict[str, Value] = {
    "description": among("mine", ""),
    "extrapolated": among(True, False),
    "variant": among("log"),
    "published_batch": among("4x64"),
    "sync_norm": among(True, False),
    "dataset": among(*DATASETS),
    "allow_partial": among(True, False),
    "protocol_of": among("cub-200-2011", "cifar10"),
    "arch": among(*ARCHS, "timm:resnet10t"),
    "stem": among("cifar", "imagenet"),
    "weights": among("torchvision:resnet18@default"),
    "drop_path": among(0.0, 0.3),
    "img_size": among(32, 48, 224),
    "epochs": among(3, 200, 300),
    "batch_size": among(1, 64),
    "accumulate": among(1, 5),
    "norm_batch": among(5, 16),
    "repeated_augment": among(1, 3),
    "optimizer": among("sgd", "adamw", "lamb"),
    "lr": among(0.3, 1),
    "min_lr": among(0.0, 1e-3),
    "momentum": among(0.0, 0.8),
    "weight_decay": among(0.0, 0.3),
    "schedule": among("cosine", "cosine-iter", "constant", "step"),
    "warmup_epochs": among(0, 2),
    "milestones": among([], [1], [2, 100]),
    "gamma": among(0.3, 1.0),
    "generator_lr": among(0.3, 2.0),
    "generator_min_lr": among(0.0, 1e-4),
    "generator_momentum": among(0.0, 0.5),
    "label_smoothing": among(0.0, 0.2),
    "loss": among("ce", "bce"),
    "bce_threshold": among(0.0, 0.2),
    "bce_sum": among(True, False),
    "grad_clip": among(0.0, 3),
    "precision": among("fp32", "bf16"),
    "channels_last": among(True, False),
    "compile": among("auto", "on", "off"),
    "ema_decay": among(0.9, 0.9999),
    "ema_warmup_epochs": among(0, 2),
    "init": among("openmixup", "torch"),
    "seed": among(0, 7),
    "val_split": among(0.0, 0.2),
    "limit_train": among(64, 0.5),
    "limit_val": among(31, 0.25),
    "augment.kind": among("crop-flip", "random-resized-crop", "none"),
    "augment.flip": among(True, False),
    "augment.padding": among(0, 2),
    "augment.mode": among("reflect", "zero"),
    "augment.size": among(24, 224),
    "augment.scale": among([0.5, 1.0]),
    "augment.ratio": among([0.9, 1.1]),
    "augment.interpolation": among("bilinear", "bicubic"),
    "augment.resize": among(40),
    "augment.drop_last": among(True, False),
    "augment.rand_ops": among(0, 1, 2),
    "augment.rand_magnitude": among(3.0, 9),
    "augment.rand_std": among(0.0, 0.5),
    "augment.rand_policy": among("fixmatch", "increasing"),
    "augment.rand_fill": among([1, 2, 3]),
    "augment.erase_prob": among(0.0, 0.5),
    "normalisation.mean": among([0.4, 0.5, 0.6]),
    "normalisation.std": among([0.2, 0.3, 0.4]),
    "test_transform": among({}),
    "test_transform.resize": among(40, 300),
    "test_transform.crop": among(28, 224),
    "test_transform.interpolation": among("bilinear", "bicubic"),
    "test_transform.crop_mode": among("center", "squash"),
    "test_transform.fill": among([0, 0, 0], [124, 116, 104]),
}
"""Keys with values that each is valid by itself."""


TOGETHER: dict[str, dict[str, object]] = {
    "milestones": {"schedule": "step", "milestones": [2, 100]},
    "gamma": {"schedule": "step", "milestones": [1]},
    "protocol_of": {"dataset": "folder:/some where"},
    "augment.mode": {"augment.padding": 2, "augment.kind": "crop-flip"},
    "augment.padding": {"augment.kind": "crop-flip"},
    "augment.scale": {"augment.kind": "random-resized-crop"},
    "augment.rand_magnitude": {"augment.rand_ops": 2},
    "augment.rand_policy": {"augment.rand_ops": 2},
    "augment.rand_fill": {"augment.rand_ops": 1},
    "test_transform.interpolation": {"test_transform.resize": 300},
    "test_transform.crop_mode": {"test_transform.resize": 300},
    "test_transform.fill": {
        "test_transform.resize": 300,
        "test_transform.crop": 224,
        "test_transform.crop_mode": "border",
    },
    "generator_lr": {"method": "automix"},
    "momentum": {"optimizer": "sgd"},
    "bce_threshold": {"loss": "bce"},
    "bce_sum": {"loss": "bce"},
    "accumulate": {"batch_size": 50, "accumulate": 5},
    "norm_batch": {"batch_size": 64, "accumulate": 1},
    "ema_warmup_epochs": {"ema_decay": 0.9},
}
"""What a key needs besides, to act in most selections."""


def test_all_keys_are_tried() -> None:
    names = {field.name for field in fields(Recipe)} - {"method", "method_options"}
    tables = {f"augment.{field.name}" for field in fields(Augment)}
    tables |= {f"test_transform.{field.name}" for field in fields(TestTransform)}
    tables |= {"normalisation.mean", "normalisation.std"}
    assert set(PLAIN) == (names - {"augment", "normalisation"}) | tables


def option(method: str, rng: random.Random) -> tuple[str, object]:
    """Return one of a method's options with a value that is often not its default."""
    config = config_class(method)
    if not fields(config):
        return "alpha", 0.5  # of other methods
    chosen = rng.choice(fields(config))
    hint, default = get_type_hints(config)[chosen.name], chosen.default
    assert default is not MISSING
    if get_origin(hint) is Literal:
        return chosen.name, rng.choice(get_args(hint))
    if isinstance(default, bool):
        return chosen.name, rng.choice((True, False))
    if isinstance(default, int):
        return chosen.name, default + rng.choice((0, 1))
    if isinstance(default, float) or default is None:
        return chosen.name, rng.choice((0.25, 0.75, default or 0.5))
    return chosen.name, "some/where.pth"


def misspelt(key: str, rng: random.Random) -> str:
    """Return a key with two neighbours of its last name exchanged; none is another key."""
    head, dot, tail = key.rpartition(".")
    for i in rng.sample(range(len(tail) - 1), len(tail) - 1):
        if tail[i] != tail[i + 1]:
            return head + dot + tail[:i] + tail[i + 1] + tail[i] + tail[i + 2 :]
    return key + "x"


def draw(rng: random.Random, most: int, method: str) -> dict[str, object]:
    """Return what one source gives."""
    found: dict[str, object] = {}
    for _ in range(rng.randint(0, most)):
        kind = rng.random()
        if kind < 0.3:
            name, value = option(method, rng)
            key = f"method.{name}"
        elif kind < 0.4:
            key, value = "method", rng.choice(list(METHODS))
        else:
            key = rng.choice([*PLAIN, *TOGETHER])  # what needs more, is refused oftener
            value = PLAIN[key](rng)
        if rng.random() < 0.7:
            found |= TOGETHER.get(key, {})
        if rng.random() < 0.03:
            key = misspelt(key, rng)
        if rng.random() < 0.02:
            value = rng.choice((-3, "nonsense", [[1]]))
        found[key] = value
    return found


def as_set(key: str, value: object, rng: random.Random) -> str:
    """Return ``key=value`` as somebody types it."""
    if isinstance(value, str) and value and rng.random() < 0.5:
        return f"{key}={value}"
    text = "{}" if value == {} else tomli_w.dumps({"v": value}).partition("= ")[2]
    return f"{key}={text.strip()}".replace("\n", " ")


def as_file(values: Mapping[str, object]) -> str:
    tables: dict[str, Any] = {}
    for key, value in values.items():
        head, dot, tail = key.partition(".")
        if key == "method":
            tables.setdefault(key, {})["name"] = value
        elif dot:
            tables.setdefault(head, {})[tail] = value
        else:
            tables[key] = dict(value) if isinstance(value, dict) else value  # added to above
    return tomli_w.dumps(tables)


def told(*sources: Mapping[str, object]) -> dict[str, object]:
    """Return what was given, later sources over earlier ones, by dotted key."""
    found: dict[str, object] = {}
    for source in sources:
        if "test_transform" in source:  # the empty table clears what lower sources say of it
            found = {k: v for k, v in found.items() if not k.startswith("test_transform.")}
        for key, value in source.items():
            found["method.name" if key == "method" else key] = value
    return found


def holds(recipe: Recipe, given: Mapping[str, object]) -> bool:
    """Tell whether a recipe has every given key with its value."""
    values = recipe_to_dict(recipe)
    plain = flat(values)
    for key, value in given.items():
        if key == "test_transform":  # emptied, then what higher sources say
            if {f"{key}.{name}" for name in values[key]} - given.keys():
                return False
        elif key not in plain or plain[key] != value:
            return False
    return True


def names_one(message: str, given: Mapping[str, object]) -> bool:
    """Tell whether a message names a given key, or the value of one that selects."""
    words = set(re.findall(r"[^\s,;()']+", message)) | set(re.findall(r"[\w.:]+\w", message))
    for key, value in given.items():
        if key == "method.name" and "method:" in words:
            return True
        if key in words or key.rpartition(".")[2] in words or f"{key}:" in words:
            return True
        if key in ("dataset", "arch", "method.name", "variant") and str(value) in message:
            return True
    return False


def outcome(
    name: str | None, file: Path | None, sets: list[str], flags: dict[str, object]
) -> Recipe | UsageError:
    try:
        return resolve_recipe(name, file=file, sets=sets, overrides=flags)
    except UsageError as error:
        return error


def test_every_given_key_acts_or_is_named(tmp_path: Path) -> None:
    rng = random.Random(14)
    acted: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for case in range(CASES):
        name = rng.choice((None, rng.choice(NAMES)))
        method = rng.choice(list(METHODS))
        flags = draw(rng, 3, method)
        sets, file = draw(rng, 2, method), draw(rng, rng.choice((0, 0, 2)), method)
        if any(key.startswith("test_transform.") for key in file):
            file.pop("test_transform", None)  # TOML cannot say both
        if rng.random() < 0.7:  # the method whose options are given
            rng.choice((flags, sets))["method"] = method
        given = told(file, sets, flags)
        texts = [as_set(key, value, rng) for key, value in sets.items()]
        rng.shuffle(texts)
        path = None
        if file:
            path = tmp_path / f"{case}.toml"
            path.write_text(as_file(file), encoding="utf-8")
        ordered = dict(rng.sample(list(flags.items()), len(flags)))
        what = f"{name} file={file} sets={texts} flags={ordered}"
        found = outcome(name, path, texts, ordered)
        if isinstance(found, UsageError):
            codes[found.code] += 1
            typed = {**told(file), **told(sets), **told(flags)}
            assert names_one(str(found), typed), f"{what}: {found}"
        else:
            assert holds(found, given), f"{what}: {recipe_to_dict(found)}"
            acted.update(given.keys())
    # Neither all refused nor all accepted, and every key acted somewhere.
    assert CASES / 4 < CASES - codes.total() < CASES * 3 / 4
    assert codes["E-UNUSED-OPTION"] > CASES / 20
    assert codes["E-UNKNOWN-RECIPE-KEY"] > 3
    assert set(PLAIN) - {"variant"} <= set(acted)


@pytest.mark.parametrize("order", [1, -1])
def test_options_typed_beside_a_method_are_its_options(order: int) -> None:
    sets = ["method.alpha=0.4"][::order]
    assert resolve_recipe(sets=sets, overrides={"method": "mixup"}).method_options["alpha"] == 0.4
    sets = ["method.beta=0.9", "generator_lr=0.5"][::order]
    recipe = resolve_recipe(sets=sets, overrides={"method": "adautomix"})
    assert (recipe.method_options["beta"], recipe.generator_lr) == (0.9, 0.5)
    sets = ["method=samix", "method.alpha=1.5", "arch=deit_small"][::order]
    recipe = resolve_recipe("cifar100-resnet18-mixup", sets=sets)
    assert (recipe.method, recipe.method_options["alpha"], recipe.arch) == (
        "samix",
        1.5,
        "deit_small",
    )


@pytest.mark.parametrize(
    ("method", "sets", "message"),
    [
        ("mixup", ["method.alhpa=0.4"], "did you mean 'alpha'?"),
        ("adautomix", ["method.bta=0.4"], "did you mean 'beta'?"),
        ("mixup", ["method.beta=0.4"], "unknown option of method mixup 'beta'"),
        ("mixup", ["optimizer=adamw", "momentum=0.8"], "momentum of --set has no effect"),
        ("mixup", ["milestones=[100, 150]"], "milestones of --set has no effect"),
        ("mixup", ["generator_lr=0.1"], "generator_lr of --set has no effect"),
        ("mixup", ["augment.rand_magnitude=9", "augment.rand_ops=0"], "augment.rand_magnitude of"),
        ("mixup", ["gamma=0.5"], "gamma of --set has no effect: it belongs to the schedule step"),
        ("adautomix", ["method.adv_mode=off", "method.beta=0.5"], "method.beta of --set has no e"),
        ("automix", ["method.mask_loss_weight=0", "method.mask_loss_margin=0.2"], "mask_loss_mar"),
        ("attentivemix", ["method.top_k=3", "method.alpha=2"], "method.alpha of --set has no eff"),
    ],
)
def test_what_would_do_nothing_is_refused(method: str, sets: list[str], message: str) -> None:
    for ordered in (sets, sets[::-1]):
        with pytest.raises(UsageError) as error:
            resolve_recipe(sets=ordered, overrides={"method": method})
        assert message in error.value.line()


def test_flags_are_the_published_recipe() -> None:
    adautomix = {"dataset": "cifar100", "arch": "resnet18", "method": "adautomix"}
    recipe = resolve_recipe(overrides=adautomix)
    assert recipe.min_lr == 0.05
    assert recipe == resolve_recipe("cifar100-resnet18-adautomix")
    swin = {"dataset": "cifar100", "arch": "swin_tiny", "method": "cutmix"}
    recipe = resolve_recipe(overrides=swin)
    assert (recipe.optimizer, recipe.img_size, recipe.grad_clip) == ("adamw", 224, 5.0)
    assert recipe_to_dict(recipe) == recipe_to_dict(resolve_recipe("cifar100-swin_tiny-cutmix"))


def test_a_run_leaves_what_was_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = {
        "method.alpha": 0.4,
        "limit_train": 64,
        "limit_val": 31,
        "lr": 0.02,
        "augment.kind": "crop-flip",
        "augment.padding": 3,
        "augment.mode": "zero",
        "normalisation.mean": [0.4, 0.5, 0.6],
        "label_smoothing": 0.1,
        "schedule": "step",
        "milestones": [1],
        "gamma": 0.5,
    }
    sets = [part for key, value in typed.items() for part in ("--set", f"{key}={value}")]
    flags = {"dataset": "digits", "arch": "resnet8", "method": "mixup", "batch-size": "19"}
    flags |= {"epochs": "2", "seed": "5", "weight-decay": "0.03", "out": str(tmp_path / "run")}
    options = [part for key, value in flags.items() for part in (f"--{key}", value)]
    code = run(["train", *sets, *options, "--device", "cpu", "--progress", "none"])
    assert code == 0, capsys.readouterr().err
    written = flat(tomllib.loads((tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8")))
    assert {key: written[key] for key in typed} == typed
    assert {key: written[key] for key in ("dataset", "arch", "method.name")} == {
        "dataset": "digits",
        "arch": "resnet8",
        "method.name": "mixup",
    }
    assert [written[key] for key in ("batch_size", "epochs", "seed", "weight_decay")] == [
        19,
        2,
        5,
        0.03,
    ]
    # 0.02 in the first epoch and, past the milestone, half of it in the second.
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [re.search(r'"lr": ([\d.e-]+)', line)[1] for line in lines] == ["0.02", "0.01"]  # type: ignore[index]


def test_a_run_that_would_drop_a_key_does_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--dataset", "digits", "--arch", "resnet8", "--method", "mixup"]
    out = ["--out", str(tmp_path / "run")]
    assert run([*command, *out, "--set", "method.alhpa=0.4"]) == 2
    assert "did you mean 'alpha'?" in capsys.readouterr().err
    assert run([*command, *out, "--set", "momentum=0.9"]) == 2  # the digits train with AdamW
    assert capsys.readouterr().err.startswith("error[E-UNUSED-OPTION]: momentum of --set")
    assert not (tmp_path / "run").exists()
