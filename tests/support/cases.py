"""Cases of a test that share its fixtures, and so one service."""

import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import wraps
from typing import Any

import pytest

AsyncTest = Callable[..., Coroutine[Any, Any, None]]


def cases(names: str | Sequence[str], values: Iterable[Any]) -> Callable[[AsyncTest], AsyncTest]:
    """Run an asynchronous test once per case, each as a subtest; takes what parametrize() takes.

    For tables of cases that leave nothing behind: opening a service takes longer than they do.
    """
    parameters = [names] if isinstance(names, str) else names
    table = [(value,) if isinstance(names, str) else tuple(value) for value in values]

    def decorate(test: AsyncTest) -> AsyncTest:
        @wraps(test)
        async def in_turn(subtests: pytest.Subtests, **fixtures: Any) -> None:
            for case in table:
                arguments = dict(zip(parameters, case, strict=True))
                with subtests.test(**arguments):
                    await test(**fixtures, **arguments)

        signature = inspect.signature(test)
        subtests = inspect.Parameter("subtests", inspect.Parameter.KEYWORD_ONLY)
        fixtures = [
            parameter for name, parameter in signature.parameters.items() if name not in parameters
        ]
        in_turn.__signature__ = signature.replace(parameters=[*fixtures, subtests])  # type: ignore[attr-defined]
        return in_turn

    return decorate
