"""Finding and fetching: the order of places, hashes, half-finished downloads, and errors that say what to do."""

from __future__ import annotations

import hashlib
import io
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from kernelsr import official
from kernelsr.images import image_files

CONTENT = b"the authors' weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own, no variables set, and no address that leads out of this machine."""
    for variable in ("KERNELSR_DATA", "KERNELSR_WEIGHTS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KERNELSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(official, "WEIGHTS_URL", "http://127.0.0.1:9/")  # nobody listens on port 9
    monkeypatch.setitem(official.WEIGHTS, "FKP_x2.pt", SHA256)
    return tmp_path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address it is served at."""
    folder = tmp_path / "served"
    folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=partial(httpd.serve_forever, poll_interval=0.01), daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}/"
    httpd.shutdown()
    httpd.server_close()


def picture(path: Path, level: int = 0) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), level).save(path)
    return path.read_bytes()


# --- image sets


def test_the_bundled_photos_need_nothing() -> None:
    assert len(image_files(official.find_image_set("demo"))) == 4


@pytest.mark.parametrize("place", ["Set5", "Set5/HR", "set5", "SET5/hr"])
def test_a_set_is_found_where_the_variable_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    picture(tmp_path / "data" / place / "baby.png")
    monkeypatch.setenv("KERNELSR_DATA", str(tmp_path / "data"))
    found = official.find_image_set("Set5")
    assert found == tmp_path / "data" / place


def test_the_cache_holds_sets_that_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"(?s)SelfExSR.*not set.*cannot be fetched.*Urban100.*KERNELSR_DATA"):
        official.find_image_set("urban100")
    picture(tmp_path / "cache" / "Urban100" / "img_001.png")
    assert official.find_image_set("urban100") == tmp_path / "cache" / "Urban100"


def test_an_unknown_set_lists_the_sets() -> None:
    with pytest.raises(ValueError, match="choose one of demo, set5, set14, bsd100, urban100, div2k, div2k_crop256"):
        official.find_image_set("set6")


def test_registries_name_and_hash_every_image() -> None:
    for name, count in {"set5": 5, "set14": 14, "bsd100": 100, "div2k_crop256": 100}.items():
        lines = [line.split() for line in (official.HERE / "registry" / f"{name}.txt").read_text().splitlines()]
        assert len({file for file, _ in lines}) == len({sha for _, sha in lines}) == count
        assert all(sha.startswith("sha256:") and len(sha) == 71 for _, sha in lines)
        assert official.IMAGE_SETS[name].url.endswith("/")


@pytest.fixture
def small_set(server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of two images that the server has, registered as ``tiny``."""
    folder, url = server
    registry = tmp_path / "package" / "registry" / "tiny.txt"
    registry.parent.mkdir(parents=True)
    hashes = {n: hashlib.sha256(picture(folder / n, level)).hexdigest() for level, n in enumerate(("a.png", "b.png"))}
    registry.write_text("".join(f"{name} sha256:{sha}\n" for name, sha in hashes.items()))
    monkeypatch.setattr(official, "HERE", tmp_path / "package")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)  # between its retries
    monkeypatch.setitem(official.IMAGE_SETS, "tiny", official.ImageSet(("Tiny",), "two images", url))
    return folder


def test_a_set_is_fetched_once_and_finished_where_it_broke_off(small_set: Path, tmp_path: Path) -> None:
    (small_set / "b.png").rename(small_set / "later.png")
    with pytest.raises(FileNotFoundError, match=r"(?s)two images.*Fetching it from http.*KERNELSR_DATA"):
        official.find_image_set("tiny")
    assert (tmp_path / "cache" / "Tiny" / "a.png").exists()
    (small_set / "later.png").rename(small_set / "b.png")
    found = official.find_image_set("tiny")
    assert [path.name for path in image_files(found)] == ["a.png", "b.png"]
    for path in small_set.iterdir():
        path.unlink()  # from now on the cache has to do
    assert official.find_image_set("tiny") == found


def test_a_set_of_other_content_is_refused(small_set: Path, tmp_path: Path) -> None:
    picture(small_set / "b.png", 200)
    with pytest.raises(FileNotFoundError, match="hash"):
        official.find_image_set("tiny")
    assert not (tmp_path / "cache" / "Tiny" / "b.png").exists()


def test_an_archive_is_unpacked(server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url = server
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Zipped/0801.png", picture(tmp_path / "x.png"))
    (folder / "Zipped.zip").write_bytes(packed.getvalue())
    sha256 = hashlib.sha256(packed.getvalue()).hexdigest()
    zipped = official.ImageSet(("Zipped",), "one image", f"{url}Zipped.zip", sha256, 1)
    monkeypatch.setitem(official.IMAGE_SETS, "zipped", zipped)
    found = official.find_image_set("zipped")
    assert found == tmp_path / "cache" / "Zipped"
    (folder / "Zipped.zip").unlink()
    (tmp_path / "cache" / "Zipped.zip").unlink()
    assert [path.name for path in image_files(official.find_image_set("zipped"))] == ["0801.png"]


# --- weights


def test_weights_are_sought_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [
        tmp_path / name for name in ("given.pt", "own/FKP_x2.pt", "data/weights/FKP_x2.pt", "cache/weights/FKP_x2.pt")
    ]
    monkeypatch.setenv("KERNELSR_WEIGHTS", str(tmp_path / "own"))
    monkeypatch.setenv("KERNELSR_DATA", str(tmp_path / "data"))
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(CONTENT)
    assert official.fetch_weights("FKP_x2.pt", tmp_path / "given.pt") == places[0]
    for place in places[1:]:
        assert official.fetch_weights("FKP_x2.pt") == place
        place.unlink()
    with pytest.raises(FileNotFoundError):
        official.fetch_weights("FKP_x2.pt")


def test_weights_of_other_content_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "FKP_x2.pt").write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"not {SHA256}"):
        official.fetch_weights("FKP_x2.pt", tmp_path / "FKP_x2.pt")
    monkeypatch.setenv("KERNELSR_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="not the authors' file"):
        official.fetch_weights("FKP_x2.pt")


def test_weights_are_fetched_by_hash(server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url = server
    monkeypatch.setattr(official, "WEIGHTS_URL", url)
    (folder / "FKP_x2.pt").write_bytes(b"tampered")
    with pytest.raises(FileNotFoundError, match=r"(?s)hash.*KERNELSR_WEIGHTS"):
        official.fetch_weights("FKP_x2.pt")
    assert not (tmp_path / "cache" / "weights" / "FKP_x2.pt").exists()
    (folder / "FKP_x2.pt").write_bytes(CONTENT)
    assert official.fetch_weights("FKP_x2.pt").read_bytes() == CONTENT
    (folder / "FKP_x2.pt").unlink()
    assert official.fetch_weights("FKP_x2.pt") == tmp_path / "cache" / "weights" / "FKP_x2.pt"


def test_offline_the_error_names_file_url_and_variable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        official.fetch_weights("FKP_x2.pt")
    for part in ("FKP_x2.pt", "http://127.0.0.1:9/FKP_x2.pt", "KERNELSR_WEIGHTS", str(tmp_path / "cache" / "weights")):
        assert part in str(caught.value)


def test_without_pooch_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match="install pooch"):
        official.fetch_weights("FKP_x2.pt")
    with pytest.raises(FileNotFoundError, match="install pooch"):
        official.find_image_set("set5")


def test_wrong_names_and_paths_of_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one of FKP_x2.pt"):
        official.fetch_weights("FKP_x8.pt")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        official.fetch_weights("FKP_x2.pt", tmp_path / "absent.pt")


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert official.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("KERNELSR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert official.cache_folder() == tmp_path / "kernelsr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert official.cache_folder() == tmp_path / ".cache" / "kernelsr"
