"""What a program printed: raw terminal bytes as lines of styled text, and the file they come from.

`TerminalLog` interprets bytes as a terminal would and keeps the lines; `ConsoleReader` follows a `console.log`, however
large. What crosses to a view is a frozen `ConsolePicture`.
"""

from .lines import PLAIN, Colour, ConsolePicture, Line, Run, TextStyle, plain
from .reader import ConsoleReader, Match
from .terminal import TerminalLog

__all__ = [
    "PLAIN",
    "Colour",
    "ConsolePicture",
    "ConsoleReader",
    "Line",
    "Match",
    "Run",
    "TerminalLog",
    "TextStyle",
    "plain",
]
