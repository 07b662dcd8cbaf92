"""How fast the world turns, against the same world in a plain loop over users.

Measured in processor seconds of one thread, so that other work on the machine doesn't count.
"""

from time import process_time

import numpy as np
import pytest
from plain_ads import run

from headrace.simulate.ads import AdsWorld
from headrace.simulate.scenario import Scenario


@pytest.mark.slow
def test_half_a_million_user_steps_a_second() -> None:
    scenario = Scenario.load("ads")
    m = len(scenario.channels)
    fast, slow = [], []
    for block in range(3):
        world = AdsWorld(scenario, np.arange(16_384) + block * 16_384, seed=0)
        steps, start = 0, process_time()
        while not world.done:
            context = world.observe()
            steps += len(context["row"])
            world.step(context["slot"] % m)
        fast.append(steps / (process_time() - start))
        start = process_time()
        steps = sum(len(run(scenario, user, 0, scenario.days, lambda u, d, s: s % m)[0]) for user in range(10))
        slow.append(steps / (process_time() - start))
    print(f"user-steps a processor second: {max(fast):,.0f}, plain loop {max(slow):,.0f}")
    assert max(fast) > 500_000
    assert max(fast) > 50 * max(slow)
