"""What an agent need not carry along while it only watches; each of these costs it between 0.4 and 4 MB."""

import subprocess
import sys

import pytest

from approvers import key_file
from reco3.agent.pin_lines import item_text

SIGNING = (
    *("cryptography", "reco3.signing", "reco3.signing.pins", "reco3.signing.verifying", "reco3.protocol.envelope"),
    *("reco3.agent.approvals", "reco3.agent.break_glass", "reco3.agent.trust"),
)
HEAVY = (
    "reco3.agent.doctor",
    "argparse",
    "email",
    "hashlib",
    "http.client",
    "logging.handlers",
    "pickle",
    "psutil",
    "ssl",
    "subprocess",
)
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


def config_that_pins(folder: object) -> str:
    path = f"{folder}/config.yaml"
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - a plain file
        file.write("base_url: http://127.0.0.1:1\nagent_id: pc-001\napi_key: k\n")
        file.write(f"control: {{approvers: [{item_text(key_file('alice').pin)}]}}\n")
    return f"from pathlib import Path\nfrom reco3.agent import config\nconfig.load_config(Path({path!r}))"


def test_an_agent_without_approvers_carries_nothing_that_verifies() -> None:
    assert loaded(*SIGNING) == "[]"


def test_an_agent_with_approvers_carries_no_cryptography_before_a_signed_command_comes(tmp_path: object) -> None:
    read = config_that_pins(tmp_path)

    assert loaded(*SIGNING, first=read) == "['reco3.signing', 'reco3.signing.pins', 'reco3.protocol.envelope']"


def test_a_signed_command_brings_what_verifies_it(tmp_path: object) -> None:
    verified = (
        f"{config_that_pins(tmp_path)}\n"
        "from reco3.agent import signers\n"
        "from reco3.protocol.envelope import *\n"
        "signed = SignedEnvelope(PAYLOAD_TYPE, b'x', (Signature(KeyKind.ED25519, 'x', bytes(64)),))\n"
        f"config = config.load_config(Path({str(tmp_path)!r}) / 'config.yaml')\n"
        "assert signers.verifier_of(config)(signed)[0].refusal"
    )

    assert "'cryptography', " in loaded(*SIGNING, first=verified)
