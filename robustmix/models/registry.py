"""Build an architecture by name, its initial weights drawn from an explicit generator."""

import contextlib
import difflib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robustmix.errors import IntakeError, RobustmixError, UsageError, unknown_name
from robustmix.models.names import ARCHS, OWN, Stem, default_stem, split_stem
from robustmix.models.resnet import BasicBlock, Bottleneck, ResNet
from robustmix.models.timm_nets import create_timm_model, initialise_as_openmixup
from robustmix.models.wide_resnet import WideResNet
from robustmix.text import plain

ArchOptions = dict[str, str | int | float]
"""Choices beyond an architecture's name, as checkpoints and reports record them."""

Size = tuple[int, int, int]
"""(3, H, W) of images."""

Init = Literal["openmixup", "torch"]

FOREIGN = ("timm:NAME", "torchvision:NAME", "module:FILE.py:FACTORY")
"""What other names of architectures are like."""

UNUSUAL = 1009
"""A number of classes that is the size of nothing else: what has it in an architecture that was
built with it is the classifier."""

LARGEST_SIDE = 8192
"""Pixels a side of images."""

LARGEST_GRID = 2048
"""Pixels a side where a network has a grid of its own for the images: it holds tables for each."""


def build_model(
    arch: str,
    *,
    num_classes: int,
    input_size: Size,
    init: Init = "openmixup",
    stem: str | None = None,
    drop_path: float = 0.0,
    generator: torch.Generator | None = None,
    options: ArchOptions | None = None,
) -> nn.Module:
    """Build a network from normalised images (N, 3, H, W) to logits (N, K).

    The caller's global random state is neither read nor changed.

    Args:
        arch: a name of ``ARCHS`` such as ``resnet18`` (``resnet18-cifar`` also fixes the stem),
            ``timm:NAME`` or ``torchvision:NAME``; the last two come without trained weights. Names
            ``module:...`` are there once ``robustmix.models.own_code.register_own`` was given them.
        num_classes: outputs of the classifier; 0 builds a built-in backbone without one.
        input_size: (3, H, W) of the images; chooses the stem, and the grid of a transformer.
        init: ``openmixup`` (for residual networks kaiming-normal fan-out, zero-init residual
            branches, small classifier) or ``torch`` (the layers' defaults; timm's for what timm
            builds). ``timm:``, ``torchvision:`` and what others registered keep their own.
        stem: ``cifar`` or ``imagenet``; by image size if None.
        drop_path: stochastic depth: probability of dropping the last residual branch, linearly
            less towards the first; 0 leaves ``timm:NAME`` as its library has it.
        generator: source of the initial weights, on the CPU; one with seed 0 if None.
        options: further arguments of timm's builder, for ``timm:NAME``.

    Returns:
        A module in train mode on the CPU; its ``arch_options`` say what else was chosen.

    Raises:
        UsageError: the name or the stem does not exist, or a number is out of range.
        IntakeError: an architecture of others cannot be built.

    Example:
        >>> net = build_model("resnet8", num_classes=10, input_size=(3, 32, 32))
        >>> tuple(net(torch.zeros(2, 3, 32, 32)).shape)
        (2, 10)
    """
    if num_classes < 0:
        raise UsageError(f"expected num_classes >= 0, got {num_classes}", code="E-CLASSES")
    check_size(input_size)
    if not 0 <= drop_path < 1:
        raise UsageError(f"expected 0 <= drop_path < 1, got {drop_path}", code="E-DROP-PATH")
    generator = generator or torch.Generator().manual_seed(0)
    plan = _planned(arch, num_classes, input_size, stem, drop_path, options or {})
    net = _built(plan, init, generator)
    chosen: ArchOptions = {} if plan.stem is None else {"stem": plan.stem}
    chosen |= {"drop_path": drop_path} if drop_path else {}
    vars(net)["arch_options"] = chosen | (options or {})
    return net


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A network that can be built."""

    name: str
    whose: Literal["robustmix", "timm", "others", "library"]
    stem: Stem | None
    build: Callable[[], nn.Module]


def _planned(
    arch: str,
    num_classes: int,
    input_size: Size,
    stem: str | None,
    drop_path: float,
    options: ArchOptions,
) -> _Plan:
    library, _, name = arch.rpartition(":")
    if library and not arch.startswith(OWN):
        if stem is not None:
            raise UsageError(
                f"a stem has no meaning for {plain(arch, 80)}", "leave it out", code="E-STEM"
            )
        if num_classes < 1:
            raise UsageError(f"{plain(arch, 80)} needs num_classes >= 1", code="E-CLASSES")
        check_library_name(library, name)
        make = functools.partial(
            _library_model, library, name, num_classes, input_size, drop_path, options
        )
        return _Plan(name=name, whose="library", stem=None, build=make)
    if options:
        raise UsageError(f"{plain(arch, 80)} is built without {', '.join(options)}", code="E-ARCH")
    name, chosen = _checked_stem(arch, stem, input_size)
    _check_fits(name, input_size)
    build = functools.partial(ARCHS[name], num_classes, chosen, input_size[1:], drop_path)
    return _Plan(name=name, whose=ARCHS.row(name).built_by, stem=chosen, build=build)


def blueprint(
    arch: str,
    *,
    num_classes: int,
    input_size: Size,
    stem: str | None = None,
    options: ArchOptions | None = None,
) -> dict[str, Tensor]:
    """Return the state dict of a network, names and shapes without numbers, on the meta device.

    Nothing is allocated, so that a file can be compared with what it claims to be before work is
    done; only architectures of others that cannot do without are built as they are.

    Raises:
        UsageError: as ``build_model``.
        IntakeError: likewise.
    """
    check_size(input_size)
    plan = _planned(arch, num_classes, input_size, stem, 0.0, options or {})
    with library_noise_off(), global_stream_from(torch.Generator()):
        net = _without_numbers(plan)
    return {key: value.to("meta") for key, value in net.state_dict().items()}


def classifier_in(own: Mapping[str, Tensor]) -> list[str]:
    """Return the names of what was made for ``UNUSUAL`` classes: the classifier's tensors."""
    return [key for key, tensor in own.items() if tensor.shape[:1] == (UNUSUAL,)]


def classifier_of(arch: str, input_size: Size, stem: str | None = None) -> list[str]:
    """Return the names of an architecture's tensors that depend on the number of classes.

    Layers are not recognised by their names: a hidden one may be called ``fc`` too.

    Raises:
        UsageError: as ``build_model``.
        IntakeError: likewise.

    Example:
        >>> classifier_of("resnet8", (3, 32, 32))
        ['fc.weight', 'fc.bias']
    """
    own = blueprint(arch, num_classes=UNUSUAL, input_size=input_size, stem=stem)
    return classifier_in(own)


def _without_numbers(plan: _Plan) -> nn.Module:
    for everything in (False, True):
        # Some constructors compute with tensors and need their numbers, some need all of a kind.
        with contextlib.suppress(Exception), _OnMeta(everything):
            return plan.build()
    return _built_by_others(plan.name, plan.build) if plan.whose == "others" else plan.build()


class _OnMeta(TorchFunctionMode):
    """Makes tensors without numbers and fills none of them.

    Args:
        everything: also tensors that constructors may count with, such as ranges.
    """

    def __init__(self, everything: bool) -> None:
        super().__init__()
        self._made = _FACTORIES + (_COUNTED if everything else ())

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._made and kwargs.get("device") is None:  # layers pass their None on
            return func(*args, **{**kwargs, "device": "meta"})
        if getattr(func, "__name__", "") in _FILLING:
            # On the meta device as well this would cost seconds, for what is imported to draw.
            filled = args[0] if args else kwargs.get("tensor")
            if isinstance(filled, Tensor) and filled.is_meta:
                return filled
        return func(*args, **kwargs)


_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
_COUNTED = (torch.arange, torch.linspace, torch.tensor, torch.as_tensor, torch.eye)
_FILLING = frozenset(
    {"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_"}
    | {"xavier_normal_", "xavier_uniform_", "orthogonal_", "erfinv_", "random_", "bernoulli_"}
)


def check_size(input_size: tuple[int, ...]) -> None:
    """Raise UsageError unless this is the size (3, H, W) of images that a network may be given."""
    if len(input_size) != 3 or input_size[0] != 3 or not min(input_size[1:]) >= 1:
        raise UsageError(
            f"expected an input size (3, H, W), got {plain(input_size, 80)}",
            "images have 3 channels; for a network of 1, average them in a module around it",
            code="E-INPUT-SIZE",
        )
    if max(input_size) > LARGEST_SIDE:
        raise UsageError(
            f"images of {plain(input_size[1], 80)}x{plain(input_size[2], 80)} pixels are too large",
            f"at most {LARGEST_SIDE} a side",
            code="E-INPUT-SIZE",
        )


def _built(plan: _Plan, init: Init, generator: torch.Generator) -> nn.Module:
    if plan.whose == "robustmix":
        with torch.device("meta"):  # constructors that draw nothing and fill nothing
            net = plan.build()
        # to_empty does the same, but imports sympy for it, which takes longer than to build.
        state = net.state_dict()
        empty = {key: torch.empty(one.shape, dtype=one.dtype) for key, one in state.items()}
        net.load_state_dict(empty, assign=True)
    elif plan.whose == "others":
        with global_stream_from(generator):
            return _built_by_others(plan.name, plan.build)
    else:
        with library_noise_off(), global_stream_from(generator):
            net = plan.build()
    if plan.whose != "library":
        initialise(net, init, generator)
    return net


def _built_by_others(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        net: object = build()
    except RobustmixError:
        raise
    except Exception as error:
        raise _bad_builder(name, f"raised {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise _bad_builder(name, f"returned {type(net).__name__}, not a torch.nn.Module")
    return net


def _bad_builder(name: str, what: str) -> IntakeError:
    return IntakeError(
        f"the builder of arch '{name}', from {ARCHS.origin(name)}, {what}",
        "mend it: number of classes -> network",
        code="E-PLUGIN",
    )


def arch_options(net: nn.Module) -> ArchOptions:
    """Return the choices beyond the name that ``build_model`` made, e.g. ``{"stem": "cifar"}``."""
    return dict(cast(ArchOptions, vars(net).get("arch_options", {})))


def initialise(net: nn.Module, init: Init, generator: torch.Generator) -> None:
    """Draw all parameters of a built-in network anew, in the order of its modules.

    ``openmixup`` is what AutoMix and AdAutoMix start from. In the built-in networks: convolutions
    kaiming-normal over the fan-out with the gain of ReLU, biases 0, norms 1 and 0 except 0 for
    the last norm of every residual branch (pre-activation blocks have none), classifiers
    Normal(0, 0.01). For networks of timm see ``initialise_as_openmixup``; ``torch`` leaves those
    as timm draws them.

    Raises:
        UsageError: there is no such initialisation.
    """
    if init not in ("openmixup", "torch"):
        raise unknown_name("init", init, ("openmixup", "torch"))
    if not isinstance(net, ResNet | WideResNet):
        if init == "openmixup":
            initialise_as_openmixup(net, generator)
        return
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            _initialise_weights(module, init, generator)
    if init == "openmixup":
        for module in net.modules():
            if isinstance(module, BasicBlock | Bottleneck):
                nn.init.zeros_(module.last_norm.weight)


def _initialise_weights(
    module: nn.Conv2d | nn.Linear, init: Init, generator: torch.Generator
) -> None:
    weight = module.weight
    if init == "torch":
        nn.init.kaiming_uniform_(weight, a=5**0.5, generator=generator)
        if module.bias is not None:
            bound = weight[0].numel() ** -0.5
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        return
    if isinstance(module, nn.Linear):
        nn.init.normal_(weight, std=0.01, generator=generator)
    else:
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _checked_stem(arch: str, stem: str | None, input_size: Size) -> tuple[str, Stem | None]:
    name, named_stem = split_stem(arch)
    if name not in ARCHS:
        raise unknown_name("arch", plain(arch, 80), [*ARCHS, *FOREIGN])
    if stem is not None and named_stem not in (None, stem):
        raise UsageError(f"{arch} has the {named_stem} stem, not {stem}", code="E-STEM")
    stems = ARCHS.row(name).stems
    chosen = stem or named_stem or default_stem(name, input_size)
    for known in stems:
        if chosen == known:
            return name, known
    if chosen is None:
        return name, None
    raise UsageError(
        f"{name} has no {chosen} stem",
        "choose from " + ", ".join(stems) if stems else "leave it out",
        code="E-STEM",
    )


def _check_fits(name: str, input_size: Size) -> None:
    multiple = ARCHS.row(name).multiple
    if multiple > 1:
        _check_grid(name, input_size)
    if any(side % multiple for side in input_size[1:]):
        raise UsageError(
            f"{name} takes images whose sides are multiples of {multiple}, "
            f"not {input_size[1]}x{input_size[2]}",
            "choose another --img-size",
            code="E-INPUT-SIZE",
        )


def _check_grid(name: str, input_size: Size) -> None:
    if max(input_size) > LARGEST_GRID:
        raise UsageError(
            f"{name} takes images of at most {LARGEST_GRID} pixels a side, not {max(input_size)}",
            "choose another --img-size",
            code="E-INPUT-SIZE",
        )


def _library_model(
    library: str,
    name: str,
    num_classes: int,
    input_size: Size,
    drop_path: float,
    options: ArchOptions,
) -> nn.Module:
    if library == "timm":
        return _timm_model(name, num_classes, input_size, drop_path, options)
    if options:
        raise UsageError(f"{library}:{name} is built without {', '.join(options)}", code="E-ARCH")
    if drop_path:
        raise UsageError(
            f"drop-path cannot be set for {library}:{name}", "leave it out", code="E-DROP-PATH"
        )
    return _torchvision_model(name, num_classes)


def check_library_name(library: str, name: str) -> None:
    """Raise UsageError, with the nearest names, unless the library has this classifier."""
    known: list[str]
    if library == "timm":
        import timm

        if timm.is_model(name):
            return
        known = timm.list_models()
    elif library == "torchvision":
        import torchvision

        known = torchvision.models.list_models(module=torchvision.models)
        if name in known:
            return
    else:
        raise unknown_name("arch", plain(f"{library}:{name}", 80), [*ARCHS, *FOREIGN])
    name = plain(name, 80)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise UsageError(
        f"unknown arch '{library}:{name}'",
        f"did you mean {' or '.join(f'{library}:{n}' for n in near)}?"
        if near
        else f"see the classification models of {library}",
        code="E-UNKNOWN-ARCH",
    )


def _timm_model(
    name: str, num_classes: int, input_size: Size, drop_path: float, chosen: ArchOptions
) -> nn.Module:
    import timm

    default = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {"drop_path_rate": drop_path, **chosen} if drop_path else {**chosen}
    if default is not None and default.fixed_input_size and default.input_size != input_size:
        _check_grid(f"timm:{name}", input_size)
        options["img_size"] = input_size[1:]
    try:
        return create_timm_model(name, num_classes, options)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, RobustmixError) or not chosen:
            raise
        said = ", ".join(f"{key}={plain(value, 20)}" for key, value in chosen.items())
        raise IntakeError(f"timm:{name} cannot be built with {said}", code="E-ARCH") from error


def _torchvision_model(name: str, num_classes: int) -> nn.Module:
    import torchvision

    return cast(
        nn.Module, torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    )


@contextlib.contextmanager
def library_noise_off() -> Iterator[None]:
    """Silence the warnings that timm and torchvision give to their own callers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def global_stream_from(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's CPU stream from ``generator`` for constructors that take none; then restore."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    before = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(before)
