from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.names import RAY_NODE_TYPE
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import PodNames, assign_names, expected_names


def ray_pod(uid: str, *, role: str = "worker", deleting: bool = False) -> Pod:
    return Pod(
        name=f"pod-{uid}",
        uid=uid,
        node="node",
        ip="10.0.0.1",
        phase="Running",
        created=uid,
        deleting=deleting,
        labels={RAY_NODE_TYPE: role},
        containers=(),
    )


HISTORIES = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), unique_by=lambda p: p[0], max_size=5), max_size=6
)


def test_workers_are_named_in_the_order_in_which_they_were_made() -> None:
    pods = [ray_pod("head", role="head"), ray_pod("a"), ray_pod("b")]
    assert assign_names({}, pods, 2) == {"head": "head", "a": "worker-1", "b": "worker-2"}


def test_a_replacement_takes_the_name_that_is_free() -> None:
    names = PodNames(2)
    names.of([ray_pod("a"), ray_pod("b")])
    assert names.of([ray_pod("b"), ray_pod("c")]) == {"b": "worker-2", "c": "worker-1"}


def test_a_replacement_takes_the_name_of_a_pod_that_is_still_terminating() -> None:
    names = PodNames(2)
    names.of([ray_pod("a"), ray_pod("b")])
    after = names.of([ray_pod("a", deleting=True), ray_pod("b"), ray_pod("c")])
    assert after == {"a": "worker-1", "b": "worker-2", "c": "worker-1"}


def test_a_new_head_is_the_head_also_alongside_the_old_one() -> None:
    pods = [ray_pod("old", role="head", deleting=True), ray_pod("new", role="head")]
    assert set(assign_names({}, pods, 2).values()) == {"head"}


def test_a_worker_too_many_gets_a_name_of_its_own() -> None:
    assert assign_names({}, [ray_pod("a"), ray_pod("b")], 1) == {"a": "worker-1", "b": "worker-2"}


def test_the_expected_names_begin_with_the_head() -> None:
    assert expected_names(2) == ("head", "worker-1", "worker-2")


@given(HISTORIES)
def test_no_two_pods_that_stay_share_a_name_and_no_pod_changes_its_name(
    history: Sequence[Sequence[tuple[int, bool]]],
) -> None:
    names, before = PodNames(2), dict[str, str]()
    leaving: set[str] = set()
    for moment in history:
        leaving |= {str(uid) for uid, deleting in moment if deleting}
        pods = [ray_pod(str(uid), deleting=str(uid) in leaving) for uid, _ in sorted(moment)]
        now = names.of(pods)
        staying = [now[pod.uid] for pod in pods if not pod.deleting]
        assert len(set(staying)) == len(staying)
        assert all(now[uid] == before[uid] for uid in now if uid in before)
        before = now
