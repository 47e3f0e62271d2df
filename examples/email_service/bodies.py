"""Reads the bodies of requests: bounded, and validated by a model."""

from typing import TypeVar

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

# A mail of ours is at most 10,000 characters, which JSON may spell with six bytes each.
MAX_BODY_BYTES = 64 * 1024 + 1024

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """The body; raises HTTPException 413 once the limit is passed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
    return bytes(body)


async def read_payload(request: Request, model: type[ModelT]) -> ModelT:
    """The validated body; raises ValidationError, or HTTPException 413."""
    return model.model_validate_json(await read_body(request))
