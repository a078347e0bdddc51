"""``docs/live.md`` and its picture say what the code does."""

from __future__ import annotations

import html
import importlib.util
import json
import re
from pathlib import Path

from runtime.time_spent import PARTS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")


def script(path: str):
    spec = importlib.util.spec_from_file_location("script", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_the_frame_that_the_live_view_makes_of_the_recorded_run():
    svg = html.unescape((ROOT / "docs" / "images" / "demo.svg").read_text(encoding="utf-8")).replace("\xa0", " ")
    shown = "".join(re.findall(r"<text [^>]*>([^<]*)</text>", svg)).replace(" ", "")
    lines = [line.plain.replace(" ", "") for line in script("docs/images/demo.py").frame()]
    assert len(lines) > 8
    assert [line for line in lines if line not in shown] == []


def test_the_table_of_time_is_that_of_the_code():
    rows = re.findall(r"^\| ([a-z ]+) \| `(\w+)_ms` \|", PAGE, re.MULTILINE)
    assert {part: words for words, part in rows} == PARTS


def test_each_event_of_the_page_is_made_somewhere_and_no_other_is():
    told = set(re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE.partition("## Events")[2]))
    sources = [*(ROOT / "actors").glob("*.py"), ROOT / "protocol" / "stages.py", ROOT / "runtime" / "desk.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    kinds = {name.partition(".")[0] for name in told}
    made = set(re.findall(rf'"((?:{"|".join(kinds)})\.[a-z_]+)"', text))
    assert told == made | {"draft.accepted", "draft.rejected"}  # these two are put together


def test_the_committed_figures_of_the_view_hold_their_bound():
    result = json.loads((ROOT / "benchmarks" / "results" / "view.json").read_text(encoding="utf-8"))
    broken = script("benchmarks/view.py").broken
    assert broken(result) == []
    result["view"]["share_of_a_core"] = 0.051
    assert broken(result) == ["the view takes 5.1 % of a core, at most 5.0"]
