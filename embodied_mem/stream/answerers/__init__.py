"""Answerers: who turns a question and recalled evidence into words or a choice; one file each."""

from embodied_mem.stream.answerers.base import (
    Answer,
    Answerer,
    AnswererError,
    Capabilities,
    EmbedPart,
    ImagePart,
    Request,
    TextPart,
    make_answerer,
    request_for,
)

__all__ = [
    "Answer",
    "Answerer",
    "AnswererError",
    "Capabilities",
    "EmbedPart",
    "ImagePart",
    "Request",
    "TextPart",
    "make_answerer",
    "request_for",
]
