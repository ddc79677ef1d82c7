"""The command line. Importing it is instant; numpy, Pillow and torch are loaded by the command that needs
them.
"""

from intarsia.cli.application import app, main

__all__ = ["app", "main"]
