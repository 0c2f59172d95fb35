"""One scenario's outcome as one line, and the checks that scenarios make."""

import os
import sys
import threading
import time
import traceback

LONGEST_SECONDS = 45
LONGEST_REASON = 300


class Skipped(Exception):
    """The client lacks the feature."""


class NotServed(Exception):
    """The broker refused the feature cleanly."""


def run(scenarios, only):
    """Runs the scenarios, name to function, or those of them that `only` names."""
    for name, scenario in scenarios.items():
        if only and name not in only:
            continue
        started = time.monotonic()
        outcome = []
        thread = threading.Thread(target=lambda: outcome.append(outcome_of(name, scenario)), daemon=True)
        thread.start()
        thread.join(LONGEST_SECONDS)
        if not outcome:
            traceback.print_stack(sys._current_frames()[thread.ident])
        line = outcome[0] if outcome else f"FAIL {name}: not finished after {LONGEST_SECONDS} s"
        print(" ".join(line.split())[:LONGEST_REASON], flush=True)
        print(f"{name} took {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    # Not exit(): what a scenario that hangs left behind must not keep the process.
    os._exit(0)


def outcome_of(name, scenario):
    try:
        scenario()
        return f"PASS {name}"
    except Skipped as lacks:
        return f"SKIP {name}: {lacks}"
    except NotServed as refusal:
        return f"NOT_SERVED {name}: {refusal}"
    except Exception as failure:
        traceback.print_exc()
        return f"FAIL {name}: {type(failure).__name__}: {failure}"


def equal(expected, actual, what):
    if expected != actual:
        raise AssertionError(f"{what}: expected {shown(expected)}, got {shown(actual)}")


def shown(value):
    text = repr(value)
    return text if len(text) < 120 else f"{text[:120]}… ({len(text)} characters)"


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def eventually(what, condition, seconds=20):
    """Waits until the condition holds; one that raises does not hold yet."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
            last = None
        except Exception as failure:
            last = failure
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}" + (f" ({type(last).__name__}: {last})" if last else ""))
