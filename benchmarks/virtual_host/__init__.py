"""A virtual host whose energy counters have a known truth.

Unmodified programs see ``/sys/class/powercap`` with its symlinks,
``/sys/devices/virtual/powercap``, a CPU description and a topology of two sockets, as
files of a small file system in a mount namespace of their own. The rest of the machine
does not see them, and they vanish with the last process in the namespace.

``power`` is what the counters hold (pure), ``fuse`` answers the kernel's questions for
files, ``serve`` is the process that puts both into a namespace, ``host`` starts it and
runs commands inside. How to repeat all this by hand: ``docs/explanation/benchmarks.md``.
"""
