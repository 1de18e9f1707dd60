"""The answer to what went wrong."""

from pydantic import BaseModel


class ErrorBody(BaseModel):
    """The form of every error."""

    detail: str
    code: str
