"""Errors as answers: every kind has its status, and an unexpected one tells a stranger nothing."""

import json
import logging

import pytest
from starlette.requests import Request

from reco3.server.domain import errors
from reco3.server.domain.errors import Busy, Reco3Error, StartRefused, TooManyRequests
from reco3.server.web.errors import _statuses, answer_known, answer_unexpected

pytestmark = pytest.mark.anyio

REQUEST = Request(
    {"type": "http", "method": "GET", "path": "/x", "headers": [], "query_string": b"", "server": ("a", 1)}
)


def kinds() -> set[type[Reco3Error]]:
    found = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Reco3Error)}
    return found - {Reco3Error}


def test_every_error_that_a_request_may_meet_has_its_status() -> None:
    assert set(_statuses) == kinds() - {StartRefused}


def test_every_kind_of_error_has_its_own_code() -> None:
    assert len({kind.code for kind in kinds()}) == len(kinds())


def test_the_drawn_tree_names_every_kind_with_its_status() -> None:
    drawing = errors.__doc__ or ""

    for kind in kinds() - {StartRefused}:
        assert f"{kind.__name__} " in drawing
        assert str(_statuses[kind]) in drawing


@pytest.mark.parametrize("err", [Busy("full", retry_after_s=5), TooManyRequests("slow down", retry_after_s=5)])
async def test_who_shall_come_back_is_told_when(err: Reco3Error) -> None:
    answer = await answer_known(REQUEST, err)

    assert answer.headers["retry-after"] == "5"


async def test_an_unexpected_error_is_logged_whole_and_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await answer_unexpected(REQUEST, RuntimeError("the secret is hunter2"))

    assert answer.status_code == 500
    assert set(json.loads(answer.body)) == {"error", "message"}
    assert b"hunter2" not in answer.body
    assert "hunter2" in caplog.text
