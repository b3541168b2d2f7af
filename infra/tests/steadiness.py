#!/usr/bin/env python3
"""Runs the test command several times under different conditions and tabulates what failed.

    infra/tests/steadiness.py                      the runs that a release has to pass
    infra/tests/steadiness.py plain busy=2         one quiet run, one with two busy loops beside it
    infra/tests/steadiness.py days=100             one with the clock a hundred days ahead
    infra/tests/steadiness.py busy=2 -- -p tests   with arguments for `cargo test`

Conditions are joined by commas: `busy=2,days=100`. The clock is moved by libfaketime, which is
installed under target/venv/faketime. The output of each run stays in target/steadiness/. Exits with 1 if any test
failed in any run.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "target" / "steadiness"
RELEASE = ["plain", "busy=2", "busy=2", "busy=2", "days=100"]
RESULT = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED)", re.MULTILINE)
FAILURES = re.compile(r"\nfailures:\n((?:    \S+\n)+)\ntest result")


def conditions(text):
    """The busy loops and the days of one run."""
    wanted = {"busy": 0, "days": 0}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if part == "plain":
            continue
        if name not in wanted or not number.isdigit():
            raise argparse.ArgumentTypeError(f"{part!r} is none of: plain, busy=LOOPS, days=DAYS")
        wanted[name] = int(number)
    return text, wanted


def with_clock_ahead(days):
    """The environment of a process that lives so many days later."""
    if not days:
        return {}
    venv = ROOT / "target" / "venv" / "faketime"
    wanted = ROOT / "infra" / "local" / "requirements" / "faketime.txt"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin" / "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", wanted]
    subprocess.run(pip, check=True)
    library = next(venv.rglob("libfaketime.so.1"), None)
    if library is None:
        sys.exit(f"steadiness: the wheel of libfaketime for this machine has no library: {venv}")
    # Sleeps and time-outs use the monotonic clock, and cargo compares times of files.
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"+{days}d",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Otherwise it corrects the deadlines of waits that nothing has moved, and they spin: the
        # emulator then takes twenty times the processor time, and bursts fail.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "NO_FAKE_STAT": "1",
    }


@contextlib.contextmanager
def busy_loops(count):
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run(number, wanted, arguments):
    """One run: its minutes, the load it met, how many tests passed, and the names of those that failed."""
    log = LOGS / f"{number}.log"
    command = ["cargo", "test", "--workspace", "--locked", "--no-fail-fast", *arguments]
    environment = {**os.environ, **with_clock_ahead(wanted["days"])}
    # Without the moved clock: rustc hangs under it.
    build = subprocess.run(["cargo", "test", "--no-run", *command[2:]], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if build.returncode:
        sys.exit(build.stderr.decode(errors="replace"))
    since = time.monotonic()
    with busy_loops(wanted["busy"]), log.open("w") as out:
        cargo = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            cargo.wait()
        finally:
            # The test that runs as well, and with it its emulator.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(cargo.pid, signal.SIGTERM)
            cargo.wait()
    minutes = (time.monotonic() - since) / 60
    text = log.read_text(errors="replace")
    # What a test prints may stand between its name and its result, so failures are also read from
    # the list at the end of each binary.
    lists = FAILURES.findall(text)
    failed = {name for names in lists for name in names.split()}
    failed |= {name for name, result in RESULT.findall(text) if result == "FAILED"}
    passed = sum(int(count) for count in re.findall(r"^test result: .*?(\d+) passed", text, re.MULTILINE))
    if cargo.returncode and not failed:
        failed = {f"(cargo test itself: exit code {cargo.returncode}, see {log.relative_to(ROOT)})"}
    if not passed:
        failed |= {"(no test ran)"}
    return minutes, os.getloadavg()[2], passed, failed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=conditions, default=[conditions(run) for run in RELEASE])
    own, arguments = sys.argv[1:], []
    if "--" in own:
        own, arguments = own[: own.index("--")], own[own.index("--") + 1 :]
    runs = parser.parse_args(own).runs
    LOGS.mkdir(parents=True, exist_ok=True)
    failures = Counter()
    print("| run | conditions | minutes | load (15 min) | passed | failed |\n|---|---|---|---|---|---|")
    for number, (text, wanted) in enumerate(runs, 1):
        minutes, load, passed, failed = run(number, wanted, arguments)
        failures.update(failed)
        print(f"| {number} | {text} | {minutes:.1f} | {load:.1f} | {passed} | {len(failed)} |", flush=True)
    print("\n| test | failed in so many runs |\n|---|---|")
    for name, count in failures.most_common():
        print(f"| {name} | {count} |")
    if not failures:
        print("| none | 0 |")
    return 1 if failures else 0


if __name__ == "__main__":
    # A `kill` ends what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
