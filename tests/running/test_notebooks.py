"""What make runs ends with it."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

CODE = """
import signal, subprocess
from defectmill.running.notebooks import stop_kernels_with_this_process
stop_kernels_with_this_process()
print(subprocess.Popen(["sleep", "100"], start_new_session=True).pid, flush=True)
signal.pause()
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:  # one that has ended may wait to be asked about
        return stat.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="asks Linux which processes live")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_kernels_end_at_once_with_the_process_that_started_them(number):
    running = subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True)
    kernel = int(running.stdout.readline())
    assert is_alive(kernel)
    running.send_signal(number)
    told, _ = running.communicate(timeout=20)
    assert running.returncode == 128 + number
    assert told == f"\nstopped by {number.name}; the next make goes on from here\n"
    assert ends(kernel)


def ends(pid: int) -> bool:
    """Whether a process ends within ten seconds."""
    for _ in range(200):
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="Linux alone tells that make was asked to end")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_kernels_end_with_make_though_make_alone_is_told(tmp_path, number):
    (tmp_path / "starts.py").write_text(CODE)
    (tmp_path / "Makefile").write_text(f"all:\n\t@exec {shlex.join([sys.executable, 'starts.py'])}\n")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")
    }
    with subprocess.Popen(
        ["make"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGHUP)],
    ) as make:
        kernel = int(make.stdout.readline())
        assert is_alive(kernel)
        make.send_signal(number)
        if not ends(kernel):
            os.killpg(make.pid, signal.SIGKILL)
            pytest.fail("the kernel lives on")
        told = signal.SIGTERM if number == signal.SIGTERM else signal.SIGHUP
        assert make.stdout.read() == f"\nstopped by {told.name}; the next make goes on from here\n"
