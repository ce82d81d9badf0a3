"""Books settlements over the binary stream: stream_client.py HOST:PORT METER EPOCH WH [WH...]

The layout of the frames is described in node/src/stream.rs. Prints, for each settlement, `index.position` of its statement.
"""
import socket, struct, sys

def text(value):
    return struct.pack(">H", len(value.encode())) + value.encode()

def settlement(meter, epoch, wh, label="virtual_1"):
    return text(meter) + struct.pack(">qq", epoch, wh) + text(label) + struct.pack(">q", 0) + b"\0"

def frame(kind, number, content):
    return struct.pack(">IBQ", 9 + len(content), kind, number) + content

def read(stream, length):
    data = stream.read(length)
    if len(data) < length:
        raise EOFError("the node has closed the stream")
    return data

address, meter, epoch, *amounts = sys.argv[1:]
host, port = address.rsplit(":", 1)
connection = socket.create_connection((host, int(port)))
connection.sendall(f"GET /api/stream HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n"
                   "Upgrade: gridseal-stream/1\r\n\r\n".encode())
stream = connection.makefile("rb")
assert b" 101 " in stream.readline(), "no stream"
while stream.readline() != b"\r\n":
    pass
# One question a settlement, without a key (0) and unsigned; all leave at once, answers come in any order.
settle = lambda wh: b"\0" + b"\4" + struct.pack(">I", 1) + settlement(meter, int(epoch), int(wh))
connection.sendall(b"".join(frame(1, number, settle(wh)) for number, wh in enumerate(amounts)))
for _ in amounts:
    length, kind, number = struct.unpack(">IBQ", read(stream, 13))
    content = read(stream, length - 9)
    if kind == 1:
        index, first, count, now = struct.unpack(">QIIQ", content)
        print(f"{amounts[number]} {index}.{first}")
    else:
        status, now, size = struct.unpack(">HQH", content[:12])
        print(f"{amounts[number]} failed: {status} {content[12:12 + size].decode()}")
