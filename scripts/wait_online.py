"""Waits until a server calls a PC ONLINE: `python scripts/wait_online.py URL AGENT_ID [SECONDS]`; for CI."""

import json
import sys
import time
import urllib.error
import urllib.request

LOOK_EVERY_S = 0.5


def main(words: list[str]) -> int:
    """Ask until it is so; returns 1 when the time is over."""
    url, agent_id = words[:2]
    deadline = time.monotonic() + float(words[2] if len(words) > 2 else 60)  # noqa: PLR2004 - the third is optional
    while (status := _status(url, agent_id)) != "ONLINE":
        if time.monotonic() > deadline:
            sys.stderr.write(f"{agent_id} did not come ONLINE at {url}; last seen as {status}\n")
            return 1
        time.sleep(LOOK_EVERY_S)
    sys.stdout.write(f"{agent_id} is ONLINE at {url}\n")
    return 0


def _status(url: str, agent_id: str) -> str:
    try:
        with urllib.request.urlopen(f"{url}/api/r3/agents", timeout=5) as answer:  # noqa: S310 - CI's own server
            agents = json.load(answer)["agents"]
    except (OSError, ValueError) as error:
        return f"no answer ({error})"
    return next((str(agent["status"]) for agent in agents if agent["agent_id"] == agent_id), "unknown")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
