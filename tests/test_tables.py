"""Tables of names: what is registered, from where it comes, and how others add to them."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import robustmix
from robustmix import register
from robustmix.cli.app import ANYWHERE, app, run
from robustmix.corruptions import CORRUPTIONS, MAIN, NAMES, corrupt
from robustmix.data.datasets import load_dataset
from robustmix.data.manifests import DATASETS
from robustmix.errors import IntakeError, RobustmixError, UsageError
from robustmix.methods.registry import METHODS
from robustmix.models.checkpoint import read_checkpoint
from robustmix.models.load import load_model
from robustmix.models.names import ARCHS
from robustmix.tables import Origin, Row, Table, import_plugin, plugins, require_plugins


@dataclass(frozen=True)
class ToyRow(Row):
    colour: str = "grey"


def toys() -> Table[object, ToyRow]:
    return Table(
        "toy",
        ToyRow,
        {
            "square": ToyRow("math:sqrt", "a root", colour="red"),
            "text": ToyRow("textwrap:TextWrapper.fill", "filled"),
        },
        reserved=("all",),
    )


@pytest.fixture
def clean_tables(tmp_path: Path) -> Iterator[None]:
    """Undo what a test registers, and forget what it imports from its folder."""
    with contextlib.ExitStack() as stack:
        for table in (CORRUPTIONS, ARCHS, DATASETS):
            stack.enter_context(table.temporary())
        yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def plugin(folder: Path, text: str, name: str = "mine_x.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


DARKER = '''
from robustmix import register

@register.corruption("mine", group="digital")
def mine(images, severity):
    """Every value halved, severity times.

    And no more.
    """
    return images >> severity
'''


def sha(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()[:16]


# the table


def test_a_table_is_a_mapping_that_imports_on_use() -> None:
    table = toys()
    assert list(table) == ["square", "text"]
    assert (len(table), "square" in table, "root" in table) == (2, True, False)
    assert table["square"] is __import__("math").sqrt
    assert table.row("square") == ToyRow("math:sqrt", "a root", None, "red")
    assert table.origin("square") is None
    with pytest.raises(KeyError):
        table["root"]
    with pytest.raises(UsageError, match="unknown toy 'squar'; did you mean 'square'") as caught:
        table.load("squar")
    assert caught.value.code == "E-UNKNOWN-TOY"


def first() -> None:
    """Say one thing.

    Say another.
    """


def test_what_is_registered_is_listed_last_with_its_help_and_facts() -> None:
    table = toys()
    table.register("mine", first, colour="blue")
    table.register("other", first, "given")
    table.register("bare", 3)
    assert list(table) == ["square", "text", "mine", "other", "bare"]
    assert table["mine"] is first
    assert table.row("mine").colour == "blue"
    assert [row.help for row in table.rows().values()] == [
        "a root", "filled", "Say one thing.", "given", "(no docstring)",
    ]  # fmt: skip


def test_a_name_that_is_taken_is_refused_and_its_owner_named(tmp_path: Path) -> None:
    table = toys()
    table.register("mine", "numpy:abs", "absolute")
    for name, owner in (
        ("square", "robustmix itself"),
        ("all", "robustmix itself"),
        ("mine", f"numpy {np.__version__}"),
    ):
        with pytest.raises(UsageError, match=f"toy '{name}' exists already, from {owner}") as error:
            table.register(name, first)
        assert (error.value.code, error.value.exit_code) == ("E-NAME-TAKEN", 2)
    assert table["mine"] is np.abs


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "a\nb"])
def test_names_that_cannot_be_typed_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a toy; use letters, digits"):
        toys().register(name, first)


def test_a_fact_that_there_is_not_is_refused() -> None:
    table = toys()
    with pytest.raises(UsageError, match=r"unexpected keyword.*'color'; its facts are col") as e:
        table.register("mine", first, color="blue")
    assert e.value.code == "E-REGISTER"
    assert "mine" not in table
    with pytest.raises(UsageError, match="it has no facts"):
        Table[object, Row]("toy", Row, {}).register("mine", first, color="blue")


def test_temporary_undoes_what_is_registered_inside() -> None:
    table = toys()
    table.register("before", first)
    with contextlib.suppress(ZeroDivisionError), table.temporary():
        table.register("mine", first)
        assert "mine" in table
        raise ZeroDivisionError
    assert list(table) == ["square", "text", "before"]
    table.register("mine", first)


def test_a_target_that_cannot_be_imported_is_the_owners_fault() -> None:
    table = toys()
    table.register("mine", "numpy:no_such_thing")
    for use in (table.load, table.row):
        with pytest.raises(IntakeError, match="'mine' cannot be imported from numpy") as caught:
            use("mine")
        assert caught.value.code == "E-PLUGIN"
    told = table.rows()["mine"].help
    assert told.startswith("toy 'mine' cannot be imported from numpy (AttributeError: ")
    assert table.rows()["square"].help == "a root"


# origins


@pytest.mark.usefixtures("clean_tables")
def test_a_file_is_known_by_its_digest(tmp_path: Path) -> None:
    path = plugin(tmp_path, DARKER)
    import_plugin(str(path))
    origin = CORRUPTIONS.origin("mine")
    assert origin == Origin(module="mine_x", version=sha(path))
    assert str(origin) == f"mine_x {sha(path)}"
    assert CORRUPTIONS.row("mine").help == "Every value halved, severity times."


@pytest.mark.usefixtures("clean_tables")
def test_an_installed_package_is_known_by_its_version() -> None:
    CORRUPTIONS.register("mine", np.clip)
    assert CORRUPTIONS.origin("mine") == Origin(module="numpy", version=metadata.version("numpy"))


@pytest.mark.usefixtures("clean_tables")
def test_what_is_made_of_our_parts_is_from_whoever_registers_it(tmp_path: Path) -> None:
    text = """
import functools
from robustmix import register
from robustmix.corruptions import Corruption
from robustmix.models.resnet import ResNet

register.corruption("mine", Corruption(name="x", constants={}, apply=lambda i, d, s, p: 255 - i))
make = functools.partial(ResNet, block="basic", depths=(1, 1), stem="cifar")
register.arch("ours", make, "two stages")
"""
    path = plugin(tmp_path, text)
    import_plugin(str(path))
    assert CORRUPTIONS.origin("mine") == ARCHS.origin("ours") == Origin(
        module="mine_x", version=sha(path)
    )  # fmt: skip


# files and modules


@pytest.mark.usefixtures("clean_tables")
def test_a_file_is_imported_once(tmp_path: Path) -> None:
    path = plugin(tmp_path, DARKER + "\nprint('ran')\n")
    import_plugin(str(path))
    import_plugin(os.path.relpath(path))
    assert list(CORRUPTIONS).count("mine") == 1
    with pytest.raises(UsageError, match=f"exists already, from mine_x {sha(path)}"):
        import_plugin(str(plugin(tmp_path, DARKER, "other_x.py")))
    assert "other_x" not in sys.modules


@pytest.mark.usefixtures("clean_tables")
@pytest.mark.parametrize("name", ["json.py", "numpy.py"])
def test_a_file_takes_the_place_of_no_module(tmp_path: Path, name: str) -> None:
    path = plugin(tmp_path, DARKER, name)
    import_plugin(str(path))
    import_plugin(str(path))
    origin = CORRUPTIONS.origin("mine")
    assert origin is not None
    assert origin.version == sha(path)
    assert re.fullmatch(f"{path.stem}_[0-9a-f]{{8}}", origin.module)
    assert sys.modules["json"] is json
    assert sys.modules["numpy"] is np


@pytest.mark.usefixtures("clean_tables")
def test_a_module_is_imported_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = plugin(tmp_path, DARKER)
    import_plugin("mine_x")
    assert CORRUPTIONS.origin("mine") == Origin(module="mine_x", version=sha(path))


@pytest.mark.usefixtures("clean_tables")
@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("1 / 0", IntakeError, "raised while it was imported (ZeroDivisionError: division by"),
        ("def f(", IntakeError, "raised while it was imported (SyntaxError: "),
        ("import nothing_such", IntakeError, "(ModuleNotFoundError: No module named 'nothing_s"),
        ("open('/no/such')", IntakeError, "(FileNotFoundError: [Errno 2] No such file"),
        ("raise SystemExit(0)", IntakeError, "raised while it was imported (SystemExit: 0)"),
        ("import robustmix.errors as e\nraise e.IncompleteError('so')", RobustmixError, "so"),
    ],
)
def test_a_file_that_raises(
    tmp_path: Path, text: str, error: type[RobustmixError], line: str
) -> None:
    path = plugin(tmp_path, text)
    with pytest.raises(error, match=re.escape(line)) as caught:
        import_plugin(str(path))
    assert len(caught.value.line().splitlines()) == 1
    assert caught.value.code == ("E-PLUGIN" if error is IntakeError else "E-INCOMPLETE")
    assert "mine_x" not in sys.modules


@pytest.mark.parametrize("where", ["nowhere.py", "nowhere", "numpy.nowhere", "no/where"])
def test_nothing_to_import(where: str) -> None:
    with pytest.raises(UsageError, match=f"no file or module {where} to import") as caught:
        import_plugin(where)
    assert (caught.value.code, caught.value.exit_code) == ("E-IMPORT", 2)


# what checkpoints and reports record


def test_what_is_foreign_is_recorded_and_asked_for() -> None:
    table, other = toys(), Table[object, Row]("game", Row, {"square": Row("math:sqrt", "a root")})
    table.register("mine", "numpy:abs")
    used = plugins([(table, "square"), (table, "mine"), (other, "square"), (table, "gone")])
    version = np.__version__
    assert used == [{"kind": "toy", "name": "mine", "module": "numpy", "version": version}]
    assert require_plugins(used, [table, other]) == []
    assert require_plugins(used, [other]) == []
    older = [{**used[0], "version": "1.0"}]
    warned = f"W-PLUGIN: toy 'mine' came from numpy 1.0, now from numpy {version}"
    assert require_plugins(older, [table]) == [warned]
    with pytest.raises(IntakeError) as caught:
        require_plugins(older, [toys()])
    assert caught.value.line() == (
        "error[E-NO-PLUGIN]: toy 'mine' came from module numpy version 1.0; "
        "import it with --import FILE_OR_MODULE"
    )


# registering


@pytest.mark.usefixtures("clean_tables")
def test_every_kind_is_registered_by_a_call_or_a_decorator() -> None:
    from robustmix.attacks.registry import ATTACKS
    from robustmix.evaluation.suites.registry import SUITES
    from robustmix.metrics.registry import METRICS

    tables: dict[str, Table[Any, Any]] = {
        "suite": SUITES,
        "attack": ATTACKS,
        "metric": METRICS,
        "method": METHODS,
        "corruption": CORRUPTIONS,
        "arch": ARCHS,
    }
    for kind, table in tables.items():
        add = getattr(register, kind)
        with table.temporary():
            add("by-call", first)
            assert add("by-decorator", help="so")(first) is first
            assert list(table)[-2:] == ["by-call", "by-decorator"], kind
            assert table.target("by-call") is table.target("by-decorator") is first
            assert [table.row(n).help for n in list(table)[-2:]] == ["Say one thing.", "so"]
            assert str(table.origin("by-call")).endswith(sha(Path(__file__)))


def test_registering_needs_no_torch() -> None:
    code = (
        "import sys; from robustmix import register; "
        "register.arch('mine', 'nowhere:build', 'of nowhere'); "
        "register.corruption('mine', 'nowhere:corrupt', 'of nowhere'); "
        "register.method('mine', 'nowhere:Method', 'of nowhere'); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# installed packages


PACKED = '''
from robustmix.corruptions.registry import CorruptionRow


def darker(images, severity):
    """Every value halved."""
    return images // 2


ROW = CorruptionRow("packed.dark:darker", "a row of its own", group="digital")
MAIN = CorruptionRow("packed.dark:darker", "wants in", benchmark="main")
'''


def installed(folder: Path, **points: str) -> dict[str, str]:
    """Install a package of a few corruptions; return the environment in which it is there."""
    package, info = folder / "packed", folder / "packed-3.1.dist-info"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "dark.py").write_text(PACKED)
    (package / "torn.py").write_text("import nothing_such\n")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: packed\nVersion: 3.1\n")
    lines = ["[robustmix.corruptions]", *(f"{name} = {target}" for name, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


LIST = "from robustmix.cli.app import run; raise SystemExit(run(['list', 'corruptions']))"


def listed(text: str) -> dict[str, str]:
    """Return what a listing says of each name, broken lines joined."""
    found: dict[str, str] = {}
    for line in text.splitlines()[3:]:
        name, _, what = line.strip().partition("  ") if line[2:3].strip() else ("", "", line)
        if line.strip():
            name = name or list(found)[-1]
            found[name] = f"{found.get(name, '')} {what.strip()}".strip()
    return found


def test_installed_corruptions_are_listed_with_their_package(tmp_path: Path) -> None:
    """One that cannot be imported, two that clash and one that wants in hide none of the rest."""
    environment = installed(
        tmp_path,
        darker="packed.dark:darker",
        torn="packed.torn:thing",
        rowed="packed.dark:ROW",
        fog="packed.dark:darker",
        jpeg="packed.dark:darker",
        intruder="packed.dark:MAIN",
    )
    done = python(LIST, environment)
    assert done.returncode == 0, done.stderr
    rows = listed(done.stdout)
    assert list(rows)[:19] == list(NAMES)
    assert rows["fog"] == "a fractal haze that also lowers contrast"
    assert {name: rows[name] for name in list(rows)[19:]} == {
        "darker": "Every value halved. (from packed.dark 3.1)",
        "torn": "corruption 'torn' cannot be imported from packed.torn (ModuleNotFoundError: "
        "No module named 'nothing_such') (from packed.torn 3.1)",
        "rowed": "a row of its own (from packed.dark 3.1)",
        "intruder": "the benchmark's corruptions are fixed (from packed.dark 3.1)",
    }
    assert done.stderr.splitlines() == [
        "left out: corruption fog of packed.dark 3.1: the name is taken",
        "left out: corruption jpeg of packed.dark 3.1: the name is taken",
    ]


def test_installed_corruptions_are_used_and_join_no_fixed_list(tmp_path: Path) -> None:
    environment = installed(tmp_path, darker="packed.dark:darker", rowed="packed.dark:ROW")
    code = """
import torch
from robustmix.corruptions import CORRUPTIONS, GROUPS, MAIN, NAMES, corrupt
with CORRUPTIONS.temporary():  # what it finds inside is not forgotten
    assert "darker" in CORRUPTIONS
grey = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
for name in ("darker", "rowed"):
    assert set(corrupt(grey, name, 3).flatten().tolist()) == {50}
assert (len(MAIN), len(NAMES), sum(map(len, GROUPS.values()))) == (15, 19, 19)
assert [CORRUPTIONS.row(n).group for n in ("darker", "rowed")] == ["other", "digital"]
"""
    done = python(code, environment)
    assert done.returncode == 0, done.stderr


# the command line


@pytest.mark.usefixtures("clean_tables")
@pytest.mark.parametrize(
    "line",
    [
        ["--import", "{}", "list", "corruptions"],
        ["list", "--import={}", "corruptions"],
        ["list", "corruptions", "--debug", "--import", "{}", "--import", "{}"],
    ],
)
def test_import_stands_anywhere(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plugin(tmp_path, DARKER)
    assert run([word.format(path) for word in line]) == 0
    captured = capsys.readouterr()
    told = f"Every value halved, severity times. (from mine_x {sha(path)})"
    assert listed(captured.out)["mine"] == told
    assert captured.err == ""
    assert (len(MAIN), len(NAMES)) == (15, 19)


@pytest.mark.usefixtures("clean_tables")
def test_a_module_is_imported_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    plugin(tmp_path, DARKER)
    assert run(["list", "corruptions", "--import", "mine_x"]) == 0
    assert "Every value halved" in listed(capsys.readouterr().out)["mine"]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (["list", "archs", "--import"], 2, "error[E-USAGE]: --import needs a value; write --im"),
        (["--import", "--debug=1", "version"], 2, "error[E-USAGE]: --import needs a value"),
        (["--import=", "version"], 2, "error[E-USAGE]: the value of --import is empty"),
        (["version", "--import", "no.py"], 2, "error[E-IMPORT]: there is no file or module no.py"),
        (["list", "--", "--import"], 2, "error[E-UNKNOWN-LIST]: unknown list '--import'"),
        (["version", "--imports", "x"], 2, "error[E-USAGE]: unknown option"),
    ],
)
def test_import_without_what_it_needs(
    line: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(said)
    assert captured.err.count("\n") == 1


@pytest.mark.usefixtures("clean_tables")
def test_a_plugin_that_raises_is_one_line_and_exit_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plugin(tmp_path, "1 / 0")
    assert run(["version", "--import", str(path)]) == 3
    assert capsys.readouterr().err == (
        f"error[E-PLUGIN]: {path} raised while it was imported (ZeroDivisionError: division by "
        "zero); mend it, or leave --import out\n"
    )
    with pytest.raises(IntakeError):
        run(["version", "--import", str(path), "--debug"])


def test_every_help_says_what_stands_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "--import" in capsys.readouterr().out
    groups = [group for group in app.registered_groups if group.typer_instance is not None]
    commands = [[command.name or command.callback.__name__] for command in app.registered_commands]  # type: ignore[union-attr]
    commands += [[str(group.name)] for group in groups]
    commands += [["corrupt", "generate"], ["methods", "info"], ["report", "show"]]
    assert len(commands) > 14
    for command in commands:
        assert run([*command, "--help"]) == 0
        assert ANYWHERE in " ".join(capsys.readouterr().out.split()), command


TOYS = '''
import json
from importlib.resources import files

import torch
from torch import nn

from robustmix import register
from robustmix.data.images import ImageSet, TensorPixels


@register.arch("tiny", params_millions=0.0003)
class Tiny(nn.Module):
    """One convolution and a mean."""

    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.top = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.top(self.body(x).relu().mean(dim=(2, 3)))


text = (files("robustmix") / "data_manifests" / "digits.json").read_text()
manifest = json.loads(text) | {"name": "bars", "title": "Bars", "num_classes": 3}


@register.dataset("bars", manifest=manifest)
def bars(manifest, split, folder):
    n = 48 if split == "train" else 24
    labels = torch.arange(n) % 3
    pixels = torch.zeros(n, 3, 32, 32, dtype=torch.uint8)
    for i in range(n):
        pixels[i, labels[i], :, i % 32] = 255
    return ImageSet(
        name=manifest.name,
        split=split,
        pixels=TensorPixels(pixels),
        labels=labels,
        sample_ids=tuple(f"bars/{split}/{i}" for i in range(n)),
        class_names=("red", "green", "blue"),
        mean=manifest.normalisation.mean,
        std=manifest.normalisation.std,
    )


@register.corruption("mine")
def mine(images, severity):
    """Every value halved, severity times."""
    return images >> severity
'''

PARTS = (("arch", "tiny"), ("dataset", "bars"))


@pytest.fixture
def trained(
    tmp_path: Path, clean_tables: None, capsys: pytest.CaptureFixture[str]
) -> tuple[Path, Path]:
    """A foreign network trained on foreign data: the plugin, and the run folder."""
    path, out = plugin(tmp_path, TOYS), tmp_path / "run"
    assert run(train_line(out, "--import", str(path))) == 0
    capsys.readouterr()
    return path, out


def train_line(out: Path, *more: str) -> list[str]:
    return [
        "train", "--arch", "tiny", "--dataset", "bars", "--method", "mixup", "--epochs", "1",
        "--out", str(out), "--progress", "none", "--set", "batch_size=16", *more,
    ]  # fmt: skip


def forget() -> None:
    """Leave the tables as they are without the plugin; the fixture brings back the rest."""
    for table, name in ((CORRUPTIONS, "mine"), (ARCHS, "tiny"), (DATASETS, "bars")):
        vars(table)["_rows"].pop(name)
    del sys.modules["mine_x"]


def test_a_checkpoint_says_where_its_parts_come_from(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    path, out = trained
    checkpoint = read_checkpoint(out / "checkpoints" / "last.pth")
    assert checkpoint.plugins == tuple(
        {"kind": kind, "name": name, "module": "mine_x", "version": sha(path)}
        for kind, name in PARTS
    )
    assert checkpoint.model.keys() == {"body.weight", "body.bias", "top.weight", "top.bias"}
    # The builder draws the first weights, from the seed of the recipe alone.
    torch.rand(7)
    assert run(train_line(tmp_path / "again")) == 0
    again = read_checkpoint(tmp_path / "again" / "checkpoints" / "last.pth")
    assert all(torch.equal(again.model[name], value) for name, value in checkpoint.model.items())
    assert run(train_line(tmp_path / "other", "--set", "seed=1")) == 0
    other = read_checkpoint(tmp_path / "other" / "checkpoints" / "last.pth")
    assert not torch.equal(other.model["body.weight"], checkpoint.model["body.weight"])


def test_without_its_plugin_a_checkpoint_is_refused_by_name(
    trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = trained
    last = out / "checkpoints" / "last.pth"
    forget()
    assert read_checkpoint(last).arch == "tiny"
    for command in (["eval", str(last)], train_line(out)):
        assert run(command) == 3
        assert capsys.readouterr().err == (
            f"error[E-NO-PLUGIN]: arch 'tiny' came from module mine_x version {sha(path)}; "
            "import it with --import FILE_OR_MODULE\n"
        )


def test_another_version_of_a_plugin_is_told(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = trained
    last, before = out / "checkpoints" / "last.pth", sha(path)
    forget()
    other = plugin(tmp_path, TOYS + "\n# changed\n", "other_x.py")
    assert run(train_line(out, "--progress", "plain", "--import", str(other))) == 0
    told = [
        f"W-PLUGIN: {kind} '{name}' came from mine_x {before}, now from other_x {sha(other)}"
        for kind, name in PARTS
    ]
    assert capsys.readouterr().err.splitlines()[:2] == told
    assert load_model(last).info.notes == (told[0],)


@pytest.mark.usefixtures("trained")
def test_data_whose_plugin_is_absent_are_refused_by_name(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    path, out = trained
    forget()
    import_plugin(str(plugin(tmp_path, TOYS.partition("text =")[0], "arch_x.py")))
    robust = load_model(out / "checkpoints" / "last.pth")
    with pytest.raises(IntakeError, match=f"dataset 'bars' came from module mine_x .*{sha(path)}"):
        robustmix.evaluate(robust, suites=["clean"])


def test_a_foreign_corruption_is_evaluated(trained: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = trained
    last, report = out / "checkpoints" / "last.pth", tmp_path / "report"
    forget()
    line = ["eval", str(last), "--suite", "corruption", "--corruptions", "mine", "--severity", "1"]
    line += ["--out", str(report), "--progress", "none", "--import", str(path)]
    assert run(line) == 0
    content = json.loads((report / "report.json").read_text())
    assert content["dataset"]["name"] == "bars"
    assert content["run"]["argv"][-2:] == ["--import", "mine_x.py"]
    bars, robust = load_dataset("bars", "test"), load_model(last)
    halved = corrupt(bars.pixels.take(torch.arange(24)), "mine", 1).float() / 255
    right = robust(halved).argmax(dim=1) == bars.labels
    samples = robustmix.Report.load(report).samples
    assert samples is not None
    found = samples.tables["corruption"].at("mine/1")["correct"]
    assert found.astype(bool).tolist() == right.tolist()
