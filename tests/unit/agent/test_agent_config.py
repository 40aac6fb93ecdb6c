import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from reco3.agent.agent import main
from reco3.agent.config import ConfigError, detected_platform, load_config, split_command, writable_by
from reco3.protocol.commands import Mode

ROOT = Path(__file__).parents[3]
CASES = json.loads((ROOT / "tests" / "data" / "agent_configs.json").read_text(encoding="utf-8"))
MINIMAL = 'base_url: "http://127.0.0.1:5001"\nagent_id: "pc-001"\napi_key: "devkey"\n'


def write_config(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_wrong_config_is_refused_with_its_line_key_and_expectation(
    case: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(case["lines"]) if "lines" in case else MINIMAL + "\n".join(case["after_minimal"])
    path = write_config(tmp_path, text)

    exit_code = main(["--check", str(path)])

    out, err = capsys.readouterr()
    assert exit_code == 2
    assert out == ""
    assert err == f"{path}:{case['line']}: {case['expect']}\n"


def test_a_wrong_api_key_is_not_shown(tmp_path: Path) -> None:
    path = write_config(tmp_path, MINIMAL.replace('"devkey"', '"my secret"'))

    with pytest.raises(ConfigError) as caught:
        load_config(path)

    assert "my secret" not in str(caught.value)
    assert ":3: api_key: " in str(caught.value)


def test_a_config_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'none.yaml'}: cannot be read: No such file or directory\n"


def test_bytes_that_are_no_text_are_refused_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"base_url: \xff\xfe\x00\n")

    with pytest.raises(ConfigError, match=r"config\.yaml:1: expected valid YAML"):
        load_config(path)


def test_the_defaults_block_strong_commands(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, MINIMAL))

    assert config.control.apply_enabled is False
    assert config.control.safe_modes == (Mode.NORMAL, Mode.SAFE)
    assert config.control.command_timeout_s == 60
    assert config.control.max_output_bytes == 16 * 1024
    assert (config.intervals.heartbeat_s, config.intervals.pull_s, config.intervals.logs_s) == (10, 10, 15)
    assert config.platform == detected_platform()
    assert config.state_dir == tmp_path / "state"
    assert config.control.rate_limit.path == tmp_path / "state" / "rate_limits.json"
    assert config.logging.file is None


def test_the_template_is_valid_and_blocks_strong_commands(capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "agent" / "common" / "config.example.yaml"
    config = load_config(path)

    assert config.control.apply_enabled is False
    assert config.watch.processes[0].name == "nginx"
    assert main(["--check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: OK\n"


def test_every_key_the_agent_knows_is_in_the_template() -> None:
    template = (ROOT / "agent" / "common" / "config.example.yaml").read_text(encoding="utf-8")
    source = (ROOT / "src" / "reco3" / "agent" / "config.py").read_text(encoding="utf-8")
    keys = {word for word in source.split('"') if f'read("{word}"' in source or f'need("{word}"' in source}

    missing = {key for key in keys if key not in template}

    assert len(keys) > 20
    assert missing == set()


def test_relative_paths_start_at_the_configs_folder(tmp_path: Path) -> None:
    text = MINIMAL + 'state_dir: "s"\nlogging: {file: "a.log"}\nwatch: {log_files: ["x.log", "/var/log/y.log"]}\n'

    config = load_config(write_config(tmp_path, text))

    assert config.state_dir == tmp_path / "s"
    assert config.logging.file == tmp_path / "a.log"
    assert config.watch.log_files == (str(tmp_path / "x.log"), "/var/log/y.log")


def test_a_command_string_is_split_and_a_list_is_used_as_it_is(tmp_path: Path) -> None:
    commands = "watch:\n  processes:\n    - name: web\n      restart_cmd: systemctl restart 'my web' ; reboot\n"
    commands += '      stop_cmd: ["/bin/stop", "$(reboot)", "a b"]\n'

    program = load_config(write_config(tmp_path, MINIMAL + commands)).watch.processes[0]

    assert program.restart_argv == ("systemctl", "restart", "my web", ";", "reboot")
    assert program.stop_argv == ("/bin/stop", "$(reboot)", "a b")
    assert program.start_argv == ()


def test_on_windows_a_backslash_is_part_of_a_path() -> None:
    words = split_command(r'"C:\Program Files\x.exe" restart C:\web', is_windows=True)

    assert words == (r"C:\Program Files\x.exe", "restart", r"C:\web")


def test_an_id_that_looks_like_a_number_is_kept_as_it_is_written(tmp_path: Path) -> None:
    assert load_config(write_config(tmp_path, MINIMAL.replace('"pc-001"', "007"))).agent_id == "007"


def test_plain_http_to_another_machine_is_accepted_when_the_administrator_says_so(tmp_path: Path) -> None:
    text = MINIMAL.replace("127.0.0.1", "reco3.example.com") + "allow_insecure_http: true\n"

    assert load_config(write_config(tmp_path, text)).base_url.host == "reco3.example.com"


def test_the_api_key_is_not_in_the_configs_text(tmp_path: Path) -> None:
    assert "devkey" not in repr(load_config(write_config(tmp_path, MINIMAL)))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no such bits")
def test_an_agent_that_may_act_does_not_start_from_a_config_that_everybody_may_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, MINIMAL + "control: {apply_enabled: true}\n")

    path.chmod(0o666)
    refused = main(["--check", str(path)])
    path.chmod(0o660)
    accepted = main(["--check", str(path)])

    assert (refused, accepted) == (2, 0)
    assert "control.apply_enabled" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no such bits")
def test_an_agent_that_may_not_act_starts_from_a_config_that_everybody_may_write(tmp_path: Path) -> None:
    path = write_config(tmp_path, MINIMAL)
    path.chmod(0o666)

    assert main(["--check", str(path)]) == 0
    assert writable_by(path).by_others is True


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no such bits")
def test_a_config_in_a_folder_that_everybody_may_write_counts_as_writable(tmp_path: Path) -> None:
    path = write_config(tmp_path, MINIMAL)
    tmp_path.chmod(0o777)
    is_open = writable_by(path).by_others
    tmp_path.chmod(0o777 | stat.S_ISVTX)
    is_sticky_open = writable_by(path).by_others
    tmp_path.chmod(0o700)

    assert (is_open, is_sticky_open) == (True, False)


def test_the_mode_can_be_set_on_the_pc_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from reco3.agent.journal import Journal  # noqa: PLC0415 - beside its only use

    path = write_config(tmp_path, MINIMAL)

    exit_code = main(["mode", "LOCKED", str(path)])

    assert exit_code == 0
    assert capsys.readouterr().out == "mode of pc-001 is LOCKED\n"
    assert Journal(tmp_path / "state" / "agent.db").mode().mode is Mode.LOCKED
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
