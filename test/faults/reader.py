"""
A client in a process of its own, to be stopped, killed or cut off.

    python faults/reader.py HOST PORT PATH

It reads some bytes of a stream, says so, and goes on reading.
"""
import socket
import sys

host, port, path = sys.argv[1:]
with socket.create_connection((host, int(port)), timeout=10) as client:
    client.sendall(f'GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n'
                   'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
                   'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'.encode())
    received = 0
    while received < 5000:
        received += len(client.recv(1000))
    print('reading', flush=True)
    client.settimeout(None)
    while client.recv(1000):
        pass
