"""Where a command is, as a shell looks for it, and why one cannot be executed."""

from __future__ import annotations

import errno
import os

from carbon_ops.errors import CarbonOpsError


class CommandNotStarted(CarbonOpsError):
    """The command cannot be executed; nothing was measured.

    The exit code is the shell's: 127 not found, 126 found but not executable.
    """

    def __init__(self, command: str, cause: OSError) -> None:
        missing = cause.errno == errno.ENOENT
        found = on_path(command)
        if missing and os.access(found, os.X_OK):
            super().__init__(
                f"{command}: the interpreter that it asks for was not found",
                hint=f'The first line of a script names it ("#!"): head -n 1 {found}',
            )
            self.exit_code = 126
            return
        what = "command not found" if missing else (cause.strerror or str(cause))
        super().__init__(
            f"{command}: {what}",
            hint=(
                f"Is {command!r} spelt right and on PATH? A shell builtin or alias "
                "needs: carbon-ops run -- sh -c '...'"
                if missing
                else f"Is {command!r} a program? Try: ls -l {command}"
            ),
        )
        self.exit_code = 127 if missing else 126


def on_path(command: str) -> str:
    if "/" in command:
        return command
    for folder in os.get_exec_path():
        path = os.path.join(folder, command)
        if os.access(path, os.X_OK):
            return path
    return command


def is_anywhere(command: str) -> bool:
    return "/" in command or any(
        os.path.lexists(os.path.join(folder, command)) for folder in os.get_exec_path()
    )
