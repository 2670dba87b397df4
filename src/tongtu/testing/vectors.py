"""User vectors: what a recommender promises of them where it has any."""

from __future__ import annotations

import numpy as np

from tongtu.core import PAD, Represents, Request, RequestBatch
from tongtu.testing.case import Case, close, require, unusual


def check_vectors(case: Case) -> None:
    """A user's vector is a row of finite numbers, follows from that user's own request, and not from the limits of the answer."""
    if not isinstance(case.system, Represents):
        return
    requests = [*case.requests, *unusual(case.data)]
    together = case.system.user_vectors(requests)
    shape = together.shape
    right = together.dtype == np.float32 and len(shape) == 2 and shape[0] == len(requests) and shape[1] > 0
    require(right, case, f"user_vectors must give float32[n, width], got {together.dtype} {shape}")
    require(bool(np.isfinite(together).all()), case, "user vectors must be finite")
    none = case.system.user_vectors([]).shape
    require(none == (0, shape[1]), case, f"no requests must give user vectors of shape (0, {shape[1]}), got {none}")
    alone = np.concatenate([case.system.user_vectors([request]) for request in requests])
    close(case, together, alone, "a user's vector must be the same alone and in a batch")
    close(case, together, case.system.user_vectors(requests[::-1])[::-1], "user vectors must not depend on the order of the requests")
    close(case, together, case.system.user_vectors(RequestBatch.of(requests)), "a RequestBatch must give the user vectors of the list of its requests")
    history = case.data.history(1)
    plain, limited = case.system.user_vectors([Request(history=history), Request(history=history, candidates=history[:1], exclude_seen=False)])
    close(case, limited, plain, "limits of the answer must not change a user's vector")
    strangers = case.system.user_vectors([Request(), Request(history=np.full(3, PAD, np.int32))])
    close(case, strangers[0], strangers[1], "a history of unknown items only must give the vector of an empty one")
