"""The agents' routes in the OpenAPI document, beside those that FastAPI documents by itself."""

from typing import Any

import msgspec

from reco3.protocol.limits import MAX_PULL_WAIT_S
from reco3.protocol.messages import CommandReport, EnrolmentRequest, Heartbeat, LogBatch, NextKey

_posts = {
    "/agent/heartbeat": (Heartbeat, "Take a heartbeat; answered once it is durable."),
    "/agent/logs": (LogBatch, "Take log lines; answered once they are durable."),
    "/agent/report": (CommandReport, "Take a command's result."),
    "/agent/key": (NextKey, "Let the PC's next key open the door too, until it is used for the first time."),
    "/agent/enrol": (EnrolmentRequest, "Let a PC in that holds a token, with a key of its own making."),
}
_wait = {"name": "wait", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": MAX_PULL_WAIT_S}}
_header = {"in": "header", "required": True, "schema": {"type": "string"}}


def with_agent_paths(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the routes of the agent protocol added."""
    messages = [message for message, _ in _posts.values()]
    schemas, components = msgspec.json.schema_components(messages, ref_template="#/components/schemas/{name}")
    paths = {
        path: {"post": {**_operation(summary), "requestBody": _json_body(schema)}}
        for (path, (_, summary)), schema in zip(_posts.items(), schemas, strict=True)
    }
    pull = _operation("Hand out commands, held open for `wait` seconds at most.")
    paths["/agent/pull"] = {"get": {**pull, "parameters": [*pull["parameters"], _wait]}}
    paths["/agent/trust-changes"] = {"get": _operation("Hand out the changes of trust that enough owners signed.")}
    paths["/agent/key"]["get"] = _operation("Tell a PC that its key is good.")
    del paths["/agent/enrol"]["post"]["parameters"]  # The token in the body says who it is.
    known = document.get("components", {})
    return {
        **document,
        "paths": {**document.get("paths", {}), **paths},
        "components": {**known, "schemas": {**known.get("schemas", {}), **components}},
    }


def _operation(summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "tags": ["agent"],
        "parameters": [{"name": "X-AGENT-ID", **_header}, {"name": "X-API-Key", **_header}],
        "responses": {
            "200": {"description": "Done, and durable."},
            "400": {"description": "The body is not what this route takes; the message names the field."},
            "401": {"description": "Wrong or missing credentials."},
        },
    }


def _json_body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}
