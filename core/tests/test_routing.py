"""Which endpoints tasks may go to: the name of the lane, what endpoints serve, their health, and near before far."""

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from oq.breaker import Health
from oq.routing import NOBODY, Lane, Routing, groups, lane_pools, serves
from oq.task import Priority

WELL, TRIED, RESTING = Health


@frozen
class Server:
    name: str
    priority: int = 0
    remote: bool = False
    enabled: bool = True
    concurrency: int = 1
    models: tuple[str, ...] = ()


NEAR = Server("near")
FAR = Server("far", remote=True)


def wanted(lane, *servers, ill=None, **routing):
    ill = ill or {}
    return lane_pools(lane, servers, lambda server: ill.get(server.name, WELL), lambda s: s.name, Routing(**routing))


class TestLane:
    @given(
        st.builds(Lane, st.text(st.characters(exclude_characters="[]()")), st.booleans(), st.none() | st.text("ab :."))
    )
    def test_its_name_says_all(self, lane):
        assert Lane.parse(str(lane)) == lane

    def test_it_is_the_model_where_there_is_nothing_more_to_say(self):
        assert str(Lane("hf.co/some/model:7b")) == "hf.co/some/model:7b"
        assert str(Lane("qwen3", remote=True, own="night")) == "qwen3 [night] (remote)"


class TestServes:
    def test_an_endpoint_that_names_no_models_serves_all(self):
        assert serves(NEAR, "qwen3")

    @pytest.mark.parametrize("model", ["qwen3", "qwen3:8b", "llama"])
    def test_models_may_be_patterns(self, model):
        assert serves(Server("a", models=("qwen3*", "phi")), model) is model.startswith("qwen3")

    def test_one_that_is_switched_off_serves_nothing(self):
        assert not serves(Server("a", enabled=False), "qwen3")


class TestGroups:
    def test_by_priority_then_healthy_before_tried_and_resting_ones_not_at_all(self):
        """Were healthy ones always first, one that failed once would never be tried while another has room."""
        servers = [Server(name, priority) for name, priority in [("a", 1), ("b", 2), ("c", 2), ("d", 9), ("e", 9)]]
        health = {"c": TRIED, "d": TRIED, "e": RESTING}
        found = groups(servers, lambda server: health.get(server.name, WELL))
        assert [[server.name for server in group] for group in found] == [["d"], ["b"], ["c"], ["a"]]


class TestNearAndFar:
    def test_with_near_ones_only_all_tasks_go_there(self):
        pools = wanted(Lane("m"), NEAR, Server("near 2", priority=1))
        assert (pools.choices, pools.urgent) == ((("near 2",), ("near",)), ())

    def test_with_far_ones_only_all_tasks_go_there(self):
        pools = wanted(Lane("m"), FAR)
        assert (pools.choices, pools.urgent) == ((("far",),), ())

    def test_usual_tasks_stay_near(self):
        pools = wanted(Lane("m"), NEAR, FAR)
        for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
            assert pools.choices_for(priority, 100) == (("near",),)

    def test_critical_ones_go_far_first(self):
        assert wanted(Lane("m"), NEAR, FAR).choices_for(Priority.CRITICAL, 0) == (("far",), ("near",))

    def test_high_ones_go_far_when_the_backlog_passes_the_limit(self):
        pools = wanted(Lane("m"), NEAR, FAR, max_local_queue_size=5)
        assert pools.choices_for(Priority.HIGH, 5) == (("near",),)
        assert pools.choices_for(Priority.HIGH, 6) == (("far",), ("near",))
        assert pools.choices_for(Priority.NORMAL, 6) == (("near",),)

    def test_without_falling_back_they_wait_for_the_far_ones(self):
        pools = wanted(Lane("m"), NEAR, FAR, fallback_to_local=False)
        assert pools.choices_for(Priority.CRITICAL, 0) == (("far",),)
        pools = wanted(Lane("m"), NEAR, FAR, ill={"far": RESTING}, fallback_to_local=False)
        assert pools.choices_for(Priority.CRITICAL, 0) == NOBODY

    def test_those_that_ask_for_it_go_far(self):
        assert wanted(Lane("m", remote=True), NEAR, FAR).choices == (("far",), ("near",))
        assert wanted(Lane("m", remote=True), NEAR, FAR, fallback_to_local=False).choices == (("far",),)
        assert wanted(Lane("m", remote=True), NEAR, fallback_to_local=False) is None

    def test_usual_tasks_wait_while_the_near_one_rests(self):
        pools = wanted(Lane("m"), NEAR, FAR, ill={"near": RESTING})
        assert pools.choices_for(Priority.NORMAL, 0) == NOBODY
        assert pools.choices_for(Priority.CRITICAL, 0) == (("far",),)

    def test_when_near_does_not_matter_all_are_alike(self):
        assert wanted(Lane("m"), NEAR, FAR, local_first=False).choices == (("near", "far"),)

    def test_a_lane_that_nobody_may_ever_serve_is_told_from_one_whose_endpoints_rest(self):
        assert wanted(Lane("m")) is None
        pools = wanted(Lane("m"), NEAR, FAR, ill={"near": RESTING, "far": RESTING})
        assert {pools.choices_for(priority, 1_000) for priority in Priority} == {NOBODY}
