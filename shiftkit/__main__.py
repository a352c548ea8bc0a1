"""``python -m shiftkit``: the command line, also where its script is not on the PATH."""

from .cli import entry

if __name__ == "__main__":  # worker processes import this module too, by another name
    entry()
