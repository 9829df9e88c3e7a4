"""Copy-detection descriptors from a TorchScript file, and the narrow door that it comes through."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from guardrails.encoders import load_encoder
from guardrails.encoders.sscd import preprocess
from guardrails.errors import ImageError, ModelUnavailable, OptionError
from guardrails.testing.doubles import draw_shapes

torch = pytest.importorskip("torch")


class Tiny(torch.nn.Module):
    """A network of SSCD's shape: pictures in, descriptors of 512 numbers out."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Conv2d(3, 8, 32, stride=32)
        self.head = torch.nn.Linear(800, 512)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.head(torch.relu(self.trunk(batch)).flatten(1)))


class Flat(torch.nn.Module):
    """No descriptor: one number for each picture."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.mean(dim=(1, 2, 3))


def save(module: torch.nn.Module, path: Path) -> str:
    """Write a module as TorchScript; returns its SHA-256."""
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.script(module.eval()).save(str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("sscd") / "tiny@home.torchscript.pt"
    return path, save(Tiny(), path)


def test_descriptors_are_those_of_the_network(file: tuple[Path, str]) -> None:
    path, digest = file
    encoder = load_encoder(f"sscd:{path}@{digest}")
    assert (encoder.dim, encoder.id) == (512, f"sscd:{digest[:16]}:skew320")
    pictures = [draw_shapes(1), draw_shapes(2, 90)]
    vectors = encoder.embed(pictures)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    torch.manual_seed(3)
    with torch.inference_mode():
        expected = Tiny().eval()(torch.from_numpy(np.stack([preprocess(one) for one in pictures]))).numpy()
    assert np.allclose(vectors, expected, atol=1e-5)


def test_pictures_are_prepared_as_the_authors_do() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    from PIL import Image

    theirs = transforms.Compose(
        [
            transforms.Resize([320, 320]),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    picture = draw_shapes(5, 200)[:150]
    assert np.allclose(preprocess(picture), theirs(Image.fromarray(picture)).numpy(), atol=1e-5)
    with pytest.raises(ImageError):
        preprocess(picture.astype(np.float32))


@pytest.mark.parametrize("digest", ["", "@", "@abc", "@" + "g" * 64])
def test_a_file_without_a_digest_is_not_opened(
    file: tuple[Path, str], digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    path, _ = file
    with pytest.raises(OptionError, match="not loaded without its SHA-256"):
        load_encoder(f"sscd:{path.parent / 'tiny'}{digest}")


def test_another_file_is_not_opened_and_its_digest_is_not_told(
    file: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    path, digest = file
    changed = tmp_path / "changed.pt"
    changed.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ModelUnavailable) as refused:
        load_encoder(f"sscd:{changed}@{digest}")
    told = refused.value.message + refused.value.hint
    assert hashlib.sha256(changed.read_bytes()).hexdigest() not in told
    with pytest.raises(ModelUnavailable, match="cannot read"):
        load_encoder(f"sscd:{tmp_path / 'nothing.pt'}@{digest}")


def test_what_is_no_such_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_bytes(b"no network")
    with pytest.raises(ModelUnavailable, match="no TorchScript network"):
        load_encoder(f"sscd:{tmp_path / 'text.pt'}@{hashlib.sha256(b'no network').hexdigest()}")
    digest = save(Flat(), tmp_path / "flat.pt")
    with pytest.raises(ModelUnavailable, match="for one picture"):
        load_encoder(f"sscd:{tmp_path / 'flat.pt'}@{digest}")
