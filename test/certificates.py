"""Certificates made for a test, by OpenSSL's own command."""
from __future__ import annotations

from pathlib import Path
import ssl
import subprocess


def openssl(*words: str | Path) -> None:
    subprocess.run(['openssl', *map(str, words)], check=True, capture_output=True)


def make_pair(folder: Path, name: str = 'pair', subject: str = 'localhost') -> tuple[str, str]:
    """Return the paths of a certificate for localhost and its key."""
    certificate, key = folder / f'{name}.crt', folder / f'{name}.key'
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
            '-days', '2', '-subj', f'/CN={subject}', '-addext',
            'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', certificate)
    return str(certificate), str(key)


def trust(certificate: str) -> ssl.SSLContext:
    """Return the context of a client that trusts a certificate."""
    return ssl.create_default_context(cafile=certificate)
