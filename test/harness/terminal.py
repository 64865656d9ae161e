# A terminal for a command: its own session, a size, what is typed comes on stdin, what is shown goes to stdout.
# usage: terminal.py COLUMNS ROWS COMMAND [ARG...]
import fcntl
import os
import pty
import select
import struct
import sys
import termios

columns, rows, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
child, master = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execvp(command[0], command)

sources = [master, 0]
while True:
    for ready in select.select(sources, [], [])[0]:
        try:
            data = os.read(ready, 65536)
        except OSError:  # EIO: nobody has the terminal open any more.
            data = b""
        if ready == master:
            if not data:
                _, status = os.waitpid(child, 0)
                sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
            os.write(1, data)
        elif data:
            os.write(master, data)
        else:
            sources.remove(0)
