"""The picture of the demo in the README: the live view of a recorded run, as rich exports it.

    python docs/images/demo.py            draws docs/images/demo.svg from the record beside it
    python docs/images/demo.py --record   runs the demo once more and keeps its events first

The record holds the events of a real run of ``python -m runtime``; they go into the state of the live view, and the
frame is the one that a terminal of 80 columns had at the instant at which leaves were in the most different states.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from rich.console import Console
from rich.text import Text

from protocol.signals import Progress
from runtime.view import live_view
from runtime.view_draw import page

RECORD, PICTURE = HERE / "demo.jsonl", HERE / "demo.svg"
WIDTH, ROWS = 80, 24


def record() -> None:
    """Run the demo and keep its events."""
    from runtime.channel import Channel
    from runtime.demo import TASK, team
    from runtime.system import ActorSystem

    began = time.time()
    config, server = team()
    events: list[Progress] = []
    with server, ActorSystem(config(), watch_calls=True) as system:
        handle = system.submit(TASK, correlation_id="task_001")
        ended: Channel[object] = Channel()
        handle.subscribe(lambda event: events.append(event) if isinstance(event, Progress) else ended.put(event))
        ended.get(timeout=600)
    head = {"task": TASK, "run": "task_001", "began": began}
    lines = [head, *({"event": event.event, "at": event.at, "facts": event.facts} for event in events)]
    RECORD.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def frame() -> list[Text]:
    """Return the lines of the frame with the most different states of leaves, the last of them."""
    from runtime.config import Config
    from runtime.demo import EMBEDDED

    head, *events = [json.loads(line) for line in RECORD.read_text(encoding="utf-8").splitlines()]
    state = live_view(Config.parse(EMBEDDED.encode(), "the demo"), 1, head["began"]).state
    state.on_opened(head["run"], head["task"], events[0]["at"])
    most, best = 0, [Text()]
    for event in events:
        state.on_event(Progress(run=head["run"], **event))
        seen = len(state.runs[head["run"]].counts())
        if seen >= most and event["event"] != "task.finished":
            most, best = seen, list(page(state, event["at"], WIDTH, ROWS))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="run the demo first")
    if parser.parse_args().record:
        record()
    paper = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=WIDTH, record=True)
    for line in frame():
        paper.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    PICTURE.write_text(paper.export_svg(title="python -m runtime", unique_id="troupe"), encoding="utf-8")


if __name__ == "__main__":
    main()
