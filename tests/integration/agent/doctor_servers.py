"""Servers that a doctor meets: with a clock of their own, without a route, behind any certificate, or no RECO3."""

import json
import ssl
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RECO3 = {
    "/health": {"status": "ok"},
    "/api/config/test-mode": {"test_mode": False, "version": "0.1.0"},
    "/agent/key": {},
}


class Certificates:
    """An authority of the test's own, and what it vouches for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the test")])
        self.authority = folder / "authority.pem"
        now = datetime.now(UTC)
        builder = self._builder(self._name, self._key.public_key(), now - timedelta(days=9), now + timedelta(days=9))
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        signed = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.authority.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def context(self, name: str = "localhost", *, begins_in_days: int = -1, ends_in_days: int = 1) -> ssl.SSLContext:
        """What a server with such a certificate needs."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        begins, ends = now + timedelta(days=begins_in_days), now + timedelta(days=ends_in_days)
        signed = (
            self._builder(subject, key.public_key(), begins, ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )


class StrangeServer:
    """Answers some paths with JSON, all else with 404, at a time of its own; remembers what was asked."""

    def __init__(
        self,
        answers: dict[str, Any] | None = None,
        *,
        ahead: timedelta = timedelta(),
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.answers = RECO3 if answers is None else answers
        self.asked: list[str] = []
        self.ahead = ahead
        self._listener = _Listener(("127.0.0.1", 0), _handler_of(self))
        if context is not None:
            self._listener.socket = context.wrap_socket(self._listener.socket, server_side=True)
        self.port: int = self._listener.server_address[1]
        self._scheme = "http" if context is None else "https"
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://localhost:{self.port}"

    def stop(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()


class _Listener(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us hangs up, which is what many tests are about."""


def _handler_of(server: StrangeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.asked.append(self.path)
            body = server.answers.get(self.path)
            content = json.dumps({"error": "not_found"} if body is None else body).encode()
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def date_time_string(self, timestamp: float | None = None) -> str:
            assert timestamp is None
            return format_datetime(datetime.now(UTC) + server.ahead, usegmt=True)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Nothing."""

    return Handler
