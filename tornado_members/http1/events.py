"""The events that RequestReader returns."""

from dataclasses import dataclass

from tornado_members.http1.heads import RequestHead


@dataclass(slots=True)
class Data:
    """A piece of a request's content, without its chunk framing."""

    content: bytes


class EndOfMessage:
    """The request is complete."""


END_OF_MESSAGE = EndOfMessage()

Event = RequestHead | Data | EndOfMessage
