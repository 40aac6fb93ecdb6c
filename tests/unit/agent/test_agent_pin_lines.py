"""Pinned keys are written into a config as a person would, and nothing else of it changes."""

from pathlib import Path

import pytest

from approvers import key_file, passkey
from reco3.agent.config import load_config
from reco3.agent.pin_lines import item_text, with_pin, without_item
from reco3.signing.pins import Pin

HEAD = 'base_url: "http://127.0.0.1:5001"  # here\nagent_id: "pc-001"\napi_key: "k"\n'
TEMPLATE = (Path(__file__).parents[3] / "agent" / "common" / "config.example.yaml").read_text(encoding="utf-8")
ALICE, BOB, CAROL = key_file("alice").pin, passkey("bob").pin, key_file("carol").pin
BLOCK_ITEM = f"""    - owner: alice  # the elder
      kind: ed25519
      key: {item_text(ALICE).split("key: ")[1][:-1]}  # since June
"""

STYLES = {
    "the template": TEMPLATE,
    "no control section": HEAD,
    "no line end at the end": HEAD.rstrip("\n"),
    "no approvers": HEAD + "control:\n  # On purpose.\n  apply_enabled: true  # yes\nwatch:\n  log_files: []\n",
    "an empty list": HEAD + "control:\n  approvers: []   # nobody yet\n  apply_enabled: true\n",
    "an empty list over lines": HEAD + "control:\n  approvers: [\n  ]\n",
    "a block": HEAD + f"control:\n  approvers:  # us\n{BLOCK_ITEM}  # the end of it\n  veto_s: 1\n",
    "a block without indent": HEAD + f"control:\n  approvers:\n  - {item_text(ALICE)}\n  veto_s: 1\n",
    "a block at the end": HEAD + f"control:\n  approvers:\n    - {item_text(ALICE)}",
    "a flow list": HEAD + f"control:\n  approvers: [{item_text(ALICE)}]  # one\n",
    "a flow section": HEAD + "control: {veto_s: 1}  # short\n",
    "an empty flow section": HEAD + "control: {}\n",
    "a flow section with an empty list": HEAD + "control: {approvers: [], veto_s: 1}\n",
    "four spaces": HEAD + "control:\n    veto_s: 1\n    approvers: []\n",
    "lines of Windows": (HEAD + f"control:\n  approvers:\n{BLOCK_ITEM}  veto_s: 1\n").replace("\n", "\r\n"),
}


def pins_in(folder: Path, text: str) -> tuple[Pin, ...]:
    path = folder / "config.yaml"
    path.write_bytes(text.encode())
    return load_config(path).control.approvers


def comments_in(text: str) -> list[str]:
    return [line.split("#", 1)[1].strip() for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize("text", STYLES.values(), ids=STYLES)
def test_an_added_key_is_the_last_and_everything_else_stays(text: str, tmp_path: Path) -> None:
    before = pins_in(tmp_path, text)
    whole_before = load_config(tmp_path / "config.yaml")

    changed = with_pin(with_pin(text, BOB), CAROL)

    assert pins_in(tmp_path, changed) == (*before, BOB, CAROL)
    assert load_config(tmp_path / "config.yaml").control.veto_s == whole_before.control.veto_s
    assert comments_in(changed) == comments_in(text)
    assert ("\r\n" in changed) is ("\r\n" in text)
    assert changed.replace("\r\n", "").count("\r") == 0


@pytest.mark.parametrize("text", STYLES.values(), ids=STYLES)
def test_an_added_key_can_be_removed_again(text: str, tmp_path: Path) -> None:
    before = pins_in(tmp_path, text)

    both = with_pin(with_pin(text, BOB), CAROL)
    without_bob = without_item(both, len(before))
    without_both = without_item(without_bob, len(before))

    assert pins_in(tmp_path, without_bob) == (*before, CAROL)
    assert pins_in(tmp_path, without_both) == before
    assert comments_in(without_both) == comments_in(text)


def test_the_last_key_leaves_an_empty_list(tmp_path: Path) -> None:
    for style in ("a block without indent", "a flow list", "a block at the end", "a block"):
        left = without_item(STYLES[style], 0)

        assert pins_in(tmp_path, left) == ()
        assert "approvers: []" in left
