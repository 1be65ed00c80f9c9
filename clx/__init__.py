"""clx: continual-learning experiments, composed by Hydra, run by one loop, compared from their folders.

The map, from the bottom up (a module imports from lower layers only):

    types.py         Samples, Batch, Experience, Objective, Phase: what passes between the parts
    runtime/         seeds, device, torchvision's door
    loss/ gradient.py metric/   pure functions: loss terms, projections, numbers read off an accuracy matrix
    data/            data sets as uint8 tensors, batches, the way from stored image to input
    benchmark/       streams: which classes or domains arrive when
    model/           backbones and heads that grow with the stream
    buffer/          what is remembered of the past
    regularizer/     loss terms that join any strategy
    strategy/        the methods, one file each; finetune.py is the parent
    store/ logger/   the folder of a run, comparing runs; who is told what happens
    loop/            fitting a phase, evaluating, the Trainer
    config.py validation.py jobs.py app.py cli.py command/   Hydra, the command line

From Python, without Hydra and without a folder:

    from clx import Trainer
    from clx.benchmark.split import Split
    from clx.data.digits import Digits
    ...
    benchmark = Split(data=Digits(), num_experiences=5)
    Trainer(strategy, epochs=3).train(benchmark.train, benchmark.test)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clx.loop.trainer import Trainer

__version__ = "0.1.0"
__all__ = ["Trainer", "__version__"]


def __getattr__(name: str) -> Any:
    """Import torch only when something that needs it is asked for."""
    if name == "Trainer":
        from clx.loop.trainer import Trainer  # noqa: PLC0415 - the point of this function

        return Trainer
    raise AttributeError(f"module 'clx' has no attribute {name!r}")
