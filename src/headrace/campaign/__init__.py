"""campaign: spend a budget on adverts, never more than it."""
