"""The advertising world again, a user at a time in plain Python: an oracle for the vectorised one."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

from headrace.simulate import draws
from headrace.simulate.draws import Purpose
from headrace.simulate.response import tables
from headrace.simulate.scenario import Scenario
from headrace.simulate.users import draw_traits

DAY_MS = 86_400_000


def run(scenario: Scenario, user: int, seed: int, days: int, rule: Callable[[int, int, int], int]) -> Any:
    """Every exposure as a dict, and (day, worth) of the organic purchases; rule(user, day, slot) gives the channel."""
    ads, users, t = scenario.ads, scenario.users, tables(scenario)
    keys = draws.user_keys(seed, [user])
    traits = draw_traits(scenario, keys)
    activity = users.activity[traits.activity[0]]
    k, m = len(scenario.topics), len(ads.channels)

    def luck(day: int, slot: int, purpose: Purpose) -> float:
        return float(draws.uniform(keys, day, slot, purpose)[0])

    def worth(day: int, slot: int, purpose: Purpose, mean: float) -> float:
        z = NormalDist().inv_cdf(luck(day, slot, purpose))
        own = math.exp(users.spend_spread * traits.spend[0] - users.spend_spread**2 / 2)
        return round(mean * own * math.exp(ads.value_spread * z - ads.value_spread**2 / 2), 2)

    def purchase(rate: float) -> float:
        ready = math.exp(users.intent_spread * traits.intent[0] - users.intent_spread**2 / 2)
        return 1 - math.exp(-rate * ready * math.exp(-sated))

    liking = draws.normal(keys, 0, 0, Purpose.SENSITIVITY, m)[0]
    room = draws.normal(keys, 0, 0, Purpose.CAPACITY, m)[0]
    moving = draws.normal(keys, 0, 1, Purpose.TASTE, k)[0] * math.sqrt(users.drift_share)
    recent, aware, sated, when = [0.0] * m, [0.0] * m, 0.0, 0.0
    last_visit = int(traits.last_visit[0])
    exposures, organic = [], []

    def wear_off(now: float) -> None:
        nonlocal sated, when
        for c in range(m):
            recent[c] *= 0.5 ** ((now - when) / ads.saturation_half_life_days)
            aware[c] *= 0.5 ** ((now - when) / ads.carry_over_half_life_days)
        sated *= 0.5 ** ((now - when) / users.sated_half_life_days)
        when = now

    for day in range(days):
        count = 0
        if luck(day, 0, Purpose.VISIT) < activity.visit_rate:
            mean, most = activity.exposures - 1, ads.most_exposures_per_day
            weights = [mean**i / math.factorial(i) for i in range(most)]
            edge, u = 0.0, luck(day, 0, Purpose.EXPOSURES)
            for weight in weights:
                count += 1
                edge += weight / sum(weights)
                if u < edge:
                    break
            gap = day - last_visit
            kept = 0.5 ** (gap / users.drift_half_life_days)
            shock = draws.normal(keys, day, 0, Purpose.DRIFT, k)[0]
            moving = [kept * moving[i] + math.sqrt(users.drift_share * (1 - kept**2)) * shock[i] for i in range(k)]
            last_visit = day
        for slot in range(count):
            place = (slot + luck(day, slot, Purpose.HOUR)) / count
            hour = max(h for h in range(24) if t.hours[h] <= place)
            hour += (place - t.hours[hour]) / (t.hours[hour + 1] - t.hours[hour])
            time = math.floor(scenario.start_ms + day * DAY_MS + hour * 3_600_000)
            spot = sum(luck(day, slot, Purpose.PLACEMENT) >= edge for edge in t.placements[:-1])
            wear_off(day + hour / 24)
            c = rule(user, day, slot)
            if c < 0:
                continue
            channel = ads.channels[c]
            topic = sum(luck(day, slot, Purpose.CREATIVE) >= edge for edge in t.topics_cumulative[c][:-1])
            logit = t.intercept[c] + activity.click_shift + users.click_spread * traits.clickiness[0]
            logit += channel.sensitivity * liking[c] + channel.intent * traits.intent[0]
            logit += ads.placements[spot].click_shift
            logit += ads.evening_shift * math.cos((hour - ads.evening_hour) * math.pi / 12)
            logit += ads.taste_weight * (traits.lasting[0][topic] + moving[topic])
            capacity = channel.capacity * math.exp(ads.capacity_spread * room[c])
            click = luck(day, slot, Purpose.CLICK) < 1 / (1 + math.exp(-logit)) / (1 + recent[c] / capacity)
            lift = sum(
                ads.channels[j].lifts.get(channel.name, 0.0) * aware[j] / (1 + aware[j]) for j in range(m) if j != c
            )
            p = purchase(channel.conversion_rate * (1 + lift)) * (1 if click else ads.view_through)
            conversion = luck(day, slot, Purpose.CONVERSION) < p
            revenue, reported = 0.0, time + ads.conversion_window_days * DAY_MS
            if conversion:
                revenue = worth(day, slot, Purpose.VALUE, channel.value)
                mean_ms = ads.conversion_delay_hours * 3_600_000
                cut = 1 - math.exp(-ads.conversion_window_days * DAY_MS / mean_ms)
                reported = time + math.ceil(-mean_ms * math.log(1 - luck(day, slot, Purpose.DELAY) * cut))
                sated += users.sated_by_purchase
            z = NormalDist().inv_cdf(luck(day, slot, Purpose.COST))
            paid = channel.cost_per_exposure * math.exp(channel.cost_spread * z - channel.cost_spread**2 / 2)
            recent[c] += 1
            aware[c] += 1 + ads.click_carry_over * click
            exposures.append(
                {
                    "time": time,
                    "channel": c,
                    "topic": topic,
                    "click": click,
                    "conversion": conversion,
                    "conversion_time": reported,
                    "revenue": revenue,
                    "cost": paid + channel.cost_per_click * click,
                    "placement": spot,
                    "gap": gap,
                }
            )
        wear_off(day + 1.0)
        rate = ads.organic_rate * (1 + sum(ads.channels[j].organic_lift * aware[j] / (1 + aware[j]) for j in range(m)))
        if luck(day, 0, Purpose.ORGANIC) < purchase(rate):
            organic.append((day, worth(day, 0, Purpose.ORGANIC_VALUE, ads.organic_value)))
            sated += users.sated_by_purchase
    return exposures, organic
