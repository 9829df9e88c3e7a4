"""Nothing is loaded before it is needed, nothing is fetched, and forks and threads work."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from guardrails.domain.images import ManifestStatus
from guardrails.errors import SigningError
from guardrails.provenance import Signer, TrustStore, Verifier
from guardrails.provenance.certificates import load_dev_key
from guardrails.provenance.timestamps import create_authority_keys


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """A local web server that notes every request."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{httpd.server_port}/manifest.c2pa", requests=requests)
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def _with_remote_manifest(url: str, keys: Path, make: SimpleNamespace) -> bytes:
    """A picture that only names an address, made with the bare SDK."""
    import c2pa

    key = load_dev_key(keys)
    context = c2pa.Context.from_dict({"verify": {"verify_after_sign": False}})
    builder = c2pa.Builder(dict(make.spec().definition), context)
    builder.set_no_embed()
    builder.set_remote_url(url)
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo("es256", key.chain_pem, key.key_pem, None))
    target = io.BytesIO()
    builder.sign(signer, "image/jpeg", io.BytesIO(make.file(format="JPEG")), target)
    return target.getvalue()


def test_a_remote_manifest_is_reported_and_never_fetched(
    server: SimpleNamespace, keys: Path, verifier: Verifier, signer: Signer, make: SimpleNamespace
) -> None:
    import c2pa

    data = _with_remote_manifest(server.url, keys, make)
    verdict = verifier.verify(data)
    assert verdict.status is ManifestStatus.NO_MANIFEST
    assert "it was not fetched" in verdict.explanation
    with pytest.raises(SigningError, match="remote address"):
        signer.sign(data, "image/jpeg", make.spec())
    assert server.requests == []
    # Control: with the SDK's own settings the same file does reach the server.
    with pytest.raises(c2pa.C2paError):
        c2pa.Reader("image/jpeg", io.BytesIO(data), None, c2pa.Context())
    assert server.requests == ["/manifest.c2pa"]


# Linux kills the process at its first socket(2), native code included. Filter: load the number, compare, return.
_WITHOUT_SOCKETS = """
import ctypes, json, platform, struct, sys
from pathlib import Path
from guardrails.domain.identity import ImageId
from guardrails.provenance import ManifestSpec, Signer, Source, TrustStore, Verifier
number = {"x86_64": 41, "aarch64": 198}[platform.machine()]
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit("no filter")
keys, definition = Path(sys.argv[2]), json.loads(sys.argv[3])
spec = ManifestSpec(manifest_id=definition["label"], definition=definition)
signed = Signer.dev(keys).sign(Path(sys.argv[1]).read_bytes(), "image/png", spec).data
original = Source(data=signed, mime="image/png")
spec = ManifestSpec.handed_on(image_id=ImageId.new(), original=original, fingerprint="", version="1")
again = Signer.dev(keys).sign(signed, "image/png", spec).data
verifier = Verifier(TrustStore.dev(keys), strict=True)
print(verifier.verify(again).status.value, len(verifier.conformance(again)), flush=True)
import socket
socket.socket()
print("a socket was opened")
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="seccomp filters exist on Linux only")
@pytest.mark.parametrize("stamped", [False, True], ids=["without a time-stamp", "with an own authority's"])
def test_signing_and_verifying_open_no_socket(stamped: bool, keys: Path, make: SimpleNamespace, tmp_path: Path) -> None:
    if stamped:
        keys = Path(shutil.copytree(keys, tmp_path / "keys"))
        create_authority_keys(keys, now=datetime.now(UTC))
    path = tmp_path / "plain.png"
    path.write_bytes(make.file())
    command = [sys.executable, "-c", _WITHOUT_SOCKETS, path, keys, json.dumps(make.spec().definition)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "no filter" in done.stderr:
        pytest.skip("this kernel does not let the process filter its system calls")
    assert done.stdout.split() == ["trusted", "31"], done.stderr
    # Control: the first socket, opened on purpose, ended the process.
    assert done.returncode == -signal.SIGSYS


def test_importing_the_package_loads_neither_the_sdk_nor_anything_heavy() -> None:
    heavy = ("c2pa", "torch", "scipy", "pydantic", "cv2")
    code = f"import guardrails.provenance, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_only_the_backend_imports_the_sdk() -> None:
    import guardrails.provenance

    folder = Path(guardrails.provenance.__file__).parent
    importing = {path.name for path in folder.glob("*.py") if "import c2pa" in path.read_text(encoding="utf-8")}
    assert importing == {"backend.py"}


def test_signing_and_verifying_work_after_a_fork(
    signer: Signer, verifier: Verifier, sign, make: SimpleNamespace
) -> None:
    assert verifier.verify(sign()).status is ManifestStatus.TRUSTED
    child = os.fork()
    if child == 0:
        status = ManifestStatus.UNREADABLE
        try:
            signed = signer.sign(make.file(5), "image/png", make.spec(5))
            status = verifier.verify(signed.data).status
        finally:
            os._exit(0 if status is ManifestStatus.TRUSTED else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert verifier.verify(sign()).status is ManifestStatus.TRUSTED


def test_threads_share_one_signer_and_one_verifier(signer: Signer, verifier: Verifier, make: SimpleNamespace) -> None:
    def round_trip(seed: int) -> tuple[ManifestStatus, bool]:
        spec = make.spec(seed)
        verdict = verifier.verify(signer.sign(make.file(seed), "image/png", spec).data)
        return verdict.status, verdict.manifest_id == spec.manifest_id

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(round_trip, range(40))) == {(ManifestStatus.TRUSTED, True)}


def test_a_new_trust_store_is_not_confused_with_an_older_one(sign, keys: Path, foreign_keys: Path) -> None:
    signed = sign()
    for _ in range(3):
        assert Verifier(TrustStore.dev(keys)).verify(signed).status is ManifestStatus.TRUSTED
        assert Verifier(TrustStore.dev(foreign_keys)).verify(signed).status is ManifestStatus.VALID_UNTRUSTED
