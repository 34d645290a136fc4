"""The module `blake3`, which Debian has no package of, as far as docs/examples/read-point.py uses it: BLAKE3_BY, a program, does the work."""

import os
import subprocess

program = subprocess.Popen(os.environ["BLAKE3_BY"].split("\n"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


class blake3:
    def __init__(self, content):
        self.content = content

    def digest(self):
        program.stdin.write(self.content.hex().encode() + b"\n")
        program.stdin.flush()
        return bytes.fromhex(program.stdout.readline().decode())
