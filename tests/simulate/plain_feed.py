"""The feed again, a user at a time in plain Python: an oracle for the vectorised one, and what its speed is told by."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

from headrace.simulate import draws
from headrace.simulate.draws import Purpose
from headrace.simulate.feed_response import feed_tables
from headrace.simulate.feed_scenario import REACTIONS
from headrace.simulate.feed_users import draw_feed_traits
from headrace.simulate.items import draw_items
from headrace.simulate.predictors import fitted
from headrace.simulate.scenario import Scenario
from headrace.simulate.users import draw_traits

DAY_MS = 86_400_000
ALL = (1 << 64) - 1
INVERSE = NormalDist().inv_cdf


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


class PlainFeed:
    """The items of a seed, and what every user shares."""

    def __init__(self, scenario: Scenario, seed: int):
        self.scenario, self.feed, self.seed = scenario, scenario.feed_task, seed
        self.tables, self.items, self.fitted = feed_tables(scenario), draw_items(scenario, seed), fitted(scenario)

    def run(
        self, user: int, days: int, rule: Callable[[Any], list[float]], scores: bool = True
    ) -> list[dict[str, Any]]:
        """Every request as a dict; `rule(request)` gives the scores of its candidates."""
        feed, t, items, users = self.feed, self.tables, self.items, self.scenario.users
        keys = draws.user_keys(self.seed, [user])
        traits = draw_traits(self.scenario, keys)
        own = draw_feed_traits(self.scenario, keys, traits)
        level, k = int(traits.activity[0]), len(self.scenario.topics)
        first = 1 - feed.second_topic
        norm = math.sqrt(first**2 + feed.second_topic**2)
        patience = feed.patience_spread * own.patience[0]
        spoils = 2 * sigmoid(feed.trap_spread * own.sensitive[0])
        fickle = 2 * sigmoid(feed.fickle_spread * own.fickle[0])

        def luck(day: int, request: int, purpose: Purpose, width: int | None = None) -> Any:
            return draws.uniform(keys, day, request, purpose, width)[0].tolist()

        moving = (draws.normal(keys, 0, 1, Purpose.TASTE, k)[0] * math.sqrt(users.drift_share)).tolist()
        last_visit, trust, trust_day, free_from, fatigue, fatigue_when = (
            int(traits.last_visit[0]),
            0.0,
            0,
            -math.inf,
            [0.0] * k,
            0.0,
        )
        number, found = -1, []
        end = self.scenario.start_ms + days * DAY_MS
        for day in range(days):
            trust *= 0.5 ** ((day - trust_day) / feed.trust_half_life_days)
            trust_day = day
            liking = t.visit[level] + feed.habit_spread * own.habit[0] + feed.return_trust * trust
            liking += feed.visit_again * (last_visit == day - 1)
            if luck(day, 0, Purpose.VISIT) >= sigmoid(liking):
                continue
            size = draws.normal(keys, day, 1, Purpose.SESSIONS)[0]
            mean = (feed.activity[level].sessions - 1) * math.exp(
                feed.sessions_spread * size - feed.sessions_spread**2 / 2
            )
            sessions, edge, u = 1, 0.0, luck(day, 0, Purpose.SESSIONS)
            for beyond in range(feed.most_sessions - 1):
                edge += math.exp(-mean) * mean**beyond / math.factorial(beyond)
                sessions += u >= edge
            gap = day - last_visit
            kept = 0.5 ** (gap / users.drift_half_life_days)
            shock = draws.normal(keys, day, 0, Purpose.DRIFT, k)[0]
            moving = [kept * moving[i] + math.sqrt(users.drift_share * (1 - kept**2)) * shock[i] for i in range(k)]
            taste = [traits.lasting[0][i] + moving[i] for i in range(k)]
            last_visit = day
            for session in range(sessions):
                place = (session + luck(day, session, Purpose.HOUR)) / sessions
                hour = max(h for h in range(24) if t.hours[h] <= place)
                hour += (place - t.hours[hour]) / (t.hours[hour + 1] - t.hours[hour])
                time = max(math.floor(self.scenario.start_ms + day * DAY_MS + hour * 3_600_000), free_from)
                if time >= end:
                    continue
                number, mood = number + 1, trust
                for request in range(feed.most_requests):
                    now = (time - self.scenario.start_ms) / DAY_MS
                    fatigue = [f * 0.5 ** ((now - fatigue_when) * 24 / feed.fatigue_half_life_hours) for f in fatigue]
                    fatigue_when = now
                    index = session * feed.most_requests + request
                    bits = draws.bits(keys, day, index, Purpose.CANDIDATES, feed.candidates)[0]
                    offered = []
                    for c in range(feed.candidates):
                        shelf = (feed.items - c + feed.candidates - 1) // feed.candidates
                        offered.append(c + feed.candidates * (((int(bits[c]) >> 40) * shelf) >> 24))
                    evening = feed.click_evening * math.cos((now * 24 % 24 - feed.evening_hour) * math.pi / 12)
                    base = t.click + t.click_shift[level] + feed.click_spread * traits.clickiness[0] + evening
                    asked = {"user": user, "day": day, "session": number, "request": request, "time": time}
                    asked |= {"items": offered, "hour": math.floor(now * 24 % 24), "gap": gap}
                    if scores:
                        asked["scores"] = self.scores(
                            keys, day, offered, taste, patience, spoils, base, own.social[0], level
                        )
                    rated = rule(asked)
                    order = sorted(range(len(offered)), key=lambda c: -rated[c])[: feed.shown]
                    clicks, watch = (
                        luck(day, index, Purpose.FEED_CLICK, feed.shown),
                        draws.normal(keys, day, index, Purpose.WATCH, feed.shown)[0],
                    )
                    reacts, leaves = (
                        luck(day, index, Purpose.REACTION, 6 * feed.shown),
                        luck(day, index, Purpose.LEAVE, feed.shown),
                    )
                    seen, left = [], False
                    for p, c in enumerate(order):
                        item = offered[c]
                        one, two = int(items.topic[item]), int(items.second[item])
                        q, b, trap = float(items.quality[item]), float(items.clickbait[item]), float(items.trap[item])
                        z, duration = float(items.length[item]), float(items.duration_s[item])
                        tired = first * fatigue[one] + feed.second_topic * fatigue[two]
                        match = (
                            first * taste[one] + feed.second_topic * taste[two]
                        ) / norm - feed.fatigue_match * tired
                        lure = base + feed.click_later * math.log1p(request) + feed.click_match * match
                        click = clicks[p] < sigmoid(lure + feed.click_quality * q + feed.click_clickbait * b)
                        desire = t.desire + feed.watch_match * match + feed.watch_quality * q - feed.watch_clickbait * b
                        wish = math.exp(desire + (feed.watch_duration + patience) * z + feed.watch_spread * watch[p])
                        glance = feed.glance_s * math.exp(feed.glance_spread * watch[p] - feed.glance_spread**2 / 2)
                        play = min(wish if click else glance, duration)
                        joy = feed.enjoy_match * match + feed.enjoy_quality * q - spoils * feed.enjoy_trap * trap
                        joy = joy if click else -feed.skip
                        what = {"item": item, "click": click, "play_s": play, "finish": click and wish >= duration}
                        what["long_view"] = click and play >= min(duration, feed.long_view_s)
                        for r, name in enumerate(REACTIONS):
                            reaction = feed.reactions[r]
                            chance = t.reactions[r] + feed.social_spread * own.social[0] + reaction.enjoyment * joy
                            chance += feed.follow_after_profile * (name == "follow" and what["profile_visit"])
                            chance += reaction.watched * play / duration * click
                            what[name] = (click or name == "hate") and reacts[p * 6 + r] < sigmoid(chance)
                        mood += feed.mood_rate * (joy - mood)
                        trust += feed.trust_rate * (joy - trust)
                        hazard = t.leave + t.leave_shift[level] + feed.leave_fatigue * tired
                        hazard -= fickle * (feed.leave_mood * mood + feed.leave_enjoyment * joy)
                        fatigue[one] += feed.fatigue_gain * first
                        fatigue[two] += feed.fatigue_gain * feed.second_topic
                        left = what["exit"] = leaves[p] < sigmoid(hazard)
                        seen.append(what)
                        if left:
                            break
                    time += math.ceil(1000 * (sum(w["play_s"] for w in seen) + feed.pause_s * len(seen)))
                    over = left or request + 1 == feed.most_requests or time >= end
                    found.append(asked | {"seen": seen, "terminated": left, "truncated": over and not left})
                    if over:
                        break
                free_from = time + feed.session_gap_minutes * 60_000
        return found

    def scores(self, keys: Any, day: int, offered: list[int], taste: list[float], patience: float, spoils: float,
               base: float, social: float, level: int) -> list[list[float]]:  # fmt: skip
        """Twelve predictions of each candidate."""
        feed, items, f, made = self.feed, self.items, self.fitted, []
        first, insight = 1 - feed.second_topic, feed.predictor_insight
        norm = math.sqrt(first**2 + feed.second_topic**2)
        key = int(draws.bits(keys, day, 0, Purpose.PREDICTION)[0])
        for item in offered:
            a = (first * taste[items.topic[item]] + feed.second_topic * taste[items.second[item]]) / norm
            q, b = float(items.quality[item]), float(items.clickbait[item])
            z = float(items.length[item])
            click = base + feed.click_match * a + feed.click_quality * q + feed.click_clickbait * b
            desire = feed.watch_match * a + feed.watch_quality * q - feed.watch_clickbait * b
            desire += (feed.watch_duration + insight * patience) * z
            joy = feed.enjoy_match * a + feed.enjoy_quality * q
            joy -= (1 + insight * (spoils - 1)) * feed.enjoy_trap * float(items.trap[item])
            views = (click, desire, z, joy, feed.social_spread * social, float(self.tables.leave_shift[level]))
            pair, row = key ^ int(items.keys[item]), []
            for k in range(12):
                x = pair ^ mixed((k // 4 + 0x9E3779B97F4A7C15) & ALL)
                x = mixed(x)
                noise = INVERSE(((x >> (16 * (k % 4)) & 0xFFFF) + 0.5) / 65536)
                latent = sum(part * view for part, view in zip(f.parts[k], views, strict=True)) - f.mean[k]
                row.append(sigmoid(f.intercept[k] + f.slope[k] * (latent + f.noise[k] * noise)))
            made.append(row)
        return made


def mixed(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & ALL
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & ALL
    return x ^ (x >> 31)
