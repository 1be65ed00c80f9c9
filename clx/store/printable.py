"""Text from the files of somebody else's run, shown as what it is."""

from __future__ import annotations

LONGEST = 1000  # characters


def printable(value: object, longest: int = LONGEST) -> str:
    """The text on one line, with what would steer a terminal (escape sequences, line ends, reversed writing) spelled
    out, as in "\\\\x1b[2J"; cut after so many characters.

    Rich's markup is not touched: print it with a Console(markup=False, emoji=False).
    """
    text = str(value)
    text = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
