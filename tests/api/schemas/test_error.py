from shoe_classifier.api.openapi import error_responses
from shoe_classifier.api.schemas.error import ErrorBody
from shoe_classifier.errors import Forbidden, NotFound, NotReady


def test_every_documented_error_has_this_form() -> None:
    responses = error_responses(NotFound, NotReady, Forbidden)
    assert [*responses] == [403, 404, 503]
    for response in responses.values():
        assert response["model"] is ErrorBody
        for code, example in response["content"]["application/json"]["examples"].items():
            body = ErrorBody.model_validate(example["value"])
            assert body.model_dump() == {"detail": body.detail, "code": code}
