"""Orders for tumors to implant."""

import numpy as np

from shiftkit.phantoms.implants.growth import Order


def order(volume_ml: float = 40.0, place: tuple[float, float, float] = (0.4, 0.1, 0.1)) -> Order:
    return Order(volume_ml=volume_ml, place=np.array(place))
