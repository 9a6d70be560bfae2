"""Networks in a user's file or module: ``module:FILE.py:FACTORY`` or ``module:PACKAGE:FACTORY``.

Code is run where a user types such a name, and nowhere else: what it names is then an architecture
like others, under a name without folders. A file that only mentions that name (a checkpoint, the
header of weights, a report) finds it if it was typed in the same process, and runs nothing if not.
"""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import cast

from torch import nn

from robustmix.errors import IntakeError, RobustmixError, UsageError
from robustmix.files import expanded
from robustmix.models.names import ARCHS, OWN, ArchRow, own_name, split_own
from robustmix.tables import Origin
from robustmix.text import plain


@dataclass(frozen=True, kw_only=True)
class OwnNetwork:
    """A function or class of the user's that makes networks."""

    name: str
    """The architecture's, without folders."""

    factory: Callable[..., object]
    file: Path
    sha256: str
    """Of the file, when it was imported."""

    def __call__(self, num_classes: int) -> nn.Module:
        """Make a network, as the table of architectures does."""
        return self.make(num_classes)

    def make(self, num_classes: int | None) -> nn.Module:
        """Make a network.

        Args:
            num_classes: given to a factory that has an argument of this name, takes any, or cannot
                do without one; None leaves it to the factory's default.

        Raises:
            UsageError: the factory needs a number of classes or other arguments.
            IntakeError: it raises, or makes something else; file and line are named.
        """
        args, named = self._given(num_classes)
        with blamed(self.file, self.name):
            net = self.factory(*args, **named)
        if not isinstance(net, nn.Module):
            raise IntakeError(
                f"{self.name} makes {plain(type(net).__name__, 80)}, not a torch.nn.Module",
                "name a function or class that makes the network",
                code="E-OWN-CODE",
            )
        return net

    def _given(self, num_classes: int | None) -> tuple[list[int], dict[str, int]]:
        try:
            parameters = inspect.signature(self.factory).parameters
        except (TypeError, ValueError):  # of a builtin
            return [], {}
        kinds = inspect.Parameter
        needed = [
            name
            for name, one in parameters.items()
            if one.default is kinds.empty
            and one.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        ]
        any_name = any(one.kind is kinds.VAR_KEYWORD for one in parameters.values())
        by_name = "num_classes" in parameters or (any_name and not needed)
        others = [name for name in needed if name != "num_classes"]
        if len(others) > (0 if by_name else 1):
            raise UsageError(
                f"{self.name} needs {plain(', '.join(others), 80)}",
                "name a function of the number of classes alone",
                code="E-OWN-CODE",
            )
        if num_classes is None:
            if needed:
                raise UsageError(f"{self.name} needs --num-classes", "pass it", code="E-CLASSES")
            return [], {}
        if by_name:
            return [], {"num_classes": num_classes}
        return [num_classes] * len(needed), {}


def own_network(name: str) -> OwnNetwork:
    """Return what ``module:...`` was imported as.

    Args:
        name: of ``register_own``.
    """
    return cast(OwnNetwork, ARCHS.target(own_name(name)))


def register_own(arch: str) -> str:
    """Import what a ``module:`` name names, and make an architecture of it.

    Args:
        arch: as it was typed; another name than ``module:...`` is given back as it is.

    Returns:
        The architecture's name, in which a file has no folder.

    Raises:
        UsageError: there is no such file, module or factory, or another file of that name has been
            imported.
        IntakeError: it raises while it is imported; file and line are named.

    Example:
        >>> register_own("resnet18")
        'resnet18'
        >>> register_own("module:torchvision.models:resnet18")
        'module:torchvision.models:resnet18'
    """
    if not arch.startswith(OWN):
        return arch
    where, factory = split_own(arch)
    name = own_name(arch)
    module, file, digest = _imported(where, name)
    known = ARCHS.target(name) if name in ARCHS else None
    if isinstance(known, OwnNetwork) and known.file != file:
        raise UsageError(
            f"{name} is the name of two files, {plain(known.file, 200)} and {plain(file, 200)}",
            "rename one of them",
            code="E-NAME-TAKEN",
        )
    found = _attribute(module, factory, where)
    network = OwnNetwork(name=name, factory=found, file=file, sha256=digest)
    help = (inspect.getdoc(found) or "").partition("\n")[0] or "(no docstring)"
    origin = Origin(module=file.name if _is_file(where) else where, version=f"sha256:{digest}")
    ARCHS.put(name, ArchRow(network, help, origin))
    return name


def _is_file(where: str) -> bool:
    return where.endswith(".py")


def _imported(where: str, name: str) -> tuple[ModuleType, Path, str]:
    if _is_file(where):
        path = expanded(where).resolve()
        _find_beside(path.parent)
        with blamed(path, name):
            return _import_file(path, where)
    _find_beside(Path.cwd())
    try:
        with blamed(None, name):
            module = importlib.import_module(where)
    except IntakeError as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if missing is not None and f"{where}.".startswith(f"{missing}."):
            raise _nothing(where) from None
        raise
    file = Path(getattr(module, "__file__", None) or where)
    try:
        return module, file, hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise _nothing(where) from error


def _find_beside(folder: Path) -> None:
    """Let the file's own imports find what lies beside it; last, so that it shadows nothing."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _import_file(path: Path, where: str) -> tuple[ModuleType, Path, str]:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise _nothing(where) from error
    digest = hashlib.sha256(source).hexdigest()
    # Of path and content: a file that was changed is another module, and no other is replaced.
    tag = hashlib.sha256(f"{path}\0{digest}".encode()).hexdigest()[:12]
    called = f"own_code_{tag}_{path.stem}"
    if called not in sys.modules:
        specification = importlib.util.spec_from_file_location(called, path)
        assert specification is not None
        module = importlib.util.module_from_spec(specification)
        # Before it runs, so that classes in it are found by their module, as dataclasses ask.
        sys.modules[called] = module
        try:
            # What was hashed is what runs, whatever is written to the file meanwhile.
            exec(compile(source, str(path), "exec"), module.__dict__)
        except BaseException:
            del sys.modules[called]
            raise
    return sys.modules[called], path, digest


def _nothing(where: str) -> UsageError:
    return UsageError(
        f"there is no file or module {plain(where, 200)}",
        "write module:FILE.py:FACTORY, or module:PACKAGE.MODULE:FACTORY",
        code="E-OWN-CODE",
    )


def _attribute(module: ModuleType, path: str, where: str) -> Callable[..., object]:
    found: object = module
    for part in path.split("."):
        if not hasattr(found, part):
            names = [name for name, one in vars(module).items() if _makes(name, one, module)]
            near = difflib.get_close_matches(part, names, n=1, cutoff=0.5)
            known = ", ".join(names[:10]) or "no function or class"
            raise UsageError(
                f"{plain(where, 200)} has no {plain(path, 80)}",
                f"did you mean {near[0]}?" if near else f"it has {known}",
                code="E-OWN-CODE",
            )
        found = getattr(found, part)
    if not callable(found) or isinstance(found, nn.Module):
        raise UsageError(
            f"{plain(path, 80)} of {plain(where, 200)} is a {type(found).__name__}",
            "name a function or class that makes the network",
            code="E-OWN-CODE",
        )
    return cast("Callable[..., object]", found)


def _makes(name: str, one: object, module: ModuleType) -> bool:
    own = getattr(one, "__module__", None) == module.__name__
    return own and not name.startswith("_") and (inspect.isclass(one) or inspect.isroutine(one))


@contextmanager
def blamed(file: Path | None, name: str) -> Iterator[None]:
    """Turn what a user's code raises into one line that names its file and line.

    Args:
        file: whose lines are meant; None for the last one that is not Python's own.
        name: of the architecture.

    Raises:
        IntakeError: in place of any other exception; errors of robustmix stay as they are.
    """
    try:
        yield
    except RobustmixError:
        raise
    except (Exception, SystemExit) as error:  # scripts without a main guard exit
        raise IntakeError(
            f"{place_of(error, file) or name}: {type(error).__name__}: "
            f"{plain(error, 300) or 'no message'}",
            f"mend what {plain(name, 100)} names; --debug shows the traceback",
            code="E-OWN-CODE",
        ) from error


def place_of(error: BaseException, file: Path | None) -> str:
    """Return ``FILE, line N`` of the last line of a file that an exception has passed; "" if none.

    Args:
        error: as it was caught.
        file: the file; None takes the last line of any but Python's import machinery.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{Path(error.filename).name}, line {error.lineno}"
    lines = [
        f"{Path(frame.f_code.co_filename).name}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if (
            "importlib" not in frame.f_code.co_filename and frame.f_code.co_filename != __file__
            if file is None
            else frame.f_code.co_filename == str(file)
        )
    ]
    return lines[-1] if lines else ""
