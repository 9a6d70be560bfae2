"""A pretended GPU: real numbers on the CPU that say they are on ``cuda``, and a count of waits.

Inside ``pretended_gpu`` tensors made on, or moved to, ``cuda`` hold their numbers on the CPU and
report the device ``cuda:0``. Everything computes as ever, so code that looks at its data takes the
branch that it would take; what mixes devices in one operation fails as it would on a GPU. Counted
are

- *waits*: what keeps the processor until the device has caught up: a number read (``item``,
  ``tolist``, ``bool``), a copy between processor and device that is not from pinned memory and
  ``non_blocking``, and operations whose result's shape depends on data (``nonzero``, boolean masks,
  ``unique``, ...);
- *uploads*: copies to the device that nothing waits for;
- *operations*: kernels, roughly: what is dispatched on the device and is no view.

    with pretended_gpu() as count:
        model.to("cuda")
        ... steps that fill caches ...
        count.clear()
        ... the steps to count ...
    print(count.table(steps=2))

No time is measured. Copies between two places of one device, and the cost of pinning, are free.
"""

import collections
import contextlib
import os
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import _foreach_supported_types
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

GPU = torch.device("cuda", 0)

VIEWS = frozenset(
    {
        "_reshape_alias",
        "_unsafe_view",
        "alias",
        "as_strided",
        "detach",
        "diagonal",
        "expand",
        "lift_fresh",
        "permute",
        "real",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "t",
        "transpose",
        "unbind",
        "unfold",
        "unsqueeze",
        "view",
        "view_as_complex",
        "view_as_real",
    }
)
"""Operations that launch nothing."""

WAITING = frozenset(
    {
        "_linalg_check_errors",
        "_unique",
        "_unique2",
        "allclose",
        "bincount",
        "equal",
        "histc",
        "is_nonzero",
        "masked_select",
        "nonzero",
        "repeat_interleave",
        "unique_consecutive",
        "unique_dim",
    }
)
"""Operations whose result the processor has to know, at least its shape."""

INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"})


class OnGPU(Tensor):
    """A tensor that says it is on the GPU; its numbers are in ``numbers``, on the CPU."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "OnGPU":
        """Wrap a tensor of the CPU."""
        # Memory of the device meta, so that autograd asks for no thread of a GPU.
        with torch._C._DisableTorchDispatch():
            shell = torch.empty_strided(
                numbers.shape, numbers.stride(), dtype=numbers.dtype, device="meta"
            )
            new: OnGPU = torch.Tensor._make_subclass(
                cls, shell, False, dispatch_device=True, device_for_backend_keys=GPU
            )
        new.numbers = numbers
        return new

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The GPU."""
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """Whether it is on a GPU."""
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        """Whether it is on the CPU."""
        return False

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Return how the numbers look."""
        return f"OnGPU({self.numbers!r})"

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the tensor on a device, in a type and in a layout."""
        device, dtype, free, layout = torch._C._nn._parse_to(
            *(a for a in args if not isinstance(a, Tensor)),
            **{k: v for k, v in kwargs.items() if k not in ("copy", "other")},
        )
        for other in (a for a in (*args, kwargs.get("other")) if isinstance(a, Tensor)):
            device, dtype = other.device, other.dtype
        same = device is None or device.type == "cuda"
        if same and dtype in (None, self.dtype) and layout is None and not kwargs.get("copy"):
            return self
        options = {"memory_format": layout} if layout is not None else {}
        copy: Tensor = torch.ops.aten._to_copy.default(
            self, dtype=dtype, device=GPU if same else device, non_blocking=free, **options
        )
        return copy

    def cpu(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the tensor on the processor."""
        return self.to("cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the tensor."""
        return self

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse, as a GPU's tensor does."""
        raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu()")

    def new_tensor(self, data: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """Return a tensor made of numbers, beside this one."""
        return torch.tensor(data, **{"dtype": self.dtype, "device": GPU, **kwargs})

    def tolist(self) -> Any:
        """Return the numbers, for which one waits once, not once a number."""
        return self.cpu().tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Return a copy that requires a gradient where the tensor does."""
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        memo[id(self)] = torch.nn.Parameter(copy) if isinstance(self, torch.nn.Parameter) else copy
        return memo[id(self)]  # type: ignore[no-any-return]

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse: the mode of ``pretended_gpu`` does it."""
        raise RuntimeError(f"{func}: a tensor of the pretended GPU is used after its end")


class Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Waits and uploads by kind and place, operations by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: collections.Counter[tuple[str, str]] = collections.Counter()
        self.uploads: collections.Counter[tuple[str, str]] = collections.Counter()
        self.operations: collections.Counter[str] = collections.Counter()
        self._pinned: dict[int, Tensor] = {}  # by address, and kept so that none is used twice

    def clear(self) -> None:
        """Begin again."""
        for counter in (self.waits, self.uploads, self.operations):
            counter.clear()

    def table(self, steps: int = 1) -> str:
        """Return a line a kind and place, the most frequent first, per step."""
        waits, uploads = (sum(c.values()) / steps for c in (self.waits, self.uploads))
        made = sum(self.operations.values()) / steps
        lines = [f"{waits:g} waits, {uploads:g} uploads, {made:g} operations a step"]
        for title, counter in (("wait", self.waits), ("upload", self.uploads)):
            for (kind, place), n in counter.most_common():
                lines.append(f"  {n / steps:6.1f}  {title:6s} {kind:16s} {place}")
        return "\n".join(lines)

    def pin(self, tensor: Tensor) -> Tensor:
        """Return a copy in memory that counts as pinned."""
        with torch._C._DisableTorchDispatch():
            copy = tensor.clone()
        self._pinned[copy.untyped_storage().data_ptr()] = copy
        return copy

    def is_pinned(self, tensor: Tensor) -> bool:
        """Return whether a copy from or to a tensor of the CPU can be left alone."""
        return tensor.untyped_storage().data_ptr() in self._pinned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and compute it on the CPU."""
        if func is torch.ops.prim.device.default:
            return torch.device("cpu")  # what torch's own code, autograd's above all, goes by
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        tensors = [a for a in tree_iter((args, kwargs)) if isinstance(a, Tensor)]
        on_gpu = any(isinstance(a, OnGPU) for a in tensors)
        copied = name == "_to_copy" or name == "copy_"
        asked = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if copied:
            self._copy(args, asked, kwargs)
        elif on_gpu:
            self._look(func, name, args, tensors)
        to_gpu = on_gpu if asked is None else asked.type == "cuda"
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        pinned = bool(kwargs.pop("pin_memory", False))
        with torch._C._DisableTorchDispatch():
            made = func(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))
            if pinned:
                made = self.pin(made)
            elif copied and to_gpu != on_gpu and asked is not None and made is args[0]:
                made = made.clone()
        if func._schema.is_mutable:
            return _written(func, args, kwargs, made, to_gpu)
        if not to_gpu:
            return made
        if name not in VIEWS and not copied:
            self.operations[name] += 1
        return tree_map(lambda a: OnGPU(a) if isinstance(a, Tensor) else a, made)

    def _copy(self, args: Any, asked: torch.device | None, kwargs: dict[str, Any]) -> None:
        if asked is not None:  # _to_copy
            source, to_gpu = args[0], asked.type == "cuda"
            free = bool(kwargs.get("non_blocking"))
            other = source
        else:
            to_gpu = isinstance(args[0], OnGPU)
            source = args[1] if len(args) > 1 else args[0]
            free = bool(args[2]) if len(args) > 2 else bool(kwargs.get("non_blocking"))
            other = source if to_gpu else args[0]
        if isinstance(source, OnGPU) == to_gpu or (asked is None and source is args[0]):
            if to_gpu:
                self.operations["copy"] += 1
            return
        # A number in a tensor of the processor is passed along with a kernel.
        where = self.uploads if free and self.is_pinned(other) and to_gpu else self.waits
        where["to the device" if to_gpu else "to the processor", _place()] += 1

    def _look(self, func: Any, name: str, args: Any, tensors: list[Tensor]) -> None:
        if name == "_local_scalar_dense":
            self.waits["item", _place()] += 1
        elif name in WAITING:
            self.waits[name, _place()] += 1
        elif name in INDEXING:
            for index in args[1]:
                if index is None:
                    continue
                if index.dtype in (torch.bool, torch.uint8):
                    self.waits["boolean mask", _place()] += 1
                elif not isinstance(index, OnGPU) and index.dim():
                    self.waits["to the device", _place()] += 1
            return
        strangers = [a for a in tensors if not isinstance(a, OnGPU) and a.dim()]
        if strangers and name not in ("lift_fresh",):
            raise RuntimeError(f"{func}: tensors of two devices, {_place()}")
        if func._schema.is_mutable and name not in VIEWS:
            self.operations[name] += 1


def _numbers(value: Any) -> Any:
    return value.numbers if isinstance(value, OnGPU) else value


def _written(func: Any, args: Any, kwargs: dict[str, Any], made: Any, to_gpu: bool) -> Any:
    """Return what an operation that writes into its arguments returns: those, not copies."""
    own = [
        args[i] if i < len(args) else kwargs.get(argument.name)
        for i, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    returns = func._schema.returns
    if not returns:
        return None
    if returns[0].alias_info is not None and returns[0].alias_info.is_write:
        return own[0] if len(returns) == 1 else tuple(own)
    if to_gpu:  # such as a batch norm that returns values and writes statistics
        return tree_map(lambda a: OnGPU(a) if isinstance(a, Tensor) else a, made)
    return made


def _place(depth: int = 2) -> str:
    """Return the innermost lines of robustmix that are running."""
    found: list[str] = []
    for frame in reversed(traceback.extract_stack()):
        name = frame.filename.replace(os.sep, "/")
        if "/robustmix/" in name:
            found.append(f"{'/'.join(name.split('/')[-2:])}:{frame.lineno}")
            if len(found) == depth:
                break
    return " < ".join(found) or "elsewhere"


@contextlib.contextmanager
def pretended_gpu() -> Iterator[Count]:
    """Let ``cuda`` exist, and count what is done with it; not to be nested."""
    count = Count()
    cuda: Any = torch.cuda
    with contextlib.ExitStack() as undo:
        _replace(undo, cuda, "_lazy_init", lambda: None)  # which would look for a real GPU
        # Of streams of random numbers there are none but the processor's.
        _replace(undo, cuda, "get_rng_state", lambda device="cuda": torch.get_rng_state())
        _replace(undo, cuda, "set_rng_state", lambda state, device="cuda": None)
        _replace(undo, cuda, "manual_seed_all", lambda seed: None)
        _replace(undo, Tensor, "pin_memory", lambda self, device=None: count.pin(self))
        _replace(undo, Tensor, "is_pinned", lambda self, device=None: count.is_pinned(self))
        _replace(undo, Tensor, "to", _to_like(Tensor.to))
        # ``torch.tensor(..., device="cuda")`` is to be made on the CPU and then moved.
        undo.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        # ``Module.to`` is to make new parameters: one of the CPU cannot become one of the GPU.
        future: Any = torch.__future__
        overwrites = future.get_overwrite_module_params_on_conversion()
        undo.callback(future.set_overwrite_module_params_on_conversion, overwrites)
        future.set_overwrite_module_params_on_conversion(True)
        # Optimisers are to treat all parameters at once, as on a GPU.
        undo.callback(_foreach_supported_types.remove, OnGPU)
        _foreach_supported_types.append(OnGPU)
        core: Any = torch._C
        grouped = core._group_tensors_by_device_and_dtype
        _replace(undo, core, "_group_tensors_by_device_and_dtype", _grouping(grouped))
        undo.enter_context(count)
        yield count


def _to_like(to: Any) -> Any:
    """Return ``Tensor.to`` that sees on which device the tensor is that is to be followed."""

    def follow(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], OnGPU):
            return to(self, args[0].device, args[0].dtype, *args[1:], **kwargs)
        return to(self, *args, **kwargs)

    return follow


def _grouping(group: Any) -> Any:
    """Return the function by which optimisers group tensors, that sees their device."""

    def grouped(lists: Any, with_indices: bool) -> Any:
        return {
            (GPU if isinstance(part[0][0][0], OnGPU) else device, dtype): part
            for (device, dtype), part in group(lists, with_indices).items()
        }

    return grouped


def _replace(undo: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
