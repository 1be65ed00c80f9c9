"""Who may import whom (design: layers), and how long files and functions may get."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "clx"
LAYERS = {
    "types": 0,
    "runtime": 0,
    "loss": 1,
    "gradient": 1,
    "projection": 1,
    "metric": 1,
    "data": 1,
    "benchmark": 2,
    "model": 2,
    "buffer": 2,
    "regularizer": 2.5,  # reads models
    "strategy": 3,
    "logger": 4,
    "store": 4.5,  # a run's folder is a logger too
    "loop": 5,
    "config": 6,
    "build": 6,
    "sweep": 6,
    "using": 6,
    "folder": 6,
    "trust": 6,
    "validation": 6,
    "words": 6,
    "jobs": 6,
    "app": 6,
    "cli": 6,
    "command": 6,
    "__main__": 6,
    "__init__": 6,
}
FILES = sorted(path for path in ROOT.rglob("*.py"))
# Packages that one place alone may import, so that nobody pays for them who does not need them.
ONLY_IN = {
    "hydra": {"config", "build", "folder", "validation", "words", "jobs", "app", "cli", "command", "sweep"},
    "omegaconf": {
        "config",
        "build",
        "folder",
        "trust",
        "validation",
        "words",
        "jobs",
        "app",
        "cli",
        "command",
        "sweep",
    },
    "torchvision": {"runtime"},
    "matplotlib": {"store"},
    "timm": {"model"},
    "mlflow": {"logger"},
    "wandb": {"logger"},
    "tensorboard": {"logger"},
    "plotly": {"store"},
    "jinja2": {"store"},
    "optuna": {"sweep"},
    "huggingface_hub": {"model"},
    "pytorchcv": {"model"},
    "safetensors": {"model"},
}


def extends(path: Path, other: str) -> bool:
    """Whether the file's one class is a subclass of one that it takes from strategy/<other>.py."""
    tree = ast.parse(path.read_text())
    taken = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == f"clx.strategy.{other}"
        for alias in node.names
    }
    bases = {
        b.id for node in tree.body if isinstance(node, ast.ClassDef) for b in node.bases if isinstance(b, ast.Name)
    }
    return bool(taken & bases)


def part(path: Path) -> str:
    """The layer's name of a file: its package, or the module at the top."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Every module that the file imports, wherever in it, without those for type checkers alone."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: list[str] = []
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [node.module or ""]
            if node.module in ("clx", *(f"clx.{package}" for package in LAYERS)):
                found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    own = part(path)
    for module in imports(path):
        top, *rest = module.split(".")
        if top in ONLY_IN:
            assert own in ONLY_IN[top], f"{path.name} imports {module}"
        if top != "clx" or not rest or rest[0] not in LAYERS or own == "__init__":
            continue
        if rest[0] == own:
            parent_alone = own != "strategy" or rest[1:2] in ([], ["finetune"]) or extends(path, rest[1])
            assert parent_alone, f"{path.name}: a strategy imports its parent alone, not {module}"
        else:
            assert LAYERS[rest[0]] < LAYERS[own] or LAYERS[own] == 6, f"{path.name} imports upwards: {module}"


def test_every_part_has_a_layer() -> None:
    assert {part(path) for path in FILES} == set(LAYERS)
    assert not [path for path in FILES if "util" in path.name or "helper" in path.name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 55, f"{path.name}: {node.name} has {length} lines"


def test_the_loop_names_no_method() -> None:
    """No method's or data set's name, and no isinstance on strategies, in loop/."""
    names = {p.stem for p in (ROOT / "strategy").glob("*.py")} | {p.stem for p in (ROOT / "data").glob("*.py")}
    general = {"__init__", "finetune", "batches", "dataset", "transform", "cache"}
    for path in (ROOT / "loop").glob("*.py"):
        words = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not {word.lower() for word in words} & (names - general)
