import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from robustmix.errors import IntakeError, UsageError
from robustmix.training import Recipe, load_recipe, resolve_recipe, write_recipe
from robustmix.training.recipe_dict import (
    recipe_difference,
    recipe_from_dict,
    recipe_from_record,
    recipe_to_dict,
)
from robustmix.training.resolve import parse_set, with_overrides

FULL = resolve_recipe(
    overrides={
        "description": "all of it",
        "extrapolated": True,
        "published_batch": "2x50",
        "dataset": "folder:/some where/ö",
        "allow_partial": True,
        "protocol_of": "cub-200-2011",
        "arch": "resnet18",
        "stem": "cifar",
        "weights": "torchvision:resnet18@default",
        "drop_path": 0.1,
        "img_size": 37,
        "method": "automix",
        "method.alpha": 0.5,
        "augment.kind": "random-resized-crop",
        "augment.scale": (0.5, 1.0),
        "augment.size": 31,
        "augment.rand_ops": 2,
        "augment.rand_fill": (1, 2, 3),
        "normalisation": {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)},
        "test_transform": {"resize": 41, "interpolation": "bilinear", "crop": 37},
        "epochs": 3,
        "batch_size": 12,
        "accumulate": 2,
        "norm_batch": 3,
        "repeated_augment": 3,
        "optimizer": "sgd",
        "lr": 1e-3,
        "min_lr": 1e-6,
        "momentum": 0.8,
        "weight_decay": 0.05,
        "schedule": "step",
        "warmup_epochs": 1,
        "milestones": (1, 2),
        "gamma": 0.3,
        "generator_lr": 2e-3,
        "generator_min_lr": 1e-5,
        "generator_momentum": 0.0,
        "label_smoothing": 0.1,
        "grad_clip": 5.0,
        "precision": "bf16",
        "channels_last": True,
        "compile": "off",
        "ema_decay": 0.9,
        "ema_warmup_epochs": 2,
        "init": "torch",
        "seed": 12,
        "val_split": 0.1,
        "limit_train": 0.5,
        "limit_val": 11,
    }
)


def test_the_full_recipe_is_full() -> None:
    told = recipe_to_dict(FULL)
    of_bce = {"bce_threshold", "bce_sum"}  # which automix does not have
    untold = {field.name for field in fields(Recipe)} - set(told)
    assert untold == {"variant", "method_options"} | of_bce


@pytest.mark.parametrize(
    "recipe",
    [FULL, resolve_recipe(), resolve_recipe("cifar100-resnet18-cutmix-log")],
    ids=["full", "defaults", "variant"],
)
def test_a_written_recipe_is_read_back(recipe: Recipe, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.toml", recipe)
    assert load_recipe(tmp_path / "r.toml") == recipe
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe
    assert recipe_from_record(recipe_to_dict(recipe)) == recipe
    assert recipe_difference(recipe, load_recipe(str(tmp_path / "r.toml"))) is None


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 5\nlr = 0.5\nseed = 4\n[method]\nalpha = 0.3\n")
    recipe = resolve_recipe(
        "cifar100-resnet18-mixup",
        file=file,
        sets=["lr=0.6", "method.alpha=0.4", "augment.mode=zero"],
        overrides={"lr": 0.7, "seed": None, "augment.padding": 2},
    )
    assert (recipe.arch, recipe.epochs, recipe.seed, recipe.lr) == ("resnet18", 5, 4, 0.7)
    assert recipe.method_options == {"alpha": 0.4, "pipeline": "none"}
    assert (recipe.augment["mode"], recipe.augment["padding"]) == ("zero", 2)


def test_another_method_is_another_selection() -> None:
    mixed = resolve_recipe("cifar100-resnet18-mixup", overrides={"method": "cutmix"})
    assert mixed == resolve_recipe("cifar100-resnet18-cutmix")
    plain = resolve_recipe("cifar100-resnet18-automix", sets=["method=vanilla"])
    assert plain == resolve_recipe("cifar100-resnet18-vanilla")
    won = resolve_recipe(sets=["method=mixup", "lr=0.6"], overrides={"method": "cutmix"})
    assert (won.method, won.lr) == ("cutmix", 0.6)


def test_another_method_has_its_own_generator() -> None:
    name = "tiny-imagenet-resnet18-automix"
    assert resolve_recipe(name).generator_lr == 0.1
    mixed = resolve_recipe(name, overrides={"method": "cutmix"})
    assert (mixed.generator_lr, mixed.generator_min_lr, mixed.min_lr) == (None, None, 0.0)
    other = resolve_recipe(name, overrides={"method": "adautomix", "generator_lr": 0.3})
    assert (other.generator_lr, other.generator_min_lr) == (0.3, 0.0)


def test_options_of_another_method_are_refused(tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.toml", resolve_recipe("cifar100-resnet18-mixup"))
    with pytest.raises(
        UsageError, match=r"^method.alpha, method.pipeline of r.toml belong to method mixup, not c"
    ):
        resolve_recipe(file=tmp_path / "r.toml", overrides={"method": "cutmix"})
    with pytest.raises(UsageError, match=r"method.alpha of set belong to method mixup, not vani"):
        resolve_recipe(sets=["method=mixup", "method.alpha=2"], overrides={"method": "vanilla"})


def test_a_complete_recipe_keeps_its_method_and_takes_other_values() -> None:
    mixed = resolve_recipe("cifar100-resnet18-mixup")
    changed = with_overrides(mixed, {"method.alpha": 0.9, "lr": 0.3, "seed": None})
    assert changed == replace(
        mixed, method_options={"alpha": 0.9, "pipeline": "none"}, lr=0.3, description=""
    )
    assert with_overrides(mixed, {"method": "mixup", "lr": 0.1}) == mixed
    with pytest.raises(UsageError, match=r"method.alpha, method.pipeline of the recipe belong"):
        with_overrides(mixed, {"method": "cutmix"})
    with pytest.raises(UsageError, match="momentum of given has no effect: adamw has no"):
        with_overrides(mixed, {"optimizer": "adamw", "momentum": 0.5})
    assert "momentum" not in recipe_to_dict(with_overrides(mixed, {"optimizer": "adamw"}))


def test_an_empty_test_transform_leaves_images_as_they_are(tmp_path: Path) -> None:
    name = "cub-200-2011-resnet18-mixup"
    assert resolve_recipe(name).test_transform is not None
    assert resolve_recipe(name, sets=["test_transform={}"]).test_transform == {}
    assert with_overrides(resolve_recipe(name), {"test_transform": {}}).test_transform == {}
    file = tmp_path / "mine.toml"
    file.write_text("[test_transform]\nresize = 40\n")
    assert resolve_recipe(name, file=file, sets=["test_transform={}"]).test_transform == {}
    file.write_text("[test_transform]\n")
    cut = resolve_recipe(name, file=file, sets=["test_transform.crop=24"])
    assert cut.test_transform == {"crop": 24}


def test_a_changed_recipe_loses_the_description_of_the_old() -> None:
    name = "cifar100-resnet18-mixup"
    assert resolve_recipe(name, overrides={"epochs": 200}).description
    assert not resolve_recipe(name, overrides={"epochs": 3}).description
    assert resolve_recipe(name, sets=["description=mine", "epochs=3"]).description == "mine"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("lr=0.1", ("lr", 0.1)),
        ("epochs=3", ("epochs", 3)),
        ("channels_last=true", ("channels_last", True)),
        ('arch="resnet18"', ("arch", "resnet18")),
        ("arch=resnet18", ("arch", "resnet18")),
        ("arch=timm:vit_tiny", ("arch", "timm:vit_tiny")),
        ("dataset=folder:/a=b", ("dataset", "folder:/a=b")),
        (" milestones = [1, 2]", ("milestones", [1, 2])),
        ("description=", ("description", "")),
    ],
)
def test_sets_are_toml_or_text(text: str, want: tuple[str, object]) -> None:
    assert parse_set(text) == want


def test_a_set_cannot_smuggle_a_second_key() -> None:
    key, value = parse_set("lr=1\nseed=3")
    assert (key, value) == ("lr", "1\nseed=3")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["lr=1", "lr=2"], "set lr is given twice: 1 and 2; give it once"),
        (["method=mixup", "method.name=cutmix"], "method.name is given twice: 'mixup' and 'cut"),
        (["augment={padding=3}", "augment.padding=2"], "augment.padding is given twice: 3 and 2"),
        (["test_transform.crop=9", "test_transform={}"], "test_transform is given twice: empty, "),
        (["lr.=1"], "unknown recipe key 'lr.'; did you mean 'lr'?"),
        (["method.=mixup"], "unknown recipe key 'method.'"),
    ],
)
def test_what_two_sets_say_of_one_key_is_not_left_to_chance(sets: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve_recipe(sets=sets)
    assert message in str(error.value)
    assert resolve_recipe(sets=["lr=1", "lr=1", "method=mixup", "method.name=mixup"]).lr == 1


@pytest.mark.parametrize("text", ["lr", "=3", ""])
def test_a_set_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="key=value"):
        parse_set(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epocs": 3}, "unknown recipe key 'epocs'; did you mean 'epochs'?"),
        ({"augment.pading": 3}, "unknown augment key 'pading'; did you mean 'padding'?"),
        ({"method.alhpa": 3}, "unknown option of method mixup 'alhpa'; did you mean 'alpha'?"),
        ({"method": "mixap"}, "unknown method 'mixap'; did you mean 'mixup'?"),
        ({"optimizer": "sdg"}, "unknown value of optimizer: 'sdg'; did you mean 'sgd'?"),
        ({"model.lr": 3}, "unknown recipe key 'model.lr'"),
        ({"method_options": {}}, "unknown recipe key 'method_options'"),
        ({"method": 3}, "method: expected a table, got 3"),
        ({"augment": "none"}, "augment: expected a table, got 'none'"),
        ({"lr": "fast"}, "lr: expected a number, got 'fast'"),
        ({"epochs": 2.5}, "epochs: expected a whole number, got 2.5"),
        ({"epochs": True}, "epochs: expected a whole number, got True"),
        ({"channels_last": 1}, "channels_last: expected true or false, got 1"),
        ({"milestones": 3}, "milestones: expected a list, got 3"),
        ({"augment.scale": [0.5]}, "augment.scale: expected 2 values, got [0.5]"),
        ({"limit_train": "all"}, "limit_train: expected"),
        ({"epochs": 0}, "epochs: expected at least 1 and at most 1000000000, got 0"),
        ({"batch_size": -1}, "batch_size: expected at least 1 and at most 1000000000, got -1"),
        ({"lr": 0}, "lr: expected a number above 0, got 0"),
        ({"lr": float("nan")}, "lr: expected a finite number, got nan"),
        ({"min_lr": 0.2}, "min_lr: expected at most lr (0.1), got 0.2"),
        ({"momentum": 1}, "momentum: expected at least 0 and below 1, got 1"),
        ({"weight_decay": -1e-4}, "weight_decay: expected at least 0, got -0.0001"),
        ({"warmup_epochs": 200}, "warmup_epochs: expected below epochs (200), got 200"),
        ({"milestones": [3, 2]}, "milestones: expected rising epochs, got (3, 2)"),
        ({"label_smoothing": 1.0}, "label_smoothing: expected at least 0 and below 1, got 1.0"),
        ({"val_split": 1.0}, "val_split: expected at least 0 and below 1, got 1.0"),
        ({"limit_train": 0}, "limit_train: expected a count from 1 or a share between 0 and 1"),
        ({"limit_val": 1.5}, "limit_val: expected a count from 1 or a share between 0 and 1"),
        ({"seed": -1}, f"seed: expected at least 0 and below {2**63}, got -1"),
        ({"drop_path": 1.0}, "drop_path: expected at least 0 and below 1, got 1.0"),
        ({"weights": 3}, "weights: expected a string, got 3"),
        ({"extrapolated": 1}, "extrapolated: expected true or false, got 1"),
        ({"variant": "log"}, "recipe cifar100-resnet18-mixup has no variant 'log'; leave it out"),
        ({"augment.rand_ops": -1}, "augment: expected rand_ops >= 0, got -1"),
        ({"test_transform.crop": 0}, "test_transform: expected crop from 1 to 8192 pixels, got 0"),
        ({"normalisation.std": (0.2, 0.0, 0.2)}, "normalisation.std: expected greater than 0"),
        ({"protocol_of": "cifar10"}, "protocol_of: cifar100 has a protocol of its own; leave it"),
    ],
)
def test_what_cannot_be_meant_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve_recipe("cifar100-resnet18-mixup", overrides=values)
    assert message in str(error.value)
    assert "\n" not in error.value.line()


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"generator_lr": 0.1}, "method mixup has no generator, as adautomix, automix, samix have"),
        ({"generator_min_lr": 0.0}, "method mixup has no generator, as"),
        ({"generator_momentum": 0.0}, "method mixup has no generator, as"),
        ({"momentum": 0.9, "optimizer": "adamw"}, "adamw has no momentum"),
        ({"min_lr": 0.01, "schedule": "constant"}, "the schedule constant does not fall"),
        ({"milestones": [3]}, "it belongs to the schedule step, not cosine"),
        (
            {"gamma": 0.1, "schedule": "cosine-iter"},
            "it belongs to the schedule step, not cos",
        ),
        ({"gamma": 0.5, "schedule": "step"}, "there are no milestones"),
        ({"milestones": [7], "epochs": 7, "schedule": "step"}, "the run ends after 7 epochs"),
        ({"init": "torch", "arch": "timm:resnet10t"}, "timm:resnet10t draws its own initial weigh"),
        ({"augment.rand_magnitude": 7.0}, "augment.rand_ops is 0"),
        ({"augment.rand_fill": [1, 2, 3], "augment.rand_ops": 0}, "augment.rand_ops is 0"),
        (
            {"augment.scale": [0.5, 1.0]},
            "it belongs to augment.kind random-resized-crop, not ",
        ),
        ({"augment.mode": "zero", "augment.padding": 0}, "augment.padding is 0"),
        ({"augment.flip": True, "augment.kind": "none"}, "augment.kind none never mirrors"),
        ({"test_transform.interpolation": "bilinear"}, "nothing is resized"),
        (
            {"method.alpha": 1.0, "method": "resizemix", "method.use_alpha": False},
            "use_alpha is false",
        ),
    ],
)
def test_a_key_without_effect_is_an_error(values: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve_recipe("cifar100-resnet18-mixup", overrides=values)
    key = next(iter(values))
    assert error.value.message.startswith(f"{key} of given has no effect")
    assert f": {why}" in error.value.message
    assert (error.value.code, error.value.exit_code) == ("E-UNUSED-OPTION", 2)


def test_a_key_that_acts_is_no_error() -> None:
    step = {"schedule": "step", "milestones": [3, 400], "gamma": 0.5, "min_lr": 0.01}
    recipe = resolve_recipe("cifar100-resnet18-mixup", overrides=step)
    assert (recipe.milestones, recipe.gamma, recipe.min_lr) == ((3, 400), 0.5, 0.01)
    assert recipe_to_dict(resolve_recipe())["momentum"] == 0.9
    assert "momentum" not in recipe_to_dict(resolve_recipe("digits-resnet8-mixup"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"generator_lr": 0.0}, "generator_lr: expected a number above 0, got 0.0"),
        ({"generator_momentum": 1.0}, "generator_momentum: expected at least 0 and below 1"),
        ({"generator_min_lr": -1.0}, "generator_min_lr: expected at least 0, got -1.0"),
        ({"generator_min_lr": 0.2}, "generator_min_lr: expected at most the generator's lr (0.1)"),
        (
            {"generator_lr": 0.2, "generator_min_lr": 0.3},
            "generator_min_lr: expected at most the generator's lr (0.2), got 0.3",
        ),
        ({"generator_lr": 0.01}, "generator_lr: expected at least min_lr (0.05), got 0.01"),
    ],
)
def test_an_impossible_generator_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve_recipe("cifar100-resnet18-automix", overrides=values)
    assert message in str(error.value)
    assert error.value.code == "E-RECIPE"
    assert "\n" not in error.value.line()


def test_a_generator_may_leave_out_what_is_the_networks() -> None:
    name = "cifar100-resnet18-automix"
    assert resolve_recipe(name, overrides={"generator_min_lr": 0.1}).generator_lr is None
    low = resolve_recipe(name, overrides={"generator_lr": 0.01, "generator_min_lr": 0.0})
    assert (low.lr, low.generator_lr) == (0.1, 0.01)
    high = resolve_recipe(name, overrides={"generator_lr": 0.2, "generator_min_lr": 0.15})
    assert (high.lr, high.generator_min_lr) == (0.1, 0.15)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'digits-resnet8-mixup'"):
        load_recipe("digits-resnet8-mixap")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot read"), (b"lr = ", "not valid TOML"), (b"\xff", "not valid TOML")],
)
def test_a_broken_file_is_one_line(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IntakeError, match=said):
        load_recipe(path)


def test_the_written_file_is_plain_toml(tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.toml", resolve_recipe("digits-resnet8-cutmix"))
    content = tomllib.loads((tmp_path / "r.toml").read_text())
    assert content["method"] == {"name": "cutmix", "alpha": 0.2, "pipeline": "none"}
    assert "img_size" not in content


def test_differences_name_the_key() -> None:
    a = resolve_recipe("digits-resnet8-mixup")
    assert recipe_difference(a, with_overrides(a, {"description": "x"})) is None
    assert recipe_difference(a, with_overrides(a, {"extrapolated": True})) is None
    said = recipe_difference(a, with_overrides(a, {"method.alpha": 2}))
    assert said == "method.alpha is 1.0 there, 2.0 here"
    said = recipe_difference(with_overrides(a, {"stem": "cifar"}), a)
    assert said == "stem is 'cifar' there, not set here"


def test_what_an_old_checkpoint_records_in_vain_is_left() -> None:
    new = recipe_to_dict(resolve_recipe("digits-resnet8-mixup"))
    old = {**new, "momentum": 0.9, "gamma": 0.1, "milestones": [], "generator_momentum": 0.5}
    old["augment"] = {**new["augment"], "padding": 4, "rand_std": 0.5}
    assert recipe_to_dict(recipe_from_record(old)) == new
    del old["normalisation"], old["test_transform"]
    record = recipe_from_record(old)
    assert (record.normalisation, record.test_transform) == ({}, None)
    assert recipe_difference(record, resolve_recipe("digits-resnet8-mixup")) is None
