"""The protocol's errors: what a parser may raise, and nothing else leaves this package."""

from __future__ import annotations


class ODataError(Exception):
    """A request or a document that breaks the protocol.

    `status` is the HTTP status a service answers with, `message` a sentence for the client,
    `position` the zero-based offset of the offending token in the text given to the parser, and
    `token` that token; both None where the error is not about one place. `code` is the text of the
    error document's `code` member (empty where the parser refused; MS-ODATA 2.2.8.1).
    """

    status = 400

    def __init__(
        self,
        message: str,
        *,
        position: int | None = None,
        token: str | None = None,
        status: int | None = None,
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.token = token
        self.code = code
        if status is not None:
            self.status = status

    def within(self, part: str) -> ODataError:
        """The same error with a message that says in which part of the request, where in it, and at which
        token, as far as it does not say so already."""
        told = [] if part in self.message else [part]
        if self.position is not None and f"position {self.position}" not in self.message:
            told.append(f"position {self.position}")
        if self.token and self.token[:60] not in self.message:
            told.append(f"'{self.token[:60]}'")
        message = f"{self.message} ({', '.join(told)})" if told else self.message
        return ODataError(
            message, position=self.position, token=self.token, status=self.status, code=self.code
        )


class UnsupportedConstruct(ODataError):
    """Valid OData v2 that this service does not implement; the message names the construct."""

    status = 501
