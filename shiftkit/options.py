"""What an option is: declared once, in the signature of the public function that takes it.

``metric: Annotated[str, Option("Primary metric.")] = "dice"`` in `shiftkit.api` is all there is to say; flags, keys of
``shiftkit.toml``, bounds and help are read from it, and values are checked alike wherever they come from.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ForwardRef, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin

from .errors import ConfigError
from .words import nearest
from .work import DryRun

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, repr=False)
class Option:
    """Help and bounds of one option.

    Parameters
    ----------
    help : str
        One line, as ``--help`` shows it.
    min, max : float or None
        Bounds, both allowed; of each item where there are several.
    flag : str
        The flag, where it is not the name with dashes: ``--bootstrap`` of ``n_bootstrap``.
    metavar : str
        In capitals, the name of an argument that has no flag.
    required : bool
        Whether the command line cannot do without it, though Python can.
    many : bool
        Whether the flag can be given several times, for one path or name each.
    form : str
        Regular expression that a whole text must match; ``help`` says in words what it may be.
    """

    help: str
    min: float | None = None
    max: float | None = None
    flag: str = ""
    metavar: str = ""
    required: bool = False
    many: bool = False
    form: str = ""

    def __repr__(self) -> str:
        # Stands in every signature that help() shows, so that it says no more than was declared.
        said = [(one.name, getattr(self, one.name), one.default) for one in fields(self)[1:]]
        more = [f"{name}={value!r}" for name, value, default in said if value != default]
        return f"{type(self).__name__}({', '.join([repr(self.help), *more])})"


class Input(Option):
    """An option of one call, such as a folder: no setting, so no configuration file has it and no record keeps it."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One parameter of a public function, by its name in Python and in ``shiftkit.toml``.

    ``kind`` is the type of its values, without None; a forward reference stands for something that a path or a name can
    name. ``default`` is ``inspect.Parameter.empty`` where there is none.
    """

    name: str
    option: Option
    kind: Any
    default: Any

    @property
    def flag(self) -> str:
        """How the command line calls it; empty for an argument."""
        if self.option.metavar:
            return ""
        name = self.name.replace("_", "-")
        return self.option.flag or (f"--{name}/--no-{name}" if self.default is True else f"--{name}")

    @property
    def spoken(self) -> str:
        """How a message of the command line calls it."""
        return self.option.metavar or self.flag.partition("/")[0]

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a value, or each of several, must be one of; none where it may be any."""
        return _literals(self.kind)

    @property
    def several(self) -> bool:
        """Whether it takes several texts."""
        return get_origin(self.kind) is Sequence and (bool(self.words) or get_args(self.kind) == (str,))

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        ends = (("at least", self.option.min), ("at most", self.option.max))
        return " and ".join(f"{word} {end:g}" for word, end in ends if end is not None)

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None if nothing is."""
        if value is self.default:  # also None, which no kind lists
            return None
        texts = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
        strange = [one for one in texts if isinstance(one, str) and self.words and one not in self.words]  # pyright: ignore
        if strange and self.several is not isinstance(value, str):
            told = f"must be {'among' if self.several else 'one of'} {', '.join(self.words)}; got {', '.join(strange)}"
            return told + nearest(strange[0], self.words)
        if not _fits(value, self.kind):
            return f"must be {_words(self.kind)}; got {value!r}"
        if self.option.form and isinstance(value, str) and not re.fullmatch(self.option.form, value):
            said = self.option.help.removesuffix(".")
            return f"must be {said}; got {value!r}"
        low, high = self.option.min, self.option.max
        numbers = [one for one in (value if isinstance(value, Sequence) else [value]) if isinstance(one, Real)]
        if not all(isfinite(one) for one in numbers):  # no comparison with NaN is true, and so none would refuse it
            return f"must be finite; got {value!r}"
        if any((low is not None and one < low) or (high is not None and one > high) for one in numbers):  # pyright: ignore
            return f"must be {self.bounds}; got {value!r}"
        return None


@functools.cache
def options_of(function: Callable[..., Any]) -> Mapping[str, Declared]:
    """The options of a public function, in the order of its signature.

    Examples
    --------
    >>> def cut(cake: Annotated[str, Input("Which.")], *, n_parts: Annotated[int, Option("Parts.", min=2)] = 8): ...
    >>> [(one.flag, one.default) for one in options_of(cut).values()][1]
    ('--n-parts', 8)
    >>> options_of(cut)["n_parts"].problem(1)
    'must be at least 2; got 1'
    """
    found: dict[str, Declared] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if get_origin(parameter.annotation) is not Annotated:
            continue
        kind, option = get_args(parameter.annotation)[:2]
        found[name] = Declared(name=name, option=option, kind=_without_none(kind), default=parameter.default)
    return found


def settings_of(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Of these values those that are settings of a function, in the order of its signature."""
    return {
        name: tuple(value) if isinstance(value := values[name], list) else value
        for name, one in options_of(function).items()
        if name in values and not isinstance(one.option, Input)
    }


def passed_on(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Of these values those that another function, or a class, takes by the same name; None leaves its default.

    Examples
    --------
    >>> def bake(*, heat_c: float = 180, n_parts: int = 8): ...
    >>> passed_on(bake, {"heat_c": 200, "n_parts": None, "knife": "sharp"})
    {'heat_c': 200}
    """
    return {name: values[name] for name in inspect.signature(function).parameters if values.get(name) is not None}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A public function: it refuses values of another type than declared, or out of bounds.

    A dry run of it returns a `shiftkit.work.Planned`, which type checkers are not told: it is the end of a call, and no
    result to go on with.

    Raises
    ------
    ConfigError
        Naming every such option.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        found = {name: one.problem(given[name]) for name, one in options_of(function).items() if name in given}
        problems = [f"`{name}` {problem}" for name, problem in found.items() if problem]
        if problems:
            told = "; ".join(problems)
            raise ConfigError(told if told.endswith("?") else f"{told}.")
        try:
            return function(*args, **kwargs)
        except DryRun as ended:
            return cast(R, ended.planned)

    return call


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, UnionType):
        return kind
    parts = [part for part in get_args(kind) if part is not type(None)]
    return parts[0] if len(parts) == 1 else kind


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, ForwardRef | str):  # a name in quotes: heavy to import, and checked where it is used
        return True
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in (tuple, Sequence):
        parts = get_args(kind)  # one of a sequence, each of a tuple; all of them alike
        several = isinstance(value, list | tuple) and all(_fits(item, parts[0]) for item in value)
        return several and (len(parts) == 1 or len(value) == len(parts))
    if get_origin(kind) is Mapping:
        return isinstance(value, Mapping) and all(_fits(one, get_args(kind)[1]) for one in value.values())
    if kind is Path:
        return isinstance(value, str | Path)
    # NumPy's numbers are numbers too; but True, an int to Python, is no number of folds.
    number: Any = {int: Integral, float: Real}.get(kind, kind)
    return isinstance(value, number) and (kind is bool or not isinstance(value, bool))


def _literals(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    return _literals(get_args(kind)[0]) if get_origin(kind) is Sequence else ()


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_words, get_args(kind))))
    if get_origin(kind) in (tuple, Sequence):
        parts = get_args(kind)
        return f"a list{f' of {len(parts)}' * (len(parts) > 1)}, each item {_words(parts[0])}"
    if get_origin(kind) is Mapping:
        return f"pairs of a name and {_words(get_args(kind)[1])}"
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}[kind]
