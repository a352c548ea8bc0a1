"""What an option is: declared once, in the signature of the public function that takes it.

``metric: Annotated[str, Option("Primary metric.")] = "dice"`` in `shiftkit.api` is all there is to say; flags, keys of
``shiftkit.toml``, bounds and help are read from it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """Help and bounds of one option.

    Parameters
    ----------
    help : str
        One line, as ``--help`` shows it.
    min, max : float or None
        Bounds, both allowed.
    flag : str
        The flag, where it is not the name with dashes: ``--bootstrap`` of ``n_bootstrap``.
    metavar : str
        What stands for the value in ``--help``; an argument that has no flag where it is in capitals.
    """

    help: str
    min: float | None = None
    max: float | None = None
    flag: str = ""
    metavar: str = ""
