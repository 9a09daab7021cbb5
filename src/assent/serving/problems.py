"""What went wrong with a request to an endpoint, in the interface's own form: never a traceback, never plain text."""

from __future__ import annotations

from dataclasses import replace

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from assent.serving.generation_queue import Fault, RequestFailed
from assent.serving.openai_responses import Problem, ProblemError


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


_PROBLEMS = {
    Fault.REQUEST: Problem(status=400, message="", param="messages", code="invalid_value"),
    Fault.TOO_LONG: Problem(status=400, message="", param="messages", code="context_length_exceeded"),
    Fault.MEMORY: Problem(
        status=503, message="the memory is not enough for this request", type="server_error", code="out_of_memory"
    ),
    Fault.MODEL: Problem(
        status=500, message="the model failed on this request; the server's log has the details", type="server_error",
        code="model_error",
    ),
    Fault.CLOSED: Problem(
        status=503, message="the model is not there: this endpoint is stopping", type="server_error", code="unavailable"
    ),
}  # fmt: skip
NOT_A_NUMBER = Problem(
    status=500, message="the model computes numbers that are not finite", type="server_error", code="model_error"
)
_OURS = Problem(
    status=500, message="the endpoint made a mistake; its log has the details", type="server_error", code="server_error"
)


def problem_of(failed: RequestFailed) -> Problem:
    """What the queue says of a request, for its client."""
    problem = _PROBLEMS[failed.fault]
    return replace(problem, message=failed.what) if failed.what else problem


def problem_of_status(status: int, what: str) -> Problem:
    """What HTTP itself knows as an error."""
    return Problem(status=status, message=what, code=_CODES_OF_STATUS.get(status))


def answer_errors(app: FastAPI) -> None:
    """Answer every kind of error of `app` in the interface's form."""

    async def answer(_: Request, error: Exception) -> Response:
        match error:
            case ClientGone():
                return Response(status_code=499)
            case ProblemError():
                return error.problem.response()
            case RequestValidationError():
                return _problem_of_fields(error).response()
            case HTTPException():
                return problem_of_status(error.status_code, str(error.detail)).response(error.headers)
        return _OURS.response()  # Starlette raises the error again, and uvicorn logs it

    for kind in (ClientGone, ProblemError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


_CODES_OF_STATUS = {408: "timeout", 413: "too_large"}
_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


def _problem_of_fields(error: RequestValidationError) -> Problem:
    """The first field that cannot be used; of the ways to give a message's content, the one that was tried."""
    errors = error.errors()
    first = next((one for one in errors if one["type"] == "unsupported_content"), errors[0])
    path = [str(part) for part in first["loc"][1:] if not str(part).startswith(("list[", "str", "function-"))]
    path += [name for name in [first.get("ctx", {}).get("name")] if name is not None]
    param = ".".join(path) or None
    if first["type"] == "extra_forbidden":
        message = f"unknown parameter: '{param}'"
    elif first["type"] == "json_invalid":
        message, param = f"the body is not JSON: {first['ctx']['error']}", None
    else:
        reason = str(first["msg"]).replace("Input should be", "expected").replace("Field required", "is required")
        message = f"{param}: {reason[:1].lower()}{reason[1:]}" if param else reason
    return Problem(status=400, message=message, param=param, code=_CODES.get(first["type"], "invalid_value"))
