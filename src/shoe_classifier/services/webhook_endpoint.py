"""Signed requests to the receiver of webhooks, and to no other machine that its name or its answers might lead to."""

import asyncio
import ipaddress
import logging
import socket
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook

from shoe_classifier.services.webhooks import DeliveryFailed
from shoe_classifier.settings import Settings

_SECONDS = 15.0  # for an attempt as a whole, as the specification recommends
_GONE = 410


class WebhookEndpoint:
    """The receiver of the settings. Requests are signed as the Standard Webhooks specification says.

    Its name is resolved for each attempt, and the connection goes to the very address that was checked: an answer of
    the DNS that changes in between cannot lead into the private network. For the same reason proxies are not used and
    redirects are not followed.
    """

    def __init__(self, settings: Settings, seconds: float = _SECONDS):
        assert settings.webhook_url and settings.webhook_secret
        self._url = httpx.URL(settings.webhook_url)
        self._signer = Webhook(settings.webhook_secret.get_secret_value())
        self._allow_private = settings.webhook_allow_private
        self._seconds = seconds
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each address, which may hold a key

    async def send(self, delivery_id: str, body: str) -> None:
        """See `webhooks.Endpoint`."""
        try:
            async with asyncio.timeout(self._seconds):  # as a whole: a receiver may send its answer byte by byte
                status = await self._post(delivery_id, body)
        except TimeoutError:
            raise DeliveryFailed(f"Expected an answer within {self._seconds:g} s; received none.") from None
        except (httpx.HTTPError, OSError, UnicodeError) as error:  # the last for names that no host has
            raise DeliveryFailed(f"Expected an answer; received none ({type(error).__name__}).") from None
        if not 200 <= status < 300:
            raise DeliveryFailed(f"Expected a status of 2xx; received {status}.", gone=status == _GONE)

    async def _post(self, delivery_id: str, body: str) -> int:
        now = datetime.now(UTC)
        headers = {
            "Host": self._url.netloc.decode(),
            "Content-Type": "application/json",
            "User-Agent": "shoe-classifier",
            "webhook-id": delivery_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(delivery_id, now, body),
        }
        url, extensions = self._url.copy_with(host=await self._address()), {"sni_hostname": self._url.host}
        async with (
            httpx.AsyncClient(trust_env=False, timeout=self._seconds) as client,
            client.stream("POST", url, content=body.encode(), headers=headers, extensions=extensions) as response,
        ):
            return response.status_code  # the body is not read, however long it is

    async def _address(self) -> str:
        """Resolve the receiver's name. Raises `DeliveryFailed` if it leads to a private address."""
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        found = await asyncio.get_running_loop().getaddrinfo(self._url.host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        private = [address for address in addresses if not is_public(address)]
        if private and not self._allow_private:
            raise DeliveryFailed(
                f"Expected WEBHOOK_URL to lead to a public address; received {private[0]}. "
                "WEBHOOK_ALLOW_PRIVATE=true allows it."
            )
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the internet, and not to this machine or a private network."""
    ip = ipaddress.ip_address(address.partition("%")[0])  # without the zone of a link-local address
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if embedded:
            return is_public(str(embedded))
    return ip.is_global and not ip.is_multicast
