"""TensorBoard: curves, hyper-parameters and the accuracy matrix as event files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clx.logger.base import RunFinished, RunStarted, StepDone
from clx.logger.tracker import State, Told, Tracker, as_text, hyper_parameters

SHOWN = ("metrics/", "task_aware/")  # beside the hyper-parameters
STATUS = {"finished": "STATUS_SUCCESS", "failed": "STATUS_FAILURE", "killed": "STATUS_FAILURE"}


class TensorBoard(Tracker):
    """Writes scalars over the run's steps; `hparams` below the folder is the run's line in the table of
    hyper-parameters, with its final metrics and how it ended.

    A run that goes on hides what it repeats. path: a folder for this run alone; None = tensorboard in the run's
    folder. Raises ImportError where tensorboard is not installed.
    """

    def __init__(self, path: str | None) -> None:
        super().__init__(path)
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - only when it is asked for
        except ImportError as error:
            raise ImportError("tensorboard is not installed; pip install 'clx[tensorboard]'") from error
        self._writer = SummaryWriter
        self._curves: Any = None
        self._table: Any = None

    def _begin(self, event: RunStarted) -> None:
        folder = self._place("tensorboard")
        purge = event.total_step + 1 if event.goes_on else 0  # what stands at that step and after it is to come again
        self._curves = self._writer(str(folder), purge_step=purge)
        # TensorBoard keeps the first state that it reads of a run, so the table's line is written anew each time.
        for old in (folder / "hparams").glob("events.out.tfevents.*"):
            old.unlink()
        self._table = self._writer(str(folder / "hparams"))
        self._describe(hyper_parameters(event.config))

    def _record(self, event: Told, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._curves.add_scalar(name, value, self.step)
        if not isinstance(event, StepDone):
            self._curves.flush()  # before the checkpoint: a run that goes on from there does not tell it again
        if isinstance(event, RunFinished):
            for name in filter(lambda name: name.startswith(SHOWN), values):
                self._table.add_scalar(name, values[name], self.step)
            picture = self._matrix_picture()
            if picture is not None:
                self._curves.add_image("matrix", _pixels(picture), self.step, dataformats="HWC")

    def _end(self, state: State) -> None:
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2  # noqa: PLC0415
        from tensorboard.plugins.hparams.api_pb2 import Status  # noqa: PLC0415

        ended = plugin_data_pb2.SessionEndInfo(status=Status.Value(STATUS[state]))
        self._tell(metadata.SESSION_END_INFO_TAG, session_end_info=ended)
        for writer in (self._curves, self._table):
            writer.close()

    def _describe(self, parameters: Mapping[str, Any]) -> None:
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2  # noqa: PLC0415

        started = plugin_data_pb2.SessionStartInfo()
        for name, value in parameters.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                started.hparams[name].number_value = value
            else:
                started.hparams[name].string_value = as_text(value)
        self._tell(metadata.SESSION_START_INFO_TAG, session_start_info=started)

    def _tell(self, tag: str, **content: Any) -> None:
        """Add a record of the table of hyper-parameters."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # noqa: PLC0415
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2  # noqa: PLC0415

        data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
        plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
        value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
        self._table.file_writer.add_summary(Summary(value=[value]))


def _pixels(picture: Path) -> Any:
    """The picture as [H, W, 3] uint8."""
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"))
