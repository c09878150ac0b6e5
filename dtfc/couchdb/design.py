"""The design document that a database with references to blobs should have (pure).

It refuses what no node could take for a reference, before it is stored, and has
a view from digests to documents (``ddocs/ddocs.rst``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Its id.
ID = "_design/dtfc"

VALIDATE = r"""function (newDoc, oldDoc, userCtx) {
  if (newDoc._deleted || newDoc.dtfc === undefined) { return; }
  var files = newDoc.dtfc;
  function refuse(why) { throw({forbidden: 'dtfc: ' + why}); }
  if (typeof files !== 'object' || files === null || files instanceof Array) {
    refuse('it has to be an object, with a member for each file');
  }
  for (var name in files) {
    var file = files[name];
    if (name === '' || /(^|[\/\\])\.\.?([\/\\]|$)/.test(name)) {
      refuse('"' + name + '" is no name for a file');
    }
    if (typeof file !== 'object' || file === null) {
      refuse('"' + name + '" has to be what a PUT of the file answered');
    }
    if (typeof file.sha512 !== 'string' || !/^[0-9a-f]{128}$/.test(file.sha512)) {
      refuse('"' + name + '" has no sha512 of 128 lower-case hexadecimal digits');
    }
    if (typeof file.length !== 'number' || file.length < 0 || file.length % 1 !== 0) {
      refuse('"' + name + '" has no length that is a number of bytes');
    }
    if (file.content_type !== undefined && typeof file.content_type !== 'string') {
      refuse('"' + name + '" has a content_type that is no text');
    }
  }
}"""

BY_SHA512 = """function (doc) {
  for (var name in doc.dtfc || {}) {
    if (doc.dtfc[name] && doc.dtfc[name].sha512) {
      emit(doc.dtfc[name].sha512, {name: name, length: doc.dtfc[name].length});
    }
  }
}"""

#: For ``POST /{db}/_index``: selectors like ``{"dtfc": {"$exists": true}}`` use it.
INDEX = {"index": {"fields": ["dtfc"]}, "ddoc": "dtfc-index", "name": "dtfc", "type": "json"}


def merged(old: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the design document to store; None if the one that is there will do.

    Other views of the old one, and whatever else somebody added, stay.

    Args:
        old: what is there; None if nothing is.
    """
    views = old.get("views") if old is not None else None
    new = {
        **(old or {"_id": ID}),
        "language": "javascript",
        "validate_doc_update": VALIDATE,
        "views": {**(views if isinstance(views, dict) else {}), "by_sha512": {"map": BY_SHA512}},
    }
    return None if new == old else new
