"""Usage: transparent-listener.py PORT COMMAND...

Runs COMMAND with a listening socket with IP_TRANSPARENT as descriptor 3. NGINX in the environment names it: nginx
takes over the listeners named there, as it does from its predecessor when it is upgraded.
"""

import os
import socket
import sys

IP_TRANSPARENT = 19

port, *command = sys.argv[1:]
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
listener.bind(("0.0.0.0", int(port)))
listener.listen(16384)
listener.setblocking(False)  # nginx leaves an inherited socket as it is
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ["NGINX"] = "3;"
os.execvp(command[0], command)
