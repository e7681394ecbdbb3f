"""What may go wrong between two ends. All of it is a `HandoverError`: state is missing, and the
source has it still."""

from __future__ import annotations

from orchestrator.model.errors import ErrorClass, HandoverError


class ProtocolError(HandoverError):
    """The peer does not speak as it should; the connection is of no use any more."""

    code = "agent-protocol"
    error_class = ErrorClass.INVALID


class NotProvenError(HandoverError):
    """The peer did not prove that it has this transaction's key, or a frame was changed,
    repeated, left out or sent back."""

    code = "agent-key"
    error_class = ErrorClass.REFUSED


class RefusedError(HandoverError):
    """The agent said no; the text is its own."""

    code = "agent-refused"
    error_class = ErrorClass.REFUSED
