"""Strict loading of weights, and an error that says which architecture would fit."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustmix.errors import IntakeError
from robustmix.models.infer import suggest_arch


class StateMismatchError(IntakeError):
    """Weights that do not fit the architecture; ``table`` lists every tensor that differs."""

    def __init__(self, message: str, hint: str, table: str) -> None:
        super().__init__(message, hint, code="E-STATE-DICT")
        self.table = table

    def __str__(self) -> str:
        """Return the line and below it the table."""
        return f"{super().__str__()}\n{self.table}"

    def line(self) -> str:
        """Return the line alone."""
        return f"error[{self.code}]: {self.message}; {self.hint}"


def load_strictly(net: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load weights into a network; every tensor must fit, but for counters of batches.

    Args:
        net: the architecture.
        state: what the file holds, by the architecture's names.
        name: what errors call the file.

    Raises:
        StateMismatchError: a tensor is missing, too many or of another shape.
    """
    own = net.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    # Averaging a model leaves its counters as floats, and old files have none.
    state = {
        key: value.to(torch.int64) if key in counters else value for key, value in state.items()
    }
    missing = sorted(own.keys() - state.keys() - counters)
    unexpected = sorted(state.keys() - own.keys())
    shapes = sorted(
        key
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
        or own[key].is_floating_point() != state[key].is_floating_point()
    )
    if missing or unexpected or shapes:
        rows = [f"  missing     {key} {tuple(own[key].shape)}" for key in missing]
        rows += [f"  unexpected  {key} {tuple(state[key].shape)}" for key in unexpected]
        rows += [
            f"  shape       {key} file {tuple(state[key].shape)}, "
            f"architecture {tuple(own[key].shape)}"
            for key in shapes
        ]
        counts = (
            f"{len(missing)} missing, {len(unexpected)} unexpected, {len(shapes)} of other shape"
        )
        first = rows[0].strip()
        raise StateMismatchError(
            f"{name} does not fit the architecture: {counts} (first: {' '.join(first.split())})",
            _mismatch_hint(state, missing, unexpected, shapes),
            "\n".join(rows),
        )
    net.load_state_dict({**own, **state}, strict=True)


def _mismatch_hint(
    state: Mapping[str, Tensor], missing: list[str], unexpected: list[str], shapes: list[str]
) -> str:
    guess = suggest_arch(state)
    if shapes == ["conv1.weight"] and not missing and not unexpected and guess is not None:
        kernel = "3x3, without max-pool" if guess.endswith("-cifar") else "7x7 with max-pool"
        return f"its first convolution is {kernel}: pass --arch {guess}"
    if missing and all(key.startswith("fc.") for key in missing) and not unexpected:
        return "it holds no classifier; give the file with the classifier head"
    if guess is not None:
        return f"its tensors look like --arch {guess}"
    return "pass the --arch it was trained with"
