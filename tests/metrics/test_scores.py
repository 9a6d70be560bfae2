import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, top_k_accuracy_score

from robustmix.errors import IncompleteError, UsageError
from robustmix.metrics import scores as scores_module
from robustmix.metrics.binned import expected_calibration_error
from robustmix.metrics.scores import Scores, label_losses, order_by_id, score_logits
from tests.metrics.calibration_fixture import fixture, softmax


def equal(a: Scores, b: Scores) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Scores))


def test_four_numbers_by_hand() -> None:
    # softmax of log(1, 2, 5) is 1/8, 2/8, 5/8.
    logits = np.log([[1.0, 2.0, 5.0], [5.0, 1.0, 2.0]])
    scores = score_logits(logits, [1, 0])
    assert scores.pred.tolist() == [2, 0]
    assert scores.correct.tolist() == [False, True]
    assert scores.rank.tolist() == [1, 0]
    np.testing.assert_allclose(scores.confidence, [5 / 8, 5 / 8], rtol=1e-15)
    np.testing.assert_allclose(scores.nll, [np.log(4), np.log(8 / 5)], rtol=1e-14)
    np.testing.assert_allclose(scores.brier, [(1 + 36 + 25) / 64, (9 + 1 + 4) / 64], rtol=1e-14)
    np.testing.assert_allclose(scores.margin, [np.log(5 / 2), np.log(5 / 2)], rtol=1e-14)


def test_equal_logits_rank_by_index() -> None:
    logits = np.array([[1.0, 3.0, 3.0, 0.0, 3.0]] * 5, dtype=np.float32)
    scores = score_logits(logits, np.arange(5))
    assert scores.pred.tolist() == [1] * 5
    assert scores.rank.tolist() == [3, 0, 1, 4, 2]
    assert scores.margin.tolist() == [0.0] * 5


def test_second_implementation_of_loss_brier_and_ranks() -> None:
    logits, labels = fixture()
    scores = score_logits(logits, labels)
    p = softmax(logits)
    assert scores.nll.mean() == pytest.approx(log_loss(labels, p), abs=1e-12)
    one_hot = np.eye(10)[labels]
    np.testing.assert_allclose(scores.brier, np.square(p - one_hot).sum(axis=1), atol=1e-14)
    for k in (1, 2, 5, 9):
        expected = top_k_accuracy_score(labels, logits, k=k, labels=range(10))
        assert (scores.rank < k).mean() == pytest.approx(expected, abs=1e-12)


def test_torch_agrees() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(37, 11, generator=generator)
    labels = torch.randint(11, (37,), generator=generator)
    scores = score_logits(logits, labels)
    loss = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    np.testing.assert_allclose(scores.nll, loss.numpy(), atol=1e-13)
    top = logits.double().topk(2, dim=1).values
    np.testing.assert_allclose(scores.margin, (top[:, 0] - top[:, 1]).numpy(), rtol=1e-14)
    confidence = logits.double().softmax(dim=1).amax(dim=1)
    np.testing.assert_allclose(scores.confidence, confidence.numpy(), rtol=1e-14)


def test_extreme_logits_lose_nothing() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [40.0, 0.0, 0.0]], dtype=np.float32)
    scores = score_logits(logits, [2, 0])
    assert scores.nll[0] == 2e4
    assert scores.confidence[0] == 1.0
    assert scores.brier[0] == 2.0
    # The wrong classes hold 2 exp(-40) in all, which 1 + sum(p^2) - 2p would round away.
    assert scores.brier[1] == pytest.approx(2 * np.exp(-80), rel=1e-9)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = fixture()
    whole = score_logits(logits, labels)
    monkeypatch.setattr(scores_module, "BLOCK", 170)
    assert equal(whole, score_logits(logits, labels))


def test_temperature_divides_the_logits() -> None:
    logits, labels = fixture()
    t = np.where(np.arange(1000) % 2 == 0, 2.0, 0.5)
    assert equal(
        score_logits(logits, labels, temperature=t), score_logits(logits / t[:, None], labels)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_trap_23_a_nan_is_no_wrong_prediction(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_module, "BLOCK", 35)
    logits = np.zeros((23, 7), dtype=np.float32)
    logits[[3, 11], 2] = bad
    labels = np.zeros(23, dtype=np.int64)
    with pytest.raises(IncompleteError, match=r"2 of 23 samples .*: 3, 11;") as caught:
        score_logits(logits, labels)
    assert caught.value.code == "E-NONFINITE"
    ids = [f"toy/test/{i}" for i in range(23)]
    with pytest.raises(IncompleteError, match=r": toy/test/3, toy/test/11;"):
        score_logits(logits, labels, sample_ids=ids)
    logits[:] = bad
    with pytest.raises(IncompleteError, match=r"23 of 23 .* 8, 9 and 13 more"):
        score_logits(logits, labels)


def test_trap_11_half_precision_is_refused_because_it_changes_the_ece() -> None:
    logits, labels = fixture()
    single, half = logits.astype(np.float32), logits.astype(np.float16).astype(np.float32)
    errors = [
        expected_calibration_error(s.confidence, s.correct, 15)
        for s in (score_logits(single, labels), score_logits(half, labels))
    ]
    assert abs(errors[0] - errors[1]) > 1e-6
    for rounded in (
        logits.astype(np.float16),
        torch.from_numpy(logits).half(),
        torch.from_numpy(logits).bfloat16(),
    ):
        with pytest.raises(UsageError, match=r"float32 or float64 logits, got b?float16"):
            score_logits(rounded, labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 3], r"labels in \[0, 2\], got 0 to 3"),
        ([-1, 1, 2], "got -1 to 2"),
        ([0, 1], "expected 3 integer labels"),
        ([0.0, 1.0, 2.0], "float64"),
        ([True, False, True], "bool"),
    ],
)
def test_labels_that_do_not_fit(labels: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score_logits(np.zeros((3, 3)), labels)


@pytest.mark.parametrize("shape", [(0, 3), (3,), (3, 1), (2, 3, 4)])
def test_shapes_that_are_no_logits(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="expected logits"):
        score_logits(np.zeros(shape), np.zeros(shape[0], dtype=np.int64))


def test_each_id_names_one_sample() -> None:
    logits, labels = np.zeros((3, 2)), np.zeros(3, dtype=np.int64)
    with pytest.raises(UsageError, match="'b' occurs twice"):
        score_logits(logits, labels, sample_ids=["a", "b", "b"])
    with pytest.raises(UsageError, match="expected 3 sample ids, got 2"):
        score_logits(logits, labels, sample_ids=["a", "b"])


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_temperatures_that_cannot_be(temperature: float) -> None:
    with pytest.raises(UsageError, match="finite and > 0"):
        score_logits(np.zeros((3, 2)), [0, 1, 0], temperature=temperature)


def test_small_integer_labels_do_not_wrap() -> None:
    logits = np.eye(200, dtype=np.float32)
    assert score_logits(logits, np.arange(200, dtype=np.uint8)).correct.all()


def test_order_and_take() -> None:
    logits, labels = fixture()
    ids = [f"{(7 * i) % 1000:03d}" for i in range(1000)]
    order = order_by_id(ids)
    assert [ids[i] for i in order] == sorted(ids)
    assert equal(
        score_logits(logits, labels).take(order), score_logits(logits[order], labels[order])
    )


def test_names_are_listed_without_torch() -> None:
    code = (
        "import sys, robustmix.metrics as m\n"
        "assert 'torch' not in sys.modules\n"
        "assert all(callable(getattr(m, name)) for name in m.__all__)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("temperature", [1.0, 0.37, 2.5])
def test_losses_alone_are_to_the_bit_those_of_all_scores(temperature: float) -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(7, size=211)
    for logits in (rng.normal(size=(211, 7)), rng.integers(3, size=(211, 7)).astype(np.float32)):
        losses, right = label_losses(logits, labels, temperature)
        scores = score_logits(logits, labels, temperature=temperature)
        assert np.array_equal(losses, scores.nll)
        assert np.array_equal(right, scores.correct)
