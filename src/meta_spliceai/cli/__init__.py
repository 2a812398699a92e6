"""The command line: parse, call, print."""

from meta_spliceai.cli.app import main

__all__ = ["main"]
