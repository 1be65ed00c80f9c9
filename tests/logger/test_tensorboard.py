"""TensorBoard, read back with its own reader."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clx.logger.base import Evaluated, RunStarted, StepDone
from clx.logger.tensorboard import TensorBoard

pytest.importorskip("tensorboard")

Series = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def _ordered_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in the order of their names, which end in a count; those of one second need as many digits."""
    from tensorboard.summary.writer import event_file_writer

    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(100))


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def series(reader: Any) -> Series:
    names = reader.Tags()["scalars"]
    return {name: [(point.step, point.value) for point in reader.Scalars(name)] for name in names}


def table(folder: Path) -> tuple[dict[str, Any], str]:
    """(hyper-parameters, how the run ended), as the plugin reads them."""
    from tensorboard.plugins.hparams import api_pb2, metadata

    content = read(folder / "hparams").PluginTagToContent(metadata.PLUGIN_NAME)
    started = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    ended = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG])
    values = {name: value.string_value or value.number_value for name, value in started.hparams.items()}
    return values, api_pb2.Status.Name(ended.status)


def test_curves_and_summary(folder: Path, tell: Callable[..., None], curves: Series, summary: dict[str, float]) -> None:
    tell(TensorBoard(None), folder)
    last = {name: [(4, value)] for name, value in summary.items()}
    assert series(read(folder / "tensorboard")) == curves | last
    shown = {name: points for name, points in last.items() if not name.startswith("cost/")}
    assert series(read(folder / "tensorboard" / "hparams")) == shown


def test_the_picture(folder: Path, tell: Callable[..., None]) -> None:
    tell(TensorBoard(None), folder)
    (image,) = read(folder / "tensorboard").Images("matrix")
    assert image.step == 4
    pixels = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    assert pixels.tolist() == [[[255, 0, 0]] * 3] * 2


def test_the_table_of_hyper_parameters(folder: Path, tell: Callable[..., None]) -> None:
    tell(TensorBoard(None), folder)
    values, status = table(folder / "tensorboard")
    chosen = ("seed", "name", "optimizer.lr", "optimizer.betas", "optimizer.nesterov", "choices.strategy")
    assert [values[name] for name in chosen] == [3.0, "null", 0.05, "[0.9, 0.99]", "true", "er"]
    assert not [name for name in values if "logger" in name]
    assert status == "STATUS_SUCCESS"


def test_a_run_that_failed_then_finished(folder: Path, tell: Callable[..., None]) -> None:
    """The second time nothing is left of the first."""
    tell(TensorBoard(None), folder, finish=False)
    assert table(folder / "tensorboard")[1] == "STATUS_FAILURE"
    tell(TensorBoard(None), folder)
    assert table(folder / "tensorboard")[1] == "STATUS_SUCCESS"
    assert series(read(folder / "tensorboard"))["loss/ce"] == [(2, 0.5), (4, 0.25)]


def test_a_path_of_ones_own(tmp_path: Path, tell: Callable[..., None], curves: Series) -> None:
    tell(TensorBoard(str(tmp_path / "mine")), None)
    assert curves.items() <= series(read(tmp_path / "mine")).items()


def test_no_place_to_write() -> None:
    with pytest.raises(ValueError, match="give the logger a path"):
        TensorBoard(None).on(RunStarted("x", 1))


def test_a_real_run(tmp_path: Path, train: Callable[..., None], recorded: Callable[[Path], Series]) -> None:
    train(tmp_path, TensorBoard(None))
    reader = read(tmp_path / "tensorboard")
    same(series(reader), recorded(tmp_path))
    assert len(reader.Images("matrix")) == 1


def test_a_resumed_run_tells_nothing_twice(
    tmp_path: Path, train: Callable[..., None], recorded: Callable[[Path], Series]
) -> None:
    """Stopped at step 12, in experience 1; the checkpoint is of step 8."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, TensorBoard(None), stop_at=12)
    assert series(read(tmp_path / "tensorboard"))["loss/ce"][-1][0] == 12
    assert table(tmp_path / "tensorboard")[1] == "STATUS_FAILURE"
    train(tmp_path, TensorBoard(None))
    same(series(read(tmp_path / "tensorboard")), recorded(tmp_path))
    assert table(tmp_path / "tensorboard")[1] == "STATUS_SUCCESS"


def same(found: Series, own: Series) -> None:
    """Equal to 1e-6, for TensorBoard keeps 32 bits."""
    assert own.keys() <= found.keys()
    for name, points in own.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in points], rel=1e-6), name


def test_what_is_told_before_a_checkpoint_is_on_disk(tmp_path: Path) -> None:
    """A process that is killed closes nothing."""
    logger = TensorBoard(None)
    logger.on(RunStarted("x", 2, folder=tmp_path))
    logger.on(StepDone(0, "train", 0, 1, 2, 2, 2, {"ce": 0.5}))
    logger.on(Evaluated(1, [1.0, None], [None, None], 2))
    assert series(read(tmp_path / "tensorboard")).keys() == {"loss/ce", "accuracy/0", "accuracy/mean"}
    logger.close()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'clx\[tensorboard\]'"):
        TensorBoard(None)
