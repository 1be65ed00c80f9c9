"""The one door to torchvision: `from clx.runtime.torchvision import torchvision`.

torchvision registers Python kernels for its own compiled operators when it is imported. Where those
operators cannot load (a CPU build of torch beside a torchvision built for another one), it stops with
"operator torchvision::nms does not exist"; declaring the two schemas first lets everything that needs
no compiled operator work: models, transforms v2, data sets.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import torch

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_library: torch.library.Library | None = None  # schemas live as long as their library object


def _compiled_operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision is not installed; install it beside torch: pip install clx")
    for library in Path(spec.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(str(library))
            return hasattr(torch.ops.torchvision, "nms")
        except (OSError, RuntimeError, AttributeError):
            continue
    return False


def _declare_schemas() -> None:
    global _library  # noqa: PLW0603 - one library object per process, kept alive here
    if _library is None:
        _library = torch.library.Library("torchvision", "DEF")
        for name, schema in SCHEMAS.items():
            _library.define(name + schema)


if not _compiled_operators_load():
    _declare_schemas()
torchvision = importlib.import_module("torchvision")
