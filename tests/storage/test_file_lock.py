import signal
import subprocess
import sys
from pathlib import Path

from shoe_classifier.storage.file_lock import FileLock, folder_lock

HOLD = """
import sys, time
from pathlib import Path
from shoe_classifier.storage.file_lock import FileLock
print(FileLock(Path(sys.argv[1])).acquire(), flush=True)
time.sleep(60)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    assert not first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    first.release()  # does not hold it: nothing happens
    assert not first.acquire()
    second.release()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "True\n"
        assert not lock.acquire()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert lock.acquire()
    lock.release()


def test_a_folder_is_locked_without_writing_there(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with folder_lock(folder) as first, folder_lock(folder) as second:
        assert (first, second) == (True, False)
    with folder_lock(folder) as again:
        assert again
    assert list(folder.iterdir()) == []
