"""W&B: what it records offline, read from its files as it frames them."""

from __future__ import annotations

import io
import json
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clx.logger.base import RunStarted, StepDone
from clx.logger.wandb import Position, WandB

pytest.importorskip("wandb")

Series = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True, scope="module")
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is sent anywhere, no login of the person who runs the tests is found, and W&B's process ends."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_RUN_ID", "WANDB_DIR"):
            patch.delenv(name, raising=False)
        patch.setenv("NETRC", str(home / "netrc"))
        patch.setenv("HOME", str(home))
        for name in ("CONFIG", "CACHE", "DATA", "ARTIFACT"):
            patch.setenv(f"WANDB_{name}_DIR", str(home))
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_X_DISABLE_STATS", "true")
        import wandb

        yield
        wandb.teardown()


def offline(path: str | None = None) -> WandB:
    return WandB(path, "trials", None, "offline")


def records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: after 7 bytes of header, LevelDB's log: blocks of 32 KiB of pieces, each with
    checksum, length and kind (1 = whole, 2, 3, 4 = first, middle, last)."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = path.read_bytes(), 7, b""
    assert content[:4] in (b":W&B", b"")
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if kind == 0:
            at += left
            continue
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if at > len(content):
            return
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def whole(path: Path) -> list[Any]:
    """The records up to that of the run's end, which W&B's own process writes in its own time."""
    deadline = time.monotonic() + 20
    while True:
        found = list(records(path))
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.02)


class Recorded:
    """What stands in the offline files of a folder, in the order in which W&B sends them."""

    def __init__(self, folder: Path) -> None:
        self.curves: Series = defaultdict(list)
        self.summary: dict[str, Any] = {}
        self.runs: list[Any] = []
        self.exit_codes: list[int] = []
        self.config: dict[str, Any] = {}
        files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime_ns)
        for file in files:
            for record in whole(file):
                self._add(record)

    def _add(self, record: Any) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self.runs.append(record.run)
            self.config |= values(record.run.config.update)
        elif kind == "exit":
            self.exit_codes.append(record.exit.exit_code)
        elif kind == "summary":
            self.summary |= values(record.summary.update)
        elif kind == "history":
            row = values(record.history.item)
            step = row.pop("total_step")
            for name, value in row.items():
                if not name.startswith("_"):
                    self.curves[name].append((step, value))


def values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_a_run(folder: Path, tell: Callable[..., None], curves: Series, summary: dict[str, float]) -> None:
    tell(offline(), folder)
    found = Recorded(folder)
    picture = {name.removeprefix("matrix."): points for name, points in found.curves.items() if "matrix" in name}
    assert (picture["width"], picture["height"]) == ([(4, 3)], [(4, 2)])
    ((_, name),) = picture["path"]
    (copy,) = folder.glob(f"wandb/offline-run-*/files/{name}")
    assert copy.read_bytes() == (folder / "matrix.png").read_bytes()
    assert {name: points for name, points in found.curves.items() if "matrix" not in name} == curves
    assert summary.items() <= found.summary.items()
    (run,) = found.runs
    assert (run.project, run.display_name, list(run.tags)) == ("trials", "digits/er seed 3", ["trial"])
    assert found.exit_codes == [0]
    chosen = ("seed", "name", "optimizer.lr", "optimizer.betas", "optimizer.nesterov", "choices.strategy")
    assert [found.config[name] for name in chosen] == [3, None, 0.05, [0.9, 0.99], True, "er"]
    assert not [name for name in found.config if "logger" in name]


def test_a_run_that_failed_then_started_anew(folder: Path, tell: Callable[..., None]) -> None:
    """A new run of W&B's: the old one stays what it is."""
    tell(offline(), folder, finish=False)
    tell(offline(), folder)
    found = Recorded(folder)
    assert found.exit_codes == [1, 0]
    assert len({run.run_id for run in found.runs}) == 2


def test_a_path_of_ones_own(tmp_path: Path, tell: Callable[..., None], curves: Series) -> None:
    tell(offline(str(tmp_path / "mine")), None)
    assert Recorded(tmp_path / "mine").curves == curves


def test_no_place_to_write() -> None:
    with pytest.raises(ValueError, match="give the logger a path"):
        offline().on(RunStarted("x", 1))


def test_a_real_run(tmp_path: Path, train: Callable[..., None], recorded: Callable[[Path], Series]) -> None:
    train(tmp_path, offline())
    found, own = Recorded(tmp_path), recorded(tmp_path)
    assert {name: found.curves[name] for name in own} == own
    assert found.curves["matrix.width"][0][0] == 24


def test_a_resumed_run_tells_nothing_twice(
    tmp_path: Path, train: Callable[..., None], recorded: Callable[[Path], Series]
) -> None:
    """Stopped at step 12, in experience 1; the checkpoint is of step 8. Both files belong to one run."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, offline(), stop_at=12)
    assert Recorded(tmp_path).curves["loss/ce"][-1][0] == 12
    train(tmp_path, offline())
    found, own = Recorded(tmp_path), recorded(tmp_path)
    assert {name: found.curves[name] for name in own} == own
    assert len({run.run_id for run in found.runs}) == 1
    assert [run.resume for run in found.runs] == [False, True]
    assert found.exit_codes == [130, 0]


def test_a_position_counts_the_rows_of_a_step() -> None:
    """Two rows at step 4, one at 8: in this order, each beyond the one before."""
    positions = [Position()]
    for step in (4, 4, 8):
        positions.append(positions[-1].after(step))
    assert positions == [(-1, 0), (4, 1), (4, 2), (8, 1)] == sorted(positions)


def test_rows_of_one_step_are_told_apart(tmp_path: Path) -> None:
    """Step 2 has two rows; the first process told one of them, so the second tells the other alone."""
    for start, told in ((0, (0.5,)), (1, (0.5, 0.75))):
        logger = offline()
        logger.on(RunStarted("x", 2, first=start, total_step=start, folder=tmp_path))
        for value in told:
            logger.on(StepDone(0, "train", 0, 1, 1, 1, 2, {"ce": value}))
        logger.close()
    assert Recorded(tmp_path).curves["loss/ce"] == [(2, 0.5), (2, 0.75)]


def test_neither_login_nor_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to do, before anything is trained."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(
        ValueError, match=r"^mode online: there is no login .*; run `wandb login`, or set logger\.wandb\.mode=offline"
    ) as caught:
        WandB(None, "trials", None, "online")
    assert "\n" not in str(caught.value)


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason in one line; closing afterwards ends nothing."""
    logger = offline()

    def refuse(**options: Any) -> None:
        raise logger._wandb.errors.CommError("no such host\nConsider a longer timeout")

    monkeypatch.setattr(logger._wandb, "init", refuse)
    with pytest.raises(ValueError, match=r"^mode offline: W&B does not answer \(no such host\); set logger") as caught:
        logger.on(RunStarted("x", 1, folder=tmp_path))
    assert "\n" not in str(caught.value)
    logger.close()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"pip install 'clx\[wandb\]'"):
        WandB(None, "trials", None, "offline")
