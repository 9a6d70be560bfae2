"""AdAutoMix's step against the released class: consecutive steps, every number they recorded."""

import ast
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.methods.adautomix import AdAutoMix, AdAutoMixConfig, AdAutoMixDraws, Terms
from robustmix.methods.method import Setup, top1
from robustmix.models.resnet import ResNet
from robustmix.models.taps import classifier_layer
from tests.reference.vectors import reference_params

pytestmark = pytest.mark.usefixtures("one_thread")


class Vectors:
    """One file: its settings, and arrays by the rest of their names."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as archive:
            cases = {key.split("/")[0] for key in archive.files}
            assert len(cases) == 1
            (self.name,) = cases
            self.arrays = {key.partition("/")[2]: archive[key] for key in archive.files}
        self.cfg: dict[str, Any] = ast.literal_eval(str(self.arrays["cfg"]))

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {
            key.removeprefix(prefix): self.tensor(key)
            for key in self.arrays
            if key.startswith(prefix)
        }


def method_of(vectors: Vectors, passes: Literal["auto", "plain"]) -> AdAutoMix:
    cfg = vectors.cfg
    network = ResNet(cfg["K"], block="basic", depths=(2, 2, 2, 2), stem="cifar", width=cfg["base"])
    config = AdAutoMixConfig(
        mix_samples=cfg["N"],
        beta=cfg["beta"],
        lam_margin=cfg["lam_margin"],
        lam_concat=cfg["lam_concat"],
        upsample=cfg["mode"],
        use_scale=cfg.get("use_scale", True),
        reduction=cfg.get("red", 2),
        att_norm=cfg.get("norm") is not None,
        passes=passes,
    )
    setup = Setup(rng=np.random.default_rng(0), input_size=(3, cfg["sz"], cfg["sz"]))
    method = AdAutoMix(network, config, setup)
    load(method, vectors.under("init/"))
    return method.train()


def parts(method: AdAutoMix) -> dict[str, nn.Module]:
    """Our modules by the released names."""
    pair = method.pair
    return {
        "backbone_q": pair.network_q,
        "backbone_k": pair.network_k,
        "head_one_q.fc": classifier_layer(pair.network_q),
        "head_one_k.fc": classifier_layer(pair.network_k),
        "head_mix_q.fc": pair.head_mix_q,
        "head_mix_k.fc": pair.head_mix_k,
        "mix_block": method.generator,
    }


def load(method: AdAutoMix, state: Mapping[str, Tensor]) -> None:
    for name, part in parts(method).items():
        mine = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
        assert mine, name
        missing, unexpected = part.load_state_dict(mine, strict=False)
        assert not unexpected
        assert all(key.startswith("fc.") or key.endswith("num_batches_tracked") for key in missing)


def lookup(method: AdAutoMix, name: str) -> Tensor:
    """The parameter or buffer of a released name."""
    for prefix, part in parts(method).items():
        if name.startswith(f"{prefix}."):
            tensors = dict(part.named_parameters()) | dict(part.named_buffers())
            return tensors[name.removeprefix(f"{prefix}.")]
    raise KeyError(name)


def draws_of(vectors: Vectors, step: str) -> AdAutoMixDraws:
    lam = vectors.tensor(f"{step}/lam_used").tolist()
    index_mb, index_bb = (vectors.tensor(f"{step}/index_{b}") for b in ("mb", "bb"))
    if vectors.cfg["N"] > 2:
        return AdAutoMixDraws(tuple(lam), tuple(lam), index_mb, index_bb)
    own = torch.arange(vectors.cfg["b"])
    mb, bb = (torch.stack([own, index.flatten()]) for index in (index_mb, index_bb))
    return AdAutoMixDraws((lam[0], 1 - lam[0]), (lam[1], 1 - lam[1]), mb, bb)


def check(name: str, got: Tensor | None, want: Tensor, *, rtol: float = 0, atol: float = 0) -> None:
    assert got is not None, name
    got = got.detach().to(want.dtype).reshape(want.shape)
    torch.testing.assert_close(got, want, rtol=rtol, atol=atol, msg=lambda m: f"{name}: {m}")


def check_terms(vectors: Vectors, step: str, terms: Terms) -> None:
    student, generator = terms.student, terms.generator
    assert generator is not None
    assert terms.skipped == 0
    assert terms.adversarial == bool(vectors.arrays[f"{step}/is_adversarial"])
    for name, got in (
        ("mask_mb_raw", terms.mask_mb),
        ("mask_bb_raw", terms.mask_bb),
        ("img_mix_mb", terms.mixed_mb),
        ("img_mix_bb", terms.mixed_bb),
    ):
        check(f"{step} {name}", got, vectors.tensor(f"{step}/{name}"), atol=3e-6)
    for name, got in (
        ("loss_one_q", student.loss_one),
        ("loss_linear_mix_q", student.loss_linear),
        ("loss_mix_q", student.loss_mix),
        ("loss_mix_k_ce", generator.loss_mix),
        ("cos_term", generator.cosine),
        ("loss_k_total", generator.loss),
        ("loss_total", terms.loss),
        ("logits_one_q", student.logits_one),
        ("logits_linear_mix_q", student.logits_linear),
        ("logits_mix_q", student.logits_mix),
        ("logits_mix_k", generator.logits_mix),
    ):
        if f"{step}/{name}" in vectors.arrays:
            want = vectors.tensor(f"{step}/{name}")
            check(f"{step} {name}", got, want, rtol=2e-6, atol=4e-6 if "logits" in name else 2e-6)
        else:
            assert got is None


def check_accuracies(vectors: Vectors, step: str, terms: Terms, draws: AdAutoMixDraws) -> None:
    labels = vectors.tensor(f"{step}/label")
    student, generator = terms.student, terms.generator
    assert generator is not None
    first_bb, first_mb = labels[draws.index_bb[0]], labels[draws.index_mb[0]]
    clean = 100 * top1(student.logits_one, labels)
    if student.logits_linear is not None:
        clean = (clean + 100 * top1(student.logits_linear, first_bb)) / 2
    for name, got in (
        ("acc_one_q", clean),
        ("acc_mix_q", 100 * top1(student.logits_mix, first_bb)),
        ("acc_mix_k", 100 * top1(generator.logits_mix, first_mb)),
    ):
        check(f"{step} {name}", got, vectors.tensor(f"{step}/{name}"), rtol=1e-5)


def check_gradients(vectors: Vectors, step: str, method: AdAutoMix) -> None:
    for name, want in vectors.under(f"{step}/grad/").items():
        got = lookup(method, name).grad
        # What is zero but for rounding is measured against the whole generator's gradient.
        check(f"{step} grad {name}", got, want, atol=max(2e-5 * float(want.abs().max()), 1e-6))
    for name, want in vectors.under(f"{step}/gradnorm_each/").items():
        got = lookup(method, name).grad
        assert got is not None, name
        check(f"{step} norm {name}", got.double().norm(), want, rtol=2e-5, atol=2e-6)
    for name, want in vectors.under(f"{step}/gradnorm/").items():
        grads = [p.grad for key, p in named(method, name)]
        if bool(want.isnan()):
            assert all(grad is None for grad in grads), name
        else:
            total = torch.stack([g.double().norm() for g in grads if g is not None]).norm()
            check(f"{step} norm {name}", total, want, rtol=2e-5)


def named(method: AdAutoMix, module: str) -> list[tuple[str, nn.Parameter]]:
    part = parts(method).get(module) or parts(method)[f"{module}.fc"]
    skip = "fc." if module.startswith("backbone") else "-"
    return [(n, p) for n, p in part.named_parameters() if not n.startswith(skip)]


def check_state(vectors: Vectors, step: str, method: AdAutoMix) -> None:
    for name, want in vectors.under(f"{step}/after/").items():
        exact = name.endswith("num_batches_tracked")
        check(
            f"{step} after {name}",
            lookup(method, name),
            want,
            rtol=0 if exact else 1e-6,
            atol=0 if exact else 1e-6 * float(want.abs().max()),
        )
    for name, want in vectors.under(f"{step}/after_sum/").items():
        values = lookup(method, name).detach().double()
        got = torch.stack([values.sum(), values.norm()])
        check(f"{step} sum {name}", got, want, rtol=1e-6, atol=2e-6 * float(values.abs().sum()))


def optimizer_of(vectors: Vectors, method: AdAutoMix) -> torch.optim.Optimizer:
    cfg = vectors.cfg
    student = [p for p in method.pair.parameters() if p.requires_grad]
    groups = [
        {"params": student, "lr": cfg["lr"]},
        {"params": list(method.generator.parameters()), "lr": cfg.get("lr_mb", cfg["lr"])},
    ]
    return torch.optim.SGD(groups, momentum=0.9, weight_decay=cfg["wd"])


def one_step(
    vectors: Vectors, step: str, method: AdAutoMix, optimizer: torch.optim.Optimizer
) -> None:
    """Make a recorded step and compare everything that was recorded of it."""
    draws = draws_of(vectors, step)
    terms = method.step(vectors.tensor(f"{step}/img"), vectors.tensor(f"{step}/label"), draws)
    check_terms(vectors, step, terms)
    check_accuracies(vectors, step, terms, draws)
    optimizer.zero_grad()
    torch.autograd.backward(terms.loss)
    check_gradients(vectors, step, method)
    optimizer.step()
    method.settle()
    method.pair.update(float(vectors.arrays[f"{step}/momentum"]))
    check_state(vectors, step, method)


@pytest.mark.parametrize("path", reference_params("adautomix_step*.npz"))
def test_consecutive_steps(path: Path) -> None:
    vectors = Vectors(path)
    method = method_of(vectors, "plain")
    optimizer = optimizer_of(vectors, method)
    for number in range(vectors.cfg["steps"]):
        one_step(vectors, f"step{number}", method, optimizer)
    method.eval()
    with torch.no_grad():
        heads = method.pair.heads_logits(vectors.tensor("eval/img"))
        deployed = method.classifier()(vectors.tensor("eval/img"))
    for head, logits in heads.items():
        check(f"eval {head}", logits, vectors.tensor(f"eval/acc_{head}"), rtol=2e-6, atol=4e-6)
    assert torch.equal(deployed, heads["one_k"])


@pytest.mark.parametrize("path", reference_params("adautomix_step*.npz"))
def test_every_step_in_the_fewest_passes(path: Path) -> None:
    """Each from the state of the plain steps, lest rounding that flips a ReLU adds up."""
    vectors = Vectors(path)
    plain, fast = method_of(vectors, "plain"), method_of(vectors, "auto")
    assert fast.plain_because is None
    optimizers = [optimizer_of(vectors, method) for method in (plain, fast)]
    for number in range(vectors.cfg["steps"]):
        fast.load_state_dict(plain.state_dict())
        optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
        for method, optimizer in zip((plain, fast), optimizers, strict=True):
            one_step(vectors, f"step{number}", method, optimizer)
