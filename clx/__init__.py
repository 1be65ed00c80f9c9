"""clx: continual-learning experiments, composed by Hydra, run by one loop, compared from their folders.

The map, from the bottom up (a module imports from lower layers only):

    types.py         Samples, Batch, Experience, Objective, Phase: what passes between the parts
    runtime/         seeds, device, torchvision's door
    loss/ gradient.py projection.py metric/   pure functions: loss terms, gradients, numbers read off an accuracy matrix
    data/            data sets as uint8 tensors, batches, the way from stored image to input
    benchmark/       streams: which classes or domains arrive when
    model/           backbones and heads that grow with the stream
    buffer/          what is remembered of the past
    regularizer/     loss terms that join any strategy
    strategy/        the methods, one file each; finetune.py is the parent
    store/ logger/   the folder of a run, comparing runs; who is told what happens
    loop/            fitting a phase, evaluating, the Trainer
    config.py build.py validation.py jobs.py app.py cli.py command/ sweep/   Hydra, the command line, many runs at once
    using.py         a finished run in Python, the results of many as a table

From Python, without Hydra and without a folder:

    from clx import Trainer
    from clx.benchmark.split import Split
    from clx.data.digits import Digits
    ...
    benchmark = Split(data=Digits(), num_experiences=5)
    Trainer(strategy, epochs=3).train(benchmark.train, benchmark.test)

What runs have left: clx.load(folder) is the trained strategy, clx.results("outputs") a pandas frame.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clx.loop.trainer import Trainer
    from clx.using import load, results

__version__ = "0.1.0"
__all__ = ["Trainer", "__version__", "load", "results"]

_PLACES = {"Trainer": "clx.loop.trainer", "load": "clx.using", "results": "clx.using"}


def __getattr__(name: str) -> Any:
    """Import torch only when something that needs it is asked for."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'clx' has no attribute {name!r}")
