import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reco3.agent.config import LoggingConfig
from reco3.agent.log_file import close_log, escape, log_event, log_traceback, open_log


@pytest.fixture
def log_path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "logs" / "agent.log"
    open_log(LoggingConfig(file=path), secret="s3cret key")
    yield path
    close_log()


def test_an_event_is_one_line_of_name_and_fields(log_path: Path) -> None:
    log_event("command_refused", command_id="c-1", reason="because of that")

    line = log_path.read_text(encoding="utf-8")
    assert line.endswith(' INFO command_refused command_id=c-1 reason="because of that"\n')
    assert line.index("Z ") == 23


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain-word_1.2:3/4", "plain-word_1.2:3/4"),
        ("", '""'),
        ('say "hi"\\', '"say \\"hi\\"\\\\"'),
        ("a\nb\r\tc", '"a\\nb\\r\\tc"'),
        ("\x1b[2J", '"\\x1b[2J"'),
        ("a\u202eb", '"a\\u202eb"'),
        ("a=b", '"a=b"'),
        ("日本", "日本"),
        (None, "None"),
    ],
    ids=ascii,
)
def test_a_value_cannot_break_out_of_its_line(value: object, expected: str) -> None:
    assert escape(value) == expected


def test_a_forged_line_stays_inside_its_field(log_path: Path) -> None:
    log_event("notify_ops", message="x\n2026-01-01T00:00:00.000Z INFO command_completed")

    assert len(log_path.read_text(encoding="utf-8").splitlines()) == 1


def test_the_key_is_never_written(log_path: Path) -> None:
    log_event("contact_lost", error="the server said s3cret key is wrong")

    text = log_path.read_text(encoding="utf-8")
    assert "s3cret" not in text
    assert "***" in text


def test_a_traceback_is_one_line_too(log_path: Path) -> None:
    try:
        int("s3cret key")
    except ValueError as error:
        log_traceback("control_failed", error)

    text = log_path.read_text(encoding="utf-8")
    assert len(text.splitlines()) == 1
    assert "Traceback" in text
    assert "s3cret" not in text


def test_the_file_is_rotated_by_size(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    open_log(LoggingConfig(file=path, max_size_mb=0.01, backup_count=2), secret="key")

    for number in range(400):
        log_event("event", number=number, padding="x" * 100)
    close_log()

    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["agent.log", "agent.log.1", "agent.log.2"]
    assert all(file.stat().st_size <= 10_486 for file in tmp_path.iterdir())


def test_events_below_the_level_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    open_log(LoggingConfig(file=path, level="ERROR"), secret="key")

    log_event("event")
    close_log()

    assert path.read_text(encoding="utf-8") == ""


def test_rotation_keeps_the_newest_lines_and_loses_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_bytes(b"of an earlier run\n" * 600)
    open_log(LoggingConfig(file=path, max_size_mb=0.01, backup_count=3), secret="key")

    for number in range(200):
        log_event("event", number=number, padding="x" * 100)
    close_log()

    files = [tmp_path / name for name in ("agent.log.3", "agent.log.2", "agent.log.1", "agent.log")]
    lines = "".join(file.read_text(encoding="utf-8") for file in files).splitlines()
    numbers = [line.partition("number=")[2].partition(" ")[0] for line in lines if "number=" in line]
    assert numbers == [str(number) for number in range(200 - len(numbers), 200)]
    assert len(numbers) > 150


def test_a_file_that_cannot_be_moved_away_is_still_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_paths: str) -> None:
        raise PermissionError("held open")

    path = tmp_path / "agent.log"
    open_log(LoggingConfig(file=path, max_size_mb=0.01, backup_count=2), secret="key")
    monkeypatch.setattr(os, "replace", refuse)

    for number in range(200):
        log_event("event", number=number, padding="x" * 100)
    close_log()

    assert path.read_text(encoding="utf-8").count("padding") == 200
    assert "held open" in capsys.readouterr().err
