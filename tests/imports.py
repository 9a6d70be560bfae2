"""Which module imports which, read off the source: functions included, types alone left out."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import robustmix

ROOT = Path(robustmix.__file__).parent


def modules() -> dict[str, Path]:
    """Name every module of the package, the linked folders included."""
    found = {}
    for path in sorted(_walk(ROOT)):
        parts = ("robustmix", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _walk(folder: Path) -> Iterator[Path]:
    # By hand: Path.rglob learned to follow links in Python 3.13 only.
    for path in folder.iterdir():
        if path.is_dir():  # also behind a link
            yield from _walk(path)
        elif path.suffix == ".py":
            yield path


def imports(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Name the modules of the package that a file imports when it runs."""
    found: set[str] = set()
    for node in _running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found & known.keys()


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run: not those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _running(node)


def graph() -> dict[str, set[str]]:
    """Map every module to the modules it imports."""
    known = modules()
    return {name: imports(path, known) - {name} for name, path in known.items()}


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """List the groups of modules that import each other (Tarjan's strong components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(edges.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(group)

    for name in edges:
        if name not in index:
            visit(name)
    return found
