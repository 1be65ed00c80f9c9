"""A strategy's inference as a program of tensor operators: tracing it, putting it into bytes, asking these."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from clx.strategy.finetune import Finetune


class Program(nn.Module):
    """What is exported: x [B, C, H, W] and, where there are tasks, labels [B] -> scores [B, K].

    The scores are NaN for labels that are none of the tasks.
    """

    def __init__(self, strategy: Finetune, tasks: Sequence[int]) -> None:
        super().__init__()
        self.strategy, self.tasks = strategy, tuple(tasks)
        # Features that are the same for all tasks are computed once.
        self.once = type(strategy).inference is Finetune.inference and not strategy.model.task_features

    def forward(self, x: Tensor, task_labels: Tensor | None = None) -> Tensor:
        with Portable():
            if task_labels is None:
                return self.strategy.inference(x)
            model = self.strategy.model
            features = model.features(x) if self.once else None
            chosen: Tensor | None = None
            for task in self.tasks:  # all of them, then a choice: which ones a batch holds must not steer the program
                scores = self.strategy.inference(x, task) if features is None else model.classify(features, task)  # type: ignore[arg-type]
                chosen = torch.full_like(scores, torch.nan) if chosen is None else chosen
                chosen = torch.where((task_labels == task).unsqueeze(1), scores, chosen)
            assert chosen is not None
            return chosen


class Portable(TorchFunctionMode):
    """Operators that look at the batch's size, or overflow in some runtime, spelled out in others that do neither."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        func = _distances if func is torch.cdist else _logsumexp if func is torch.logsumexp else func
        return func(*args, **(kwargs or {}))


def _distances(x: Tensor, y: Tensor, p: float = 2.0, compute_mode: Any = None) -> Tensor:  # noqa: ARG001 - torch's
    """torch.cdist, which takes another way from 26 rows on."""
    return torch.linalg.vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), ord=p, dim=-1)


def _logsumexp(x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """torch.logsumexp, which in ONNX is often taken at its word: exp(-1000) is 0, and its logarithm -inf."""
    most = x.amax(dim, keepdim=True)
    most = torch.where(most.isinf(), torch.zeros_like(most), most)
    total = (x - most).exp().sum(dim, keepdim=True).log() + most
    return total if keepdim else total.squeeze(dim)


def trace(strategy: Finetune, inputs: Sequence[Tensor], tasks: Sequence[int]) -> torch.export.ExportedProgram:
    """The strategy's inference as a graph for batches of any size. Changes the strategy: it is of no other use then.

    inputs: x [B, C, H, W] and, where there are tasks, their labels [B]; B at least 2.
    """
    for module in strategy.modules():
        for name, value in list(module.named_buffers(recurse=False)):
            if value.dtype == torch.bool and value.dim() == 0:  # a switch; in a graph it must be thrown for good
                delattr(module, name)
                setattr(module, name, bool(value))
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        Program(strategy, tasks),
        tuple(tensor[:2].contiguous() for tensor in inputs),
        dynamic_shapes=[{0: batch} for _ in inputs],
        strict=True,  # len(x) of a batch stays a symbol
    )
    used = {spec.target for spec in program.graph_signature.input_specs}
    for name in program.state_dict.keys() - used:  # teachers and the like
        del program.state_dict[name]
    return program


def to_torch(program: torch.export.ExportedProgram) -> bytes:
    """What torch.export.load reads."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def to_onnx(program: torch.export.ExportedProgram, num_inputs: int) -> bytes:
    """An ONNX model with inputs x and, where there are two, task_labels; output scores."""
    batch = torch.export.Dim("batch")
    exported = torch.onnx.export(
        program,
        input_names=["x", "task_labels"][:num_inputs],
        output_names=["scores"],
        dynamic_shapes=[{0: batch} for _ in range(num_inputs)],
        dynamo=True,
        verbose=False,
    )
    assert exported is not None
    return exported.model_proto.SerializeToString()


def answer(kind: str, content: bytes, inputs: Sequence[Tensor]) -> Tensor:
    """The scores [B, K] that an exported file gives."""
    if kind == "torch":
        return torch.export.load(io.BytesIO(content)).module()(*inputs)
    import onnxruntime  # noqa: PLC0415 - optional

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = dict(zip(("x", "task_labels"), inputs, strict=False))
    (scores,) = session.run(None, {entry.name: given[entry.name].numpy() for entry in session.get_inputs()})
    return torch.from_numpy(scores)


def distance(scores: Tensor, expected: Tensor) -> float:
    """The largest difference, relative where a score is expected beyond -1..1; NaN where one is not a number."""
    relative = (scores - expected).abs() / expected.abs().clamp(min=1)
    return relative.masked_fill(scores == expected, 0).max().item()  # -inf, the score of no class, equals itself


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporters tell of every attempt, in pages."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
