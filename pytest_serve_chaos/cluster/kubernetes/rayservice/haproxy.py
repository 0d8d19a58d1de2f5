"""HAProxy as the ingress of a RayService: the processes in its pods, and what they say."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_serve_chaos.cluster.haproxy import Generation, Routes, no_answer, read_routes
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import output_of
from pytest_serve_chaos.cluster.kubernetes.rayservice.topology import PodTopology
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget
from pytest_serve_chaos.json_text import read_json


class PodHAProxy:
    """Looks into the HAProxies of a RayService. Has the capability `ShowsHAProxy`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
        topology: Sees their processes.
    """

    def __init__(self, api: KubeApi, pods: RayPods, topology: PodTopology) -> None:
        self._api = api
        self._pods = pods
        self._topology = topology

    def generations(self) -> Sequence[Generation]:
        """The HAProxy processes that were seen last."""
        return self._topology.haproxies.generations

    def routes(self, generation: Generation) -> Routes:
        """What the admin socket in its directory says, by a program in its container.

        Raises:
            ObservationError: It gave no usable answer.
        """
        try:
            pod = self._pods.with_process(generation.process)
            said = read_json(output_of(self._api, pod, "show_haproxy", generation.directory))
            match said:
                case [str(state), str(config)]:
                    pass
                case _:
                    raise ValueError(f"{said!r:.80} is not its state and its config")
        except (CommandFailed, NoSuchTarget, ValueError) as error:
            raise no_answer(generation, error) from error
        return read_routes(state, config)
