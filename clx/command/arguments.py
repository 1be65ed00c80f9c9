"""Arguments of the verbs, with mistakes said in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from clx.config import Mistake


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is a Mistake."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse for arguments that it cannot read."""
        raise Mistake(f"{self.prog}: {message}; see {self.prog} --help")
