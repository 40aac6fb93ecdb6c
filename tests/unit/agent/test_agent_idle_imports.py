"""What an agent need not carry along while it only watches; each of these costs it between 0.4 and 4 MB."""

import subprocess
import sys

import pytest

HEAVY = ("argparse", "email", "hashlib", "http.client", "logging.handlers", "pickle", "psutil", "ssl", "subprocess")
LOADED = "import sys, reco3.agent.agent; print([name for name in sys.argv[1:] if name in sys.modules])"


def loaded(*names: str, first: str = "pass") -> str:
    argv = [sys.executable, "-c", f"{first}\n{LOADED}", *names]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil is what tells of processes")
def test_an_agent_that_only_watches_carries_nothing_heavy() -> None:
    assert loaded(*HEAVY, "yaml") == "[]"


def test_what_is_carried_would_be_noticed() -> None:
    assert loaded(*HEAVY, first="import email, psutil") != "[]"


def test_the_parser_is_let_go_of_once_the_config_is_read(tmp_path: object) -> None:
    path = f"{tmp_path}/config.yaml"
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - a plain file
        file.write("base_url: http://127.0.0.1:1\nagent_id: pc-001\napi_key: k\n")
    read = f"from pathlib import Path\nfrom reco3.agent import config\nconfig.load_config(Path({path!r}))"

    assert loaded("yaml", first=read) == "['yaml']"
    assert loaded("yaml", first=f"{read}\nconfig.forget_parser()") == "[]"
