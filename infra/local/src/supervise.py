"""Runs a command, and stops it and every process it started when standard input closes.

    supervise.py [--scratch FOLDER] -- COMMAND ...

Standard input is a pipe whose other end only the caller holds, so the operating system closes it
however the caller ends, by SIGKILL too. The command runs in a session of its own: what it starts
is found by its process group, and nothing else ever is.

--scratch gives the command a temporary folder of its own below FOLDER (as TMPDIR), removed at the
end. Ends with the exit code of the command, or with 128 and the signal that ended it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

# MiniStack takes about a second to say goodbye.
GRACE_SECONDS = 5


def main(arguments):
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    scratch = None
    environment = dict(os.environ)
    if options:
        scratch = tempfile.mkdtemp(prefix="scratch-", dir=options[1])
        environment["TMPDIR"] = scratch
    try:
        return run(command, environment)
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def run(command, environment):
    try:
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127

    ended = threading.Event()

    def stop():
        signal_group(child.pid, signal.SIGTERM)
        if not ended.wait(GRACE_SECONDS):
            signal_group(child.pid, signal.SIGKILL)

    def stop_when_stdin_closes():
        while os.read(0, 4096):
            pass
        stop()

    def stop_on_signal(*_):
        threading.Thread(target=stop, daemon=True).start()

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop_on_signal)
    threading.Thread(target=stop_when_stdin_closes, daemon=True).start()

    # Not reaped yet (WNOWAIT): until then no other process group can have this number.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    ended.set()
    signal_group(child.pid, signal.SIGKILL)
    code = child.wait()
    return code if code >= 0 else 128 - code


def signal_group(group, number):
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
