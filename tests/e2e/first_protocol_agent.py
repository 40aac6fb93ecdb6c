"""An agent of the first protocol: sequential, ten-second polling, no journal, string payloads, two statuses.

It stands for the agents in the field; it must not be changed to make a test pass.
"""

import json
import sys
import time

import psutil
import requests


class FirstProtocolAgent:
    def __init__(self, base_url: str, agent_id: str, api_key: str) -> None:
        self.base_url = base_url
        self.session = requests.Session()
        self.session.headers.update({"X-AGENT-ID": agent_id, "X-API-Key": api_key})
        self.executed: list[str] = []

    def heartbeat(self) -> None:
        metrics = {
            "cpu_percent": psutil.cpu_percent(),
            "mem_percent": psutil.virtual_memory().percent,
            "disk_percent": psutil.disk_usage("/").percent,
            "platform": sys.platform,
            "mode": "NORMAL",
            "processes": [{"name": "nginx", "running": False, "pid": None, "status": "stopped"}],
        }
        self._post("/agent/heartbeat", {"platform": "linux", "version": "1.0", "metrics": metrics})

    def send_logs(self, messages: list[str]) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        logs = [
            {"ts": now, "level": "ERROR", "code": "E1", "msg": text, "meta": {"file": "a.log"}} for text in messages
        ]
        self._post("/agent/logs", {"logs": logs})

    def pull_and_run(self) -> None:
        answer = self.session.get(self.base_url + "/agent/pull", timeout=10)
        answer.raise_for_status()
        for command in answer.json()["commands"]:
            payload = json.loads(command["payload_json"])
            self.executed.append(f"{command['type']} {payload}")
            result = {"success": True, "output": f"ran {command['type']}"}
            self._post("/agent/report", {"command_id": command["id"], "status": "completed", "result": result})

    def _post(self, path: str, body: object) -> None:
        answer = self.session.post(self.base_url + path, json=body, timeout=10)
        answer.raise_for_status()
        assert answer.json()["status"] == "ok"
