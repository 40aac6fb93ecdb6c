"""Metrics: numbers that no PC can have are refused."""

from typing import Any

import pytest

from builders import metrics
from reco3.protocol.messages import Metrics, WatchedProcess
from reco3.server.domain.errors import BadInput
from reco3.server.domain.metrics import check_metrics


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpu_percent", float("nan")),
        ("cpu_percent", float("inf")),
        ("mem_percent", -0.1),
        ("cpu_count", -1),
        ("net_bytes_sent", 2**63),
        ("disk_total_gb", 1e300),
        ("hostname", "h" * 257),
        ("platform", "p" * 257),
        ("approvers_pinned", -1),
        ("trust_version", "v" * 257),
        ("processes", [WatchedProcess("p", running=True)] * 201),
    ],
)
def test_what_no_pc_can_have_is_refused_naming_its_field(field: str, value: Any) -> None:
    with pytest.raises(BadInput) as refusal:
        check_metrics(metrics(**{field: value}))

    assert refusal.value.field == f"metrics.{field}"


def test_an_older_agent_may_send_nothing_at_all() -> None:
    check_metrics(Metrics())


def test_a_pc_may_say_whom_it_obeys() -> None:
    check_metrics(metrics(approvers_pinned=3, approvals_required=2, trust_version="0123456789abcdef"))


def test_the_largest_counter_and_a_busy_pc_are_taken() -> None:
    check_metrics(metrics(net_bytes_sent=2**63 - 1, cpu_percent=100.0, apply_enabled=True))
    check_metrics(metrics(approvers_pinned=2, approvals_required=2, trust_version="0123456789abcdef"))
