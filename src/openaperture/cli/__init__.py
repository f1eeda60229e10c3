"""The command line: parse, call, print, exit code."""

from openaperture.cli.commands import main

__all__ = ["main"]
