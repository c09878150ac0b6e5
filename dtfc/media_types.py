"""Media types by file name ending.

Rules of this file: the table is our own, so that every node says the same of
the same blob; ``/etc/mime.types`` and Python's ``mimetypes``, which reads it,
are not asked. A name says what its owner takes the file for: nobody looks
inside, and every answer carries ``nosniff``, so a wrong name harms nobody.
"""

from __future__ import annotations

OCTET_STREAM = "application/octet-stream"

# Media types as IANA registers them; where it has none, what is in use.
_TABLE = {
    # photos and other images
    "image/jpeg": "jpg jpeg jpe jfif",
    "image/png": "png",
    "image/apng": "apng",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/heif": "heif hif",
    "image/jxl": "jxl",
    "image/jp2": "jp2 jpg2",
    "image/jpx": "jpx jpf",
    "image/bmp": "bmp dib",
    "image/svg+xml": "svg",
    "image/vnd.microsoft.icon": "ico cur",
    "image/vnd.adobe.photoshop": "psd psb",
    "image/vnd.djvu": "djvu djv",
    "image/x-xcf": "xcf",
    "image/x-exr": "exr",
    "image/vnd.radiance": "hdr",
    "image/x-portable-pixmap": "ppm",
    "image/x-portable-graymap": "pgm",
    "image/x-portable-bitmap": "pbm",
    # raw photos
    "image/x-adobe-dng": "dng",
    "image/x-canon-cr2": "cr2",
    "image/x-canon-cr3": "cr3",
    "image/x-canon-crw": "crw",
    "image/x-nikon-nef": "nef nrw",
    "image/x-sony-arw": "arw sr2 srf",
    "image/x-fuji-raf": "raf",
    "image/x-olympus-orf": "orf",
    "image/x-panasonic-rw2": "rw2",
    "image/x-pentax-pef": "pef",
    # scans and medical images
    "image/tiff": "tif tiff",
    "application/dicom": "dcm dicom",
    "application/x-nifti": "nii",
    # video
    "video/mp4": "mp4 m4v mp4v",
    "video/quicktime": "mov qt",
    "video/webm": "webm",
    "video/matroska": "mkv mk3d",
    "video/x-msvideo": "avi",
    "video/x-ms-wmv": "wmv",
    "video/x-flv": "flv",
    "video/mpeg": "mpg mpeg mpe m1v m2v vob",
    "video/mp2t": "m2ts mts",
    "video/ogg": "ogv",
    "video/3gpp": "3gp",
    "video/3gpp2": "3g2",
    "video/dv": "dv",
    "application/mxf": "mxf",
    # audio
    "audio/mpeg": "mp3 mp2",
    "audio/mp4": "m4a m4b",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/ogg": "ogg oga opus spx",
    "audio/wav": "wav",
    "audio/aiff": "aif aiff aifc",
    "audio/matroska": "mka",
    "audio/x-ms-wma": "wma",
    "audio/x-ape": "ape",
    "audio/x-wavpack": "wv",
    "audio/amr": "amr",
    "audio/basic": "au snd",
    "audio/midi": "mid midi",
    "audio/x-caf": "caf",
    # documents
    "application/pdf": "pdf",
    "application/postscript": "ps eps ai",
    "application/epub+zip": "epub",
    "application/x-mobipocket-ebook": "mobi",
    "application/vnd.amazon.ebook": "azw azw3",
    "application/rtf": "rtf",
    "application/msword": "doc dot",
    "application/vnd.ms-excel": "xls xlt",
    "application/vnd.ms-powerpoint": "ppt pps pot",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.graphics": "odg",
    "application/vnd.visio": "vsd",
    "application/vnd.ms-xpsdocument": "xps",
    "application/oxps": "oxps",
    "application/vnd.ms-outlook": "msg",
    "message/rfc822": "eml mht mhtml",
    "application/mbox": "mbox",
    # archives
    "application/zip": "zip",
    "application/x-tar": "tar",
    "application/gzip": "gz tgz svgz",
    "application/x-bzip2": "bz2 tbz tbz2",
    "application/x-xz": "xz txz",
    "application/zstd": "zst tzst",
    "application/x-lzip": "lz",
    "application/x-lz4": "lz4",
    "application/x-compress": "z",
    "application/x-7z-compressed": "7z",
    "application/vnd.rar": "rar",
    "application/vnd.ms-cab-compressed": "cab",
    "application/x-cpio": "cpio",
    "application/warc": "warc",
    "application/vnd.comicbook+zip": "cbz",
    "application/vnd.comicbook-rar": "cbr",
    # packages
    "application/vnd.debian.binary-package": "deb udeb",
    "application/x-rpm": "rpm",
    "application/java-archive": "jar war",
    "application/vnd.android.package-archive": "apk",
    "application/vnd.apple.installer+xml": "mpkg",
    "application/x-msi": "msi",
    "application/vnd.microsoft.portable-executable": "exe dll",
    "application/vnd.flatpak": "flatpak",
    "application/wasm": "wasm",
    # disk images
    "application/vnd.efi.iso": "iso",
    "application/vnd.efi.img": "img",
    "application/x-apple-diskimage": "dmg",
    "application/x-qemu-disk": "qcow2 qcow",
    "application/x-vmdk": "vmdk",
    "application/x-virtualbox-vdi": "vdi",
    "application/x-virtualbox-vhd": "vhd vhdx",
    "application/x-virtualbox-ova": "ova",
    "application/vnd.squashfs": "squashfs",
    # text
    "text/plain": "txt text log conf cfg ini diff patch nfo srt sha256 sha512 md5",
    "text/markdown": "md markdown",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "text/html": "html htm",
    "text/css": "css",
    "text/javascript": "js mjs",
    "text/xml": "xml xsd xsl",
    "text/calendar": "ics",
    "text/vcard": "vcf",
    "text/vtt": "vtt",
    "text/x-c": "c h cc cpp hpp",
    "text/x-python": "py",
    "text/x-shellscript": "sh",
    "text/x-tex": "tex bib",
    "text/x-rst": "rst",
    # data
    "application/json": "json",
    "application/geo+json": "geojson",
    "application/ld+json": "jsonld",
    "application/yaml": "yaml yml",
    "application/toml": "toml",
    "application/sql": "sql",
    "application/vnd.sqlite3": "sqlite sqlite3 db",
    "application/vnd.apache.parquet": "parquet",
    "application/x-hdf5": "h5 hdf5",
    "application/netcdf": "nc",
    "application/gpx+xml": "gpx",
    "application/vnd.google-earth.kml+xml": "kml",
    "application/vnd.google-earth.kmz": "kmz",
    "application/xhtml+xml": "xhtml xht",
    "application/metalink4+xml": "meta4",
    "application/x-bittorrent": "torrent",
    "application/pgp-signature": "sig asc",
    "application/pgp-encrypted": "gpg pgp",
    # fonts and 3D models
    "font/ttf": "ttf",
    "font/otf": "otf",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "model/stl": "stl",
    "model/obj": "obj",
    "model/gltf+json": "gltf",
    "model/gltf-binary": "glb",
}
_BY_ENDING = {ending: kind for kind, endings in _TABLE.items() for ending in endings.split()}
_SHOWN = frozenset({"text/plain", "application/pdf"})


def content_type(name: str | None) -> str:
    """Return the value of Content-Type for a file of that name.

    Text is said to be UTF-8, which is what text files are now; the bytes
    themselves are never converted.
    """
    _, dot, ending = (name or "").rpartition(".")
    kind = _BY_ENDING.get(ending.lower(), OCTET_STREAM) if dot else OCTET_STREAM
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def safe_endings() -> list[str]:
    """Return the endings of names whose files a browser may show in its window."""
    return sorted(ending for ending, kind in _BY_ENDING.items() if is_safe_inline(kind))


def is_safe_inline(content_type: str) -> bool:
    """Whether a browser may show it in its window instead of saving it.

    Images, audio, video, plain text and PDF; nothing that can hold a script,
    which SVG and everything else in XML can.
    """
    kind = content_type.partition(";")[0].strip(" \t").lower()
    family = kind.partition("/")[0]
    media = family in ("image", "audio", "video")
    return kind in _SHOWN or (media and "xml" not in kind and "svg" not in kind)
