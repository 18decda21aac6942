# SPDX-License-Identifier: Apache-2.0
"""How long block images take from a server on loopback to a loop device, against what a shell pipe takes; as root.

Each figure is the best of several rounds in which the contenders take turns, each in a process of its own, with a new
sparse file behind the device; the digest is computed by ours alone. What was written is compared byte for byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.timing import show

GIB = 1 << 30
SIZE = 2 * GIB
DATA = 449 << 20
ROUNDS = 3
MEMORY = 120 << 20

OURS = """
import sys
from bareon.model.image import Digest
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.transfer.image import write
url, device, limit, digest = sys.argv[1:]
write(Location(url), device, limit=int(limit), digest=Digest("sha256", digest), settings=TransferSettings(),
      progress=lambda served, total: None)
"""

LOOP = """
import hashlib, os, sys
import requests
digest = hashlib.sha256()
with requests.get(sys.argv[1], stream=True) as answer, open(sys.argv[2], "r+b") as device:
    for chunk in answer.iter_content(1 << 20):
        digest.update(chunk)
        device.write(chunk)
    device.flush()
    os.fsync(device.fileno())
"""


class _Files(SimpleHTTPRequestHandler):
    """Files by sendfile, whole or in parts."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with Path(self.translate_path(self.path)).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else size
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", str(end - start))
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while start < end:
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, min(end - start, 1 << 20))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(folder: str) -> None:
    """Serve a folder until the input closes; prints the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: _Files(*a, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL at which a folder is served, by nginx where it is installed."""
    if nginx := shutil.which("nginx"):
        paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{name}_temp_path {folder}/tmp-{name};" for name in paths)
        http = f"access_log off; sendfile on; {temporary} server {{ listen 127.0.0.1:8917; root {folder}; }}"
        text = f"user root; daemon off; error_log stderr crit; pid {folder}/pid; events {{}} http {{ {http} }}"
        (folder / "nginx.conf").write_text(text)
        process = subprocess.Popen([nginx, "-c", str(folder / "nginx.conf")], text=True)
        url = "http://127.0.0.1:8917"
        while subprocess.run(["curl", "-s", "-o", "/dev/null", url], check=False).returncode:
            time.sleep(0.05)
    else:
        argv = [sys.executable, "-m", "benchmarks.stream", "serve", str(folder)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
    try:
        yield url
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def loop_device(folder: Path, size: int) -> Iterator[str]:
    """A loop device over a new file."""
    file = folder / "disk"
    with file.open("wb") as handle:
        handle.truncate(size)
    argv = ["losetup", "--find", "--show", str(file)]
    device = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
        file.unlink()


def make_image(folder: Path, size: int = SIZE, data: int = DATA, name: str = "raw") -> Path:
    """An ext4 file system with so many bytes of this system's files."""
    tree, left = folder / "tree", data
    tree.mkdir()
    for source in sorted(Path("/usr").rglob("*")):
        if source.is_symlink() or not source.is_file() or not 0 < source.stat().st_size <= left:
            continue
        target = tree / source.relative_to("/usr")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        left -= source.stat().st_size
        if left < 1 << 16:
            break
    image = folder / name
    with image.open("wb") as handle:
        handle.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", str(tree), str(image)], check=True)
    shutil.rmtree(tree)
    return image


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def timed(argv: list[str]) -> tuple[float, int]:
    """Seconds and peak memory in bytes of a command, which must succeed."""
    started = time.monotonic()
    process = subprocess.Popen(argv)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv)
    return time.monotonic() - started, usage.ru_maxrss * 1024


class Course:
    """The images and their server; commands write to the device that ``DEVICE`` stands for."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def ours(self, name: str, limit: int = SIZE) -> list[str]:
        digest = sha256(self.folder / name)
        return [sys.executable, "-c", OURS, f"{self.url}/{name}", "DEVICE", str(limit), digest]

    def pipe(self, name: str, *stages: str) -> list[str]:
        write = "dd of=DEVICE bs=1M oflag=direct iflag=fullblock conv=fsync status=none"
        return ["bash", "-o", "pipefail", "-c", " | ".join([f"curl -sf {self.url}/{name}", *stages, write])]

    def best(self, *commands: list[str]) -> list[float]:
        """The shortest time of each; afterwards the device must hold the image."""
        times: list[list[float]] = [[] for _ in commands]
        for round_ in range(ROUNDS):
            for command, taken in zip(commands, times, strict=True):
                with loop_device(self.folder, SIZE) as device:
                    os.sync()
                    taken.append(timed([word.replace("DEVICE", device) for word in command])[0])
                    if not round_:
                        subprocess.run(["cmp", str(self.folder / "raw"), device], check=True)
        return [min(taken) for taken in times]


def measure(course: Course) -> Iterator[bool]:
    """Each figure in its turn; whether it is within its limit."""
    zstd, pipe = course.best(course.ours("zst"), course.pipe("zst", "zstd -dcq"))
    yield show("zstd", zstd, "curl | zstd -dc | dd", pipe, 0.5)
    gzip, pipe = course.best(course.ours("gz"), course.pipe("gz", "gzip -dc"))
    yield show("gzip", gzip, "curl | gzip -dc | dd", pipe, 1 / 6)
    python = [sys.executable, "-c", LOOP, f"{course.url}/raw", "DEVICE"]
    raw, pipe, simple = course.best(course.ours("raw"), course.pipe("raw"), python)
    yield show("raw", raw, "curl | dd", pipe, 0.6)
    yield show("raw", raw, "one loop of requests, sha256 and write", simple, 0.25)
    file = course.folder / "fetched"
    fetch = f"curl -sf -o {file} {course.url}/qcow2"
    convert = f"{fetch} && qemu-img convert -n -t none -f qcow2 -O raw {file} DEVICE && rm {file}"
    qcow2, pipe = course.best(course.ours("qcow2"), ["bash", "-c", convert])
    yield show("qcow2", qcow2, "curl and qemu-img convert", pipe, 1.0)


def memory(folder: Path, size: int, url: str) -> bool:
    """Peak memory for an image of that size, raw and by zstd."""
    image = folder / f"image-{size >> 20}"
    with image.open("wb") as handle:
        handle.truncate(size)
        for start in range(0, size, 64 << 20):
            handle.seek(start)
            handle.write(os.urandom(4 << 20))
    packed = image.with_suffix(".zst")
    subprocess.run(["zstd", "-q", "-f", str(image), "-o", str(packed)], check=True)
    peaks = {}
    with loop_device(folder, size) as device:
        for name in (image.name, packed.name):
            command = Course(folder, url).ours(name, size)
            peaks[name] = timed([word.replace("DEVICE", device) for word in command])[1]
    for path in (image, packed):
        path.unlink()
    peak = max(peaks.values())
    verdict = "within" if peak < MEMORY else "OVER"
    print(f"memory for {size / GIB:g} GiB: {peak >> 20} MiB ({verdict} {MEMORY >> 20} MiB)", flush=True)
    return peak < MEMORY


def main() -> int:
    """Print the ratios; exit code 1 when one is over its limit."""
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
        return 0
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        raw = make_image(folder)
        for command in (
            ["zstd", "-q", str(raw), "-o", str(folder / "zst")],
            ["bash", "-c", f"gzip -c {raw} > {folder / 'gz'}"],
            ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(folder / "qcow2")],
        ):
            subprocess.run(command, check=True)
        with served(folder) as url:
            verdicts = list(measure(Course(folder, url)))
            verdicts += [memory(folder, size, url) for size in (GIB // 2, 2 * GIB, 8 * GIB)]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
