"""Who may call a route: every endpoint carries its audience, and one without any cannot be served."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from reco3.protocol.limits import MAX_BODY_BYTES
from reco3.server.domain.operators import Role

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])


class Kind(StrEnum):
    """The three worlds that never mix."""

    PUBLIC = "public"
    AGENT = "agent"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a route serves, and how large a body it takes.

    `needs_proof`: a session must have proved its person within five minutes. `needs_person`: no API token.
    """

    kind: Kind
    role: Role | None = None
    max_body_bytes: int = MAX_BODY_BYTES
    needs_proof: bool = False
    needs_person: bool = False


PUBLIC = Audience(Kind.PUBLIC)
AGENT = Audience(Kind.AGENT)


def operators(role: Role, *, needs_proof: bool = False, needs_person: bool = False) -> Audience:
    """Operators who hold this role."""
    return Audience(Kind.OPERATOR, role, needs_proof=needs_proof, needs_person=needs_person)


def serves(audience: Audience) -> Callable[[EndpointT], EndpointT]:
    """Declare an endpoint's audience."""

    def declare(endpoint: EndpointT) -> EndpointT:
        endpoint.audience = audience  # type: ignore[attr-defined]
        return endpoint

    return declare


def audience_of(endpoint: Callable[..., Any]) -> Audience:
    """The declared audience.

    Raises:
        TypeError: the endpoint declares none, so it must not be served.
    """
    audience = getattr(endpoint, "audience", None)
    if not isinstance(audience, Audience):
        raise TypeError(f"{endpoint!r} declares no audience; add @serves(...) to it")
    return audience
