"""A throw-away certificate authority and one certificate, for a server on loopback."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CONFIG = """
[req]
distinguished_name = nobody
[nobody]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectAltName = IP:127.0.0.1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """Files in PEM format. The certificate serves a server and a client alike."""

    ca_file: Path
    cert_file: Path
    key_file: Path


def certificates(folder: Path) -> Certificates:
    """Make them in this folder, which must exist; they are valid for two days.

    Raises FileNotFoundError without the program openssl, OSError when it fails.
    """
    config = folder / "openssl.conf"
    config.write_text(_CONFIG)
    made = Certificates(folder / "ca.crt", folder / "leaf.crt", folder / "leaf.key")
    ca_key, request = folder / "ca.key", folder / "leaf.csr"
    common = ("-config", config, *_NEW_KEY)
    authority = ("-x509", "-days", "2", "-extensions", "authority", "-subj", "/CN=throw-away CA")
    _openssl("req", *common, *authority, "-keyout", ca_key, "-out", made.ca_file)
    _openssl("req", *common, "-subj", "/CN=leaf", "-keyout", made.key_file, "-out", request)
    signed_by = ("-CA", made.ca_file, "-CAkey", ca_key, "-CAcreateserial")
    leaf = ("-days", "2", "-extfile", config, "-extensions", "leaf")
    _openssl("x509", "-req", "-in", request, *signed_by, *leaf, "-out", made.cert_file)
    return made


def _openssl(*arguments: str | Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise FileNotFoundError("certificates need openssl (Debian: apt-get install openssl)")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"openssl {arguments[0]} failed: {done.stderr}")
