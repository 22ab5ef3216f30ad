"""The secrets of a stack: what is missing is made, and the rest remains."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.stack.secrets_main import CERTIFIED, PASSWORDS, main, make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def read(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_password_is_another_and_every_program_gets_a_certificate(root: Path) -> None:
    assert make(root) == [*PASSWORDS, *CERTIFIED]
    assert len({(root / name).read_text() for name in PASSWORDS}) == len(PASSWORDS)


def test_a_relative_directory_begins_where_bazel_was_called(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(root.parent))
    monkeypatch.setattr("sys.argv", ["secrets", "--directory", root.name])
    main()
    assert (root / PASSWORDS[0]).exists()


def test_what_exists_remains(root: Path) -> None:
    make(root)
    (root / PASSWORDS[0]).unlink()
    before = read(root)
    assert make(root) == [PASSWORDS[0]]
    assert read(root).items() > before.items()


def make_certificate() -> bytes:
    """Make one that nobody of ours has issued."""
    name, key = x509.Name([]), ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("content", [make_certificate(), b"unreadable"])
def test_a_certificate_from_elsewhere_remains(root: Path, content: bytes) -> None:
    make(root)
    certificate = root / "tls" / "nginx" / "tls.crt"
    certificate.unlink()
    certificate.write_bytes(content)
    before = read(root)
    assert make(root) == []
    assert read(root) == before


def test_a_certificate_that_was_made_here_is_renewed(root: Path) -> None:
    make(root)
    (root / "tls" / "nginx" / "tls.key").unlink()
    assert make(root) == ["nginx"]


def test_no_secret_is_made_where_others_may_enter(root: Path) -> None:
    root.mkdir()
    root.chmod(0o755)
    with pytest.raises(PermissionError):
        make(root)
    assert read(root) == {}


def test_containers_may_read_the_files_and_only_the_owner_enters_the_directory(root: Path) -> None:
    make(root)
    assert root.stat().st_mode & 0o777 == 0o700
    mounted = [path for name in CERTIFIED for path in (root / "tls" / name).iterdir()]
    mounted += map(root.joinpath, PASSWORDS)
    assert {path.stat().st_mode & 0o777 for path in mounted} == {0o444}
