from pathlib import Path

import pytest

from reco3.installers.orders import InstallOrder, read_install, read_uninstall
from reco3.installers.troubles import InstallError

URL = "http://127.0.0.1:5001"
SECRET = "s3cret-key-of-this-pc"


def read(*words: str, stdin: str = "") -> InstallOrder:
    return read_install(words, program="install", users=("reco3-agent", "root"), read_stdin=lambda: stdin)


def refused(*words: str, stdin: str = "") -> InstallError:
    with pytest.raises(InstallError) as caught:
        read(*words, stdin=stdin)
    return caught.value


def test_the_contracts_words_are_key_server_and_name() -> None:
    order = read("devkey", URL, "pc-001")

    assert (order.api_key, order.base_url, order.agent_id, order.token) == ("devkey", URL, "pc-001", None)
    assert (order.user, order.is_dry, order.is_started, order.pins) == (None, False, True, ())


def test_a_key_comes_from_standard_input_or_a_file_of_any_line_end(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbf" + SECRET.encode() + b"\r\n")

    assert read("-", URL, "pc-001", stdin=f"{SECRET}\n").api_key == SECRET
    assert read(URL, "pc-001", "--key-file", str(file)).api_key == SECRET
    assert read("--key-file", "-", URL, "pc-001", stdin=SECRET).api_key == SECRET


def test_a_token_stands_in_for_a_key_and_may_name_the_pc(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")

    order = read("--token-file", str(file), URL)

    assert (order.token, order.api_key, order.agent_id) == (SECRET, None, None)
    assert read("--token-file", "-", URL, "pc-9", stdin=SECRET).agent_id == "pc-9"


def test_pins_of_all_files_are_read_once_each(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("# the team\nalice:ed25519:AAAA\n\n")
    second.write_text("bob:webauthn:BBBB https://reco3.example.com\r\nalice:ed25519:AAAA\r\n")

    order = read("k", URL, "pc", "--approver-file", str(first), "--approver-file", str(second))

    assert order.pins == ("alice:ed25519:AAAA", "bob:webauthn:BBBB https://reco3.example.com")


def test_every_option_is_read(tmp_path: Path) -> None:
    words = ["k", "http://10.0.0.1", "pc", "--allow-insecure-http", "--approvals-required", "2", "--dry-run"]

    order = read(*words, "--no-start", "--wheels", str(tmp_path), "--user", "root")

    assert order == InstallOrder(
        base_url="http://10.0.0.1",
        agent_id="pc",
        api_key="k",
        approvals_required=2,
        allow_insecure_http=True,
        is_dry=True,
        is_started=False,
        wheels=tmp_path,
        user="root",
    )


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ((), "bad_order", "expected KEY URL AGENT_ID, got 0 words"),
        (("k", URL), "bad_order", "expected KEY URL AGENT_ID, got 2 words"),
        (("k", URL, "pc", "more"), "bad_order", "expected KEY URL AGENT_ID, got 4 words"),
        (("k", URL, "pc", "--nonsense"), "bad_order", "an option that is not known"),
        (("k", "127.0.0.1:5001", "pc"), "bad_order", "URL: expected http://"),
        (("k", "http://127.0.0.1:99999", "pc"), "bad_order", "URL: expected http://"),
        (("k", "https://u:p@reco3.example.com", "pc"), "bad_order", "URL: expected http://"),
        (("k", "http://reco3.example.com", "pc"), "insecure_http", "plain http://"),
        (("k", "http://localhost.example.com", "pc"), "insecure_http", "plain http://"),
        (("k", URL, "pc 1"), "bad_order", "AGENT_ID: expected"),
        (("", URL, "pc"), "bad_order", "the API key: expected one line"),
        (("k", URL, "pc", "--approvals-required", "0"), "bad_order", "--approvals-required: expected 1 to 100"),
        (("k", URL, "pc", "--key-file", "/nowhere"), "bad_order", "expected URL AGENT_ID, got 3 words"),
        ((URL, "pc", "--key-file", "/nowhere"), "bad_order", "--key-file: cannot read /nowhere"),
        (("k", URL, "pc", "--wheels", "/nowhere"), "bad_order", "--wheels: /nowhere is no folder"),
        (("k", URL, "pc", "--user", "nobody"), "bad_order", "argument --user"),
        (("--key-file", "-", "--token-file", "-", URL), "bad_order", "argument --token-file"),
    ],
)
def test_what_cannot_be_understood_is_refused(words: tuple[str, ...], code: str, expected: str) -> None:
    error = refused(*words)

    assert error.code == code
    assert expected in error.found
    assert error.to_do


@pytest.mark.parametrize(
    "words",
    [
        (SECRET,),
        (URL, SECRET, "pc"),
        (SECRET, URL, "pc", "--token", SECRET),
        (f"{SECRET} {SECRET}", URL, "pc"),
        (SECRET, URL, "pc", f"--{SECRET}"),
        (URL, "pc", SECRET),
    ],
)
def test_what_may_be_a_secret_is_never_repeated(words: tuple[str, ...]) -> None:
    assert SECRET not in str(refused(*words))


def test_an_order_does_not_show_its_secrets() -> None:
    assert SECRET not in repr(read(SECRET, URL, "pc"))


def test_a_bad_pin_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "pins"
    file.write_text("alice:ed25519:AAAA\n--help\n")

    error = refused("k", URL, "pc", "--approver-file", str(file))

    assert f"{file}:2: expected owner:kind:key" in error.found


def test_the_uninstaller_knows_two_options_and_nothing_else() -> None:
    order = read_uninstall(["--keep-config", "--dry-run"], program="uninstall")

    assert (order.keeps_config, order.is_dry) == (True, True)
    with pytest.raises(InstallError):
        read_uninstall(["--purge"], program="uninstall")
