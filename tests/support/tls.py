"""Certificates made for one test, and a door that speaks TLS in front of a plain server."""

import ssl
from pathlib import Path

import trustme


class Authority:
    """Who signs: ``ca`` is the file that trusts it, ``server`` what a server at 127.0.0.1 shows."""

    def __init__(self, directory: Path, name: str = "127.0.0.1") -> None:
        authority = trustme.CA()
        self.ca, self.chain, self.key = (directory / f"{part}.pem" for part in ("ca", "chain", "key"))
        issued = authority.issue_cert(name)
        authority.cert_pem.write_to_path(self.ca)
        issued.private_key_pem.write_to_path(self.key)
        for at, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(self.chain, append=at > 0)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(self.chain, self.key)
