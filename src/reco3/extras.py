"""Says what to install when a command needs more than what is here: the agent's part comes alone, on purpose.

It refuses to explain away a fault of our own: a missing module of this package stays a traceback.
"""

import importlib.util
import sys

AGENT = "reco3"
SERVER = "reco3[server]"
SERVER_MODULES = (
    *("alembic", "argon2", "fastapi", "httptools", "msgspec", "psycopg", "sqlalchemy", "starlette", "uvicorn"),
    "webauthn",
)


def need_server() -> None:
    """See that the server's part is installed.

    Raises:
        ModuleNotFoundError: it is not; its `name` is the first module that is missing.
    """
    for name in SERVER_MODULES:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def advice(command: str, missing: str) -> str | None:
    """One line on what `command` lacks and where to get it; None when the missing module is our own."""
    top = missing.partition(".")[0]
    if top in ("", "reco3"):
        return None
    if top in sys.stdlib_module_names:
        return f"reco3 {command} does not run on this system: its Python has no module {top}."
    part = SERVER if top in SERVER_MODULES else AGENT
    return f'reco3 {command} needs {top}, which is not installed. Try: python -m pip install "{part}"'
