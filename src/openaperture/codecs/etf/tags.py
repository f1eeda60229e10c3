"""The tags of erl_ext_dist that carry data: the first byte of every term says what follows.

Left out on purpose, and so refused: what names things inside one Erlang node (pids, ports, references, funs,
exports, local terms), and bit strings.
"""

from typing import Final

VERSION: Final = 131
COMPRESSED: Final = 80
"""Only right after the version: the whole term, deflated."""

NEW_FLOAT: Final = 70
SMALL_INTEGER: Final = 97
INTEGER: Final = 98
FLOAT: Final = 99
"""A float as text, from before R11."""
ATOM: Final = 100
SMALL_TUPLE: Final = 104
LARGE_TUPLE: Final = 105
NIL: Final = 106
"""The empty list, and the end of every other one."""
STRING: Final = 107
"""A list of numbers below 256, of whatever meaning. Text is a binary."""
LIST: Final = 108
BINARY: Final = 109
SMALL_BIG: Final = 110
LARGE_BIG: Final = 111
SMALL_ATOM: Final = 115
MAP: Final = 116
ATOM_UTF8: Final = 118
SMALL_ATOM_UTF8: Final = 119
