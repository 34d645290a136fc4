#!/usr/bin/env python3
"""Writes the disks of a replica, as they were at a recovery point, into new raw images. Changes nothing of the replica.

  read-point.py REPLICA                  lists its recovery points, the newest first
  read-point.py REPLICA POINT DIRECTORY  writes DIRECTORY/<disk>.raw; POINT is a number of the list, or `newest`

REPLICA is a replica's directory (the one with replica.json); its daemon must be stopped. Needs nothing of Understudy:
Python 3.8, qemu-img, and libzstd (Debian's libzstd1, which is always there). Written from FORMAT.md alone. Lengths, kinds and
the chain of positions are checked; digests only where the Python module `blake3` is installed. The images have the sizes that the
disks had then; a disk that the VM didn't have yet, or not any more, isn't written.
"""
import ctypes
import json
import struct
import subprocess
import sys
import time
from pathlib import Path

try:
    from blake3 import blake3
except ImportError:
    blake3 = None

DATA, ZERO, REFERENCE, INDEX, END = 1, 2, 3, 254, 255
CHUNK = 1 << 20
BLOCK = 65536
libzstd = ctypes.CDLL("libzstd.so.1")
libzstd.ZSTD_decompress.restype = ctypes.c_size_t
libzstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
libzstd.ZSTD_isError.argtypes = [ctypes.c_size_t]


def demand(holds, what):
    if not holds:
        sys.exit(f"error: {what}")


def unzstd(packed, length):
    out = ctypes.create_string_buffer(length)
    size = libzstd.ZSTD_decompress(out, length, packed, len(packed))
    demand(not libzstd.ZSTD_isError(size) and size == length, "a frame does not unpack")
    return out.raw


def digest(content):
    return blake3(content).digest()[:16]


def check_digest(content, expected, what):
    if blake3 is not None:
        demand(digest(content) == expected, f"{what} does not match its digest")


def check_frame(head, payload, what):
    """The digest of a frame is made of its head and the digests of its pieces: of plain data they end where the disk's blocks do."""
    if blake3 is None:
        return
    kind, codec, _, _, offset = struct.unpack("<BBHIQ", head[:16])
    cuts = range(BLOCK - offset % BLOCK, len(payload), BLOCK) if (kind, codec) == (DATA, 0) else []
    pieces = [payload[start:end] for start, end in zip([0, *cuts], [*cuts, len(payload)]) if end > 0]
    check_digest(head[:32] + b"".join(map(digest, pieces)), head[32:], what)


class Images:
    """The disks of one state, as raw images in a directory."""

    def __init__(self, directory):
        self.directory, self.files, self.sizes = directory, {}, {}

    def path(self, target):
        return self.directory / f"{target}.raw"

    def take_shape(self, disks):
        """From now on these are the disks, of these sizes: what is gained reads as zeros, what is beyond goes."""
        self.sizes = {disk["target"]: disk["size"] for disk in disks}
        for target in [target for target in self.files if target not in self.sizes]:
            self.files.pop(target).close()
            self.path(target).unlink()
        for target, size in self.sizes.items():
            if target not in self.files:
                self.files[target] = open(self.path(target), "r+b" if self.path(target).exists() else "x+b")
            self.files[target].truncate(size)

    def leave_out(self, targets):
        """Those that are gone have their place in the logs, and other points have them."""
        for target in targets:
            self.files.pop(target).close()
            self.path(target).unlink()

    def close(self):
        for file in self.files.values():
            file.close()


class Log:
    """A delta log, forward or undo: `follows` -> `makes`."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            prelude = file.read(16)
            magic, version, _, length = struct.unpack("<8sHHI", prelude)
            demand(magic == b"UNDSTDLG", f"{path} is no delta log")
            demand(version == 1, f"{path} has format version {version}; this script reads 1")
            text = file.read(length)
            check_digest(prelude + text, file.read(16), f"the header of {path}")
            self.header = json.loads(text)
            self.frames_at = file.tell()
            file.seek(-16, 2)
            end_at, magic = struct.unpack("<Q8s", file.read(16))
            demand(magic == b"GLDTSDNU", f"{path} is not finished")
            file.seek(end_at)
            kind, _, _, stored = struct.unpack("<BBHI", file.read(48)[:8])
            demand(kind == END, f"{path} has no end")
            self.footer = json.loads(file.read(stored))
        self.follows, self.makes = self.header["follows"], self.footer["makes"]
        self.point = self.header["point"]

    def apply(self, images):
        """
        Makes of the images the state that the log makes: gives them its shape, writes every frame, in order, and at the end copies
        what is the same as other blocks.
        """
        images.take_shape(self.header["disks"])
        targets = [disk["target"] for disk in self.header["disks"]]
        count, references = 0, []
        with open(self.path, "rb") as file:
            file.seek(self.frames_at)
            while True:
                head = file.read(48)
                kind, codec, disk, stored, offset, length = struct.unpack("<BBHIQQ", head[:24])
                payload = file.read(stored)
                check_frame(head, payload, f"a frame of {self.path}")
                if kind == INDEX:
                    break
                demand(kind in (DATA, ZERO, REFERENCE) and codec in (0, 1), f"{self.path} has a frame of kind {kind}, codec {codec}")
                count += 1
                demand(offset + length <= images.sizes[targets[disk]], f"a frame of {self.path} is beyond the end of {targets[disk]}")
                image = images.files[targets[disk]]
                if kind == REFERENCE:
                    source = int.from_bytes(head[24:30], "little") * BLOCK
                    references.append((image, offset, length, images.files[targets[head[30] + 256 * head[31]]], source))
                    continue
                image.seek(offset)
                if kind == DATA:
                    data = unzstd(payload, length) if codec == 1 else payload
                    demand(len(data) == length, f"a frame of {self.path} has the wrong length")
                    image.write(data)
                else:
                    for done in range(0, length, CHUNK):
                        image.write(bytes(min(CHUNK, length - done)))
        for image, offset, length, source_image, source in references:
            source_image.seek(source)
            data = source_image.read(length)
            image.seek(offset)
            image.write(data)
        demand(count == self.footer["frames"], f"{self.path} has {count} frames, not {self.footer['frames']}")


class Replica:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.record = json.loads((self.directory / "replica.json").read_text())
        demand(self.record["format"] == 1, f"replica.json has format {self.record['format']}; this script reads 1")
        applied = self.record["applied"]
        # Logs that are received and not yet applied lead forward from `applied`,
        self.waiting = []
        at = applied
        for log in map(Log, sorted((self.directory / "inbox").glob("*.log"))):
            if log.follows == at:
                self.waiting.append(log)
                at = log.makes
        # undo logs lead back from it, each to the state that the next one follows.
        undo = [Log(path) for path in (self.directory / "undo").glob("*.undo")]
        by_follows = {json.dumps(log.follows, sort_keys=True): log for log in undo}
        self.back = []
        at = applied
        while (log := by_follows.get(json.dumps(at, sort_keys=True))) is not None:
            self.back.append(log)
            at = log.makes
        # One that leads to `applied` belongs to a log that was just being written to the disks.
        self.torn = [log for log in undo if log.makes == applied and log not in self.back]

    def points(self):
        """(point, logs that lead from the disks to it), the newest first."""
        found = []
        for i, log in enumerate(self.waiting):
            found.insert(0, (log.point, self.waiting[: i + 1]))
        if not self.is_one_way():
            found.append((self.record["latest"], self.torn))
        for i, log in enumerate(self.back):
            found.append((log.point, self.torn + self.back[: i + 1]))
        return [(point, logs) for point, logs in found if point is not None]

    def is_one_way(self):
        """Whether the next log is written to the disks with no way back: where no older point is kept, they may hold half of it."""
        # One that was found damaged may have been begun, too.
        lost = any((self.directory / "inbox").glob("*.lost"))
        begun = lost or (self.waiting and self.waiting[0].point is not None)
        return begun and not self.torn and not self.back and not (self.record["history"] or self.record.get("thin") or self.record.get("held"))

    def write(self, wanted, directory):
        points = self.points()
        demand(points, "there is no recovery point: the initial copy was not complete")
        chosen = points[:1] if wanted == "newest" else [it for it in points if str(it[0]["sequence"]) == wanted]
        demand(chosen, f"there is no recovery point {wanted}")
        logs = chosen[0][1]
        directory.mkdir(parents=True, exist_ok=True)
        images = Images(directory)
        shapes = [self.record["disks"], *(log.header["disks"] for log in logs)]
        for target in {disk["target"] for shape in shapes for disk in shape}:
            demand(not images.path(target).exists(), f"{images.path(target)} is there already")
        for disk in self.record["disks"]:
            source, image = self.directory / disk["path"], images.path(disk["target"])
            subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", source, image], check=True)
        # A log that was just being written may have made them longer already, or shorter.
        images.take_shape(self.record["disks"])
        for log in logs:
            log.apply(images)
        images.leave_out([disk["target"] for disk in shapes[-1] if disk.get("gone")])
        images.close()


def main(arguments):
    if len(arguments) == 1:
        for point, _ in Replica(arguments[0]).points():
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(point["instant"] / 1000))
            print(f"{point['sequence']}\t{when}\t{point['kind']}")
    elif len(arguments) == 3:
        Replica(arguments[0]).write(arguments[1], Path(arguments[2]))
    else:
        sys.exit(__doc__)


main(sys.argv[1:])
