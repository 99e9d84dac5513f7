"""What make runs ends with it."""

import os
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
    for _ in range(100):
        if not is_alive(kernel):
            return
        time.sleep(0.05)
    pytest.fail("the kernel lives on")
