"""Where webhooks may go: not into the operator's own network, unless a host is allowed by name.

A URL is checked when it is configured (`check_url`), and the addresses its host has are checked at every connection
(`PinnedBackend`), which goes to the very address that was checked: a name that changes its address in between gains
nothing. The certificate is checked against the name as ever. No redirects, no proxies, answers cut at a few kilobytes.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpcore
import httpx

from pipeline.errors import InputError

LONGEST_URL = 2048
MOST_ANSWER_BYTES = 65_536
Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]  # host and port to addresses; raises OSError

_PORTS = {"http": 80, "https": 443}
_ALL_PORTS = range(1, 65536)
_FREE_PORTS = range(1024, 65536)  # below stand services that are no web server and might take a request for a command
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # what some resolvers read as a part of an IPv4 address
_SPECIAL_IPV4 = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_SPECIAL_IPV6 = (IPv6Network("2001::/23"), IPv6Network("3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")


class AddressRefused(InputError):
    """A place that webhooks do not go to; the message says why."""


@dataclass(frozen=True)
class Target:
    """A checked URL; `allowed` where its host is allowed by name."""

    url: httpx.URL
    host: str
    port: int
    allowed: bool


def check_url(url: str, allowed_hosts: Collection[str] = ()) -> Target:
    """The target a URL names. Raises AddressRefused.

    `allowed_hosts` are names or addresses, lower case, that may be private, be spoken to by plain HTTP and at any port.
    """
    parsed = _parse(url)
    host, scheme = _plain_host(parsed), parsed.scheme
    port = _PORTS.get(scheme, 0) if parsed.port is None else parsed.port
    allowed = host in allowed_hosts
    if scheme != "https" and not (scheme == "http" and allowed):
        raise AddressRefused("a webhook needs https, unless its host is allowed by name")
    if port not in _ALL_PORTS or not (allowed or port == 443 or port in _FREE_PORTS):
        raise AddressRefused(f"port {port}: a webhook goes to 443 or to 1024 and above")
    _check_host(host, allowed)
    return Target(parsed.copy_with(host=host), host, port, allowed)


async def resolve(target: Target, resolver: Resolver) -> list[Address]:
    """The addresses of a target's host, all of them fit to go to. Raises AddressRefused if one is not, and OSError."""
    literal = _literal(target.host)
    found = [target.host] if literal else await resolver(target.host, target.port)
    addresses = list(dict.fromkeys(ip_address(one) for one in found))
    if not addresses:
        raise AddressRefused(f"{target.host} has no address")
    for address in addresses:
        if not is_public(address) and not (target.allowed and not _nowhere(address)):
            raise AddressRefused(f"{target.host} is at {address}, which is not public")
    return addresses


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, and so does the IPv4 address it may carry inside."""
    if isinstance(address, IPv4Address):
        special = address.is_multicast or address.is_reserved or any(address in net for net in _SPECIAL_IPV4)
        return address.is_global and not special
    inner = address.ipv4_mapped or address.sixtofour
    if address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    return address in _GLOBAL_IPV6 and address.is_global and not any(address in net for net in _SPECIAL_IPV6)


async def system_resolver(host: str, port: int) -> list[str]:
    """The addresses the system knows for a host. Raises OSError."""
    loop = asyncio.get_running_loop()
    return [str(entry[4][0]) for entry in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to a host at an address that was checked just now, and at no other."""

    def __init__(
        self,
        allowed_hosts: Collection[str] = (),
        resolver: Resolver = system_resolver,
        connector: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._allowed, self._resolver = frozenset(allowed_hosts), resolver
        self._connector = connector or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect within `timeout` seconds, resolving included. Raises AddressRefused and httpcore's exceptions."""
        try:
            async with asyncio.timeout(timeout):
                target = Target(httpx.URL(scheme="https", host=host, port=port), host, port, host in self._allowed)
                addresses = await resolve(target, self._resolver)
                share = None if timeout is None else timeout / len(addresses)
                return await self._first(addresses, port, share, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection within {timeout} s") from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Refused."""
        raise AddressRefused("a webhook does not go to a socket of this machine")

    async def _first(
        self,
        addresses: Sequence[Address],
        port: int,
        timeout: float | None,
        options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address that takes one within `timeout` seconds."""
        for address in addresses[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._connector.connect_tcp(str(address), port, timeout, socket_options=options)
        return await self._connector.connect_tcp(str(addresses[-1]), port, timeout, socket_options=options)


class PinnedTransport(httpx.AsyncBaseTransport):
    """An httpx transport that goes nowhere but to checked URLs at checked addresses, and cuts answers short."""

    def __init__(
        self, allowed_hosts: Collection[str], backend: PinnedBackend, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._allowed = frozenset(allowed_hosts)
        context = ssl_context or httpx.create_ssl_context()
        self._pool = httpcore.AsyncConnectionPool(ssl_context=context, network_backend=backend)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises AddressRefused and httpx's exceptions."""
        url = check_url(str(request.url), self._allowed).url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        try:
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    target,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except _HTTPCORE_ERRORS as error:
            raise _as_httpx(error) from error
        return httpx.Response(answer.status, headers=answer.headers, stream=_Short(answer))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


def pinned_client(
    allowed_hosts: Collection[str] = (),
    timeout: float = 10.0,
    resolver: Resolver = system_resolver,
    ssl_context: ssl.SSLContext | None = None,
) -> httpx.AsyncClient:
    """A client for webhooks; `timeout` in seconds goes for each of connecting, sending and waiting."""
    transport = PinnedTransport(allowed_hosts, PinnedBackend(allowed_hosts, resolver), ssl_context)
    return httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)


class _Short(httpx.AsyncByteStream):
    """The beginning of an answer's body; nobody needs the rest."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MOST_ANSWER_BYTES
        try:
            async for part in self._answer.aiter_stream():
                yield part[:left]
                left -= len(part)
                if left <= 0:
                    return
        except _HTTPCORE_ERRORS as error:
            raise _as_httpx(error) from error

    async def aclose(self) -> None:
        await self._answer.aclose()


_HTTPCORE_ERRORS = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


def _as_httpx(error: Exception) -> httpx.TransportError:
    """The exception of httpx that has the name of httpcore's."""
    kind = getattr(httpx, type(error).__name__, httpx.TransportError)
    return kind(str(error)) if issubclass(kind, httpx.TransportError) else httpx.TransportError(str(error))


def _parse(url: str) -> httpx.URL:
    if len(url) > LONGEST_URL:
        raise AddressRefused(f"a URL has at most {LONGEST_URL} characters")
    if not url.isprintable() or re.search(r"[\s\\]", url):
        raise AddressRefused("a URL has no spaces, backslashes or control characters")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefused(f"not a URL: {error}") from None
    if "@" in re.split("[/?#]", url.partition("//")[2])[0]:
        raise AddressRefused("a webhook's URL holds no user or password")
    if parsed.fragment or "#" in url:
        raise AddressRefused("a webhook's URL has no fragment")
    return parsed


def _plain_host(url: httpx.URL) -> str:
    host = url.raw_host.decode("ascii").removesuffix(".")
    literal = _literal(host)
    return str(literal) if literal else host


def _check_host(host: str, allowed: bool) -> None:
    """Raises AddressRefused unless the host is an address as everybody reads it, or a name."""
    if _literal(host):
        return
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressRefused(f"{host!r} is no host name")
    if _NUMBER.fullmatch(labels[-1]):
        raise AddressRefused(f"{host!r} is neither a name nor an address written in full")
    if not allowed and (len(labels) == 1 or labels[-1] == "localhost"):
        raise AddressRefused(f"{host!r} is a name of the local network")


def _literal(host: str) -> Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def _nowhere(address: Address) -> bool:
    return address.is_multicast or address.is_unspecified
