"""`clx -m`: many runs by one command, through any of Hydra's launchers, and the search among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def run(overrides: Sequence[str], folders: Sequence[str]) -> int | None:
    """Carry out a command with -m; its exit code, or None where the sweeper is another package's.

    folders: of a person's own configs. Raises Mistake before anything has been started.
    """
    from clx import jobs  # noqa: PLC0415 - Hydra
    from clx.store.run import exit_code  # noqa: PLC0415
    from clx.sweep.grid import complete, sum_up  # noqa: PLC0415
    from clx.sweep.launch import Launcher  # noqa: PLC0415

    master = jobs.master(overrides, folders)
    sweeper = str(master.hydra.sweeper.get("_target_", ""))
    if sweeper == "clx.sweep.search.Search":
        from clx.sweep.search import search  # noqa: PLC0415

        return search(master, overrides, folders)
    if not sweeper.endswith("BasicSweeper"):
        return None
    expected = jobs.grid(master, overrides, folders)
    root = Path(master.output_root)
    launch = Launcher(master)
    whole = complete(expected, launch, root)
    launch.close()
    places = [job.folder for job in expected]
    sum_up(places, root)
    return exit_code(places) if whole else 130
