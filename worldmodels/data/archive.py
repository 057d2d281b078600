"""Read arrays and bytes from a zip file, and check the sizes that the file states."""

import io
import zipfile

import numpy as np

MAX_ARRAY_BYTES = 2**29  # size limit of a stored array: compressed frames, actions or rewards


def read_array(
    archive: zipfile.ZipFile, name: str, dtype: type, shape: tuple[int, ...]
) -> np.ndarray:
    """Read one array; -1 in `shape` allows any length.

    Raises: ValueError unless the array's header states the given dtype and shape.
    """
    content = read_member(archive, name, MAX_ARRAY_BYTES)
    file = io.BytesIO(content)  # zipfile has checked the checksum of the whole member
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"expected {name} in version 1.0 of the npy format, got {version}")
    found, fortran, kind = np.lib.format.read_array_header_1_0(file)
    # NumPy's read_array would allocate any size that a header claims.
    array: np.ndarray = np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)
    if kind != dtype or found != array.shape or (fortran and array.ndim > 1):
        expected = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"expected {name} as {expected}, got {kind} of shape {found}")
    return array


def read_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """Read a member's bytes; raises ValueError if the member has more than `max_bytes`."""
    info = archive.getinfo(name)
    if info.file_size > max_bytes:
        raise ValueError(f"expected {name} of at most {max_bytes:,} bytes, got {info.file_size:,}")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in an unknown way")
    return archive.read(name)


def npy_bytes(array: np.ndarray) -> bytes:
    """The bytes of an .npy file that holds the array."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()
