"""Transitional: results that are not yet `shiftkit.results.Result` answer as if they were."""

from typing import Any


class Answer:
    def __init__(self, result: Any) -> None:
        self._result = result

    def __getattr__(self, name: str) -> Any:
        result = self._result
        if name == "findings" and not hasattr(result, "findings"):
            return (result.finding(),)
        if name == "claim" and not hasattr(result, "claim"):
            return getattr(result, "verdict", "") or self.findings[0].claim
        if name == "estimates" and not hasattr(result, "estimates"):
            return ()
        if name == "table" and not hasattr(result, "table"):
            return result.to_frame()
        value = getattr(result, name)
        return value() if name in ("findings", "claim", "estimates", "verdict") and callable(value) else value

    def __str__(self) -> str:
        return str(self._result)


def answer(result: Any) -> Any:
    from ..results import Result

    return result if isinstance(result, Result) else Answer(result)
