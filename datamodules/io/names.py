"""Names of images: file names without their suffix, in one Unicode form.

Umlauts and accents have two forms. Keyboards type the composed one; archives and exports from macOS often hold the
other, which looks the same.
"""

from collections.abc import Iterable
from pathlib import Path
from unicodedata import normalize


def composed(name: str) -> str:
    """Return a name with composed characters."""
    return normalize("NFC", name)


def image_name(path: Path) -> str:
    """Return the name of an image file."""
    return composed(path.stem)


def find_png(folder: Path, image: Path) -> Path:
    """Return the PNG of an image in a folder, in either Unicode form, with suffix .png or .PNG; it may not exist."""
    names = (image.stem, composed(image.stem), normalize("NFD", image.stem))
    paths = [folder / f"{name}{suffix}" for suffix in (".png", ".PNG") for name in names]
    return next((path for path in paths if path.is_file()), paths[0])


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'NAME'?`` with a known name that differs in case or suffix only, or an empty string."""
    alike = {name.lower(), Path(name).stem.lower()}
    return next((f" Did you mean {other!r}?" for other in known if other.lower() in alike), "")
