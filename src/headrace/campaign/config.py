"""How a campaign spends: CampaignConfig, and its presets. Money in micros, M channels."""

from dataclasses import dataclass
from typing import Any, Literal

from headrace.campaign.allocator import Allocator, Price, TopUsers
from headrace.errors import UserError


@dataclass(frozen=True, slots=True)
class CampaignConfig:
    """How a campaign spends."""

    budget: int  # micros
    rounds: int | None = None  # K, at most; None: all turns of the market
    exploration_share: float = 0.1  # of the budget, at most, for the exploration stage
    exploration_days: int = 1  # how long the exploration stage lasts
    exploration: Literal["lot", "all"] = "lot"  # users by lot as the share suffices, or all as they first come
    explore: float = 0.02  # share of the choices that explore after that stage
    initial: tuple[float, ...] | None = None  # P_initial (17), what exploration draws channels from; None: all alike
    hold_out: float = 0.0  # share of the users who never see an advert
    cap: int | None = None  # adverts a user, at most
    cap_per_day: int | None = None  # the same on one day
    daily: int | None = None  # micros a day, at most
    pots: tuple[int | None, ...] | None = None  # micros a channel, at most, 0 closes it; None: no limit of its own
    pacing: bool = True  # spread the budget over the opportunities to come; False: spend as it comes
    refit_every: int | None = None  # rounds between two refits
    calibrate: bool = True  # by channel, on what adverts brought and cost so far
    rescore: Literal["touched", "reachable"] = "touched"  # whose predictions are renewed as they come
    expiry: int = 8  # rounds after which an unsettled reservation is freed

    def __post_init__(self) -> None:
        shares = {"exploration_share": self.exploration_share, "explore": self.explore, "hold_out": self.hold_out}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise UserError(f"campaign: {name} = {share}, expected a share from 0 to 1")
        least = {"budget": 0, "exploration_days": 0, "rounds": 1, "cap": 1, "cap_per_day": 1, "daily": 0}
        for name, low in (least | {"refit_every": 1, "expiry": 1}).items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"campaign: {name} = {value}, expected {low} or more")
        for pot in self.pots or ():
            if pot is not None and pot < 0:
                raise UserError(f"campaign: pots = {self.pots}, expected 0 or more, or None")
        if self.initial is not None and not (min(self.initial) >= 0 and sum(self.initial) > 0):
            raise UserError(f"campaign: initial = {self.initial}, expected shares of the channels")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {"exploration_share": 0.03, "explore": 0.01, "rescore": "reachable"},
    "paper": {"exploration": "all", "explore": 0.0, "calibrate": False},
}
PRESET_ALLOCATORS: dict[str, Allocator] = {"default": Price(), "paper": TopUsers()}
