"""Runs from Python: a trained strategy out of its folder, and the results of many runs as one table."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clx.store.compare import group
from clx.store.records import NAMES, read_all
from clx.store.run import read_status

if TYPE_CHECKING:
    from clx.build import Built
    from clx.strategy.finetune import Finetune

PathLike = str | os.PathLike[str]


def load(
    run: PathLike, *, trusted_packages: Iterable[str] = (), device: str = "cpu", data_root: PathLike | None = None
) -> Finetune:
    """The strategy of a run as its last checkpoint holds it, in eval mode, on the device.

    `strategy.inference(x)` takes inputs x [B, C, H, W], which `strategy.eval_transform` makes of images [B, ...] as
    the data set stores them; `strategy.model`, `strategy.buffer` and `strategy.embed` are there to look at. A run that
    was interrupted is loaded as it was after its last whole experience. Arguments and errors are those of restore().
    """
    built = restore(run, trusted_packages=trusted_packages, device=device, data_root=data_root)
    return built.trainer.strategy.eval()


def restore(
    run: PathLike, *, trusted_packages: Iterable[str] = (), device: str = "cpu", data_root: PathLike | None = None
) -> Built:
    """The benchmark of a run, and its trainer as the last checkpoint left it.

    run: its folder. trusted_packages: packages of your own whose code the configuration may run; what the run itself
    trusted counts for nothing here. device: auto, cpu, cuda, cuda:N. data_root: where the data set lies, which is read
    because the stream is built anew; None = where it lay for the run. The global random generators of torch, numpy and
    Python stay as they are. Raises ValueError, in one line, where the folder holds no run, no checkpoint or a damaged
    one, where its configuration is not trusted or does not fit the checkpoint, and where the data set is not there.
    """
    from clx.config import Mistake  # noqa: PLC0415 - Hydra, which results() does not need

    names = [trusted_packages] if isinstance(trusted_packages, str) else list(trusted_packages)
    try:
        return _restore(Path(run), names, device, data_root)
    except Mistake as mistake:
        raise ValueError("; ".join(str(mistake).removeprefix("--from ").splitlines())) from mistake


def _restore(folder: Path, trusted: list[str], device: str, data_root: PathLike | None) -> Built:
    from clx.app import load_data  # noqa: PLC0415
    from clx.build import build  # noqa: PLC0415
    from clx.command.start import stored_config  # noqa: PLC0415
    from clx.loop.checkpoints import resume  # noqa: PLC0415
    from clx.store import checkpoint  # noqa: PLC0415
    from clx.validation import check  # noqa: PLC0415

    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{folder}: no run there; a run's folder holds config.yaml")
    config = stored_config(folder / "config.yaml", [f"trusted_packages=[{','.join(trusted)}]"])
    config["trainer"] |= {"device": device, "compile": None}  # answers need no compiler
    config["buffer"] |= {"device": "auto"} if config["buffer"] else {}  # wherever the run kept its samples
    config["data_root"] = config["data_root"] if data_root is None else os.fspath(data_root)
    saved = checkpoint.load(folder)
    if saved is None:
        raise ValueError(f"{folder}: it holds no checkpoint; the run is {read_status(folder)['state']}")
    check(config)
    with _same_random_state():
        built = build(config)
        load_data(built.benchmark)
        try:
            resume(built.benchmark, built.trainer, saved)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{folder}: its checkpoint does not fit its config.yaml ({reason})") from error
    return built


@contextlib.contextmanager
def _same_random_state() -> Iterator[None]:
    """Building seeds the global generators and resuming sets them: the caller's are put back."""
    from clx.runtime import seed as seeding  # noqa: PLC0415

    before = seeding.state()
    try:
        yield
    finally:
        seeding.load_state(before)


def results(paths: PathLike | Iterable[PathLike] = "outputs") -> Any:
    """The finished runs at or below the paths as a pandas DataFrame, a row for each, in the order of `clx compare`.

    Columns: benchmark, strategy, the configuration keys in which the runs differ, seed, every metric (the names of
    clx.store.records.NAMES; accuracies in [0, 1], times in s, memory in bytes; NaN = not defined), folder.
    frame.attrs["left_out"]: {"run", "reason"} of each run that is not finished, damaged, or there twice. Where pandas
    is not installed the rows come as a list of dictionaries, None = not defined, without those left out
    (pip install 'clx[pandas]'). Raises FileNotFoundError for a path that is not there.
    """
    places = [paths] if isinstance(paths, str | os.PathLike) else paths
    records, left_out = read_all(Path(place) for place in places)
    keys, groups = group(records, None, NAMES[0]) if records else ([], [])
    own = [key for key in keys if key != "strategy"]
    rows = [
        {"benchmark": record.benchmark, "strategy": record.strategy}
        | {key: same.settings[key] for key in own}
        | {"seed": record.seed, **record.values, "folder": str(record.folder)}
        for same in groups
        for record in sorted(same.records, key=lambda record: record.seed)
    ]
    try:
        import pandas as pd  # noqa: PLC0415 - optional
    except ImportError:
        return rows
    frame = pd.DataFrame(rows, columns=["benchmark", "strategy", *own, "seed", *NAMES, "folder"])
    frame[list(NAMES)] = frame[list(NAMES)].apply(pd.to_numeric)  # None is NaN there, in a column of nothing else too
    frame.attrs["left_out"] = [{"run": str(folder), "reason": reason} for folder, reason in left_out]
    return frame
