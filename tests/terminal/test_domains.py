"""What an adaptation tells in a terminal."""

from tl_keras.terminal.domains import target_lines


def test_a_distance_that_cannot_be_told_is_left_out():
    apart = {"mmd": 0.1, "coral": None, "proxy_a": 2.0, "classwise_mmd": None}
    lines = target_lines({"distances": {"source_only": apart}})
    assert lines == ["distance between the domains: MMD 0.1, proxy A-distance 2"]
