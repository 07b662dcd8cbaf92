"""User embeddings: the pre-trained encoder's representation of each user, for other models (MTORL, section 4.5).

U users, D width.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.store import Journeys


@runtime_checkable
class Encodes(Protocol):
    """A method with an encoder of users."""

    name: str

    def embeddings(self, journeys: Journeys) -> NDArray[np.float32]: ...


def embed(method: Any, journeys: Journeys) -> pl.DataFrame:
    """One row a user: its id, and the D numbers of the encoder's representation, embedding_0 and on (float32).

    Section 4.5: the pre-trained user encoder (causal state encoder and causal attention) produces user embeddings for
    another model. Each is what the encoder holds of a user at its next step, after the log's last one: everything known
    by then, nothing of other users. Where the log has a clock, the time since the user's own last step is part of it.
    Raises UserError for a method without such an encoder, and for a log of another schema.
    """
    if not isinstance(method, Encodes):
        raise UserError(f"embed: {method.name} has no encoder of users; expected a run of mtorl, train one")
    found = method.embeddings(journeys)  # (U, D)
    users = pl.Series("user", journeys.users)
    return pl.DataFrame([users, *(pl.Series(f"embedding_{d}", found[:, d]) for d in range(found.shape[1]))])
