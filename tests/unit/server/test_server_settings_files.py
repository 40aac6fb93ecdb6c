"""Settings that come as files, as container platforms hand secrets over."""

from pathlib import Path

import pytest

from builders import SECRET
from reco3.server.domain.errors import StartRefused
from reco3.server.settings import read_settings

NAMES = ("API_KEY", "SECRET_KEY", "RECO3_DATABASE_URL")


def secret_file(folder: Path, text: str) -> str:
    path = folder / "secret"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(environment: dict[str, str]) -> str:
    with pytest.raises(StartRefused) as refused:
        read_settings(environment)
    return refused.value.message


def test_the_line_in_the_file_is_the_value(tmp_path: Path) -> None:
    files = {name: secret_file(make(tmp_path, name), f"{SECRET}-{name}\n") for name in NAMES}

    settings = read_settings({f"{name}_FILE": path for name, path in files.items()})

    values = (settings.api_key, settings.secret_key, settings.database_url)
    assert values == tuple(f"{SECRET}-{name}" for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["", "\n", "geheim-1\ngeheim-2\n"])
def test_a_file_without_exactly_one_line_is_refused_without_showing_it(tmp_path: Path, name: str, text: str) -> None:
    path = secret_file(tmp_path, text)

    message = refusal({"RECO3_DB_PATH": str(tmp_path / "reco3.db"), f"{name}_FILE": path})

    assert message.startswith(f"{name}_FILE: expected one line in {path}")
    assert "geheim" not in message


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "gone"

    message = refusal({"RECO3_DB_PATH": str(tmp_path / "reco3.db"), f"{name}_FILE": str(path)})

    assert message == f"{name}_FILE: {path} cannot be read: No such file or directory."


@pytest.mark.parametrize("name", NAMES)
def test_a_value_and_a_file_together_are_refused(tmp_path: Path, name: str) -> None:
    environment = {name: SECRET, f"{name}_FILE": secret_file(tmp_path, SECRET)}

    assert refusal({"RECO3_DB_PATH": str(tmp_path / "reco3.db"), **environment}) == (
        f"{name} and {name}_FILE are both set; keep one of them."
    )


def make(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made
