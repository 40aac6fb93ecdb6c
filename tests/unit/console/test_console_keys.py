from pathlib import Path

import pytest

from reco3.console.keys import BadUsage, ServerAddress, find_key, parse_address, refuse_clear_text


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:5001", ServerAddress("http", "127.0.0.1", 5001, "")),
        ("http://localhost/", ServerAddress("http", "localhost", 80, "")),
        ("https://reco3.example/base/", ServerAddress("https", "reco3.example", 443, "/base")),
        ("http://[::1]:5001", ServerAddress("http", "::1", 5001, "")),
    ],
)
def test_an_address_is_read_from_its_url(url: str, address: ServerAddress) -> None:
    assert parse_address(url) == address
    assert parse_address(address.url) == address


@pytest.mark.parametrize(
    "url",
    ["", "reco3", "file:///etc/passwd", "http://", "http://h/?a=1", "http://h/#f", "http://h\u00e4", "http://a b"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadUsage):
        parse_address(url)


@pytest.mark.parametrize(
    "url", ["http://reco3.example", "http://10.0.0.1", "http://127.0.0.1.example", "http://0.0.0.0"]
)
def test_a_key_is_not_sent_in_clear_text_to_another_machine(url: str) -> None:
    with pytest.raises(BadUsage, match="everybody on the way can read it"):
        refuse_clear_text(parse_address(url), "key")


@pytest.mark.parametrize(
    "url", ["https://reco3.example", "http://127.0.0.1", "http://127.8.9.1", "http://[::1]", "http://LOCALHOST"]
)
def test_a_key_is_sent_encrypted_or_to_this_machine(url: str) -> None:
    refuse_clear_text(parse_address(url), "key")


def test_without_a_key_any_server_may_be_asked() -> None:
    refuse_clear_text(parse_address("http://reco3.example"), None)


def test_the_key_file_wins_over_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("from-file\n", encoding="utf-8")
    path.chmod(0o600)

    assert find_key(str(path), {"RECO3_API_KEY": "from-environment"}) == "from-file"
    assert find_key(None, {"RECO3_API_KEY": "from-environment"}) == "from-environment"
    assert find_key(None, {}) is None


@pytest.mark.parametrize("content", ["", "\n", "two words", "two\nlines", "sch\u00f6n", "\x1b[31m", "k" * 2_000])
def test_what_cannot_be_a_key_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(BadUsage) as refusal:
        find_key(str(path), {})

    assert content.strip() == "" or content.strip() not in str(refusal.value)


def test_a_key_file_that_others_can_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    path.write_text("key", encoding="utf-8")
    path.chmod(0o644)

    assert find_key(str(path), {}) == "key"
    assert "others can read the key" in capsys.readouterr().err

    path.chmod(0o600)
    assert find_key(str(path), {}) == "key"
    assert capsys.readouterr().err == ""
