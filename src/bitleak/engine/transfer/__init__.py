"""Finished results from one store to another, as tar files that are checked before anything is
taken.

```
<stage>/<first two digits of the key>/<key>/manifest.json
<stage>/<first two digits of the key>/<key>/*.npy, *.safetensors, *.json
```

Every result is whole in one file, its manifest first, so that each part of an export can be
imported alone. An import checks all files in a first pass, and writes nothing before that has ended
well:

* plain files alone: no links, no devices, no sparse files, nothing compressed, no further headers,
* names of the form above and no others, so no absolute paths and no `..`,
* a manifest whose task has the key that the folder is named after,
* exactly the files of the manifest, of its sizes, with its digests,
* the two blocks of zeros at the end, and nothing but zeros after them: a file that was cut off is
  noticed.

The digests show damage, not fraud: a manifest is not signed, so files should come from people you
trust. Nothing in them is ever executed or unpickled on the way in.
"""

from bitleak.engine.transfer.exporting import export_results
from bitleak.engine.transfer.importing import Imported, import_results

__all__ = ["Imported", "export_results", "import_results"]
