"""What the pages of docs/extend add is in every place where a thing of its kind must be.

The files of a page are written to a folder, its commands typed there as they stand, and what they
say is held against numbers that are made by hand.
"""

import csv
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import robustmix
from robustmix import register
from robustmix.corruptions import CORRUPTIONS, NAMES
from robustmix.data.datasets import load_dataset
from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.evaluation import engine
from robustmix.evaluation.suites.corruption import Corruption, select_corruptions
from robustmix.methods.method import Setup
from robustmix.methods.registry import build_method
from robustmix.models.checkpoint import read_checkpoint, save_checkpoint
from robustmix.report.samples import Samples
from robustmix.saliency.sources import Explained
from tests.evaluation.tiny import tiny_images, tiny_model
from tests.extending.pages import DOCS, IMAGES, ROOT, TABLES, Desk, Page, Said, captioned, typed
from tests.extending.toys import (
    TOYS,
    Evaluated,
    Session,
    Toy,
    by_hand,
    flipped,
    posterised,
    predicted,
    shaded,
    wilson,
)

if not DOCS.exists():
    pytest.skip("the docs are not beside the tests", allow_module_level=True)

KINDS = ("suite", "attack", "metric", "method", "corruption", "arch", "dataset")
LISTS = {kind: f"{kind}s" for kind in KINDS}

Follow = Callable[[str], Session]
Evaluate = Callable[[Toy], Evaluated]


# the desks: a page, its commands typed, and what they said


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is right about two times in three, and one that is so about never.

    Trained for a moment; the last layer is then fitted in closed form, which takes no time.
    """
    folder = tmp_path_factory.mktemp("networks")
    run = robustmix.train(
        "digits-resnet8-vanilla", out=folder / "run", epochs=1, limit_train=96, limit_val=20,
        progress="none",
    )  # fmt: skip
    checkpoint, model = read_checkpoint(run.last), robustmix.load_model(run.last)
    data, features = load_dataset("digits", "train"), []
    (last,) = (module for module in model.modules() if isinstance(module, nn.Linear))
    last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    with torch.no_grad():
        model(data.pixels.take(torch.arange(400)).float() / 255)
    inputs = torch.cat([features[0], torch.ones(400, 1)], dim=1).double()
    wanted = 2 * nn.functional.one_hot(data.labels[:400], 10).double() - 1
    gram = inputs.T @ inputs + 0.01 * torch.eye(65)
    weights = 3 * torch.linalg.solve(gram, inputs.T @ wanted).float()
    for name, shift in (("last", 0), ("worse", 1)):
        rows = weights.roll(shift, dims=1)
        fitted = {"fc.weight": rows[:-1].T.contiguous(), "fc.bias": rows[-1].clone()}
        made = replace(checkpoint, model={**checkpoint.model, **fitted})
        save_checkpoint(folder / f"{name}.pth", made)
    return folder


@pytest.fixture(scope="module")
def session(networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Follow:
    """Follow a page, once a module."""
    known: dict[str, Session] = {}

    def follow(kind: str) -> Session:
        if kind not in known:
            desk = Desk(Page(kind), tmp_path_factory.mktemp(kind))
            for name, text in desk.page.files.items():
                (desk.folder / name).write_text(text)
            for name in ("last.pth", "worse.pth"):
                shutil.copy(networks / name, desk.folder)
            # The commands import the plugin themselves, where the page says so.
            with desk.bare():
                known[kind] = Session(desk, {line: typed(line) for line in desk.page.commands})
        return known[kind]

    return follow


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_of_a_page_runs(kind: str, session: Follow) -> None:
    said = session(kind).said
    assert len(said) >= 4
    assert {line: done.err for line, done in said.items() if done.code != 0} == {}
    assert not any("error[" in done.err for done in said.values())
    for kept in TABLES.values():
        assert all(kept.origin(name) is None for name in kept)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_listed_with_its_help_and_where_it_comes_from(kind: str, session: Follow) -> None:
    desk, page = session(kind).desk, session(kind).page
    listed = session(kind).of(f"robustmix list {LISTS[kind]}").told
    with desk.plugged():
        (name,) = (name for name in TABLES[kind] if TABLES[kind].origin(name))
        row = f"{name} {TABLES[kind].row(name).help} (from {page.origin})"
        assert row in listed
        if kind == "attack":
            assert row in typed("robustmix list suites").told
        if kind == "method":
            assert row in typed("robustmix methods list").told.replace(" 3 untested", "")
    if kind != "dataset":  # whose help is the title of its manifest
        (docstring,) = re.findall(r'^    """(.*)$', page.files[f"{page.module}.py"], re.M)[-1:]
        assert kind == "suite" or row.split(maxsplit=1)[1].startswith(docstring.strip('"'))


# numbers that are made by hand, and the places where they stand


every_toy = pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.page)


@pytest.fixture(scope="module")
def evaluated(session: Follow) -> Evaluate:
    known: dict[str, Evaluated] = {}

    def evaluate(toy: Toy) -> Evaluated:
        if toy.page not in known:
            followed = session(toy.page)
            desk, line = followed.desk, followed.evaluation
            with desk.bare():
                again = typed(line.replace("last.pth", "worse.pth").replace("--out a", "--out b"))
            assert again.code == 0, again.err
            sides = (by_hand(toy, desk.folder, "last.pth"), by_hand(toy, desk.folder, "worse.pth"))
            known[toy.page] = Evaluated(toy, followed, *sides)
        return known[toy.page]

    return evaluate


@every_toy
def test_the_number_is_the_one_made_by_hand(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    assert 0.1 < made.a.mean() < 0.9  # else nothing below says anything
    number = made.number
    assert (number["n"], number["unit"], number["direction"]) == (IMAGES, "fraction", "higher")
    assert (number["value"], number["ci_method"]) == (pytest.approx(made.a.mean()), "wilson95")
    assert number["ci"] == pytest.approx(wilson(made.a))


@every_toy
def test_the_report_records_where_it_comes_from(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    report, page = made.desk.report("a"), made.session.page
    origin = {"kind": toy.page, "name": toy.name, "module": page.module, "version": page.version}
    assert report["tool"]["plugins"] == [origin]
    origins = {key: part["origins"] for key, part in report["suites"].items() if part["origins"]}
    assert origins == {toy.suite: [origin]}
    params = report["suites"][toy.suite]["params"]
    assert params == report["protocol"]["params"][toy.suite]
    recorded: dict[str, dict[str, Any]] = {
        "suite": {"axis": "vertical"},
        "attack": {"attack": "shade", "eps": "16/255", "options": {"way": "brighter"}},
        "metric": {},
        "corruption": {"foreign_groups": [["posterise", "digital"]], "source": "generated"},
    }
    assert {name: params[name] for name in recorded[toy.page]} == recorded[toy.page]
    assert toy.page != "suite" or params == recorded["suite"]


@every_toy
def test_every_table_shows_it(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    desk, session = made.desk, made.session
    with desk.bare():
        shown = typed("robustmix report show a")
        markdown = typed("robustmix report md a").out.replace("\\_", "_")
        rows = list(csv.reader(io.StringIO(typed("robustmix report csv a").out)))
    number = made.number
    written = [toy.suite, toy.condition, toy.metric, *map(str, (number["value"], *number["ci"]))]
    assert [row[:6] for row in rows if row[:3] == written[:3]] == [written]
    if toy.page == "metric":  # which numbers a suite shows first is for the suite to say
        return
    want = [toy.suite, toy.metric, *made.cells]
    if toy.page == "corruption":  # its group stands among the means
        weak = toy._replace(right=partial(posterised, severity=1))
        both = [by_hand(weak, desk.folder, "last.pth"), made.a]
        want = ["digital", f"{100 * np.mean(both):.2f} %"]
    for said in (session.said[session.evaluation], shown):
        assert want in [row[: len(want)] for row in said.rows]
    if toy.page == "corruption":
        want = ["corruption", *want]
    assert f"| {' | '.join(want)} |" in markdown


@every_toy
def test_the_page_shows_it(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    with made.desk.bare():
        assert typed("robustmix report html a --out a.html").code == 0
    html = (made.desk.folder / "a.html").read_text()
    tables = captioned(html)
    heading = {"suite": "Mirrored", "attack": "Attacks", "metric": "Clean"}.get(
        toy.page, "Corruptions"
    )
    assert f">{heading}</h2>" in html
    numbers = tables[f"{heading}: {'every condition' if toy.condition else 'all numbers'}"]
    want = [toy.suite, *([toy.condition] if toy.condition else []), toy.metric, *made.cells]
    assert want in numbers
    if toy.page in ("suite", "attack"):
        headline = tables["The headline number of every suite"]
        assert want in [row[:5] for row in headline]
    origin = f"{toy.page} {toy.name} of {made.session.page.origin}"
    assert f"<dd>{origin}</dd>" in html


def test_pictures_show_it(evaluated: Evaluate) -> None:
    attack, corruption = evaluated(TOYS[1]), evaluated(TOYS[3])
    with attack.desk.bare():
        typed("robustmix report html a --out a.html")
    page = (attack.desk.folder / "a.html").read_text()
    assert "shade" in "".join(re.findall(r"<figure.*?</figure>", page, re.DOTALL))
    with corruption.desk.bare():
        assert typed("robustmix report heatmap a --out heatmap.svg").code == 0
    picture = (corruption.desk.folder / "heatmap.svg").read_text()
    assert f"{100 * corruption.a.mean():.1f}" in picture
    assert "posterise" in picture


@every_toy
def test_the_forecast_counts_it(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    session, n = made.session, str(IMAGES)
    line = session.evaluation.replace("--out a", "--dry-run")
    with made.desk.bare():
        rows = typed(line).rows
    want = {
        "suite": ["mirrored", "1", n, n, "0", "<1 s"],
        "attack": ["shade", "3", n, "?", "?", "?"],
        "metric": ["clean", "1", n, n, "0", "<1 s"],
        "corruption": ["corruption", "4", n, str(4 * IMAGES), "0"],
    }[toy.page]
    assert want in [row[: len(want)] for row in rows]
    conditions = Samples.load(made.desk.folder / "a" / "samples.npz").tables[toy.suite].conditions
    assert want[1] == str(len(conditions))


@every_toy
def test_validate_finds_a_forged_number(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    folder = made.desk.folder
    for key, change in (("value", 0.125), ("ci", [0.125, 0.875]), ("n", IMAGES + 1)):
        shutil.copytree(folder / "a", folder / "forged", dirs_exist_ok=True)
        forged = Evaluated(toy, made.session, made.a, made.b)
        report = forged.desk.report("forged")
        part = report["suites"][toy.suite]
        under = {one["name"]: one["metrics"] for one in part["conditions"]} | {"": part["metrics"]}
        under[toy.condition][toy.metric][key] = change
        (folder / "forged" / "report.json").write_text(json.dumps(report))
        with made.desk.plugged():
            said = typed("robustmix report validate forged")
        place = f"conditions.{toy.condition}.metrics" if toy.condition else "metrics"
        assert said.code == 3
        assert f"{toy.suite}.{place}.{toy.metric}.{key}" in said.err
        assert len(said.err.splitlines()) == 1


@every_toy
def test_compare_tests_it_image_by_image(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    with made.desk.plugged():
        told = typed("robustmix compare a b --json -")
        asked = typed(f"robustmix compare a b --metric '{toy.path}' --json -")
    (row,) = compared(asked)
    only_a, only_b = int((made.a & ~made.b).sum()), int((made.b & ~made.a).sum())
    assert (row["path"], row["only_a_right"], row["only_b_right"]) == (toy.path, only_a, only_b)
    assert (row["a"], row["b"]) == pytest.approx((made.a.mean(), made.b.mean()))
    assert row["p_exact"] == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)
    if toy.page in ("suite", "attack"):  # shown unless asked otherwise
        assert row["path"] in [one["path"] for one in compared(told)]


def compared(said: Said) -> list[dict[str, Any]]:
    (comparison,) = json.loads(said.out)["comparisons"]
    return comparison["metrics"]  # type: ignore[no-any-return]


def judgement(said: Said) -> dict[str, dict[str, Any]]:
    """What a check found of each number, by its path."""
    rules = json.loads(said.out)["rules"]
    return {rule["path"]: {k: v for k, v in rule.items() if k != "seconds"} for rule in rules}


GATED = {
    "suite": "mirrored.acc",
    "attack": "shade.robust_acc",
    "corruption": "corruption.acc_mean_selected2_subset",
}
"""What the default gate watches; a metric is judged where a rule asks for it."""


@every_toy
def test_the_gate_watches_it(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    by_name = f"--metric '{toy.path}>={made.a.mean() - 1e-6:.6f}'"
    rules = "--gate point" if toy.page in GATED else by_name
    with made.desk.plugged():
        same = typed(f"robustmix check a --baseline a {rules} --json -")
        worse = typed(f"robustmix check b --baseline a {rules} --json -")
    assert (same.code, worse.code) == (0, 1)
    assert judgement(worse)[GATED.get(toy.page, toy.path)]["outcome"] == "fail"
    assert {rule["outcome"] for rule in judgement(same).values()} == {"pass"}


# flags


def test_help_shows_the_flags(session: Follow) -> None:
    told = session("suite").of("robustmix eval --help mirrored").told
    assert told.startswith("mirrored: Accuracy when images are mirrored. option what it is")
    assert "--axis horizontal|vertical Direction in which images are mirrored. " in told
    assert "[default: horizontal]" in told
    told = session("attack").of("robustmix eval --help shade").told
    assert "--way darker|brighter|either Which of the two is tried. [default: either]" in told
    assert "--eps 8/255[,4/255,...] Radius of the ball" in told
    with session("suite").desk.plugged():
        everything = typed("robustmix eval --help-all").told
    assert "--axis horizontal|vertical" in everything


def test_flags_act_in_python_as_on_the_command_line(evaluated: Evaluate) -> None:
    for toy, name, given, other, right in (
        (TOYS[0], "axis", "vertical", "horizontal", partial(flipped, axis=3)),
        (TOYS[1], "way", "brighter", "either", partial(shaded, signs=(-1, 1))),
    ):
        made = evaluated(toy)
        table = Samples.load(made.desk.folder / "a" / "samples.npz").tables[toy.suite]
        eps: dict[str, Any] = {"eps": 16 / 255, "masking": "off"} if toy.page == "attack" else {}
        with made.desk.plugged():
            same, less = (
                robustmix.evaluate("last.pth", None, [toy.suite], limit=IMAGES, **options)
                for options in ({**eps, name: given}, {**eps, name: other})
            )
        assert same.samples is not None
        for column, values in table.columns.items():
            assert np.array_equal(same.samples.tables[toy.suite].columns[column], values)
        found = less.metric(f"{toy.suite}.{toy.metric}").value
        other_hand = by_hand(toy._replace(right=right), made.desk.folder, "last.pth")
        assert found == pytest.approx(other_hand.mean())
        assert (other_hand != made.a).any()


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        ("suite", "eval last.pth --suite clean --axis vertical", (
            "error[E-UNUSED-OPTION]: --axis is an option of mirrored, and none of these is run: "
            "clean is; add --suite mirrored, or leave --axis out")),
        ("suite", "eval last.pth --suite mirrored --axis diagonal",
            "error[E-CHOICE]: --axis: unknown value 'diagonal'; "),
        ("suite", "eval last.pth --suite mirored", (
            "error[E-UNKNOWN-SUITE]: unknown suite 'mirored'; did you mean 'mirrored'?")),
        ("suite", "eval last.pth --suite mirrored --axs vertical",
            "error[E-USAGE]: unknown option '--axs'; did you mean '--axis'?"),
        ("attack", "eval last.pth --suite fgsm --way darker", (
            "error[E-UNUSED-OPTION]: --way is an option of shade, and none of these is run: ")),
        ("attack", "eval last.pth --suite shade --way dark",
            "error[E-CHOICE]: --way: unknown value 'dark'; did you mean 'darker'?"),
        ("attack", "eval last.pth --suite shade --norm l2",
            "error[E-NORM]: shade is an attack in linf, not l2; "),
    ],
)  # fmt: skip
def test_a_flag_that_does_not_fit_is_one_line(
    kind: str, line: str, said: str, session: Follow
) -> None:
    with session(kind).desk.plugged():
        done = typed(f"robustmix {line}")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert done.err.startswith(said)


# interrupted evaluations


def resumable(toy: Toy) -> dict[str, Any]:
    options: dict[str, dict[str, Any]] = {
        "suite": {"axis": "vertical"},
        "attack": {"eps": "16/255", "way": "brighter", "masking": "off"},
        "metric": {},
        "corruption": {"corruptions": "posterise,fog", "severity": (1, 5)},
    }
    return options[toy.page]


@every_toy
def test_it_resumes_between_its_units(
    toy: Toy, evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BLOCK", 25)
    made = evaluated(toy)
    folder, origin = made.desk.folder, made.session.page.origin
    out = folder / "stopped"
    arguments = ("last.pth", None, [toy.suite])
    options = {"limit": IMAGES, "out": out, **resumable(toy)}

    def units(of: str = "*") -> int:
        return len(list((out / "units").glob(f"{of}/*.npz")))

    with made.desk.plugged():
        stopped = robustmix.evaluate(
            *arguments, should_stop=lambda: units(toy.suite) > 0, **options
        )
    assert stopped.content.suites[toy.suite].status == "partial"
    assert units(toy.suite) in (1, 2)  # one is written while the next is computed
    kept = units()
    with made.desk.bare():
        line = f"{made.session.evaluation.partition(' --out')[0]} --out stopped --resume"
        said = typed(line)
    module, version = origin.split()
    assert said.code == 3
    assert said.err == (
        f"error[E-NO-PLUGIN]: {toy.page} '{toy.name}' came from module {module} version {version}; "
        "import it with --import FILE_OR_MODULE\n"
    )
    with made.desk.plugged():
        done = robustmix.evaluate(*arguments, resume=True, **options)
    assert (done.content.run.status, done.content.run.resumed_units) == ("success", kept)
    whole = Samples.load(folder / "a" / "samples.npz").tables[toy.suite]
    assert done.samples is not None
    for name, column in whole.columns.items():
        assert np.array_equal(done.samples.tables[toy.suite].columns[name], column), name
    assert done.metric(toy.path).value == pytest.approx(made.a.mean())


def test_another_version_of_it_does_not_take_over_its_units(
    evaluated: Evaluate, tmp_path: Path
) -> None:
    made = evaluated(TOYS[0])
    page = made.session.page
    out, seen = tmp_path / "stopped", itertools.count()
    with made.desk.plugged():
        # Asked before a suite and before each of its units: the second suite has not begun.
        robustmix.evaluate(
            "last.pth", None, ["mirrored"], limit=IMAGES, out=out,
            should_stop=lambda: next(seen) >= 2,
        )  # fmt: skip
    other = replace(made.desk, folder=tmp_path)
    (tmp_path / "mirrored.py").write_text(page.files["mirrored.py"] + "\n# another version\n")
    shutil.copy(made.desk.folder / "last.pth", tmp_path)
    with other.plugged():
        said = typed("robustmix eval last.pth --suite mirrored --resume --out stopped")
    assert said.code == 5
    assert "has another parameters of suite mirrored" in said.err


# where the plugin is not there


@every_toy
def test_without_it_reports_are_shown_as_before(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    lines = [f"robustmix report {what}" for what in ("show a", "md a", "csv a", "html a")]
    pages: list[str] = []
    said: list[list[Said]] = []
    for place in (made.desk.plugged, made.desk.bare):
        with place():
            said.append([typed(line) for line in lines])
            pages.append(Path("report.html").read_text())
    assert said[0] == said[1]
    assert {done.code for done in said[0]} == {0}
    assert pages[0] == pages[1]


@every_toy
def test_without_it_numbers_are_judged_as_before(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    compare = f"robustmix compare a b --metric '{toy.path}' --json -"
    check = "robustmix check b --baseline a --gate point --json -"
    if toy.page == "metric":
        check += " --metric 'clean.sure>=0.01'"
    with made.desk.plugged():
        (row,), judged = compared(typed(compare)), judgement(typed(check))
    with made.desk.bare():
        (bare,), told = compared(typed(compare)), typed(check)
    missing = f"needs the plugin {made.session.page.origin}, which is not installed"
    if toy.page == "metric":  # no column of the rows holds it
        assert (bare["a"], bare["b"]) == (row["a"], row["b"])
        assert (bare["verdict"], bare["reason"]) == ("not tested", missing)
        rule = judgement(told)[toy.path]
        assert (told.code, rule["outcome"]) == (4, "incomplete")
        assert missing in rule["message"]
        return
    assert bare == row
    assert judgement(told) == judged
    assert (told.code, judged[GATED[toy.page]]["outcome"]) == (1, "fail")


@every_toy
def test_without_it_validate_says_what_is_missing(toy: Toy, evaluated: Evaluate) -> None:
    made = evaluated(toy)
    module, version = made.session.page.origin.split()
    with made.desk.bare():
        said = typed("robustmix report validate a")
    if toy.page == "corruption":
        assert (said.code, said.err) == (0, "")
        assert said.out == "a: the schema holds, and every number is what its rows give\n"
        return
    assert said.code == 3
    assert said.err == {
        "metric": f"error[E-NO-PLUGIN]: metric 'clean.sure' came from module {module} version "
        f"{version}; import it with --import FILE_OR_MODULE\n"
    }.get(
        toy.page,
        f"error[E-PLUGIN-ABSENT]: suite {toy.suite} came from {module} {version}, which is not "
        "here; install it, or import its file with --import\n",
    )


def test_two_versions_of_it_are_told_apart(evaluated: Evaluate) -> None:
    made = evaluated(TOYS[0])
    folder, version = made.desk.folder, made.session.page.version
    shutil.copytree(folder / "b", folder / "older", dirs_exist_ok=True)
    text = (folder / "b" / "report.json").read_text()
    (folder / "older" / "report.json").write_text(text.replace(version, "0.3"))
    with made.desk.plugged():
        said = typed("robustmix compare a older --json -")
    (comparison,) = json.loads(said.out)["comparisons"]
    told = f"W-PLUGIN: suite mirrored came from mirrored {version} in A, from mirrored 0.3 in B"
    assert told in comparison["warnings"]


# plugins with faults

BROKEN = '''
from dataclasses import dataclass
from mirrored import Mirrored, PreparedMirrored
from robustmix import register


@register.attack("torn")
def torn(model, images, labels, *, eps):
    """Raises."""
    raise RuntimeError("no such luck")


@register.metric("clean.torn")
def torn_metric(rows):
    """Raises too."""
    return 1 / 0


@register.attack("empty")
def empty(model, images, labels, *, eps):
    """Gives what is no number."""
    return images * float("nan")


@dataclass(frozen=True, kw_only=True)
class PreparedTwisted(PreparedMirrored):
    kind = "twisted"

    def numbers(self, rows):
        return {("", "acc"): lambda: rows.share("mirrored", "no such column")}


@register.suite("twisted")
@dataclass(frozen=True, kw_only=True)
class Twisted(Mirrored):
    """Asks for a column that there is not."""

    recorded = PreparedTwisted

    def prepare(self, scene):
        return PreparedTwisted(axis=self.axis)
'''


def test_what_is_broken_fails_alone(evaluated: Evaluate) -> None:
    made = evaluated(TOYS[0])
    (made.desk.folder / "broken.py").write_text(BROKEN)
    line = (
        "robustmix eval last.pth --suite torn,empty,twisted,mirrored --axis vertical --masking off "
        "--out broken --import mirrored.py --import broken.py"
    )
    with made.desk.bare():
        said = typed(line)
    assert said.code == 4
    found = {key: part["status"] for key, part in made.desk.report("broken")["suites"].items()}
    assert found == {"clean": "ok", "mirrored": "ok"} | dict.fromkeys(
        ("torn", "empty", "twisted"), "failed"
    )
    assert ["mirrored", "acc", *made.cells, "vertical"] in said.rows
    torn = made.desk.report("broken")["suites"]["clean"]["metrics"]["torn"]
    assert (torn["value"], torn["ci"]) == (None, None)
    assert torn["reason"] == "broken raised ZeroDivisionError: division by zero"
    errors = [row for row in said.err.splitlines() if row.startswith("error[")]
    assert len(errors) == 3
    for told in (
        "error[E-ATTACK-RAISED]: the attack torn raised RuntimeError: no such luck; ",
        "error[E-ATTACK-RESULT]: ",
        "error[E-PLUGIN]: broken raised Undefined: the rows have no no such column",
    ):
        assert sum(error.startswith(told) for error in errors) == 1, (told, errors)


# methods


def test_a_method_trains_with_its_options(session: Follow) -> None:
    followed = session("method")
    folder, page = followed.desk.folder, followed.page
    recipe = tomllib.loads((folder / "run" / "recipe.toml").read_text())
    assert recipe["method"] == {"name": "halves", "share": 0.25}
    info = followed.of("robustmix methods info halves").told
    assert f"From {page.origin} " in info
    assert "share 0.5 Share of the width that stays the image's own, in [0, 1]." in info
    checkpoint = read_checkpoint(folder / "run" / "checkpoints" / "last.pth")
    origin = {"kind": "method", "name": "halves", "module": page.module, "version": page.version}
    assert list(checkpoint.plugins) == [origin]
    assert checkpoint.recipe["method"] == {"name": "halves", "share": 0.25}
    report = followed.desk.report("a")
    assert report["tool"]["plugins"] == [origin]
    assert report["model"]["training"]["method"] == "halves"


def test_a_method_is_what_the_network_is_trained_with(session: Follow) -> None:
    """With all of the width its own, an image is only itself, and the training is plain."""
    followed = session("method")
    line = next(line for line in followed.page.commands if " train " in line)
    whole = line.replace("share=0.25", "share=1.0").replace("--out run", "--out whole")
    plain = whole.replace("--set method.share=1.0 ", "").replace("halves", "vanilla", 1)
    plain = plain.replace("--out whole", "--out plain").partition(" --import")[0]
    losses = []
    with followed.desk.bare():
        assert (typed(whole).code, typed(plain).code) == (0, 0)
        for out in ("run", "whole", "plain"):
            losses.append(json.loads(Path(out, "metrics.jsonl").read_text())["train_loss"])
    assert losses[1] == pytest.approx(losses[2], rel=1e-6)
    assert losses[0] != pytest.approx(losses[2], rel=1e-6)


def test_the_loss_of_a_method_is_the_one_made_by_hand(session: Follow) -> None:
    batch = Batch(torch.randn(6, 3, 8, 8), torch.arange(6) % 4, torch.arange(6))
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with session("method").desk.plugged():
        setup = Setup(rng=np.random.default_rng(5))
        method: Any = build_method("halves", network, {"share": 0.25}, setup)
        loss = method.training_step(batch).loss
    other = torch.from_numpy(np.random.default_rng(5).permutation(6))
    mixed = torch.cat([batch.images[..., :2], batch.images[other][..., 2:]], dim=3)
    logits = network(mixed)
    own, theirs = (nn.functional.cross_entropy(logits, batch.labels[i]) for i in (range(6), other))
    torch.testing.assert_close(loss, 0.25 * own + 0.75 * theirs)


@pytest.mark.parametrize(
    ("kind", "name"), [("method", "halves"), ("arch", "pooled"), ("dataset", "stripes")]
)
def test_without_it_training_cannot_go_on(kind: str, name: str, session: Follow) -> None:
    followed = session(kind)
    module, version = followed.page.origin.split()
    missing = (
        f"error[E-NO-PLUGIN]: {kind} '{name}' came from module {module} version {version}; "
        "import it with --import FILE_OR_MODULE\n"
    )
    lines = ["robustmix train --out run"]
    if kind != "method":  # which the deployed network does not need
        lines.append("robustmix eval run/checkpoints/last.pth --suite clean")
    with followed.desk.bare():
        for line in lines:
            assert typed(line) == Said("", missing, 3)
        assert typed("robustmix report validate a").code == 0


def test_another_version_of_a_method_goes_on_with_a_warning(
    session: Follow, tmp_path: Path
) -> None:
    followed = session("method")
    shutil.copytree(followed.desk.folder / "run", tmp_path / "run")
    (tmp_path / "halves.py").write_text(followed.page.files["halves.py"] + "\n# another version\n")
    line = next(line for line in followed.page.commands if " train " in line)
    with replace(followed.desk, folder=tmp_path).bare():
        said = typed(f"{line} --progress plain")
    assert said.code == 0
    told = " ".join(said.err.split())
    warned = f"W-PLUGIN: method 'halves' came from {followed.page.origin}, now from halves sha256:"
    assert warned in told


# corruptions


def test_a_corruption_joins_no_fixed_set(session: Follow) -> None:
    with session("corruption").desk.plugged():
        assert select_corruptions("all") == NAMES
        assert "posterise" not in select_corruptions("main,extra")
        assert select_corruptions("all,posterise") == (*NAMES, "posterise")
        assert len(typed("robustmix list corruptions").out) > 0
    with pytest.raises(UsageError, match="unknown corruption 'posterise'"):
        select_corruptions("posterise")


def test_a_corruption_is_written_and_drawn(session: Follow) -> None:
    followed = session("corruption")
    array = np.load(followed.desk.folder / "set" / "posterise.npy")
    pixels = load_dataset("digits", "test").pixels.take(torch.arange(500)).permute(0, 2, 3, 1)
    want = torch.cat([pixels - pixels % 2 ** (2 + severity) for severity in range(1, 6)])
    assert np.array_equal(array, want.numpy())
    assert sorted(path.name for path in (followed.desk.folder / "set").glob("*.npy")) == [
        "labels.npy", "posterise.npy",
    ]  # fmt: skip
    assert (followed.desk.folder / "look.png").stat().st_size > 1000
    with followed.desk.plugged():
        verified = typed("robustmix corrupt verify set --dataset digits").told
    assert verified.endswith("posterise yes - - - ok labels yes - - - ok")


def test_released_files_do_not_hold_a_corruption_of_others(tmp_path: Path) -> None:
    data, model = replace(tiny_images(12), name="cifar100"), tiny_model()
    (tmp_path / "CIFAR-100-C").mkdir()
    with CORRUPTIONS.temporary():
        register.corruption("mine", lambda images, severity: images >> severity)
        evaluate = partial(robustmix.evaluate, model, data, data_dir=tmp_path)
        alone = evaluate([Corruption(corruptions="mine", severity=(1,))])
        details = alone.content.suites["corruption"].details
        assert (details["source"], details["corruptions"]) == ("generated", ["mine"])
        both = Corruption(corruptions="mine,fog", severity=(1,))
        official = Corruption(corruptions="mine", severity=(1,), corruption_source="official")
        for suite in (both, official):
            with pytest.raises(UsageError) as caught:
                evaluate([suite])
            assert caught.value.line() == (
                f"error[E-CORRUPTION-SOURCE]: {tmp_path / 'CIFAR-100-C'} holds the benchmark's "
                "corruptions, and mine is none of them; give --corruption-source generate, or "
                "--corruptions mine by itself"
            )
        made = evaluate([replace(both, corruption_source="generate")])
        assert made.content.suites["corruption"].details["source"] == "generated"


# architectures, data sets, saliency


def test_an_architecture_is_trained_and_read_back(session: Follow) -> None:
    followed = session("arch")
    folder, page, report = followed.desk.folder, followed.page, followed.desk.report("a")
    origin = {"kind": "arch", "name": "pooled", "module": page.module, "version": page.version}
    assert report["tool"]["plugins"] == [origin]
    checkpoint = read_checkpoint(folder / "run" / "checkpoints" / "last.pth")
    assert (list(checkpoint.plugins), checkpoint.arch) == ([origin], "pooled")
    assert report["model"]["params"] == (27 + 1) * 16 + (16 * 9 + 1) * 32 + (32 + 1) * 10
    names: dict[str, Any] = {}
    source = page.files["pooled.py"].replace('@register.arch("pooled")', "")
    exec(compile(source, "pooled.py", "exec"), names)
    network = names["pooled"](10)
    network.load_state_dict(checkpoint.model)
    samples = Samples.load(folder / "a" / "samples.npz")
    data = load_dataset("digits", "test")
    places = torch.tensor([data.sample_ids.index(name) for name in samples.sample_ids])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (checkpoint.mean, checkpoint.std))
    answers = predicted(network, (data.pixels.take(places).float() / 255 - mean) / std)
    assert np.array_equal(samples.tables["clean"].at("clean")["pred"], answers.argmax(dim=1))


def test_a_data_set_is_trained_on_and_evaluated(session: Follow) -> None:
    followed = session("dataset")
    page, report = followed.page, followed.desk.report("a")
    origin = {"kind": "dataset", "name": "stripes", "module": page.module, "version": page.version}
    assert report["tool"]["plugins"] == [origin]
    dataset = report["dataset"]
    assert (dataset["name"], dataset["n"], dataset["n_total"]) == ("stripes", 50, 50)
    checkpoint = read_checkpoint(followed.desk.folder / "run" / "checkpoints" / "last.pth")
    assert list(checkpoint.plugins) == [origin]
    assert (checkpoint.input_size, checkpoint.class_names) == ((3, 16, 16), ("lying", "upright"))
    assert checkpoint.mean == (0.5, 0.5, 0.5)
    with followed.desk.plugged():
        data = load_dataset("stripes", "test")
    images = data.pixels.take(torch.arange(50))
    lying = (images == images[..., :1]).all(dim=3).all(dim=2).all(dim=1)
    assert torch.equal(lying, data.labels == 0)
    ids = Samples.load(followed.desk.folder / "a" / "samples.npz").sample_ids
    assert ids == data.sample_ids
    (forecast,) = (said for line, said in followed.said.items() if "--dry-run" in line)
    assert "data: stripes (test), 50 images; made by the program" in forecast.out


def test_a_source_of_saliency_can_be_registered() -> None:
    def corner(explained: Explained) -> Tensor:
        """Nearness to the upper left."""
        height, width = explained.size
        down, across = torch.arange(height).view(-1, 1), torch.arange(width)
        return (height + width - down - across).float().expand(len(explained.images), -1, -1)

    with TABLES["saliency"].temporary():
        register.saliency("corner", corner, of_the_model=False)
        assert TABLES["saliency"].row("corner").help == "Nearness to the upper left."
        report = robustmix.evaluate(
            tiny_model(), tiny_images(20), ["occlusion"], mode="salient", saliency="corner",
            grid="4x4", ratios="0.25", trials=1,
        )  # fmt: skip
    part = report.content.suites["occlusion"]
    assert part.status == "ok", part.reason
    assert [(one.kind, one.name) for one in part.origins] == [("saliency", "corner")]
    assert part.params["saliency"]["source"] == "corner"


# installed packages


def installed(folder: Path) -> dict[str, str]:
    """Install the files of all pages as one package, by the entry points that the pages name."""
    package, info = folder / "my_package", folder / "my_package-3.1.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 3.1\n")
    lines = []
    for kind in KINDS:
        page = Page(kind)
        for name, text in page.files.items():
            (package / name).write_text(text)
        for group, points in page.entry_points.items():
            lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


SCRIPT = """
import json, sys
import robustmix
from robustmix.cli.app import run
from robustmix.corruptions import NAMES
from robustmix.evaluation.suites.corruption import select_corruptions
from tests.extending.pages import TABLES

for kind, table in TABLES.items():
    for name in table:
        if table.origin(name) is not None:
            found = table.load(name)
            print("found", kind, name, table.origin(name), callable(found) or found.name)
assert select_corruptions("all") == NAMES
print("group", TABLES["corruption"].row("posterise").group)
assert not any(table.refused for table in TABLES.values())
sys.exit(
    run(["list", "suites"])
    or run("eval last.pth --suite mirrored,corruption --axis vertical --corruptions posterise "
           "--severity 5 --limit 60 --out a --progress none".split())
    or run(["report", "validate", "a"])
    or run("eval last.pth --dataset stripes --dry-run".split())
)
"""


def test_a_package_needs_neither_import_nor_registering(
    evaluated: Evaluate, tmp_path: Path
) -> None:
    """The very files of the pages serve as modules of a package, decorators included."""
    environment = installed(tmp_path)
    environment["PYTHONPATH"] += os.pathsep + str(ROOT)
    suite, corruption = evaluated(TOYS[0]), evaluated(TOYS[3])
    shutil.copy(suite.desk.folder / "last.pth", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [line.split(" ", 3) for line in done.stdout.splitlines() if line.startswith("found ")]
    names = {"suite": "mirrored", "attack": "shade", "metric": "clean.sure", "method": "halves",
             "corruption": "posterise", "arch": "pooled", "dataset": "stripes"}  # fmt: skip
    assert {kind: name for _, kind, name, _ in found} == names
    for _, kind, _, origin in found:
        assert origin.startswith(f"my_package.{Page(kind).module} 3.1 ")
    assert "group digital\n" in done.stdout
    listed = " ".join(done.stdout.split())
    assert "mirrored Accuracy when images are mirrored. (from my_package.mirrored 3.1)" in listed
    # The last command: a network of ten classes is not for two.
    assert done.returncode == 3, done.stderr
    assert "error[E-CLASSES]: the model has 10 classes, stripes has 2; " in done.stderr
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    suites = report["suites"]
    assert suites["mirrored"]["metrics"]["acc"]["value"] == pytest.approx(suite.a.mean())
    (condition,) = (c for c in suites["corruption"]["conditions"] if c["name"] == "posterise/5")
    assert condition["metrics"]["acc"]["value"] == pytest.approx(corruption.a.mean())
    assert suites["mirrored"]["origins"] == [
        {"kind": "suite", "name": "mirrored", "module": "my_package.mirrored", "version": "3.1"}
    ]
    assert {one["name"] for one in report["tool"]["plugins"]} == {
        "mirrored", "posterise", "clean.sure",
    }  # fmt: skip


def test_an_entry_point_and_a_decorator_are_one_thing_and_no_other(tmp_path: Path) -> None:
    environment = installed(tmp_path)
    code = """
from robustmix.attacks.registry import ATTACKS
from robustmix.corruptions.registry import CORRUPTIONS
from robustmix.errors import UsageError
import my_package.posterise, my_package.shade  # before anything asks for them by name
assert CORRUPTIONS.row("posterise").group == "digital"
assert str(CORRUPTIONS.origin("posterise")) == "my_package.posterise 3.1"
for table, name, thing in (
    (ATTACKS, "shade", my_package.shade.shade), (ATTACKS, "shade", len),
    (ATTACKS, "fgsm", __import__("robustmix").attacks.fgsm),
):
    try:
        table.register(name, thing)
    except UsageError as error:
        print(error.line())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    taken = "error[E-NAME-TAKEN]: attack '{}' exists already, from {}; choose another name"
    shade = taken.format("shade", "my_package.shade 3.1")
    assert done.stdout.splitlines() == [shade, shade, taken.format("fgsm", "robustmix itself")]


# what README promises


def test_readme_counts_what_the_pages_take() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Adding to it")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| an? ([\w ]+) \| (.*) \| (.*) \|$", section, re.M)
    called = {"training method": "method", "architecture": "arch", "data set": "dataset"}
    assert [called.get(name, name) for name, *_ in rows] == list(KINDS)
    for name, here, outside in rows:
        kind = called.get(name, name)
        page = Page(kind)
        assert f"(docs/extend/{kind}.md)" in outside
        code = [file for file in page.files if file.endswith(".py")]
        manifests = [file for file in page.files if file.endswith(".json")]
        registered = len(re.findall(r"^@register\.", "".join(page.files.values()), re.M))
        needed = {"file": len(code), "manifest": len(manifests), "row": registered}
        assert counted(here) == {what: n for what, n in needed.items() if n}
        assert counted(outside) == {what: n for what, n in needed.items() if n and what != "row"}
        for place in re.findall(r"`([\w/]+/)", here):
            assert (ROOT / place).is_dir()
        assert len(code) == 1
        assert 10 <= len(page.files[code[0]].splitlines()) <= 55


def counted(text: str) -> dict[str, int]:
    """Read ``1 file ..., 1 row ...``; a function is as good as a file of its own."""
    found = re.findall(r"\b(\d) (file|function|manifest|row)\b", text)
    return {what.replace("function", "file"): int(number) for number, what in found}


def test_the_index_names_every_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\((\w+)\.md\)", index)
    assert sorted(linked) == sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "index")
    assert sorted(linked) == sorted(KINDS)
    assert {kind for kind in KINDS if f"`robustmix.{LISTS[kind]}`" in index} == set(KINDS)
