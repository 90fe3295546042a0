"""A read-only file system in pure Python that speaks the kernel's FUSE protocol.

Just enough of it: folders, symbolic links and files whose text a function makes at each
read at offset 0, as sysfs does. No library is needed; structures are those of
``include/uapi/linux/fuse.h``, protocol 7.31.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable

Text = Callable[[], str]
HEADER_IN = struct.Struct("<IIQQIIII")  # fuse_in_header
HEADER_OUT = struct.Struct("<IiQ")  # fuse_out_header
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")  # fuse_attr
ENTRY = struct.Struct("<QQQQII")  # fuse_entry_out without its attr
ATTR_OUT = struct.Struct("<QII")  # fuse_attr_out without its attr
INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")  # fuse_init_out, 64 bytes
OPEN_OUT = struct.Struct("<QII")
READ_IN = struct.Struct("<QQI")
DIRENT = struct.Struct("<QQII")
LOOKUP, FORGET, GETATTR, READLINK, OPEN, READ, STATFS = 1, 2, 3, 5, 14, 15, 17
RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR = 18, 25, 26, 27, 28, 29
ACCESS, INTERRUPT, DESTROY, BATCH_FORGET = 34, 36, 38, 42
NO_REPLY = (FORGET, BATCH_FORGET, INTERRUPT)
DIRECT_IO = 1  # FOPEN_DIRECT_IO: every read comes to us, nothing is cached
MAX_REQUEST = 1 << 17


class Node:
    """A folder, link or file; ``mode`` holds its kind."""

    def __init__(self, number: int, mode: int) -> None:
        self.number, self.mode = number, mode
        self.children: dict[str, Node] = {}
        self.target = ""
        self.text: Text = str

    @property
    def size(self) -> int:
        """A link's length; 4,096 for files, as sysfs says."""
        return len(self.target) if stat.S_ISLNK(self.mode) else 4096


class Tree:
    """The files to show. Build it first; it does not change while it is served."""

    def __init__(self) -> None:
        self.root = Node(1, stat.S_IFDIR | 0o755)
        self.nodes = {1: self.root}

    def _add(self, path: str, mode: int) -> Node:
        *folders, leaf = path.strip("/").split("/")
        here = self.root
        for name in folders:
            if name not in here.children:
                here.children[name] = self._new(stat.S_IFDIR | 0o755)
            here = here.children[name]
        return here.children.setdefault(leaf, self._new(mode))

    def _new(self, mode: int) -> Node:
        node = Node(len(self.nodes) + 1, mode)
        self.nodes[node.number] = node
        return node

    def folder(self, path: str) -> None:
        self._add(path, stat.S_IFDIR | 0o755)

    def link(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777).target = target

    def file(self, path: str, text: Text, mode: int = 0o444) -> None:
        self._add(path, stat.S_IFREG | mode).text = text


class Server:
    """Answers requests from ``device``, an open /dev/fuse."""

    def __init__(self, device: int, tree: Tree) -> None:
        self.device, self.tree = device, tree
        self.reads = 0
        self._open: dict[int, bytes] = {}
        self._handles = 0

    def serve(self) -> None:
        """Answer until the file system is unmounted."""
        while True:
            try:
                request = os.read(self.device, MAX_REQUEST)
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno == errno.ENOENT:  # the request was taken back
                    continue
                return  # ENODEV: unmounted
            _, code, unique, node, *_ = HEADER_IN.unpack_from(request)
            if code in NO_REPLY:
                continue
            status, body = 0, b""
            try:
                body = self.answer(
                    code, self.tree.nodes[node or 1], request[HEADER_IN.size :]
                )
            except OSError as error:
                status = -(error.errno or errno.EIO)
            try:
                os.writev(
                    self.device,
                    (
                        HEADER_OUT.pack(HEADER_OUT.size + len(body), status, unique),
                        body,
                    ),
                )
            except OSError:  # the reader is gone
                continue

    def answer(self, code: int, node: Node, body: bytes) -> bytes:
        """Return the body of the reply; raises OSError with the status."""
        if code == INIT:
            major, _, readahead, _ = struct.unpack_from("<IIII", body)
            return INIT_OUT.pack(major, 31, readahead, 0, 16, 12, 1 << 16, 1, 0, 0, 0)
        if code == LOOKUP:
            found = node.children.get(body.rstrip(b"\0").decode())
            if found is None:
                raise OSError(errno.ENOENT, "no such file")
            # What an entry is never changes: the kernel may keep it for an hour.
            return ENTRY.pack(found.number, 0, 3600, 3600, 0, 0) + self.attributes(
                found
            )
        if code == GETATTR:
            return ATTR_OUT.pack(3600, 0, 0) + self.attributes(node)
        if code == READLINK:
            return node.target.encode()
        if code in (OPEN, OPENDIR):
            self._handles += 1
            return OPEN_OUT.pack(self._handles, DIRECT_IO * (code == OPEN), 0)
        if code == READ:
            handle, offset, size = READ_IN.unpack_from(body)
            if offset == 0:
                self.reads += 1
                self._open[handle] = node.text().encode()
            return self._open.get(handle, b"")[offset : offset + size]
        if code == READDIR:
            return self.listing(node, *READ_IN.unpack_from(body)[1:])
        if code == RELEASE:
            self._open.pop(READ_IN.unpack_from(body + bytes(16))[0], None)
            return b""
        if code == STATFS:
            return bytes(80)
        if code in (FLUSH, RELEASEDIR, ACCESS, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "not supported")

    def attributes(self, node: Node) -> bytes:
        return ATTR.pack(
            *(node.number, node.size, 0, 0, 0, 0, 0, 0, 0),
            *(node.mode, 1 + stat.S_ISDIR(node.mode), 0, 0, 0, 4096, 0),
        )

    def listing(self, node: Node, offset: int, size: int) -> bytes:
        """Return directory entries after the first ``offset`` ones."""
        entries = [(".", node), ("..", node), *sorted(node.children.items())]
        out = b""
        for position, (name, child) in enumerate(entries[offset:], offset + 1):
            raw = name.encode()
            entry = (
                DIRENT.pack(child.number, position, len(raw), child.mode >> 12) + raw
            )
            entry += bytes(-len(entry) % 8)
            if len(out) + len(entry) > size:
                break
            out += entry
        return out
