"""`clx`: runs, sweeps, and the verbs that look at them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

VERBS = {
    "compare": "clx.command.compare",
    "show": "clx.command.show",
    "resume": "clx.command.resume",
    "list": "clx.command.list",
    "data": "clx.command.data",
    "report": "clx.command.report",
    "verify": "clx.command.verify",
    "export": "clx.command.export",
    "--from": "clx.command.start",
}
SHELLS = ("bash", "fish", "zsh")
LONGEST = 1200  # characters of a message: the names of all options or keys of a group fit in


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    from clx.config import Mistake  # noqa: PLC0415 - Hydra, which `import clx.cli` alone does not need

    try:
        if arguments and arguments[0] in VERBS:
            return int(importlib.import_module(VERBS[arguments[0]]).main(arguments[1:]))
        return run(arguments)
    except Mistake as mistake:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        return _refused(str(mistake))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, RecursionError) as error:  # a file that was named cannot be had, or nests without an end
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        named = getattr(error, "filename", None)
        problem = getattr(error, "strerror", None) or "nested too deeply"
        return _refused(f"{named}: {problem}" if named else f"{' '.join(arguments)}: {problem}")


def _refused(text: str) -> int:
    """Say it in one or two lines without control characters, the middle left out where it is long; the exit code."""
    from clx.store.printable import printable  # noqa: PLC0415

    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    first, _, rest = text.partition("\n")
    print("\n".join(printable(line, 2 * LONGEST) for line in (f"clx: {first}", rest) if line), file=sys.stderr)
    return 2


def run(arguments: Sequence[str]) -> int:
    """Compose and run: one job, or with -m a sweep."""
    from hydra._internal.utils import get_args_parser  # noqa: PLC0415

    from clx.config import Mistake  # noqa: PLC0415

    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # ten lines of usage say less than one
    args = parser.parse_intermixed_args(list(arguments))
    # Hydra itself wants its flags before the overrides, or after all of them.
    arguments = [*(word for word in arguments if word not in args.overrides), *args.overrides]
    if args.shell_completion:
        return _complete(arguments, args.overrides)
    if args.help:
        from clx.command import help as helping  # noqa: PLC0415

        return helping.main(_config_folders(args))
    unknown = [word for word in args.overrides if "=" not in word and not word.startswith("~")]
    if unknown:
        from clx.store.identity import nearest  # noqa: PLC0415

        verbs = nearest(unknown[0], list(VERBS))
        raise Mistake(f"{unknown[0]}: neither KEY=VALUE nor one of {', '.join(VERBS)}{verbs}")
    _check_flags(args)
    folders = _config_folders(args)
    from clx import jobs  # noqa: PLC0415
    from clx.trust import check_hydra  # noqa: PLC0415

    if args.cfg or args.info is not None or args.hydra_help:
        check_hydra(jobs.showable(args.overrides, folders, args.package, resolved=args.resolve))
        return _hydra(arguments)
    if not args.multirun:
        from clx.sweep import ensemble  # noqa: PLC0415
        from clx.sweep.launch import alone  # noqa: PLC0415

        cfg = jobs.composed(args.overrides, folders)
        seeds = ensemble.seeds(cfg)
        if seeds is not None:
            check_hydra(cfg)
            return ensemble.run(seeds, args.overrides, folders)
        return alone(jobs.prepare(args.overrides, folders), cfg)
    from clx import sweep  # noqa: PLC0415

    code = sweep.run(args.overrides, folders)
    if code is None:
        check_hydra(jobs.master(args.overrides, folders))
        code = _hydra(arguments)
    return code


def _check_flags(args: Any) -> None:
    """Refuse Hydra's flags where they would do nothing, or too much."""
    from clx.config import Mistake  # noqa: PLC0415

    if args.experimental_rerun is not None:
        raise Mistake(
            "--experimental-rerun: it would load a pickle, which can run anything; use clx --from config.yaml"
        )
    if args.config_name is not None or args.config_path is not None:
        flag = "--config-name" if args.config_name is not None else "--config-path"
        raise Mistake(f"{flag}: clx has one configuration, conf/config.yaml; -cd DIR adds a folder of your own options")
    if (args.resolve or args.package is not None) and not args.cfg:
        raise Mistake(f"{'--resolve' if args.resolve else '--package'}: say of what, --cfg job, hydra or all")


def _complete(arguments: Sequence[str], words: Sequence[str]) -> int:
    """What a shell asks for while somebody types: verbs and what follows them, else what Hydra completes."""
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT") or 10**6)]
    if any(word.startswith("query=") for word in words) and line:
        from clx.command.help import complete  # noqa: PLC0415

        found = complete(line, VERBS)
        if found is not None:
            print(" ".join(found))
            return 0
        if line.split() and line.endswith(" ") and len(line.split()) == 1:
            print(" ".join(VERBS))  # anything may come: a verb too
    _, _, shell = words[0].partition("=") if len(words) == 1 else ("", "", "")
    if shell not in SHELLS or not words[0].startswith(("install=", "uninstall=", "query=")):
        _refuse(f"-sc {' '.join(words)}: must be install=, uninstall= or query= with one of {', '.join(SHELLS)}")
    return _hydra(arguments)


def _refuse(message: str) -> NoReturn:
    from clx.config import Mistake  # noqa: PLC0415

    raise Mistake(f"{message}; see clx --help")


def _config_folders(args: Any) -> tuple[str, ...]:
    from clx.config import Mistake  # noqa: PLC0415

    if args.config_dir is None:
        return ()
    folder = Path(args.config_dir).absolute()
    if not args.config_dir or not folder.is_dir():
        raise Mistake(f"-cd {args.config_dir}: there is no such folder")
    return (str(folder),)


def _hydra(arguments: Sequence[str]) -> int:
    """Hand the command to Hydra: what it shows itself, and sweepers of other packages, which call clx.app.main."""
    import hydra  # noqa: PLC0415

    from clx import app  # noqa: PLC0415
    from clx.config import conf_folder  # noqa: PLC0415

    before = sys.argv
    sys.argv = ["clx", *arguments]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(app.main)()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    finally:
        sys.argv = before
    return 0


if __name__ == "__main__":
    sys.exit(main())
