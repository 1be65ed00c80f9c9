"""clx export RUN --format torch|onnx: the trained strategy's answers as one file that needs neither clx nor the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clx import __version__
from clx.command.arguments import Parser
from clx.command.program import answer, distance, quiet, to_onnx, to_torch, trace
from clx.config import Mistake
from clx.model.dynamic import needs_task_labels
from clx.store.files import write_atomic, write_json
from clx.using import restore

if TYPE_CHECKING:
    from clx.build import Built
    from clx.data.transform import ToInput
    from clx.types import Samples

SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}
TOLERANCE = 1e-4  # of distance()
EACH, MOST = 8, 32  # samples of an experience to check with, and experiences to take them from


def main(arguments: Sequence[str]) -> int:
    """Load the run, export it, compare the file's answers with the strategy's own, write it with its description."""
    parser = Parser(prog="clx export", description=__doc__)
    parser.add_argument(
        "run", nargs="+", help="the folder of a run; trusted_packages=[...] and data_root=... may follow"
    )
    parser.add_argument(
        "--format", required=True, choices=sorted(SUFFIXES), help="torch = torch.export (.pt2), or ONNX"
    )
    parser.add_argument("--output", type=Path, help="the file to write (default: model.pt2 or model.onnx in the run)")
    args = parser.parse_intermixed_args(arguments)
    run, options = _words(args.run)
    output = args.output or run / f"model{SUFFIXES[args.format]}"
    if args.format == "onnx":
        _need_onnx()
    if run.is_dir():  # else restore() says what is wrong
        _check_writable(output)
    try:
        built = restore(run, **options)
    except ValueError as error:
        raise Mistake(str(error)) from error
    return _export(built, run, args.format, output)


def _words(words: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """The run, and the options of restore()."""
    typed = dict(word.split("=", 1) for word in words if word.startswith(("trusted_packages=", "data_root=")))
    runs = [word for word in words if word.split("=", 1)[0] not in typed]
    if len(runs) != 1:
        raise Mistake(f"clx export: give one run, not {len(runs)} ({', '.join(runs)}); see clx export --help")
    options: dict[str, Any] = {"data_root": typed.get("data_root")}
    if "trusted_packages" in typed:
        options["trusted_packages"] = [name.strip() for name in typed["trusted_packages"].strip("[]").split(",")]
    return Path(runs[0]), options


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401, PLC0415 - optional
        import onnxruntime  # noqa: F401, PLC0415 - optional
        import onnxscript  # noqa: F401, PLC0415 - optional
    except ImportError as error:
        raise Mistake(f"--format onnx: {error}; pip install 'clx[onnx]'") from error


def _check_writable(output: Path) -> None:
    if output.is_dir():
        raise Mistake(f"--output {output}: that is a folder; name a file")
    if not output.parent.is_dir():
        raise Mistake(f"--output {output}: there is no folder {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise Mistake(f"--output {output}: {output.parent} cannot be written to")


def _export(built: Built, run: Path, kind: str, output: Path) -> int:
    strategy = built.trainer.strategy.eval().requires_grad_(False)
    inputs, ids = _samples(built)
    answers = strategy.inference(*inputs)
    tasks = sorted(built.trainer.known_tasks) if needs_task_labels(strategy.model) else []
    inputs = inputs if tasks else inputs[:1]
    try:
        with quiet():
            program = trace(strategy, inputs, tasks)
            content = to_torch(program) if kind == "torch" else to_onnx(program, len(inputs))
            given = [answer(kind, content, [tensor[:count] for tensor in inputs]) for count in (len(answers), 1)]
            difference = distance(torch.cat(given), torch.cat([answers, answers[:1]]))
    except Exception as error:  # noqa: BLE001 - the exporters raise whatever the operators of a model make them
        return _failed(run, kind, f"{type(error).__name__}: {_first_line(error)}")
    if not difference <= TOLERANCE:  # NaN is none either
        return _failed(run, kind, f"its answers would differ from the strategy's by {difference:.1e}")
    try:
        write_atomic(output, content)
        write_json(output.with_name(f"{output.name}.json"), describe(built, kind, inputs, answers.shape[1], ids))
    except OSError as error:
        raise Mistake(f"--output {output}: {error}") from error
    print(
        f"{output}: {len(content) / 2**20:,.2f} MiB, described in {output.name}.json; on {len(answers)} samples its "
        f"scores differ from the strategy's by at most {difference:.1e}"
    )
    return 0


def _failed(run: Path, kind: str, reason: str) -> int:
    print(f"clx: {run} cannot be exported as {kind} ({reason})", file=sys.stderr)
    return 1


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")


def _samples(built: Built) -> tuple[list[Tensor], dict[int, list[int]]]:
    """([inputs [B, C, H, W], task labels [B]] from all over the stream so far, column -> what it is called outside)."""
    trainer = built.trainer
    parts: list[Samples] = []
    ids: dict[int, list[int]] = {}
    stride = -(-trainer.finished // MOST)
    for experience in built.benchmark.train[: trainer.finished]:
        for column, name in zip(experience.classes, experience.class_ids, strict=True):
            if name not in ids.setdefault(column, []):  # domains may share a column and have names of their own
                ids[column].append(name)
        if experience.index % stride == 0:
            data = experience.data
            parts.append(data[torch.linspace(0, len(data) - 1, EACH).long()])
    x = trainer.strategy.eval_transform(torch.cat([part.raw for part in parts]))
    return [x, torch.cat([part.t for part in parts])], ids


def describe(
    built: Built, kind: str, inputs: Sequence[Tensor], num_columns: int, ids: Mapping[int, list[int]]
) -> dict[str, Any]:
    """What a user of the file must know: how an image becomes x, what the columns of the scores mean."""
    benchmark, transform = built.benchmark, built.benchmark.transform.eval
    scale, shift = (torch.as_tensor(constant).flatten() for constant in (transform.scale, transform.shift))
    pairs = {
        (column, label)
        for group, columns in zip(benchmark.groups, benchmark.columns, strict=True)
        for label, column in zip(group, columns, strict=True)
    }
    x, *labels = inputs
    described: list[dict[str, Any]] = [{"name": "x", "dtype": "float32", "shape": ["batch", *x.shape[1:]]}]
    if labels:
        known = sorted(built.trainer.known_tasks)
        described.append({"name": "task_labels", "dtype": "int64", "shape": ["batch"], "values": known})
    return {
        "schema": 1,
        "format": kind,
        "versions": {"clx": __version__, "torch": torch.__version__},
        "data_set": benchmark.data.name,
        "experiences": built.trainer.finished,
        "inputs": described,
        "outputs": [{"name": "scores", "dtype": "float32", "shape": ["batch", num_columns]}],
        "prediction": "the column with the largest score",
        "classes": [
            {"column": column, "ids": ids[column], "classes_of_data_set": sorted(c for k, c in pairs if k == column)}
            for column in sorted(ids)
        ],
        "preprocessing": {
            "from": {"dtype": "uint8", "shape": ["batch", *benchmark.data.shape]},
            "steps": _steps(transform, benchmark.data.shape[0]),
            "mean": (-shift / scale / 255).tolist(),
            "std": (1 / scale / 255).tolist(),
        },
    }


def _steps(transform: ToInput, stored_channels: int) -> list[str]:
    """From stored image to input, in words and in order."""
    height, width = transform.size
    left, right, top, bottom = transform.padding
    steps = []
    if transform.resize == "pad" and any(transform.padding):
        steps.append(f"pad with 0: {left} left, {right} right, {top} above, {bottom} below")
    if transform.gray:
        steps.append("mean over the channels")
    steps.append("(x / 255 - mean) / std for each channel")
    if transform.resize == "interpolate":
        steps.append(f"resize to {height}x{width}: bilinear, with antialiasing")
    if transform.channels > stored_channels:
        steps.append(f"copy the channel {transform.channels} times")
    return steps
