"""Files that their first bytes give away: archives, pictures, programs, data bases, keys.

One row each: where the signature stands, the signature, what the file is. Those that PyTorch people really find under
the name of a checkpoint have a hint. Asked after all formats: no row needs to fear a pickle that begins like it.
Sources: the formats' own documents, and the magic files of `file(1)`.
"""

from __future__ import annotations

from rehydrate.formats.contract import Head
from rehydrate.formats.impostors.impostor import Impostor

__all__ = ["SIGNATURES", "by_signature"]

_PICTURE = "a picture is no model; `rehydrate predict FILE` reads one of a digit"
_KEY = "it is not for opening: keep it where you keep secrets"
_ENCRYPTED = "decrypt it first, with whoever made it: "
_PTE = "its weights are packed for the device's backend; the .pt2 or the state dict that it was made from has them"
_GGML = "what its bytes are depends on the model; llama.cpp's convert_llama_ggml_to_gguf.py makes a GGUF file of it"

SIGNATURES: tuple[tuple[int, bytes, Impostor], ...] = (
    # Packed. What Python can unpack is opened as what is inside; these rows are for whoever asks about other files.
    (0, b"\x1f\x8b", Impostor("gzip-compressed", "unpack it first: gunzip -c FILE > unpacked.pth")),
    (0, b"BZh", Impostor("bzip2-compressed", "unpack it first: bunzip2 -c FILE > unpacked.pth")),
    (0, b"\xfd7zXZ\0", Impostor("xz-compressed", "unpack it first: unxz -c FILE > unpacked.pth")),
    (0, b"\x28\xb5\x2f\xfd", Impostor("zstd-compressed", "unpack it first: zstd -d FILE -o unpacked.pth")),
    (0, b"\x04\x22\x4d\x18", Impostor("lz4-compressed", "unpack it first: lz4 -d FILE unpacked.pth")),
    (0, b"\x02\x21\x4c\x18", Impostor("lz4-compressed", "unpack it first: lz4 -d FILE unpacked.pth")),
    (0, b"LZIP\x01", Impostor("lzip-compressed", "unpack it first: lzip -dc FILE > unpacked.pth")),
    (0, b"\x89LZO\0\r\n\x1a\n", Impostor("lzop-compressed", "unpack it first: lzop -dc FILE > unpacked.pth")),
    (0, b"\x1f\x9d", Impostor("packed by compress", "unpack it first: uncompress -c FILE > unpacked.pth")),
    (0, b"\xff\x06\0\0sNaPpY", Impostor("snappy-compressed", "unpack it first: python -m snappy -d FILE unpacked.pth")),
    (0, b"7z\xbc\xaf\x27\x1c", Impostor("a 7-Zip archive", "unpack it first: 7z x FILE")),
    (0, b"Rar!\x1a\x07", Impostor("a RAR archive", "unpack it first: unrar x FILE")),
    (0, b"PK\5\6", Impostor("an empty zip archive", "whatever packed it found nothing to pack; make it again")),
    (0, b"PK\7\x08PK", Impostor("one part of a zip archive in several", "join the parts: zip -s 0 FILE --out one.zip")),
    (0, b"MSCF\0\0\0\0", Impostor("a cabinet archive of Windows", "unpack it first: cabextract FILE")),
    (257, b"ustar", Impostor("a tar archive", "if it contains a checkpoint, unpack it: tar -xf FILE")),
    (0, b"xar!", Impostor("a xar archive or a package of macOS", "unpack it first: xar -xf FILE")),
    (0, b"!<arch>\ndebian-binary", Impostor("a Debian package", "unpack it first: dpkg-deb -x FILE unpacked")),
    (0, b"!<arch>\n", Impostor("an ar archive, mostly a static library")),
    (0, b"\xed\xab\xee\xdb", Impostor("an RPM package", "unpack it first: rpm2cpio FILE | cpio -id")),
    (0, b"070701", Impostor("a cpio archive", "unpack it first: cpio -id < FILE")),
    (0, b"hsqs", Impostor("a squashfs file system", "unpack it first: unsquashfs FILE")),
    (0, b"PACK\0\0\0", Impostor("a pack file of git", "it holds a repository's objects; clone the repository instead")),
    (0, b"# v2 git bundle", Impostor("a git bundle", "git clone FILE")),
    # Other people's tensors.
    (0, b"\x89HDF\r\n\x1a\n", Impostor("an HDF5 file, such as Keras writes")),
    (0, b"\x93NUMPY", Impostor("a numpy array")),
    (0, b"GGUF", Impostor("a GGUF file, such as llama.cpp reads")),
    (0, b"lmgg", Impostor("a ggml model, such as llama.cpp read before May 2023 and whisper.cpp reads", _GGML)),
    (0, b"fmgg", Impostor("a ggmf model, such as llama.cpp read before May 2023", _GGML)),
    (0, b"tjgg", Impostor("a ggjt model, such as llama.cpp read before August 2023", _GGML)),
    (0, b"algg", Impostor("a ggla adapter, such as llama.cpp read before August 2024", _GGML)),
    (4, b"ET12", Impostor("an ExecuTorch program (.pte), compiled for a device", _PTE)),
    (4, b"FT01", Impostor("the data of an ExecuTorch program (.ptd)", _PTE)),
    (4, b"TFL3", Impostor("a TensorFlow Lite model", "tf.lite.Interpreter reads it; ask for the PyTorch weights")),
    (0, b"ptrt", Impostor("a TensorRT engine", "it is built for one kind of GPU; go back to what it was built from")),
    (0, b"ftrt", Impostor("a TensorRT engine", "it is built for one kind of GPU; go back to what it was built from")),
    (0, b"RKNN", Impostor("a model for Rockchip processors (RKNN)", "go back to what it was converted from")),
    (0, b"CBM1", Impostor("a CatBoost model", "catboost.CatBoost().load_model reads it")),
    (0, b"binf", Impostor("an XGBoost model", "xgboost.Booster().load_model reads it")),
    (0, b"\xba\x16\x4f\x2f", Impostor("a fastText model", "fasttext.load_model reads it")),
    (0, b"\x12\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
     Impostor("a file of MXNet's parameters", "mxnet.nd.load reads it; save its arrays with numpy.savez")),
    (0, b"MATLAB 5.0 MAT-file", Impostor("a MATLAB file", "scipy.io.loadmat reads it")),
    (0, b"MATLAB 7.3 MAT-file", Impostor("a MATLAB 7.3 file, which is HDF5 inside", "h5py reads it")),
    (0, b"HDF5-based Julia Data", Impostor("a file of Julia's JLD2", "JLD2.load reads it, in Julia")),
    (0, b"Julia data file", Impostor("a file of Julia's JLD", "JLD.load reads it, in Julia")),
    (0, b"RDX2\nX\n", Impostor("R data", "load reads it, in R")),
    (0, b"RDX3\nX\n", Impostor("R data", "load reads it, in R")),
    (0, b"X\n\0\0\0\2", Impostor("an R object (RDS)", "readRDS reads it, in R")),
    (0, b"X\n\0\0\0\3", Impostor("an R object (RDS)", "readRDS reads it, in R")),
    (0, b"PAR1", Impostor("a Parquet table", "pandas.read_parquet reads it")),
    (0, b"ARROW1\0\0", Impostor("an Arrow file", "pyarrow.ipc.open_file reads it")),
    (0, b"FEA1", Impostor("a Feather table", "pandas.read_feather reads it")),
    (0, b"Obj\x01", Impostor("an Avro file")),
    (0, b"CDF\x01", Impostor("a netCDF file", "xarray.open_dataset reads it")),
    (0, b"CDF\x02", Impostor("a netCDF file", "xarray.open_dataset reads it")),
    (0, b"SQLite format 3\0", Impostor("an SQLite data base", "sqlite3 FILE .tables lists what is in it")),
    (16, b"\xde\xc0\xef\xbe", Impostor("an LMDB data base, mostly a data set")),
    # Pictures, sound, documents.
    (0, b"\x89PNG", Impostor("a PNG picture", _PICTURE)),
    (0, b"\xff\xd8\xff", Impostor("a JPEG picture", _PICTURE)),
    (0, b"GIF87a", Impostor("a GIF picture", _PICTURE)),
    (0, b"GIF89a", Impostor("a GIF picture", _PICTURE)),
    (0, b"II*\0", Impostor("a TIFF picture", _PICTURE)),
    (0, b"MM\0*", Impostor("a TIFF picture", _PICTURE)),
    (0, b"II+\0", Impostor("a TIFF picture", _PICTURE)),
    (8, b"WEBP", Impostor("a WebP picture", _PICTURE)),
    (4, b"ftypheic", Impostor("a HEIC picture", _PICTURE)),
    (4, b"ftypheix", Impostor("a HEIC picture", _PICTURE)),
    (4, b"ftypmif1", Impostor("a HEIC picture", _PICTURE)),
    (4, b"ftypavif", Impostor("an AVIF picture", _PICTURE)),
    (0, b"8BPS\0", Impostor("a Photoshop picture")),
    (0, b"\0\0\0\x0cjP  \r\n", Impostor("a JPEG 2000 picture", _PICTURE)),
    (0, b"v/1\x01", Impostor("an OpenEXR picture")),
    (128, b"DICM", Impostor("a DICOM picture", "pydicom.dcmread reads it")),
    (344, b"n+1\0", Impostor("a NIfTI volume", "nibabel.load reads it")),
    (8, b"WAVE", Impostor("a WAV recording")),
    (8, b"AVI ", Impostor("an AVI film")),
    (4, b"ftyp", Impostor("an MP4 film or recording")),
    (0, b"ID3", Impostor("an MP3 recording")),
    (0, b"\xff\xfb\x90", Impostor("an MP3 recording")),
    (0, b"fLaC", Impostor("a FLAC recording")),
    (0, b"OggS", Impostor("an Ogg recording")),
    (0, b"\x1a\x45\xdf\xa3", Impostor("a Matroska or WebM film")),
    (0, b"%PDF-", Impostor("a PDF document", "it may be the paper about the model")),
    (0, b"%!PS", Impostor("a PostScript document")),
    (0, b"{\\rtf", Impostor("an RTF document")),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Impostor("a document of Microsoft Office from before 2007")),
    (0, b"wOFF", Impostor("a web font")),
    (0, b"wOF2", Impostor("a web font")),
    # Programs.
    (0, b"\x7fELF", Impostor("a program or a library for Linux (ELF)", "never run what came in place of a model")),
    (0, b"\xfe\xed\xfa\xce", Impostor("a program for macOS (Mach-O)", "never run what came in place of a model")),
    (0, b"\xfe\xed\xfa\xcf", Impostor("a program for macOS (Mach-O)", "never run what came in place of a model")),
    (0, b"\xce\xfa\xed\xfe", Impostor("a program for macOS (Mach-O)", "never run what came in place of a model")),
    (0, b"\xcf\xfa\xed\xfe", Impostor("a program for macOS (Mach-O)", "never run what came in place of a model")),
    (0, b"\xca\xfe\xba\xbe\0\0\0\x02", Impostor("a program for macOS (Mach-O, several processors)")),
    (0, b"\xca\xfe\xba\xbe", Impostor("a compiled Java class")),
    (0, b"\0asm", Impostor("a WebAssembly program")),
    (0, b"dex\n0", Impostor("a compiled Android program")),
    (0, b"BC\xc0\xde", Impostor("LLVM bitcode")),
    # What systems leave beside files, and what is locked.
    (0, b"\0\x05\x16\x07", Impostor(
        "what macOS keeps about a file (AppleDouble), not the file",
        "open the file of the same name without ._ in front; if there is none, unpack the archive again",
    )),
    (0, b"\0\0\0\x01Bud1", Impostor("a .DS_Store of macOS: how a folder is shown", "open a file of that folder")),
    (0, b"bplist00", Impostor("a property list of macOS")),
    (0, b"L\0\0\0\x01\x14\x02\0", Impostor("a shortcut of Windows, not the file", "open the file that it leads to")),
    (0, b"[InternetShortcut]", Impostor("a link that a browser saved, not the file", "download what it leads to")),
    (0, b"\0GITCRYPT\0", Impostor("locked by git-crypt", _ENCRYPTED + "git-crypt unlock")),
    (0, b"Salted__", Impostor("encrypted by openssl", _ENCRYPTED + "openssl enc -d -in FILE -out decrypted.pth")),
    (0, b"age-encryption.org/", Impostor("encrypted by age", _ENCRYPTED + "age -d -o decrypted.pth FILE")),
    (0, b"$ANSIBLE_VAULT;", Impostor("encrypted by Ansible", _ENCRYPTED + "ansible-vault decrypt FILE")),
    (0, b"\x85\x01\x0c\x03", Impostor("encrypted by gpg", _ENCRYPTED + "gpg -o decrypted.pth -d FILE")),
    (0, b"\x85\x02\x0c\x03", Impostor("encrypted by gpg", _ENCRYPTED + "gpg -o decrypted.pth -d FILE")),
    (0, b"\x8c\x0d\x04", Impostor("encrypted by gpg", _ENCRYPTED + "gpg -o decrypted.pth -d FILE")),
    (0, b"-----BEGIN PGP MESSAGE", Impostor("encrypted by gpg", _ENCRYPTED + "gpg -o decrypted.pth -d FILE")),
    (0, b"LUKS\xba\xbe", Impostor("an encrypted disk (LUKS)")),
    (0, b"-----BEGIN CERTIFICATE", Impostor("a certificate")),
    (0, b"-----BEGIN ", Impostor("a key in PEM", _KEY)),
    (0, b"ssh-rsa ", Impostor("a public SSH key")),
    (0, b"ssh-ed25519 ", Impostor("a public SSH key")),
)  # fmt: skip
"""The first that fits is right, so that a special case stands before what it is a case of."""


def by_signature(head: Head) -> Impostor | None:
    """What the first bytes say, or None."""
    first = head.first
    for at, signature, impostor in SIGNATURES:
        if first[at : at + len(signature)] == signature:
            return impostor
    if first[:2] == b"MZ" and len(first) >= 64:
        return Impostor("a program for Windows", "never run what came in place of a model")
    if first[:2] == b"BM" and int.from_bytes(first[2:6], "little") == head.size:
        return Impostor("a BMP picture", _PICTURE)
    if first[:4] == b"\0\0\x01\0" and 0 < int.from_bytes(first[4:6], "little") < 100 and first[9:10] in (b"\0", b"\1"):
        return Impostor("an icon of Windows, a small picture", _PICTURE)
    if first[2:4] == b"\r\n" and _is_python(int.from_bytes(first[:2], "little")):
        return Impostor("a compiled Python module (.pyc)", "it is code, not weights; it is not run here")
    if head.last[-512:-508] == b"koly":
        return Impostor("a disk image of macOS", "unpack it first: 7z x FILE")
    return None


def _is_python(version: int) -> bool:
    """Whether a number is the magic of a Python: 3000 and on for 3.0 and later, about 62,000 for 2.x."""
    return 3000 <= version < 4000 or 50823 <= version <= 62300
