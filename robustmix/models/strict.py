"""Strict loading of weights, and an error that says which architecture would fit."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustmix.errors import IntakeError
from robustmix.models.infer import suggest_arch
from robustmix.models.layouts import COUNTER
from robustmix.text import plain


class StateMismatchError(IntakeError):
    """Weights that do not fit the architecture; ``table`` lists every tensor that differs."""

    def __init__(self, message: str, hint: str, table: str) -> None:
        super().__init__(message, hint, code="E-STATE-DICT")
        self.table = table

    def __str__(self) -> str:
        """Return the line and below it the table."""
        return f"{super().__str__()}\n{self.table}"


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
    check_state(own, state, name)
    # Averaging a model leaves its counters as floats, and old files have none.
    loaded = {
        key: value.to(torch.int64) if key.endswith(COUNTER) else value
        for key, value in state.items()
    }
    net.load_state_dict({**own, **loaded}, strict=True)


def check_state(own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str) -> None:
    """Compare what a file holds with an architecture.

    Args:
        own: the architecture's state dict; no number in it is read, so it may be without.
        state: what the file holds.
        name: what errors call the file.

    Raises:
        StateMismatchError: a tensor is missing, too many or of another shape.
    """
    missing = sorted(k for k in own.keys() - state.keys() if not k.endswith(COUNTER))
    unexpected = sorted(state.keys() - own.keys())
    shapes = sorted(
        key
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
        or (
            own[key].is_floating_point() != state[key].is_floating_point()
            and not key.endswith(COUNTER)
        )
    )
    if not missing and not unexpected and not shapes:
        return
    rows = [f"  missing     {key} {tuple(own[key].shape)}" for key in missing]
    rows += [f"  unexpected  {plain(key, 80)} {tuple(state[key].shape)}" for key in unexpected]
    rows += [
        f"  shape       {key} file {tuple(state[key].shape)}, architecture {tuple(own[key].shape)}"
        for key in shapes
    ]
    counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(shapes)} of other shape"
    raise StateMismatchError(
        f"{name} does not fit the architecture: {counts} (first: {plain(rows[0], 120)})",
        _mismatch_hint(own, state, missing, unexpected, shapes),
        "\n".join(rows),
    )


def _mismatch_hint(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    shapes: list[str],
) -> str:
    guess = suggest_arch(state)
    if any(own[key].shape[1:2] == (3,) and state[key].shape[1:2] == (1,) for key in shapes):
        return "it takes images of 1 channel, which is not supported: images have 3"
    if shapes == ["conv1.weight"] and not missing and not unexpected and guess is not None:
        kernel = "3x3, without max-pool" if guess.endswith("-cifar") else "7x7 with max-pool"
        return f"its first convolution is {kernel}: pass --arch {guess}"
    if missing and all(key.startswith("fc.") for key in missing) and not unexpected:
        return "it holds no classifier; give the file with the classifier head"
    if guess is not None:
        return f"its tensors look like --arch {guess}"
    return "pass the --arch it was trained with"
