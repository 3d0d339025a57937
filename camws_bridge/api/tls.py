"""HTTPS and WSS: the certificate, its key, and what is spoken."""
from __future__ import annotations

from pathlib import Path
import ssl

from camws_bridge.parameter import SettingsError
from camws_bridge.settings import TlsSettings

_ENCRYPTED = (b'BEGIN ENCRYPTED PRIVATE KEY', b'Proc-Type: 4,ENCRYPTED')


def make_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """
    Return the context of a server, or None when no TLS is configured.

    TLS 1.2 at least, with the ciphers that Python's ssl deems good; raises SettingsError that
    names the file that cannot be used, and why.
    """
    if not settings.certfile:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(['http/1.1'])
    load_pair(context, settings)
    return context


def load_pair(context: ssl.SSLContext, settings: TlsSettings) -> None:
    """Have a context show this certificate from now on; raises SettingsError."""
    certificate = _read('tls.certfile', settings.certfile)
    if b'BEGIN CERTIFICATE' not in certificate:
        raise _error('tls.certfile', settings.certfile, 'it holds no certificate in PEM')
    key = _read('tls.keyfile', settings.keyfile)
    if any(mark in key for mark in _ENCRYPTED):
        raise _error('tls.keyfile', settings.keyfile,
                     'it is encrypted: the bridge has nobody to ask for its password')
    if b'PRIVATE KEY' not in key:
        raise _error('tls.keyfile', settings.keyfile, 'it holds no private key in PEM')
    try:
        # With the password given, OpenSSL never asks for one at the terminal.
        context.load_cert_chain(settings.certfile, settings.keyfile, password='')
    except ssl.SSLError as error:
        if error.reason in ('KEY_VALUES_MISMATCH', 'KEY_TYPE_MISMATCH'):
            raise _error('tls.keyfile', settings.keyfile,
                         f"it is not the key of tls.certfile '{settings.certfile}'") from None
        words = (error.reason or str(error)).replace('_', ' ').lower()
        raise _error('tls.certfile', settings.certfile,
                     f"it cannot be used with tls.keyfile '{settings.keyfile}': {words}") from None


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _error(name, path, error.strerror or str(error)) from None


def _error(name: str, path: str, reason: str) -> SettingsError:
    return SettingsError(f"parameter {name}: '{path}': {reason}")
