"""What comes out of the sandbox is believed only behind the secret."""

from __future__ import annotations

import pytest

from protocol.channel import Heard, hear

SECRET = bytes(range(200, 216))
LOOK = b"+python\x1f3.11\x1f\x1f\x1etest\x1fa.py::test_x\x1f\x1f\n"
BODY = b"passed\x1fa.py::test_x\x1f\x1f"
REPORT = SECRET + b"%08x" % len(BODY) + BODY
PASSED = (("passed", "a.py::test_x", "", ""),)
SEEN = (("python", "3.11", "", ""), ("test", "a.py::test_x", "", ""))


def test_a_whole_report_is_read():
    assert hear(LOOK + b"\nbegin import a.py\n\nbegin a.py::test_x\n" + REPORT, SECRET) == Heard(
        SEEN, PASSED, "a.py::test_x"
    )


def test_without_the_secret_nothing_is_proved():
    forged = REPORT.replace(SECRET, bytes(16))
    assert hear(LOOK + forged, SECRET) == Heard(SEEN, None, "")


@pytest.mark.parametrize("data", [b"", b"+", b"+python\x1f3", b"anything at all"])
def test_before_its_first_line_is_whole_the_runner_has_said_nothing(data):
    assert hear(data, SECRET) == Heard(None, None, "")


@pytest.mark.parametrize("end", [b"", b"00", b"zzzzzzzz", b"00000099" + BODY, b"%08x" % 6 + b"a\x1fb\x1fc"])
def test_a_broken_report_proves_nothing(end):
    assert hear(LOOK + SECRET + end, SECRET).proof is None


def test_what_stands_around_the_report_changes_nothing():
    junk = b"\x1e\x1f\n00000010passed"
    assert hear(LOOK + junk + REPORT + junk, SECRET).proof == PASSED


def test_an_empty_report_is_one():
    assert hear(LOOK + SECRET + b"00000000", SECRET).proof == ()


def test_a_first_line_of_another_shape_is_none():
    assert hear(b"+a\x1fb\n" + REPORT, SECRET) == Heard(None, PASSED, "")


def test_what_is_no_text_is_read_all_the_same():
    body = b"failed\x1fa\x1f\x1f\xff\xfe"
    heard = hear(LOOK + b"\nbegin \xff\n" + SECRET + b"%08x" % len(body) + body, SECRET)
    assert (heard.proof, heard.begun) == ((("failed", "a", "", "\ufffd\ufffd"),), "\ufffd")
