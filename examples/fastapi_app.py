"""Troupe inside FastAPI: submit, result, events as SSE, cancel. Run it with ``python fastapi_app.py``.

``TEAM=team.toml python fastapi_app.py`` takes a configuration; without one a scripted server on this machine answers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Annotated

import msgspec
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from protocol import TroupeError
from runtime import ActorSystem, Config, Handle
from runtime.fake_server import FakeServer
from runtime.sharing import share


@contextmanager
def configured() -> Iterator[Config]:
    """Give the configuration, this worker's share of it where the server runs several."""
    if "TEAM" in os.environ:
        yield share(Config.load(os.environ["TEAM"]), int(os.environ.get("WEB_CONCURRENCY", "1")))
    else:
        with FakeServer() as server:
            yield Config.for_endpoint(server.url, "scripted")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the system in the process that serves, after any fork, and stop it with the server."""
    with configured() as config:
        async with ActorSystem(config) as system:
            app.state.system = system
            yield


app = FastAPI(lifespan=lifespan)


class Work(BaseModel):
    """What a client asks for; who names the run may ask again, and gets the same one."""

    task: str
    id: str | None = None


async def known(run: str, request: Request) -> Handle:
    """Find a run that goes on or has ended lately."""
    handle: Handle | None = request.app.state.system.handle(run)
    if handle is None:
        raise HTTPException(404, f"no run {run!r} is known here")
    return handle


Known = Annotated[Handle, Depends(known)]


@app.exception_handler(TroupeError)
async def refused(_: Request, error: TroupeError) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=400)


@app.post("/runs", status_code=202)
async def submit(work: Work, request: Request) -> dict[str, str]:
    return {"id": request.app.state.system.submit(work.task, correlation_id=work.id).correlation_id}


@app.get("/runs/{run}")
async def result(handle: Known, wait: float = 0.0) -> Response:
    """Answer with the WorkflowResult, or with 202 when the run has not ended within *wait* seconds."""
    with suppress(TimeoutError):
        await asyncio.wait_for(handle, min(wait, 60.0))  # who stops waiting leaves the run as it is
    if not handle.done():
        return Response(status_code=202)
    return Response(msgspec.json.encode(handle.result()), media_type="application/json")


@app.get("/runs/{run}/events", response_class=EventSourceResponse)
async def events(handle: Known, last_event_id: Annotated[int, Header()] = 0) -> AsyncIterator[ServerSentEvent]:
    """Stream what happens in the run; a browser that reconnects goes on where it was, one that leaves ends nothing."""
    number = 0
    async with aclosing(handle.aevents()) as seen:
        async for event in seen:
            number += 1
            if number > last_event_id:
                yield ServerSentEvent(event=event.event, id=str(number), data=msgspec.to_builtins(event.facts))
    yield ServerSentEvent(event="ended", data=handle.result().success)  # without it a browser would come back for more


@app.delete("/runs/{run}", status_code=202)
async def cancel(handle: Known) -> None:
    handle.cancel()


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), timeout_graceful_shutdown=2)
