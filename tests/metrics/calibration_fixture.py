"""The analytic samples that the metric tests share: no randomness, no file."""

import numpy as np

from robustmix.metrics.scores import FloatArray, IntArray


def fixture() -> tuple[FloatArray, IntArray]:
    """Logits (1000, 10) from sines and cosines; labels right in three of five samples, or more."""
    i, k = np.arange(1000)[:, None], np.arange(10)[None, :]
    logits = 3 * np.sin(0.7 * i + 1.3 * k) + np.cos(0.11 * i * (k + 1))
    position = i[:, 0]
    labels = np.where(position % 5 < 3, logits.argmax(axis=1), (7 * position + 3) % 10)
    return logits, labels.astype(np.int64)


def softmax(logits: FloatArray) -> FloatArray:
    """The plain formula, for moderate logits."""
    p = np.exp(logits)
    result: FloatArray = p / p.sum(axis=1, keepdims=True)
    return result
