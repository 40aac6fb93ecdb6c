"""Every way into the server, as the code declares them: for tests that must not miss a route."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from starlette.routing import Route

from reco3.server.settings import read_settings
from reco3.server.web.app import _FrontDoor
from reco3.server.web.audiences import Audience
from reco3.server.web.guards import Guard
from reco3.server.wiring import build_house

BODIES = frozenset({"POST", "PATCH", "PUT"})
# What a path parameter is tried with; one without a line here is "no-such-thing".
PATH_PARAMETERS = {"name": "agent-ui.js", "agent_id": "pc-001"}


@dataclass(frozen=True, slots=True)
class Way:
    """One method of one route, and whom the route declares to serve."""

    method: str
    path: str
    audience: Audience

    @property
    def url(self) -> str:
        """An address that the route answers."""
        return re.sub(r"{(\w+)(:\w+)?}", lambda match: PATH_PARAMETERS.get(match[1], "no-such-thing"), self.path)

    @property
    def body(self) -> dict[str, object] | None:
        """An empty body for what takes one."""
        return {} if self.method in BODIES else None


def every_way(folder: Path) -> list[Way]:
    """Every method of every route of a server that keeps its database in this folder."""
    house = build_house(read_settings({"RECO3_DB_PATH": str(folder / "reco3.db")}))
    found = list(_ways_in(house.app()))
    house.database.close()
    return found


def _ways_in(app: object) -> Iterator[Way]:
    assert isinstance(app, _FrontDoor)
    for route in [*app._agent_app.routes, *app._operator_app.routes]:  # type: ignore[attr-defined]
        assert isinstance(route, Route)
        assert isinstance(route.app, Guard)
        for method in sorted(route.methods or ()):
            yield Way(method, route.path, route.app._audience)
