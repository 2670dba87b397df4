"""What one writes in an hour: the same model in a FastAPI handler that asks torch directly, one request at a time. `load.py` measures it beside the service.

    python benchmarks/service/plain_handler.py MODEL --port 8001
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from tongtu.core import Request, RequestBatch
from tongtu.nn.answer import newest_states
from tongtu.systems.behaviour.sasrec import SASRec


class Body(BaseModel):
    history: list[str]
    k: int = 10


def app(path: Path) -> FastAPI:
    torch.set_num_threads(1)
    model = SASRec.from_pretrained(path)
    ids, weight = model.items.ids.to_list(), model.net.item.weight.detach()
    handlers = FastAPI()

    @handlers.post("/v1/recommend")
    def recommend(body: Body) -> dict[str, object]:
        codes = model.items.encode(body.history)
        state = newest_states(model.net, RequestBatch.of([Request(history=codes)]), model.config.max_length)
        with torch.inference_mode():
            scores = (state @ weight.T)[0]
            scores[torch.from_numpy(codes.astype("int64"))] = -torch.inf
            scores[0] = -torch.inf
            best = torch.topk(scores, body.k)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return {"items": [{"id": ids[code - 1], "score": score, "rank": rank} for rank, (code, score) in enumerate(found, 1)]}

    @handlers.get("/health/ready")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    return handlers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, default=8001)
    options = parser.parse_args()
    uvicorn.run(app(options.model), host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
