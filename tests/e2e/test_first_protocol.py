"""Agents that are in the field already keep working, unchanged."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from first_protocol_agent import FirstProtocolAgent
from world import AGENT_ID, AGENT_KEY, World


@pytest.fixture
def server(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.start_server()
    yield world
    world.tear_down()


@pytest.fixture
def agent(server: World) -> FirstProtocolAgent:
    return FirstProtocolAgent(server.url, AGENT_ID, AGENT_KEY)


def test_its_heartbeat_shows_the_pc_online(server: World, agent: FirstProtocolAgent) -> None:
    agent.heartbeat()

    assert server.is_online()


def test_its_log_lines_are_stored_and_open_an_incident(server: World, agent: FirstProtocolAgent) -> None:
    agent.heartbeat()

    agent.send_logs(["boom", "boom again"])

    assert server.get(f"/api/r3/agent/{AGENT_ID}/logs")["count"] == 2
    assert [incident["count"] for incident in server.get("/api/incidents")["incidents"]] == [2]


def test_it_runs_a_safe_command_at_its_next_poll(server: World, agent: FirstProtocolAgent) -> None:
    agent.heartbeat()
    command_id = server.request("SET_MODE", {"mode": "SAFE"})

    agent.pull_and_run()

    assert agent.executed == ["SET_MODE {'mode': 'SAFE'}"]
    assert server.command(command_id)["status"] == "completed"


def test_it_gets_a_strong_command_only_once_and_only_approved(server: World, agent: FirstProtocolAgent) -> None:
    agent.heartbeat()
    command_id = server.request("RESTART_PROCESS", {"process": "nginx"})

    agent.pull_and_run()
    assert agent.executed == []

    server.approve(command_id)
    agent.pull_and_run()
    agent.pull_and_run()

    assert agent.executed == ["RESTART_PROCESS {'process': 'nginx'}"]
    assert server.command(command_id)["status"] == "completed"


def test_a_strong_command_whose_delivery_was_lost_is_not_sent_again(server: World, agent: FirstProtocolAgent) -> None:
    agent.heartbeat()
    command_id = server.request("RESTART_PROCESS", {"process": "nginx"})
    server.approve(command_id)
    agent.session.get(server.url + "/agent/pull", timeout=10)  # The answer never reaches the agent's code.

    agent.pull_and_run()

    assert agent.executed == []
    assert server.command(command_id)["status"] == "delivered"
