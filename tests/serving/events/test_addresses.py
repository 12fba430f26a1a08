"""Where webhooks go: never into the operator's network by any spelling, and to the address that was checked."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.events.addresses import (
    MOST_ANSWER_BYTES,
    Address,
    AddressRefused,
    PinnedBackend,
    PinnedTransport,
    check_url,
    is_public,
    pinned_client,
    resolve,
)

PUBLIC = "93.184.215.14"
PUBLIC6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
ALLOWED = ("hooks.internal", "127.0.0.1", "::1")
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Names:
    """A resolver that answers from lists, one for each time it is asked; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = list(answers), 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Stream(httpcore.AsyncMockStream):
    """A connection that remembers for which name TLS was begun and what was sent."""

    def __init__(self, answer: bytes) -> None:
        super().__init__([answer])
        self.names: list[str | None] = []
        self.sent = b""

    async def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        self.names.append(server_hostname)
        return self

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.sent += buffer


class Network(httpcore.AsyncNetworkBackend):
    """A network that connects to whatever is not down and remembers where to."""

    def __init__(self, answer: bytes = ANSWER, down: Sequence[str] = ()) -> None:
        self.answer, self.down = answer, down
        self.connected: list[tuple[str, int]] = []
        self.streams: list[Stream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append((host, port))
        if host in self.down:
            raise httpcore.ConnectError("down")
        self.streams.append(Stream(self.answer))
        return self.streams[-1]


def client(names: Names, network: Network, allowed: Sequence[str] = ()) -> httpx.AsyncClient:
    backend = PinnedBackend(allowed, names, network)
    return httpx.AsyncClient(transport=PinnedTransport(allowed, backend), trust_env=False)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://hooks.example.com/a?b=c", "hooks.example.com", 443),
        ("https://HOOKS.Example.COM", "hooks.example.com", 443),
        ("https://hooks.example.com.:8443/", "hooks.example.com", 8443),
        ("https://bücher.example/x", "xn--bcher-kva.example", 443),
        ("https://[2606:2800:21F::1]/", "2606:2800:21f::1", 443),
        (f"https://{PUBLIC}:9000/", PUBLIC, 9000),
        ("https://a_b.example.com/?x=@y", "a_b.example.com", 443),
    ],
)
def test_a_public_url_is_taken(url: str, host: str, port: int) -> None:
    target = check_url(url)
    assert (target.host, target.port, target.allowed) == (host, port, False)
    assert target.url.raw_host.decode() == host


@pytest.mark.parametrize(
    "url",
    [
        *("", "hooks.example.com", "//hooks.example.com", "https://", "https:///path", "https://.", "https://..example.com"),
        *("http://hooks.example.com", "ftp://hooks.example.com", "file:///etc/passwd", "gopher://a.example.com"),
        *("https://user@a.example.com", "https://user:pass@a.example.com", "https://@a.example.com", "https://:@a.example.com"),
        *("https://a.example.com#x", "https://a.example.com/#", "https://a.example.com:0", "https://a.example.com:22"),
        *("https://a.example.com:99999", "https://a.example.com:-1", "https://a.example.com:x"),
        *("https://a.example.com\\@b.example.com", "https://a.exa mple.com", "https://a.example.com/\n", "\thttps://a.example.com"),
        *("https://localhost", "https://localhost.", "https://LOCALHOST", "https://x.localhost", "https://intranet"),
        *("https://2130706433", "https://0x7f000001", "https://017700000001", "https://127.1", "https://0177.0.0.1"),
        *("https://0x7f.1", "https://127.0.0.1.", "https://1.2.3.4.5", "https://1.2.3.256", "https://0x", "https://127.0.0.01"),
        *("https://[fe80::1%25eth0]", "https://[::1", "https://[::1]x", "https://[v1.x]", "https://１２７.0.0.1", "https://①.example"),
        *("https://-a.example.com", "https://a-.example.com"),
        *(f"https://{'a' * 64}.example.com", f"https://a.example.com/{'x' * 2048}"),
        *("https://a%2eexample.com", "https://a.example.com%00", "https://a..example.com", f"https://{'a.' * 130}com"),
    ],
)  # fmt: skip
def test_what_is_no_public_url_is_refused(url: str) -> None:
    async def whole() -> None:
        await resolve(check_url(url), Names([PUBLIC]))

    with pytest.raises(AddressRefused):
        asyncio.run(whole())


def test_a_host_that_is_allowed_by_name_may_be_plain_and_anywhere() -> None:
    for url in ("http://hooks.internal:81/x", "http://127.0.0.1:9/", "http://[0:0:0::1]:9/", "https://hooks.internal."):
        assert check_url(url, ALLOWED).allowed
    for url in ("http://other.internal", "http://hooks.internal.evil.example", "http://127.0.0.2", "http://127.1"):
        with pytest.raises(AddressRefused):
            check_url(url, ALLOWED)


@given(st.text(max_size=40) | st.text(alphabet="htps:/@[]%.0x17\\?#fe-", max_size=40).map("https://".__add__))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        target = check_url(text)
    except AddressRefused:
        return
    assert target.url.scheme == "https"
    assert check_url(str(target.url)).host == target.host


PRIVATE = [
    *("127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254"),
    *("100.64.0.1", "100.127.255.255", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
    *("::1", "::", "fe80::1", "fe80::1%1", "fc00::1", "fd12::1", "ff02::1", "ff0e::1", "fec0::1"),
    *("2001:db8::1", "3fff::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::", "2002:a00:1::1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "64:ff9b:1::808:808"),
    *("2001::1", "2001:10::1", "5f00::1", "100::1", "4000::1"),
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused_in_any_company(address: str) -> None:
    for answer in ([address], [PUBLIC, address], [address, PUBLIC6]):
        with pytest.raises(AddressRefused, match="not public"):
            asyncio.run(resolve(check_url("https://hooks.example.com"), Names(answer)))


@pytest.mark.parametrize("address", [a for a in PRIVATE if "%" not in a])
def test_the_same_address_in_the_url_is_refused(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(AddressRefused):
        asyncio.run(resolve(check_url(f"https://{host}/"), Names([PUBLIC])))


@pytest.mark.parametrize(
    "address", [PUBLIC, PUBLIC6, "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "2a00:1450::1"]
)
def test_a_public_address_is_taken(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    inside: list[Address] = [
        ipaddress.IPv6Address(f"::ffff:{address}"),
        ipaddress.IPv6Address(f"64:ff9b::{address}"),
        ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80) | 1),
    ]
    assert {is_public(one) for one in inside} == {is_public(address)}
    assert not is_public(address) or address.is_global


def test_an_allowed_host_may_be_private_but_not_nowhere() -> None:
    target = check_url("http://hooks.internal:8080", ALLOWED)
    assert asyncio.run(resolve(target, Names(["10.0.0.7"]))) == [ipaddress.ip_address("10.0.0.7")]
    for address in ("0.0.0.0", "::", "224.0.0.1"):
        with pytest.raises(AddressRefused):
            asyncio.run(resolve(target, Names([address])))


def test_a_host_without_an_address_is_refused() -> None:
    with pytest.raises(AddressRefused, match="no address"):
        asyncio.run(resolve(check_url("https://hooks.example.com"), Names([])))


def test_the_connection_goes_to_the_checked_address_under_the_name() -> None:
    names, network = Names([PUBLIC]), Network()

    async def send() -> httpx.Response:
        async with client(names, network) as http:
            return await http.post("https://Hooks.Example.com:8443/in?x=1", content=b"{}")

    assert asyncio.run(send()).status_code == 204
    assert network.connected == [(PUBLIC, 8443)]
    (stream,) = network.streams
    assert stream.names == ["hooks.example.com"]
    assert stream.sent.startswith(b"POST /in?x=1 HTTP/1.1\r\n")
    assert b"Host: hooks.example.com:8443\r\n" in stream.sent
    assert stream.sent.endswith(b"{}")


def test_a_name_that_changes_its_address_gains_nothing() -> None:
    names, network = Names([PUBLIC], ["127.0.0.1"], ["169.254.169.254", PUBLIC]), Network()

    async def send() -> None:
        for refused in (False, True, True):
            async with client(names, network) as http:
                if refused:
                    with pytest.raises(AddressRefused):
                        await http.post("https://rebinding.example.com/")
                else:
                    await http.post("https://rebinding.example.com/")

    asyncio.run(send())
    assert network.connected == [(PUBLIC, 443)]
    assert names.asked == 3


def test_the_next_address_is_tried_where_one_is_down() -> None:
    names, network = Names([PUBLIC6, PUBLIC]), Network(down=[PUBLIC6])

    async def send() -> None:
        async with client(names, network) as http:
            await http.post("https://hooks.example.com/")

    asyncio.run(send())
    assert network.connected == [(PUBLIC6, 443), (PUBLIC, 443)]


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    network = Network(b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n")

    async def send() -> int:
        async with client(Names([PUBLIC]), network) as http:
            return (await http.post("https://hooks.example.com/")).status_code

    assert asyncio.run(send()) == 302
    assert len(network.connected) == 1


def test_a_url_that_was_never_checked_is_checked_by_the_transport() -> None:
    network = Network()

    async def send(url: str) -> None:
        async with client(Names([PUBLIC]), network, ["hooks.internal"]) as http:
            await http.post(url)

    for url in ("http://hooks.example.com", "https://hooks.example.com:25", "https://127.0.0.1", "http://10.0.0.1"):
        with pytest.raises(AddressRefused):
            asyncio.run(send(url))
    assert network.connected == []


def test_an_endless_answer_is_cut() -> None:
    network = Network(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000)

    async def send() -> int:
        async with client(Names([PUBLIC]), network) as http:
            return len((await http.post("https://hooks.example.com/")).content)

    assert asyncio.run(send()) == MOST_ANSWER_BYTES


def test_failures_are_httpxs() -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror("unknown")

    async def asleep(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    async def send(http: httpx.AsyncClient) -> None:
        async with http:
            await http.post("https://hooks.example.com/", timeout=0.05)

    with pytest.raises(httpx.ConnectError):
        asyncio.run(send(pinned_client(resolver=nowhere)))
    with pytest.raises(httpx.ConnectTimeout):
        asyncio.run(send(pinned_client(resolver=asleep)))
    with pytest.raises(httpx.RemoteProtocolError):
        asyncio.run(send(client(Names([PUBLIC]), Network(b"nonsense\r\n\r\n"))))
    with pytest.raises(AddressRefused):
        asyncio.run(PinnedBackend().connect_unix_socket("/run/docker.sock"))


@asynccontextmanager
async def listening(answer: bytes) -> AsyncIterator[int]:
    """A server on loopback that gives every request this answer, if any; its port."""

    serving: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        if answer:
            writer.write(answer)
        else:
            await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*serving)


def test_over_a_real_socket_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def send() -> int:
        async with listening(ANSWER) as port, pinned_client(ALLOWED, resolver=Names(["127.0.0.1"])) as http:
            return (await http.post(f"http://hooks.internal:{port}/", content=b"{}")).status_code

    assert asyncio.run(send()) == 204


def test_a_receiver_that_hangs_is_left() -> None:
    async def send() -> None:
        async with listening(b"") as port, pinned_client(ALLOWED, 0.1, Names(["127.0.0.1"])) as http:
            await http.post(f"http://hooks.internal:{port}/")

    with pytest.raises(httpx.ReadTimeout):
        asyncio.run(send())
