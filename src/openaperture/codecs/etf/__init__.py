"""Erlang's external term format (erl_ext_dist, version 131): bytes to plain values and back, within bounds.

This is what workers and Managers of the original OpenAperture speak. The package knows no message: what a key
means is told elsewhere.
"""

from openaperture.codecs.etf.reader import decode
from openaperture.codecs.etf.terms import Atom, Key, Term, name_of, text_of
from openaperture.codecs.etf.writer import encode

__all__ = ["Atom", "Key", "Term", "decode", "encode", "name_of", "text_of"]
