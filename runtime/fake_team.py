"""The answers of the scripted server: a plausible team, played by rules alone.

Pure: text in, text out, nothing remembered. That a draft is a revision is read off the request, which quotes an earlier
draft or its review; so replies do not depend on the order in which calls arrive.
"""

from __future__ import annotations

import json
import re
from typing import Any
from zlib import crc32

from msgspec import Struct

ASPECTS = (
    "Define the interface and types of",
    "Write the core logic of",
    "Handle errors and edge cases of",
    "Write the tests of",
    "Add configuration to",
    "Add logging and metrics to",
    "Write usage examples for",
    "Prepare the packaging of",
)
MARKERS = {"analyze and break down": "orchestrator", "implement": "coder", "review": "reviewer"}
PERSONA = re.compile(
    r"(?P<orchestrator>orchestrat|tech.?lead|planner|break\w* down|subtask|zerleg|teilaufgabe)"
    r"|(?P<reviewer>review|validator|critic|prüf)"
    r"|(?P<coder>engineer|coder|programm|entwickl|implement)",
    re.IGNORECASE,
)
MARKED = re.compile(
    r"\s*(analyze and break down|implement|review)\b"
    r"(?:(?:\s+(?:this|the|following|task|sub-?task|draft|code|of|for))*\s*:)?\s*",
    re.IGNORECASE,
)
VERB = re.compile(
    r"(?:please\s+)?(?:implement(?:iere)?|write|build|create|develop|schreibe?|baue?|erstelle?)\s+", re.IGNORECASE
)
DRAFT = re.compile(r"REVISION = (\d{1,6})|\bdraft (\d{1,6})\b")
TITLE = re.compile(r'^"""(.{1,200}?)\."""$', re.MULTILINE)
SIGNATURE = re.compile(r"def do_\w{1,60}\([^)\n]{0,80}\)")
NONCE = re.compile(r"nonce-[A-Za-z0-9]+")
WORD = re.compile(r"[^\W_]")

CODE = '''```python
"""{title}."""

from __future__ import annotations

REVISION = {revision}


def {name}(value: str) -> str:
    """Return *value* tagged; an empty one is refused."""
    if not value:
        raise ValueError("value must not be empty")
    return f"{name}: {{value}}"


def test_{name}() -> None:
    assert {name}("x") == "{name}: x"
```
'''


class Call(Struct, frozen=True, kw_only=True):
    """What one request is about: who is asked, the words it is about, all its text, and the shape the answer must have.

    ``schema`` is None for prose; ``{}`` for a JSON object of no stated shape.
    """

    role: str
    subject: str
    text: str
    schema: dict[str, Any] | None = None


def recognise(turns: list[tuple[str, str]], schema: dict[str, Any] | None) -> Call:
    """Tell who is meant: by how the user's text begins, else by the schema, else by the system prompt.

    *turns* are pairs of role and text.
    """
    text = "\n".join(content for _, content in turns)
    asked = [content for role, content in turns if role == "user"] or [""]
    for content in (asked[-1], *asked):
        marked = MARKED.match(content)
        if marked:
            role, subject = MARKERS[marked[1].lower()], _subject(content[marked.end() :])
            return Call(role=role, subject=subject, text=text, schema=schema)
    role = _by_schema(schema) or _by_persona(turns)
    return Call(role=role, subject=_subject(asked[-1]), text=text, schema=schema)


def answer(call: Call, *, subtasks: int, reject: float, seed: int) -> str:
    """Return the reply's text. *reject* is the share of first drafts that the reviewer rejects."""
    if call.role == "orchestrator":
        return _plan(call, subtasks)
    if call.role == "reviewer":
        return _review(call, reject, seed)
    if call.role == "coder" and call.schema is None:
        return _code(call)
    words = f"About {call.subject}: done."
    return words if call.schema is None else _json(call, {"text": words})


def nonces(text: str) -> str:
    """Return every nonce in *text*, in order, each once."""
    return " ".join(dict.fromkeys(NONCE.findall(text)))


def count_tokens(text: str) -> int:
    """Return the server's own exact count: one token for every four characters begun."""
    return (len(text) + 3) // 4


def _subject(text: str) -> str:
    """Return the first line with words in it, shortened."""
    return next((line.strip()[:200] for line in text.splitlines() if WORD.search(line)), "the task")


def _by_schema(schema: dict[str, Any] | None) -> str | None:
    names = schema and json.dumps(schema)
    if not names:
        return None
    if '"subtasks"' in names:
        return "orchestrator"
    return "reviewer" if any(name in names for name in ('"score"', '"approved"', '"checks"')) else None


def _by_persona(turns: list[tuple[str, str]]) -> str:
    """The first telling word of the system prompt decides."""
    found = PERSONA.search("\n".join(content for role, content in turns if role in {"system", "developer"}))
    return str(found.lastgroup) if found else "other"


def _plan(call: Call, subtasks: int) -> str:
    topic = VERB.sub("", call.subject, count=1).rstrip(".!? ")[:120]
    rounds = ["", *(f" (part {n})" for n in range(2, 2 + subtasks // len(ASPECTS)))]
    steps = [f"{aspect} {topic}{part}" for part in rounds for aspect in ASPECTS][:subtasks]
    if call.schema is not None:
        return _json(call, {"subtasks": steps})
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def _code(call: Call) -> str:
    title = re.sub(r'[\\"\x00-\x1f]', "'", call.subject).rstrip(". '") or "the task"
    slug = "_".join(re.findall(r"[a-z0-9]+", title.lower()))[:40].strip("_") or "it"
    return CODE.format(title=title, name=f"do_{slug}", revision=_drafts(call.text) + 1)


def _drafts(text: str) -> int:
    return max((int(a or b) for a, b in DRAFT.findall(text)), default=0)


def _review(call: Call, reject: float, seed: int) -> str:
    draft = _drafts(call.text)
    title = TITLE.search(call.text)
    about = title[1] if title else call.subject
    roll = crc32(f"{seed}:{about}".encode("utf-8", "replace")) / 2**32
    good = draft > 1 or roll >= reject
    issues = [] if good else [f"draft {max(draft, 1)} does not check the type of its argument"]
    score = 7 + int(roll * 4) if good else 2 + int(roll * 3)
    if '"checks"' in json.dumps(call.schema or schema_in(call.text)):
        return json.dumps({"checks": _checks(call.text, issues)}, ensure_ascii=False)
    if call.schema is not None:
        return _json(call, {"issues": issues, "score": min(score, 10), "approved": good})
    listed = "\n".join(f"- {issue}" for issue in issues) or "- none"
    return f"Score: {min(score, 10)}/10\nApproved: {'yes' if good else 'no'}\nIssues:\n{listed}"


def _checks(text: str, issues: list[str]) -> list[dict[str, Any]]:
    """Return an item for each aspect; what fails quotes the signature of the draft's function."""
    signature = SIGNATURE.search(text)
    failed = {"passes": False, "evidence": signature[0] if signature else "", "fix": "; ".join(issues)}
    passed = {"passes": True, "evidence": "", "fix": ""}
    return [
        {"aspect": aspect, **(failed if issues and aspect == "correctness" else passed)}
        for aspect in ("correctness", "security", "performance", "best practices")
    ]


def _json(call: Call, known: dict[str, Any]) -> str:
    schema = call.schema or schema_in(call.text)
    value = known if not schema or call.role in {"orchestrator", "reviewer"} else fill(schema, schema, call.subject)
    return json.dumps(value, ensure_ascii=False)


def schema_in(text: str) -> dict[str, Any]:
    """Return the JSON schema that a prompt quotes, or ``{}``."""
    if '"properties"' not in text:
        return {}
    for found in re.finditer(r"\{", text):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, found.start())
        except (ValueError, RecursionError):
            continue
        if {"properties", "$ref", "$defs"} & value.keys():
            return dict(value)
    return {}


def fill(schema: dict[str, Any], root: dict[str, Any], words: str, depth: int = 0) -> Any:
    """Return the smallest value of *schema*; strings become *words*. Beyond 20 levels it is None."""
    if depth > 20:
        return None
    if "$ref" in schema:
        return fill(root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {}), root, words, depth + 1)
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return fill(schema[union][0], root, words, depth + 1)
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else schema["enum"][0]
    return _of_type(schema, root, words, depth)


def _of_type(schema: dict[str, Any], root: dict[str, Any], words: str, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "null")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return {name: fill(inner, root, words, depth + 1) for name, inner in schema.get("properties", {}).items()}
        case "array":
            inner = schema.get("items") or {"type": "string"}
            return [fill(inner, root, words, depth + 1) for _ in range(schema.get("minItems", 1))]
        case "string":
            return words[: schema.get("maxLength", 200)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return None
