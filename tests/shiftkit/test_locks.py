import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shiftkit.errors import MachineError
from shiftkit.files import held, lock_path

HOLD = """
import sys, time
from pathlib import Path
from shiftkit.files import held
with held(Path(sys.argv[1]), "train"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_told_who_is_at_work_and_a_dead_one_is_taken_over(tmp_path: Path) -> None:
    """The lock names verb and id, no machine; a killed owner leaves it to the next, which removes it."""
    folder = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, env=environment) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        owner = json.loads(lock_path(folder).read_text())
        assert set(owner) == {"owner", "verb", "since"} and owner["verb"] == "train"
        with (
            pytest.raises(MachineError, match=f"shiftkit train .id {owner['owner']}.*at work in"),
            held(folder, "predict"),
        ):
            pass
        assert not folder.exists()
        other.kill()
        other.wait()
    assert lock_path(folder).is_file()
    with held(folder, "predict"), held(folder, "score"):
        assert json.loads(lock_path(folder).read_text())["verb"] == "predict"
    assert not lock_path(folder).exists()


def test_who_waits_enters_when_the_other_has_ended(tmp_path: Path) -> None:
    """`waits` refuses nothing: it begins once the lock is let go, and not before."""
    path, order = lock_path(tmp_path / "run"), list[str]()
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)

    def end() -> None:
        order.append("first")
        os.close(handle)

    threading.Timer(0.7, end).start()
    with held(tmp_path / "run", "phantom", waits=True):
        order.append("second")
    assert order == ["first", "second"] and not path.exists()


def test_a_lock_of_another_machine_is_known_by_its_heartbeat(tmp_path: Path) -> None:
    """Where the file system does not tell, a file that is touched is held, and its age alone says nothing."""
    path = lock_path(tmp_path / "run")
    path.write_text("{}")
    started = time.monotonic()
    touching = subprocess.Popen(
        [sys.executable, "-c", "import os,sys,time\nfor _ in range(100): os.utime(sys.argv[1]); time.sleep(.2)", path]
    )
    try:
        time.sleep(0.5)
        with pytest.raises(MachineError, match="another run"), held(tmp_path / "run", "train"):
            pass
    finally:
        touching.kill()
        touching.wait()
    assert time.monotonic() - started < 20
