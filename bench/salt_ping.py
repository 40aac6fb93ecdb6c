"""Times `test.ping` through salt's in-process client; runs in salt's own environment, and prints JSON.

Usage: `python bench/salt_ping.py MASTER_CONFIG CALLS`. The calls are warm: the client exists and has answered before.
It is the fastest way to ask salt from a script; its command line starts an interpreter for each call.
"""

import json
import sys
import time
from typing import Any

READY_DEADLINE_S = 90.0
WARM_UP_CALLS = 3


def main(master_config: str, calls: int) -> None:
    """Wait for the minion, warm up, time the calls."""
    import salt.client  # type: ignore[import-not-found]  # noqa: PLC0415 - only salt's environment has it

    client = salt.client.LocalClient(c_path=master_config)
    deadline = time.monotonic() + READY_DEADLINE_S
    while not _is_there(client):
        if time.monotonic() > deadline:
            sys.exit("the minion does not answer test.ping")
        time.sleep(0.5)
    for _ in range(WARM_UP_CALLS):
        client.cmd("*", "test.ping", timeout=20)
    spans_ms = []
    for _ in range(calls):
        began_s = time.perf_counter()
        answer = client.cmd("*", "test.ping", timeout=20)
        spans_ms.append((time.perf_counter() - began_s) * 1000)
        if not _is_answered(answer):
            sys.exit(f"the minion answered {ascii(answer)[:200]}")
    print(json.dumps({"calls": calls, "spans_ms": spans_ms}))


def _is_there(client: Any) -> bool:
    from salt.exceptions import SaltException  # type: ignore[import-not-found]  # noqa: PLC0415 - likewise

    try:
        return _is_answered(client.cmd("*", "test.ping", timeout=5))
    except SaltException:
        # A master listens before it is able to answer.
        return False


def _is_answered(answer: object) -> bool:
    return answer == {"pc-001": True}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
