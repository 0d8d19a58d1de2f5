"""What all parts of a local cluster work with: its plan, its supervisor, and the means by which it is looked at."""

from __future__ import annotations

from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.logs import NodeLogs
from pytest_serve_chaos.cluster.local.plan import HEAD_INDEX, Plan
from pytest_serve_chaos.cluster.local.topology import ProcessTopology
from pytest_serve_chaos.cluster.rest import Dashboard


class LocalView:
    """A local cluster as its parts see it.

    Args:
        plan: What the supervisor runs.
        layout: Its addresses and ports.
        link: The way to the supervisor.

    Attributes:
        plan, layout, link: As given.
        dashboard: The dashboard of its head.
        topology: Who is alive.
        logs: What its nodes log.
    """

    def __init__(self, plan: Plan, layout: Layout, link: SupervisorLink) -> None:
        self.plan = plan
        self.layout = layout
        self.link = link
        self.dashboard = Dashboard(
            f"http://{layout.address(HEAD_INDEX)}:{layout.dashboard_port}", {"Authorization": f"Bearer {plan.secret}"}
        )
        self.topology = ProcessTopology(plan, layout, link)
        self.logs = NodeLogs(plan, layout)

    def close(self) -> None:
        """Ends all processes and removes the run's directory."""
        self.dashboard.close()
        self.link.close()
