"""Questions of one turn of the event loop, put as one.

Whatever a server is asked costs a round trip, and mostly more than the answer is worth. Those who
ask in the same turn share one. Nobody is told what was found before he asked: a question goes out
only after all who share it have come.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """Asks `ask_all` for everybody; it answers each question, in their order.

    It is asked to the end, also if those who wait for the answer are cancelled. What it raises,
    everybody is told who shared the question.
    """

    def __init__(self, ask_all: Callable[[Sequence[Q]], Awaitable[Sequence[A]]]) -> None:
        self._ask_all = ask_all
        self._waiting: list[tuple[Sequence[Q], asyncio.Future[Sequence[A]]]] = []
        self._asking: set[asyncio.Task[None]] = set()

    async def ask(self, questions: Sequence[Q]) -> Sequence[A]:
        """The answers to these questions."""
        loop = asyncio.get_running_loop()
        answers: asyncio.Future[Sequence[A]] = loop.create_future()
        self._waiting.append((questions, answers))
        if len(self._waiting) == 1:
            # In the next turn, and in nobody's context: it is everybody's.
            asking = loop.create_task(self._ask(), context=Context())
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
        return await answers

    async def _ask(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            answers = await self._ask_all([one for questions, _ in waiting for one in questions])
        except BaseException as error:
            for _, place in waiting:
                if not place.done():
                    _refuse(place, error)
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for questions, place in waiting:
            end = start + len(questions)
            if not place.done():
                place.set_result(answers[start:end])
            start = end


def _refuse(place: "asyncio.Future[Sequence[A]]", error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        place.cancel()
    else:
        place.set_exception(error)
