"""Where processes run: on this machine, or on the workers of a Dask scheduler's cluster."""

import re

from ..errors import ConfigError

LOCAL = "local"
SCHEDULERS = r"local|dask://([^\s/:@\[\]]+|\[[\da-fA-F:]+\]):\d{1,5}"


def address_of(scheduler: str) -> str:
    """The address that Dask knows a scheduler by.

    Examples
    --------
    >>> address_of("dask://node7:8786")
    'tcp://node7:8786'
    """
    address = scheduler.removeprefix("dask://")
    if not re.fullmatch(SCHEDULERS, scheduler) or int(address.rpartition(":")[2]) > 65535:
        raise ConfigError(f"`scheduler` must be local, or dask://HOST:PORT of a Dask scheduler; got {scheduler!r}.")
    return f"tcp://{address}"
