"""Keys behind a function: every algorithm signs, what goes wrong in the service is told, and nothing waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from guardrails.domain.images import ManifestStatus
from guardrails.errors import KeyMaterialError, SigningError
from guardrails.provenance import Signer, TrustStore, Verifier

Service = Callable[[bytes], bytes]
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def _raw(der: bytes, size: int) -> bytes:
    return b"".join(number.to_bytes(size, "big") for number in decode_dss_signature(der))


P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED, RSA = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)
SERVICES: dict[str, tuple[object, Service]] = {
    "es256 der": (P256, lambda data: P256.sign(data, ec.ECDSA(hashes.SHA256()))),
    "es256 raw": (P256, lambda data: _raw(P256.sign(data, ec.ECDSA(hashes.SHA256())), 32)),
    "es384": (P384, lambda data: P384.sign(data, ec.ECDSA(hashes.SHA384()))),
    "ed25519": (ED, ED.sign),
    "ps256": (RSA, lambda data: RSA.sign(data, PSS, hashes.SHA256())),
}


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> dict[str, Path]:
    """A chain for each key under the development intermediate, as PEM files without the key."""
    pem = (keys / "c2pa" / "intermediate.pem").read_bytes()
    issuer = x509.load_pem_x509_certificate(pem)
    issuer_key = serialization.load_pem_private_key(pem, None)
    template = x509.load_pem_x509_certificate((keys / "c2pa" / "signing.pem").read_bytes())
    folder = tmp_path_factory.mktemp("chains")
    paths = {}
    for name, (key, _) in SERVICES.items():
        builder = (
            x509.CertificateBuilder(issuer.subject, template.subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(template.not_valid_before_utc)
            .not_valid_after(template.not_valid_after_utc)
        )
        for extension in template.extensions:
            if extension.oid != x509.SubjectKeyIdentifier.oid:
                builder = builder.add_extension(extension.value, extension.critical)
        leaf = builder.sign(issuer_key, hashes.SHA256())
        paths[name] = folder / f"{name}.pem"
        encoding = serialization.Encoding.PEM
        paths[name].write_bytes(leaf.public_bytes(encoding) + issuer.public_bytes(encoding))
    return paths


@pytest.mark.parametrize("name", SERVICES)
def test_every_algorithm_signs_and_passes_its_doctor(
    name: str, chains: dict[str, Path], verifier: Verifier, make: SimpleNamespace
) -> None:
    signer = Signer.from_callback(SERVICES[name][1], chains[name])
    assert [diagnosis.rule for diagnosis in signer.doctor() if not diagnosis.passed] == []
    signed = signer.sign(make.file(), "image/png", make.spec()).data
    assert verifier.verify(signed).status is ManifestStatus.TRUSTED


@pytest.mark.parametrize("name", SERVICES)
def test_the_same_keys_sign_from_encrypted_pem_files(
    name: str, chains: dict[str, Path], verifier: Verifier, make: SimpleNamespace, tmp_path: Path
) -> None:
    key = SERVICES[name][0]
    # SEC1 is what `openssl ecparam -genkey` writes; Ed25519 has only PKCS#8.
    style = serialization.PrivateFormat.PKCS8 if key is ED else serialization.PrivateFormat.TraditionalOpenSSL
    path = tmp_path / "key.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, style, serialization.BestAvailableEncryption(b"secret"))
    )
    path.chmod(0o600)
    signer = Signer.from_pem(chains[name], path, b"secret")
    assert all(diagnosis.passed for diagnosis in signer.doctor())
    assert verifier.verify(signer.sign(make.file(), "image/png", make.spec()).data).status is ManifestStatus.TRUSTED
    with pytest.raises(KeyMaterialError, match="cannot load the private key"):
        Signer.from_pem(chains[name], path, b"wrong")


def test_what_the_service_raises_is_the_cause(chains: dict[str, Path], make: SimpleNamespace) -> None:
    def denied(data: bytes) -> bytes:
        raise PermissionError("this account may not use the key")

    signer = Signer.from_callback(denied, chains["es256 der"], name="test-kms")
    with pytest.raises(SigningError, match="key service test-kms failed: this account may not") as caught:
        signer.sign(make.file(), "image/png", make.spec())
    assert isinstance(caught.value.__cause__, PermissionError)
    (failed,) = [diagnosis for diagnosis in signer.doctor() if not diagnosis.passed]
    assert (failed.rule, failed.why) == ("key service", "PermissionError: this account may not use the key")


def test_a_service_that_hangs_is_given_up(chains: dict[str, Path], make: SimpleNamespace) -> None:
    release = threading.Event()

    def hanging(data: bytes) -> bytes:
        release.wait(60)
        return b""

    signer = Signer.from_callback(hanging, chains["es256 der"], seconds=0.2)
    try:
        with pytest.raises(SigningError, match=r"no signature within 0\.2 s") as caught:
            signer.sign(make.file(), "image/png", make.spec())
        assert isinstance(caught.value.__cause__, TimeoutError)
    finally:
        release.set()


@pytest.mark.parametrize("answer", ["text", None, b"", b"no signature", bytes(64)])
def test_a_wrong_answer_makes_no_file(answer: object, chains: dict[str, Path], make: SimpleNamespace) -> None:
    signer = Signer.from_callback(lambda data: answer, chains["es256 der"])  # type: ignore[arg-type,return-value]
    with pytest.raises(SigningError):
        signer.sign(make.file(), "image/png", make.spec())
    assert [diagnosis.rule for diagnosis in signer.doctor() if not diagnosis.passed] == ["key service"]


def test_the_key_of_another_certificate_is_noticed(chains: dict[str, Path], make: SimpleNamespace) -> None:
    signer = Signer.from_callback(SERVICES["es256 der"][1], chains["es384"])
    (failed,) = [diagnosis for diagnosis in signer.doctor() if not diagnosis.passed]
    assert failed.why == "its signature does not fit the leaf's key (es384)"
    with pytest.raises(SigningError):
        signer.sign(make.file(), "image/png", make.spec())


def test_a_chain_that_is_not_fit_is_refused_before_the_service_is_asked(keys: Path) -> None:
    with pytest.raises(KeyMaterialError, match="key service cannot sign"):
        Signer.from_callback(SERVICES["es256 der"][1], keys / "c2pa" / "root.pem")


def test_services_are_shared_by_threads_and_each_hears_of_its_own_fault(
    chains: dict[str, Path], make: SimpleNamespace
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def moody(data: bytes) -> bytes:
        if hash(data) % 2:
            raise RuntimeError(f"fault of {threading.get_ident()}")
        return SERVICES["es256 der"][1](data)

    signer = Signer.from_callback(moody, chains["es256 der"])

    def attempt(seed: int) -> str:
        try:
            signer.sign(make.file(seed), "image/png", make.spec(seed))
        except SigningError as error:
            return type(error.__cause__).__name__
        return "signed"

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(attempt, range(24))) == {"signed", "RuntimeError"}


def test_trust_is_what_the_signer_was_given(chains: dict[str, Path], keys: Path, sign, make: SimpleNamespace) -> None:
    """Ingredients are judged by the signer's own anchors when they are recorded."""
    spec = make.spec(lineage=make.kinds(sign())["image-to-image"])
    service = SERVICES["es256 der"][1]
    informed = Signer.from_callback(service, chains["es256 der"], trust=TrustStore.dev(keys))
    naive = Signer.from_callback(service, chains["es256 der"])
    recorded = [
        b"signingCredential.untrusted" in s.sign(make.file(), "image/png", spec).data for s in (informed, naive)
    ]
    assert recorded == [False, True]
