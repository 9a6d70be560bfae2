import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustmix.cli import completion
from robustmix.cli.app import run
from robustmix.cli.recipes import LEGEND
from robustmix.data.manifests import looked_for
from robustmix.methods.registry import METHODS
from robustmix.training import list_recipes, resolve_recipe
from robustmix.training.catalogue import Row, list_rows
from robustmix.training.recipe_dict import recipe_to_dict

ROWS = list_rows()


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run(list(arguments)) == 0
    return capsys.readouterr().out.splitlines()


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.removesuffix("\n")


def read_table(lines: list[str]) -> dict[tuple[str, str, str], str]:
    """Return the mark of each (data set, architecture, method), read as the eye reads it."""
    names = next(i for i, line in enumerate(lines) if line[:1].strip())
    width = max(map(len, lines))
    columns = ["".join(row) for row in zip(*(x.ljust(width) for x in lines[:names]), strict=True)]
    heads = {at: head.strip() for at, head in enumerate(columns) if head.strip()}
    dataset = ""
    found: dict[tuple[str, str, str], str] = {}
    for line in lines[names : lines.index(LEGEND) - 1]:
        if not line.startswith(" "):
            dataset = line.partition(" ")[0]
            continue
        found |= {(dataset, line.split()[0], head): line[at] for at, head in heads.items()}
    return found


def mark(rows: list[Row]) -> str:
    if not rows:
        return "."
    if any(row.needs is None and row.extrapolated is None for row in rows):
        return "x"
    return "~" if any(row.needs is None for row in rows) else "!"


def test_the_table_fits_80_columns_and_is_the_catalogue(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, "recipes", "list")
    assert max(map(len, lines)) <= 80
    assert len(lines) < 70
    found = read_table(lines)
    assert {key[2] for key in found} == {row.method for row in ROWS} == set(METHODS)
    by_cell: dict[tuple[str, str, str], list[Row]] = {key: [] for key in found}
    for row in ROWS:
        by_cell[row.dataset, row.arch, row.method].append(row)
    assert found == {key: mark(rows) for key, rows in by_cell.items()}
    assert found["cub-200-2011", "resnet50", "automix"] == "~"
    assert found["imagenet-1k", "swin_tiny", "transmix"] == "!"
    assert found["cifar10", "wrn28_8", "samix"] == "."
    assert {*found.values()} == {"x", "~", "!", "."}
    (line,) = (x for x in lines if x.startswith("  resnet18") and "1200" in x and "~ ~ ~" in x)
    assert line.endswith(" 200 400 800 1200")


def test_what_lacks_data_here_is_marked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTMIX_DATA", str(tmp_path))

    def heads() -> dict[str, str]:
        lines = shown(capsys, "recipes", "list")
        split = (line.partition("  ") for line in lines if re.match(r"[a-z]", line))
        return {name: said for name, _, said in split if name != LEGEND[0]}

    before = heads()
    assert before["cifar100"] == "(its files are not in $ROBUSTMIX_DATA)"
    assert before["cub-200-2011"] == "(its files are not in $ROBUSTMIX_DATA)"
    assert not any("not read" in said for said in before.values())
    assert before["digits"] == ""
    for path in looked_for("cifar100").files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "CUB_200_2011").mkdir()
    (tmp_path / "CUB_200_2011" / "image_class_labels.txt").touch()
    assert heads() == {**before, "cifar100": "", "cub-200-2011": ""}


def test_list_recipes_prints_the_table_and_where_there_is_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = shown(capsys, "recipes", "list")
    assert run(["list", "recipes"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == table
    assert captured.err.endswith(
        "robustmix recipes shows, compares and copies them; its list has filters.\n"
    )


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ([], lambda row: True),
        (["--dataset", "cub-200-2011"], lambda row: row.dataset == "cub-200-2011"),
        (["--arch", "swin_tiny"], lambda row: row.arch == "swin_tiny"),
        (["--method", "samix"], lambda row: row.method == "samix"),
        (["--published"], lambda row: row.needs is None and row.extrapolated is None),
        (
            ["--method", "automix", "--dataset", "imagenet-1k", "--published"],
            lambda row: (
                (row.method, row.dataset) == ("automix", "imagenet-1k")
                and row.needs is None
                and row.extrapolated is None
            ),
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_filters_act_on_every_way_to_print(
    options: list[str], chosen: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    want = [row for row in ROWS if chosen(row)]
    assert 0 < len(want) <= len(ROWS)
    assert shown(capsys, "recipes", "list", "--names", *options) == [row.name for row in want]
    rows = json.loads("\n".join(shown(capsys, "recipes", "list", "--json", *options)))
    assert [row["name"] for row in rows] == [row.name for row in want]
    for told, row in zip(rows, want, strict=True):
        for key in ("dataset", "arch", "method", "epochs", "variant", "extrapolated", "needs"):
            assert told[key] == getattr(row, key)
    table = read_table(shown(capsys, "recipes", "list", *options))
    assert {key for key, text in table.items() if text != "."} == {
        (row.dataset, row.arch, row.method) for row in want
    }


def test_filters_name_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert failed(capsys, "recipes", "list", "--method", "mixap") == (
        "error[E-UNKNOWN-METHOD]: unknown method among the recipes 'mixap'; did you mean 'mixup'?"
    )
    assert failed(capsys, "recipes", "list", "--dataset", "digits", "--arch", "resnet18") == (
        "error[E-UNKNOWN-ARCH]: unknown arch among the recipes 'resnet18'; did you mean 'resnet8'?"
    )
    assert failed(capsys, "recipes", "list", "--names", "--json") == (
        "error[E-USAGE]: --names and --json are two ways to print; give one of them"
    )


SHOWN = (
    "cifar100-resnet18-adautomix",
    "cifar100-resnet18-cutmix-log",
    "cub-200-2011-resnet50-snapmix",
    "digits-resnet8-mixup",
    "imagenet-1k-swin_tiny-cutmix",
    "stanford-cars-resnet18-automix-60",
    "tiny-imagenet-timm:resnet10t-mixup-7",
)


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_trains_the_same(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "x.toml"
    file.write_text("\n".join(shown(capsys, "recipes", "show", name)), encoding="utf-8")
    assert resolve_recipe(file=file) == resolve_recipe(name)
    assert shown(capsys, "recipes", "show", str(file)) == file.read_text().splitlines()
    assert shown(capsys, "recipes", "diff", name, str(file)) == ["no difference"]


def test_sets_act_on_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--set", "lr=0.3", "--set", "method.alpha=0.5", "--set", "dataset=folder:/x y"]
    lines = shown(capsys, "recipes", "show", "cub-200-2011-resnet18-mixup", *sets)
    told = tomllib.loads("\n".join(lines))
    assert (told["lr"], told["method"]["alpha"], told["dataset"]) == (0.3, 0.5, "folder:/x y")
    assert told["protocol_of"] == "cub-200-2011"
    assert "has no effect" in failed(
        capsys, "recipes", "show", "digits-resnet8-mixup", "--set", "momentum=0.5"
    )


def origins(lines: list[str]) -> dict[str, tuple[str, str]]:
    """Return (value, origin) by key of the table; continued lines are joined."""
    found: dict[str, tuple[str, str]] = {}
    key, (at, start) = "", (m.start() for m in re.finditer(r"value|from", lines[1]))
    for line in lines[3:]:
        key = line[:at].strip() or key
        value, origin = found.get(key, ("", ""))
        found[key] = (f"{value} {line[at:start]}".strip(), f"{origin} {line[start:]}".strip())
    return found


def test_origin_names_file_and_section(capsys: pytest.CaptureFixture[str]) -> None:
    name = "cifar100-resnet18-adautomix"
    lines = shown(capsys, "recipes", "show", name, "--origin", "--set", "lr=0.3")
    found = origins(lines)
    assert found["min_lr"] == ("0.05", "cifar100.toml [* / @generator]: OMX, AAM")
    assert found["optimizer"][1].startswith("papers.toml [*]: OMX: without Nesterov")
    assert found["lr"] == ("0.3", "--set")
    assert found["arch"] == ('"resnet18"', "what was selected")
    assert found["seed"] == ("0", "default")
    assert found["method.reduction"] == ("2", "default of adautomix")
    assert found["augment.padding"] == ("4", "protocol of cifar100")
    assert found["test_transform"] == ("{}", "protocol of cifar100")
    lines = shown(capsys, "recipes", "show", "cub-200-2011-resnet50-cutmix", "--origin")
    alpha = origins(lines)["method.alpha"]
    assert alpha == ("0.2", "cub-200-2011.toml [method.alpha by method] resnet50 / cutmix: AAM log")
    lines = shown(capsys, "recipes", "show", "cifar10-resnet18-automix", "--origin")
    assert origins(lines)["extrapolated"] == (
        "true",
        "no configuration of CIFAR-10 is released; CIFAR-100's, as the paper says",
    )


def test_origins_are_of_every_value(capsys: pytest.CaptureFixture[str]) -> None:
    for name in SHOWN[::2]:
        found = origins(shown(capsys, "recipes", "show", name, "--origin"))
        told = recipe_to_dict(resolve_recipe(name))
        keys = {
            f"{key}.{inner}" if isinstance(value, dict) and value else key
            for key, value in told.items()
            for inner in (value if isinstance(value, dict) and value else [key])
        }
        assert {key for key in found if key} == keys
        assert all(origin for key, (_, origin) in found.items() if key)


def test_diff_prints_exactly_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    def keys(one: str, other: str) -> set[str]:
        lines = shown(capsys, "recipes", "diff", one, other)
        return {line.split()[0] for line in lines[3:] if re.match(r"  \S", line)}

    one, other = "cifar100-resnet18-mixup", "cifar100-resnet18-mixup-800"
    assert keys(one, other) == {"description", "epochs"}
    assert keys(other, one) == {"description", "epochs"}
    log = "cifar100-resnet18-cutmix-log"
    assert keys("cifar100-resnet18-cutmix", log) == {"description", "method.alpha", "variant"}
    # Present on one side only: momentum, which AdamW has not, and what the methods are asked.
    lines = shown(capsys, "recipes", "diff", "digits-resnet8-vanilla", "cifar10-resnet18-mixup")
    (line,) = (line for line in lines if line.startswith("  method.alpha "))
    assert line.split() == ["method.alpha", "-", "1.0"]
    (line,) = (line for line in lines if line.startswith("  momentum "))
    assert line.split() == ["momentum", "-", "0.9"]
    assert shown(capsys, "recipes", "diff", one, one) == ["no difference"]


def test_copy_writes_a_recipe_and_spares_what_is_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name, file = "cifar100-swin_tiny-adautomix-log", tmp_path / "mine.toml"
    assert shown(capsys, "recipes", "copy", name, str(file)) == [str(file)]
    assert resolve_recipe(file=file) == resolve_recipe(name)
    file.write_text(file.read_text() + "# mine\n")
    before = file.read_bytes()
    assert failed(capsys, "recipes", "copy", name, str(file)) == (
        f"error[E-EXISTS]: {file} exists; choose another name, or --force"
    )
    assert file.read_bytes() == before
    assert shown(capsys, "recipes", "copy", SHOWN[0], str(file), "--force") == [str(file)]
    assert resolve_recipe(file=file) == resolve_recipe(SHOWN[0])
    assert "end it in .toml" in failed(capsys, "recipes", "copy", name, str(tmp_path / "mine"))
    assert "did you mean" in failed(
        capsys, "recipes", "copy", "cifar100-r", str(tmp_path / "a.toml")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.toml"]


_JSON_TYPES: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def is_of(kind: str, value: object) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, _JSON_TYPES[kind])


_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "minItems": lambda value, bound: len(value) >= bound,
    "maxItems": lambda value, bound: len(value) <= bound,
    "enum": lambda value, choices: value in choices,
    "const": lambda value, only: value == only,
}


def valid(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Tell whether a value fits a JSON Schema, as far as recipes' use the language."""
    if "$ref" in schema:
        return valid(value, whole["$defs"][schema["$ref"].removeprefix("#/$defs/")], whole)
    for key, most in (("anyOf", len(schema.get("anyOf", ()))), ("oneOf", 1)):
        if key in schema and not 1 <= sum(valid(value, s, whole) for s in schema[key]) <= most:
            return False
    if "type" in schema and not is_of(schema["type"], value):
        return False
    if not all(test(value, schema[key]) for key, test in _BOUNDS.items() if key in schema):
        return False
    if isinstance(value, list):
        kinds = schema.get("prefixItems", [schema.get("items", {})] * len(value))
        return all(valid(v, s, whole) for v, s in zip(value, kinds, strict=False))
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return (
            set(schema.get("required", ())) <= set(value)
            and (schema["additionalProperties"] is not False or set(value) <= set(known))
            and all(valid(v, known[key], whole) for key, v in value.items() if key in known)
        )
    return True


def test_the_schema_fits_recipes_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads("\n".join(shown(capsys, "recipes", "schema")))
    for name in (*SHOWN, *(f"digits-resnet8-{method}" for method in METHODS)):
        told = recipe_to_dict(resolve_recipe(name))
        assert valid(told, schema, schema), name
    told = recipe_to_dict(resolve_recipe("cifar100-resnet18-mixup"))
    wrong: dict[str, Any] = {
        "epocs": 3,
        "epochs": 0,
        "lr": 0,
        "momentum": 1.0,
        "optimizer": "sdg",
        "schedule": "linear",
        "seed": 2**63,
        "channels_last": 1,
        "milestones": [0.5],
        "method": {"name": "mixup", "alhpa": 0.4},
        "augment": {**told["augment"], "kind": "crop"},
        "normalisation": {"mean": [0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "test_transform": {"size": 3},
    }
    for key, value in wrong.items():
        assert not valid({**told, key: value}, schema, schema), key
    assert valid({**told, "method": {"name": "cutmix", "alpha": 0.4}}, schema, schema)
    properties = schema["properties"]
    assert properties["optimizer"]["enum"] == ["sgd", "adamw", "lamb"]
    assert properties["lr"]["exclusiveMinimum"] == 0
    assert (properties["drop_path"]["minimum"], properties["drop_path"]["exclusiveMaximum"]) == (
        0,
        1,
    )
    assert all(entry.get("description") for entry in properties.values())


def complete(line: str) -> list[str]:
    """Return what bash is offered for a command line, by typer's protocol."""
    # As the installed program is called; the name says which variable asks for completion.
    code = "import sys; sys.argv = ['robustmix']; from robustmix.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "_ROBUSTMIX_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(line.count(" ")),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_the_shell_completes_recipes() -> None:
    start = "cifar100-resnet18-ada"
    want = [f"{start}utomix", f"{start}utomix-400", f"{start}utomix-800"]
    completed = completion.complete(completion.recipes)
    assert completed(start) == want
    assert completed("") == list(list_recipes())
    assert complete(f"robustmix train {start}") == want
    assert complete("robustmix recipes diff x stanford-cars-resnet18-autom") == [
        "stanford-cars-resnet18-automix",
        "stanford-cars-resnet18-automix-60",
    ]


def test_lists_need_neither_torch_nor_the_recipe_itself() -> None:
    code = """
import sys
from robustmix.cli.app import run
for command in (["recipes", "list"], ["recipes", "list", "--json"], ["list", "recipes"]):
    assert run(command) == 0
heavy = {"torch", "torchvision", "timm", "numpy", "scipy", "matplotlib", "pandas"}
heavy |= {"robustmix.training.recipe", "robustmix.training.resolve", "robustmix.data.protocol"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
