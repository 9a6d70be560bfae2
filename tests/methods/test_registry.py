import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

import robustmix.methods
from robustmix.errors import UsageError
from robustmix.methods import METHOD_INFO, METHODS, Method, Setup, TeacherMethod
from robustmix.methods.registry import build_method, method_config, method_options
from robustmix.models.registry import build_model
from tests.training.runs import TRANSFORMER, WITH_TEACHER, trained_network

NOT_METHODS = {
    *("__init__", "method_card", "losses", "names", "registry", "method", "momentum_pair"),
    *(
        "graph_cut",
        "grid_minimum",
        "mixing",
        "saliency",
        "sinkhorn",
        "trained_teacher",
        "transport",
    ),
}


def test_every_method_has_its_line_and_its_file() -> None:
    assert list(METHODS) == list(METHOD_INFO)
    folder = Path(robustmix.methods.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - NOT_METHODS == {
        name.replace("-", "") for name in METHODS
    }


def test_all_is_what_the_package_gives() -> None:
    for name in robustmix.methods.__all__:
        assert getattr(robustmix.methods, name) is not None
    with pytest.raises(AttributeError):
        _ = robustmix.methods.nothing


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys, robustmix.methods as m, robustmix.training as t;"
        "assert m.METHOD_INFO and t.list_recipes(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
    if isinstance(method, TeacherMethod):
        assert classifier is method.pair.network_k
        assert classifier.state_dict().keys() == network.state_dict().keys()
        heads = {id(p) for p in method.pair.head_mix_q.parameters()}
        own = {id(p) for p in method.generator.parameters()}
        assert trained == {id(p) for p in network.parameters()} | heads | own
    else:
        assert classifier is network
        assert trained == {id(p) for p in network.parameters()}


def test_options_are_checked_and_completed() -> None:
    assert method_options("mixup", {}) == {"alpha": 1.0}
    assert method_options("cutmix", {"alpha": 1}) == {"alpha": 1.0}
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
