"""SET_RATE_LIMIT and ROLLBACK against a real nginx, by a real agent and by its driver."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_process import AgentProcess, make_order
from nginx_server import CONF, Nginx, put_load, put_steady_load
from scripted_server import ScriptedServer

from reco3.agent import rate_limits, runner
from reco3.agent.config import NginxConfig
from reco3.agent.nginx_limits import NginxDriver, http_text
from reco3.agent.rate_limits import Change, RateLimitError
from reco3.agent.security import SetRateLimit

LOAD_S = 3.0


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    folder = tmp_path / "nginx"
    folder.mkdir()
    nginx = Nginx(folder)
    nginx.start()
    yield nginx
    nginx.stop()


def config_of(nginx: Nginx) -> dict[str, Any]:
    own = {"server_path": str(nginx.server_path), "argv": list(nginx.argv), "pid_path": str(nginx.pid_path)}
    return {"driver": "nginx", "path": str(nginx.limits_path), "nginx": own}


def driver_of(nginx: Nginx, *, reload_argv: tuple[str, ...] = (), timeout_s: float = 20) -> NginxDriver:
    reload_argv = reload_argv or (*nginx.argv, "-s", "reload")
    config = NginxConfig(nginx.server_path, nginx.argv, reload_argv, nginx.pid_path)
    return NginxDriver(nginx.limits_path, config, runner.run, timeout_s)


def plan(driver: NginxDriver, limit_rps: int, endpoint: str = "/api") -> Change:
    return rate_limits.plan_limit(driver, SetRateLimit(endpoint, limit_rps), command_id="c-1", set_at="now")


def set_limit(driver: NginxDriver, limit_rps: int, endpoint: str = "/api") -> None:
    change = plan(driver, limit_rps, endpoint)
    driver.rehearse(change)
    driver.apply(change)


def texts(nginx: Nginx) -> tuple[str, str]:
    return nginx.limits_path.read_text(encoding="utf-8"), nginx.server_path.read_text(encoding="utf-8")


def test_a_limit_holds_under_ten_times_the_load_and_a_rollback_lifts_it(
    nginx: Nginx, server: ScriptedServer, pc: AgentProcess
) -> None:
    pc.configure(control={"rate_limit": config_of(nginx)})
    pc.start()
    free = put_load(nginx, "/api", rps=500, seconds=1)

    server.deliver(make_order("c-1", "SET_RATE_LIMIT", {"endpoint": "/api", "limit_rps": 50}))
    set_report = server.wait_for_report("c-1")
    limited = put_steady_load(nginx, "/api/things", rps=500, seconds=LOAD_S)
    other = put_load(nginx, "/apis", rps=500, seconds=1)
    server.deliver(make_order("c-2", "ROLLBACK", {}))
    undo_report = server.wait_for_report("c-2")
    free_again = put_load(nginx, "/api/things", rps=500, seconds=1)

    print(
        f"sent {limited.sent_rps:.0f}/s, accepted {limited.accepted_rps:.1f}/s of 50; "
        f"before {free.accepted_rps:.0f}/s, after ROLLBACK {free_again.accepted_rps:.0f}/s"
    )
    assert set_report["status"] == "completed", set_report
    assert limited.sent_rps > 400
    assert 40 <= limited.accepted_rps <= 60
    assert undo_report["status"] == "completed", undo_report
    for unlimited in (free, other, free_again):
        assert unlimited.accepted == unlimited.sent


@pytest.mark.parametrize("target", ["/api?x=1", "/%61pi/x", "//api", "/old/x"])
def test_a_limit_cannot_be_got_around_by_another_spelling(nginx: Nginx, target: str) -> None:
    set_limit(driver_of(nginx), 20)

    load = put_load(nginx, target, rps=200, seconds=2)

    assert 8 <= load.accepted_rps <= 24


def test_a_limit_is_for_all_connections_together(nginx: Nginx) -> None:
    set_limit(driver_of(nginx), 20)
    loads = []

    threads = [
        threading.Thread(target=lambda: loads.append(put_load(nginx, "/api", rps=100, seconds=2))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 8 <= sum(load.accepted_rps for load in loads) <= 24


def test_a_new_rate_for_the_same_endpoint_holds_and_limits_of_others_stay(nginx: Nginx) -> None:
    driver = driver_of(nginx)
    for limit_rps, endpoint in ((50, "/api"), (10, "/old"), (20, "/api")):
        set_limit(driver, limit_rps, endpoint)

    load = put_load(nginx, "/api", rps=200, seconds=2)

    limits = driver.parse(texts(nginx)[0])["limits"]
    assert {endpoint: entry["limit_rps"] for endpoint, entry in limits.items()} == {"/api": 20, "/old": 10}
    assert 8 <= load.accepted_rps <= 24
    assert driver.is_loaded()


def settled_workers(driver: NginxDriver) -> object:
    """The two workers of the configuration, once both are there and none of an older one is left."""
    deadline = time.monotonic() + 10
    while True:
        workers = driver._workers()
        if len(workers) == 2 and not any(worker.is_leaving for worker in workers):
            return workers
        assert time.monotonic() < deadline, workers
        time.sleep(0.02)


def test_new_files_that_nginx_refuses_are_never_where_it_would_find_them(
    nginx: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_of(nginx)
    set_limit(driver, 50)
    before, workers = texts(nginx), settled_workers(driver)
    change = plan(driver, 20)
    monkeypatch.setattr("reco3.agent.nginx_limits.http_text", lambda limits: http_text(limits) + "limit_req_zone;\n")
    monkeypatch.setattr(NginxDriver, "parse", lambda *_: {"limits": {"/api": {"limit_rps": 20}}})

    with pytest.raises(RateLimitError) as caught:
        driver.rehearse(change)

    assert caught.value.code == "rate_limit_rejected"
    assert "invalid number of arguments" in str(caught.value)
    assert texts(nginx) == before
    assert driver._workers() == workers
    assert sorted(path.name for path in nginx.limits_path.parent.iterdir()) == ["http.conf", "server.conf"]


def test_files_that_only_the_whole_configuration_refuses_are_taken_back_before_a_reload(nginx: Nginx) -> None:
    nginx.configure(CONF.replace("listen 127", "limit_req_status 503; listen 127"))
    driver = driver_of(nginx)
    before, workers = texts(nginx), settled_workers(driver)

    with pytest.raises(RateLimitError) as caught:
        set_limit(driver, 50)

    assert caught.value.code == "rate_limit_rejected"
    assert '"limit_req_status" directive is duplicate' in str(caught.value)
    assert caught.value.is_restored
    assert texts(nginx) == before
    assert driver._workers() == workers
    assert "signal process started" not in nginx.errors()


@pytest.mark.parametrize(("line", "place"), [("http.conf", "http {}"), ("server.conf", "server {}")])
def test_files_that_nginx_does_not_include_are_refused_and_the_line_is_named(
    nginx: Nginx, line: str, place: str
) -> None:
    lines = CONF.splitlines(keepends=True)
    nginx.configure("".join(each for each in lines if not each.endswith(f"/limits/{line};\n")))
    before = texts(nginx)

    with pytest.raises(RateLimitError) as caught:
        set_limit(driver_of(nginx), 50)

    path = nginx.limits_path if line == "http.conf" else nginx.server_path
    assert caught.value.code == "rate_limit_not_included"
    assert str(caught.value) == f"nginx does not read {path}: put `include {path};` into its {place}"
    assert texts(nginx) == before


def test_an_include_by_pattern_finds_files_that_were_not_there_before(nginx: Nginx) -> None:
    nginx.limits_path.unlink()
    nginx.server_path.unlink()
    nginx.configure(CONF.replace("http.conf", "htt*.conf").replace("server.conf", "serve*.conf"))

    set_limit(driver_of(nginx), 20)

    assert 8 <= put_load(nginx, "/api", rps=200, seconds=2).accepted_rps <= 24


def test_files_that_are_missing_and_not_included_are_taken_away_again(nginx: Nginx) -> None:
    nginx.limits_path.unlink()
    nginx.server_path.unlink()
    nginx.configure("".join(each for each in CONF.splitlines(keepends=True) if "/limits/" not in each))

    with pytest.raises(RateLimitError) as caught:
        set_limit(driver_of(nginx), 20)

    assert caught.value.code == "rate_limit_not_included"
    assert list(nginx.limits_path.parent.iterdir()) == []


def test_a_configuration_that_is_broken_already_is_not_blamed_on_the_limit(nginx: Nginx) -> None:
    nginx.configure(CONF.replace("events {{", "nonsense; events {{"))

    with pytest.raises(RateLimitError, match="refuses its configuration as it is now"):
        set_limit(driver_of(nginx), 20)


def test_a_reload_that_fails_brings_the_former_limits_back(nginx: Nginx) -> None:
    set_limit(driver_of(nginx), 20)
    before = texts(nginx)

    with pytest.raises(RateLimitError) as caught:
        set_limit(driver_of(nginx, reload_argv=("/bin/false",)), 500)

    assert caught.value.code == "rate_limit_not_reloaded"
    assert texts(nginx) == before
    assert 8 <= put_load(nginx, "/api", rps=200, seconds=2).accepted_rps <= 24


def test_a_reload_that_brings_no_new_workers_is_no_success(nginx: Nginx) -> None:
    before = texts(nginx)

    with pytest.raises(RateLimitError) as caught:
        set_limit(driver_of(nginx, reload_argv=("/bin/true",), timeout_s=2), 50)

    assert caught.value.code == "rate_limit_not_reloaded"
    assert "no new workers serve" in str(caught.value)
    assert texts(nginx) == before


def test_an_nginx_that_does_not_run_is_said_so_before_anything_is_written(nginx: Nginx) -> None:
    nginx.stop()
    before = texts(nginx)

    with pytest.raises(RateLimitError) as caught:
        set_limit(driver_of(nginx), 50)

    assert caught.value.code == "nginx_not_running"
    assert texts(nginx) == before


def test_a_file_that_was_edited_by_hand_is_not_overwritten(nginx: Nginx) -> None:
    driver = driver_of(nginx)
    set_limit(driver, 50)
    nginx.limits_path.write_text(texts(nginx)[0].replace("50r/s", "60r/s"), encoding="utf-8")
    edited = texts(nginx)

    with pytest.raises(RateLimitError) as caught:
        plan(driver, 20)

    assert caught.value.code == "rate_limit_unreadable"
    assert texts(nginx) == edited


def test_undoing_brings_the_former_limit_back_and_after_that_none(nginx: Nginx) -> None:
    driver = driver_of(nginx)
    first = plan(driver, 20)
    driver.apply(first)
    second = rate_limits.plan_limit(driver, SetRateLimit("/api", 400), command_id="c-2", set_at="now")
    driver.apply(second)

    driver.apply(rate_limits.plan_undo(driver, rate_limits.undo_record(driver, second), command_id="c-2"))
    slow = put_load(nginx, "/api", rps=200, seconds=2)
    driver.apply(rate_limits.plan_undo(driver, rate_limits.undo_record(driver, first), command_id="c-1"))
    free = put_load(nginx, "/api", rps=200, seconds=1)

    assert 8 <= slow.accepted_rps <= 24
    assert free.accepted == free.sent
