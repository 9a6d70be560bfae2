import ast
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import robustmix.methods
from robustmix.cli.app import run
from robustmix.errors import IntakeError, UsageError
from robustmix.methods import METHODS, Method, PairMixing, Setup
from robustmix.methods.method_card import method_card
from robustmix.methods.momentum_pair import as_teacher_method
from robustmix.methods.registry import build_method, config_class, method_config, method_options
from robustmix.models.checkpoint import read_checkpoint
from robustmix.models.registry import build_model
from robustmix.tables import import_plugin
from robustmix.training import train
from tests.training.runs import TRANSFORMER, WITH_TEACHER, trained_network

SHARED = {
    ("pair_mixing", "PairMixing"),
    ("momentum_mixing", "MomentumMixing"),
    ("pair_masks", "PairMasks"),
}
"""Classes that methods are made of."""


def test_every_class_that_trains_is_in_the_table_once() -> None:
    """A class with a classifier to deploy, in whatever file; protocols and shared ones are none."""
    found = set()
    for path in Path(robustmix.methods.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.bases:
                thing = getattr(import_module(f"robustmix.methods.{path.stem}"), node.name)
                protocol = getattr(thing, "_is_protocol", False)
                if hasattr(thing, "classifier") and not protocol:
                    found.add((path.stem, node.name))
    targets = [str(row.target) for row in METHODS.rows().values() if row.origin is None]
    assert {f"robustmix.methods.{file}:{name}" for file, name in found - SHARED} == set(targets)
    assert len(targets) == len(set(targets))
    assert found >= SHARED


@pytest.mark.parametrize("name", METHODS)
def test_every_row_says_what_its_method_is(name: str) -> None:
    row, method = METHODS.row(name), METHODS[name]
    assert row.help
    assert not row.help.endswith(".")
    assert row.target == f"{method.__module__}:{method.__name__}"
    assert config_class(name).__name__ == f"{method.__name__}Config"


HALF = '''
from dataclasses import dataclass
from robustmix.methods import METHODS, PairMixing, blend_pairs

@dataclass(frozen=True, kw_only=True)
class HalfConfig:
    share: float = 0.5
    """What an image keeps of itself."""

class Half(PairMixing):
    """Each image and the next.

    Method card
        Does: it shifts.
    """

    config: HalfConfig

    def mix(self, batch, *, lam=None, perm=None):
        perm = batch.indices.new_tensor(range(len(batch.images))).roll(1) if perm is None else perm
        own = self.config.share if lam is None else lam
        return blend_pairs(own * batch.images + (1 - own) * batch.images[perm], perm, own)

METHODS.register("half", Half, cost=4, paper="Half 2030")
'''


def test_a_file_adds_a_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "half.py").write_text(HALF)
    with METHODS.temporary():
        import_plugin(str(tmp_path / "half.py"))
        origin = str(METHODS.origin("half"))
        assert origin.startswith("half sha256:")
        card = method_card("half")
        assert (card.summary, card.does, card.passes) == (
            "Each image and the next.",
            "it shifts.",
            4,
        )
        assert (card.paper, card.status, card.origin) == ("Half 2030", "untested", origin)
        assert card.cost == "4 forward passes a step."
        (option,) = card.parameters
        assert (option.default, option.meaning) == (0.5, "What an image keeps of itself.")
        for command in (["list", "methods"], ["methods", "list"], ["methods", "info", "half"]):
            assert run(command) == 0
            shown = " ".join(capsys.readouterr().out.split())
            assert "Each image and the next" in shown  # what follows may be in another line
            assert origin in shown
        assert run(["methods", "list", "--json"]) == 0
        row = json.loads(capsys.readouterr().out)[-1]
        assert (row["name"], row["origin"], row["cost"]) == ("half", origin, 4)
        settings: dict[str, Any] = {"epochs": 1, "limit_train": 8, "limit_val": 8, "device": "cpu"}
        done = train("digits-resnet8-vanilla", out=tmp_path, method="half", **settings)
        saved = read_checkpoint(done.last)
        assert saved.recipe["method"] == {"name": "half", "share": 0.5}
        with pytest.raises(UsageError, match="method half has no generator"):
            train("digits-resnet8-vanilla", out=tmp_path, method="half", generator_lr=0.1)
    assert "half" not in METHODS


class Nameless(PairMixing):
    """It does not say what its options are."""


@dataclass
class LastingConfig:
    share: float


class Lasting(PairMixing):
    """One of its options has no default."""

    config: LastingConfig


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Nameless, "does not name its options; annotate their dataclass, config: MyConfig"),
        (Lasting, "has no default for its option share; give it one"),
    ],
)
def test_a_foreign_method_without_options_to_read_is_refused(
    method: type[PairMixing], message: str
) -> None:
    with METHODS.temporary():
        METHODS.register("toy", method)
        with pytest.raises(IntakeError) as error:
            method_config("toy", {})
        assert str(error.value) == f"method toy of {METHODS.origin('toy')} {message}"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_and_deploys_its_network(name: str) -> None:
    arch = TRANSFORMER["arch"] if name == "transmix" else "resnet8"
    network = build_model(arch, num_classes=3, input_size=(3, 32, 32), generator=None)
    setup = Setup(rng=np.random.default_rng(0), input_size=(3, 32, 32))
    options = {"teacher": str(trained_network())} if name in WITH_TEACHER else {}
    method = build_method(name, network, options, setup)
    trained = {id(p) for p in method.parameters() if p.requires_grad}
    assert {id(p) for p in network.parameters()} <= trained
    classifier = cast(Method, method).classifier()
    taught = as_teacher_method(method)
    if taught is not None:
        assert classifier is taught.pair.network_k
        assert classifier.state_dict().keys() == network.state_dict().keys()
        heads = {id(p) for p in taught.pair.head_mix_q.parameters()}
        own = {id(p) for p in taught.generator.parameters()}
        assert trained == {id(p) for p in network.parameters()} | heads | own
    else:
        assert classifier is network
        assert trained == {id(p) for p in network.parameters()}


def test_options_are_checked_and_completed() -> None:
    assert method_options("mixup", {}) == {"alpha": 1.0, "pipeline": "none"}
    assert method_options("cutmix", {"alpha": 1}) == {"alpha": 1.0, "pipeline": "none"}
    assert method_options("vanilla", {}) == {}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mixupp", {}, "unknown method 'mixupp'; did you mean 'mixup'?"),
        ("mixup", {"alhpa": 1.0}, "unknown option of method mixup 'alhpa'; did you mean 'alpha'?"),
        ("vanilla", {"alpha": 1.0}, "method vanilla has no options, got 'alpha'"),
        ("mixup", {"alpha": "x"}, "method.alpha: expected float, got 'x'"),
        ("cutmix", {"alpha": 0.0}, "method cutmix: expected a finite alpha > 0, got 0.0"),
    ],
)
def test_wrong_options_are_one_line(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        method_config(name, options)
    assert str(error.value) == message


def test_a_bool_is_no_number() -> None:
    with pytest.raises(UsageError, match="expected float, got True"):
        method_config("mixup", {"alpha": True})


def test_draws_come_from_the_given_generator_only() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    robustmix.methods.draw_mixup(5, 1.0, np.random.default_rng(0))
    robustmix.methods.draw_cutmix(5, (5, 7), 1.0, np.random.default_rng(0))
    assert torch.equal(torch.get_rng_state(), before)
