"""Types shared by the pure functions of the toolkit."""

from collections.abc import Callable
from typing import TypeAlias

from robustmix.later import Tensor

Model: TypeAlias = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W), float32 in [0, 1] -> logits (N, K), float32."""
