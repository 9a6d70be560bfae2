import tomllib
from pathlib import Path
from typing import Any

import pytest

from robustmix.errors import IntakeError, UsageError
from robustmix.training import Recipe, load_recipe, resolve_recipe, write_recipe
from robustmix.training.recipe import (
    parse_set,
    recipe_difference,
    recipe_from_dict,
    recipe_to_dict,
    with_method_options,
    with_overrides,
)


@pytest.mark.parametrize(
    ("name", "lr", "weight_decay", "epochs", "options"),
    [
        ("cifar100-resnet18-vanilla", 0.1, 1e-4, 200, {}),
        ("cifar100-resnet18-mixup", 0.1, 1e-4, 200, {"alpha": 1.0}),
        ("cifar100-resnet18-cutmix", 0.1, 1e-4, 200, {"alpha": 1.0}),
        ("cifar100-resnext50_32x4d-mixup", 0.1, 1e-4, 200, {"alpha": 1.0}),
        ("cifar100-resnext50_32x4d-cutmix", 0.1, 5e-4, 200, {"alpha": 0.2}),
        ("cifar10-resnext50_32x4d-cutmix", 0.1, 1e-4, 200, {"alpha": 0.2}),
        ("cifar10-wrn28_8-vanilla", 0.03, 1e-3, 400, {}),
        ("cifar100-wrn28_8-cutmix", 0.03, 1e-3, 400, {"alpha": 0.2}),
    ],
)
def test_presets_are_the_published_settings(
    name: str, lr: float, weight_decay: float, epochs: int, options: dict[str, float]
) -> None:
    r = resolve_recipe(name)
    got = (r.lr, r.weight_decay, r.epochs, r.method_options)
    assert got == (lr, weight_decay, epochs, options)
    assert (r.optimizer, r.momentum, r.batch_size, r.schedule) == ("sgd", 0.9, 100, "cosine")
    assert (r.min_lr, r.warmup_epochs, r.label_smoothing, r.grad_clip) == (0, 0, 0, 0)


FULL = Recipe(
    description="all of it",
    extrapolated=True,
    dataset="folder:/some where/ö",
    arch="timm:resnet10t",
    stem="cifar",
    weights="torchvision:resnet18@default",
    drop_path=0.1,
    img_size=37,
    method="automix",
    method_options={"alpha": 0.5},
    augment={"kind": "random-resized-crop", "scale": (0.5, 1.0), "size": 31, "rand_ops": 2},
    epochs=3,
    batch_size=7,
    optimizer="adamw",
    lr=1e-3,
    min_lr=1e-6,
    weight_decay=0.05,
    schedule="step",
    warmup_epochs=1,
    milestones=(1, 2),
    gamma=0.3,
    generator_lr=2e-3,
    generator_min_lr=1e-5,
    generator_momentum=0.0,
    label_smoothing=0.1,
    grad_clip=5.0,
    precision="bf16",
    channels_last=True,
    init="torch",
    seed=12,
    val_split=0.1,
    limit_train=0.5,
    limit_val=11,
)


FULL = with_method_options(FULL)


@pytest.mark.parametrize("recipe", [FULL, resolve_recipe()], ids=["full", "defaults"])
def test_a_written_recipe_is_read_back(recipe: Recipe, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.toml", recipe)
    assert load_recipe(tmp_path / "r.toml") == recipe
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe
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
    assert recipe.method_options == {"alpha": 0.4}
    assert recipe.augment == {"mode": "zero", "padding": 2}


def test_another_method_does_not_inherit_options() -> None:
    mixed = resolve_recipe("cifar100-resnet18-mixup", overrides={"method": "cutmix"})
    assert mixed.method_options == {"alpha": 0.2}
    plain = resolve_recipe("cifar100-resnet18-mixup", sets=["method=vanilla"])
    assert plain.method_options == {}
    both = {"method.alpha": 0.9, "method": "cutmix"}
    assert with_overrides(mixed, both).method_options == {"alpha": 0.9}
    # As README's command has it: the flag --method beside --set method.alpha.
    flag = resolve_recipe(sets=["method.alpha=0.4"], overrides={"method": "mixup"})
    assert (flag.method, flag.method_options) == ("mixup", {"alpha": 0.4})
    won = resolve_recipe(sets=["method=mixup", "lr=0.6"], overrides={"method": "cutmix"})
    assert (won.method, won.lr) == ("cutmix", 0.6)
    same = with_overrides(resolve_recipe(overrides=both), {"method": "cutmix"})
    assert same.method_options == {"alpha": 0.9}


def test_another_method_does_not_inherit_the_generator() -> None:
    name, own = "tiny-imagenet-resnet18-automix", {"generator_lr": 0.3}
    assert resolve_recipe(name).generator_lr == 0.1
    mixed = resolve_recipe(name, overrides={"method": "cutmix"})
    assert (mixed.generator_lr, mixed.generator_min_lr, mixed.min_lr) == (None, None, 0.05)
    assert resolve_recipe(name, overrides={"method": "automix", **own}).generator_lr == 0.3
    other = resolve_recipe(name, overrides={"method": "adautomix", **own})
    assert (other.generator_lr, other.generator_min_lr) == (0.3, None)


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
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"batch_size": -1}, "batch_size: expected at least 1, got -1"),
        ({"lr": 0}, "lr: expected a finite number above 0, got 0.0"),
        ({"lr": float("nan")}, "lr: expected a finite number above 0, got nan"),
        ({"min_lr": 0.2}, "min_lr: expected at most lr (0.1), got 0.2"),
        ({"momentum": 1}, "momentum: expected at least 0 and below 1, got 1.0"),
        ({"weight_decay": -1e-4}, "weight_decay: expected a finite number of at least 0"),
        ({"warmup_epochs": 200}, "warmup_epochs: expected below epochs (200), got 200"),
        ({"milestones": [3, 2]}, "milestones: expected rising epochs, got (3, 2)"),
        ({"label_smoothing": 1.0}, "label_smoothing: expected at least 0 and below 1, got 1.0"),
        ({"val_split": 1.0}, "val_split: expected at least 0 and below 1, got 1.0"),
        ({"limit_train": 0}, "limit_train: expected a count from 1 or a share between 0 and 1"),
        ({"limit_val": 1.5}, "limit_val: expected a count from 1 or a share between 0 and 1"),
        ({"seed": -1}, "seed: expected at least 0 and below 2^63, got -1"),
        ({"drop_path": 1.0}, "drop_path: expected at least 0 and below 1, got 1.0"),
        ({"weights": 3}, "weights: expected a string, got 3"),
        ({"extrapolated": 1}, "extrapolated: expected true or false, got 1"),
        ({"generator_lr": 0.1}, "generator_lr: method mixup has no generator"),
        ({"generator_min_lr": 0.0}, "generator_min_lr: method mixup has no generator"),
        ({"generator_momentum": 0.0}, "generator_momentum: method mixup has no generator"),
    ],
)
def test_what_cannot_be_meant_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve_recipe("cifar100-resnet18-mixup", overrides=values)
    assert message in str(error.value)
    assert "\n" not in error.value.line()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"generator_lr": 0.0}, "generator_lr: expected a finite number above 0, got 0.0"),
        ({"generator_momentum": 1.0}, "generator_momentum: expected at least 0 and below 1"),
        ({"generator_min_lr": -1.0}, "generator_min_lr: expected a finite number of at least 0"),
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
    assert content["method"] == {"name": "cutmix", "alpha": 0.2}
    assert "img_size" not in content


def test_differences_name_the_key() -> None:
    a = resolve_recipe("digits-resnet8-mixup")
    assert recipe_difference(a, with_overrides(a, {"description": "x"})) is None
    assert recipe_difference(a, with_overrides(a, {"extrapolated": True})) is None
    said = recipe_difference(a, with_overrides(a, {"method.alpha": 2}))
    assert said == "method.alpha is 1.0 there, 2.0 here"
    said = recipe_difference(with_overrides(a, {"stem": "cifar"}), a)
    assert said == "stem is 'cifar' there, None here"
