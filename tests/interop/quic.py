#!/usr/bin/env python3
"""Other implementations of QUIC talk to ringway's endpoint, as docs/wire/quic.md says.

Usage: quic.py ECHO_PROGRAM RINGWAY_COMMAND

Checked with aioquic: handshake with a certificate that is verified, hello, ordered messages of many lengths, unordered
ones on streams of their own, datagrams, key update, a change of the connection id, Retry, a foreign ALPN, a certificate that
is not trusted, and the announced end.

Checked with ngtcp2 (the program gtlsclient, Debian: ngtcp2-client), losing packets both ways: handshake, Retry, key update, a
changed port as behind a NAT. It speaks HTTP/3 only, so its request is no ringway hello: it has to be refused with the
close code of a malformed one.

Both do it once more through `ringway impair`, which loses, delays, reorders and doubles datagrams and gives the clients new
ports, as a translator of addresses does that forgets.
"""

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import struct
import subprocess
import sys
import tempfile
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionTerminated,
    DatagramFrameReceived,
    StreamDataReceived,
)

MAGIC = bytes.fromhex("9D524E47570D0A1A")
HEADER = struct.Struct("<IBBHQ")
MESSAGE, GOAWAY, FINAL = 0x40, 3, 2
ORDERED, UNORDERED, UNRELIABLE = 1, 2, 3
# A close of the application, `CloseCode::Malformed`, as ngtcp2 shows it.
MALFORMED = "CONNECTION_CLOSE(0x1d) error_code=(unknown)(0xa)"


def hello():
    preface = MAGIC + struct.pack("<HHHBB", 1, 1, 64, 1, 0)
    return preface + struct.pack("<QQIIIIQQ", 0, 0, 64 << 20, 5_000, 0, 0, 7, 0)


def framed(tag, body, padded=True):
    frame = HEADER.pack(len(body), MESSAGE, 0, tag, 0) + body
    return frame + bytes(-len(body) % 16) if padded else frame


def pattern(length):
    return bytes((index * 131 + length) & 0xFF for index in range(length))


class Client(QuicConnectionProtocol):
    """Takes messages out of streams and datagrams."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.inbox = asyncio.Queue()
        self.main = b""
        self.greeted = asyncio.Event()
        self.final = asyncio.Event()
        self.gone = asyncio.Event()
        self.reason = None
        self.own = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived) and event.stream_id == 0:
            self.main += event.data
            self.parse()
        elif isinstance(event, StreamDataReceived):
            whole = self.own.get(event.stream_id, b"") + event.data
            self.own[event.stream_id] = whole
            if event.end_stream:
                self.message(whole)
        elif isinstance(event, DatagramFrameReceived):
            self.message(event.data)
        elif isinstance(event, ConnectionTerminated):
            self.reason = event
            self.gone.set()

    def message(self, frame):
        length, kind, _, tag, _ = HEADER.unpack_from(frame)
        assert kind == MESSAGE and len(frame) == HEADER.size + length, frame[:32]
        self.inbox.put_nowait((tag, frame[HEADER.size :]))

    def parse(self):
        if not self.greeted.is_set():
            if len(self.main) < 64:
                return
            assert self.main[:8] == MAGIC and self.main[14] == 2, self.main[:16]
            self.main = self.main[64:]
            self.greeted.set()
        while len(self.main) >= HEADER.size:
            length, kind, flags, tag, _ = HEADER.unpack_from(self.main)
            end = HEADER.size + length + -length % 16
            if len(self.main) < end:
                return
            if kind == MESSAGE:
                self.inbox.put_nowait((tag, self.main[HEADER.size : HEADER.size + length]))
            elif kind == GOAWAY and flags & FINAL:
                self.final.set()
            self.main = self.main[end:]

    def send(self, stream, data, end=False):
        self._quic.send_stream_data(stream, data, end)
        self.transmit()


async def within(awaitable, seconds=20):
    return await asyncio.wait_for(awaitable, seconds)


async def heard(client, what, seconds=30):
    """Waits for what the server says; a client that only listens shows now and then where it is."""
    for _ in range(2 * seconds):
        with contextlib.suppress(asyncio.TimeoutError):
            return await within(what(), 0.5)
        client._quic.send_ping(0)
        client.transmit()
    raise asyncio.TimeoutError


@contextlib.asynccontextmanager
async def session(address, ca, alpn="ringway/1"):
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], max_datagram_frame_size=65_536
    )
    configuration.server_name = "localhost"
    if ca:
        configuration.load_verify_locations(cafile=ca)
    host, port = address.split(":")
    async with connect(
        host, int(port), configuration=configuration, create_protocol=Client
    ) as client:
        client.send(0, hello())
        await within(client.greeted.wait())
        yield client


async def echoes(client, tag, body):
    if tag == UNORDERED:
        client.send(client._quic.get_next_available_stream_id(True), framed(tag, body, False), True)
    elif tag == UNRELIABLE:
        client._quic.send_datagram_frame(framed(tag, body, False))
        client.transmit()
    else:
        client.send(0, framed(tag, body))
    got = await heard(client, client.inbox.get)
    assert got == (tag, body), f"tag {tag}, {len(body)} bytes: {got[0]}, {len(got[1])} bytes came back"


async def talk(address, ca):
    async with session(address, ca) as client:
        for length in (0, 1, 15, 16, 17, 1_000, 1_500, 70_000, 500_000):
            await echoes(client, ORDERED, pattern(length))
            await echoes(client, UNORDERED, pattern(length))
            if length <= 1_000:
                await echoes(client, UNRELIABLE, pattern(length))
        client._quic.request_key_update()
        await echoes(client, ORDERED, b"after a key update")
        client.change_connection_id()
        await echoes(client, ORDERED, b"after a change of the connection id")
        client.send(0, HEADER.pack(0, GOAWAY, FINAL, 0, 0))
        await within(client.final.wait())
        await within(client.gone.wait())
        assert client.reason.error_code == 1, client.reason  # Drained
    print("ok: messages of every kind, key update, new connection id, announced end")


async def endure(address, ca, seconds=2.5):
    """Messages that must arrive, over a network that is bad, for long enough that the client's port changes."""
    async with session(address, ca) as client:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            for length in (0, 17, 1_500, 40_000):
                await echoes(client, ORDERED, pattern(length))
                await echoes(client, UNORDERED, pattern(length))
            client._quic.request_key_update()
            await echoes(client, ORDERED, b"after a key update")
        client.send(0, HEADER.pack(0, GOAWAY, FINAL, 0, 0))
        await heard(client, client.final.wait)
    print("ok: messages and key updates over a network that is bad")


async def refused(address, ca, alpn, what):
    try:
        async with session(address, ca, alpn):
            pass
    except (ConnectionError, asyncio.TimeoutError, ssl.SSLError):
        print(f"ok: {what} is refused")
        return
    raise AssertionError(f"{what} got in")


def ngtcp2(address, retry, moves=True):
    """Handshake, key update and a new port in the first second; only then the request leaves.

    Without `moves` somebody on the way loses packets and changes the port."""
    host, port = address.split(":")
    line = ["gtlsclient", "--no-quic-dump", "--timeout=20s", "--key-update=300ms", "--delay-stream=900ms"]
    if moves:
        line += ["--tx-loss=0.03", "--rx-loss=0.03", "--change-local-addr=600ms", "--nat-rebinding"]
    line += [host, port, "https://localhost/"]
    said = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    said = said.stdout + said.stderr
    wanted = ["handshake has been confirmed", "key update confirmed", MALFORMED]
    wanted += ["Local address is now"] * moves + ["type=Retry"] * retry
    for words in wanted:
        assert words in said, f"ngtcp2 never said `{words}`:\n{said}"
    print(f"ok: ngtcp2: handshake{', Retry' * retry}, key update, new port, refused request")


@contextlib.contextmanager
def impaired(ringway, address, loss, rebind, seed, wanted):
    """Where a bad network before a server is reached; at the end it must have been one."""
    line = [ringway, "impair", "--listen", "udp://127.0.0.1:0", "--to", f"udp://{address}", "--json"]
    line += ["--loss", loss, "--burst", "0.3%:4", "--delay", "2ms", "--jitter", "1ms", "--reorder", "2%:4ms"]
    line += ["--duplicate", "2%", "--rebind", rebind, "--seed", str(seed)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process.stdout.readline().strip().removeprefix("listening on udp://")
        process.terminate()
        faults = json.loads(process.stdout.read())["faults"]
        for fault in wanted:
            assert faults.get(fault, 0) > 0, f"{fault}: {faults}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def server(program, folder, *words):
    files = [os.path.join(folder, name) for name in ("cert.pem", "key.pem")]
    process = subprocess.Popen([program, *files, *words], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip(), files[0]
    finally:
        process.terminate()
        process.wait()


def main():
    program, ringway = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([ringway, "cert", "--out", folder, "--name", "localhost"], check=True)
        with server(program, folder) as (address, ca):
            asyncio.run(talk(address, ca))
            asyncio.run(refused(address, ca, "h3", "a foreign protocol"))
            asyncio.run(refused(address, None, "ringway/1", "a certificate that nobody vouches for"))
        with server(program, folder, "retry") as (address, ca):
            asyncio.run(talk(address, ca))
            print("ok: the same after a Retry")
        if not shutil.which("gtlsclient"):
            sys.exit("ngtcp2's client lacks: apt-get install ngtcp2-client")
        for words in (["h3"], ["h3", "retry"]):
            with server(program, folder, *words) as (address, _):
                ngtcp2(address, "retry" in words)
        for words in ([], ["retry"]):
            with server(program, folder, *words) as (address, ca):
                wanted = ("loss", "reorder", "duplicate", "rebind")
                with impaired(ringway, address, "2%", "800ms", 7, wanted) as bad:
                    asyncio.run(endure(bad, ca))
        for words in (["h3"], ["h3", "retry"]):
            with server(program, folder, *words) as (address, _):
                # A few dozen datagrams in a second. A seed that lets the handshake be done before the port changes: nobody
                # may move earlier (RFC 9000, section 9).
                with impaired(ringway, address, "10%", "600ms", 4, ("loss", "rebind")) as bad:
                    ngtcp2(bad, "retry" in words, moves=False)
                    print("ok: the same over a network that is bad")


main()
